"""Simulated time: it moves when somebody moves it, and only while nothing can run."""

from __future__ import annotations

import inspect
import math
import threading
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import count
from types import TracebackType
from typing import Any, Protocol, TypeVar, overload

import anyio

from ._agenda import Agenda, Drive, Step
from ._ambient import within
from ._backends import LIVELOCK_AFTER, Run, Waiter, current_run
from ._clock import Every, First, Missed
from ._exceptions import ClockBusy, RealTimeWarning, SimulationLivelock, SimulationStalled
from ._time import NANOSECONDS, finite, number, to_ns, to_seconds

T = TypeVar("T")

# Below so many cancelled sleepers, sorting them out is not worth it.
FEW = 64


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

    Worker threads that were started through anyio keep time from moving until they are waited for
    to the end. `hold` does so for anything else.

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
        "_cancelled",
        "_drive",
        "_heap",
        "_holds",
        "_livelock_after",
        "_lock",
        "_now",
        "_numbers",
        "_run",
    )

    def __init__(self, t0: float = 0.0, *, livelock_after: int = LIVELOCK_AFTER) -> None:
        if livelock_after < 1:
            raise ValueError(f"livelock_after must be at least 1, got {livelock_after!r}")
        self._now = to_ns(finite(t0, "t0"))
        self._livelock_after = livelock_after
        self._numbers = count()
        # (deadline, number, who). Those who were cancelled stay until there are too many.
        self._heap: list[tuple[int, int, Waiter | _Timeout]] = []
        self._cancelled = 0
        self._holds = 0
        self._lock = threading.Lock()
        self._run: Run | None = None
        self._agenda: Agenda | None = None
        self._drive: _Drive | None = None

    def __repr__(self) -> str:
        return f"<SimClock at {self.now()}>"

    # Reading

    def now(self) -> float:
        """The time in seconds."""
        return to_seconds(self._now)

    def now_ns(self) -> int:
        """The time in nanoseconds."""
        return self._now

    @property
    def next_deadline(self) -> float | None:
        """When the next sleeper wakes, in seconds; None if nothing sleeps."""
        deadline = self._next()
        return None if deadline is None else to_seconds(deadline)

    @property
    def pending(self) -> list[Sleeper]:
        """What sleeps, until when and for whom, in the order in which it will wake."""
        run = self._run
        return [
            Sleeper(to_seconds(deadline), "" if run is None else run.task_name(who.task))
            for deadline, _, who in sorted(self._heap, key=lambda entry: entry[:2])
            if who.parked
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
        deadline = self._now + to_ns(seconds) if seconds > 0 else self._now
        return self._sleep(deadline, next(self._numbers))

    def wait_until(self, deadline: float) -> Coroutine[Any, Any, None]:
        """Sleep until the clock shows the deadline; one that has passed is one checkpoint.

        Raises:
            ValueError: ``deadline`` is NaN.
        """
        deadline = number(deadline, "deadline")
        if math.isinf(deadline):
            return self._sleep(None if deadline > 0 else self._now, 0)
        return self._sleep(to_ns(deadline), next(self._numbers))

    async def _sleep(self, deadline: int | None, order: int) -> None:
        run = self._bind()
        if deadline is None:
            waiter = run.waiter("the clock, for ever")
            await waiter
            return
        if deadline <= self._now:
            await run.checkpoint()
            return
        waiter = run.waiter(_Until(deadline))
        heappush(self._heap, (deadline, order, waiter))
        try:
            await waiter
        except BaseException:
            if not waiter.woken:
                self._forget_one()
            raise

    def every(
        self, period: float, *, first: First = "after", missed: Missed = "skip"
    ) -> AsyncIterator[float]:
        """Tick once a period of simulated time; see `Clock.every`."""
        return Every(
            lambda due: self._sleep(due, next(self._numbers)), self.now_ns, period, first, missed
        )

    def move_on_after(self, seconds: float) -> AbstractContextManager[anyio.CancelScope, bool]:
        """Cancel what is inside after so many simulated seconds.

        ``cancelled_caught`` of the scope tells whether that happened. Its ``deadline`` is of the
        event loop's time, and has nothing to do with this.

        Raises:
            ValueError: ``seconds`` is NaN.
        """
        return _Timeout(self, self._after(seconds), fail=False)

    def move_on_at(self, deadline: float) -> AbstractContextManager[anyio.CancelScope, bool]:
        """Cancel what is inside when the clock shows the deadline.

        Raises:
            ValueError: ``deadline`` is NaN.
        """
        return _Timeout(self, _at(deadline), fail=False)

    def fail_after(self, seconds: float) -> AbstractContextManager[anyio.CancelScope]:
        """Like ``move_on_after``, but raise ``TimeoutError`` where it cancelled something.

        Raises:
            ValueError: ``seconds`` is NaN.
            TimeoutError: the time ran out.
        """
        return _Timeout(self, self._after(seconds), fail=True)

    def fail_at(self, deadline: float) -> AbstractContextManager[anyio.CancelScope]:
        """Like ``move_on_at``, but raise ``TimeoutError`` where it cancelled something.

        Raises:
            ValueError: ``deadline`` is NaN.
            TimeoutError: the deadline passed.
        """
        return _Timeout(self, _at(deadline), fail=True)

    def _after(self, seconds: float) -> float:
        seconds = number(seconds, "seconds")
        return seconds if math.isinf(seconds) else self._now + to_ns(seconds)

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
        return self._run_drive(_Advance(self, self._now + to_ns(dt)), "advance")

    def advance_to(self, t: float) -> Coroutine[Any, Any, None]:
        """Let time pass until ``t``; where that has passed, only let everything run that can.

        Raises:
            ValueError: ``t`` is NaN or infinite.
            ClockBusy: the clock is being driven already, or the caller lives in its time.
            SimulationLivelock: something runs for ever without blocking.
        """
        return self._run_drive(_Advance(self, to_ns(finite(t, "t"))), "advance_to")

    async def step(self) -> float | None:
        """Let time pass until the next deadline, and all that is due then happen.

        Returns:
            The time reached, in seconds; None if nothing sleeps, and time did not move.

        Raises:
            ClockBusy: the clock is being driven already, or the caller lives in its time.
            SimulationLivelock: something runs for ever without blocking.
        """
        drive = _Advance(self, None)
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
            raise ValueError(f"limit must not be negative, got {limit!r}")
        last = None if limit == math.inf else self._now + to_ns(limit)
        if inspect.isawaitable(condition):
            return self._run_until_done(condition, last, limit)
        test = getattr(condition, "is_set", condition)
        if not callable(test):
            raise TypeError(
                "condition must be a function without arguments, an event or an awaitable, got "
                f"{condition!r}"
            )
        return self._run_drive(_RunUntil(self, test, last, limit), "run_until")

    async def _run_until_done(self, awaitable: Awaitable[T], last: int | None, limit: float) -> T:
        results: list[T] = []
        errors: list[BaseException] = []

        async def wait() -> None:
            try:
                results.append(await awaitable)
            except (Exception, anyio.get_cancelled_exc_class()) as error:
                errors.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, name="run_until")
            try:
                drive = _RunUntil(self, lambda: bool(results or errors), last, limit)
                await self._run_drive(drive, "run_until")
            except Exception as error:
                errors.append(error)
                tasks.cancel_scope.cancel()
        if errors:
            raise errors[-1]
        return results[0]

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep time from moving inside the block, which may be in any thread.

        For what happens outside of the event loop and is not seen by it: a thread of one's own,
        another process, a device. Whoever drives the clock waits meanwhile, without spinning.
        """
        with self._lock:
            self._holds += 1
        try:
            yield
        finally:
            with self._lock:
                self._holds -= 1
                if self._run is not None and not self._holds:
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
            self._heap.clear()
            self._cancelled = 0
            self._run = now
            self._agenda = Agenda.of(now)
        return now

    def _next(self) -> int | None:
        heap = self._heap
        while heap:
            if heap[0][2].parked:
                return heap[0][0]
            heappop(heap)
            self._cancelled -= 1
        return None

    def _forget_one(self) -> None:
        """Somebody in the heap was cancelled."""
        self._cancelled += 1
        if self._cancelled > FEW and 2 * self._cancelled > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].parked]
            heapify(self._heap)
            self._cancelled = 0

    def _wake_one(self, last: int | None) -> bool:
        """Move to the next deadline, unless that is after the last, and wake who has it."""
        heap = self._heap
        while heap and (last is None or heap[0][0] <= last):
            deadline, _, who = heappop(heap)
            if who.wake():
                if deadline > self._now:
                    self._now = deadline
                return True
            self._cancelled -= 1
        return False

    async def _run_drive(self, drive: _Drive, call: str) -> None:
        run = self._bind()
        unit = within(self)
        if unit is not None:
            raise ClockBusy(
                f"{call}() was called inside daemon {unit.name!r}, which lives in this clock's "
                "time: only what is outside can move it; inside, sleep on the clock"
            )
        if self._drive is not None:
            raise ClockBusy(
                f"{call}() was called while task {run.task_name(self._drive.task)!r} is driving "
                "this clock: one driver at a time"
            )
        self._drive = drive
        try:
            await self._follow(run, drive, call)
        finally:
            self._drive = None

    async def _follow(self, run: Run, drive: _Drive, call: str) -> None:
        """Put a drive on the agenda, and wait until it is over."""
        assert self._agenda is not None
        drive.task = run.current_task()
        run.livelock_after = self._livelock_after
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
        await clock._follow(clock._bind(), _Assist(clock, test, None, math.inf), "stop")


def is_held(clock: SimClock) -> bool:
    """Whether something holds this clock."""
    return clock._holds > 0


class _Until:
    """What a sleeper waits on; made into words when somebody asks."""

    __slots__ = ("deadline",)

    def __init__(self, deadline: int) -> None:
        self.deadline = deadline

    def __str__(self) -> str:
        return f"clock until {to_seconds(self.deadline)!r}"


def _at(deadline: float) -> float:
    deadline = number(deadline, "deadline")
    return deadline if math.isinf(deadline) else to_ns(deadline)


class _Timeout:
    """A block that is cancelled at a deadline; in the heap, it stands where a sleeper would."""

    __slots__ = ("_clock", "_deadline", "_fail", "_scope", "fired", "parked", "task")

    def __init__(self, clock: SimClock, deadline: float, *, fail: bool) -> None:
        self._clock = clock
        self._deadline = deadline
        self._fail = fail
        self._scope = anyio.CancelScope()
        self.fired = False
        self.parked = False
        self.task: Any = None

    def __enter__(self) -> anyio.CancelScope:
        clock = self._clock
        self._scope.__enter__()
        if self._deadline <= clock._now:
            self.fired = True
            self._scope.cancel()
        elif self._deadline != math.inf:
            self.task = clock._bind().current_task()
            self.parked = True
            heappush(clock._heap, (int(self._deadline), next(clock._numbers), self))
        return self._scope

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> bool:
        if self.parked:
            self.parked = False
            self._clock._forget_one()
        swallow = self._scope.__exit__(exc_type, exc, tb)
        if self._fail and self.fired and self._scope.cancelled_caught:
            raise TimeoutError(f"the time was up at {self._deadline / NANOSECONDS} on the clock")
        return bool(swallow)

    def wake(self) -> bool:
        if not self.parked:
            return False
        self.parked = False
        self.fired = True
        self._scope.cancel()
        return True


class _Drive(Drive):
    """What moves a clock, on behalf of the task that waits for it."""

    __slots__ = ("clock", "done", "error", "waiter")

    def __init__(self, clock: SimClock) -> None:
        super().__init__()
        self.clock = clock
        self.waiter: Waiter | None = None
        self.done = False
        self.error: BaseException | None = None

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
                f"{names} kept running at {self.clock.now()} for {self.clock._livelock_after} "
                "rounds of the event loop, so that time cannot move: let it wait for something, or "
                "raise livelock_after of the SimClock"
            )
        )

    def stall(self) -> None:
        agenda = self.clock._agenda
        assert agenda is not None
        self.fail(
            SimulationStalled(
                f"at {self.clock.now()}, nothing can run and nothing sleeps on the clock, so what "
                f"is waited for can never happen{agenda.describe()}"
            )
        )


class _Advance(_Drive):
    """Move to a target; None stands for the next deadline."""

    __slots__ = ("target",)

    def __init__(self, clock: SimClock, target: int | None) -> None:
        super().__init__(clock)
        self.target = target

    def step(self) -> Step:
        clock = self.clock
        if clock._holds:
            return Step.HELD
        if self.target is None:
            self.target = clock._next()
            if self.target is None:
                return self.finish()
        if not clock._wake_one(self.target):
            clock._now = max(clock._now, self.target)
            self.finish()
        return Step.MOVED


class _RunUntil(_Drive):
    """Move until a condition holds, but not past the last instant."""

    __slots__ = ("_last", "_limit", "_test")

    def __init__(
        self, clock: SimClock, test: Callable[[], object], last: int | None, limit: float
    ) -> None:
        super().__init__(clock)
        self._test = test
        self._last = last
        self._limit = limit

    def step(self) -> Step:
        clock = self.clock
        try:
            holds = self._test()
            if inspect.isawaitable(holds):
                if inspect.iscoroutine(holds):
                    holds.close()
                raise TypeError(
                    "the condition of run_until returned an awaitable: call it and pass that, or "
                    "pass a function that is not async"
                )
        except Exception as error:
            self.fail(error)
            return Step.MOVED
        if holds:
            return self.finish()
        if clock._holds:
            return Step.HELD
        if clock._wake_one(self._last):
            return Step.MOVED
        if clock._next() is None:
            return Step.STUCK
        assert self._last is not None
        clock._now = max(clock._now, self._last)
        self.fail(TimeoutError(f"run_until reached its limit of {self._limit} simulated seconds"))
        return Step.MOVED


class _Assist(_RunUntil):
    """Move until a condition holds, but only while nobody else drives the clock."""

    __slots__ = ()

    def step(self) -> Step:
        if self.clock._drive is not None and not self._test():
            return Step.STUCK
        return super().step()
