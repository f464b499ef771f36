"""What of anyio and asyncio is replaced while a simulation runs on asyncio.

Sets of tasks and scopes get an order, and the rounds of anyio are made equal to those on trio.

How the rounds are made equal to trio's. When a task of a task group ends, anyio puts a callback
into the queue, and what follows comes a round later than on trio: here, it runs at once. Where a
task begins to wait inside of a scope that was cancelled before, anyio finds it by going through all
of its tasks once a round: here, it is cancelled at once. And a checkpoint that is cancelled raises
in the round after the next, as that of trio does.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from types import CodeType
from typing import Any

import anyio._backends._asyncio as anyio_backend
from anyio._backends._asyncio import (
    AsyncIOBackend,
    CancelScope,
    TaskGroup,
    WorkerThread,
    _task_states,
)

from ._asyncio import _CHECKPOINT, _cancelled
from ._shim import OrderedSet, Patch, Shim, ordered


def _done_callback() -> CodeType | None:
    """The code of what anyio calls at the end of a task of a task group."""
    for constant in TaskGroup._spawn.__code__.co_consts:
        if isinstance(constant, CodeType) and constant.co_name == "task_done":
            return constant
    return None


TASK_DONE = _done_callback()
GROUP = TASK_DONE.co_freevars.index("self") if TASK_DONE is not None else 0
DELIVER = getattr(CancelScope, "_deliver_cancellation", None)


def _virtual_loop() -> Any:
    """The running event loop, where that is in virtual time."""
    loop = asyncio._get_running_loop()
    return loop if hasattr(loop, "visitors") else None


def _wait_all_tasks_blocked(original: Any) -> Any:
    async def wait_all_tasks_blocked(cls: Any) -> None:
        loop = _virtual_loop()
        if loop is not None:
            await loop.run.watcher.settle()
        else:
            await original.__func__(cls)

    return classmethod(wait_all_tasks_blocked)


def _cancelled_scope(task: Any) -> Any:
    """The innermost scope that was cancelled, and that the task is inside of."""
    state = _task_states.get(task)
    scope: Any = None if state is None else state.cancel_scope
    while scope is not None and not scope._cancel_called:
        scope = None if scope._shield else scope._parent_scope
    return scope


def deliver_cancellation(task: Any) -> None:
    """Cancel a task that is inside of a cancelled scope, as anyio would in the next round."""
    origin = _cancelled_scope(task)
    if origin is None or task._must_cancel:
        return
    waiter = task._fut_waiter
    if isinstance(waiter, asyncio.Future) and waiter.done():
        return
    task.cancel(origin._cancel_reason)
    if task is origin._host_task and origin._pending_uncancellations is not None:
        origin._pending_uncancellations += 1


async def checkpoint() -> None:
    """Yield for one round; inside of a cancelled scope, raise in the round after it."""
    await _CHECKPOINT
    task = asyncio.current_task()
    if _cancelled_scope(task) is not None:
        deliver_cancellation(task)
        await _cancelled()


def _checkpoint(original: Any) -> Any:
    async def backend_checkpoint(cls: Any) -> None:
        await (checkpoint() if _virtual_loop() is not None else original.__func__(cls))

    return classmethod(backend_checkpoint)


def _checkpoint_if_cancelled(original: Any) -> Any:
    async def checkpoint_if_cancelled(cls: Any) -> None:
        if _virtual_loop() is None:
            await original.__func__(cls)
        elif _cancelled_scope(asyncio.current_task()) is not None:
            await checkpoint()

    return classmethod(checkpoint_if_cancelled)


def _sleep(original: Any) -> Any:
    async def sleep(cls: Any, delay: float) -> None:
        if delay <= 0 and _virtual_loop() is not None:
            await checkpoint()
        else:
            await original.__func__(cls, delay)

    return classmethod(sleep)


def _worker_thread(original: Any) -> Any:
    async def run_sync_in_worker_thread(cls: Any, *args: Any, **options: Any) -> Any:
        loop = _virtual_loop()
        if loop is not None:
            loop.uses_workers = True
        return await original.__func__(cls, *args, **options)

    return classmethod(run_sync_in_worker_thread)


def _from_thread(original: Any) -> Any:
    def run_async_from_thread(cls: Any, func: Any, args: Any, token: Any) -> Any:
        if not isinstance(threading.current_thread(), WorkerThread):
            return original.__func__(cls, func, args, token)

        async def visit(*args: Any) -> Any:
            loop = _virtual_loop()
            if loop is None:
                return await func(*args)
            loop.visitors += 1
            try:
                return await func(*args)
            finally:
                loop.visitors -= 1

        return original.__func__(cls, visit, args, token)

    return classmethod(run_async_from_thread)


_VISITORS = "simulated time stands still while a worker thread waits for the event loop"
_THREADS = "simulated time does not wait for the worker threads of anyio"
_ORDER = "what is cancelled at one instant ends in an order that differs from run to run"
_IDLE = "anyio.wait_all_tasks_blocked lets simulated time pass"
_ROUNDS = "what happens at one instant may come in another order than on trio"


def _sets() -> Iterable[Patch]:
    for module in (anyio_backend, getattr(asyncio, "taskgroups", None)):
        yield Patch(module, "set", lambda _: ordered, _ORDER, builtin=True)
    yield Patch(asyncio.tasks, "set", lambda _: OrderedSet, _ORDER, builtin=True)


shim = Shim(
    "anyio or asyncio",
    [
        *_sets(),
        Patch(AsyncIOBackend, "wait_all_tasks_blocked", _wait_all_tasks_blocked, _IDLE),
        Patch(AsyncIOBackend, "checkpoint", _checkpoint, _ROUNDS),
        Patch(AsyncIOBackend, "checkpoint_if_cancelled", _checkpoint_if_cancelled, _ROUNDS),
        Patch(AsyncIOBackend, "sleep", _sleep, _ROUNDS),
        Patch(AsyncIOBackend, "run_sync_in_worker_thread", _worker_thread, _THREADS),
        Patch(AsyncIOBackend, "run_async_from_thread", _from_thread, _VISITORS),
    ],
)
