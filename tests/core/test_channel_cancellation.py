import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from chrono_core import (
    Channel,
    ChannelClosed,
    ChannelInUse,
    EndOfStream,
    WouldBlock,
    open_channel,
)
from hypothesis import given
from hypothesis import strategies as st

from .scheduling import rounds, until

ONLY_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"])

# What arrives first in one round: the wake-up or the cancellation.
ORDERS = pytest.mark.parametrize("order", ["wake first", "cancel first"])


async def sender_blocks(channel: Channel[Any]) -> None:
    await until(lambda: channel.send.statistics().waiters_send)


async def receiver_blocks(channel: Channel[Any]) -> None:
    await until(lambda: channel.send.statistics().waiters_receive)


def in_one_round(order: str, wake: Callable[[], object], cancel: Callable[[], object]) -> None:
    for action in (wake, cancel) if order == "wake first" else (cancel, wake):
        action()


def take(channel: Channel[str], received: list[str]) -> None:
    """Take what is there; an offer ends with the cancellation of its sender."""
    with suppress(WouldBlock):
        received.append(channel.recv.receive_nowait())


class Producer:
    """Sends one item, and notes what it was told."""

    def __init__(self, channel: Channel[str], item: str) -> None:
        self.channel = channel
        self.item = item
        self.scope = anyio.CancelScope()
        self.over = self.delivered = self.went_on = False

    async def run(self) -> None:
        with self.scope:
            try:
                await self.channel.send.send(self.item)
                self.delivered = True
                await anyio.sleep_forever()
                self.went_on = True
            finally:
                self.over = True


# Cancelled by a scope


@pytest.mark.parametrize("size", [0, 1])
async def test_cancelled_send_was_not_delivered(size: int) -> None:
    """A blocked send that is cancelled raises and leaves nothing in the channel."""
    channel = open_channel[str](size)
    for _ in range(size):
        channel.send.send_nowait("first")
    producer = Producer(channel, "lost?")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(producer.run)
        await sender_blocks(channel)
        producer.scope.cancel()
    assert not producer.delivered
    stats = channel.send.statistics()
    assert (stats.sent, stats.waiters_send, stats.current_buffer_used) == (size, 0, size)
    await channel.send.aclose()
    assert [item async for item in channel.recv] == ["first"] * size


@ORDERS
@pytest.mark.parametrize("size", [0, 1])
async def test_send_cancelled_in_the_round_of_its_wake_up_tells_the_truth(
    size: int, order: str
) -> None:
    """A send that returned has delivered and one that raised has not, whatever came first."""
    channel = open_channel[str](size)
    for _ in range(size):
        channel.send.send_nowait("first")
    producer = Producer(channel, "item")
    received: list[str] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(producer.run)
        await sender_blocks(channel)
        in_one_round(order, lambda: take(channel, received), producer.scope.cancel)
        await until(lambda: producer.over)
        await channel.send.aclose()
        received += [item async for item in channel.recv]
    assert received.count("item") == int(producer.delivered)
    assert received.count("first") == size
    assert not producer.went_on
    if size == 0:
        assert producer.delivered == (order == "wake first")
    assert channel.send.statistics().sent == len(received)


@ORDERS
@pytest.mark.parametrize("size", [0, 1])
async def test_receive_cancelled_in_the_round_of_its_wake_up_loses_nothing(
    size: int, order: str
) -> None:
    """An item that woke a receiver which is cancelled meanwhile is there for the next one."""
    channel = open_channel[str](size)
    scope = anyio.CancelScope()
    received: list[str] = []

    async def consume() -> None:
        with scope:
            received.append(await channel.recv.receive())

    async def produce() -> None:
        await channel.send.send("item")
        await channel.send.aclose()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await receiver_blocks(channel)
        tasks.start_soon(produce)
        if order == "wake first":
            await until(lambda: not channel.send.statistics().waiters_receive)
        scope.cancel()
        await rounds()
        received += [item async for item in channel.recv]
    assert received == ["item"]
    stats = channel.send.statistics()
    assert (stats.sent, stats.received, stats.discarded) == (1, 1, 0)


async def test_item_handed_to_a_cancelled_receiver_at_a_rendezvous_keeps_its_place() -> None:
    """What `send_nowait` handed over in the round of a cancellation comes first, once."""
    channel = open_channel[str](0)
    scope = anyio.CancelScope()
    received: list[str] = []

    async def consume() -> None:
        with scope:
            received.append(await channel.recv.receive())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await receiver_blocks(channel)
        channel.send.send_nowait("first")
        scope.cancel()
        await rounds()
        tasks.start_soon(channel.send.send, "second")
        await rounds()
        while len(received) < 2:
            received.append(await channel.recv.receive())
    assert received == ["first", "second"]
    assert channel.send.statistics().sent == 2


NEXT_AWAITS: dict[str, Callable[[], Awaitable[object]]] = {
    "a checkpoint": checkpoint,
    "an endless sleep": anyio.sleep_forever,
    "a receive that waits": lambda: open_channel[int](1).recv.receive(),
    "a send that need not wait": lambda: open_channel[int](1).send.send(1),
    "a send that waits": lambda: open_channel[int](0).send.send(1),
}


@pytest.mark.parametrize("what", NEXT_AWAITS)
async def test_scope_catches_a_cancellation_that_came_too_late(what: str) -> None:
    """After a send that was delivered in the round of its cancellation, the next await raises."""
    channel = open_channel[int](0)
    scope = anyio.CancelScope()
    events = []

    async def produce() -> None:
        with scope:
            await channel.send.send(1)
            events.append("delivered")
            await NEXT_AWAITS[what]()
            events.append("went on")
        events.append("left")
        await rounds(3)
        events.append("after")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        await sender_blocks(channel)
        in_one_round("wake first", channel.recv.receive_nowait, scope.cancel)
    assert events == ["delivered", "left", "after"]
    assert scope.cancelled_caught


async def test_scope_left_after_a_send_that_was_delivered_cancels_nothing_more() -> None:
    """A cancellation that found nothing left to cancel does not reach beyond its scope."""
    channel = open_channel[int](0)
    scope = anyio.CancelScope()
    events = []

    async def produce() -> None:
        with scope:
            await channel.send.send(1)
            events.append("delivered")
        await rounds(3)
        events.append("after")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        await sender_blocks(channel)
        in_one_round("wake first", channel.recv.receive_nowait, scope.cancel)
    assert events == ["delivered", "after"]


async def test_block_of_an_endpoint_closes_it_when_cancelled() -> None:
    """Leaving `async with` by cancellation closes the end, and wakes the peer."""
    channel = open_channel[int](1)

    async def produce() -> None:
        async with channel.send:
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        scope = anyio.CancelScope()

        async def cancelled() -> None:
            with scope:
                await produce()

        tasks.start_soon(cancelled)
        await rounds(3)
        scope.cancel()
        with pytest.raises(EndOfStream):
            await channel.recv.receive()


async def test_cancelled_receive_many_has_taken_nothing() -> None:
    """A `receive_many` that is cancelled in the round of its wake-up leaves every item."""
    channel = open_channel[int](4)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.recv.receive_many, 4)
            await receiver_blocks(channel)
            for n in range(3):
                channel.send.send_nowait(n)
            scope.cancel()
    received = channel.recv.statistics().received
    # On trio, the wake-up came first, and the call returned.
    assert received in (0, 3)
    left = [channel.recv.receive_nowait() for _ in range(3 - received)]
    assert left == list(range(received, 3))


# Cancelled by asyncio


@ONLY_ASYNCIO
@ORDERS
@pytest.mark.parametrize("size", [0, 1])
async def test_send_cancelled_natively_tells_the_truth(size: int, order: str) -> None:
    """`Task.cancel` in the round of the wake-up: what returned has delivered, and vice versa."""
    channel = open_channel[str](size)
    for _ in range(size):
        channel.send.send_nowait("first")
    producer = Producer(channel, "item")
    task = asyncio.create_task(producer.run())
    await sender_blocks(channel)
    received: list[str] = []
    in_one_round(order, lambda: take(channel, received), lambda: task.cancel())
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    await channel.send.aclose()
    received += [item async for item in channel.recv]
    assert received.count("item") == int(producer.delivered)
    assert received.count("first") == size
    assert not producer.went_on
    if size == 0:
        assert producer.delivered == (order == "wake first")
    assert channel.send.statistics().sent == len(received)


@ONLY_ASYNCIO
@pytest.mark.parametrize("what", NEXT_AWAITS)
async def test_native_cancellation_that_came_too_late_is_not_lost(what: str) -> None:
    """After a send that was delivered, the next await raises what `Task.cancel` asked for."""
    channel = open_channel[int](0)
    events = []

    async def produce() -> None:
        await channel.send.send(1)
        events.append("delivered")
        await NEXT_AWAITS[what]()
        events.append("went on")

    task = asyncio.create_task(produce())
    await sender_blocks(channel)
    in_one_round("wake first", channel.recv.receive_nowait, lambda: task.cancel())
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    assert events == ["delivered"]


@ONLY_ASYNCIO
@ORDERS
@pytest.mark.parametrize("size", [0, 1])
async def test_receive_cancelled_natively_loses_nothing(size: int, order: str) -> None:
    """`Task.cancel` in the round of the wake-up: the item is there for the next receive."""
    channel = open_channel[str](size)
    task = asyncio.create_task(channel.recv.receive())
    await receiver_blocks(channel)
    if order == "wake first":
        channel.send.send_nowait("item")
        task.cancel()
    else:
        task.cancel()
        if size:
            channel.send.send_nowait("item")
    with pytest.raises(asyncio.CancelledError):
        await task
    if not channel.send.statistics().sent:
        sending = asyncio.create_task(channel.send.send("item"))
        assert await channel.recv.receive() == "item"
        await sending
    else:
        assert channel.recv.receive_nowait() == "item"
    stats = channel.recv.statistics()
    assert (stats.sent, stats.received, stats.discarded) == (1, 1, 0)


@ONLY_ASYNCIO
@ORDERS
async def test_sender_whose_receiver_is_cancelled_keeps_its_offer(order: str) -> None:
    """At a rendezvous, a receiver that is cancelled in the round of the offer takes nothing."""
    channel = open_channel[str](0)
    receiving = asyncio.create_task(channel.recv.receive())
    await receiver_blocks(channel)
    if order == "cancel first":
        receiving.cancel()
    sending = asyncio.create_task(channel.send.send("item"))
    await until(lambda: not channel.recv.statistics().waiters_receive)
    if order == "wake first":
        receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    await sender_blocks(channel)
    assert channel.send.statistics().received == 0
    assert await channel.recv.receive() == "item"
    await sending


@ONLY_ASYNCIO
@pytest.mark.parametrize("way", ["leave", *NEXT_AWAITS])
async def test_asyncio_timeout_in_the_round_of_a_rendezvous(way: str) -> None:
    """`asyncio.timeout` that fires as the item is taken ends the next await in it, or nothing."""
    channel = open_channel[int](0)
    loop = asyncio.get_running_loop()
    events = []
    timeout = asyncio.timeout(None)

    async def produce() -> None:
        try:
            async with timeout:
                await channel.send.send(1)
                events.append("delivered")
                if way != "leave":
                    await NEXT_AWAITS[way]()
                    await rounds(5)
        except TimeoutError:
            events.append("timeout")
        await rounds(5)
        events.append("after")

    def expire() -> None:
        timeout.reschedule(loop.time() - 1)

    task = asyncio.create_task(produce())
    await sender_blocks(channel)
    in_one_round("wake first", channel.recv.receive_nowait, expire)
    await asyncio.wait_for(task, 5)
    if way == "leave":
        assert events == ["delivered", "after"]
    else:
        assert events == ["delivered", "timeout", "after"]
    assert task.cancelling() == 0
    assert channel.send.statistics().sent == 1


@ONLY_ASYNCIO
@ORDERS
@pytest.mark.parametrize("size", [0, 1])
async def test_asyncio_timeout_in_the_round_of_an_item_loses_nothing(size: int, order: str) -> None:
    """`asyncio.timeout` that fires as an item arrives: it was received, or is there still."""
    channel = open_channel[str](size)
    loop = asyncio.get_running_loop()
    received: list[str] = []
    timeout = asyncio.timeout(None)

    async def consume() -> None:
        try:
            async with timeout:
                received.append(await channel.recv.receive())
        except TimeoutError:
            pass

    def expire() -> None:
        timeout.reschedule(loop.time() - 1)

    task = asyncio.create_task(consume())
    await receiver_blocks(channel)
    in_one_round(order, lambda: channel.send.send_nowait("item"), expire)
    await asyncio.wait_for(task, 5)
    if not received:
        received.append(channel.recv.receive_nowait())
    assert received == ["item"]
    assert channel.recv.statistics().received == 1


@ONLY_ASYNCIO
@pytest.mark.parametrize("size", [0, 1])
async def test_close_and_cancellation_in_one_round(size: int) -> None:
    """A blocked send that is cancelled as the receiver goes was not delivered."""
    channel = open_channel[str](size)
    for _ in range(size):
        channel.send.send_nowait("first")
    task = asyncio.create_task(channel.send.send("item"))
    await sender_blocks(channel)
    await channel.recv.aclose()
    task.cancel()
    with pytest.raises((asyncio.CancelledError, ChannelClosed)):
        await task
    stats = channel.send.statistics()
    assert (stats.sent, stats.received, stats.discarded) == (size, 0, size)


@ONLY_ASYNCIO
async def test_callback_of_the_loop_sends_without_waiting() -> None:
    """`send_nowait` from `call_soon` wakes the receiver."""
    channel = open_channel[int](4)
    loop = asyncio.get_running_loop()
    for n in range(3):
        loop.call_soon(channel.send.send_nowait, n)
    assert [await channel.recv.receive() for _ in range(3)] == [0, 1, 2]


@ONLY_ASYNCIO
async def test_callback_that_would_disturb_a_blocked_send_is_refused() -> None:
    """`send_nowait` from a callback while a task is blocked names the channel and that task."""
    channel = open_channel[int](0, name="obs")
    task = asyncio.create_task(channel.send.send(1), name="producer")
    await sender_blocks(channel)
    errors: list[Exception] = []

    def callback() -> None:
        try:
            channel.send.send_nowait(2)
        except ChannelInUse as error:
            errors.append(error)

    asyncio.get_running_loop().call_soon(callback)
    await until(lambda: errors)
    assert "'obs'" in str(errors[0])
    assert "'producer'" in str(errors[0])
    assert await channel.recv.receive() == 1
    await task


# Any schedule


@given(
    size=st.integers(0, 3),
    cancel=st.lists(st.tuples(st.sampled_from("sr"), st.integers(0, 3)), max_size=20),
)
async def test_cancellations_at_any_moment_lose_and_repeat_nothing(
    size: int, cancel: list[tuple[str, int]]
) -> None:
    """Whenever either side is cancelled, every item counts as delivered exactly if it arrives."""
    channel = open_channel[int](size)
    delivered: list[int] = []
    received: list[int] = []
    scopes: dict[str, anyio.CancelScope] = {}
    finished = False

    async def produce() -> None:
        n = 0
        while not finished:
            with anyio.CancelScope() as scopes["s"]:
                await channel.send.send(n)
                delivered.append(n)
            n += 1
        await channel.send.aclose()

    async def consume() -> None:
        while True:
            with anyio.CancelScope() as scopes["r"]:
                try:
                    received.append(await channel.recv.receive())
                except EndOfStream:
                    return

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        tasks.start_soon(consume)
        await rounds(2)
        for who, pause in cancel:
            scopes[who].cancel()
            await rounds(pause)
        finished = True
    assert received == delivered
    stats = channel.recv.statistics()
    assert (stats.sent, stats.received, stats.discarded) == (len(received), len(received), 0)
