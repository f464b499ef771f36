import math
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest
from chrono_core import (
    ChannelClosed,
    ChannelInUse,
    ChannelStats,
    EndpointClosed,
    SendStream,
    SimClock,
    WouldBlock,
    open_channel,
)
from chrono_core.lowlevel import wait_any
from chrono_core.testing import Trace, assert_one_trace, collect, feed
from chrono_recipes._drops import Drops
from chrono_recipes._lossy import CoalesceSend, DropNewestSend, DropOldestSend, _LossySend
from chrono_recipes._merge import merge
from chrono_recipes._tee import tee
from hypothesis import given
from hypothesis import strategies as st

from tests.core.scheduling import rounds, until

MAKERS: dict[str, Callable[..., _LossySend[Any]]] = {
    "newest": DropNewestSend,
    "oldest": DropOldestSend,
    "coalesce": CoalesceSend,
}
every_kind = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


class Plain(SendStream[Any]):
    """An end that can do what an end must, and no more."""

    async def send(self, item: Any) -> None:
        raise NotImplementedError

    def send_nowait(self, item: Any) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError

    def statistics(self) -> ChannelStats:
        return ChannelStats(0, 4, 1, 1, 0, 0)


class Ready(Plain):
    """One that knows as well whether it has room."""

    def ready(self) -> bool:
        return True


# What is dropped


async def test_newest_is_dropped_where_there_is_no_room() -> None:
    """The items that were there stay, and new ones are dropped until there is room."""
    channel = open_channel[int](2)
    drops = Drops()
    out = DropNewestSend(channel.send, on_drop=drops)
    for n in range(5):
        await out.send(n)
    assert channel.recv.receive_nowait() == 0
    await out.send(5)
    await out.aclose()
    assert await collect(channel.recv) == [1, 5]
    assert out.dropped == 3
    assert drops.by_reason == {"full": 3}


async def test_newest_over_a_rendezvous_goes_to_who_waits() -> None:
    """Without a buffer, an item is dropped unless somebody waits for it."""
    channel = open_channel[int](0)
    out = DropNewestSend(channel.send)
    received: list[int] = []

    async def receive() -> None:
        received.append(await channel.recv.receive())

    await out.send(1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receive)
        await until(lambda: channel.recv.statistics().waiters_receive)
        await out.send(2)
        await out.send(3)
    assert received == [2]
    assert out.dropped == 2


async def test_oldest_is_dropped_where_there_is_no_room() -> None:
    """The channel holds the newest items, in order."""
    channel = open_channel[int](2)
    dropped: list[tuple[int, str]] = []
    out = DropOldestSend(channel.send, on_drop=lambda item, reason: dropped.append((item, reason)))
    for n in range(5):
        await out.send(n)
    await out.aclose()
    assert await collect(channel.recv) == [3, 4]
    assert dropped == [(0, "oldest"), (1, "oldest"), (2, "oldest")]
    assert out.dropped == channel.send.statistics().discarded == 3


@pytest.mark.parametrize("size", [1, 4, math.inf])
async def test_newest_replaces_what_waits(size: float) -> None:
    """At most one item waits, the newest, however large the channel is."""
    channel = open_channel[int](size)
    drops = Drops()
    out = CoalesceSend(channel.send, on_drop=drops)
    for n in range(3):
        await out.send(n)
    assert channel.recv.receive_nowait() == 2
    await out.send(3)
    await out.aclose()
    assert await collect(channel.recv) == [3]
    assert drops.by_reason == {"replaced": 2}
    assert out.dropped == 2


async def test_new_item_is_merged_with_what_waits() -> None:
    """`merge(waiting, new)` makes the one item that waits; what was received is not in it."""
    channel = open_channel[str](1)
    drops = Drops()
    out = CoalesceSend(channel.send, lambda waiting, new: waiting + new, on_drop=drops)
    for letter in "abc":
        await out.send(letter)
    assert channel.recv.receive_nowait() == "abc"
    await out.send("d")
    await out.send("e")
    await out.aclose()
    assert await collect(channel.recv) == ["de"]
    assert drops.by_reason == {"merged": 3}


async def test_items_that_were_there_before_are_merged_in_order() -> None:
    """Several that wait already become one with the new item, the oldest first."""
    channel = open_channel[str](3)
    for letter in "abc":
        channel.send.send_nowait(letter)
    out = CoalesceSend(channel.send, lambda waiting, new: waiting + new)
    await out.send("d")
    assert channel.recv.receive_nowait() == "abcd"
    assert out.dropped == 3


async def test_failing_merge_leaves_what_waits() -> None:
    """What `merge` raises comes out of `send`; the items that wait are still there, in order."""
    channel = open_channel[int](3)
    for n in range(3):
        channel.send.send_nowait(n)
    out = CoalesceSend(channel.send, lambda waiting, new: waiting // new)
    with pytest.raises(ZeroDivisionError):
        await out.send(0)
    await out.aclose()
    assert await collect(channel.recv) == [0, 1, 2]
    assert out.dropped == 0


@every_kind
async def test_failing_callback_finds_everything_done(make: Callable[..., Any]) -> None:
    """What `on_drop` raises comes out of `send`, after the drop was counted and the item sent."""

    def on_drop(item: int, reason: str) -> None:
        raise RuntimeError(f"{item} {reason}")

    channel = open_channel[int](1)
    out = make(channel.send, on_drop=on_drop)
    await out.send(1)
    with pytest.raises(RuntimeError, match=r"2 full|1 oldest|1 replaced"):
        await out.send(2)
    assert out.dropped == 1
    assert channel.recv.receive_nowait() == (1 if make is DropNewestSend else 2)


# As any sending end


@every_kind
async def test_send_gives_way_once_in_16_calls(make: Callable[..., Any]) -> None:
    """Another task gets its turn although `send` never waits."""
    await SimClock().advance(0)  # from now on, trio has an order
    out = make(open_channel[int](1).send)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        await rounds(1)
        for calls in range(20):
            before = turns
            for _ in range(16):
                await out.send(calls)
            assert turns > before
        tasks.cancel_scope.cancel()


@every_kind
async def test_cancelled_send_has_done_nothing(make: Callable[..., Any]) -> None:
    """In a cancelled scope, `send` raises, and neither sends nor drops."""
    channel = open_channel[int](1)
    out = make(channel.send)
    await out.send(1)
    for _ in range(20):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await out.send(2)
        assert scope.cancelled_caught
    assert out.dropped == 0
    assert channel.recv.receive_nowait() == 1


@every_kind
async def test_send_after_close_is_refused(make: Callable[..., Any]) -> None:
    """A closed end says so, full or not, and drops nothing; closing twice is fine."""
    for items in (0, 1):
        channel = open_channel[int](1)
        async with make(channel.send) as out:
            for n in range(items):
                await out.send(n)
        await out.aclose()
        with pytest.raises(EndpointClosed):
            await out.send(2)
        with pytest.raises(EndpointClosed):
            out.send_nowait(2)
        assert out.dropped == 0
        assert await collect(channel.recv) == list(range(items))


@every_kind
async def test_send_to_nobody_is_refused(make: Callable[..., Any]) -> None:
    """When the receiver has gone, `send` says so, and drops nothing."""
    for items in (0, 1):
        channel = open_channel[int](1)
        out = make(channel.send)
        for n in range(items):
            await out.send(n)
        await channel.recv.aclose()
        with pytest.raises(ChannelClosed):
            await out.send(2)
        assert out.dropped == 0


@every_kind
async def test_second_user_is_refused(make: Callable[..., Any]) -> None:
    """An end that another task uses right now drops nothing, and says so."""
    channel = open_channel[int](1)
    channel.send.send_nowait(0)
    out = make(channel.send)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.send.send, 1)
        await until(lambda: channel.send.statistics().waiters_send)
        with pytest.raises(ChannelInUse):
            await out.send(2)
        assert out.dropped == 0
        tasks.cancel_scope.cancel()


@every_kind
async def test_end_is_always_ready(make: Callable[..., Any]) -> None:
    """It has room, or drops: whoever waits for it goes on at once."""
    channel = open_channel[int](1)
    out = make(channel.send)
    await out.send(1)
    assert out.ready()
    with anyio.fail_after(10):
        await wait_any(out)
    out.send_nowait(2)
    assert out.statistics() == channel.send.statistics()


@every_kind
async def test_going_of_the_receiver_is_seen_while_waiting(make: Callable[..., Any]) -> None:
    """Whoever waits for the receiver to go is told, and not before."""
    channel = open_channel[int](1)
    other = open_channel[int](1)
    out = make(channel.send)
    woken = False

    async def wait() -> None:
        nonlocal woken
        await wait_any(other.recv, closing=(out,))
        woken = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await rounds()
        out.send_nowait(1)
        await rounds()
        assert not woken
        await channel.recv.aclose()
        await until(lambda: woken)


@every_kind
async def test_end_is_a_destination_of_recipes(make: Callable[..., Any]) -> None:
    """A slow consumer behind it holds nobody up, and the end of the stream comes through."""
    source = open_channel[int](4)
    slow = open_channel[int](2)
    fast = open_channel[int](0)
    out = make(slow.send)
    got: list[int] = []

    async def consume() -> None:
        got.extend(await collect(fast.recv))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tee, source.recv, out, fast.send)
        tasks.start_soon(consume)
        await feed(source.send, range(100))
    left = await collect(slow.recv)
    assert got == list(range(100))
    assert len(left) + out.dropped == 100
    held: dict[Any, list[int]] = {DropNewestSend: [0, 1], DropOldestSend: [98, 99]}
    assert left == held.get(make, [99])


@every_kind
async def test_upstream_learns_that_the_receiver_has_gone(make: Callable[..., Any]) -> None:
    """Behind a recipe, the going of the receiver reaches the source."""
    source = open_channel[int](4)
    target = open_channel[int](2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(merge, [source.recv], make(target.send))
        await feed(source.send, range(10), close=False)
        await target.recv.aclose()
        await until(lambda: not source.send.statistics().open_receive_streams)
    with pytest.raises(ChannelClosed):
        await source.send.send(1)


# What is refused


@every_kind
@pytest.mark.parametrize("inner", [None, 3, "send", open_channel[int](1).recv])
def test_what_is_no_sending_end_is_refused(make: Callable[..., Any], inner: Any) -> None:
    """The error shows what was given."""
    with pytest.raises(TypeError, match="inner must be the sending end"):
        make(inner)


@pytest.mark.parametrize("make", [DropOldestSend, CoalesceSend])
def test_rendezvous_is_refused_where_items_must_wait(make: Callable[..., Any]) -> None:
    """Where items are taken back, there must be a buffer."""
    with pytest.raises(ValueError, match=r"rendezvous.*maxsize"):
        make(open_channel[int](0).send)


@pytest.mark.parametrize("make", [DropOldestSend, DropNewestSend])
def test_unbounded_channel_is_refused_where_it_would_never_drop(make: Callable[..., Any]) -> None:
    """Where items are dropped for want of room, room must be limited."""
    with pytest.raises(ValueError, match="with a limit"):
        make(open_channel[int](math.inf).send)


@pytest.mark.parametrize("make", [DropOldestSend, CoalesceSend])
def test_end_that_takes_nothing_back_is_refused(make: Callable[..., Any]) -> None:
    """That is found out without taking anything back."""
    with pytest.raises(ValueError, match=r"evict_nowait\(\)"):
        make(Ready())
    DropNewestSend(Ready())


@every_kind
def test_end_that_cannot_tell_whether_it_has_room_is_refused(make: Callable[..., Any]) -> None:
    """Without `ready`, nothing could be sent to it through recipes."""
    with pytest.raises(ValueError, match=r"ready\(\)"):
        make(Plain())


@every_kind
def test_lossy_end_in_a_lossy_end_is_refused(make: Callable[..., Any]) -> None:
    """The outer one would never drop anything."""
    with pytest.raises(ValueError, match="never has to wait"):
        make(DropNewestSend(open_channel[int](1).send))


def test_what_cannot_be_called_is_refused() -> None:
    """`merge` and `on_drop` are functions."""
    end: Any = open_channel[int](1).send
    bad: Any = 3
    with pytest.raises(TypeError, match="merge"):
        CoalesceSend(end, bad)
    with pytest.raises(TypeError, match="on_drop"):
        DropNewestSend(end, on_drop=bad)


def test_repr_tells_the_channel_and_the_drops() -> None:
    """The representation names the channel, and how many items were dropped."""
    out = DropOldestSend(open_channel[int](1, name="frames").send)
    out.send_nowait(1)
    out.send_nowait(2)
    assert repr(out) == "<DropOldestSend to <sending end of channel 'frames'>, 1 dropped>"


# Whatever happens


@given(
    kind=st.sampled_from(["newest", "oldest", "coalesce", "merge"]),
    size=st.integers(1, 4),
    steps=st.lists(st.sampled_from(["send", "send", "nowait", "cancelled", "receive"])),
)
async def test_channel_holds_what_the_policy_says(kind: str, size: int, steps: list[str]) -> None:
    """Step by step, the channel holds what a list does under the same policy; nothing is lost."""
    channel = open_channel[tuple[int, ...]](size)
    drops = Drops()
    out: _LossySend[tuple[int, ...]]
    if kind == "merge":
        out = CoalesceSend(channel.send, lambda a, b: a + b, on_drop=drops)
    else:
        out = MAKERS[kind](channel.send, on_drop=drops)
    model: deque[tuple[int, ...]] = deque()
    received = sent = 0
    for n, step in enumerate(steps):
        if step == "receive":
            item = None
            with suppress(WouldBlock):
                item = channel.recv.receive_nowait()
            assert item == (model.popleft() if model else None)
            received += item is not None
            continue
        with anyio.CancelScope() as scope:
            if step == "cancelled":
                scope.cancel()
            if step == "nowait":
                out.send_nowait((n,))
            else:
                await out.send((n,))
        assert scope.cancelled_caught == (step == "cancelled")
        if step == "cancelled":
            continue
        sent += 1
        if kind == "merge":
            model = deque([(*sum(model, ()), n)])
        elif kind == "coalesce":
            model = deque([(n,)])
        elif len(model) < size:
            model.append((n,))
        elif kind == "oldest":
            model.popleft()
            model.append((n,))
    held = channel.send.statistics().current_buffer_used
    assert sent == received + held + out.dropped
    assert out.dropped == drops.total
    await out.aclose()
    assert await collect(channel.recv) == list(model)


@given(
    kind=st.sampled_from(sorted(MAKERS)),
    size=st.integers(1, 3),
    pauses=st.lists(st.integers(0, 3), min_size=1, max_size=4),
    work=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    timeouts=st.lists(st.integers(0, 3), min_size=1, max_size=3),
)
async def test_nothing_is_lost_between_two_tasks(
    kind: str, size: int, pauses: list[int], work: list[int], timeouts: list[int]
) -> None:
    """A consumer that times out now and then gets, in order, all that was not dropped."""
    timeouts = [*timeouts, 1]  # one at least that is no cancellation from the start
    clock = SimClock()
    channel = open_channel[int](size)
    dropped: list[int] = []
    out = MAKERS[kind](channel.send, on_drop=lambda item, _: dropped.append(item))
    got: list[int] = []

    async def produce() -> None:
        for n in range(30):
            await clock.sleep(pauses[n % len(pauses)])
            await out.send(n)
        await out.aclose()

    async def consume() -> None:
        for turn in range(1000):
            with clock.move_on_after(timeouts[turn % len(timeouts)]):
                try:
                    got.append(await channel.recv.receive())
                except Exception:
                    return
            await clock.sleep(work[turn % len(work)] + 0.5)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        tasks.start_soon(consume)
        await clock.advance(10_000)
        tasks.cancel_scope.cancel()
    assert got == sorted(got)
    assert sorted(got + dropped) == list(range(30))
    assert kind == "newest" or got[-1] == 29


def test_one_trace() -> None:
    """A fast producer and a slow consumer give one trace on every run and backend."""

    async def program(trace: Trace) -> None:
        clock = SimClock()

        def on_drop(item: int, reason: str) -> None:
            trace.write(f"{clock.now()} dropped {item} {reason}")

        async def produce(out: SendStream[int]) -> None:
            for n in range(60):
                await out.send(n)
                if n % 7 == 6:
                    await clock.sleep(0.1)
            await out.aclose()

        for make in MAKERS.values():
            channel = open_channel[int](3)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(produce, make(channel.send, on_drop=on_drop))

                async def consume(channel: Any = channel) -> None:
                    async for item in channel.recv:
                        trace.write(f"{clock.now()} {item}")
                        await clock.sleep(0.03)

                tasks.start_soon(consume)
                await clock.advance(10)

    assert len(assert_one_trace(program).lines) == 180
