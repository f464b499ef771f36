"""What a program of the corpus is, and the lines that it writes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

import anyio
from chrono_core import Clock

Write = Callable[[object], None]
Kind = Literal["anyio", "ours"]


@dataclass(frozen=True, slots=True)
class Program:
    """One small program whose trace tells in which order things happened.

    Attributes:
        function: ``async def function(trace)`` of a plain anyio program; ``(trace, clock)`` of one
            that is made of our primitives.
    """

    name: str
    function: Callable[..., Awaitable[object]]
    kind: Kind

    async def run(self, trace: Write, clock: Clock) -> None:
        if self.kind == "anyio":
            await self.function(trace)
        else:
            await self.function(trace, clock)


PROGRAMS: dict[str, Program] = {}


def anyio_program(function: Callable[[Write], Awaitable[object]]) -> Any:
    """Register a program that uses anyio alone."""
    return _register(function, "anyio")


def our_program(function: Callable[[Write, Clock], Awaitable[object]]) -> Any:
    """Register a program that is made of our primitives."""
    return _register(function, "ours")


def _register(function: Any, kind: Kind) -> Any:
    name = function.__name__
    assert name not in PROGRAMS, name
    PROGRAMS[name] = Program(name, function, kind)
    return function


class Log:
    """Writes each event with the time since the log began, to the nanosecond."""

    def __init__(self, trace: Write, clock: Clock | None = None) -> None:
        self._trace = trace
        self._now = anyio.current_time if clock is None else clock.now
        self._start = self._now()

    def now(self) -> str:
        return f"{self._now() - self._start:.9f}"

    def __call__(self, *words: object) -> None:
        self._trace(f"{self.now()} {' '.join(map(str, words))}")


def outline(error: BaseException) -> str:
    """An exception in one line, groups with what is inside, in their order."""
    if isinstance(error, BaseExceptionGroup):
        return f"[{', '.join(outline(inner) for inner in error.exceptions)}]"
    if isinstance(error, anyio.get_cancelled_exc_class()):
        return "cancelled"
    text = str(error)
    return f"{type(error).__name__}({text})" if len(text) < 60 else type(error).__name__
