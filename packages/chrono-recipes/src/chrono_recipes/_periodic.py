"""Periodic ticks for a daemon, which end when it is told to stop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from chrono_core import Context
from chrono_core.lowlevel import Ticks, checkpoint, finite, to_seconds

from ._common import check_callable
from ._deadline import now_ns

First = Literal["now", "after"]
Missed = Literal["skip", "burst", "delay"]


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick of `periodic`.

    Attributes:
        n: its number. It is due so many periods after the start, less what ``"delay"`` has put off.
        scheduled: when it was due, in seconds on the clock.
        late: how many seconds later it was given.
    """

    n: int
    scheduled: float
    late: float


@dataclass(frozen=True, slots=True)
class TickStats:
    """How punctual the ticks of `periodic` have been so far. All but the counts are seconds.

    Attributes:
        ticks: how many were given.
        missed: how many had passed before they were asked for, whatever became of them.
        late_mean: how late a tick was, on average; 0 before the first.
        late_max: how late the latest was; 0 before the first.
        jitter: the standard deviation of how late they were; 0 before the first.
    """

    ticks: int
    missed: int
    late_mean: float
    late_max: float
    jitter: float


class periodic:
    """Tick once a period until the daemon is told to stop.

    ``async for tick in periodic(ctx, 0.1): ...``. The instants are those of ``ctx.clock.every``:
    tick *n* is due at ``start + n * period``, where ``start`` is the time of the call, computed, so
    that nothing adds up. No tick comes twice.

    The stop ends the wait for a tick at once, and the loop. It wins over a tick: where the daemon
    has been told by the time that a tick would be given, there is none, even if it is due.

    Cancelled in a wait, the iterator goes on with the tick that it waited for. Leaving the loop
    early leaves nothing behind. Every tick is a cancellation point and gives way to other tasks.

    The jitter is computed as in B. P. Welford, "Note on a Method for Calculating Corrected Sums of
    Squares and Products", Technometrics 4 (3), 1962.

    Args:
        ctx: the daemon's context.
        period: seconds from tick to tick.
        first: whether the first tick is due ``"now"`` or ``"after"`` a period.
        missed: what becomes of ticks that passed while the consumer was busy: ``"skip"`` drops
            them and waits for the next that is not past; ``"burst"`` makes up for each of them at
            once; ``"delay"`` ticks once, at once, and counts from then. A consumer that takes
            exactly one period has missed nothing.
        on_miss: called with how many ticks have passed when the consumer falls behind, and again
            only after it has caught up: for ``"skip"`` by dropping them, else by asking for a tick
            in time. What it raises comes out of the loop, which can be gone on with.

    Raises:
        TypeError: ``ctx`` is not a daemon's context, or ``on_miss`` not a function.
        ValueError: ``period`` is not positive, not finite or below the resolution of the clock, or
            a policy is misspelt.
    """

    __slots__ = (
        "_before",
        "_behind",
        "_clock",
        "_due",
        "_given",
        "_late_max",
        "_late_mean",
        "_late_squares",
        "_missed",
        "_n",
        "_on_miss",
        "_passed",
        "_period",
        "_stop",
        "_ticks",
    )

    def __init__(
        self,
        ctx: Context,
        period: float,
        *,
        first: First = "after",
        missed: Missed = "skip",
        on_miss: Callable[[int], object] | None = None,
    ) -> None:
        if not isinstance(ctx, Context):
            raise TypeError(f"ctx must be the Context that a daemon is given, got {ctx!r}")
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
        if on_miss is not None:
            check_callable(on_miss, "on_miss")
        self._clock = ctx.clock
        self._stop = ctx.stop_event
        self._period = period
        self._missed = missed
        self._on_miss = on_miss
        # Nanoseconds. Numbers are counted anew wherever "delay" puts a tick off.
        self._ticks = Ticks(now_ns(self._clock), period)
        self._n = 0 if first == "now" else 1
        self._before = 0
        self._due: int | None = None
        self._behind = False
        self._given = 0
        self._passed = 0
        self._late_mean = self._late_squares = self._late_max = 0.0

    @property
    def stats(self) -> TickStats:
        """How punctual the ticks have been so far."""
        return TickStats(
            ticks=self._given,
            missed=self._passed,
            late_mean=self._late_mean,
            late_max=self._late_max,
            jitter=math.sqrt(self._late_squares / self._given) if self._given else 0.0,
        )

    def __aiter__(self) -> periodic:
        return self

    async def __anext__(self) -> Tick:
        if self._due is None and not self._stop.is_set():
            self._schedule()
        due = self._due
        if due is not None:
            await self._wait_until(due)
        if due is None or self._stop.is_set():
            raise StopAsyncIteration
        tick = Tick(self._before + self._n, to_seconds(due), self._lateness(due))
        self._due = None
        self._n += 1
        return tick

    def _schedule(self) -> None:
        """Find out when the next tick is due, and which have passed meanwhile."""
        now = now_ns(self._clock)
        due = self._ticks.at(self._n)
        if due >= now:
            self._due = due
            self._behind = False
            return
        passed = self._ticks.first_from(now, self._n) - self._n
        if self._missed == "skip":
            self._n += passed
            due = self._ticks.at(self._n)
        elif self._missed == "delay":
            self._ticks = Ticks(now, self._period)
            self._before += self._n
            self._n = 0
            due = now
        self._due = due
        self._passed += 1 if self._missed == "burst" else passed
        was_behind = self._behind
        self._behind = self._missed != "skip"
        if self._on_miss is not None and not was_behind:
            self._on_miss(passed)

    async def _wait_until(self, due: int) -> None:
        """Wait for an instant, or for the stop."""
        left = due - now_ns(self._clock)
        if left <= 0:
            await checkpoint()
        else:
            with self._clock.move_on_after(to_seconds(left)):
                await self._stop.wait()

    def _lateness(self, due: int) -> float:
        """How late a tick is that is given now; goes into the statistics."""
        late = max(0.0, to_seconds(now_ns(self._clock) - due))
        self._given += 1
        deviation = late - self._late_mean
        self._late_mean += deviation / self._given
        self._late_squares += deviation * (late - self._late_mean)
        self._late_max = max(self._late_max, late)
        return late


class cooperative_every:
    """Tick once a period until the daemon is told to stop; yields when each tick was due.

    ``async for due in cooperative_every(ctx, 0.1): ...`` is ``ctx.clock.every(0.1)``, but the stop
    ends the wait for a tick at once, and the loop. All else is as in `periodic`.

    Args:
        ctx: the daemon's context.
        period: seconds from tick to tick.
        first: whether the first tick is due ``"now"`` or ``"after"`` a period.
        missed: what becomes of ticks that passed while the consumer was busy: ``"skip"``,
            ``"burst"`` or ``"delay"``.

    Raises:
        TypeError: ``ctx`` is not a daemon's context.
        ValueError: ``period`` is not positive, not finite or below the resolution of the clock, or
            a policy is misspelt.
    """

    __slots__ = ("_ticks",)

    def __init__(
        self, ctx: Context, period: float, *, first: First = "after", missed: Missed = "skip"
    ) -> None:
        self._ticks = periodic(ctx, period, first=first, missed=missed)

    def __aiter__(self) -> cooperative_every:
        return self

    async def __anext__(self) -> float:
        tick = await self._ticks.__anext__()
        return tick.scheduled
