"""What an event loop in virtual time asks of the simulation that it belongs to."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

# A choice is between so many at most: the rest has its turn when these have gone.
WIDTH = 32

# After so many real seconds in which only real things were waited for, somebody is told.
PATIENCE = 10.0


class Standstill:
    """How long simulated time has been waiting for what is real."""

    __slots__ = ("_patience", "_tell", "since")

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self.since = 0.0
        self._patience = PATIENCE

    def ends(self) -> None:
        """Something has happened."""
        self.since = 0.0
        self._patience = PATIENCE

    def goes_on(self) -> float:
        """Seconds to wait, until this is to be called again."""
        now = time.monotonic()
        if not self.since:
            self.since = now
        elif now - self.since >= self._patience:
            self._patience *= 2
            self._tell()
        return self.since + self._patience - now


class Scheduler(Protocol):
    """Who decides what the order of things leaves open."""

    def choose(self, label: str, bound: int, who: Sequence[Any] = ()) -> int:
        """A number from 0 up, below the bound; 0 is first in, first out.

        Args:
            label: what is chosen, in a word.
            bound: how many there are to choose from, two at least.
            who: the tasks to choose from, where it is tasks.
        """


class Observer(Protocol):
    """Who writes down what runs."""

    def ran(self, what: str, where: str) -> None:
        """A task has run, or a callback, and this is where it stands now."""


class World(Protocol):
    """One simulated run, as its event loop sees it."""

    @property
    def timeline(self) -> Any: ...

    @property
    def scheduler(self) -> Scheduler | None: ...

    @property
    def observer(self) -> Observer | None: ...

    def begin(self) -> None:
        """An event loop is made for it. Refuses a clock that is in use."""

    def start(self, run: Any) -> None:
        """The event loop runs."""

    def end(self) -> None:
        """The event loop is gone."""

    def held_up(self) -> None:
        """Simulated time has been waiting for what is real, for long."""
