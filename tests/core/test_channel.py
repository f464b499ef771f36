import gc
import math
import pickle
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from chrono_core import (
    Channel,
    ChannelClosed,
    ChannelError,
    ChannelInUse,
    ChannelStats,
    ChronoError,
    EndOfStream,
    EndpointClosed,
    ReceiveStream,
    SendStream,
    WouldBlock,
    open_channel,
)
from hypothesis import given
from hypothesis import strategies as st

from .scheduling import rounds, until

SIZES = [0, 1, 3, math.inf]


async def sender_blocks(channel: Channel[Any]) -> None:
    await until(lambda: channel.send.statistics().waiters_send)


async def receiver_blocks(channel: Channel[Any]) -> None:
    await until(lambda: channel.send.statistics().waiters_receive)


# Opening


@pytest.mark.parametrize("size", [-1, -0.5, 0.5, 2.5, math.nan, -math.inf, "4", None, [4]])
def test_size_that_is_no_count_is_refused(size: Any) -> None:
    """A size that is negative, fractional or not a number is refused with its value."""
    with pytest.raises(ValueError, match="maxsize") as caught:
        open_channel[int](size)
    assert repr(size) in str(caught.value)


@pytest.mark.parametrize("size", SIZES)
def test_size_that_is_a_count_is_accepted(size: float) -> None:
    """Zero, whole numbers and infinity are sizes."""
    assert open_channel[int](size).send.statistics().max_buffer_size == size


def test_channel_is_a_rendezvous_by_default() -> None:
    """Where no size is given, it is 0."""
    assert open_channel[int]().recv.statistics().max_buffer_size == 0


def test_channel_has_two_ends_and_a_name() -> None:
    """A channel is its sending end, its receiving end and its name."""
    channel = open_channel[int](4, name="obs")
    assert isinstance(channel.send, SendStream)
    assert isinstance(channel.recv, ReceiveStream)
    assert channel.name == "obs"


def test_unnamed_channels_have_different_names() -> None:
    """A name that is made up is not that of another channel."""
    names = [open_channel[int](4).name for _ in range(10)]
    assert all(names)
    assert len(set(names)) == 10


# Sending and receiving


@pytest.mark.parametrize("size", SIZES)
async def test_items_arrive_once_and_in_order(size: float) -> None:
    """Whatever is sent arrives once, in the order in which it was sent."""
    channel = open_channel[int](size)
    received = []

    async def produce() -> None:
        async with channel.send:
            for n in range(100):
                await channel.send.send(n)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        async for item in channel.recv:
            received.append(item)
    assert received == list(range(100))


@pytest.mark.parametrize("item", [None, False, 0, "", (), math.nan])
@pytest.mark.parametrize("size", [0, 2])
async def test_any_object_is_an_item(size: int, item: object) -> None:
    """Falsy items are items like others, and are not copied."""
    channel = open_channel[object](size)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.send.send, item)
        assert await channel.recv.receive() is item


async def test_rendezvous_send_returns_when_the_item_was_taken() -> None:
    """With size 0, a send is not over before the receiver has the item."""
    channel = open_channel[str](0)
    over = False

    async def produce() -> None:
        nonlocal over
        await channel.send.send("item")
        over = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        await sender_blocks(channel)
        await rounds()
        assert not over
        assert await channel.recv.receive() == "item"
        await until(lambda: over)


async def test_buffered_send_does_not_wait_for_a_receiver() -> None:
    """Up to the size of the buffer, items are sent with nobody there."""
    channel = open_channel[int](3)
    for n in range(3):
        await channel.send.send(n)
    assert channel.recv.statistics().current_buffer_used == 3


async def test_full_buffer_makes_the_sender_wait() -> None:
    """A send into a full buffer returns once there is room."""
    channel = open_channel[int](1)
    await channel.send.send(1)
    over = False

    async def produce() -> None:
        nonlocal over
        await channel.send.send(2)
        over = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        await sender_blocks(channel)
        await rounds()
        assert not over
        assert channel.recv.statistics().current_buffer_used == 1
        assert channel.recv.receive_nowait() == 1
        await until(lambda: over)
        assert channel.recv.receive_nowait() == 2


async def test_unbounded_channel_never_makes_the_sender_wait() -> None:
    """With an infinite size, there is always room."""
    channel = open_channel[int](math.inf)
    for n in range(10_000):
        channel.send.send_nowait(n)
    await channel.send.send(10_000)
    assert channel.recv.statistics().current_buffer_used == 10_001


async def test_empty_channel_makes_the_receiver_wait() -> None:
    """A receive from an empty channel returns once there is an item."""
    channel = open_channel[int](1)
    received = []

    async def consume() -> None:
        received.append(await channel.recv.receive())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await receiver_blocks(channel)
        await rounds()
        assert received == []
        channel.send.send_nowait(7)
        await until(lambda: received)
    assert received == [7]


@pytest.mark.parametrize("size", [1, 3])
def test_send_nowait_into_a_full_buffer_would_block(size: int) -> None:
    """`send_nowait` without room raises, naming the channel, and sends nothing."""
    channel = open_channel[int](size, name="obs")
    for n in range(size):
        channel.send.send_nowait(n)
    with pytest.raises(WouldBlock, match="'obs'") as caught:
        channel.send.send_nowait(9)
    assert caught.value.channel == "obs"
    assert [channel.recv.receive_nowait() for _ in range(size)] == list(range(size))
    with pytest.raises(WouldBlock):
        channel.recv.receive_nowait()


def test_send_nowait_at_a_rendezvous_without_a_receiver_would_block() -> None:
    """With size 0, `send_nowait` raises, naming the channel, where nobody waits to receive."""
    channel = open_channel[int](0, name="obs")
    with pytest.raises(WouldBlock, match="'obs'"):
        channel.send.send_nowait(1)
    with pytest.raises(WouldBlock):
        channel.recv.receive_nowait()


async def test_send_nowait_at_a_rendezvous_reaches_a_waiting_receiver_once() -> None:
    """With size 0, `send_nowait` gives one item to the receiver that waits, and no second."""
    channel = open_channel[int](0)
    received = []

    async def consume() -> None:
        received.append(await channel.recv.receive())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await receiver_blocks(channel)
        channel.send.send_nowait(1)
        with pytest.raises(WouldBlock):
            channel.send.send_nowait(2)
    assert received == [1]


def test_receive_nowait_from_an_empty_channel_would_block() -> None:
    """`receive_nowait` without an item raises, naming the channel."""
    channel = open_channel[int](4, name="obs")
    with pytest.raises(WouldBlock, match="'obs'") as caught:
        channel.recv.receive_nowait()
    assert caught.value.channel == "obs"


async def test_receive_nowait_takes_what_a_blocked_sender_offers() -> None:
    """At a rendezvous, `receive_nowait` takes the item of the sender that waits, once."""
    channel = open_channel[int](0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.send.send, 5)
        await sender_blocks(channel)
        assert channel.recv.receive_nowait() == 5
        with pytest.raises(WouldBlock):
            channel.recv.receive_nowait()


async def test_callback_of_the_loop_cannot_overtake_a_blocked_send() -> None:
    """Between the wake-up of a blocked send and its return, nothing else gets its place."""
    channel = open_channel[str](1, name="obs")
    channel.send.send_nowait("first")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.send.send, "second")
        await sender_blocks(channel)
        assert channel.recv.receive_nowait() == "first"
        with pytest.raises(ChannelInUse):
            channel.send.send_nowait("third")
        await until(lambda: channel.send.statistics().sent == 2)
        assert channel.recv.receive_nowait() == "second"
        channel.send.send_nowait("third")
    assert channel.recv.receive_nowait() == "third"


async def test_send_does_not_overtake_an_earlier_send_nowait() -> None:
    """What `send_nowait` handed to a receiver arrives before what is sent after it."""
    channel = open_channel[str](0)
    received = []

    async def consume() -> None:
        for _ in range(2):
            received.append(await channel.recv.receive())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await receiver_blocks(channel)
        channel.send.send_nowait("first")
        await channel.send.send("second")
    assert received == ["first", "second"]


# Many at once


@pytest.mark.parametrize("size", SIZES)
async def test_send_many_sends_everything_in_order(size: float) -> None:
    """`send_many` sends what an iterable yields, waiting for room as needed."""
    channel = open_channel[int](size)
    many = 3000 if size == math.inf else 100
    received = []

    async def produce() -> None:
        await channel.send.send_many(n for n in range(many))
        await channel.send.aclose()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        async for item in channel.recv:
            received.append(item)
    assert received == list(range(many))
    assert channel.send.statistics().sent == many
    assert channel.send.statistics().high_water <= size


@pytest.mark.parametrize("size", SIZES)
async def test_send_many_of_nothing_sends_nothing(size: float) -> None:
    """`send_many` of an empty iterable returns without a receiver."""
    channel = open_channel[int](size)
    await channel.send.send_many([])
    assert channel.send.statistics().sent == 0


async def test_send_many_that_just_fits_does_not_wait() -> None:
    """`send_many` of as much as there is room for returns with no receiver there."""
    channel = open_channel[int](4)
    with anyio.fail_after(5):
        await channel.send.send_many(range(4))
    assert channel.recv.statistics().current_buffer_used == 4


@pytest.mark.parametrize("size", [2, math.inf])
async def test_send_many_counts_the_prefix_that_it_sent_before_an_error(size: float) -> None:
    """Where the iterable raises, that comes out, and `sent` tells how much was delivered."""
    channel = open_channel[int](size)

    def items() -> Iterator[int]:
        yield from range(2)
        yield 2
        raise ZeroDivisionError

    received = []

    async def consume() -> None:
        async for item in channel.recv:
            received.append(item)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        with pytest.raises(ZeroDivisionError):
            await channel.send.send_many(items())
        sent = channel.send.statistics().sent
        await channel.send.send(99)
        await channel.send.aclose()
    assert received == [*range(sent), 99]


async def test_send_many_at_a_rendezvous_delivers_what_came_before_an_error() -> None:
    """At a rendezvous, each item is taken before the next is asked for."""
    channel = open_channel[int](0)
    received = []

    def items() -> Iterator[int]:
        for n in range(3):
            assert len(received) == n
            yield n
        raise ZeroDivisionError

    async def consume() -> None:
        async for item in channel.recv:
            received.append(item)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        with pytest.raises(ZeroDivisionError):
            await channel.send.send_many(items())
        await channel.send.aclose()
    assert received == [0, 1, 2]


async def test_send_many_tells_when_the_receiver_goes() -> None:
    """`send_many` raises once nobody is there any more, and sends no further item."""
    channel = open_channel[int](2, name="obs")

    async def consume() -> None:
        assert [await channel.recv.receive() for _ in range(3)] == [0, 1, 2]
        await channel.recv.aclose()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        with pytest.raises(ChannelClosed, match="'obs'"):
            await channel.send.send_many(range(1000))
    stats = channel.send.statistics()
    assert stats.received == 3
    assert stats.sent == stats.received + stats.discarded < 10


async def test_receive_many_takes_what_is_there_up_to_the_maximum() -> None:
    """`receive_many` waits for one item and takes no more than it was told to."""
    channel = open_channel[int](10)
    for n in range(5):
        channel.send.send_nowait(n)
    assert await channel.recv.receive_many(3) == [0, 1, 2]
    assert await channel.recv.receive_many(3) == [3, 4]
    received = []

    async def consume() -> None:
        received.append(await channel.recv.receive_many(3))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await receiver_blocks(channel)
        channel.send.send_nowait(5)
        channel.send.send_nowait(6)
    assert received == [[5, 6]]


async def test_receive_many_makes_room_for_a_blocked_sender() -> None:
    """A sender that waits for room goes on after `receive_many`."""
    channel = open_channel[int](2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.send.send_many, range(4))
        await sender_blocks(channel)
        assert await channel.recv.receive_many(10) == [0, 1]
        await until(lambda: channel.send.statistics().sent == 4)
        assert await channel.recv.receive_many(10) == [2, 3]


async def test_receive_many_at_the_end_of_the_stream() -> None:
    """`receive_many` gives the rest, and raises `EndOfStream` after it."""
    channel = open_channel[int](4)
    await channel.send.send_many(range(3))
    await channel.send.aclose()
    assert await channel.recv.receive_many(10) == [0, 1, 2]
    with pytest.raises(EndOfStream):
        await channel.recv.receive_many(10)


@pytest.mark.parametrize("max_items", [0, -1, 1.5, math.nan, "3", None])
async def test_receive_many_checks_its_argument_at_the_call(max_items: Any) -> None:
    """A maximum that is no count is refused by the call, not by its await."""
    channel = open_channel[int](4)
    with pytest.raises(ValueError, match="max_items") as caught:
        channel.recv.receive_many(max_items)
    assert repr(max_items) in str(caught.value)


async def test_send_many_checks_its_argument_at_the_call() -> None:
    """What is not iterable is refused by the call, not by its await."""
    channel = open_channel[int](4)
    not_iterable: Any = 5
    with pytest.raises(TypeError):
        channel.send.send_many(not_iterable)


# Closing


async def test_buffered_items_drain_before_the_end_of_the_stream() -> None:
    """After the sender closed, what it had sent is received, and then the end, for good."""
    channel = open_channel[int](4, name="obs")
    await channel.send.send_many(range(3))
    await channel.send.aclose()
    assert await channel.recv.receive() == 0
    assert channel.recv.receive_nowait() == 1
    assert await channel.recv.receive() == 2
    for _ in range(3):
        with pytest.raises(EndOfStream, match="'obs'") as caught:
            await channel.recv.receive()
        assert caught.value.channel == "obs"
        with pytest.raises(EndOfStream, match="'obs'"):
            channel.recv.receive_nowait()
        assert [item async for item in channel.recv] == []


@pytest.mark.parametrize("size", SIZES)
async def test_closing_the_sender_wakes_a_blocked_receiver(size: float) -> None:
    """A receive that waits when the sender closes raises `EndOfStream`."""
    channel = open_channel[int](size, name="obs")

    async def consume() -> None:
        with pytest.raises(EndOfStream, match="'obs'"):
            await channel.recv.receive()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await receiver_blocks(channel)
        await channel.send.aclose()


@pytest.mark.parametrize("size", SIZES)
async def test_sending_to_a_receiver_that_has_gone(size: float) -> None:
    """After the receiver closed, every way of sending raises `ChannelClosed`."""
    channel = open_channel[int](size, name="obs")
    await channel.recv.aclose()
    for _ in range(2):
        with pytest.raises(ChannelClosed, match="'obs'") as caught:
            await channel.send.send(1)
        assert caught.value.channel == "obs"
        with pytest.raises(ChannelClosed, match="'obs'"):
            channel.send.send_nowait(1)
        with pytest.raises(ChannelClosed, match="'obs'"):
            await channel.send.send_many([1])
    assert channel.send.statistics().sent == 0


@pytest.mark.parametrize("size", [0, 1])
async def test_closing_the_receiver_wakes_a_blocked_sender(size: int) -> None:
    """A send that waits when the receiver closes raises `ChannelClosed` and has sent nothing."""
    channel = open_channel[int](size, name="obs")
    for n in range(size):
        channel.send.send_nowait(n)

    async def produce() -> None:
        with pytest.raises(ChannelClosed, match="'obs'"):
            await channel.send.send(1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        await sender_blocks(channel)
        await channel.recv.aclose()
    stats = channel.send.statistics()
    assert (stats.sent, stats.received, stats.discarded) == (size, 0, size)


async def test_items_never_taken_are_counted_as_discarded() -> None:
    """Closing the receiver discards what it has not taken, and counts it once."""
    channel = open_channel[int](8)
    await channel.send.send_many(range(5))
    assert await channel.recv.receive() == 0
    assert channel.recv.statistics().discarded == 0
    await channel.recv.aclose()
    await channel.recv.aclose()
    stats = channel.send.statistics()
    assert (stats.sent, stats.received, stats.discarded) == (5, 1, 4)
    assert stats.current_buffer_used == 0


async def test_closed_sender_discards_nothing_until_its_receiver_closes() -> None:
    """Items that could still be drained count as discarded when the receiver closes."""
    channel = open_channel[int](8)
    await channel.send.send_many(range(5))
    await channel.send.aclose()
    assert channel.recv.statistics().discarded == 0
    await channel.recv.aclose()
    assert channel.recv.statistics().discarded == 5


@pytest.mark.parametrize("size", SIZES)
async def test_using_ones_own_closed_sender(size: float) -> None:
    """Sending on an end that one closed oneself is `EndpointClosed`, even with the peer gone."""
    channel = open_channel[int](size, name="obs")
    await channel.send.aclose()
    for _ in range(2):
        with pytest.raises(EndpointClosed, match="'obs'") as caught:
            await channel.send.send(1)
        assert caught.value.channel == "obs"
        with pytest.raises(EndpointClosed, match="'obs'"):
            channel.send.send_nowait(1)
        with pytest.raises(EndpointClosed, match="'obs'"):
            await channel.send.send_many([1])
        with pytest.raises(EndpointClosed, match="'obs'"):
            await channel.send.send_many([])
        await channel.recv.aclose()


@pytest.mark.parametrize("size", SIZES)
async def test_using_ones_own_closed_receiver(size: float) -> None:
    """Receiving on an end that one closed oneself is `EndpointClosed`, even with the peer gone."""
    channel = open_channel[int](size, name="obs")
    await channel.recv.aclose()
    for _ in range(2):
        with pytest.raises(EndpointClosed, match="'obs'") as caught:
            await channel.recv.receive()
        assert caught.value.channel == "obs"
        with pytest.raises(EndpointClosed, match="'obs'"):
            channel.recv.receive_nowait()
        with pytest.raises(EndpointClosed, match="'obs'"):
            await channel.recv.receive_many(3)
        with pytest.raises(EndpointClosed, match="'obs'"):
            async for _item in channel.recv:
                raise AssertionError
        await channel.send.aclose()


@pytest.mark.parametrize("size", [0, 1])
async def test_closing_the_sender_wakes_whoever_is_blocked_at_that_end(size: int) -> None:
    """A send whose own end is closed by another task raises `EndpointClosed`, not delivered."""
    channel = open_channel[int](size, name="obs")
    for n in range(size):
        channel.send.send_nowait(n)

    async def produce() -> None:
        with pytest.raises(EndpointClosed, match="'obs'"):
            await channel.send.send(9)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        await sender_blocks(channel)
        await channel.send.aclose()
    assert [item async for item in channel.recv] == list(range(size))


async def test_closing_the_receiver_wakes_whoever_is_blocked_at_that_end() -> None:
    """A receive whose own end is closed by another task raises `EndpointClosed`."""
    channel = open_channel[int](1, name="obs")

    async def consume() -> None:
        with pytest.raises(EndpointClosed, match="'obs'"):
            await channel.recv.receive()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await receiver_blocks(channel)
        await channel.recv.aclose()


async def test_item_sent_in_the_round_of_the_close_still_arrives() -> None:
    """A receiver that was woken for an item gets it, though the sender closed since."""
    channel = open_channel[int](0)
    received = []

    async def consume() -> None:
        async for item in channel.recv:
            received.append(item)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await receiver_blocks(channel)
        channel.send.send_nowait(1)
        await channel.send.aclose()
    assert received == [1]


async def test_rendezvous_that_took_place_before_the_receiver_closed_has_taken_place() -> None:
    """A send whose item was taken returns, though the receiver closed in the same round."""
    channel = open_channel[int](0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.send.send, 1)
        await sender_blocks(channel)
        assert channel.recv.receive_nowait() == 1
        await channel.recv.aclose()
    stats = channel.send.statistics()
    assert (stats.sent, stats.received, stats.discarded) == (1, 1, 0)


async def test_closing_twice_is_fine() -> None:
    """Each end may be closed again, by whatever way."""
    channel = open_channel[int](1)
    for _ in range(2):
        await channel.send.aclose()
        await channel.recv.aclose()
    async with channel.send, channel.recv:
        pass
    stats = channel.send.statistics()
    assert (stats.open_send_streams, stats.open_receive_streams) == (0, 0)


async def test_endpoints_close_when_their_block_is_left() -> None:
    """An end used as a context manager is itself inside, and closed after it."""
    channel = open_channel[int](1)
    async with channel.send as send, channel.recv as recv:
        assert send is channel.send
        assert recv is channel.recv
        stats = send.statistics()
        assert (stats.open_send_streams, stats.open_receive_streams) == (1, 1)
    stats = channel.recv.statistics()
    assert (stats.open_send_streams, stats.open_receive_streams) == (0, 0)


async def test_endpoints_close_when_their_block_fails() -> None:
    """An end used as a context manager is closed where an error leaves the block, and it leaves."""
    channel = open_channel[int](1)
    with pytest.raises(ZeroDivisionError):
        async with channel.send, channel.recv:
            raise ZeroDivisionError
    stats = channel.recv.statistics()
    assert (stats.open_send_streams, stats.open_receive_streams) == (0, 0)


@pytest.mark.parametrize("close", ["send", "recv", "both", "neither"])
async def test_dropped_channel_warns_nobody(close: str, recwarn: pytest.WarningsRecorder) -> None:
    """A channel may be forgotten in any state, with items in it."""
    channel = open_channel[int](8)
    await channel.send.send_many(range(4))
    if close in ("send", "both"):
        await channel.send.aclose()
    if close in ("recv", "both"):
        await channel.recv.aclose()
    del channel
    gc.collect()
    assert not recwarn.list


async def test_iteration_ends_with_the_stream_and_can_be_taken_up_again() -> None:
    """`async for` may be left and started again, and ends where the stream does."""
    channel = open_channel[int](8)
    await channel.send.send_many(range(5))
    await channel.send.aclose()
    async for item in channel.recv:
        if item == 1:
            break
    assert [item async for item in channel.recv] == [2, 3, 4]


async def test_iteration_left_early_leaves_nothing_behind(
    recwarn: pytest.WarningsRecorder,
) -> None:
    """Leaving `async for` early leaves no generator to be closed, and warns nobody."""
    channel = open_channel[int](8)
    await channel.send.send_many(range(5))
    async for _item in channel.recv:
        break
    gc.collect()
    await rounds()
    assert not recwarn.list
    assert channel.recv.statistics().current_buffer_used == 4


# One task at an end


async def named(name: str, run: Callable[[], Any]) -> None:
    """Run something in a task of this name."""

    async def body() -> None:
        await run()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(body, name=name)


def assert_in_use(error: ChannelInUse, *names: str) -> None:
    assert error.channel == "obs"
    for name in ("obs", *names):
        assert repr(name) in str(error)


@pytest.mark.parametrize("way", ["receive", "receive_nowait", "receive_many", "iteration"])
async def test_second_receiver_is_refused(way: str) -> None:
    """While a receive waits, another task's is refused, naming the channel and both tasks."""
    channel = open_channel[int](1, name="obs")
    recv = channel.recv
    received = []

    async def first() -> None:
        received.append(await recv.receive())

    async def second() -> None:
        with pytest.raises(ChannelInUse) as caught:
            match way:
                case "receive":
                    await recv.receive()
                case "receive_nowait":
                    recv.receive_nowait()
                case "receive_many":
                    await recv.receive_many(3)
                case "iteration":
                    async for _item in recv:
                        raise AssertionError
        assert_in_use(caught.value, "consumer", "intruder")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first, name="consumer")
        await receiver_blocks(channel)
        await named("intruder", second)
        await channel.send.send(7)
    assert received == [7]


@pytest.mark.parametrize("way", ["send", "send_nowait", "send_many"])
@pytest.mark.parametrize("first_way", ["send", "send_many"])
@pytest.mark.parametrize("size", [0, 1])
async def test_second_sender_is_refused(size: int, first_way: str, way: str) -> None:
    """While a send waits, another task's is refused, naming the channel and both tasks."""
    channel = open_channel[int](size, name="obs")
    send = channel.send
    for n in range(size):
        send.send_nowait(n)

    async def first() -> None:
        if first_way == "send":
            await send.send(5)
        else:
            await send.send_many([5])

    async def second() -> None:
        with pytest.raises(ChannelInUse) as caught:
            match way:
                case "send":
                    await send.send(6)
                case "send_nowait":
                    send.send_nowait(6)
                case "send_many":
                    await send.send_many([6])
        assert_in_use(caught.value, "producer", "intruder")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first, name="producer")
        await sender_blocks(channel)
        await named("intruder", second)
        assert [await channel.recv.receive() for _ in range(size + 1)] == [*range(size), 5]
    assert send.statistics().sent == size + 1


async def test_receiver_that_was_woken_is_still_using_its_end() -> None:
    """Between a wake-up and the return of the receive, nobody else takes the item."""
    channel = open_channel[int](1, name="obs")
    received = []

    async def consume() -> None:
        received.append(await channel.recv.receive())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume, name="consumer")
        await receiver_blocks(channel)
        channel.send.send_nowait(7)
        with pytest.raises(ChannelInUse):
            channel.recv.receive_nowait()
    assert received == [7]


async def test_tasks_may_use_an_end_one_after_the_other() -> None:
    """An end belongs to a task only while it is inside a call."""
    channel = open_channel[int](8)
    received = []

    async def consume() -> None:
        received.append(await channel.recv.receive())

    for n in range(3):
        await named("producer", lambda n=n: channel.send.send(n))
    for _ in range(3):
        await named("consumer", consume)
    assert received == [0, 1, 2]


# Statistics


def test_statistics_of_a_new_channel() -> None:
    """A new channel is open at both ends and has moved nothing."""
    channel = open_channel[int](4)
    expected = ChannelStats(
        current_buffer_used=0,
        max_buffer_size=4,
        open_send_streams=1,
        open_receive_streams=1,
        waiters_send=0,
        waiters_receive=0,
        sent=0,
        received=0,
        discarded=0,
        high_water=0,
    )
    assert channel.send.statistics() == expected
    assert channel.recv.statistics() == expected


def test_statistics_that_are_not_known() -> None:
    """A transport that does not know a count says -1."""
    stats = ChannelStats(0, 4, 1, 1, 0, 0)
    assert (stats.sent, stats.received, stats.discarded, stats.high_water) == (-1, -1, -1, -1)


async def test_statistics_count_what_was_moved() -> None:
    """The figures say what was sent, received and buffered, and how much at most."""
    channel = open_channel[int](8)
    await channel.send.send_many(range(5))
    await channel.recv.receive_many(4)
    await channel.send.send(5)
    stats = channel.send.statistics()
    assert stats.current_buffer_used == 2
    assert (stats.sent, stats.received, stats.discarded) == (6, 4, 0)
    assert stats.high_water == 5


@pytest.mark.parametrize("size", [0, 1])
async def test_statistics_count_who_waits(size: int) -> None:
    """Whoever is blocked is counted while he is, and no item counts as sent before its time."""
    channel = open_channel[int](size)
    for n in range(size):
        channel.send.send_nowait(n)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.send.send, 9)
        await sender_blocks(channel)
        stats = channel.recv.statistics()
        assert (stats.waiters_send, stats.waiters_receive) == (1, 0)
        assert (stats.sent, stats.current_buffer_used) == (size, size)
        for _ in range(size + 1):
            await channel.recv.receive()
    assert channel.recv.statistics().waiters_send == 0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.recv.receive)
        await receiver_blocks(channel)
        assert channel.recv.statistics().waiters_receive == 1
        await channel.send.send(1)
    assert channel.recv.statistics().waiters_receive == 0


# Giving way


WAYS: dict[str, Callable[[Channel[int]], Coroutine[Any, Any, object]]] = {
    "send": lambda channel: channel.send.send(1),
    "receive": lambda channel: channel.recv.receive(),
    "send_many": lambda channel: channel.send.send_many([1]),
    "receive_many": lambda channel: channel.recv.receive_many(2),
}


@types.coroutine
def suspensions(call: Coroutine[Any, Any, object]) -> Generator[Any, Any, int]:
    """Await a call, and count how often it gave way."""
    count = 0
    try:
        trap = call.send(None)
        while True:
            count += 1
            trap = call.send((yield trap))
    except StopIteration:
        return count


@pytest.mark.parametrize("way", WAYS)
async def test_call_yields_once_in_sixteen(way: str) -> None:
    """Of 16 calls in a row that need not wait, one gives way to other tasks."""
    channel = open_channel[int](math.inf)
    for n in range(1000):
        channel.send.send_nowait(n)
    counts = [await suspensions(WAYS[way](channel)) for _ in range(160)]
    assert all(any(counts[n : n + 16]) for n in range(160 - 15))


@pytest.mark.parametrize("way", WAYS)
async def test_calls_that_need_not_wait_cost_no_rounds_but_these(way: str) -> None:
    """Calls that need not wait give way about once in 16, and not more often."""
    channel = open_channel[int](math.inf)
    for n in range(1000):
        channel.send.send_nowait(n)
    counts = [await suspensions(WAYS[way](channel)) for _ in range(160)]
    assert max(counts) == 1
    assert 9 <= sum(counts) <= 12


async def test_busy_pair_does_not_starve_others() -> None:
    """While a producer and a consumer keep each other busy, a third task runs."""
    channel = open_channel[int](64)
    turns = 0

    async def produce() -> None:
        for n in range(1000):
            await channel.send.send(n)
        await channel.send.aclose()

    async def consume() -> None:
        async for _item in channel.recv:
            pass
        tasks.cancel_scope.cancel()

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        tasks.start_soon(consume)
        tasks.start_soon(other)
    assert turns >= 1000 // 64


async def test_send_many_of_very_much_gives_way() -> None:
    """One `send_many` of an endless iterable does not starve others."""
    channel = open_channel[int](math.inf)

    def endless() -> Iterator[int]:
        n = 0
        while n < 1_000_000:
            yield n
            n += 1

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.send.send_many, endless())
            await until(lambda: channel.send.statistics().sent)
            scope.cancel()
    assert channel.send.statistics().sent < 1_000_000


# Errors


def test_errors_of_channels_are_one_family() -> None:
    """Every error of a channel is a `ChannelError`, which is a `ChronoError`."""
    for error in (EndOfStream, ChannelClosed, EndpointClosed, ChannelInUse, WouldBlock):
        assert error.__bases__ == (ChannelError,)
    assert issubclass(ChannelError, ChronoError)


def test_errors_of_channels_survive_pickling() -> None:
    """An error of a channel keeps its message and its channel in another process."""
    with pytest.raises(WouldBlock) as caught:
        open_channel[int](4, name="obs").recv.receive_nowait()
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is WouldBlock
    assert str(copy) == str(caught.value)
    assert copy.channel == "obs"


# A model


class Model:
    """What a buffered channel does, as plainly as it can be written."""

    def __init__(self, size: float) -> None:
        self.size = size
        self.items: deque[int] = deque()
        self.send_open = self.recv_open = True
        self.sent = self.received = self.discarded = self.high_water = 0

    def send(self, item: int) -> type[ChannelError] | None:
        if not self.send_open:
            return EndpointClosed
        if not self.recv_open:
            return ChannelClosed
        if len(self.items) >= self.size:
            return WouldBlock
        self.items.append(item)
        self.sent += 1
        self.high_water = max(self.high_water, len(self.items))
        return None

    def receive(self) -> int | type[ChannelError]:
        if not self.recv_open:
            return EndpointClosed
        if not self.items:
            return WouldBlock if self.send_open else EndOfStream
        self.received += 1
        return self.items.popleft()

    def close_receiver(self) -> None:
        self.recv_open = False
        self.discarded += len(self.items)
        self.items.clear()

    def statistics(self) -> ChannelStats:
        return ChannelStats(
            current_buffer_used=len(self.items),
            max_buffer_size=self.size,
            open_send_streams=int(self.send_open),
            open_receive_streams=int(self.recv_open),
            waiters_send=0,
            waiters_receive=0,
            sent=self.sent,
            received=self.received,
            discarded=self.discarded,
            high_water=self.high_water,
        )


OPERATIONS = st.lists(
    st.one_of(
        st.sampled_from(["send", "receive"]),
        st.sampled_from(["send", "receive", "close sender", "close receiver"]),
    ),
    max_size=60,
)


@given(size=st.one_of(st.integers(1, 5), st.just(math.inf)), operations=OPERATIONS)
async def test_calls_without_waiting_do_what_a_model_does(
    size: float, operations: list[str]
) -> None:
    """Any sequence of calls that do not wait has the results and figures of a plain queue."""
    channel = open_channel[int](size)
    model = Model(size)
    for n, operation in enumerate(operations):
        match operation:
            case "send":
                expected: object = model.send(n)
                try:
                    result: object = channel.send.send_nowait(n)
                except ChannelError as error:
                    result = type(error)
                assert result == expected
            case "receive":
                expected = model.receive()
                try:
                    result = channel.recv.receive_nowait()
                except ChannelError as error:
                    result = type(error)
                assert result == expected
            case "close sender":
                model.send_open = False
                await channel.send.aclose()
            case "close receiver":
                model.close_receiver()
                await channel.recv.aclose()
        assert channel.send.statistics() == channel.recv.statistics() == model.statistics()


@given(
    size=st.one_of(st.integers(0, 5), st.just(math.inf)),
    batches=st.lists(st.integers(0, 8), max_size=8),
    takes=st.lists(st.integers(1, 8), min_size=1, max_size=8),
)
async def test_batches_of_any_size_move_every_item_once(
    size: float, batches: list[int], takes: list[int]
) -> None:
    """Whatever sizes items are sent and received in, they arrive once and in order."""
    channel = open_channel[int](size)
    items = iter(range(sum(batches)))
    received: list[int] = []

    async def produce() -> None:
        for batch in batches:
            await channel.send.send_many([next(items) for _ in range(batch)])
        await channel.send.aclose()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        with pytest.raises(EndOfStream):
            while True:
                for take in takes:
                    some = await channel.recv.receive_many(take)
                    assert 1 <= len(some) <= take
                    received += some
    assert received == list(range(sum(batches)))
    assert channel.recv.statistics().high_water <= size
