"""Several workers that take requests from one source."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor, wait
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast, overload

import anyio
from chrono_core import EndOfStream, ReceiveStream, SendStream
from chrono_core.lowlevel import Event, Waiter, checkpoint, new_waiter, wait_any

from ._common import (
    GONE,
    ITEMS_PER_YIELD,
    check_callable,
    check_count,
    check_receive,
    check_send,
    gone,
)
from ._drops import OnDrop, ignore
from ._shared_send import SharedSend

Req = TypeVar("Req")
Resp = TypeVar("Resp")


@dataclass(frozen=True, slots=True)
class Done(Generic[Req, Resp]):
    """A request that was handled.

    Attributes:
        request: the request.
        value: what the handler returned; None where it failed.
        error: what the handler raised; None where it returned.
    """

    request: Req
    value: Resp | None = None
    error: Exception | None = None

    def unwrap(self) -> Resp:
        """What the handler returned, or raise what it raised."""
        if self.error is not None:
            raise self.error
        return cast(Resp, self.value)


@overload
def worker_pool(
    incoming: ReceiveStream[Req],
    results: SendStream[Done[Req, Resp]],
    handle: Callable[[Req], Awaitable[Resp]],
    *,
    workers: int,
    executor: None = None,
    close_results: bool = True,
    on_drop: OnDrop[Req] = ignore,
) -> Coroutine[Any, Any, None]: ...


@overload
def worker_pool(
    incoming: ReceiveStream[Req],
    results: SendStream[Done[Req, Resp]],
    handle: Callable[[Req], Resp],
    *,
    workers: int,
    executor: Executor,
    close_results: bool = True,
    on_drop: OnDrop[Req] = ignore,
) -> Coroutine[Any, Any, None]: ...


def worker_pool(
    incoming: ReceiveStream[Any],
    results: SendStream[Done[Any, Any]],
    handle: Callable[[Any], Any],
    *,
    workers: int,
    executor: Executor | None = None,
    close_results: bool = True,
    on_drop: OnDrop[Any] = ignore,
) -> Coroutine[Any, Any, None]:
    """Handle requests in several workers; whoever is idle takes the next.

    Requests are taken in order; results go out in the order in which they are ready, each with its
    request. An exception of the handler is such a result, and the worker goes on.

    When the source ends, what is being handled is finished and sent, then the results are closed,
    and the call returns. When the receiver of the results goes, the source is closed, so that its
    sender is told; what is being handled is finished and dropped, and the call returns. When the
    source fails, or a result cannot be sent, that error is raised. Then, and when cancelled, the
    workers are cancelled one after another, in order, their requests are dropped, and nothing is
    closed. What no worker has taken is still in the source.

    Args:
        incoming: where to take requests from.
        results: where to send what became of them.
        handle: an async function of a request; with an executor, a function that is not async.
        workers: how many requests are handled at once.
        executor: where to call the handler: any executor of ``concurrent.futures``. While it works,
            simulated time stands still. A call that runs cannot be cancelled and is waited for;
            one that still waits in the executor is taken back, so these are dropped first.
        close_results: whether to close the results when the source has ended.
        on_drop: called with a request and ``"cancelled"``, ``"results gone"`` or ``"failed"``.

    Raises:
        TypeError: these are not ends of channels, or the handler and the executor do not fit.
        ValueError: there is not at least one worker.
    """
    check_receive(incoming, "incoming")
    check_send(results, "results")
    check_count(workers, "workers")
    if not callable(handle):
        raise TypeError(f"handle must be a function of a request, got {handle!r}")
    check_callable(on_drop, "on_drop")
    if executor is not None:
        if not isinstance(executor, Executor):
            raise TypeError(f"executor must be one of concurrent.futures, got {executor!r}")
        called: Any = type(handle).__call__
        if inspect.iscoroutinefunction(handle) or inspect.iscoroutinefunction(called):
            raise TypeError(
                f"handle must not be async where an executor calls it, got {handle!r}: leave out "
                "the executor, or give a plain function"
            )
        handle = _Remote(executor, handle)
    return _worker_pool(incoming, results, handle, workers, on_drop, close_results)


async def _worker_pool(
    incoming: ReceiveStream[Any],
    results: SendStream[Done[Any, Any]],
    handle: Callable[[Any], Awaitable[Any]],
    workers: int,
    on_drop: OnDrop[Any],
    close_results: bool,
) -> None:
    # Only now does an event loop run, which the pool's scopes need.
    await _Pool(incoming, results, handle, workers, on_drop).run(close_results)


class _Remote:
    """A handler that is called by an executor."""

    def __init__(self, executor: Executor, handle: Callable[[Any], Any]) -> None:
        self._executor = executor
        self._handle = handle

    async def __call__(self, request: Any) -> Any:
        future = self._executor.submit(self._handle, request)
        try:
            return await anyio.to_thread.run_sync(future.result, abandon_on_cancel=True)
        except anyio.get_cancelled_exc_class():
            if not future.cancel():
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(wait, [future])
            raise


def _awaitable(result: object) -> Awaitable[Any]:
    if isinstance(result, Awaitable):
        return result
    raise TypeError(
        f"handle returned {result!r}, which cannot be awaited: make it async, or give an executor "
        "that calls it"
    )


class _Pool:
    """One run of a pool."""

    def __init__(
        self,
        incoming: ReceiveStream[Any],
        results: SendStream[Done[Any, Any]],
        handle: Callable[[Any], Awaitable[Any]],
        workers: int,
        on_drop: OnDrop[Any],
    ) -> None:
        self._incoming = incoming
        self._results = results
        self._handle = handle
        self._on_drop = on_drop
        # One worker waits for a request, or none does; the others wait for their turn to.
        self._watching = False
        self._idle: dict[Waiter, None] = {}
        self._outlet = SharedSend(results)
        self._served = 0
        self._over = False
        self._results_gone = False
        self._workers = [_Worker(n) for n in range(workers)]
        self._working = workers
        self._failure: BaseException | None = None
        self._finished = Event("the workers of a pool")

    async def run(self, close_results: bool) -> None:
        # The workers are shielded: trio would cancel them in an order of its own.
        async with anyio.create_task_group() as tasks:
            for worker in self._workers:
                tasks.start_soon(self._work, worker, name=f"worker-{worker.number}")
            try:
                await self._finished.wait()
            finally:
                await self._cancel_workers()
            # Until tasks are gone takes another round on asyncio than on trio.
            await checkpoint()
        if self._failure is not None:
            raise self._failure
        if close_results and not self._results_gone:
            await self._results.aclose()

    async def _cancel_workers(self) -> None:
        """Cancel those that still work, one after another."""
        self._over = True  # nobody takes another request while he waits to be cancelled
        if isinstance(self._handle, _Remote):
            # All at once: an executor would go on to the calls that are still waiting in it.
            for worker in self._workers:
                worker.scope.cancel()
        try:
            for worker in self._workers:
                if not worker.gone.is_set():
                    worker.scope.cancel()
                    with anyio.CancelScope(shield=True):
                        await worker.gone.wait()
        finally:
            # A second native cancellation does not mind the shield.
            for worker in self._workers:
                worker.scope.cancel()

    async def _work(self, worker: _Worker) -> None:
        try:
            with worker.scope:
                while not self._over:
                    if self._watching or not self._incoming.ready():
                        await self._wait_for_request()
                    for request in self._take():
                        await self._serve(worker, request)
                        del request  # an idle worker keeps nothing alive
                    self._served += 1
                    if not self._served % ITEMS_PER_YIELD:
                        await checkpoint()
        except BaseException as error:
            # Also where a handler raised a cancellation that was none of this worker's.
            self._failure = self._failure or error
            self._finished.set()
        finally:
            worker.gone.set()
            self._working -= 1
            if not self._working:
                self._finished.set()

    async def _wait_for_request(self) -> None:
        """Wait until there is a request to take, or there will be no more."""
        while self._watching or not (self._over or self._incoming.ready()):
            if self._watching:
                await self._wait_for_turn()
            else:
                await self._watch()

    def _take(self) -> list[Any]:
        """The next request, or none where there will be no more."""
        # While this one is busy, another has to wait for requests.
        self._call_next()
        if self._over:
            return []
        try:
            return [self._incoming.receive_nowait()]
        except EndOfStream:
            self._over = True
            return []

    async def _watch(self) -> None:
        """Wait for a request, or for the results to be wanted no more."""
        self._watching = True
        try:
            await wait_any(self._incoming, closing=(self._results,))
        finally:
            self._watching = False
        if not self._incoming.ready() and gone(self._results):
            await self._give_up()

    async def _wait_for_turn(self) -> None:
        waiter = new_waiter("its turn in a worker pool")
        self._idle[waiter] = None
        try:
            await waiter
        finally:
            del self._idle[waiter]

    def _call_next(self) -> None:
        """Have one of those who wait for their turn look again."""
        for waiter in self._idle:
            if waiter.woken or waiter.wake():
                return

    async def _serve(self, worker: _Worker, request: Any) -> None:
        try:
            try:
                done = Done(request, await _awaitable(self._handle(request)))
            except Exception as error:
                done = Done(request, None, error)
            await self._outlet.send(done)
        except GONE:
            self._on_drop(request, "results gone")
            await self._give_up()
        except BaseException:
            self._on_drop(request, "cancelled" if worker.scope.cancel_called else "failed")
            raise

    async def _give_up(self) -> None:
        """Nobody wants results any more."""
        self._over = self._results_gone = True
        await self._incoming.aclose()


class _Worker:
    """One worker's way to be cancelled."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.scope = anyio.CancelScope(shield=True)
        self.gone = Event(f"worker {number} of a pool")
