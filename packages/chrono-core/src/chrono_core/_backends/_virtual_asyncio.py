"""asyncio in virtual time: the standard library's event loop, with another idea of waiting.

The loop keeps its queue of what can run, and its selector for what is real. What is new is what
happens when the queue is empty: instead of waiting for a timer, the loop has the simulation let one
thing happen, and time jumps. It waits for real only where the simulation has to: for worker
threads, while time is held, and for descriptors when nothing else can ever happen.

Timers are on the timeline of the simulated clock, between its sleepers, and go off one at a time,
each when what the one before has set off has come to rest.
"""

from __future__ import annotations

import asyncio
from asyncio.events import Handle, TimerHandle
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from math import inf
from types import FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

import anyio
import anyio.lowlevel

from chrono_core._time import NANOSECONDS, to_ns

from ._anyio_asyncio import DELIVER, GROUP, TASK_DONE, deliver_cancellation, shim
from ._asyncio import AsyncioRun
from ._base import Idle, RealWait, Watcher, frames, place
from ._virtual import WIDTH, Standstill, World

# Between so many rounds, the loop looks at its selector at least once.
ROUNDS_PER_POLL = 128


class VirtualAsyncioRun(AsyncioRun):
    """A run in virtual time: the loop itself tells when it is idle."""

    __slots__ = ("_idle_workers", "_workers")

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__(loop)
        self.sees_real_waits = True
        self._workers: Any = None
        self._idle_workers: Any = None

    def _thread_limiter(self) -> Any:
        return None

    def watch(self, watcher: Watcher) -> None:
        self.watcher = watcher

    def kick(self) -> None:
        if not self.in_task() and self.alive():
            self._loop.call_soon_threadsafe(int)

    def real_timeout(self, seconds: float) -> Any:
        return anyio.move_on_after(seconds)

    def threads_in_flight(self) -> int:
        loop: Any = self._loop
        jobs: int = loop.jobs
        if not loop.uses_workers:
            return jobs
        if self._workers is None:
            for key, value in anyio.lowlevel._run_vars.get(loop, {}).items():
                if key._name == "_threadpool_workers":
                    self._workers = value
                elif key._name == "_threadpool_idle_workers":
                    self._idle_workers = value
            if self._workers is None:
                return jobs
        # A thread that waits for what it has the event loop do is not at work.
        return jobs + len(self._workers) - len(self._idle_workers) - int(loop.visitors)

    def maybe_real_waits(self) -> bool:
        loop: Any = self._loop
        return len(loop.descriptors) > 1

    def outside(self) -> bool:
        """Whether anything real is under way."""
        loop: Any = self._loop
        return (
            len(loop.descriptors) > 1
            or bool(loop.jobs)
            or (loop.uses_workers and bool(self.threads_in_flight()))
        )

    def real_waits(self, drivers: list[Any]) -> list[RealWait]:
        return self._descriptor_waits()

    def tasks(self) -> list[Any]:
        loop: Any = self._loop
        tasks = [task for task in asyncio.all_tasks(loop) if not task.done()]
        return sorted(tasks, key=lambda task: loop.born.get(task, -1))

    def break_shields(self) -> None:
        for task in self.tasks():
            task.cancel()

    def cancel_leftovers(self) -> None:
        # asyncio would do so itself, in an order that differs from run to run.
        for task in self.tasks():
            if task is not self._get_task():
                task.cancel()

    def interrupt(self, error: BaseException) -> None:
        """End the run by an error, where no scope is around it."""
        raise error


class Timer(TimerHandle):
    """A timer of the loop, among the sleepers of the clock."""

    __slots__ = ()

    _when: float
    _scheduled: bool

    def __init__(self, when: float, callback: Any, args: Any, loop: Any, context: Any) -> None:
        self._context = copy_context() if context is None else context
        self._loop: Any = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None
        self._when = when
        self._scheduled = False

    @property
    def task(self) -> Any:
        owner = getattr(self._callback, "__self__", None)
        return getattr(owner, "_host_task", None) or getattr(owner, "_task", None)

    @property
    def parked(self) -> bool:
        return self._scheduled

    def wake(self) -> bool:
        if not self._scheduled:
            return False
        self._scheduled = False
        loop = self._loop
        if self._when > loop.floor:
            loop.floor = self._when
        loop._ready.append(self)
        return True


class VirtualLoop(asyncio.SelectorEventLoop):
    """The event loop of a simulation."""

    # Names of the base class that are used here, for the type checker.
    _ready: Any
    _selector: Any
    _stopping: bool
    _process_events: Callable[[Any], None]

    def __init__(self, world: World) -> None:
        world.begin()
        self._world = world
        self._ended = False
        self._timeline = world.timeline
        # Two floats may be one nanosecond: who waited for the greater must not find it to come.
        self.floor = -inf
        self.jobs = 0
        self.uses_workers = False
        self.visitors = 0
        self.born: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        self.rounds = 0
        self._standstill = Standstill(world.held_up)
        self._newest = 0
        self._ended_tasks: list[Handle] = []
        # Who waits for the end of a task group, in which round that has come.
        self._late: dict[Any, int] = {}
        # For how many rounds more a task may be found to wait in a scope that was cancelled.
        self._cancelling = 0
        self.run: VirtualAsyncioRun | None = None
        shim.begin()
        try:
            super().__init__()
        except BaseException:
            self._end()
            raise
        self._scheduler = world.scheduler
        self._observer = world.observer
        # Of its mapping, the length takes longer to read.
        self.descriptors: Any = getattr(self._selector, "_fd_to_key", self._selector.get_map())

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            shim.end()
            self._world.end()

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._end()

    # Time

    def time(self) -> float:
        now = self._timeline.now / NANOSECONDS
        return now if now > self.floor else self.floor

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> TimerHandle:
        if delay is None:
            raise TypeError("delay must not be None")
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> TimerHandle:
        if when is None:
            raise TypeError("when cannot be None")
        if self._closed:  # type: ignore[attr-defined]
            self._check_closed()  # type: ignore[attr-defined]
        timer = Timer(when, callback, args, self, context)
        timeline = self._timeline
        scaled = when * 1e9
        if -9e15 < scaled < 9e15:
            deadline = round(scaled)  # as to_ns would
        elif when == inf:
            return timer
        else:
            deadline = to_ns(when) if when > -inf else timeline.now
        if deadline > timeline.now:
            timer._scheduled = True
            timeline.push(deadline, timer)
        else:
            if when > self.floor:
                self.floor = when
            self._ready.append(timer)
        return timer

    def _timer_handle_cancelled(self, timer: Any) -> None:
        if timer._scheduled:
            timer._scheduled = False
            self._timeline.forget_one()

    # What can run

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> Handle:
        if self._closed:  # type: ignore[attr-defined]
            self._check_closed()  # type: ignore[attr-defined]
        handle = Handle(callback, args, self, context)
        kind = type(callback)
        if kind is FunctionType and callback.__code__ is TASK_DONE:
            self._ended_tasks.append(handle)
            return handle
        if kind is MethodType and callback.__func__ is DELIVER:  # type: ignore[attr-defined]
            # As long as something is being cancelled, anyio does this once a round.
            self._cancelling = 2
        self._ready.append(handle)
        return handle

    def create_task(self, coro: Any, **options: Any) -> Any:
        task = super().create_task(coro, **options)
        self._newest += 1
        self.born[task] = self._newest
        return task

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Any, *args: Any
    ) -> Any:
        future = super().run_in_executor(executor, func, *args)
        self.jobs += 1
        future.add_done_callback(self._job_done)
        return future

    async def shutdown_default_executor(self, *args: Any, **options: Any) -> None:
        self.jobs += 1
        try:
            await super().shutdown_default_executor(*args, **options)
        finally:
            self.jobs -= 1

    def _job_done(self, _: object) -> None:
        self.jobs -= 1

    # Running it

    def _run_once(self) -> None:
        run = self.run
        if run is None:
            run = self.run = VirtualAsyncioRun(self)
            self.__dict__["_chrono_run"] = run
            self._world.start(run)
        if len(self.descriptors) <= 1:
            self._poll(0)  # for what comes from signals and other threads
        one_by_one = self._scheduler is not None or self._observer is not None
        ready, ended, late = self._ready, self._ended_tasks, self._late
        for _ in range(ROUNDS_PER_POLL):
            if not ready:
                self.rounds = 0
                if late:
                    late.clear()
                real = self.jobs or self.uses_workers or self._standstill.since
                if real or len(self.descriptors) > 1 or not run.watcher.jump():
                    self._idle(run)
            elif len(self.descriptors) > 1:
                self._poll(0)
            if self.rounds >= run.livelock_after:
                self.rounds = 0
                run.watcher.on_livelock(run._runnable())
            self.rounds += 1
            if self._cancelling:
                self._cancelling -= 1
            if one_by_one:
                self._run_chosen()
                if self._stopping:
                    return
                continue
            for _ in range(len(ready)):
                handle = ready.popleft()
                if handle._cancelled:
                    continue
                if late and self._is_late(handle):
                    ready.append(handle)
                    continue
                try:
                    handle._context.run(handle._callback, *handle._args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    self._report(handle, error)
                if ended or self._cancelling:
                    self._finish(handle)
            if self._stopping:
                return

    def _report(self, handle: Any, error: BaseException) -> None:
        """A callback has failed: as `Handle._run` would."""
        self.call_exception_handler(
            {
                "message": f"Exception in callback {handle!r}",
                "exception": error,
                "handle": handle,
            }
        )

    def _finish(self, handle: Any) -> None:
        """Do what trio would have done by the end of this step."""
        if self._cancelling:
            task = _task_of(handle)
            if task is not None and not task.done():
                deliver_cancellation(task)
        while self._ended_tasks:
            ended = self._ended_tasks.pop(0)
            if not ended._cancelled:
                ended._run()
                group = ended._callback.__closure__[GROUP].cell_contents  # type: ignore[attr-defined]
                waiting = group._on_completed_fut
                if waiting is not None and waiting.cancelled() and not group._tasks:
                    self._late[group.cancel_scope._host_task] = self.rounds

    def _is_late(self, handle: Any) -> bool:
        """Whether a task that waits for others, and was cancelled, has to wait for a round more.

        On trio, the cancellation does not wake it; the end of the others does, in this round.
        """
        return self._late.pop(_task_of(handle), None) == self.rounds

    def _run_chosen(self) -> None:
        """Run one thing, chosen from the tasks that are ready."""
        ready = self._ready
        if not ready:
            return
        if self._scheduler is not None and len(ready) > 1:
            tasks: list[Any] = []
            for handle in ready:
                task = _task_of(handle)
                if task is None or len(tasks) == WIDTH:
                    break
                tasks.append(task)
            if len(tasks) > 1:
                ready.rotate(-self._scheduler.choose("task", len(tasks), tasks))
        handle = ready.popleft()
        if handle._cancelled:
            return
        handle._run()
        if self._ended_tasks or self._cancelling:
            self._finish(handle)
        if self._observer is not None:
            task = _task_of(handle)
            if task is not None:
                where = "ends" if task.done() else place(frames(task.get_coro()))
                self._observer.ran(f"{self.born.get(task, 0)} {task.get_name()}", where)

    def _idle(self, run: VirtualAsyncioRun) -> None:
        """Nothing can run: let something happen."""
        ready = self._ready
        on_idle = run.watcher.on_idle
        while not ready and not self._stopping:
            if len(self.descriptors) > 1:
                self._poll(0)
                if ready:
                    return
            if on_idle() is not Idle.AGAIN:
                self._poll(self._standstill.goes_on())
            elif self._standstill.since:
                self._standstill.ends()

    def _poll(self, timeout: float) -> None:
        self._process_events(self._selector.select(timeout))


def _task_of(handle: Any) -> Any:
    """The task of which a handle is a step; None for anything else."""
    task = getattr(handle._callback, "__self__", None)
    return task if isinstance(task, asyncio.Task) else None


def uvloop_policy() -> bool:
    """Whether uvloop was asked for, by the policy of the process."""
    policy = getattr(asyncio.events, "_event_loop_policy", None)
    return policy is not None and type(policy).__module__.partition(".")[0] in ("uvloop", "winloop")


def options(world: Callable[[], World]) -> dict[str, Any]:
    """What to pass to anyio for a run in virtual time."""
    return {"debug": False, "loop_factory": lambda: VirtualLoop(world())}


def run(main: Callable[[], Awaitable[None]], world: Callable[[], World]) -> None:
    """Run a program in virtual time."""
    anyio.run(main, backend="asyncio", backend_options=options(world))
