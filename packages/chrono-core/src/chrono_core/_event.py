"""Waking several tasks in one order, which the events of trio do not do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ._backends import Waiter, current_run


class StopEvent(Protocol):
    """Set, once and for good, when a daemon or a supervisor is told to stop."""

    def is_set(self) -> bool:
        """Whether it has been told."""
        ...

    async def wait(self) -> None:
        """Wait until it is told; where it was, that is one checkpoint."""
        ...

    def watch(self, waiter: Waiter) -> None:
        """Have the waiter woken when it is told; see `lowlevel.wait_any`."""
        ...

    def unwatch(self, waiter: Waiter) -> None:
        """Wake the waiter no more; fine where it was not watching."""
        ...


class Pulse:
    """Wakes whoever waits now; whoever comes later waits for the next time.

    Args:
        subject: in words, what is waited for.
    """

    __slots__ = ("_subject", "_waiters")

    def __init__(self, subject: str) -> None:
        self._subject = subject
        # Made when somebody waits: most of these are never waited for.
        self._waiters: dict[Waiter, None] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()}: {self._subject}>"

    async def next(self, unless: Callable[[], bool] | None = None) -> None:
        """Wait for the next beat, unless something is so already.

        Cancelled, it leaves nothing behind.

        Args:
            unless: asked once, right before waiting; where it is true, there is no wait.
        """
        waiter = current_run().waiter(self._subject)
        self.watch(waiter)
        try:
            # Asked only now: a signal handler may make it so at any moment.
            if unless is None or not unless():
                await waiter
        finally:
            self.unwatch(waiter)

    def watch(self, waiter: Waiter) -> None:
        """Have the waiter woken at every beat, until ``unwatch``."""
        if self._waiters is None:
            self._waiters = {}
        self._waiters[waiter] = None

    def unwatch(self, waiter: Waiter) -> None:
        """Wake the waiter no more; fine where it was not watching."""
        if self._waiters is not None:
            self._waiters.pop(waiter, None)

    def beat(self) -> None:
        """Wake whoever waits, in the order in which they came; they run in the next round."""
        for waiter in list(self._waiters or ()):
            waiter.wake()


class Event(Pulse):
    """Is set once, and wakes its waiters in the order in which they came.

    `lowlevel.wait_any` does not see that it is set already: ask ``is_set`` before.

    Args:
        subject: in words, what is waited for.
    """

    __slots__ = ("_set",)

    def __init__(self, subject: str) -> None:
        super().__init__(subject)
        self._set = False

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._set

    async def wait(self) -> None:
        """Wait until it is set; where it was, that is one checkpoint.

        Cancelled, it leaves nothing behind.
        """
        if self._set:
            await current_run().checkpoint()
        while not self._set:
            await self.next(self.is_set)

    def set(self) -> None:
        """Set it, once and for good, and wake whoever waits. Twice is fine."""
        self._set = True
        self.beat()
