"""What holds of every channel, within a process and between processes.

A file of tests takes all of these cases, and gives them an `opener` of channels.
"""

import asyncio
import gc
import math
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from functools import partial
from importlib.util import find_spec
from random import Random
from typing import Any

import anyio
import anyio.from_thread
import pytest
from anyio.lowlevel import checkpoint
from chrono_core import (
    Channel,
    ChannelClosed,
    ChannelInUse,
    ChannelStats,
    EndOfStream,
    EndpointClosed,
    ReceiveStream,
    SendStream,
    WouldBlock,
    open_channel,
)
from chrono_core.lowlevel import wait_any

from .channels import (
    PATIENCE,
    Opener,
    arrived,
    meet,
    receiver_blocks,
    receiver_gone,
    sender_blocks,
    stays,
    until,
)

# What holds within one process and cannot between two, and why.
NOT_ACROSS = {
    "identity": "what is received was made of bytes: it equals what was sent, and is another one",
    "any object": "only what has a form in bytes travels",
    "at once": "what one end does is known at the other when news of it has arrived",
    "offer": "at a rendezvous nothing leaves the sender before a receive waits, so that one which "
    "does not wait never meets it",
    "promise": "at a rendezvous, a receive that waits promises to take one item, and its "
    "cancellation does not reach a sender that relies on it",
    "take back": "what was sent may have left the process, so that evict_nowait is not there",
    "before they met": "a receiver that closes before any sender came leaves nobody to tell",
    "the other's waiters": "whether a task waits in another process is not told",
}

SIZES = [0, 1, 3, math.inf]

ONLY_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"])
NO_UVLOOP = find_spec("uvloop") is None
WITH_UVLOOP = pytest.mark.parametrize(
    "anyio_backend",
    [
        "asyncio",
        pytest.param(
            "trio",
            marks=pytest.mark.skipif(find_spec("trio") is None, reason="trio is not installed"),
        ),
        pytest.param(
            ("asyncio", {"use_uvloop": True}),
            id="uvloop",
            marks=pytest.mark.skipif(NO_UVLOOP, reason="uvloop is not installed"),
        ),
    ],
)


def needs_one_process(opener: Opener, what: str) -> None:
    """Skip a case that cannot hold between processes."""
    if opener.crosses:
        pytest.skip(NOT_ACROSS[what])


async def fill(channel: Channel[Any], count: int) -> None:
    """Have so many items, from 0 on, in the channel and ready to be received."""
    await channel.send.send_many(range(count))
    await arrived(channel, count)


async def until_ready(end: SendStream[Any] | ReceiveStream[Any]) -> None:
    """Watch an end until it is ready."""
    while not end.ready():
        await wait_any(end)


# Capacity


@WITH_UVLOOP
@pytest.mark.parametrize("size", [0, 1, 4, 64])
async def test_exactly_as_many_sends_return_as_there_is_room(opener: Opener, size: int) -> None:
    """Of the sends to a receiver that takes nothing, as many return as the channel has room for."""
    channel = opener(size)
    returned = 0

    async def produce() -> None:
        nonlocal returned
        for n in range(1000):
            await channel.send.send(n)
            returned += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        await meet(channel)
        await until(lambda: returned == size)
        await stays(lambda: returned == size)
        assert channel.send.statistics().waiters_send == 1
        for n in range(3):  # and each that is taken makes room for one
            assert await channel.recv.receive() == n
            await until(lambda n=n: returned == size + n + 1)
            await stays(lambda n=n: returned == size + n + 1)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("size", [1, 4, 64])
@pytest.mark.parametrize("met", [False, True])
async def test_send_nowait_fills_the_room_and_no_more(opener: Opener, size: int, met: bool) -> None:
    """`send_nowait` without room raises, naming the channel, and sends nothing."""
    channel = await opener.met(size) if met else opener(size)
    for n in range(size):
        channel.send.send_nowait(n)
    with pytest.raises(WouldBlock, match="'obs'") as caught:
        channel.send.send_nowait(99)
    assert caught.value.channel == "obs"
    await channel.send.aclose()
    assert [item async for item in channel.recv] == list(range(size))


@pytest.mark.parametrize("size", [1, 4, 64])
async def test_send_many_stops_where_the_room_ends(opener: Opener, size: int) -> None:
    """`send_many` of more than there is room for has sent what there was room for, and waits."""
    channel = await opener.met(size)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.send.send_many, range(1000))
        await until(lambda: channel.send.statistics().sent == size)
        await sender_blocks(channel)
        await stays(lambda: channel.send.statistics().sent == size)
        tasks.cancel_scope.cancel()


async def test_send_many_that_just_fits_does_not_wait(opener: Opener) -> None:
    """`send_many` of as much as there is room for returns though nobody receives."""
    channel = opener(4)
    with anyio.fail_after(PATIENCE):
        await channel.send.send_many(range(4))
    assert channel.send.statistics().current_buffer_used == 4


async def test_unbounded_channel_never_makes_the_sender_wait(opener: Opener) -> None:
    """With an infinite size, there is always room."""
    channel = opener(math.inf)
    for n in range(5_000):
        channel.send.send_nowait(n)
    await channel.send.send(5_000)
    assert channel.send.statistics().sent == 5_001
    await arrived(channel, 5_001)
    assert await channel.recv.receive_many(10_000) == list(range(5_001))


async def test_cancelled_and_refused_sends_take_no_room(opener: Opener) -> None:
    """After any number of sends that were cancelled or would block, the room is what it was."""
    channel = await opener.met(2)
    await channel.send.send_many(range(2))
    for _ in range(20):
        with pytest.raises(WouldBlock):
            channel.send.send_nowait(99)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(channel.send.send, 99)
                await sender_blocks(channel)
                scope.cancel()
    assert channel.send.statistics().sent == 2
    assert [await channel.recv.receive() for _ in range(2)] == [0, 1]
    await until(channel.send.ready)
    await until(lambda: channel.send.statistics().current_buffer_used == 0)
    channel.send.send_nowait(2)
    channel.send.send_nowait(3)
    with pytest.raises(WouldBlock):
        channel.send.send_nowait(99)
    await channel.send.aclose()
    assert [item async for item in channel.recv] == [2, 3]


# Sending and receiving


@WITH_UVLOOP
@pytest.mark.parametrize("size", SIZES)
async def test_items_arrive_once_and_in_order(opener: Opener, size: float) -> None:
    """Whatever is sent arrives once, in the order in which it was sent."""
    channel = opener(size)
    received = []

    async def produce() -> None:
        async with channel.send:
            for n in range(150):
                await channel.send.send(n)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        async for item in channel.recv:
            received.append(item)
    assert received == list(range(150))


@WITH_UVLOOP
@pytest.mark.parametrize("size", SIZES)
async def test_many_at_once_arrive_once_and_in_order(opener: Opener, size: float) -> None:
    """What `send_many` sends, `receive_many` receives, in any portions."""
    channel = opener(size)
    received: list[int] = []
    portions = Random(1)
    many = 1000 if size == math.inf else 200

    async def produce() -> None:
        first = 0
        while first < many:
            count = min(portions.randint(0, 400), many - first)
            await channel.send.send_many(iter(range(first, first + count)))
            first += count
        await channel.send.aclose()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        with pytest.raises(EndOfStream):
            while True:
                most = portions.randint(1, 100)
                portion = await channel.recv.receive_many(most)
                assert 1 <= len(portion) <= most
                received += portion
    assert received == list(range(many))


PLAIN = [None, False, 0, "", b"", [], {}, [None, {"a": [1.5]}], 2**63]


@pytest.mark.parametrize("item", PLAIN, ids=repr)
@pytest.mark.parametrize("size", [0, 2])
async def test_plain_values_arrive_as_they_were(opener: Opener, size: int, item: object) -> None:
    """Falsy items are items like others, and types are kept."""
    channel = opener(size)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.send.send, item)
        received = await channel.recv.receive()
    assert received == item
    assert type(received) is type(item)


async def test_items_are_not_copied(opener: Opener) -> None:
    """What is received is the object that was sent."""
    needs_one_process(opener, "identity")
    channel = opener(1)
    item: list[int] = []
    await channel.send.send(item)
    assert await channel.recv.receive() is item


async def test_any_object_is_an_item(opener: Opener) -> None:
    """Nothing is asked of an item."""
    needs_one_process(opener, "any object")
    channel = opener(1)
    item = object()
    await channel.send.send(item)
    assert await channel.recv.receive() is item


async def test_rendezvous_send_returns_when_the_item_was_taken(opener: Opener) -> None:
    """With size 0, a send is not over before the receiver has the item."""
    channel = await opener.met(0)
    events = []

    async def produce() -> None:
        await channel.send.send("item")
        events.append("sent")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        await sender_blocks(channel)
        await stays(lambda: not events)
        assert await channel.recv.receive() == "item"
        events.append("received")
        await until(lambda: len(events) == 2)
    assert set(events) == {"sent", "received"}


async def test_empty_channel_makes_the_receiver_wait(opener: Opener) -> None:
    """A receive from an empty channel returns once there is an item."""
    channel = await opener.met(1)
    received = []

    async def consume() -> None:
        received.append(await channel.recv.receive())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await receiver_blocks(channel)
        await stays(lambda: not received)
        channel.send.send_nowait(7)
        await until(lambda: received)
    assert received == [7]


@pytest.mark.parametrize("met", [False, True])
async def test_send_nowait_at_a_rendezvous_without_a_receiver_would_block(
    opener: Opener, met: bool
) -> None:
    """With size 0, `send_nowait` raises, naming the channel, where nobody waits to receive."""
    channel = await opener.met(0) if met else opener(0)
    with pytest.raises(WouldBlock, match="'obs'"):
        channel.send.send_nowait(1)
    with pytest.raises(WouldBlock):
        channel.recv.receive_nowait()


async def test_send_nowait_at_a_rendezvous_reaches_a_waiting_receiver_once(opener: Opener) -> None:
    """With size 0, `send_nowait` gives one item to the receiver that waits, and no second."""
    channel = opener(0)
    received = []

    async def consume() -> None:
        received.append(await channel.recv.receive())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await receiver_blocks(channel)
        await until(channel.send.ready)
        channel.send.send_nowait(1)
        with pytest.raises(WouldBlock):
            channel.send.send_nowait(2)
    assert received == [1]


@pytest.mark.parametrize("met", [False, True])
@pytest.mark.parametrize("size", SIZES)
async def test_receive_nowait_from_an_empty_channel_would_block(
    opener: Opener, size: float, met: bool
) -> None:
    """`receive_nowait` without an item raises, naming the channel."""
    channel = await opener.met(size) if met else opener(size)
    with pytest.raises(WouldBlock, match="'obs'") as caught:
        channel.recv.receive_nowait()
    assert caught.value.channel == "obs"


async def test_receive_nowait_takes_what_a_blocked_sender_offers(opener: Opener) -> None:
    """At a rendezvous, `receive_nowait` takes the item of the sender that waits, once."""
    needs_one_process(opener, "offer")
    channel = opener(0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.send.send, 5)
        await sender_blocks(channel)
        assert channel.recv.receive_nowait() == 5
        with pytest.raises(WouldBlock):
            channel.recv.receive_nowait()


async def test_oldest_item_can_be_taken_back(opener: Opener) -> None:
    """`evict_nowait` returns it, and makes room."""
    needs_one_process(opener, "take back")
    channel = opener(1)
    channel.send.send_nowait(1)
    assert channel.send.evict_nowait() == 1
    channel.send.send_nowait(2)
    assert channel.recv.receive_nowait() == 2


async def test_end_without_evict_nowait_says_so(opener: Opener) -> None:
    """Where nothing can be taken back, `evict_nowait` names what is missing."""
    if not opener.crosses:
        pytest.skip("this kind has it")
    channel = opener(1)
    channel.send.send_nowait(1)
    with pytest.raises(NotImplementedError, match="evict_nowait"):
        channel.send.evict_nowait()


@pytest.mark.parametrize("size", [0, 1, 4])
async def test_ways_of_sending_never_overtake_each_other(opener: Opener, size: int) -> None:
    """What is sent in turns by `send`, `send_nowait` and `send_many` arrives in that order."""
    channel = opener(size)
    received: list[int] = []
    ways = Random(2)

    async def produce() -> None:
        n = 0
        while n < 200:
            match ways.choice(["send", "send_nowait", "send_many"]):
                case "send":
                    await channel.send.send(n)
                    n += 1
                case "send_nowait":
                    try:
                        channel.send.send_nowait(n)
                        n += 1
                    except WouldBlock:
                        await checkpoint()
                case "send_many":
                    await channel.send.send_many(range(n, n + 3))
                    n += 3
        await channel.send.aclose()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        async for item in channel.recv:
            received.append(item)
    assert len(received) >= 200
    assert received == list(range(len(received)))


@ONLY_ASYNCIO
async def test_callback_of_the_loop_cannot_overtake_a_blocked_send(opener: Opener) -> None:
    """While a send waits for room, `send_nowait` from a callback is refused, and loses nothing."""
    channel = await opener.met(1)
    await channel.send.send("first")
    outcomes: list[object] = []

    def callback() -> None:
        try:
            channel.send.send_nowait("third")
            outcomes.append("sent")
        except ChannelInUse as error:
            outcomes.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.send.send, "second", name="producer")
        await sender_blocks(channel)
        asyncio.get_running_loop().call_soon(callback)
        await until(lambda: outcomes)
        assert isinstance(outcomes[0], ChannelInUse)
        assert "'producer'" in str(outcomes[0])
        assert await channel.recv.receive() == "first"
    await channel.send.aclose()
    assert [item async for item in channel.recv] == ["second"]


# Many at once


@pytest.mark.parametrize("size", SIZES)
async def test_send_many_of_nothing_sends_nothing(opener: Opener, size: float) -> None:
    """`send_many` of an empty iterable returns without a receiver."""
    channel = opener(size)
    await channel.send.send_many([])
    assert channel.send.statistics().sent == 0


@pytest.mark.parametrize("size", [0, 2, math.inf])
async def test_send_many_counts_the_prefix_that_it_sent_before_an_error(
    opener: Opener, size: float
) -> None:
    """Where the iterable raises, that comes out, and `sent` tells how much was delivered."""
    channel = opener(size)
    received = []

    def items() -> Iterator[int]:
        yield from range(3)
        raise ZeroDivisionError

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


async def test_send_many_at_a_rendezvous_delivers_each_before_the_next(opener: Opener) -> None:
    """At a rendezvous, each item is taken before the next is asked for."""
    channel = opener(0)
    received: list[int] = []

    def items() -> Iterator[int]:
        for n in range(5):
            assert channel.send.statistics().received == n
            yield n

    async def consume() -> None:
        async for item in channel.recv:
            received.append(item)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await channel.send.send_many(items())
        await channel.send.aclose()
    assert received == list(range(5))


async def test_send_many_tells_when_the_receiver_goes(opener: Opener) -> None:
    """`send_many` raises once nobody is there any more, and sends no further item."""
    channel = await opener.met(2)

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


async def test_receive_many_takes_what_is_there_up_to_the_maximum(opener: Opener) -> None:
    """`receive_many` waits for one item and takes no more than it was told to."""
    channel = opener(10)
    await fill(channel, 5)
    assert await channel.recv.receive_many(3) == [0, 1, 2]
    assert await channel.recv.receive_many(3) == [3, 4]
    received = []

    async def consume() -> None:
        received.append(await channel.recv.receive_many(3))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await receiver_blocks(channel)
        channel.send.send_nowait(5)
    assert received == [[5]]


async def test_receive_many_makes_room_for_a_blocked_sender(opener: Opener) -> None:
    """A sender that waits for room goes on after `receive_many`."""
    channel = opener(2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.send.send_many, range(4))
        await arrived(channel, 2)
        await sender_blocks(channel)
        assert await channel.recv.receive_many(10) == [0, 1]
        await arrived(channel, 2)
        assert await channel.recv.receive_many(10) == [2, 3]


@pytest.mark.parametrize("max_items", [0, -1, 1.5, math.nan, "3", None, True])
async def test_receive_many_refuses_what_is_no_count(opener: Opener, max_items: Any) -> None:
    """A maximum that is no count is refused with its value, and nothing is taken."""
    channel = opener(4)
    await fill(channel, 1)
    with pytest.raises(ValueError, match="max_items") as caught:
        await channel.recv.receive_many(max_items)
    assert repr(max_items) in str(caught.value)
    assert channel.recv.receive_nowait() == 0


async def test_send_many_refuses_what_is_not_iterable(opener: Opener) -> None:
    """What is not iterable is a TypeError, and nothing is sent."""
    channel = opener(4)
    not_iterable: Any = 5
    with pytest.raises(TypeError):
        await channel.send.send_many(not_iterable)
    assert channel.send.statistics().sent == 0


# Closing


@WITH_UVLOOP
@pytest.mark.parametrize("size", [1, 4, 64])
async def test_full_buffers_drain_before_the_end_of_the_stream(opener: Opener, size: int) -> None:
    """After the sender closed, what it had sent is received, and then the end, for good."""
    channel = opener(size)
    await channel.send.send_many(range(size))
    await channel.send.aclose()
    assert channel.recv.receive_nowait() == 0
    assert [await channel.recv.receive() for _ in range(1, size)] == list(range(1, size))
    for _ in range(3):
        with pytest.raises(EndOfStream, match="'obs'") as caught:
            await channel.recv.receive()
        assert caught.value.channel == "obs"
        with pytest.raises(EndOfStream, match="'obs'"):
            channel.recv.receive_nowait()
        with pytest.raises(EndOfStream, match="'obs'"):
            await channel.recv.receive_many(3)
        with pytest.raises(EndOfStream, match="'obs'"):
            channel.recv.peek_nowait()
        assert [item async for item in channel.recv] == []
        assert channel.recv.ready()


async def test_receive_many_at_the_end_of_the_stream(opener: Opener) -> None:
    """`receive_many` gives the rest, and raises `EndOfStream` after it."""
    channel = opener(4)
    await channel.send.send_many(range(3))
    await channel.send.aclose()
    assert await channel.recv.receive_many(10) == [0, 1, 2]
    with pytest.raises(EndOfStream):
        await channel.recv.receive_many(10)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("met", [False, True])
async def test_closing_the_sender_wakes_a_blocked_receiver(
    opener: Opener, size: float, met: bool
) -> None:
    """A receive that waits when the sender closes raises `EndOfStream`."""
    channel = await opener.met(size) if met else opener(size)

    async def consume() -> None:
        with pytest.raises(EndOfStream, match="'obs'"):
            await channel.recv.receive()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await receiver_blocks(channel)
        await meet(channel)  # a sender that sent nothing may go before it met anybody
        await channel.send.aclose()


@pytest.mark.parametrize("size", SIZES)
async def test_sending_to_a_receiver_that_has_gone(opener: Opener, size: float) -> None:
    """After the receiver closed, every way of sending raises `ChannelClosed`."""
    channel = await opener.met(size)
    await channel.recv.aclose()
    await receiver_gone(channel)
    assert channel.send.ready()
    for _ in range(2):
        with pytest.raises(ChannelClosed, match="'obs'") as caught:
            await channel.send.send(1)
        assert type(caught.value) is ChannelClosed
        assert caught.value.channel == "obs"
        with pytest.raises(ChannelClosed, match="'obs'"):
            channel.send.send_nowait(1)
        with pytest.raises(ChannelClosed, match="'obs'"):
            await channel.send.send_many([1])
    assert channel.send.statistics().sent == 0


async def test_close_of_the_receiver_is_known_at_once(opener: Opener) -> None:
    """The next call of the sender raises `ChannelClosed`."""
    needs_one_process(opener, "at once")
    channel = opener(1)
    await channel.recv.aclose()
    with pytest.raises(ChannelClosed):
        channel.send.send_nowait(1)


async def test_close_of_an_unmet_receiver_is_told(opener: Opener) -> None:
    """A receiver that closes before anything else happened refuses its sender."""
    needs_one_process(opener, "before they met")
    channel = opener(0)
    await channel.recv.aclose()
    with pytest.raises(ChannelClosed):
        await channel.send.send(1)


@WITH_UVLOOP
@pytest.mark.parametrize("way", ["send", "send_many"])
@pytest.mark.parametrize("size", [0, 1, 4])
async def test_closing_the_receiver_wakes_a_blocked_sender(
    opener: Opener, size: int, way: str
) -> None:
    """A send that waits when the receiver closes raises `ChannelClosed` and has sent nothing."""
    channel = await opener.met(size)
    await channel.send.send_many(range(size))

    async def produce() -> None:
        with pytest.raises(ChannelClosed, match="'obs'"):
            if way == "send":
                await channel.send.send(99)
            else:
                await channel.send.send_many([99])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        await sender_blocks(channel)
        await channel.recv.aclose()
    stats = channel.send.statistics()
    assert (stats.sent, stats.received, stats.discarded) == (size, 0, size)


async def test_closing_an_end_whose_peer_has_closed_is_no_error(opener: Opener) -> None:
    """A sender with items that a receiver discarded closes without waiting and without an error."""
    channel = await opener.met(8)
    await fill(channel, 5)
    await channel.recv.aclose()
    with anyio.fail_after(PATIENCE):
        await channel.send.aclose()


@pytest.mark.parametrize("size", SIZES)
async def test_using_ones_own_closed_sender(opener: Opener, size: float) -> None:
    """Sending on an end that one closed oneself is `EndpointClosed`, even with the peer gone."""
    channel = await opener.met(size)
    await channel.send.aclose()
    assert channel.send.ready()
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
async def test_using_ones_own_closed_receiver(opener: Opener, size: float) -> None:
    """Receiving on an end that one closed oneself is `EndpointClosed`, even with the peer gone."""
    channel = await opener.met(size)
    await channel.recv.aclose()
    assert channel.recv.ready()
    for _ in range(2):
        with pytest.raises(EndpointClosed, match="'obs'") as caught:
            await channel.recv.receive()
        assert caught.value.channel == "obs"
        with pytest.raises(EndpointClosed, match="'obs'"):
            channel.recv.receive_nowait()
        with pytest.raises(EndpointClosed, match="'obs'"):
            channel.recv.peek_nowait()
        with pytest.raises(EndpointClosed, match="'obs'"):
            await channel.recv.receive_many(3)
        with pytest.raises(EndpointClosed, match="'obs'"):
            async for _item in channel.recv:
                raise AssertionError
        await channel.send.aclose()


@pytest.mark.parametrize("way", ["send", "send_many", "wait_any"])
@pytest.mark.parametrize("size", [0, 1])
async def test_closing_the_sender_wakes_whoever_is_blocked_at_that_end(
    opener: Opener, size: int, way: str
) -> None:
    """A send whose own end is closed by another task raises `EndpointClosed`, not delivered."""
    channel = await opener.met(size)
    await channel.send.send_many(range(size))

    async def produce() -> None:
        if way == "wait_any":
            await wait_any(channel.send)
        with pytest.raises(EndpointClosed, match="'obs'"):
            if way == "send_many":
                await channel.send.send_many([99])
            else:
                await channel.send.send(99)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        await sender_blocks(channel)
        await channel.send.aclose()
    assert [item async for item in channel.recv] == list(range(size))


@pytest.mark.parametrize("way", ["receive", "receive_many", "wait_any"])
@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("met", [False, True])
async def test_closing_the_receiver_wakes_whoever_is_blocked_at_that_end(
    opener: Opener, size: int, met: bool, way: str
) -> None:
    """A receive whose own end is closed by another task raises `EndpointClosed`."""
    channel = await opener.met(size) if met else opener(size)

    async def consume() -> None:
        if way == "wait_any":
            await wait_any(channel.recv)
        with pytest.raises(EndpointClosed, match="'obs'"):
            if way == "receive_many":
                await channel.recv.receive_many(3)
            else:
                await channel.recv.receive()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await receiver_blocks(channel)
        await channel.recv.aclose()


@pytest.mark.parametrize("first", ["send", "recv"])
async def test_closing_twice_is_fine(opener: Opener, first: str) -> None:
    """Each end may be closed again, by whatever way, and whichever went first."""
    channel = await opener.met(1)
    ends = [channel.send, channel.recv] if first == "send" else [channel.recv, channel.send]
    for _ in range(3):
        for end in ends:
            await end.aclose()
    async with channel.send, channel.recv:
        pass
    assert channel.send.statistics().open_send_streams == 0
    assert channel.recv.statistics().open_receive_streams == 0


async def test_two_tasks_may_close_one_end_at_once(opener: Opener) -> None:
    """Closes of one end by several tasks are all over when the end is closed."""
    channel = await opener.met(4)
    await channel.send.send_many(range(4))
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(channel.send.aclose)
    assert [item async for item in channel.recv] == list(range(4))
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(channel.recv.aclose)


async def test_endpoints_close_when_their_block_is_left(opener: Opener) -> None:
    """An end used as a context manager is itself inside, and closed after it."""
    channel = await opener.met(1)
    assert isinstance(channel.send, SendStream)
    assert isinstance(channel.recv, ReceiveStream)
    async with channel.recv as recv, channel.send as send:
        assert send is channel.send
        assert recv is channel.recv
        await send.send(1)
        assert await recv.receive() == 1
    with pytest.raises(EndpointClosed):
        await channel.send.send(1)
    with pytest.raises(EndpointClosed):
        await channel.recv.receive()
    assert channel.send.statistics().open_send_streams == 0
    assert channel.recv.statistics().open_receive_streams == 0


async def test_endpoints_close_when_their_block_fails(opener: Opener) -> None:
    """An end used as a context manager is closed where an error leaves the block, and it leaves."""
    channel = await opener.met(1)
    with pytest.raises(ZeroDivisionError):
        async with channel.recv, channel.send:
            raise ZeroDivisionError
    assert channel.send.statistics().open_send_streams == 0
    assert channel.recv.statistics().open_receive_streams == 0


async def test_block_of_a_sender_closes_it_when_cancelled(opener: Opener) -> None:
    """Leaving `async with` by cancellation closes the end, and the receiver is told the end."""
    channel = await opener.met(4)

    async def produce() -> None:
        async with channel.send:
            await channel.send.send_many(range(3))
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        await arrived(channel, 3)
        tasks.cancel_scope.cancel()
    with anyio.fail_after(PATIENCE):
        assert [item async for item in channel.recv] == [0, 1, 2]


async def test_iteration_left_early_can_be_taken_up_again(
    opener: Opener, recwarn: pytest.WarningsRecorder
) -> None:
    """`async for` may be left, leaves nothing behind, and goes on where it was."""
    channel = opener(8)
    await fill(channel, 5)
    async for item in channel.recv:
        if item == 1:
            break
    gc.collect()
    assert channel.recv.statistics().current_buffer_used == 3
    await channel.send.aclose()
    assert [item async for item in channel.recv] == [2, 3, 4]
    assert not recwarn.list


# One task at an end


async def named(name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run something in a task of this name."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, name=name)


def assert_in_use(error: ChannelInUse, *names: str) -> None:
    assert error.channel == "obs"
    for name in ("obs", *names):
        assert repr(name) in str(error)


RECEIVING: dict[str, Callable[[ReceiveStream[Any]], Coroutine[Any, Any, object]]] = {
    "receive": lambda recv: recv.receive(),
    "receive_many": lambda recv: recv.receive_many(1),
    "wait_any": lambda recv: wait_any(recv),
}
SENDING: dict[str, Callable[[SendStream[Any]], Coroutine[Any, Any, object]]] = {
    "send": lambda send: send.send(5),
    "send_many": lambda send: send.send_many([5]),
    "wait_any": lambda send: wait_any(send),
}


@pytest.mark.parametrize("way", [*RECEIVING, "receive_nowait", "peek_nowait", "iteration"])
@pytest.mark.parametrize("first_way", RECEIVING)
async def test_second_receiver_is_refused(opener: Opener, first_way: str, way: str) -> None:
    """While a receive waits, another task's is refused, naming the channel and both tasks."""
    channel = await opener.met(1)
    recv = channel.recv

    async def first() -> None:
        await RECEIVING[first_way](recv)

    async def second() -> None:
        with pytest.raises(ChannelInUse) as caught:
            match way:
                case "receive_nowait":
                    recv.receive_nowait()
                case "peek_nowait":
                    recv.peek_nowait()
                case "iteration":
                    async for _item in recv:
                        raise AssertionError
                case _:
                    await RECEIVING[way](recv)
        assert_in_use(caught.value, "consumer", "intruder")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first, name="consumer")
        await receiver_blocks(channel)
        await named("intruder", second)
        await channel.send.send(7)
    assert channel.recv.statistics().received == (0 if first_way == "wait_any" else 1)


@pytest.mark.parametrize("way", [*SENDING, "send_nowait"])
@pytest.mark.parametrize("first_way", SENDING)
@pytest.mark.parametrize("size", [0, 1])
async def test_second_sender_is_refused(
    opener: Opener, size: int, first_way: str, way: str
) -> None:
    """While a send waits, another task's is refused, naming the channel and both tasks."""
    channel = await opener.met(size)
    send = channel.send
    await send.send_many(range(size))

    async def first() -> None:
        await SENDING[first_way](send)
        if first_way == "wait_any":
            await send.send(5)

    async def second() -> None:
        with pytest.raises(ChannelInUse) as caught:
            if way == "send_nowait":
                send.send_nowait(6)
            else:
                await SENDING[way](send)
        assert_in_use(caught.value, "producer", "intruder")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first, name="producer")
        await sender_blocks(channel)
        await named("intruder", second)
        assert [await channel.recv.receive() for _ in range(size + 1)] == [*range(size), 5]
    assert send.statistics().sent == size + 1


async def test_tasks_may_use_an_end_one_after_the_other(opener: Opener) -> None:
    """An end belongs to a task only while it is inside a call."""
    channel = opener(8)
    received = []

    async def consume() -> None:
        received.append(await channel.recv.receive())

    for n in range(3):
        await named("producer", partial(channel.send.send, n))
    for _ in range(3):
        await named("consumer", consume)
    assert received == [0, 1, 2]


@pytest.mark.parametrize(
    "way",
    [
        "send",
        "send_nowait",
        "send_many",
        "send.ready",
        "receive",
        "receive_nowait",
        "receive_many",
        "peek_nowait",
        "recv.ready",
    ],
)
async def test_other_thread_is_refused(opener: Opener, way: str, anyio_backend_name: str) -> None:
    """A call from the event loop of another thread names the end, and does nothing."""
    channel = opener(4)
    await fill(channel, 1)
    assert channel.recv.ready()  # each end was used in this loop

    async def elsewhere() -> None:
        calls: dict[str, Callable[[], Any]] = {
            "send": lambda: channel.send.send(5),
            "send_nowait": lambda: channel.send.send_nowait(5),
            "send_many": lambda: channel.send.send_many([5]),
            "send.ready": channel.send.ready,
            "receive": channel.recv.receive,
            "receive_nowait": channel.recv.receive_nowait,
            "receive_many": lambda: channel.recv.receive_many(2),
            "peek_nowait": channel.recv.peek_nowait,
            "recv.ready": channel.recv.ready,
        }
        with pytest.raises(RuntimeError, match="'obs'"):
            result = calls[way]()
            if isinstance(result, Coroutine):
                await result

    await anyio.to_thread.run_sync(partial(anyio.run, elsewhere, backend=anyio_backend_name))
    await channel.send.send(1)
    await channel.send.aclose()
    assert [item async for item in channel.recv] == [0, 1]


# Cancellation


@pytest.mark.parametrize("size", [0, 1])
async def test_cancelled_send_was_not_delivered(opener: Opener, size: int) -> None:
    """A blocked send that is cancelled raises and leaves nothing in the channel."""
    channel = await opener.met(size)
    await channel.send.send_many(range(size))
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.send.send, "lost?")
            await sender_blocks(channel)
            scope.cancel()
    stats = channel.send.statistics()
    assert (stats.sent, stats.waiters_send, stats.current_buffer_used) == (size, 0, size)
    await channel.send.aclose()
    assert [item async for item in channel.recv] == list(range(size))


@pytest.mark.parametrize("size", [0, 1, math.inf])
@pytest.mark.parametrize("way", RECEIVING)
async def test_cancelled_receive_leaves_the_item_for_the_next_one(
    opener: Opener, size: float, way: str
) -> None:
    """A blocked receive that is cancelled takes nothing, then or later."""
    channel = await opener.met(size)
    for n in range(5):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(RECEIVING[way], channel.recv)
                await receiver_blocks(channel)
                scope.cancel()
        assert channel.recv.statistics().waiters_receive == 0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.send.send, n)
            assert await channel.recv.receive() == n
    assert channel.recv.statistics().received == 5


@pytest.mark.parametrize("way", ["send", "receive", "send_many", "receive_many", "iterate"])
@pytest.mark.parametrize("size", [4, math.inf])
async def test_every_call_is_a_cancellation_point(opener: Opener, way: str, size: float) -> None:
    """Every call raises a pending cancellation before it moves anything."""
    channel = opener(size)
    await fill(channel, 1)
    with anyio.CancelScope() as scope:
        scope.cancel()
        match way:
            case "send":
                await channel.send.send(2)
            case "receive":
                await channel.recv.receive()
            case "send_many":
                await channel.send.send_many([2])
            case "receive_many":
                await channel.recv.receive_many(2)
            case "iterate":
                async for _item in channel.recv:
                    raise AssertionError
        raise AssertionError
    assert scope.cancelled_caught
    stats = channel.send.statistics()
    assert (stats.sent, stats.received, stats.current_buffer_used) == (1, 0, 1)


@ONLY_ASYNCIO
@pytest.mark.parametrize("way", ["send", "receive", "send_many", "receive_many", "aclose"])
async def test_native_cancellation_reaches_a_call_that_need_not_wait(
    opener: Opener, way: str
) -> None:
    """A task that cancelled itself is stopped by its next call, which moves nothing."""
    channel = opener(4)
    await fill(channel, 1)
    calls: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
        "send": lambda: channel.send.send(2),
        "receive": channel.recv.receive,
        "send_many": lambda: channel.send.send_many([2]),
        "receive_many": lambda: channel.recv.receive_many(2),
        "aclose": channel.send.aclose,
    }
    events = []

    async def body() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await calls[way]()
        events.append("went on")

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(body())
    assert events == []
    stats = channel.send.statistics()
    assert (stats.sent, stats.received) == (1, 0)


@pytest.mark.parametrize("end", ["send", "recv"])
async def test_close_takes_effect_though_it_is_cancelled(opener: Opener, end: str) -> None:
    """A close is a cancellation point, and is done when it raises."""
    channel = opener(2)
    await fill(channel, 1)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await getattr(channel, end).aclose()
        raise AssertionError
    assert scope.cancelled_caught
    if end == "send":
        assert channel.send.statistics().open_send_streams == 0
        assert [item async for item in channel.recv] == [0]
    else:
        assert channel.recv.statistics().open_receive_streams == 0
        await receiver_gone(channel)
        assert channel.send.statistics().discarded == 1


@pytest.mark.parametrize("size", [0, 1, 3])
@pytest.mark.parametrize("taken", [0, 1, 4])
async def test_cancelled_send_many_has_delivered_a_prefix(
    opener: Opener, size: int, taken: int
) -> None:
    """After a cancelled `send_many`, `sent` tells how many of the items were delivered."""
    channel = await opener.met(size)
    scope = anyio.CancelScope()

    async def produce() -> None:
        with scope:
            await channel.send.send_many(range(100))

    received: list[int] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        await sender_blocks(channel)
        for _ in range(taken):
            received.append(await channel.recv.receive())
        scope.cancel()
    assert scope.cancelled_caught
    sent = channel.send.statistics().sent
    await channel.send.aclose()
    received += [item async for item in channel.recv]
    assert received == list(range(sent))
    assert taken <= sent <= taken + size + 1


async def test_end_may_be_used_again_after_a_cancelled_call(opener: Opener) -> None:
    """A cancelled call is over: another task may use the end at once."""
    channel = await opener.met(0)
    calls: list[tuple[Any, Any]] = [(partial(channel.send.send, 1), sender_blocks)] * 3
    calls += [(channel.recv.receive, receiver_blocks)] * 3
    for call, blocks in calls:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call)
                await blocks(channel)
                scope.cancel()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.send.send, 5)
        assert await channel.recv.receive() == 5


async def test_cancelled_receive_promises_nothing(opener: Opener) -> None:
    """At a rendezvous, nobody can send to a receiver that waits no more."""
    needs_one_process(opener, "promise")
    channel = opener(0)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.recv.receive)
            await receiver_blocks(channel)
            scope.cancel()
    with pytest.raises(WouldBlock):
        channel.send.send_nowait(1)


class Storm:
    """Cancels a producer and a consumer at random moments, in one of several ways.

    Each side runs its calls through `attempt`. Between two cancellations, it lets either a few
    rounds of the event loop go by, or a few items.
    """

    def __init__(self, how: str, seed: int) -> None:
        self.how = how
        self.random = Random(seed)
        self.cancelled = 0
        self.over = False
        self.progress = 0
        self._targets: dict[str, Callable[[], None]] = {}
        self._asked: set[str] = set()

    async def attempt(self, who: str, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await a call that may be cancelled meanwhile, which ends here."""
        if self.how == "scope":
            with anyio.CancelScope() as scope:
                self._targets[who] = scope.cancel
                await call()
            self.cancelled += scope.cancelled_caught
        elif self.how == "asyncio.timeout":
            loop = asyncio.get_running_loop()
            timeout = asyncio.timeout(None)
            try:
                async with timeout:
                    self._targets[who] = lambda: timeout.reschedule(loop.time() - 1)
                    await call()
                    self._targets.pop(who, None)
            except TimeoutError:
                self.cancelled += 1
        else:
            task = asyncio.current_task()
            assert task is not None

            def cancel() -> None:
                self._asked.add(who)
                task.cancel()

            self._targets[who] = cancel
            try:
                await call()
                self._targets.pop(who, None)
            except asyncio.CancelledError:
                if who not in self._asked:
                    raise  # the test has taken too long
                self._asked.remove(who)
                self.cancelled += 1
                task.uncancel()
        self._targets.pop(who, None)

    async def run(self) -> None:
        """Cancel until told that it is over."""
        while not self.over:
            if self.random.random() < 0.5:
                for _ in range(self.random.randint(0, 20)):
                    await checkpoint()
            else:
                enough = self.progress + self.random.randint(1, 6)
                await until(lambda enough=enough: self.over or self.progress >= enough)
            target = self._targets.pop(self.random.choice("sr"), None)
            if target is not None and not self.over:
                target()


@pytest.mark.parametrize(
    ("size", "many"), [(0, False), (1, False), (4, False), (1, True), (64, True)]
)
@pytest.mark.parametrize("how", ["scope", "asyncio.timeout", "task.cancel"])
async def test_cancellations_at_any_moment_lose_and_repeat_nothing(
    opener: Opener, how: str, size: int, many: bool, anyio_backend_name: str
) -> None:
    """Whenever either side is cancelled, every item counts as delivered exactly if it arrives."""
    if anyio_backend_name != "asyncio" and how != "scope":
        pytest.skip("this way of cancelling is asyncio's")
    channel = opener(size)
    delivered: list[int] = []
    received: list[int] = []
    storm = Storm(how, seed=size + 100 * many)
    numbers = iter(range(10**9))

    async def send_one() -> None:
        n = next(numbers)
        await channel.send.send(n)
        delivered.append(n)

    async def send_some() -> None:
        batch = [next(numbers) for _ in range(storm.random.randint(1, 5))]
        before = channel.send.statistics().sent
        try:
            await channel.send.send_many(batch)
        finally:
            delivered.extend(batch[: channel.send.statistics().sent - before])

    async def produce() -> None:
        while len(delivered) < 300:
            await storm.attempt("s", send_some if many else send_one)
        storm.over = True
        await storm.attempt("s", channel.send.aclose)  # the last one may have come too late

    async def receive_one() -> None:
        received.append(await channel.recv.receive())
        storm.progress = len(received)

    async def receive_some() -> None:
        received.extend(await channel.recv.receive_many(storm.random.randint(1, 5)))
        storm.progress = len(received)

    async def consume() -> None:
        with pytest.raises(EndOfStream):
            while True:
                await storm.attempt("r", receive_some if many else receive_one)

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(produce)
            tasks.start_soon(consume)
            tasks.start_soon(storm.run)
    assert received == delivered
    assert storm.cancelled > 0 or size > 1  # with much room, nobody may have been waiting
    stats = channel.recv.statistics()
    assert (stats.sent, stats.received, stats.discarded) == (len(received), len(received), 0)
    assert channel.send.statistics().sent == len(delivered)


# Giving way


CALLS: dict[str, Callable[[Channel[int]], Coroutine[Any, Any, object]]] = {
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


@pytest.mark.parametrize("way", CALLS)
async def test_call_yields_once_in_sixteen_and_not_more_often(opener: Opener, way: str) -> None:
    """Of 16 calls in a row that need not wait, about one gives way to other tasks."""
    channel = opener(math.inf)
    await fill(channel, 1000)
    counts = [await suspensions(CALLS[way](channel)) for _ in range(160)]
    assert all(any(counts[n : n + 16]) for n in range(160 - 15))
    assert max(counts) == 1
    assert 9 <= sum(counts) <= 12


async def test_busy_pair_does_not_starve_others(opener: Opener) -> None:
    """While a producer and a consumer keep each other busy, a third task runs."""
    channel = opener(64)
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


async def test_send_many_of_very_much_gives_way(opener: Opener) -> None:
    """One `send_many` of a very long iterable does not starve others."""
    channel = opener(math.inf)

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.send.send_many, iter(range(1_000_000)))
            await until(lambda: channel.send.statistics().sent)
            scope.cancel()
    assert channel.send.statistics().sent < 1_000_000


# Watching


async def test_ready_tells_whether_nowait_would_work(opener: Opener) -> None:
    """`ready` is false where a call without waiting would block, and true where it would not."""
    channel = await opener.met(1)
    assert channel.send.ready()
    assert not channel.recv.ready()
    channel.send.send_nowait(7)
    assert not channel.send.ready()
    await until(channel.recv.ready)
    assert channel.recv.receive_nowait() == 7
    assert not channel.recv.ready()
    await until(channel.send.ready)
    await channel.send.aclose()
    await until(channel.recv.ready)
    with pytest.raises(EndOfStream):
        channel.recv.receive_nowait()


async def test_peek_shows_the_next_item_and_leaves_it(opener: Opener) -> None:
    """`peek_nowait` gives what `receive_nowait` would, any number of times."""
    channel = opener(4)
    with pytest.raises(WouldBlock, match="'obs'"):
        channel.recv.peek_nowait()
    await fill(channel, 2)
    assert [channel.recv.peek_nowait() for _ in range(3)] == [0, 0, 0]
    assert channel.recv.receive_nowait() == 0
    assert channel.recv.peek_nowait() == 1
    assert channel.recv.statistics().received == 1


@pytest.mark.parametrize("act", ["send", "send_nowait", "send_many", "close"])
@pytest.mark.parametrize("size", [0, 1, math.inf])
async def test_watcher_of_the_receiving_end_is_woken(opener: Opener, size: float, act: str) -> None:
    """Whatever is sent or offered, and the close of the sender, wakes it, and it is ready then."""
    channel = await opener.met(size)
    woken = False

    async def watch() -> None:
        nonlocal woken
        await until_ready(channel.recv)
        woken = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        await receiver_blocks(channel)
        await stays(lambda: not woken)
        match act:
            case "send":
                tasks.start_soon(channel.send.send, 9)
            case "send_nowait":
                await until(channel.send.ready)
                channel.send.send_nowait(9)
            case "send_many":
                tasks.start_soon(channel.send.send_many, [9])
            case "close":
                tasks.start_soon(channel.send.aclose)
        await until(lambda: woken)
        if act == "close":
            with pytest.raises(EndOfStream):
                channel.recv.receive_nowait()
        else:
            assert channel.recv.receive_nowait() == 9


@pytest.mark.parametrize("act", ["receive", "receive_nowait", "receive_many", "close"])
@pytest.mark.parametrize("size", [1, 3])
async def test_watcher_of_a_full_channel_is_woken(opener: Opener, size: int, act: str) -> None:
    """Whatever is taken, and the close of the receiver, wakes it, and it is ready then."""
    channel = opener(size)
    await fill(channel, size)
    woken = False

    async def watch() -> None:
        nonlocal woken
        await until_ready(channel.send)
        woken = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        await sender_blocks(channel)
        await stays(lambda: not woken)
        match act:
            case "receive":
                await channel.recv.receive()
            case "receive_nowait":
                channel.recv.receive_nowait()
            case "receive_many":
                await channel.recv.receive_many(5)
            case "close":
                await channel.recv.aclose()
        await until(lambda: woken)
        if act == "close":
            with pytest.raises(ChannelClosed):
                channel.send.send_nowait(9)
        else:
            channel.send.send_nowait(9)


@pytest.mark.parametrize("act", ["receive", "watch", "close"])
async def test_watcher_of_the_sending_end_of_a_rendezvous_is_woken(
    opener: Opener, act: str
) -> None:
    """Whoever waits or watches to receive, and the close of the receiver, wakes it."""
    channel = await opener.met(0)
    woken = False

    async def watch() -> None:
        nonlocal woken
        await until_ready(channel.send)
        woken = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        await sender_blocks(channel)
        await stays(lambda: not woken)
        match act:
            case "receive":
                tasks.start_soon(channel.recv.receive)
            case "watch":
                tasks.start_soon(wait_any, channel.recv)
            case "close":
                await channel.recv.aclose()
        await until(lambda: woken)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("size", SIZES)
async def test_sender_and_receiver_that_only_watch_meet(opener: Opener, size: float) -> None:
    """Every item goes across, also at a rendezvous, where both sides only watch."""
    channel = opener(size)
    received: list[int] = []

    async def produce() -> None:
        for n in range(100):
            await until_ready(channel.send)
            channel.send.send_nowait(n)
        await channel.send.aclose()

    async def consume() -> None:
        while True:
            await until_ready(channel.recv)
            try:
                received.append(channel.recv.receive_nowait())
            except EndOfStream:
                return

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(produce)
            tasks.start_soon(consume)
    assert received == list(range(100))


@pytest.mark.parametrize("who", ["sender", "receiver"])
async def test_watchers_of_the_close_sleep_through_everything_else(
    opener: Opener, who: str
) -> None:
    """Any number of tasks watch the close of one end, which others use meanwhile."""
    channel = await opener.met(2)
    woken = 0

    async def watch() -> None:
        nonlocal woken
        await wait_any(closing=[channel.send])
        woken += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(watch)
        tasks.start_soon(channel.send.send_many, range(40))
        assert [await channel.recv.receive() for _ in range(40)] == list(range(40))
        await stays(lambda: woken == 0)
        if who == "sender":
            await channel.send.aclose()
        else:
            await channel.recv.aclose()
        await until(lambda: woken == 3)
        await watch()  # and one that comes later is told as well


async def test_one_wait_watches_channels_of_different_kinds(opener: Opener) -> None:
    """`wait_any` returns for whichever of several ends has something to do."""
    ours, other = await opener.met(4), open_channel[int](4)
    for channel in (ours, other, ours):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait_any, ours.recv, other.recv)
            await receiver_blocks(ours)
            await receiver_blocks(other)
            channel.send.send_nowait(1)
        await until(channel.recv.ready)
        assert channel.recv.receive_nowait() == 1


# Statistics


@pytest.mark.parametrize("size", SIZES)
async def test_statistics_of_a_new_channel(opener: Opener, size: float) -> None:
    """A new channel is open at both ends and has moved nothing."""
    channel = await opener.met(size)
    sender, receiver = channel.send.statistics(), channel.recv.statistics()
    unknown = -1 if opener.crosses else 0
    assert sender == ChannelStats(0, size, 1, 1, 0, unknown, 0, 0, 0, 0)
    assert receiver == ChannelStats(0, size, 1, 1, unknown, 0, 0, 0, 0, 0)


async def test_statistics_tell_who_waits_at_the_other_end(opener: Opener) -> None:
    """Each end shows whether a task waits at the other."""
    needs_one_process(opener, "the other's waiters")
    channel = opener(1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.recv.receive)
        await receiver_blocks(channel)
        assert channel.send.statistics().waiters_receive == 1
        channel.send.send_nowait(1)


async def test_statistics_are_those_of_the_other_end_at_once(opener: Opener) -> None:
    """Both ends tell the same at every moment."""
    needs_one_process(opener, "at once")
    channel = opener(2)
    channel.send.send_nowait(1)
    assert channel.recv.statistics() == channel.send.statistics()


async def test_statistics_count_what_was_moved(opener: Opener) -> None:
    """The figures of both ends say what was sent, received and buffered, and how much at most."""
    channel = opener(8)
    await fill(channel, 5)
    assert channel.send.statistics().high_water == 5
    assert channel.recv.statistics().high_water == 5
    await channel.recv.receive_many(4)
    await channel.send.send(5)
    await arrived(channel, 2)
    await until(lambda: channel.send.statistics().received == 4)
    for end in (channel.send, channel.recv):
        stats = end.statistics()
        assert (stats.current_buffer_used, stats.max_buffer_size) == (2, 8)
        assert (stats.sent, stats.received, stats.discarded) == (6, 4, 0)


async def test_items_never_taken_are_counted_as_discarded(opener: Opener) -> None:
    """Closing the receiver discards what it has not taken, and both ends count it once."""
    channel = opener(8)
    await fill(channel, 5)
    assert await channel.recv.receive() == 0
    assert channel.recv.statistics().discarded == 0
    await channel.recv.aclose()
    await channel.recv.aclose()
    await receiver_gone(channel)
    for end in (channel.send, channel.recv):
        stats = end.statistics()
        assert (stats.sent, stats.received, stats.discarded) == (5, 1, 4)
        assert stats.current_buffer_used == 0


async def test_statistics_show_who_is_blocked_and_who_has_closed(opener: Opener) -> None:
    """Each end shows its own waiter while there is one, and both show who has closed."""
    channel = await opener.met(0)
    for call, waits in (
        (partial(channel.send.send, 1), lambda: channel.send.statistics().waiters_send),
        (channel.recv.receive, lambda: channel.recv.statistics().waiters_receive),
    ):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await until(waits)
            assert waits() == 1
            tasks.cancel_scope.cancel()
        assert waits() == 0
    await channel.send.aclose()
    await until(lambda: channel.recv.statistics().open_send_streams == 0)
    assert channel.send.statistics().open_send_streams == 0
    await channel.recv.aclose()
    assert channel.recv.statistics().open_receive_streams == 0
