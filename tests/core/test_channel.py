import gc
import math
import pickle
from collections import deque
from typing import Any

import anyio
import pytest
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


async def test_closed_sender_discards_nothing_until_its_receiver_closes() -> None:
    """Items that could still be drained count as discarded when the receiver closes."""
    channel = open_channel[int](8)
    await channel.send.send_many(range(5))
    await channel.send.aclose()
    assert channel.recv.statistics().discarded == 0
    await channel.recv.aclose()
    assert channel.recv.statistics().discarded == 5


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


# Statistics


def test_statistics_that_are_not_known() -> None:
    """A transport that does not know a count says -1."""
    stats = ChannelStats(0, 4, 1, 1, 0, 0)
    assert (stats.sent, stats.received, stats.discarded, stats.high_water) == (-1, -1, -1, -1)


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
