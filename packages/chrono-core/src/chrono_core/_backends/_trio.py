"""trio.

How idleness is decided. trio itself knows when no task can run, and wakes whoever waits in
`wait_all_tasks_blocked` then. The pump is a system task that does.

How tasks are put in order. trio reverses each batch of runnable tasks with a probability of one
half, so that nobody relies on an order. For as long as a run is simulated, the dice always fall
the same way, and the batch runs first in, first out. The dice are shared by every trio run of the
process: others that run meanwhile in other threads get an order too, which harms nobody.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Generator
from math import inf
from typing import Any

import trio
import trio.testing

from ._base import Idle, RealWait, Run, Waiter, Watcher, frames, user_line

NAP = 0.001

# After so many rounds, it is clear which tasks keep running.
LIVELOCK_SAMPLE = 10

_run: trio.lowlevel.RunVar[TrioRun] = trio.lowlevel.RunVar("chrono run")


class TrioWaiter:
    __slots__ = ("parked", "subject", "task", "woken")

    def __init__(self, task: Any, subject: object) -> None:
        self.task = task
        self.subject = subject
        self.parked = True
        self.woken = False

    def __await__(self) -> Generator[Any, Any, None]:
        if self.woken:
            return _nothing().__await__()
        return trio.lowlevel.wait_task_rescheduled(self._abort).__await__()  # noqa: ASYNC105

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self.parked = False
        return trio.lowlevel.Abort.SUCCEEDED

    def wake(self) -> bool:
        if not self.parked:
            return False
        self.woken = True
        # A signal handler may come between the making of a waiter and its parking.
        if getattr(trio._core._run.GLOBAL_RUN_CONTEXT, "task", None) is not self.task:
            self.parked = False
            self._rouse()
        return True

    def _rouse(self) -> None:
        trio.lowlevel.reschedule(self.task)


class TrioReader(TrioWaiter):
    __slots__ = ("_descriptor",)

    def __init__(self, task: Any, subject: object, descriptor: int) -> None:
        super().__init__(task, subject)
        self._descriptor = descriptor

    def __await__(self) -> Generator[Any, Any, None]:
        return self._wait().__await__()

    async def _wait(self) -> None:
        if not self.woken:
            try:
                await trio.lowlevel.wait_readable(self._descriptor)
            except trio.ClosedResourceError:
                return  # so it was woken
            finally:
                self.parked = False
            self.woken = True

    def _rouse(self) -> None:
        trio.lowlevel.notify_closing(self._descriptor)


async def _nothing() -> None:
    pass


def _abort_at_once(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.SUCCEEDED


class TrioRun(Run):
    __slots__ = (
        "_instrument",
        "_limiter",
        "_outcome",
        "_pump",
        "_resting",
        "_token",
        "_waiting",
    )

    current_task = staticmethod(trio.lowlevel.current_task)

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        super().__init__()
        self._token = token
        self._limiter = trio.to_thread.current_default_thread_limiter()
        self._pump: Any = None
        self._resting = True
        # Of the instrument, which stands in for the pump while that waits.
        self._outcome: Idle | None = Idle.AGAIN
        self._waiting = False
        self._instrument = _Rounds(self)

    @staticmethod
    def current() -> TrioRun:
        try:
            return _run.get()
        except LookupError:
            run = TrioRun(trio.lowlevel.current_trio_token())
            _run.set(run)
            return run

    def is_current(self) -> bool:
        try:
            return trio.lowlevel.current_trio_token() is self._token
        except RuntimeError:
            return False

    def in_task(self) -> bool:
        try:
            trio.lowlevel.current_task()
            return trio.lowlevel.current_trio_token() is self._token
        except RuntimeError:
            return False

    def task_name(self, task: Any) -> str:
        return str(task.name)

    def coroutine(self, task: Any) -> Any:
        return task.coro

    def alive(self) -> bool:
        try:
            self._token.run_sync_soon(int, idempotent=True)
        except trio.RunFinishedError:
            return False
        return True

    def call_threadsafe(self, callback: Callable[[], object]) -> None:
        self._token.run_sync_soon(callback)

    call_soon = call_threadsafe

    # Waiting

    def waiter(self, subject: object) -> Waiter:
        return TrioWaiter(trio.lowlevel.current_task(), subject)

    def reader(self, subject: object, descriptor: int) -> Waiter:
        return TrioReader(trio.lowlevel.current_task(), subject, descriptor)

    def forget_descriptor(self, descriptor: int) -> None:
        """Trio looks at no descriptor that nobody waits for."""

    async def checkpoint(self) -> None:
        await trio.lowlevel.cancel_shielded_checkpoint()
        if trio.current_effective_deadline() == -inf:
            await trio.lowlevel.wait_task_rescheduled(_abort_at_once)

    async def checkpoint_if_cancelled(self) -> None:
        if trio.current_effective_deadline() == -inf:
            await trio.lowlevel.wait_task_rescheduled(_abort_at_once)

    def undisturbed(self, task: Any) -> Callable[[], bool]:
        current_task = trio.lowlevel.current_task

        def undisturbed() -> bool:
            try:
                return current_task() is task and not task._cancel_status.effectively_cancelled
            except RuntimeError:
                return False

        return undisturbed

    def redeliver_cancellation(self) -> None:
        """Trio delivers a cancellation that came too late at the next checkpoint by itself."""

    # Idleness

    def watch(self, watcher: Watcher) -> None:
        self.watcher = watcher
        if self._pump is None:
            if not _order.possible:
                warnings.warn(
                    f"trio {trio.__version__} does not let chrono put tasks in order: what runs "
                    "at one instant runs in any order, and traces may differ from run to run",
                    RuntimeWarning,
                    stacklevel=2,
                )
            _order.begin()
            self._pump = trio.lowlevel.spawn_system_task(self._pump_task, name="chrono pump")

    def kick(self) -> None:
        if self.in_task():
            self._end_rest()
        elif self.alive():
            self._token.run_sync_soon(self._end_rest)

    def _end_rest(self) -> None:
        if self._resting:
            self._resting = False
            if self._pump.custom_sleep_data is self:
                trio.lowlevel.reschedule(self._pump)

    async def _pump_task(self) -> None:
        trio.lowlevel.add_instrument(self._instrument)
        try:
            while True:
                if self._resting:
                    self._pump.custom_sleep_data = self
                    await trio.lowlevel.wait_task_rescheduled(_abort_at_once)
                self._instrument.reset()
                self._outcome = Idle.AGAIN
                self._waiting = True
                await trio.testing.wait_all_tasks_blocked()
                self._waiting = False
                outcome = self._last_outcome()
                if outcome is None:
                    continue
                if outcome is Idle.AGAIN:
                    outcome = self.watcher.on_idle()
                if outcome is Idle.NAP:
                    await trio.sleep(NAP)
                elif outcome is Idle.REST:
                    self._resting = True
        finally:
            trio.lowlevel.remove_instrument(self._instrument)
            _order.end()

    def _last_outcome(self) -> Idle | None:
        return self._outcome

    def threads_in_flight(self) -> int:
        return self._limiter.borrowed_tokens

    @property
    def _runner(self) -> Any:
        return self._pump._runner

    def maybe_real_waits(self) -> bool:
        return self._runner.deadlines.next_deadline() != inf or self._has_descriptors()

    def _has_descriptors(self) -> bool:
        # trio itself waits for one descriptor, which wakes it from other threads.
        return len(getattr(self._runner.io_manager, "_registered", ())) > 1

    def real_waits(self, drivers: list[Any]) -> list[RealWait]:
        ours = {id(getattr(scope, "_CancelScope__original", scope)) for scope in self.own_timeouts}
        for task in drivers:
            ours.update(id(scope) for scope in _scopes(task))
        waits = []
        for task in _family(self._runner.main_task):
            for scope in _scopes(task):
                if scope.deadline not in (inf, -inf) and id(scope) not in ours:
                    ours.add(id(scope))
                    waits.append(self._wait("a timer of the event loop", task))
        return waits + self._descriptor_waits()

    def _descriptor_waits(self) -> list[RealWait]:
        waits = []
        for task in _family(self._runner.main_task):
            stack = frames(task.coro)
            if any(frame.f_code.co_name in _DESCRIPTOR_WAITS for frame in stack):
                waits.append(self._wait("a descriptor", task))
        return waits

    def _wait(self, what: str, task: Any) -> RealWait:
        return RealWait(what, self.task_name(task), *user_line(frames(task.coro)))


# The functions of trio that wait for a descriptor.
_DESCRIPTOR_WAITS = ("_epoll_wait", "_wait_common", "_afd_poll")


def _family(task: Any) -> list[Any]:
    """A task and those under it, parents first, in the order in which they were started."""
    found = []
    waiting = deque([task])
    while waiting:
        task = waiting.popleft()
        found.append(task)
        for nursery in task.child_nurseries:
            waiting += sorted(nursery.child_tasks, key=lambda child: child._counter)
    return found


def _scopes(task: Any) -> list[Any]:
    """The cancel scopes around a task, innermost first."""
    found = []
    status = task._cancel_status
    while status is not None:
        found.append(status._scope)
        status = status._parent
    return found


class _Rounds(trio.abc.Instrument):
    """Counts the rounds since the last idleness, and finds out who keeps running."""

    def __init__(self, run: TrioRun) -> None:
        self.rounds = 0
        self._run = weakref.ref(run)
        self._recorder = _Recorder()
        self._recording = False

    def reset(self) -> None:
        self.rounds = 0
        if self._recording:
            self._recording = False
            trio.lowlevel.remove_instrument(self._recorder)

    def after_io_wait(self, timeout: float) -> None:
        run = self._run()
        if run is None or run._resting:
            return
        runner = run._pump._runner
        if timeout == 0 and not runner.runq and run._waiting:
            # trio is about to wake the pump. Instead of making it run for each wake-up of
            # another task, do here what it would do, unless it has to do something else.
            self.reset()
            # Where somebody else waits for the same moment, he is woken with the pump, and goes on
            # before it.
            alone = len(runner.waiting_for_idle) == 1
            run._outcome = run.watcher.on_idle() if alone else None
            return
        self._count(run)

    def _count(self, run: TrioRun) -> None:
        self.rounds += 1
        if self.rounds < run.livelock_after:
            return
        if not self._recording and self.rounds == run.livelock_after:
            self._recording = True
            self._recorder.names.clear()
            trio.lowlevel.add_instrument(self._recorder)
        elif self._recording and self.rounds >= run.livelock_after + LIVELOCK_SAMPLE:
            names = list(self._recorder.names)
            self._recording = False
            trio.lowlevel.remove_instrument(self._recorder)
            self.rounds = 0
            run.watcher.on_livelock(names)


class _Recorder(trio.abc.Instrument):
    def __init__(self) -> None:
        self.names: dict[str, None] = {}

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.names[task.name] = None


# One order


class _LoadedDice:
    """Stands in for the generator that trio asks whether to reverse a batch: it always does."""

    def __init__(self, fair: Any) -> None:
        self._fair = fair

    def random(self) -> float:
        return 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fair, name)


class _Order:
    """Puts the tasks of every trio run in order, first in, first out, while anybody wants that."""

    def __init__(self) -> None:
        self._runs = 0
        self._lock = threading.Lock()
        self._module: Any = getattr(trio._core, "_run", None)
        self._saved: dict[str, Any] = {}

    @property
    def possible(self) -> bool:
        """Whether this version of trio has what it takes."""
        return hasattr(self._module, "_r")

    def begin(self) -> None:
        with self._lock:
            self._runs += 1
            if self._runs == 1 and self.possible:
                # Where Hypothesis is installed, it has trio sort each batch before it shuffles it.
                for name in ("_r", "_ALLOW_DETERMINISTIC_SCHEDULING"):
                    if hasattr(self._module, name):
                        self._saved[name] = getattr(self._module, name)
                self._module._r = _LoadedDice(self._saved["_r"])
                self._module._ALLOW_DETERMINISTIC_SCHEDULING = False

    def end(self) -> None:
        with self._lock:
            self._runs -= 1
            if self._runs == 0:
                for name, value in self._saved.items():
                    setattr(self._module, name, value)
                self._saved.clear()


_order = _Order()
