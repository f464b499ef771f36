"""Instants to wait for, compared as clocks compare them: in nanoseconds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from chrono_core import Clock, SendStream, SimClock
from chrono_core.lowlevel import Watchable, to_ns, to_seconds, wait_any


def now_ns(clock: Clock) -> int:
    """The clock's time in nanoseconds."""
    return clock.now_ns() if isinstance(clock, SimClock) else to_ns(clock.now())


class Deadline:
    """An instant on a clock, computed once.

    A sum of floats may lie beside the instant that the clock makes of it, so whole nanoseconds are
    compared. What the clock has called over is over, whatever its ``now`` says.

    Args:
        clock: whose time it is.
        at: the instant in nanoseconds; None for never.
    """

    __slots__ = ("_at", "_clock", "_over")

    def __init__(self, clock: Clock, at: int | None) -> None:
        self._clock = clock
        self._at = at
        self._over = False

    @staticmethod
    def after(clock: Clock, seconds: float) -> Deadline:
        """The instant so many seconds from now."""
        return Deadline(clock, None if seconds == math.inf else now_ns(clock) + to_ns(seconds))

    def has_come(self) -> bool:
        """Whether this is the instant, or it is past."""
        return self._over or (self._at is not None and now_ns(self._clock) >= self._at)

    def is_past(self) -> bool:
        """Whether it is later than this instant."""
        return self._at is not None and now_ns(self._clock) > self._at

    async def wait_any(self, *watched: Watchable, closing: Iterable[SendStream[Any]] = ()) -> None:
        """Wait as `lowlevel.wait_any` does, but only until this instant, which has not come."""
        if self._at is None:
            await wait_any(*watched, closing=closing)
            return
        left = to_seconds(self._at - now_ns(self._clock))
        with self._clock.move_on_after(left) as scope:
            await wait_any(*watched, closing=closing)
        if scope.cancelled_caught:
            self._over = True
