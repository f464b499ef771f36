import asyncio
import gc
import math
import weakref
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, TypeVar

import anyio
import pytest
from chrono_core import (
    Channel,
    ChannelInUse,
    ChannelStats,
    Clock,
    EndpointClosed,
    ReceiveStream,
    SimClock,
    Supervisor,
    open_channel,
)
from chrono_core.lowlevel import Waiter
from chrono_core.testing import Trace, assert_one_trace
from chrono_recipes import BatcherStopped, RecipeError, WrongBatchSize
from chrono_recipes import _batcher as module
from chrono_recipes._batcher import Pending, batcher_loop, submit
from hypothesis import given
from hypothesis import strategies as st

from tests.core.scheduling import rounds, until

T = TypeVar("T")
Work = Pending[int, int]

ONLY_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"])


class Model:
    """A batch function that takes its time, and notes what it was given and when."""

    def __init__(self, clock: Clock, seconds: float = 0.0) -> None:
        self.clock = clock
        self.seconds = seconds
        self.batches: list[list[int]] = []
        self.times: list[float] = []

    async def __call__(self, requests: list[int]) -> Sequence[int]:
        self.batches.append(list(requests))
        self.times.append(self.clock.now())
        if self.seconds:
            await self.clock.sleep(self.seconds)
        return [request * 10 for request in requests]


class Callers:
    """Submit requests, each from a task of its own, and note what became of them."""

    def __init__(self, channel: Channel[Work], tasks: Any) -> None:
        self.channel = channel
        self.tasks = tasks
        self.scopes: dict[int, anyio.CancelScope] = {}
        self.outcomes: dict[int, Any] = {}

    def start(self, *requests: int) -> None:
        for request in requests:
            self.scopes[request] = anyio.CancelScope()
            self.tasks.start_soon(self._submit, request)

    async def _submit(self, request: int) -> None:
        with self.scopes[request] as scope:
            try:
                self.outcomes[request] = await submit(self.channel.send, request)
            except Exception as error:
                self.outcomes[request] = error
        if scope.cancelled_caught:
            self.outcomes[request] = "left"


class Counting(ReceiveStream[T]):
    """A receiving end that counts how often somebody looks at it."""

    def __init__(self, inner: ReceiveStream[T]) -> None:
        self.inner = inner
        self.looks = 0

    def ready(self) -> bool:
        self.looks += 1
        return self.inner.ready()

    async def receive(self) -> T:
        return await self.inner.receive()

    def receive_nowait(self) -> T:
        return self.inner.receive_nowait()

    def watch(self, waiter: Waiter) -> None:
        self.inner.watch(waiter)

    def unwatch(self, waiter: Waiter) -> None:
        self.inner.unwatch(waiter)

    async def aclose(self) -> None:
        await self.inner.aclose()

    def statistics(self) -> ChannelStats:
        return self.inner.statistics()


@pytest.fixture(autouse=True)
def _nothing_left() -> Any:
    """After every test, nobody waits at any end any more."""
    yield
    assert module._turns == {}


# Batches


@pytest.mark.parametrize("size", [0, 1, 4, math.inf])
async def test_every_caller_gets_its_own_answer(size: float) -> None:
    """Whatever the channel, each of many callers at one end gets what belongs to its request."""
    channel = open_channel[Work](size)
    model = Model(SimClock())
    async with anyio.create_task_group() as tasks:
        callers = Callers(channel, tasks)
        tasks.start_soon(batcher_loop, channel.recv, model)
        callers.start(*range(100))
        await until(lambda: len(callers.outcomes) == 100)
        await channel.send.aclose()
    assert callers.outcomes == {n: n * 10 for n in range(100)}
    assert sorted(chain(*model.batches)) == list(range(100))
    assert max(map(len, model.batches)) <= 32


async def test_requests_go_in_order_and_no_more_than_a_batch_holds() -> None:
    """Without a delay, a batch is what is there at once, up to the limit."""
    channel = open_channel[Work](10)
    clock = SimClock()
    model = Model(clock, 1)
    async with anyio.create_task_group() as tasks:
        callers = Callers(channel, tasks)
        callers.start(*range(7))
        await clock.advance(0)
        tasks.start_soon(lambda: batcher_loop(channel.recv, model, max_batch=3))
        await clock.advance(10)
        await channel.send.aclose()
    assert model.batches == [[0, 1, 2], [3, 4, 5], [6]]
    assert model.times == [0, 1, 2]


async def test_batch_waits_for_more_for_as_long_as_it_may() -> None:
    """The delay counts from the first request of the batch; a full batch does not wait."""
    channel = open_channel[Work](10)
    clock = SimClock()
    model = Model(clock)
    async with anyio.create_task_group() as tasks:
        callers = Callers(channel, tasks)

        async def arrive() -> None:
            for n in range(8):
                await clock.sleep(0.4 if n < 6 else 0.0)
                callers.start(n)

        tasks.start_soon(
            lambda: batcher_loop(channel.recv, model, max_batch=3, max_queue_delay=1.0, clock=clock)
        )
        tasks.start_soon(arrive)
        await clock.advance(1.5)
        assert model.batches == [[0, 1, 2]]
        await clock.advance(10)
        await channel.send.aclose()
    assert model.batches == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert model.times == pytest.approx([1.2, 2.4, 3.4])


async def test_first_request_waits_no_longer_than_the_delay() -> None:
    """A request alone is computed when the delay is over, and one at that very instant joins it."""
    channel = open_channel[Work](10)
    clock = SimClock()
    model = Model(clock)
    async with anyio.create_task_group() as tasks:
        callers = Callers(channel, tasks)
        callers.start(1)
        await clock.advance(0)
        tasks.start_soon(Sleepy(clock, 0.5, lambda: callers.start(2)).run)
        await clock.advance(0)
        tasks.start_soon(
            lambda: batcher_loop(channel.recv, model, max_queue_delay=0.5, clock=clock)
        )
        await clock.advance(2)
        await channel.send.aclose()
    assert model.batches == [[1, 2]]
    assert model.times == [0.5]


class Manual(SimClock):
    """A clock whose timeouts are over when the test says so."""

    def move_on_after(self, seconds: float) -> Any:
        self.scope = anyio.CancelScope()
        return self.scope


async def test_request_that_comes_as_the_delay_ends_is_in_the_batch() -> None:
    """What is there by then is taken, although the time was up before it came."""
    channel = open_channel[Work](10)
    clock = Manual()
    model = Model(clock)
    async with anyio.create_task_group() as tasks:
        callers = Callers(channel, tasks)
        callers.start(1)
        tasks.start_soon(lambda: batcher_loop(channel.recv, model, max_queue_delay=1, clock=clock))
        await rounds()
        clock.scope.cancel()
        channel.send.send_nowait(Pending(2))
        await until(lambda: callers.outcomes)
        await channel.send.aclose()
    assert model.batches == [[1, 2]]


async def test_delay_begins_with_a_request_whose_caller_is_there() -> None:
    """One whose caller has gone before it was taken does not shorten the wait for others."""
    channel = open_channel[Work](10)
    clock = SimClock()
    model = Model(clock)
    async with anyio.create_task_group() as tasks:
        callers = Callers(channel, tasks)
        callers.start(1)
        await clock.advance(0)
        callers.scopes[1].cancel()
        tasks.start_soon(lambda: batcher_loop(channel.recv, model, max_queue_delay=1, clock=clock))
        await clock.advance(0.75)
        callers.start(2)
        await clock.advance(5)
        await channel.send.aclose()
    assert model.batches == [[2]]
    assert model.times == [1.75]


class Sleepy:
    """Does something later."""

    def __init__(self, clock: SimClock, seconds: float, action: Callable[[], object]) -> None:
        self.clock = clock
        self.seconds = seconds
        self.action = action

    async def run(self) -> None:
        await self.clock.sleep(self.seconds)
        self.action()


async def test_real_time_is_where_no_clock_is_given() -> None:
    """Without a clock, the delay is on the event loop's own."""
    channel = open_channel[Work](10)
    model = Model(SimClock())
    async with anyio.create_task_group() as tasks:
        callers = Callers(channel, tasks)
        callers.start(1)
        tasks.start_soon(lambda: batcher_loop(channel.recv, model, max_queue_delay=1e-6))
        with anyio.fail_after(60):
            while not callers.outcomes:
                await anyio.lowlevel.checkpoint()
        await channel.send.aclose()
    assert callers.outcomes == {1: 10}


async def test_what_was_answered_together_comes_together_again() -> None:
    """Callers that ask again as soon as they are answered share a batch without any delay."""
    channel = open_channel[Work](10)
    await SimClock().advance(0)  # from now on, trio has an order
    model = Model(SimClock())

    async def ask() -> None:
        for n in range(5):
            await submit(channel.send, n)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(batcher_loop, channel.recv, model)
        async with anyio.create_task_group() as asking:
            for _ in range(4):
                asking.start_soon(ask)
        await channel.send.aclose()
    assert model.batches == [[n] * 4 for n in range(5)]


async def test_batch_function_may_do_what_it_likes_with_its_list() -> None:
    """The list that it is given is its own."""
    channel = open_channel[Work](10)

    async def forward(requests: list[int]) -> list[int]:
        answers = []
        while requests:
            answers.append(requests.pop(0) + 1)
        return answers

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(batcher_loop, channel.recv, forward)
        assert await submit(channel.send, 1) == 2
        await channel.send.aclose()


async def test_loop_gives_way_although_it_need_not_wait() -> None:
    """With a batch function that never waits and a full channel, other tasks get their turns."""
    channel = open_channel[Work](math.inf)
    await SimClock().advance(0)  # from now on, trio has an order
    model = Model(SimClock())
    for n in range(1000):
        channel.send.send_nowait(Pending(n))
    turns = []

    async def other() -> None:
        while True:
            turns.append(len(model.batches))
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        tasks.start_soon(lambda: batcher_loop(channel.recv, model, max_batch=10))
        await channel.send.aclose()
        await until(lambda: len(model.batches) == 100)
        tasks.cancel_scope.cancel()
    assert len(set(turns)) >= 100


async def test_no_requests_no_batches() -> None:
    """A source that ends at once ends the loop, and the batch function is not called."""
    channel = open_channel[Work](4)
    model = Model(SimClock())
    await channel.send.aclose()
    await batcher_loop(channel.recv, model)
    assert model.batches == []
    with pytest.raises(EndpointClosed):
        channel.recv.receive_nowait()


async def test_loop_ends_with_its_source_when_all_is_answered() -> None:
    """What was sent before the end is answered, without waiting for the delay."""
    channel = open_channel[Work](4)
    clock = SimClock()
    model = Model(clock)
    async with anyio.create_task_group() as tasks:
        callers = Callers(channel, tasks)
        callers.start(1, 2, 3)
        await clock.advance(0)
        tasks.start_soon(
            lambda: batcher_loop(channel.recv, model, max_queue_delay=100, clock=clock)
        )
        await clock.advance(1)
        await channel.send.aclose()
    assert callers.outcomes == {1: 10, 2: 20, 3: 30}
    assert model.times == [1]
    with pytest.raises(EndpointClosed):
        await submit(channel.send, 4)


# Back-pressure


async def test_callers_send_in_the_order_in_which_they_came() -> None:
    """Where there is no room, those who wait get it in order, and newcomers wait behind them."""
    channel = open_channel[Work](1)
    clock = SimClock()
    model = Model(clock, 1)
    async with anyio.create_task_group() as tasks:
        callers = Callers(channel, tasks)
        tasks.start_soon(lambda: batcher_loop(channel.recv, model, max_batch=1))
        await clock.advance(0)
        callers.start(*range(5))
        await clock.advance(1.5)
        callers.start(*range(5, 8))
        callers.scopes[3].cancel()
        await clock.advance(10)
        await channel.send.aclose()
    assert list(chain(*model.batches)) == [0, 1, 2, 4, 5, 6, 7]


async def test_nothing_turns_while_nothing_happens() -> None:
    """Idle, or with callers waiting and a batch under way, the loop looks at its source no more."""
    clock = SimClock(livelock_after=300)
    channel = open_channel[Work](1)
    incoming = Counting(channel.recv)
    model = Model(clock, 3600)

    async def heart() -> None:
        async for _ in clock.every(1):
            pass

    async with anyio.create_task_group() as tasks:
        callers = Callers(channel, tasks)
        tasks.start_soon(heart)
        tasks.start_soon(
            lambda: batcher_loop(incoming, model, max_batch=4, max_queue_delay=500, clock=clock)
        )
        await clock.advance(0)
        idle = incoming.looks
        await clock.advance(5000)
        assert incoming.looks == idle
        callers.start(0)
        await clock.advance(1)
        waiting = incoming.looks
        await clock.advance(400)
        assert incoming.looks == waiting
        callers.start(*range(1, 12))
        await clock.advance(100)
        busy = incoming.looks
        await clock.advance(3400)
        assert incoming.looks == busy
        await clock.advance(20_000)
        assert callers.outcomes == {n: n * 10 for n in range(12)}
        assert model.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
        assert incoming.looks < 60
        tasks.cancel_scope.cancel()


async def test_end_that_others_use_is_refused() -> None:
    """Somebody who sends without `submit` is noticed, and no request is left behind."""
    channel = open_channel[Work](1)
    channel.send.send_nowait(Pending(0))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.send.send, Pending[int, int](1))
        await until(lambda: channel.send.statistics().waiters_send)
        with pytest.raises(ChannelInUse):
            await submit(channel.send, 2)
        tasks.cancel_scope.cancel()


# What goes wrong in a batch


async def test_failure_reaches_each_caller_and_the_loop_goes_on() -> None:
    """Each caller of the batch gets an exception of its own, caused by the one that was raised."""
    channel = open_channel[Work](4)
    raised = KeyError("weights", 7)
    raised.add_note("layer 3")
    failures: list[Exception] = [raised]

    async def forward(requests: list[int]) -> list[int]:
        if failures:
            raise failures.pop()
        return requests

    async with anyio.create_task_group() as tasks:
        callers = Callers(channel, tasks)
        callers.start(1, 2, 3)
        await rounds()
        tasks.start_soon(batcher_loop, channel.recv, forward)
        await until(lambda: len(callers.outcomes) == 3)
        assert await submit(channel.send, 5) == 5
        await channel.send.aclose()
    errors = list(callers.outcomes.values())
    assert len({id(error) for error in [*errors, raised]}) == 4
    for error in errors:
        assert type(error) is KeyError
        assert error.args == ("weights", 7)
        assert error.__cause__ is raised
        assert error.__notes__ == ["layer 3"]
        error.add_note("mine")
    assert raised.__notes__ == ["layer 3"]


class Unplugged(Exception):
    pass


async def test_failure_leaves_no_cycle() -> None:
    """What a caller was told is gone when nobody has it any more, without the garbage collector."""
    channel = open_channel[Work](4)
    told: list[weakref.ref[Exception]] = []

    async def forward(requests: list[int]) -> list[int]:
        raise Unplugged

    async def ask() -> None:
        try:
            await submit(channel.send, 1)
        except Unplugged as error:
            told.append(weakref.ref(error))

    gc.disable()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(batcher_loop, channel.recv, forward)
            await ask()
            await rounds()
            assert [ref() for ref in told] == [None]
            await channel.send.aclose()
    finally:
        gc.enable()


class Demanding(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")


class Twice(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(f"bad {text}")


class Unique(Exception):
    def __copy__(self) -> "Unique":
        return self


@pytest.mark.parametrize("raised", [Demanding(code=3), Twice("shape"), Unique("one")])
async def test_failure_that_cannot_be_copied_is_wrapped(raised: Exception) -> None:
    """Where no true copy can be made, each caller gets a `RecipeError` that tells of it."""
    channel = open_channel[Work](4)

    async def forward(requests: list[int]) -> list[int]:
        raise raised

    async with anyio.create_task_group() as tasks:
        callers = Callers(channel, tasks)
        callers.start(1, 2)
        tasks.start_soon(batcher_loop, channel.recv, forward)
        await until(lambda: len(callers.outcomes) == 2)
        await channel.send.aclose()
    first, second = callers.outcomes.values()
    assert first is not second
    for error in (first, second):
        assert type(error) is RecipeError
        assert error.__cause__ is raised
        assert f"{type(raised).__name__}: {raised}" in str(error)


async def shorter(requests: list[int]) -> Any:
    return requests[1:]


async def longer(requests: list[int]) -> Any:
    return [*requests, 0]


async def nothing(requests: list[int]) -> Any:
    return None


async def number(requests: list[int]) -> Any:
    return 3


async def generator(requests: list[int]) -> Any:
    return (request for request in requests)


async def unordered(requests: list[int]) -> Any:
    return set(requests)


async def mapping(requests: list[int]) -> Any:
    return dict.fromkeys(requests)


async def text(requests: list[int]) -> Any:
    return "ok"


@pytest.mark.parametrize(
    "forward", [shorter, longer, nothing, number, generator, unordered, mapping, text]
)
async def test_what_are_not_as_many_answers_is_an_error_for_each_caller(
    forward: Callable[[list[int]], Awaitable[Any]],
) -> None:
    """The error names the function and what came; the loop goes on."""
    channel = open_channel[Work](4)
    async with anyio.create_task_group() as tasks:
        callers = Callers(channel, tasks)
        callers.start(1, 2)
        await rounds()
        tasks.start_soon(batcher_loop, channel.recv, forward)
        await until(lambda: len(callers.outcomes) == 2)
        callers.start(3)
        await until(lambda: len(callers.outcomes) == 3)
        await channel.send.aclose()
    first, second, third = callers.outcomes.values()
    assert first is not second
    for error in (first, second, third):
        assert type(error) is WrongBatchSize
    assert forward.__name__ in str(first)
    assert "a batch of 2" in str(first)


async def test_answers_may_be_any_sequence() -> None:
    """A tuple does, as does an array, which is no `Sequence` by its type."""

    class Array:
        def __init__(self, values: list[int]) -> None:
            self.values = values

        def __len__(self) -> int:
            return len(self.values)

        def __getitem__(self, index: int) -> int:
            return self.values[index]

    for kind in (tuple, Array):
        channel = open_channel[Work](4)

        async def forward(requests: list[int], kind: Any = kind) -> Any:
            return kind([request + 1 for request in requests])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(batcher_loop, channel.recv, forward)
            assert await submit(channel.send, 1) == 2
            await channel.send.aclose()


async def test_function_that_is_not_async_fails_for_each_caller() -> None:
    """What cannot be awaited is told to the callers."""
    channel = open_channel[Work](4)
    forward: Any = list
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(batcher_loop, channel.recv, forward)
        with pytest.raises(TypeError, match="await"):
            await submit(channel.send, 1)
        await channel.send.aclose()


# Callers that go


async def test_request_whose_caller_has_gone_is_not_computed() -> None:
    """Neither one that waits in the channel, nor one that waits for room, nor one in a batch."""
    channel = open_channel[Work](4)
    clock = SimClock()
    model = Model(clock, 10)
    async with anyio.create_task_group() as tasks:
        callers = Callers(channel, tasks)
        tasks.start_soon(
            lambda: batcher_loop(channel.recv, model, max_batch=8, max_queue_delay=1, clock=clock)
        )
        callers.start(*range(3))
        await clock.advance(0.5)
        callers.scopes[1].cancel()  # is in the batch that is being formed
        await clock.advance(1)
        assert model.batches == [[0, 2]]
        callers.start(*range(3, 10))
        await clock.advance(1)
        callers.scopes[4].cancel()  # is in the channel
        callers.scopes[8].cancel()  # waits for room
        callers.scopes[0].cancel()  # is being computed for
        await clock.advance(50)
        await channel.send.aclose()
    assert model.batches == [[0, 2], [3, 5, 6, 7, 9]]
    assert [n for n, outcome in callers.outcomes.items() if outcome == "left"] == [1, 4, 8, 0]
    assert all(callers.outcomes[n] == n * 10 for n in (2, 3, 5, 6, 7, 9))


async def test_batch_that_filled_up_with_those_who_went_goes_on_filling() -> None:
    """Places of callers that have gone are given to others before the batch is computed."""
    channel = open_channel[Work](10)
    clock = SimClock()
    model = Model(clock)
    async with anyio.create_task_group() as tasks:
        callers = Callers(channel, tasks)
        tasks.start_soon(
            lambda: batcher_loop(channel.recv, model, max_batch=3, max_queue_delay=9, clock=clock)
        )
        callers.start(0, 1)
        await clock.advance(1)
        callers.scopes[0].cancel()
        callers.start(2, 3, 4)
        await clock.advance(1)
        assert model.batches == [[1, 2, 3]]
        assert model.times == [1]
        await clock.advance(10)
        await channel.send.aclose()
    assert model.batches == [[1, 2, 3], [4]]


@pytest.mark.parametrize("delay", [0.0, 2.0])
async def test_nothing_is_computed_for_nobody(delay: float) -> None:
    """Where every caller of a batch has gone, the batch function is not called."""
    channel = open_channel[Work](4)
    clock = SimClock()
    model = Model(clock)
    async with anyio.create_task_group() as tasks:
        callers = Callers(channel, tasks)
        callers.start(1, 2, 3)
        await clock.advance(0)
        if not delay:
            for scope in callers.scopes.values():
                scope.cancel()
            await clock.advance(0)
        tasks.start_soon(
            lambda: batcher_loop(channel.recv, model, max_queue_delay=delay, clock=clock)
        )
        await clock.advance(1)
        for scope in callers.scopes.values():
            scope.cancel()
        await clock.advance(10)
        assert model.batches == []
        callers.start(4)
        await clock.advance(10)
        await channel.send.aclose()
    assert model.batches == [[4]]
    assert callers.outcomes == {1: "left", 2: "left", 3: "left", 4: 40}


@ONLY_ASYNCIO
async def test_natively_cancelled_caller_is_not_computed_for() -> None:
    """`task.cancel` and `asyncio.timeout` count as going."""
    channel = open_channel[Work](4)
    model = Model(SimClock())
    async with asyncio.TaskGroup() as tasks:
        going = tasks.create_task(submit(channel.send, 1))
        staying = tasks.create_task(submit(channel.send, 2))
        await rounds()
        going.cancel()
        await rounds()
        loop = tasks.create_task(batcher_loop(channel.recv, model))
        assert await staying == 20
        await channel.send.aclose()
        await loop
    assert model.batches == [[2]]
    assert going.cancelled()


# The end of the batcher


@pytest.mark.parametrize("size", [0, 1, 3])
@pytest.mark.parametrize("moment", ["idle", "forming", "computing"])
async def test_cancelled_batcher_tells_everybody(size: int, moment: str) -> None:
    """In hand, in the channel or waiting for room: every caller gets `BatcherStopped`, at once."""
    channel = open_channel[Work](size)
    clock = SimClock()
    model = Model(clock, 100)
    scope = anyio.CancelScope()

    async def serve() -> None:
        with scope:
            await batcher_loop(
                channel.recv,
                model,
                max_batch=20 if moment == "forming" else 2,
                max_queue_delay=50 if moment == "forming" else 0,
                clock=clock,
            )

    async with anyio.create_task_group() as tasks:
        callers = Callers(channel, tasks)
        tasks.start_soon(serve)
        await clock.advance(0)
        if moment != "idle":
            callers.start(*range(10))
            await clock.advance(1)
        scope.cancel()
        if moment == "idle":
            callers.start(*range(10))
        await clock.run_until(lambda: len(callers.outcomes) == 10, limit=10)
        callers.start(10)
        await clock.run_until(lambda: len(callers.outcomes) == 11, limit=10)
    assert [type(outcome) for outcome in callers.outcomes.values()] == [BatcherStopped] * 11
    assert scope.cancelled_caught
    assert "has ended" in str(callers.outcomes[10])
    assert clock.now() <= 1


async def test_batcher_cancelled_between_batches_tells_everybody() -> None:
    """A cancellation that comes in the very step in which a batch was answered strands nobody."""
    channel = open_channel[Work](2)
    clock = SimClock()
    scope = anyio.CancelScope()

    async def forward(requests: list[int]) -> list[int]:
        await clock.sleep(1)
        scope.cancel()
        return requests

    async def serve() -> None:
        with scope:
            await batcher_loop(channel.recv, forward, max_batch=1)

    async with anyio.create_task_group() as tasks:
        callers = Callers(channel, tasks)
        tasks.start_soon(serve)
        callers.start(*range(6))
        await clock.run_until(lambda: len(callers.outcomes) == 6, limit=10)
    assert callers.outcomes.pop(0) == 0
    assert {type(outcome) for outcome in callers.outcomes.values()} == {BatcherStopped}


class Fatal(BaseException):
    pass


async def test_what_is_no_exception_ends_the_loop_and_everybody_is_told() -> None:
    """A `BaseException` of the batch function goes on, when the callers have been told."""
    channel = open_channel[Work](2)

    async def forward(requests: list[int]) -> list[int]:
        raise Fatal

    caught = False

    async def serve() -> None:
        nonlocal caught
        try:
            await batcher_loop(channel.recv, forward, max_batch=1)
        except Fatal:
            caught = True

    async with anyio.create_task_group() as tasks:
        callers = Callers(channel, tasks)
        callers.start(*range(5))
        tasks.start_soon(serve)
        await until(lambda: len(callers.outcomes) == 5)
    assert caught
    for error in callers.outcomes.values():
        assert type(error) is BatcherStopped


async def test_fatal_error_is_not_hidden_by_a_cancellation() -> None:
    """What ended the loop comes out of it although its scope was cancelled as well."""
    channel = open_channel[Work](2)

    async def forward(requests: list[int]) -> list[int]:
        scope.cancel()
        raise Fatal

    async with anyio.create_task_group() as tasks:
        callers = Callers(channel, tasks)
        callers.start(1)
        with pytest.raises(Fatal):
            with anyio.CancelScope() as scope:
                await batcher_loop(channel.recv, forward)
    assert type(callers.outcomes[1]) is BatcherStopped


class Failing(Counting[T]):
    """A receiving end that fails after so many items."""

    left = 2

    def receive_nowait(self) -> T:
        if not self.left:
            raise OSError("unplugged")
        self.left -= 1
        return super().receive_nowait()


async def test_failing_source_ends_the_loop_and_whoever_is_known_is_told() -> None:
    """Its error goes on, and is the cause of what callers in hand get; its end is closed."""
    channel = open_channel[Work](2)
    clock = SimClock()
    async with anyio.create_task_group() as tasks:
        callers = Callers(channel, tasks)
        callers.start(*range(5))
        await clock.advance(0)
        with pytest.raises(OSError, match="unplugged"):
            await batcher_loop(Failing(channel.recv), Model(clock), max_queue_delay=1, clock=clock)
        await clock.advance(0)
        # Request 2 is in the source, which gives it to nobody any more.
        assert sorted(callers.outcomes) == [0, 1, 3, 4]
        assert {type(outcome) for outcome in callers.outcomes.values()} == {BatcherStopped}
        assert isinstance(callers.outcomes[0].__cause__, OSError)
        tasks.cancel_scope.cancel()


async def test_second_batcher_leaves_the_first_alone() -> None:
    """Two loops on one end: the second is refused, and the first goes on."""
    channel = open_channel[Work](2)
    model = Model(SimClock())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(batcher_loop, channel.recv, model)
        await rounds()
        with pytest.raises(ChannelInUse):
            await batcher_loop(channel.recv, model)
        assert await submit(channel.send, 1) == 10
        await channel.send.aclose()


async def test_closing_the_sending_end_tells_who_waits_for_room() -> None:
    """What was sent is answered; those who waited for room are told that the end is closed."""
    channel = open_channel[Work](1)
    clock = SimClock()
    model = Model(clock, 1)
    async with anyio.create_task_group() as tasks:
        callers = Callers(channel, tasks)
        tasks.start_soon(lambda: batcher_loop(channel.recv, model, max_batch=1))
        callers.start(*range(4))
        await clock.advance(0.5)
        await channel.send.aclose()
        await clock.advance(10)
    assert callers.outcomes[0] == 0
    assert callers.outcomes[1] == 10
    assert {type(callers.outcomes[n]) for n in (2, 3)} == {EndpointClosed}


@ONLY_ASYNCIO
async def test_natively_cancelled_batcher_tells_everybody() -> None:
    """`task.cancel` at any round strands nobody."""
    for n in range(30):
        channel = open_channel[Work](2)
        model = Model(SimClock())
        loop = asyncio.create_task(batcher_loop(channel.recv, model, max_batch=2))
        asking = [asyncio.create_task(submit(channel.send, request)) for request in range(20)]
        await rounds(n + 1)
        loop.cancel()
        with suppress(asyncio.CancelledError):
            await loop
        outcomes = await asyncio.wait_for(asyncio.gather(*asking, return_exceptions=True), 60)
        for request, outcome in enumerate(outcomes):
            assert outcome == request * 10 or type(outcome) is BatcherStopped


async def test_daemon_that_hosts_a_batcher_is_stopped_like_any() -> None:
    """A batcher that its supervisor cancels tells its callers, and nothing is left."""
    clock = SimClock()
    channel = open_channel[Work](2)
    model = Model(clock, 100)
    outcomes: list[object] = []

    async def ask(ctx: Any, request: int) -> None:
        try:
            outcomes.append(await submit(channel.send, request))
        except BatcherStopped:
            outcomes.append("stopped")

    async with Supervisor(clock=clock) as supervisor:
        for n in range(5):
            supervisor.spawn(ask, n)
        supervisor.spawn(lambda ctx: batcher_loop(channel.recv, model, clock=ctx.clock))
        await clock.advance(1)
        await supervisor.stop(grace=1)
    assert outcomes == ["stopped"] * 5


# Pending


async def test_pending_is_answered_once() -> None:
    """A second answer is refused, whatever the first was."""
    pending = Pending[int, str](3)
    assert (pending.request, pending.answered, pending.cancelled) == (3, False, False)
    pending.answer("three")
    assert pending.answered
    with pytest.raises(RecipeError, match="answered before"):
        pending.answer("four")
    with pytest.raises(RecipeError, match="answered before"):
        pending.fail(ValueError())
    assert repr(pending) == "<Pending 3, answered>"


async def test_pending_may_be_answered_by_a_loop_of_ones_own() -> None:
    """Whatever receives requests can answer them, see who has gone, and fail them."""
    channel = open_channel[Work](3)

    async def serve() -> None:
        async for pending in channel.recv:
            if pending.request:
                pending.answer(pending.request)
            else:
                pending.fail(ZeroDivisionError())

    async with anyio.create_task_group() as tasks:
        callers = Callers(channel, tasks)
        callers.start(5)
        await until(lambda: channel.send.statistics().sent == 1)
        callers.scopes[5].cancel()
        await until(lambda: callers.outcomes)
        (gone,) = await channel.recv.receive_many(1)
        assert gone.cancelled
        assert repr(gone) == "<Pending 5, cancelled>"
        gone.answer(1)
        tasks.start_soon(serve)
        assert await submit(channel.send, 7) == 7
        with pytest.raises(ZeroDivisionError):
            await submit(channel.send, 0)
        await channel.send.aclose()


# What is refused


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_batch": 0}, ValueError, "max_batch"),
        ({"max_batch": 1.5}, ValueError, "max_batch"),
        ({"max_batch": True}, ValueError, "max_batch"),
        ({"max_queue_delay": -1}, ValueError, "max_queue_delay"),
        ({"max_queue_delay": math.nan}, ValueError, "max_queue_delay"),
        ({"max_queue_delay": math.inf}, ValueError, "max_queue_delay"),
        ({"max_queue_delay": "1"}, TypeError, "max_queue_delay"),
        ({"clock": 3}, TypeError, "clock"),
    ],
)
def test_bad_option_is_refused_at_the_call(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """The error comes before anything is awaited, and names the option."""
    channel = open_channel[Work](1)
    with pytest.raises(error, match=message):
        _ = batcher_loop(channel.recv, shorter, **options)


async def test_bad_end_or_function_is_refused() -> None:
    """So is what is no end of a channel, and no function."""
    channel: Any = open_channel[Work](1)
    with pytest.raises(TypeError, match="incoming"):
        _ = batcher_loop(channel.send, shorter)
    with pytest.raises(TypeError, match="forward"):
        _ = batcher_loop(channel.recv, channel)
    with pytest.raises(TypeError, match="out"):
        await submit(channel.recv, 1)


# Whatever happens


@given(
    size=st.sampled_from([0, 1, 3, math.inf]),
    max_batch=st.integers(1, 4),
    delay=st.integers(0, 4),
    seconds=st.integers(0, 4),
    callers=st.lists(
        st.tuples(st.integers(0, 12), st.none() | st.integers(0, 8)), min_size=1, max_size=14
    ),
    bad=st.sets(st.integers(0, 13), max_size=3),
    end=st.none() | st.tuples(st.sampled_from(["cancel", "close"]), st.integers(0, 25)),
)
async def test_no_caller_hangs_and_none_gets_what_is_not_its_own(
    size: float,
    max_batch: int,
    delay: int,
    seconds: int,
    callers: list[tuple[int, int | None]],
    bad: set[int],
    end: tuple[str, int] | None,
) -> None:
    """Each is answered, fails with its batch, leaves or is told; nothing is computed twice."""
    clock = SimClock(livelock_after=10_000)
    channel = open_channel[Work](size)
    model = Model(clock, seconds / 2)
    outcomes: dict[int, Any] = {}
    scope = anyio.CancelScope()
    over = False

    async def forward(requests: list[int]) -> Sequence[int]:
        answers = await model(requests)
        if bad.intersection(requests):
            raise ValueError(f"{requests}")
        return answers

    async def call(n: int, at: int, patience: int | None) -> None:
        await clock.sleep(at)
        with clock.move_on_after(math.inf if patience is None else patience) as mine:
            try:
                outcomes[n] = await submit(channel.send, n)
            except Exception as error:
                outcomes[n] = error
        if mine.cancelled_caught:
            outcomes[n] = "left"

    async def serve() -> None:
        nonlocal over
        with scope:
            await batcher_loop(
                channel.recv, forward, max_batch=max_batch, max_queue_delay=delay / 2, clock=clock
            )
        over = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        for n, (at, patience) in enumerate(callers):
            tasks.start_soon(call, n, at, patience)
        if end is not None:
            await clock.advance(end[1] / 2)
            if end[0] == "cancel":
                scope.cancel()
            else:
                await channel.send.aclose()
        await clock.run_until(lambda: len(outcomes) == len(callers), limit=1000)
        await channel.send.aclose()
        await clock.run_until(lambda: over, limit=1000)

    computed = list(chain(*model.batches))
    assert len(computed) == len(set(computed))
    assert all(0 < len(batch) <= max_batch for batch in model.batches)
    for n, outcome in outcomes.items():
        if outcome == "left":
            assert callers[n][1] is not None
        elif isinstance(outcome, ValueError):
            (batch,) = [batch for batch in model.batches if n in batch]
            assert str(outcome) == f"{batch}"
            assert bad.intersection(batch)
        elif isinstance(outcome, BatcherStopped):
            assert end is not None
        elif isinstance(outcome, EndpointClosed):
            assert end is not None
            assert n not in computed
        else:
            assert outcome == n * 10
            assert n in computed
    if end is None:
        assert not any(isinstance(outcome, BatcherStopped) for outcome in outcomes.values())
        # In order of arrival.
        arrivals = [(callers[n][0], n) for n in computed]
        assert arrivals == sorted(arrivals)
    stats = channel.send.statistics()
    assert stats.current_buffer_used == 0
    assert stats.discarded == 0
    assert module._turns == {}


def test_one_trace() -> None:
    """Callers that come, go and fail, and a batcher that is cancelled, give one trace."""

    async def program(trace: Trace) -> None:
        clock = SimClock()
        channel = open_channel[Work](2, name="requests")
        scope = anyio.CancelScope()

        async def forward(requests: list[int]) -> list[int]:
            trace.write(f"{clock.now()} batch {requests}")
            await clock.sleep(0.01 * len(requests))
            if 13 in requests:
                raise ValueError("thirteen")
            return [request * 10 for request in requests] if 33 not in requests else []

        async def call(n: int) -> None:
            await clock.sleep(0.01 * (n * 7 % 40))
            with clock.move_on_after(0.02 + 0.02 * (n % 9)) as mine:
                try:
                    trace.write(f"{clock.now()} {n} got {await submit(channel.send, n)}")
                except Exception as error:
                    trace.write(f"{clock.now()} {n} failed {error!r}")
            if mine.cancelled_caught:
                trace.write(f"{clock.now()} {n} left")

        async def serve() -> None:
            with scope:
                await batcher_loop(
                    channel.recv, forward, max_batch=4, max_queue_delay=0.02, clock=clock
                )
            trace.write(f"{clock.now()} over")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            for n in range(40):
                tasks.start_soon(call, n)
            await clock.advance(0.38)
            scope.cancel()
            await clock.advance(10)

    lines = assert_one_trace(program).lines
    for what in ("got", "left", "failed ValueError", "failed WrongBatchSize", "BatcherStopped"):
        assert any(what in line for line in lines), what
