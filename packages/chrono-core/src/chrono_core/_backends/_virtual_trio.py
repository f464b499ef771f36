"""trio in virtual time: a clock that jumps, and deadlines that are kept in order.

trio asks its clock how long to sleep only when no task can run. That is when the simulation lets
one thing happen, and time jumps. trio waits for real only where the simulation has to: for worker
threads, while time is held, and for descriptors when nothing else can ever happen. Who waits in
`wait_all_tasks_blocked` goes first: trio wakes him at that same moment.

The deadlines of cancel scopes are on the timeline of the simulated clock, between its sleepers, and
pass one at a time, each when what the one before has set off has come to rest. For that, the
runner gets another container of deadlines, and where there is something to choose, another queue of
what can run. Both belong to that one runner: other runs of trio never see them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from math import inf
from typing import Any

import anyio
import trio
import trio.testing

from chrono_core._time import NANOSECONDS, to_ns

from ._base import Idle, RealWait, Watcher, frames, place
from ._shim import Backward, Ordered, Patch, Shim
from ._trio import TrioRun, _family, _order, _run, _scopes
from ._virtual import PATIENCE, WIDTH, Standstill, World

# What trio counts the threads by that somebody waits for.
_THREADS = getattr(trio._threads, "_active_threads_local", None)


class VirtualTrioRun(TrioRun):
    """A run in virtual time: the runner itself tells when it is idle."""

    __slots__ = ("_registered", "_virtual_runner", "visitors")

    def __init__(self, runner: Any) -> None:
        super().__init__(runner.trio_token or trio.lowlevel.current_trio_token())
        self._virtual_runner = runner
        self.visitors = 0
        self._registered = getattr(runner.io_manager, "_registered", ())

    @property
    def _runner(self) -> Any:
        return self._virtual_runner

    def watch(self, watcher: Watcher) -> None:
        self.watcher = watcher

    def kick(self) -> None:
        if not self.in_task():
            self.alive()  # wakes the runner

    def real_timeout(self, seconds: float) -> Any:
        return anyio.move_on_after(seconds)

    def threads_in_flight(self) -> int:
        # Threads that are waited for, with any limiter; and those that are not, with the default.
        waited = self._virtual_runner._locals.get(_THREADS)
        count = max(waited.count if waited is not None else 0, self._limiter.borrowed_tokens)
        # A thread that waits for what it has the event loop do is not at work.
        return int(count) - self.visitors

    def maybe_real_waits(self) -> bool:
        return self._has_descriptors()

    def outside(self) -> bool:
        """Whether anything real is under way."""
        return len(self._registered) > 1 or bool(self.threads_in_flight())

    def real_waits(self, drivers: list[Any]) -> list[RealWait]:
        return self._descriptor_waits()

    def tasks(self) -> list[Any]:
        return _family(self._runner.main_task)

    def break_shields(self) -> None:
        for task in self.tasks():
            for scope in _scopes(task):
                scope.shield = False

    def cancel_leftovers(self) -> None:
        """Nurseries leave nothing."""

    def is_between_tests(self) -> bool:
        """Whether the test runner of anyio waits for its host, which runs no test just now.

        That is no stall, and no time passes meanwhile.
        """
        stack = frames(self._runner.main_task.coro) if self._runner.main_task else []
        names = [frame.f_code.co_name for frame in stack[:2]]
        return names == ["_run_tests_and_fixtures", "__anext__"]

    def interrupt(self, error: BaseException) -> None:
        """Throw an error into the main task, where no scope is around it."""

        def throw() -> None:
            raise error

        task = self._runner.main_task
        if task._abort_func is None:
            raise error
        task._attempt_abort(throw)


class _Deadline:
    """The deadline of a cancel scope, among the sleepers of the clock."""

    __slots__ = ("at", "deadlines", "parked", "scope")

    def __init__(self, deadlines: Deadlines, scope: Any, at: float) -> None:
        self.deadlines = deadlines
        self.scope = scope
        self.at = at
        self.parked = True

    @property
    def task(self) -> Any:
        tasks = self.scope._cancel_status._tasks
        return next(iter(tasks), None)

    def wake(self) -> bool:
        if not self.parked:
            return False
        self.parked = False
        clock = self.deadlines.clock
        if self.at > clock.floor:
            clock.floor = self.at
        _cancel(self.scope)
        return True


_Reason: Any = getattr(trio._core._run, "CancelReason", None)


def _cancel(scope: Any) -> None:
    if _Reason is None:
        scope.cancel()
    else:
        scope._cancel(_Reason(source="deadline"))


class Deadlines:
    """Stands in for trio's container of deadlines."""

    def __init__(self, clock: VirtualClock, runner: Any, world: World) -> None:
        self.clock = clock
        self._runner = runner
        self._timeline = world.timeline
        self._entries: dict[Any, _Deadline] = {}
        # Scopes whose deadline had passed when it was set.
        self._due: dict[Any, None] = {}
        self.rounds = 0

    def add(self, deadline: float, scope: Any) -> None:
        timeline = self._timeline
        at = timeline.now if deadline == -inf else to_ns(deadline)
        if at <= timeline.now:
            if deadline > self.clock.floor:
                self.clock.floor = deadline
            self._due[scope] = None
            return
        entry = self._entries[scope] = _Deadline(self, scope, deadline)
        timeline.push(at, entry)

    def remove(self, deadline: float, scope: Any) -> None:
        entry = self._entries.pop(scope, None)
        if entry is None:
            self._due.pop(scope, None)
        elif entry.parked:
            entry.parked = False
            self._timeline.forget_one()

    def next_deadline(self) -> float:
        return -inf if self._due else inf

    def expire(self, now: float) -> bool:
        # Called in each round of the runner.
        expired = False
        while self._due:
            scope = next(iter(self._due))
            del self._due[scope]
            _cancel(scope)
            expired = True
        run = self.clock.run
        self.rounds += 1
        if self.rounds >= run.livelock_after:
            self.rounds = 0
            run.watcher.on_livelock(
                list(dict.fromkeys(str(task.name) for task in deque.__iter__(self._runner.runq)))
            )
        return expired


class ChosenQueue(deque[Any]):
    """Stands in for the queue of what can run: each batch is one task, which is chosen."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._scheduler = world.scheduler
        self._observer = world.observer

    def __iter__(self) -> Iterator[Any]:
        if self._scheduler is not None and len(self) > 1:
            tasks = list(zip(range(WIDTH), super().__iter__(), strict=False))
            chosen = self._scheduler.choose("task", len(tasks), [task for _, task in tasks])
            self.rotate(-chosen)
        return iter((self[0],) if self else ())

    def clear(self) -> None:
        if self:
            self.popleft()


class VirtualClock(trio.abc.Clock):
    """The clock of a simulation, for trio."""

    def __init__(self, make_world: Callable[[], World]) -> None:
        self._make_world = make_world
        self.floor = -inf
        self._polled = False
        self.run: Any = None

    def start_clock(self) -> None:
        world = self._world = self._make_world()
        world.begin()
        self._timeline = world.timeline
        self.floor = -inf
        runner = trio._core._run.GLOBAL_RUN_CONTEXT.runner
        _order.begin()
        _shim.begin()
        self._standstill = Standstill(world.held_up)
        runner.instruments.add_instrument(_End(world))
        self._deadlines = runner.deadlines = Deadlines(self, runner, world)  # type: ignore[assignment]
        if world.scheduler is not None or world.observer is not None:
            runner.runq = ChosenQueue(world)
        if world.observer is not None:
            runner.instruments.add_instrument(_Observe(world.observer))
        self._runner = runner
        self.run = VirtualTrioRun(runner)
        _run.set(self.run)
        world.start(self.run)

    def current_time(self) -> float:
        now: float = self._timeline.now / NANOSECONDS
        return now if now > self.floor else self.floor

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Nothing can run: let something happen, or say how long to wait for what is real."""
        self._deadlines.rounds = 0
        if deadline == -inf:
            return 0
        runner = self._runner
        if runner.is_guest and self.run.is_between_tests():
            return PATIENCE
        if runner.waiting_for_idle:
            return inf  # trio wakes them, since that is longer than they wait
        if runner.entry_queue.size():
            return 0
        if not self._polled and len(self.run._registered) > 1:
            self._polled = True
            return 0
        self._polled = False
        if not (self._standstill.since or self.run.outside()) and self.run.watcher.jump():
            return 0
        on_idle = self.run.watcher.on_idle
        while True:
            if on_idle() is not Idle.AGAIN:
                return self._standstill.goes_on()
            if self._standstill.since:
                self._standstill.ends()
            if runner.runq or runner.waiting_for_idle or runner.entry_queue.size():
                return 0


class _End(trio.abc.Instrument):
    """Tells the simulation that the run is over."""

    def __init__(self, world: World) -> None:
        self._world = world

    def after_run(self) -> None:
        _shim.end()
        _order.end()
        self._world.end()


class _Observe(trio.abc.Instrument):
    def __init__(self, observer: Any) -> None:
        self._observer = observer
        self._numbers: dict[Any, int] = {}

    def after_task_step(self, task: Any) -> None:
        number = self._numbers.setdefault(task, len(self._numbers))
        stack = frames(task.coro)
        where = place(stack) if stack else "ends"
        self._observer.ran(f"{number} {task.name}", where)


# One order


def _ordered_status(original: Any) -> Any:
    def __attrs_post_init__(self: Any) -> None:
        # Children are put on a stack, so the first has to come last.
        self._children = Backward()
        self._tasks = Ordered()
        original(self)

    return __attrs_post_init__


def _ordered_event(original: Any) -> Any:
    def __init__(self: Any) -> None:
        original(self)
        self._tasks = Ordered()

    return __init__


def _message(original: Any) -> Any:
    def __init__(self: Any, *args: Any) -> None:
        original(self, *args)
        from_worker = hasattr(trio._threads.PARENT_TASK_DATA, "token")
        object.__setattr__(self, "_from_worker", from_worker)

    return __init__


def _visit(original: Any) -> Any:
    async def unprotected_afn(self: Any) -> Any:
        clock = trio.lowlevel.current_task()._runner.clock
        if not (isinstance(clock, VirtualClock) and self._from_worker):
            return await original(self)
        clock.run.visitors += 1
        try:
            return await original(self)
        finally:
            clock.run.visitors -= 1

    return unprotected_afn


_VISITORS = "simulated time stands still while a worker thread waits for the event loop"
_ORDER = "what is cancelled at one instant ends in an order that differs from run to run"
_EVENTS = "who waits for one event is woken in an order that differs from run to run"


def _patches() -> Iterable[Patch]:
    status = getattr(trio._core._run, "CancelStatus", None)
    yield Patch(status, "__attrs_post_init__", _ordered_status, _ORDER)
    tasks = "_tasks" in getattr(trio.Event, "__slots__", ())
    yield Patch(trio.Event if tasks else None, "__init__", _ordered_event, _EVENTS)
    message = getattr(trio._threads, "Run", None)
    if not hasattr(message, "unprotected_afn"):
        message = None
    yield Patch(message, "__init__", _message, _VISITORS)
    yield Patch(message, "unprotected_afn", _visit, _VISITORS)


_shim = Shim("trio", _patches())


def options(world: Callable[[], World]) -> dict[str, Any]:
    """What to pass to anyio for a run in virtual time."""
    return {"clock": VirtualClock(world)}


def run(main: Callable[[], Awaitable[None]], world: Callable[[], World]) -> None:
    """Run a program in virtual time; not by anyio, of which older versions pass no options on."""
    trio.run(main, clock=VirtualClock(world))
