"""asyncio, with the standard library's event loop or with uvloop.

How idleness is decided. The loop keeps every callback that can run in one first-in-first-out
queue: the steps of tasks, the callbacks of futures, what `call_soon` was given. The pump is such
a callback. When it runs and the queue is empty, nothing else can run before something outside
the loop happens, however long the chain of callbacks was that ended just now. Otherwise it puts
itself at the end of the queue and looks again one round later.

uvloop has such a queue but does not show it, so the run keeps a mirror of it by standing in for
`call_soon`, through which asyncio's own tasks and futures schedule everything that they do.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from math import inf
from types import FunctionType, MethodType
from typing import Any

import anyio
import anyio.lowlevel
from anyio._backends._asyncio import _task_states

from ._base import Idle, RealWait, Run, Waiter, Watcher, frames, user_line

NAP = 0.001

# The loop polls its descriptors and timers once a round. While time is simulated, nobody waits for
# those, so the pump runs so many rounds itself before it lets the loop poll again.
ROUNDS_AT_ONCE = 100


class AsyncioWaiter:
    __slots__ = ("future", "subject", "task")

    def __init__(self, future: asyncio.Future[None], task: Any, subject: object) -> None:
        self.future = future
        self.task = task
        self.subject = subject

    def __await__(self) -> Generator[Any, Any, None]:
        state = _task_states.get(self.task)
        if state is not None and _is_cancelled(state.cancel_scope):
            # Parked, the task would be cancelled a round later than on trio.
            self.future.cancel()
            return _cancelled().__await__()
        return self.future.__await__()

    def wake(self) -> bool:
        if self.future.done():
            return False
        self.future.set_result(None)
        return True

    @property
    def parked(self) -> bool:
        return not self.future.done()

    @property
    def woken(self) -> bool:
        return self.future.done() and not self.future.cancelled()


class AsyncioReader(AsyncioWaiter):
    __slots__ = ("_descriptor", "_run")

    def __init__(self, run: AsyncioRun, task: Any, subject: object, descriptor: int) -> None:
        super().__init__(run.new_future(), task, subject)
        self._run = run
        self._descriptor = descriptor

    def __await__(self) -> Generator[Any, Any, None]:
        self._run.start_reading(self._descriptor, self)
        try:
            yield from super().__await__()
        finally:
            self._run.stop_reading(self._descriptor, self)


class _Look:
    """That the loop looks at a descriptor: for whom, and whether the next event is an old one."""

    __slots__ = ("old", "reader")

    def __init__(self) -> None:
        self.reader: AsyncioReader | None = None
        self.old = False


class _Yield:
    """Yield to the event loop for one round."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        yield


class _Checkpoint:
    """Yield for one round; where that was cancelled, raise a round later, as trio does."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        try:
            yield
        except asyncio.CancelledError:
            yield
            raise


_YIELD = _Yield()
_CHECKPOINT = _Checkpoint()


async def _cancelled() -> None:
    """Wait for the cancellation that is on its way to the current task."""
    while True:
        await _YIELD


def _is_cancelled(scope: Any) -> bool:
    """Whether what is inside this scope of anyio's is being cancelled."""
    while scope is not None:
        if scope._cancel_called:
            return True
        if scope._shield:
            return False
        scope = scope._parent_scope
    return False


class AsyncioRun(Run):
    __slots__ = (
        "_get_task",
        "_limiter",
        "_looks",
        "_loop",
        "_owed",
        "_pump_handle",
        "_queue",
        "_rounds",
        "sees_real_waits",
    )

    current_task = staticmethod(asyncio.current_task)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        # The task that this loop, in whichever thread, runs now. Python 3.11 takes ten times as
        # long for `asyncio.current_task` and for `asyncio.get_running_loop`.
        self._get_task: Callable[[], Any] = (
            partial(asyncio.tasks._current_tasks.get, loop)  # type: ignore[attr-defined]
            if sys.version_info < (3, 12)
            else partial(asyncio.current_task, loop)
        )
        self._limiter = self._thread_limiter()
        self._pump_handle: asyncio.Handle | None = None
        self._rounds = 0
        # Tasks that swallowed a native cancellation, and get it again in the next round.
        self._owed: set[Any] = set()
        # The descriptors that the loop looks at for a reader, or for one that was there just now.
        self._looks: dict[int, _Look] = {}
        self._queue: Any = getattr(loop, "_ready", None)
        self.sees_real_waits = hasattr(loop, "_scheduled") and hasattr(loop, "_selector")

    def _thread_limiter(self) -> Any:
        return anyio.to_thread.current_default_thread_limiter()

    @staticmethod
    def of(loop: asyncio.AbstractEventLoop) -> AsyncioRun:
        run: AsyncioRun | None = loop.__dict__.get("_chrono_run")
        if run is None:
            run = loop.__dict__["_chrono_run"] = AsyncioRun(loop)
        return run

    def is_current(self) -> bool:
        return asyncio._get_running_loop() is self._loop

    def in_task(self) -> bool:
        return threading.get_ident() == self.thread and self._get_task() is not None

    def task_name(self, task: Any) -> str:
        return str(task.get_name())

    def coroutine(self, task: Any) -> Any:
        return task.get_coro()

    def alive(self) -> bool:
        return not self._loop.is_closed() and self._loop.is_running()

    def call_threadsafe(self, callback: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(callback)

    def call_soon(self, callback: Callable[[], object]) -> None:
        self._loop.call_soon(callback)

    # Waiting

    def waiter(self, subject: object) -> Waiter:
        return AsyncioWaiter(self._loop.create_future(), self._get_task(), subject)

    def reader(self, subject: object, descriptor: int) -> Waiter:
        return AsyncioReader(self, self._get_task(), subject, descriptor)

    def new_future(self) -> asyncio.Future[None]:
        return self._loop.create_future()

    # Most who have read wait again at once. To tell the loop that they do, and then that they do
    # not, takes longer than all the rest of a wait, so the loop goes on looking until it finds
    # something that nobody waits for. Simulated time takes what the loop looks at for something
    # real, so that it is told each time there.

    def start_reading(self, descriptor: int, reader: AsyncioReader) -> None:
        look = self._looks.get(descriptor)
        if look is None:
            look = self._looks[descriptor] = _Look()
            self._loop.add_reader(descriptor, self._on_readable, descriptor)
        look.reader = reader

    def stop_reading(self, descriptor: int, reader: AsyncioReader) -> None:
        look = self._looks.get(descriptor)
        if look is not None and look.reader is reader:
            look.reader = None
            if self.watcher is not None:
                self.forget_descriptor(descriptor)

    def _on_readable(self, descriptor: int) -> None:
        look = self._looks.get(descriptor)
        if look is None:
            return
        if look.old:
            look.old = False
        elif look.reader is None:
            self.forget_descriptor(descriptor)
        else:
            # The loop polls once more before the reader gets to read. Should it be a new event, it
            # is found again in the round after.
            look.old = look.reader.wake()

    def forget_descriptor(self, descriptor: int) -> None:
        if self._looks.pop(descriptor, None) is not None:
            self._loop.remove_reader(descriptor)

    def checkpoint(self) -> Awaitable[None]:
        return _CHECKPOINT

    async def checkpoint_if_cancelled(self) -> None:
        task = asyncio.current_task()
        if task is not None and not self.undisturbed(task)():
            # The cancellation is delivered while the task is suspended.
            await _YIELD
            await anyio.lowlevel.checkpoint_if_cancelled()

    def undisturbed(self, task: Any) -> Callable[[], bool]:
        get_task, get_ident, thread = self._get_task, threading.get_ident, self.thread
        state: Any = _task_states.get(task)
        owed = self._owed

        def undisturbed() -> bool:
            nonlocal state
            if get_task() is not task or get_ident() != thread:
                return False
            if task._must_cancel or (owed and task in owed):
                return False
            if state is None:
                # A task that entered no scope of anyio's so far: it may have done so since.
                state = _task_states.get(task)
                if state is None:
                    return True
            # As in `_is_cancelled`: this is the hot path of channels.
            scope = state.cancel_scope
            while scope is not None:
                if scope._cancel_called:
                    return False
                if scope._shield:
                    return True
                scope = scope._parent_scope
            return True

        return undisturbed

    def redeliver_cancellation(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._owed.add(task)
        self._loop.call_soon(self._cancel_again, task, task.cancelling())

    def _cancel_again(self, task: asyncio.Task[Any], requests: int) -> None:
        self._owed.discard(task)
        state: Any = _task_states.get(task)
        if state is not None and _is_cancelled(state.cancel_scope):
            return  # anyio cancels again by itself, and knows only its own cancellations
        # Whoever asked may have withdrawn by now, as `asyncio.timeout` does on leaving.
        if not task.done() and task.cancelling() >= requests:
            task.uncancel()
            task.cancel()

    # Idleness

    def watch(self, watcher: Watcher) -> None:
        self.watcher = watcher
        for descriptor, look in list(self._looks.items()):
            if look.reader is None:
                self.forget_descriptor(descriptor)
        if not isinstance(self._queue, deque):
            self._queue = _Mirror(self._loop)

    def kick(self) -> None:
        if self.in_task():
            self._start_pump()
        elif self.alive():
            self._loop.call_soon_threadsafe(self._start_pump)

    def _start_pump(self) -> None:
        if self._pump_handle is None:
            self._pump_handle = self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        # The handle stays while this runs: a kick from what it runs need not start another.
        delay: float | None = 0.0
        try:
            delay = self._run_rounds()
        finally:
            if delay is None:
                self._pump_handle = None
            elif delay:
                self._pump_handle = self._loop.call_later(delay, self._pump)
            else:
                self._pump_handle = self._loop.call_soon(self._pump)

    def _run_rounds(self) -> float | None:
        """One look at the queue, or many; seconds until the next, or None for none."""
        queue = self._queue
        rounds_here = 1
        if not queue and self._may_run_queue():
            # The loop counts on what is in the queue when a round begins; now that is nothing.
            rounds_here = ROUNDS_AT_ONCE
        for _ in range(rounds_here):
            if not queue:
                self._rounds = 0
                outcome = self.watcher.on_idle()
                if outcome is not Idle.AGAIN:
                    return NAP if outcome is Idle.NAP else None
            else:
                self._rounds += 1
                if self._rounds >= self.livelock_after:
                    self._rounds = 0
                    self.watcher.on_livelock(self._runnable())
            if rounds_here > 1:
                for _ in range(len(queue)):
                    handle = queue.popleft()
                    if not handle._cancelled:
                        handle._run()
                    if self._loop._stopping:  # type: ignore[attr-defined]
                        return 0.0
        return 0.0

    def _may_run_queue(self) -> bool:
        """Whether the pump may run what is in the queue, as the loop would, to save its polls."""
        return type(self._queue) is deque and not self._loop.get_debug()

    def _runnable(self) -> list[str]:
        """The names of the tasks in the queue, each once, in order."""
        names: dict[str, None] = {}
        for handle in list(self._queue):
            callback = getattr(handle, "_callback", handle)
            task = getattr(callback, "__self__", None)
            if isinstance(task, asyncio.Task):
                names[task.get_name()] = None
        return list(names)

    def threads_in_flight(self) -> int:
        return int(self._limiter.borrowed_tokens)

    def maybe_real_waits(self) -> bool:
        if not self.sees_real_waits:
            return False
        loop: Any = self._loop
        return bool(loop._scheduled) or len(loop._selector.get_map()) > 1

    def real_waits(self, drivers: list[Any]) -> list[RealWait]:
        ours = {id(scope) for scope in self.own_timeouts}
        waits = []
        if not self.sees_real_waits:
            return []
        loop: Any = self._loop
        awaiting = {getattr(task, "_fut_waiter", None): task for task in asyncio.all_tasks(loop)}
        for timer in sorted(loop._scheduled, key=lambda timer: timer._when):
            if timer._cancelled or timer is self._pump_handle or timer._when == inf:
                continue
            owner = getattr(timer._callback, "__self__", None)
            task = getattr(owner, "_host_task", None) or getattr(owner, "_task", None)
            if id(owner) in ours or (task in drivers and task is not None):
                continue
            if task is None and timer._args:
                task = _task_awaiting(awaiting, timer._args[0])
            waits.append(self._wait("a timer of the event loop", task, timer._callback))
        return waits + self._descriptor_waits()

    def _descriptor_waits(self) -> list[RealWait]:
        waits = []
        loop: Any = self._loop
        awaiting = {getattr(task, "_fut_waiter", None): task for task in asyncio.all_tasks(loop)}
        for key in list(loop._selector.get_map().values()):
            if key.fd == loop._ssock.fileno():
                continue  # which wakes the loop from other threads
            handle = next((handle for handle in key.data or () if handle is not None), None)
            future = handle._args[0] if handle is not None and handle._args else None
            callback = handle._callback if handle is not None else None
            task = _task_awaiting(awaiting, future)
            waits.append(self._wait(f"descriptor {key.fd}", task, callback))
        return waits

    def _wait(self, what: str, task: Any, callback: Any) -> RealWait:
        if task is not None:
            filename, lineno = user_line(frames(task.get_coro()))
            return RealWait(what, task.get_name(), filename, lineno)
        function = callback.__func__ if isinstance(callback, MethodType) else callback
        name = getattr(function, "__qualname__", repr(function))
        if isinstance(function, FunctionType):
            code = function.__code__
            return RealWait(what, name, code.co_filename, code.co_firstlineno)
        return RealWait(what, name, "<unknown>", 0)


def _task_awaiting(awaiting: dict[Any, Any], future: object) -> Any:
    return awaiting.get(future) if isinstance(future, asyncio.Future) else None


class _Mirror:
    """The callbacks that a loop has yet to run, for a loop that does not show them."""

    def __init__(self, loop: Any) -> None:
        self._handles: deque[asyncio.Handle] = deque()
        self._thread = threading.get_ident()
        self._call_soon = loop.call_soon
        self._call_soon_threadsafe = loop.call_soon_threadsafe
        # What was scheduled before now is unknown, but runs before this does.
        self._settled = False
        self._call_soon(self._settle)
        try:
            loop.call_soon = self.call_soon
            loop.call_soon_threadsafe = self.call_soon_threadsafe
        except AttributeError:
            raise RuntimeError(
                f"SimClock cannot tell when {type(loop).__qualname__} is idle: run the "
                "simulation on asyncio's own event loop, uvloop or trio"
            ) from None

    def _settle(self) -> None:
        self._settled = True

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.Handle:
        def run(*args: Any) -> None:
            # First in, first out: what stands before this one was cancelled.
            while self._handles.popleft() is not handle:
                pass
            callback(*args)

        run.__self__ = getattr(callback, "__self__", None)  # type: ignore[attr-defined]
        handle: asyncio.Handle = self._call_soon(run, *args, context=context)
        self._handles.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.Handle:
        if threading.get_ident() == self._thread:
            self._call_soon_threadsafe(int)  # wakes the loop, should this be a signal handler
            return self.call_soon(callback, *args, context=context)
        handle: asyncio.Handle = self._call_soon_threadsafe(callback, *args, context=context)
        return handle

    def __len__(self) -> int:
        handles = self._handles
        while handles and handles[0].cancelled():
            handles.popleft()
        return len(handles) if self._settled else len(handles) + 1

    def __iter__(self) -> Any:
        return iter(self._handles)
