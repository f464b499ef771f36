"""What a clock is, the real one, and periodic ticks on any."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, Protocol, runtime_checkable

import anyio

from ._time import Ticks, finite, number, to_ns, to_seconds

First = Literal["now", "after"]
Missed = Literal["skip", "burst", "delay"]


@runtime_checkable
class Clock(Protocol):
    """Where daemons take their time from. All times are seconds.

    A clock of one's own needs ``now``, ``sleep``, ``wait_until`` and ``every`` to work under a
    supervisor.
    """

    def now(self) -> float:
        """The time now. Only differences mean anything."""
        ...

    def sleep(self, seconds: float) -> Coroutine[Any, Any, None]:
        """Sleep for so long from the call on; 0 or less is one checkpoint.

        Infinity sleeps until cancelled.

        Raises:
            ValueError: ``seconds`` is NaN.
        """
        ...

    def wait_until(self, deadline: float) -> Coroutine[Any, Any, None]:
        """Sleep until ``now()`` is the deadline; one that has passed is one checkpoint.

        Raises:
            ValueError: ``deadline`` is NaN.
        """
        ...

    def every(
        self, period: float, *, first: First = "after", missed: Missed = "skip"
    ) -> AsyncIterator[float]:
        """Tick once a period, for ever; yields the time at which each tick was due.

        Tick *n* is due at ``start + n * period``, where ``start`` is the time of the call; it is
        computed, so that nothing adds up. No tick comes twice. Cancelled in a wait, the iterator
        goes on with the tick that it waited for. Leaving the loop early leaves nothing behind.

        Args:
            period: seconds from tick to tick.
            first: whether the first tick is due ``"now"`` or ``"after"`` a period.
            missed: what becomes of ticks that passed while the consumer was busy: ``"skip"`` drops
                them and waits for the next that is not past; ``"burst"`` makes up for each of them
                at once; ``"delay"`` ticks once, at once, and counts from then. A consumer that
                takes exactly one period has missed nothing.

        Raises:
            ValueError: ``period`` is not positive, not finite or below the resolution of the
                clock, or a policy is misspelt.
        """
        ...

    def move_on_after(self, seconds: float) -> AbstractContextManager[anyio.CancelScope, bool]:
        """Cancel what is inside after so many seconds; see `anyio.move_on_after`.

        Raises:
            ValueError: ``seconds`` is NaN.
        """
        ...

    def move_on_at(self, deadline: float) -> AbstractContextManager[anyio.CancelScope, bool]:
        """Cancel what is inside when ``now()`` is the deadline.

        Raises:
            ValueError: ``deadline`` is NaN.
        """
        ...

    def fail_after(self, seconds: float) -> AbstractContextManager[anyio.CancelScope]:
        """Like ``move_on_after``, but raise ``TimeoutError`` where it cancelled something.

        Raises:
            ValueError: ``seconds`` is NaN.
            TimeoutError: the time ran out.
        """
        ...

    def fail_at(self, deadline: float) -> AbstractContextManager[anyio.CancelScope]:
        """Like ``move_on_at``, but raise ``TimeoutError`` where it cancelled something.

        Raises:
            ValueError: ``deadline`` is NaN.
            TimeoutError: the deadline passed.
        """
        ...


class WallClock:
    """Real time: that of the running event loop, so it is virtual where the loop is.

    Every method but the constructor needs a running event loop.
    """

    __slots__ = ()

    def now(self) -> float:
        """The event loop's time in seconds."""
        return anyio.current_time()

    def sleep(self, seconds: float) -> Coroutine[Any, Any, None]:
        """Sleep for so many real seconds from the call on; see `Clock.sleep`."""
        seconds = number(seconds, "seconds")
        return self._wait_until(anyio.current_time() + seconds)

    def wait_until(self, deadline: float) -> Coroutine[Any, Any, None]:
        """Sleep until the event loop's time is the deadline; see `Clock.wait_until`."""
        return self._wait_until(number(deadline, "deadline"))

    async def _wait_until(self, deadline: float) -> None:
        # uvloop's timers fire a little early.
        left = max(0.0, deadline - anyio.current_time())
        while True:
            await anyio.sleep(left)
            left = deadline - anyio.current_time()
            if left <= 0:
                return

    def every(
        self, period: float, *, first: First = "after", missed: Missed = "skip"
    ) -> AsyncIterator[float]:
        """Tick once a period of real time; see `Clock.every`."""
        return Every(
            lambda due: self._wait_until(to_seconds(due)),
            lambda: to_ns(anyio.current_time()),
            period,
            first,
            missed,
        )

    def move_on_after(self, seconds: float) -> AbstractContextManager[anyio.CancelScope, bool]:
        """Cancel what is inside after so many real seconds."""
        return self.move_on_at(anyio.current_time() + number(seconds, "seconds"))

    def move_on_at(self, deadline: float) -> AbstractContextManager[anyio.CancelScope, bool]:
        """Cancel what is inside when the event loop's time is the deadline."""
        return anyio.CancelScope(deadline=number(deadline, "deadline"))

    def fail_after(self, seconds: float) -> AbstractContextManager[anyio.CancelScope]:
        """Like ``move_on_after``, but raise ``TimeoutError`` where it cancelled something."""
        return _fail_at(anyio.current_time() + number(seconds, "seconds"))

    def fail_at(self, deadline: float) -> AbstractContextManager[anyio.CancelScope]:
        """Like ``move_on_at``, but raise ``TimeoutError`` where it cancelled something."""
        return _fail_at(number(deadline, "deadline"))


@contextmanager
def _fail_at(deadline: float) -> Iterator[anyio.CancelScope]:
    with anyio.CancelScope(deadline=deadline) as scope:
        yield scope
    if scope.cancelled_caught and anyio.current_time() >= deadline:
        raise TimeoutError(f"the time was up at {deadline} on the event loop's clock")


class Every:
    """The iterator behind ``Clock.every``, in nanoseconds: a generator would have to be closed."""

    __slots__ = ("_due", "_missed", "_n", "_now", "_period", "_ticks", "_wait_until")

    def __init__(
        self,
        wait_until: Callable[[int], Coroutine[Any, Any, None]],
        now: Callable[[], int],
        period: float,
        first: First,
        missed: Missed,
    ) -> None:
        period = finite(period, "period")
        if period <= 0:
            raise ValueError(f"period must be positive, got {period!r}")
        if period < 1e-9:
            raise ValueError(
                f"period must be at least 1e-9 s, the clock's resolution, got {period!r}"
            )
        if first not in ("now", "after"):
            raise ValueError(f'first must be "now" or "after", got {first!r}')
        if missed not in ("skip", "burst", "delay"):
            raise ValueError(f'missed must be "skip", "burst" or "delay", got {missed!r}')
        self._wait_until = wait_until
        self._now = now
        self._period = period
        self._missed = missed
        self._ticks = Ticks(now(), period)
        self._n = 0 if first == "now" else 1
        self._due: int | None = None

    def __aiter__(self) -> Every:
        return self

    async def __anext__(self) -> float:
        if self._due is None:
            self._due = self._next()
        due = self._due
        await self._wait_until(due)
        self._due = None
        self._n += 1
        return to_seconds(due)

    def _next(self) -> int:
        now = self._now()
        due = self._ticks.at(self._n)
        if due < now:
            if self._missed == "skip":
                self._n = self._ticks.first_from(now, self._n)
                return self._ticks.at(self._n)
            if self._missed == "delay":
                self._ticks = Ticks(now, self._period)
                self._n = 0
                return now
        return due
