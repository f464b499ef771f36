"""Simulated time: it moves when somebody moves it, and only while nothing can run."""

from __future__ import annotations

import inspect
import math
import threading
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar, overload

import anyio

from ._agenda import Agenda
from ._ambient import within
from ._backends import LIVELOCK_AFTER, Run, current_run
from ._clock import Every, First, Missed
from ._drives import Advance, Assist, ClockDrive, RunUntil
from ._exceptions import ClockBusy, RealTimeWarning
from ._time import finite, number, to_ns, to_seconds
from ._timeline import Timeline, Until
from ._timeout import Timeout

T = TypeVar("T")


class _Event(Protocol):
    def is_set(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Sleeper:
    """Something that waits for simulated time.

    Attributes:
        deadline: until when, in seconds.
        task: the name of the task that sleeps, or that is inside a timeout.
    """

    deadline: float
    task: str


class SimClock:
    """A clock whose time moves only when it is told to, and only while nothing can run.

    Before time first moves, and between any two wake-ups, every task of the event loop is
    blocked, exactly: a chain of any length that began at one instant ends at that instant. Sleepers
    wake one at a time, in the order of their deadlines, and of registration where these are equal.

    Worker threads that were started through anyio, with its default limiter, keep time from moving
    until they are waited for to the end. `hold` does so for anything else.

    Times are seconds, kept as integer nanoseconds.

    Args:
        t0: the time at which the clock stands at first.
        livelock_after: so many rounds of the event loop at one instant are taken for an endless
            loop, and end in `SimulationLivelock`.

    Raises:
        ValueError: ``t0`` is NaN or infinite, or ``livelock_after`` is not positive.
    """

    __slots__ = (
        "__weakref__",
        "_agenda",
        "_livelock_after",
        "_lock",
        "_run",
        "_timeline",
    )

    def __init__(self, t0: float = 0.0, *, livelock_after: int = LIVELOCK_AFTER) -> None:
        if livelock_after < 1:
            raise ValueError(f"livelock_after must be at least 1, got {livelock_after!r}")
        self._timeline = Timeline(to_ns(finite(t0, "t0")))
        self._livelock_after = livelock_after
        self._lock = threading.Lock()
        self._run: Run | None = None
        self._agenda: Agenda | None = None

    def __repr__(self) -> str:
        return f"<SimClock at {self.now()}>"

    # Reading

    def now(self) -> float:
        """The time in seconds."""
        return to_seconds(self._timeline.now)

    def now_ns(self) -> int:
        """The time in nanoseconds."""
        return self._timeline.now

    @property
    def next_deadline(self) -> float | None:
        """When the next sleeper wakes, in seconds; None if nothing sleeps."""
        deadline = self._timeline.next_deadline()
        return None if deadline is None else to_seconds(deadline)

    @property
    def pending(self) -> list[Sleeper]:
        """What sleeps, until when and for whom, in the order in which it will wake."""
        run = self._run
        return [
            Sleeper(to_seconds(deadline), "" if run is None else run.task_name(who.task))
            for deadline, who in self._timeline.sleepers()
        ]

    # Waiting

    def sleep(self, seconds: float) -> Coroutine[Any, Any, None]:
        """Sleep for so many simulated seconds from the call on; 0 or less is one checkpoint.

        Infinity sleeps until cancelled. A sleeper that is cancelled leaves nothing behind.

        Raises:
            ValueError: ``seconds`` is NaN.
        """
        seconds = number(seconds, "seconds")
        if seconds == math.inf:
            return self._sleep(None, 0)
        deadline = self._timeline.now + to_ns(seconds) if seconds > 0 else self._timeline.now
        return self._sleep(deadline, self._timeline.number())

    def wait_until(self, deadline: float) -> Coroutine[Any, Any, None]:
        """Sleep until the clock shows the deadline; one that has passed is one checkpoint.

        Raises:
            ValueError: ``deadline`` is NaN.
        """
        deadline = number(deadline, "deadline")
        if math.isinf(deadline):
            return self._sleep(None if deadline > 0 else self._timeline.now, 0)
        return self._sleep(to_ns(deadline), self._timeline.number())

    async def _sleep(self, deadline: int | None, order: int) -> None:
        run = self._bind()
        if deadline is None:
            waiter = run.waiter("the clock, for ever")
            await waiter
            return
        if deadline <= self._timeline.now:
            await run.checkpoint()
            return
        waiter = run.waiter(Until(deadline))
        self._timeline.add(deadline, order, waiter)
        try:
            await waiter
        except BaseException:
            if not waiter.woken:
                self._timeline.forget_one()
            raise

    def every(
        self, period: float, *, first: First = "after", missed: Missed = "skip"
    ) -> AsyncIterator[float]:
        """Tick once a period of simulated time; see `Clock.every`."""
        return Every(
            lambda due: self._sleep(due, self._timeline.number()),
            self.now_ns,
            period,
            first,
            missed,
        )

    def move_on_after(self, seconds: float) -> AbstractContextManager[anyio.CancelScope, bool]:
        """Cancel what is inside after so many simulated seconds.

        ``cancelled_caught`` of the scope tells whether that happened. Its ``deadline`` is of the
        event loop's time, and has nothing to do with this.

        Raises:
            ValueError: ``seconds`` is NaN.
        """
        return self._timeout(self._after(seconds), fail=False)

    def move_on_at(self, deadline: float) -> AbstractContextManager[anyio.CancelScope, bool]:
        """Cancel what is inside when the clock shows the deadline.

        Raises:
            ValueError: ``deadline`` is NaN.
        """
        return self._timeout(_at(deadline), fail=False)

    def fail_after(self, seconds: float) -> AbstractContextManager[anyio.CancelScope]:
        """Like ``move_on_after``, but raise ``TimeoutError`` where it cancelled something.

        Raises:
            ValueError: ``seconds`` is NaN.
            TimeoutError: the time ran out.
        """
        return self._timeout(self._after(seconds), fail=True)

    def fail_at(self, deadline: float) -> AbstractContextManager[anyio.CancelScope]:
        """Like ``move_on_at``, but raise ``TimeoutError`` where it cancelled something.

        Raises:
            ValueError: ``deadline`` is NaN.
            TimeoutError: the deadline passed.
        """
        return self._timeout(_at(deadline), fail=True)

    def _timeout(self, deadline: float, *, fail: bool) -> Timeout:
        return Timeout(self._timeline, deadline, lambda: self._bind().current_task(), fail=fail)

    def _after(self, seconds: float) -> float:
        seconds = number(seconds, "seconds")
        return seconds if math.isinf(seconds) else self._timeline.now + to_ns(seconds)

    # Driving

    def advance(self, dt: float) -> Coroutine[Any, Any, None]:
        """Let so many simulated seconds pass.

        What can run runs first, freshly added daemons included. On return, everything that was
        due has happened, and nothing can run. Cancelled, the clock stands at the last instant
        that it reached, and can be driven on from there.

        Raises:
            ValueError: ``dt`` is negative, NaN or infinite.
            ClockBusy: the clock is being driven already, or the caller lives in its time.
            SimulationLivelock: something runs for ever without blocking.
        """
        dt = finite(dt, "dt")
        if dt < 0:
            raise ValueError(f"time cannot go back: dt must not be negative, got {dt!r}")
        return self._drive(Advance(self._timeline, self._timeline.now + to_ns(dt)), "advance")

    def advance_to(self, t: float) -> Coroutine[Any, Any, None]:
        """Let time pass until ``t``; where that has passed, only let everything run that can.

        Raises:
            ValueError: ``t`` is NaN or infinite.
            ClockBusy: the clock is being driven already, or the caller lives in its time.
            SimulationLivelock: something runs for ever without blocking.
        """
        return self._drive(Advance(self._timeline, to_ns(finite(t, "t"))), "advance_to")

    async def step(self) -> float | None:
        """Let time pass until the next deadline, and all that is due then happen.

        Returns:
            The time reached, in seconds; None if nothing sleeps, and time did not move.

        Raises:
            ClockBusy: the clock is being driven already, or the caller lives in its time.
            SimulationLivelock: something runs for ever without blocking.
        """
        drive = Advance(self._timeline, None)
        await self._run_drive(drive, "step")
        return None if drive.target is None else to_seconds(drive.target)

    @overload
    def run_until(
        self, condition: Callable[[], bool] | _Event, *, limit: float
    ) -> Coroutine[Any, Any, None]: ...

    @overload
    def run_until(self, condition: Awaitable[T], *, limit: float) -> Coroutine[Any, Any, T]: ...

    def run_until(self, condition: Any, *, limit: float) -> Coroutine[Any, Any, Any]:
        """Let time pass until something has happened.

        Args:
            condition: a function without arguments, called whenever nothing can run, that
                returns whether it has happened; or an event, by its ``is_set``; or an awaitable,
                which is awaited in a task of its own.
            limit: after so many simulated seconds, give up.

        Returns:
            The result of an awaitable, else None.

        Raises:
            TypeError: ``condition`` is none of these.
            ValueError: ``limit`` is negative or NaN.
            TimeoutError: it has not happened within the limit.
            SimulationStalled: it can never happen: nothing runs, nothing sleeps on any clock that
                is driven, nothing is held, and nothing real is waited for.
            ClockBusy: the clock is being driven already, or the caller lives in its time.
            SimulationLivelock: something runs for ever without blocking.
        """
        limit = number(limit, "limit")
        if limit < 0:
            if inspect.iscoroutine(condition):
                condition.close()
            raise ValueError(f"limit must not be negative, got {limit!r}")
        last = None if limit == math.inf else self._timeline.now + to_ns(limit)
        if inspect.isawaitable(condition):
            return _named(self._run_until_done(condition, last, limit), "run_until")
        test = getattr(condition, "is_set", condition)
        if not callable(test):
            raise TypeError(
                "condition must be a function without arguments, an event or an awaitable, got "
                f"{condition!r}"
            )
        # It is called from the event loop, but sees the context variables of the caller.
        test = partial(copy_context().run, test)
        return self._drive(RunUntil(self._timeline, test, last, limit), "run_until")

    async def _run_until_done(self, awaitable: Awaitable[T], last: int | None, limit: float) -> T:
        results: list[T] = []
        errors: list[BaseException] = []  # of the awaitable; else of the drive, which goes first

        async def wait() -> None:
            try:
                results.append(await awaitable)
            except (Exception, anyio.get_cancelled_exc_class()) as error:
                errors.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, name="run_until")
            try:
                drive = RunUntil(self._timeline, lambda: bool(results or errors), last, limit)
                await self._run_drive(drive, "run_until")
            except Exception as error:
                errors.insert(0, error)
                tasks.cancel_scope.cancel()
        if errors:
            raise errors[0]
        return results[0]

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep time from moving inside the block, which may be in any thread.

        For what happens outside of the event loop and is not seen by it: a thread of one's own,
        another process, a device. Hold on until what it sets off inside the event loop has been
        set off there. Whoever drives the clock waits meanwhile, without spinning.
        """
        with self._lock:
            self._timeline.holds += 1
        try:
            yield
        finally:
            with self._lock:
                self._timeline.holds -= 1
                if self._run is not None and not self._timeline.holds:
                    self._run.kick()

    # Inside

    def _bind(self) -> Run:
        run = self._run
        if run is not None and run.in_task():
            return run
        now = current_run()
        if now is not run:
            if run is not None and run.alive():
                raise RuntimeError(
                    "this SimClock is in use in another event loop: each simulation needs a clock "
                    "of its own"
                )
            self._timeline.forget_all()
            self._run = now
            self._agenda = Agenda.of(now)
        return now

    def _drive(self, drive: ClockDrive, call: str) -> Coroutine[Any, Any, None]:
        return _named(self._run_drive(drive, call), call)

    async def _run_drive(self, drive: ClockDrive, call: str) -> None:
        run = self._bind()
        unit = within(self)
        if unit is not None:
            raise ClockBusy(
                f"{call}() was called inside daemon {unit.name!r}, which lives in this clock's "
                "time: only what is outside can move it; inside, sleep on the clock"
            )
        timeline = self._timeline
        if timeline.driver is not None:
            raise ClockBusy(
                f"{call}() was called while task {run.task_name(timeline.driver)!r} is driving "
                "this clock: one driver at a time"
            )
        timeline.driver = run.current_task()
        try:
            await self._follow(run, drive, call)
        finally:
            timeline.driver = None

    async def _follow(self, run: Run, drive: ClockDrive, call: str) -> None:
        """Put a drive on the agenda, and wait until it is over."""
        assert self._agenda is not None
        drive.task = run.current_task()
        run.livelock_after = drive.livelock_after = self._livelock_after
        drive.describe = self._agenda.describe
        self._agenda.add(drive)
        try:
            while not drive.done:
                drive.waiter = waiter = run.waiter(f"{call} of the clock")
                await waiter
                while drive.notices:
                    wait = drive.notices.pop(0)
                    warnings.warn_explicit(
                        f"task {wait.task!r} waits for {wait.what}, which is real, while simulated "
                        "time is moved: sleep and time out on the clock, or hold it meanwhile",
                        RealTimeWarning,
                        wait.filename,
                        wait.lineno,
                    )
        finally:
            self._agenda.remove(drive)
        if drive.error is not None:
            raise drive.error


async def drive_until(clock: SimClock, test: Callable[[], bool], seconds: float) -> None:
    """Let so much time pass at most until the test holds, while nobody else drives the clock.

    Unlike a call of the clock, it may come from inside, and does not keep others from driving.

    Raises:
        SimulationStalled: nothing can happen any more.
        SimulationLivelock: something runs for ever without blocking.
    """
    with clock.move_on_after(seconds):
        await clock._follow(clock._bind(), Assist(clock._timeline, test, None, math.inf), "stop")


def _named(coroutine: Coroutine[Any, Any, T], call: str) -> Coroutine[Any, Any, T]:
    """Name it after the call that its user has made: Python does, where it was never awaited."""
    named: Any = coroutine
    named.__qualname__ = f"SimClock.{call}"
    return coroutine


def bind(clock: SimClock) -> None:
    """Use a clock in the running event loop.

    Raises:
        RuntimeError: it is in use in another one.
    """
    clock._bind()


def is_held(clock: SimClock) -> bool:
    """Whether something holds this clock."""
    return clock._timeline.holds > 0


def _at(deadline: float) -> float:
    deadline = number(deadline, "deadline")
    return deadline if math.isinf(deadline) else to_ns(deadline)
