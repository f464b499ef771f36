import asyncio
import functools
import gc
import math
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from typing import Any

import anyio
import pytest
from chrono_core import (
    ChannelClosed,
    EndOfStream,
    SimClock,
    open_channel,
)
from chrono_core.lowlevel import checkpoint
from chrono_core.testing import Trace, assert_one_trace, collect, feed
from chrono_recipes import Done, Drops, worker_pool

from tests.core.scheduling import rounds, until

from .ends import Broken, ProbeReceive
from .routing import drain, echo

ONLY_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"])


class Refusal(Exception):
    """A handler that fails on purpose."""


async def run_pool(requests: list[Any], handle: Any, **options: Any) -> list[Done[Any, Any]]:
    """Handle these, and return what became of them."""
    incoming, results = open_channel[Any](math.inf), open_channel[Any](math.inf)
    for request in requests:
        incoming.send.send_nowait(request)
    await incoming.send.aclose()
    await worker_pool(incoming.recv, results.send, handle, **options)
    return await collect(results.recv)


# Handling


async def test_results_come_in_the_order_in_which_they_are_ready() -> None:
    """Requests are taken in order, and each result has its request."""
    clock = SimClock()
    begun = []

    async def handle(seconds: int) -> str:
        begun.append(seconds)
        await clock.sleep(seconds)
        return f"{seconds} s"

    async with anyio.create_task_group() as tasks:
        done: list[Any] = []

        async def call() -> None:
            done.extend(await run_pool([5, 1, 3, 1], handle, workers=2))

        tasks.start_soon(call)
        await clock.advance(10)
    assert begun == [5, 1, 3, 1]
    assert [one.request for one in done] == [1, 3, 5, 1]
    assert all(one == Done(one.request, f"{one.request} s", None) for one in done)


@pytest.mark.parametrize("workers", [1, 3, 8])
async def test_no_more_than_so_many_requests_are_handled_at_once(workers: int) -> None:
    """All workers work while there are requests, and never more than these."""
    clock = SimClock()
    now = most = 0

    async def handle(request: int) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await clock.sleep(1)
        now -= 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(functools.partial(run_pool, workers=workers), list(range(24)), handle)
        await clock.advance(24 / workers)
        assert now == 0
    assert most == workers


async def test_idle_worker_takes_the_next_request() -> None:
    """A worker that is busy holds up nothing: the others go on without it."""
    clock = SimClock()
    incoming, results = open_channel[int](9), open_channel[Done[int, int]](9)

    async def handle(seconds: int) -> int:
        await clock.sleep(seconds)
        return seconds

    async with anyio.create_task_group() as tasks:
        pool = functools.partial(worker_pool, workers=2)
        tasks.start_soon(pool, incoming.recv, results.send, handle)
        for seconds in (100, 1, 1, 1):
            incoming.send.send_nowait(seconds)
        await clock.advance(3)
        assert [done.request for done in drain(results.recv)] == [1, 1, 1]
        await incoming.send.aclose()
        await clock.advance(100)


async def test_exception_of_the_handler_is_a_result() -> None:
    """It comes with its request, the worker goes on, and ``unwrap`` raises it."""

    async def handle(request: int) -> int:
        if request % 2:
            raise Refusal(request)
        return request

    done = await run_pool(list(range(6)), handle, workers=1)
    assert [one.request for one in done] == list(range(6))
    assert [one.value for one in done] == [0, None, 2, None, 4, None]
    for one in done[1::2]:
        assert isinstance(one.error, Refusal)
        with pytest.raises(Refusal) as caught:
            one.unwrap()
        assert caught.value is one.error
    assert done[2].unwrap() == 2


async def test_handler_that_is_not_async_is_told_so() -> None:
    """Each result says what to do, as for any exception of the handler."""
    requests, results = open_channel[int](1), open_channel[Done[int, int]](1)
    await feed(requests.send, [7])
    handle: Any = str
    await worker_pool(requests.recv, results.send, handle, workers=1)
    (done,) = await collect(results.recv)
    assert isinstance(done.error, TypeError)
    assert str(done.error) == (
        "handle returned '7', which cannot be awaited: make it async, or give an executor that "
        "calls it"
    )


async def test_none_is_a_value_like_another() -> None:
    """A handler that returns None has not failed."""

    async def handle(request: int) -> None:
        return None

    (done,) = await run_pool([1], handle, workers=1)
    assert done.error is None
    assert done.unwrap() is None


async def test_handler_may_raise_the_errors_of_channels() -> None:
    """A channel of the handler's own that is closed says nothing about the results."""
    other = open_channel[int](0)
    await other.recv.aclose()

    async def handle(request: int) -> None:
        if request == 1:
            await other.send.send(request)
        await other.recv.receive()

    errors = [type(one.error).__name__ for one in await run_pool([1, 2], handle, workers=1)]
    assert errors == ["ChannelClosed", "EndpointClosed"]


async def test_results_stay_open_if_so_asked() -> None:
    """With close_results off, the results can be used for more."""
    incoming, results = open_channel[int](1), open_channel[Any](9)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed, incoming.send, [1])
        await worker_pool(incoming.recv, results.send, echo, workers=2, close_results=False)
    results.send.send_nowait("more")
    assert drain(results.recv) == [Done(1, 1), "more"]


@pytest.mark.parametrize("size", [0, 1, 3, math.inf])
async def test_slow_receiver_of_the_results_holds_up_the_workers(size: float) -> None:
    """Each worker holds one result at most, and takes nothing meanwhile."""
    incoming, results = open_channel[int](math.inf), open_channel[Any](size)
    for n in range(20):
        incoming.send.send_nowait(n)
    async with anyio.create_task_group() as tasks:
        pool = functools.partial(worker_pool, workers=3)
        tasks.start_soon(pool, incoming.recv, results.send, echo)
        await rounds(50)
        assert incoming.recv.statistics().received == min(20, size + 3)
        await incoming.send.aclose()
        assert [done.request for done in await collect(results.recv)] == list(range(20))


# Ends, failures, cancellations


async def test_end_of_the_source_waits_for_what_is_being_handled() -> None:
    """The results end when the last has been sent."""
    clock = SimClock()
    incoming, results = open_channel[int](9), open_channel[Any](9)

    async def handle(request: int) -> int:
        await clock.sleep(5)
        return request

    async with anyio.create_task_group() as tasks:
        pool = functools.partial(worker_pool, workers=2)
        tasks.start_soon(pool, incoming.recv, results.send, handle)
        await feed(incoming.send, range(2))
        await clock.advance(4)
        assert results.send.statistics().open_send_streams
        await clock.advance(1)
        assert [done.request for done in await collect(results.recv)] == [0, 1]


async def test_results_that_nobody_wants_are_dropped_when_they_are_ready() -> None:
    """The source is closed at once where a worker is idle; busy ones finish; then it returns."""
    clock = SimClock()
    incoming, results = open_channel[int](0), open_channel[Any](0)
    drops: list[tuple[int, str]] = []
    finished = []

    async def handle(request: int) -> int:
        await clock.sleep(5)
        finished.append(request)
        return request

    async def call() -> None:
        await worker_pool(
            incoming.recv,
            results.send,
            handle,
            workers=3,
            on_drop=lambda *drop: drops.append(drop),
        )

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        for n in range(2):
            await incoming.send.send(n)
        await rounds()
        await results.recv.aclose()
        await rounds()
        with pytest.raises(ChannelClosed):
            await incoming.send.send(2)
        assert not finished
        await clock.advance(5)
    assert finished == [0, 1]
    assert drops == [(0, "results gone"), (1, "results gone")]


@pytest.mark.parametrize("order", ["gone first", "cancel first"])
async def test_cancellation_in_the_round_in_which_the_results_go_drops_all(order: str) -> None:
    """Each request that was taken is counted once, whichever came first."""
    incoming, results = open_channel[int](9), open_channel[Any](0)
    drops = Drops()
    for n in range(5):
        incoming.send.send_nowait(n)
    scope = anyio.CancelScope()

    async def call() -> None:
        with scope:
            await worker_pool(incoming.recv, results.send, echo, workers=3, on_drop=drops)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await rounds()
        if order == "cancel first":
            scope.cancel()
        await results.recv.aclose()
        scope.cancel()
    stats = incoming.recv.statistics()
    assert drops.total == stats.received == 3
    assert stats.received + stats.discarded + stats.current_buffer_used == 5


async def test_cancelled_workers_drop_their_requests_in_order() -> None:
    """One is cancelled after another, nothing is closed, and the rest is still in the source."""
    clock = SimClock()
    incoming, results = open_channel[int](9), open_channel[Any](9)
    events: list[Any] = []

    async def handle(request: int) -> None:
        try:
            await clock.sleep(100)
        finally:
            with anyio.CancelScope(shield=True):
                await rounds(5 - request)
            events.append(request)

    async def call() -> None:
        await worker_pool(
            incoming.recv,
            results.send,
            handle,
            workers=3,
            on_drop=lambda *drop: events.append(drop),
        )

    for n in range(5):
        incoming.send.send_nowait(n)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await clock.advance(1)
        tasks.cancel_scope.cancel()
    assert events == [0, (0, "cancelled"), 1, (1, "cancelled"), 2, (2, "cancelled")]
    assert drain(incoming.recv) == [3, 4]
    assert results.send.statistics().open_send_streams


async def test_worker_that_waits_to_be_cancelled_takes_nothing_more() -> None:
    """While one cleans up for long, the others finish what they have, and no more."""
    clock = SimClock()
    incoming, results = open_channel[int](9), open_channel[Any](9)
    begun = []

    async def handle(request: int) -> None:
        begun.append(request)
        try:
            await clock.sleep(1 if request else 100)
        finally:
            if not request:
                with anyio.CancelScope(shield=True):
                    await clock.sleep(50)

    for n in range(5):
        incoming.send.send_nowait(n)
    drops = Drops()
    scope = anyio.CancelScope()

    async def call() -> None:
        with scope:
            await worker_pool(incoming.recv, results.send, handle, workers=2, on_drop=drops)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await clock.advance(0.5)
        scope.cancel()
        await clock.advance(60)
    assert begun == [0, 1]
    assert [done.request for done in drain(results.recv)] == [1]
    assert drops.by_reason == {"cancelled": 1}
    assert drain(incoming.recv) == [2, 3, 4]


async def test_pool_that_is_cancelled_before_it_began_loses_nothing() -> None:
    """What workers took before they were cancelled is a result, or was dropped."""
    incoming, results = open_channel[int](9), open_channel[Any](9)
    incoming.send.send_nowait(1)
    drops = Drops()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await worker_pool(incoming.recv, results.send, echo, workers=3, on_drop=drops)
    assert scope.cancelled_caught
    assert drops.total + len(drain(incoming.recv)) + len(drain(results.recv)) == 1


def test_pool_can_be_called_where_no_event_loop_runs() -> None:
    """Only what it returns has to be awaited in one, as `asyncio.run` does."""
    incoming, results = open_channel[int](9), open_channel[Any](9)

    async def close() -> None:
        await incoming.send.aclose()

    asyncio.run(close())
    asyncio.run(worker_pool(incoming.recv, results.send, echo, workers=1))
    assert drain(results.recv) == []


@ONLY_ASYNCIO
async def test_second_native_cancellation_leaves_no_worker_behind() -> None:
    """Cancelled again while the first worker cleans up, the pool still ends, and takes nothing."""
    incoming, results = open_channel[int](9), open_channel[Any](9)
    begun = []

    async def handle(request: int) -> None:
        begun.append(request)
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await rounds(20)

    drops = Drops()
    for n in range(2):
        incoming.send.send_nowait(n)
    task = asyncio.create_task(
        worker_pool(incoming.recv, results.send, handle, workers=3, on_drop=drops)
    )
    await rounds()
    for _ in range(2):
        task.cancel()
        await rounds(3)
    for n in range(2, 5):
        incoming.send.send_nowait(n)
    await until(task.done)
    assert task.cancelled()
    assert begun == [0, 1]
    assert drops.by_reason == {"cancelled": 2}
    assert drain(incoming.recv) == [2, 3, 4]


@ONLY_ASYNCIO
async def test_cancellation_that_a_handler_raises_by_itself_fails_the_pool() -> None:
    """A handler that awaits a cancelled task does not end the pool as if all were well."""
    incoming, results = open_channel[int](9), open_channel[Any](9)

    async def handle(request: int) -> int:
        if request == 1:
            other = asyncio.create_task(asyncio.sleep(100))
            other.cancel()
            await other
        return request

    drops = Drops()
    for n in range(5):
        incoming.send.send_nowait(n)
    with pytest.raises(asyncio.CancelledError):
        await worker_pool(incoming.recv, results.send, handle, workers=1, on_drop=drops)
    assert drops.by_reason == {"failed": 1}
    assert [done.request for done in drain(results.recv)] == [0]
    assert results.send.statistics().open_send_streams
    assert drain(incoming.recv) == [2, 3, 4]


async def test_failing_source_cancels_the_workers() -> None:
    """Its own error is raised, what is being handled is dropped, and nothing is closed."""
    incoming, results = open_channel[int](9), open_channel[Any](9)
    probe = ProbeReceive(incoming.recv)
    broken = Broken()
    drops = Drops()

    async def handle(request: int) -> None:
        await anyio.sleep_forever()

    incoming.send.send_nowait(1)

    async def fail() -> None:
        await rounds()
        probe.fail(broken)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fail)
        with pytest.raises(Broken) as caught:
            await worker_pool(probe, results.send, handle, workers=3, on_drop=drops)
    assert caught.value is broken
    assert drops.by_reason == {"cancelled": 1}
    assert incoming.send.statistics().open_receive_streams
    assert results.send.statistics().open_send_streams


async def test_error_that_is_no_exception_fails_the_pool() -> None:
    """What is more than an Exception is raised, and its request is dropped as failed."""
    incoming, results = open_channel[int](9), open_channel[Any](9)

    class Fatal(BaseException):
        pass

    async def handle(request: int) -> None:
        raise Fatal

    drops = Drops()
    for n in range(2):
        incoming.send.send_nowait(n)
    with pytest.raises(Fatal):
        await worker_pool(incoming.recv, results.send, handle, workers=1, on_drop=drops)
    assert drops.by_reason == {"failed": 1}
    assert drain(incoming.recv) == [1]


async def test_results_closed_on_this_side_end_the_pool() -> None:
    """Nothing can be sent any more, so the sender of requests is told."""
    incoming, results = open_channel[int](0), open_channel[Any](0)
    async with anyio.create_task_group() as tasks:
        pool = functools.partial(worker_pool, workers=2)
        tasks.start_soon(pool, incoming.recv, results.send, echo)
        await rounds()
        await results.send.aclose()
        await rounds()
        with pytest.raises(ChannelClosed):
            await incoming.send.send(1)


# Executors


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


def square(request: int) -> int:
    if request < 0:
        raise ValueError(f"no root of {request}")
    return request * request


async def test_handler_is_called_by_an_executor(threads: ThreadPoolExecutor) -> None:
    """Results and exceptions come back as from an async handler, and off the event loop."""
    here = threading.get_ident()
    idents = set()

    def handle(request: int) -> int:
        idents.add(threading.get_ident())
        return square(request)

    done = await run_pool([1, 2, -3, 4], handle, workers=2, executor=threads)
    values = {one.request: one.value for one in done}
    assert values == {1: 1, 2: 4, -3: None, 4: 16}
    (error,) = [one.error for one in done if one.error]
    assert isinstance(error, ValueError)
    assert here not in idents


async def test_no_more_than_so_many_calls_at_once(threads: ThreadPoolExecutor) -> None:
    """An executor with more threads does not make more workers."""
    lock = threading.Lock()
    now = most = 0

    def handle(request: int) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.001)
        with lock:
            now -= 1

    await run_pool(list(range(20)), handle, workers=2, executor=threads)
    assert most <= 2


async def test_more_workers_than_anyio_has_threads(threads: ThreadPoolExecutor) -> None:
    """However many calls wait in an executor, each gets its turn."""
    done = await run_pool(list(range(200)), square, workers=100, executor=threads)
    assert sorted(one.request for one in done) == list(range(200))


async def test_time_stands_still_while_an_executor_works(threads: ThreadPoolExecutor) -> None:
    """On simulated time a call takes no time, however long it takes, and nothing overtakes it."""
    clock = SimClock()
    events: list[Any] = []
    release = threading.Event()

    def handle(request: int) -> float:
        release.wait(10)
        return clock.now()

    async def call() -> None:
        for done in await run_pool([1, 2], handle, workers=1, executor=threads):
            events.append((done.request, done.value, clock.now()))

    async def tick() -> None:
        await clock.sleep(1)
        events.append("tick")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        tasks.start_soon(tick)
        await rounds()
        threading.Timer(0.02, release.set).start()
        await clock.advance(2)
    assert events == [(1, 0.0, 0.0), (2, 0.0, 0.0), "tick"]


async def test_call_that_waits_in_an_executor_is_never_made_when_cancelled() -> None:
    """It is taken back; the one that runs is waited for to its end; both are dropped."""
    incoming, results = open_channel[int](9), open_channel[Any](9)
    begun, ended = [], []
    running, release = threading.Event(), threading.Event()

    def handle(request: int) -> None:
        begun.append(request)
        running.set()
        release.wait(10)
        ended.append(request)

    drops: list[tuple[int, str]] = []
    for n in range(4):
        incoming.send.send_nowait(n)
    with ThreadPoolExecutor(1) as executor:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:

                async def call() -> None:
                    await worker_pool(
                        incoming.recv,
                        results.send,
                        handle,
                        workers=3,
                        executor=executor,
                        on_drop=lambda *drop: drops.append(drop),
                    )

                tasks.start_soon(call)
                await anyio.to_thread.run_sync(running.wait)
                await until(lambda: executor._work_queue.qsize() == 2)
                scope.cancel()
                with anyio.CancelScope(shield=True):
                    await rounds()
                    assert not ended
                    release.set()
        assert ended == [0]
        assert executor.submit(lambda: 7).result() == 7
    assert begun == [0]
    assert sorted(drops) == [(0, "cancelled"), (1, "cancelled"), (2, "cancelled")]
    assert drops[-1] == (0, "cancelled")
    assert drain(incoming.recv) == [3]


@ONLY_ASYNCIO
async def test_native_cancellation_waits_for_the_call_that_runs() -> None:
    """`Task.cancel` does not leave a call behind that still runs."""
    incoming, results = open_channel[int](9), open_channel[Any](9)
    running, release, ended = threading.Event(), threading.Event(), threading.Event()

    def handle(request: int) -> None:
        running.set()
        release.wait(10)
        ended.set()

    drops = Drops()
    incoming.send.send_nowait(1)
    with ThreadPoolExecutor(1) as executor:
        task = asyncio.create_task(
            worker_pool(
                incoming.recv,
                results.send,
                handle,
                workers=1,
                executor=executor,
                on_drop=drops,
            )
        )
        await anyio.to_thread.run_sync(running.wait)
        task.cancel()
        await rounds()
        assert not task.done()
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()
    assert drops.by_reason == {"cancelled": 1}


async def test_executor_that_was_shut_down_fails_each_request() -> None:
    """Its error comes with each request, as that of a handler does."""
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    done = await run_pool([1, 2], square, workers=2, executor=executor)
    assert [one.request for one in done] == [1, 2]
    for one in done:
        assert isinstance(one.error, RuntimeError)


async def test_executor_that_is_shut_down_meanwhile_fails_what_it_had() -> None:
    """Calls that it cancels are results, and do not count as a cancellation of the pool."""
    running, release = threading.Event(), threading.Event()

    def handle(request: int) -> int:
        running.set()
        release.wait(10)
        return request

    executor = ThreadPoolExecutor(1)
    done: list[Any] = []

    async def call() -> None:
        done.extend(await run_pool([1, 2, 3], handle, workers=2, executor=executor))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await anyio.to_thread.run_sync(running.wait)
        await until(lambda: executor._work_queue.qsize() == 1)
        executor.shutdown(wait=False, cancel_futures=True)
        release.set()
    outcomes = {one.request: one.error for one in done}
    assert outcomes[1] is None
    assert isinstance(outcomes[2], CancelledError)
    assert isinstance(outcomes[3], RuntimeError)


async def test_executor_of_ones_own_will_do() -> None:
    """Anything that derives from Executor is used by its ``submit`` alone."""

    class AtOnce(Executor):
        def submit(self, fn: Any, /, *args: Any, **kw: Any) -> Future[Any]:
            future: Future[Any] = Future()
            try:
                future.set_result(fn(*args, **kw))
            except Exception as error:
                future.set_exception(error)
            return future

    done = await run_pool([2, -1], square, workers=2, executor=AtOnce())
    assert {one.request: one.value for one in done} == {2: 4, -1: None}


def die(request: int) -> None:
    if request:
        import os

        os._exit(1)


async def test_processes() -> None:
    """A pool of processes works like one of threads, and one that breaks fails each request."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        done = await run_pool([3, -3], square, workers=2, executor=executor)
        assert {one.request: one.value for one in done} == {3: 9, -3: None}
        done = await run_pool([0, 1, 2], die, workers=1, executor=executor)
    assert [one.request for one in done] == [0, 1, 2]
    assert done[0].error is None
    assert all(isinstance(one.error, BrokenProcessPool) for one in done[1:])


async def run_and_cancel(executor: ThreadPoolExecutor) -> None:
    await run_pool(list(range(5)), square, workers=3, executor=executor)
    incoming, results = open_channel[int](9), open_channel[Any](9)
    running, release = threading.Event(), threading.Event()

    def handle(request: int) -> None:
        running.set()
        release.wait(10)

    incoming.send.send_nowait(1)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            pool = functools.partial(worker_pool, workers=1, executor=executor)
            tasks.start_soon(pool, incoming.recv, results.send, handle)
            await anyio.to_thread.run_sync(running.wait)
            scope.cancel()
            with anyio.CancelScope(shield=True):
                await rounds()
                release.set()


def test_no_thread_is_left_behind(anyio_backend: str) -> None:
    """After a run that was cancelled while a call ran, all threads of the pool are gone."""
    before = threading.active_count()
    with ThreadPoolExecutor(2) as executor:
        anyio.run(run_and_cancel, executor, backend=anyio_backend)
    if anyio_backend == "asyncio":
        # Those of trio stay for ten seconds in case somebody needs them.
        deadline = time.monotonic() + 5
        while threading.active_count() > before and time.monotonic() < deadline:
            threading.Event().wait(0.001)
        assert threading.active_count() <= before


@pytest.mark.parametrize("kind", ["function", "partial", "callable object"])
def test_async_handler_does_not_fit_an_executor(kind: str, threads: ThreadPoolExecutor) -> None:
    """That is refused at the call."""
    incoming, results = open_channel[int](0), open_channel[Any](0)

    class Handler:
        async def __call__(self, request: Any) -> Any:
            return request

    handle: Any = {
        "function": echo,
        "partial": functools.partial(echo),
        "callable object": Handler(),
    }[kind]
    with pytest.raises(TypeError, match="handle must not be async"):
        worker_pool(incoming.recv, results.send, handle, workers=1, executor=threads)


# In all


async def test_finished_pool_holds_on_to_no_request() -> None:
    """What was handled can be freed when its result was."""
    incoming, results = open_channel[Any](9), open_channel[Any](9)

    class Thing:
        pass

    async with anyio.create_task_group() as tasks:
        pool = functools.partial(worker_pool, workers=2)
        tasks.start_soon(pool, incoming.recv, results.send, echo)
        await incoming.send.send(Thing())
        await rounds()
        drain(results.recv)
        await rounds()
        gc.collect()
        assert not [one for one in gc.get_objects() if isinstance(one, Thing)]
        tasks.cancel_scope.cancel()


async def test_end_is_seen_once_all_is_over() -> None:
    """With no request at all, the results end at once."""
    assert await run_pool([], echo, workers=5) == []
    incoming, results = open_channel[int](0), open_channel[Any](0)
    async with anyio.create_task_group() as tasks:
        pool = functools.partial(worker_pool, workers=5)
        tasks.start_soon(pool, incoming.recv, results.send, echo)
        await incoming.send.aclose()
        with pytest.raises(EndOfStream):
            await results.recv.receive()


def test_one_trace() -> None:
    """Requests, results, failures and a cancellation come in one order on every backend."""

    async def program(trace: Trace) -> None:
        clock = SimClock()
        incoming, results = open_channel[int](2), open_channel[Any](1)

        async def handle(request: int) -> int:
            trace.write(f"{clock.now_ns()} begins {request}")
            try:
                await clock.sleep(0.1 * (request % 4))
                if request % 5 == 0:
                    raise Refusal(request)
            finally:
                trace.write(f"{clock.now_ns()} leaves {request}")
            return request

        def drop(request: int, reason: str) -> None:
            trace.write(f"{clock.now_ns()} dropped {request}: {reason}")

        async def consume() -> None:
            async for done in results.recv:
                trace.write(f"{clock.now_ns()} {done!r}")
                await clock.sleep(0.05)

        async def call() -> None:
            for seconds in (0.55, 0.3, math.inf):
                with clock.move_on_after(seconds):
                    await worker_pool(incoming.recv, results.send, handle, workers=3, on_drop=drop)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            tasks.start_soon(consume)
            tasks.start_soon(feed, incoming.send, range(40))
            await clock.advance(20)

    lines = assert_one_trace(program).lines
    assert sum("Done" in line for line in lines) + sum("dropped" in line for line in lines) == 40


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("way", ["end", "results gone", "failure", "cancellation"])
def test_pool_ends_in_one_round_on_every_backend(way: str, workers: int) -> None:
    """However it ends, it returns in the same round, seen by a task that counts these."""

    async def program(trace: Trace) -> None:
        clock = SimClock()
        await clock.advance(0)
        incoming, results = open_channel[int](9), open_channel[Any](9)
        probe = ProbeReceive(incoming.recv)
        scope = anyio.CancelScope()
        over = False

        async def handle(request: int) -> None:
            await clock.sleep(100)

        async def call() -> None:
            nonlocal over
            with scope, suppress(Broken):
                await worker_pool(
                    probe,
                    results.send,
                    handle,
                    workers=workers,
                    on_drop=lambda *drop: trace.write(f"{drop}"),
                )
            trace.write("over")
            over = True

        async def count() -> None:
            while not over:
                trace.write("a round")
                await checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            if way in ("failure", "cancellation"):
                for n in range(workers - (way == "failure")):
                    incoming.send.send_nowait(n)
            await clock.advance(0)
            tasks.start_soon(count)
            await checkpoint()
            match way:
                case "end":
                    await incoming.send.aclose()
                case "results gone":
                    await results.recv.aclose()
                case "failure":
                    probe.fail(Broken())
                case "cancellation":
                    scope.cancel()

    assert "over" in assert_one_trace(program).lines
