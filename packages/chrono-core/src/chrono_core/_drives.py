"""What moves simulated time, on behalf of the task that waits for it."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from ._agenda import Drive, Step
from ._backends import Waiter
from ._exceptions import SimulationLivelock, SimulationStalled
from ._time import to_seconds
from ._timeline import Timeline


class ClockDrive(Drive):
    """What moves a timeline."""

    __slots__ = ("describe", "done", "error", "livelock_after", "timeline", "waiter")

    def __init__(self, timeline: Timeline) -> None:
        super().__init__()
        self.timeline = timeline
        # Both are filled in by whoever puts this on the agenda.
        self.livelock_after = 0
        self.describe: Callable[[], str] = str
        self.waiter: Waiter | None = None
        self.done = False
        self.error: BaseException | None = None

    @property
    def now(self) -> float:
        """Where time stands, in seconds."""
        return to_seconds(self.timeline.now)

    def finish(self) -> Step:
        self.done = True
        self.notify()
        return Step.MOVED

    def fail(self, error: BaseException) -> None:
        self.error = error
        self.finish()

    def notify(self) -> None:
        if self.waiter is not None:
            self.waiter.wake()

    def livelock(self, runners: list[str]) -> None:
        names = ", ".join(repr(name) for name in runners) or "something"
        self.fail(
            SimulationLivelock(
                f"{names} kept running at {self.now} for {self.livelock_after} rounds of the event "
                "loop, so that time cannot move: let it wait for something, or raise "
                "livelock_after of the SimClock"
            )
        )

    def stall(self) -> None:
        self.fail(
            SimulationStalled(
                f"at {self.now}, nothing can run and nothing sleeps on the clock, so what is "
                f"waited for can never happen{self.describe()}"
            )
        )


class Advance(ClockDrive):
    """Move to a target; None stands for the next deadline."""

    __slots__ = ("target",)

    def __init__(self, timeline: Timeline, target: int | None) -> None:
        super().__init__(timeline)
        self.target = target

    def step(self) -> Step:
        timeline = self.timeline
        if timeline.holds:
            return Step.HELD
        if self.target is None:
            self.target = timeline.next_deadline()
            if self.target is None:
                return self.finish()
        if not timeline.wake_next(self.target):
            timeline.move_to(self.target)
            self.finish()
        return Step.MOVED


class RunUntil(ClockDrive):
    """Move until a condition holds, but not past the last instant."""

    __slots__ = ("_last", "_limit", "_test")

    def __init__(
        self, timeline: Timeline, test: Callable[[], object], last: int | None, limit: float
    ) -> None:
        super().__init__(timeline)
        self._test = test
        self._last = last
        self._limit = limit

    def step(self) -> Step:
        timeline = self.timeline
        try:
            holds = self._test()
            if inspect.isawaitable(holds):
                if inspect.iscoroutine(holds):
                    holds.close()
                raise TypeError(
                    "the condition of run_until returned an awaitable: call it and pass that, or "
                    "pass a function that is not async"
                )
        except BaseException as error:
            self.fail(error)
            return Step.MOVED
        if holds:
            return self.finish()
        if timeline.holds:
            return Step.HELD
        if timeline.wake_next(self._last):
            return Step.MOVED
        if timeline.next_deadline() is None:
            return Step.STUCK
        assert self._last is not None
        timeline.move_to(self._last)
        self.fail(TimeoutError(f"run_until reached its limit of {self._limit} simulated seconds"))
        return Step.MOVED


class Assist(RunUntil):
    """Move until a condition holds, but only while nobody else drives the clock."""

    __slots__ = ()

    reports = False

    def step(self) -> Step:
        if self.timeline.driver is not None and not self._test():
            return Step.STUCK
        return super().step()
