"""What a program with a planted bug is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass


class Wrong(Exception):
    """What must never happen has happened."""


@dataclass(frozen=True, slots=True)
class Bug:
    """A program that is wrong, but only in some orders of what happens at one instant.

    First in, first out, it is right. Else it raises, or waits for ever.
    """

    name: str
    function: Callable[[], Awaitable[None]]


BUGS: dict[str, Bug] = {}


def bug(function: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """Register a program with a bug."""
    name = function.__name__
    assert name not in BUGS, name
    BUGS[name] = Bug(name, function)
    return function


def expect(found: object, expected: object, what: str) -> None:
    """Raise `Wrong` unless what was found is what was expected."""
    if found != expected:
        raise Wrong(f"{what}: expected {expected!r}, found {found!r}")
