"""Whose task the running code belongs to: which daemon, in which clock's time, inside of what."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Ambient:
    """One daemon, and what it was started inside of."""

    unit: Any
    clock: object
    outer: Ambient | None
    depth: int


_ambient: ContextVar[Ambient | None] = ContextVar("chrono daemon", default=None)


def ambient() -> Ambient | None:
    """The daemon that the running code belongs to."""
    return _ambient.get()


def enter(unit: Any, clock: object) -> None:
    """From here on, the running task belongs to this daemon."""
    outer = _ambient.get()
    _ambient.set(Ambient(unit, clock, outer, 1 if outer is None else outer.depth + 1))


def within(clock: object) -> Any:
    """The daemon of this clock that the running code belongs to, innermost first; or None."""
    node = _ambient.get()
    while node is not None and node.clock is not clock:
        node = node.outer
    return None if node is None else node.unit


def depth() -> int:
    """How many daemons the running code is inside of."""
    node = _ambient.get()
    return 0 if node is None else node.depth
