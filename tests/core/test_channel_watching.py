"""Waiting for an end of a channel without taking from it or putting into it."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from chrono_core import (
    Channel,
    ChannelClosed,
    ChannelError,
    ChannelInUse,
    ChannelStats,
    EndOfStream,
    EndpointClosed,
    ReceiveStream,
    SendStream,
    WouldBlock,
    open_channel,
)
from chrono_core.lowlevel import checkpoint, new_waiter, wait_any
from hypothesis import given, settings
from hypothesis import strategies as st

from .scheduling import in_order, rounds, until
from .test_channel_cancellation import (
    ONLY_ASYNCIO,
    in_one_round,
    receiver_blocks,
    sender_blocks,
)

SIZES = [0, 1, 3, math.inf]


class Watcher:
    """Waits once, and says when that is over."""

    def __init__(self, *watched: Any, closing: tuple[SendStream[Any], ...] = ()) -> None:
        self.watched = watched
        self.closing = closing
        self.scope = anyio.CancelScope()
        self.woken = self.over = False

    async def run(self) -> None:
        with self.scope:
            try:
                await wait_any(*self.watched, closing=self.closing)
                self.woken = True
            finally:
                self.over = True


def filled(size: float, items: int = 0) -> Channel[int]:
    channel = open_channel[int](size, name="obs")
    for n in range(items):
        channel.send.send_nowait(n)
    return channel


# What wakes


async def sends_nowait(channel: Channel[int]) -> None:
    channel.send.send_nowait(9)


async def sends(channel: Channel[int]) -> None:
    await channel.send.send(9)


async def sends_many(channel: Channel[int]) -> None:
    await channel.send.send_many([9])


async def receives_nowait(channel: Channel[int]) -> None:
    channel.recv.receive_nowait()


async def receives(channel: Channel[int]) -> None:
    await channel.recv.receive()


async def receives_many(channel: Channel[int]) -> None:
    await channel.recv.receive_many(5)


async def iterates(channel: Channel[int]) -> None:
    async for _ in channel.recv:
        return


async def watches_the_receiving_end(channel: Channel[int]) -> None:
    await wait_any(channel.recv)


async def closes_the_sending_end(channel: Channel[int]) -> None:
    await channel.send.aclose()


async def closes_the_receiving_end(channel: Channel[int]) -> None:
    await channel.recv.aclose()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "act", [sends_nowait, sends, sends_many, closes_the_sending_end, closes_the_receiving_end]
)
async def test_watcher_of_the_receiving_end_is_woken(
    size: float, act: Callable[[Channel[int]], Awaitable[None]]
) -> None:
    """Whatever is sent or offered, and the close of either end, wakes it, and it is ready then."""
    channel = filled(size)
    watcher = Watcher(channel.recv)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watcher.run)
        await receiver_blocks(channel)
        await rounds()
        assert not watcher.over
        assert not channel.recv.ready()
        tasks.start_soon(act, channel)
        await until(lambda: watcher.woken)
        assert channel.recv.ready()
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(
    "act",
    [
        receives_nowait,
        receives,
        receives_many,
        iterates,
        closes_the_sending_end,
        closes_the_receiving_end,
    ],
)
async def test_watcher_of_a_full_channel_is_woken(
    size: int, act: Callable[[Channel[int]], Awaitable[None]]
) -> None:
    """Whatever is taken, and the close of either end, wakes it, and it is ready then."""
    channel = filled(size, items=size)
    watcher = Watcher(channel.send)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watcher.run)
        await sender_blocks(channel)
        await rounds()
        assert not watcher.over
        assert not channel.send.ready()
        tasks.start_soon(act, channel)
        await until(lambda: watcher.woken)
        assert channel.send.ready()
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    "act",
    [
        receives,
        receives_many,
        iterates,
        watches_the_receiving_end,
        closes_the_sending_end,
        closes_the_receiving_end,
    ],
)
async def test_watcher_of_the_sending_end_of_a_rendezvous_is_woken(
    act: Callable[[Channel[int]], Awaitable[None]],
) -> None:
    """Whoever waits or watches to receive, and the close of either end, wakes it."""
    channel = filled(0)
    watcher = Watcher(channel.send)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watcher.run)
        await sender_blocks(channel)
        await rounds()
        assert not watcher.over
        assert not channel.send.ready()
        tasks.start_soon(act, channel)
        await until(lambda: watcher.woken)
        assert channel.send.ready()
        tasks.cancel_scope.cancel()


async def test_offer_that_was_withdrawn_leaves_nothing_to_take() -> None:
    """A watcher that an offer woke finds nothing where its sender was cancelled in that round."""
    await in_order()
    channel = open_channel[str](0)
    scope = anyio.CancelScope()
    received: list[str] = []
    looks: list[bool] = []

    async def consume() -> None:
        while not received:
            await wait_any(channel.recv)
            looks.append(channel.recv.ready())
            with suppress(WouldBlock):
                received.append(channel.recv.receive_nowait())

    async def offer() -> None:
        with scope:
            await channel.send.send("withdrawn")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await receiver_blocks(channel)
        tasks.start_soon(offer)
        await until(lambda: channel.send.statistics().waiters_send)
        scope.cancel()
        await until(lambda: looks)
        await rounds()
        assert looks == [False]
        tasks.start_soon(channel.send.send, "kept")
        await until(lambda: received)
    assert received == ["kept"]
    assert looks == [False, True]
    assert channel.send.statistics().sent == 1


async def test_withdrawal_of_an_offer_lets_the_next_sender_meet_the_watcher() -> None:
    """Who watches while an offer is withdrawn counts as waiting for the next sender."""
    channel = open_channel[str](0)
    scope = anyio.CancelScope()

    async def offer() -> None:
        with scope:
            await channel.send.send("withdrawn")

    watcher = Watcher(channel.recv)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(offer)
        await sender_blocks(channel)
        assert channel.recv.ready()
        tasks.start_soon(watcher.run)  # though there is something to take
        await receiver_blocks(channel)
        scope.cancel()
        await rounds()
        assert not watcher.over
        assert channel.send.ready()
        channel.send.send_nowait("kept")
        await until(lambda: watcher.woken)
    assert channel.recv.receive_nowait() == "kept"


# Two that only watch


@pytest.mark.parametrize("first", ["sender", "receiver"])
@pytest.mark.parametrize("size", SIZES)
async def test_sender_and_receiver_that_only_watch_meet(size: float, first: str) -> None:
    """Whoever comes first, every item goes across, also at a rendezvous."""
    channel = open_channel[int](size)
    received: list[int] = []

    async def produce() -> None:
        for n in range(100):
            while not channel.send.ready():
                await wait_any(channel.send)
            channel.send.send_nowait(n)
            if size == math.inf:
                await checkpoint()
        await channel.send.aclose()

    async def consume() -> None:
        while True:
            while not channel.recv.ready():
                await wait_any(channel.recv)
            try:
                received.append(channel.recv.receive_nowait())
            except EndOfStream:
                return

    async with anyio.create_task_group() as tasks:
        for body in (produce, consume) if first == "sender" else (consume, produce):
            tasks.start_soon(body)
            await rounds(3)
        await until(lambda: len(received) == 100)
    assert received == list(range(100))
    stats = channel.recv.statistics()
    assert (stats.sent, stats.received, stats.discarded) == (100, 100, 0)


@pytest.mark.parametrize("sender_watches", [False, True])
@pytest.mark.parametrize("receiver_watches", [False, True])
async def test_one_task_serves_many_rendezvous(
    sender_watches: bool, receiver_watches: bool
) -> None:
    """A task that watches many ends at once meets everybody who waits at the others."""
    channels = [open_channel[int](0) for _ in range(4)]
    received: list[list[int]] = [[] for _ in channels]

    async def produce(channel: Channel[int]) -> None:
        for n in range(20):
            while sender_watches and not channel.send.ready():
                await wait_any(channel.send)
            if sender_watches:
                channel.send.send_nowait(n)
            else:
                await channel.send.send(n)
        await channel.send.aclose()

    async def produce_for_all() -> None:
        left = {number: iter(range(20)) for number in range(len(channels))}
        while left:
            if not any(channels[number].send.ready() for number in left):
                await wait_any(*(channels[number].send for number in left))
            for number, items in list(left.items()):
                if not channels[number].send.ready():
                    continue
                item = next(items, None)
                if item is None:
                    del left[number]
                    await channels[number].send.aclose()
                else:
                    channels[number].send.send_nowait(item)

    async def consume(number: int) -> None:
        received[number] += [item async for item in channels[number].recv]

    async def consume_all() -> None:
        left = dict(enumerate(channels))
        while left:
            if not any(channel.recv.ready() for channel in left.values()):
                await wait_any(*(channel.recv for channel in left.values()))
            for number, channel in list(left.items()):
                try:
                    received[number].append(channel.recv.receive_nowait())
                except WouldBlock:
                    continue
                except EndOfStream:
                    del left[number]

    async with anyio.create_task_group() as tasks:
        if sender_watches and not receiver_watches:
            tasks.start_soon(produce_for_all)
        else:
            for channel in channels:
                tasks.start_soon(produce, channel)
        if receiver_watches:
            tasks.start_soon(consume_all)
        else:
            for number in range(len(channels)):
                tasks.start_soon(consume, number)
        await until(lambda: all(len(items) == 20 for items in received))
    assert received == [list(range(20))] * len(channels)


async def test_watching_both_ends_of_one_rendezvous_lets_others_run() -> None:
    """A task that waits for itself can be cancelled, whichever end comes first."""
    for order in ("send", "recv"), ("recv", "send"):
        channel = open_channel[int](0)

        async def watch_both(channel: Channel[int] = channel, order: Any = order) -> None:
            while not (channel.send.ready() or channel.recv.ready()):
                await wait_any(*(getattr(channel, end) for end in order))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch_both)
            await rounds()
            tasks.cancel_scope.cancel()
        assert channel.recv.statistics().waiters_send == 0
        assert channel.recv.statistics().waiters_receive == 0


# Watching the close alone


@pytest.mark.parametrize("size", SIZES)
async def test_watcher_of_the_close_sleeps_through_everything_else(size: float) -> None:
    """Others send and receive meanwhile; what wakes is the going of the receiver."""
    channel = open_channel[int](size)
    watcher = Watcher(closing=(channel.send,))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watcher.run)
        await rounds(3)
        assert channel.send.statistics().waiters_send == 0
        tasks.start_soon(channel.send.send_many, range(40))
        assert [await channel.recv.receive() for _ in range(40)] == list(range(40))
        await rounds(2)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as waiting:
                waiting.start_soon(wait_any, channel.send)
                waiting.start_soon(wait_any, channel.recv)
                await rounds()
                scope.cancel()
        assert not watcher.over
        await channel.recv.aclose()
        await until(lambda: watcher.woken)


async def test_any_number_of_tasks_watch_the_close_of_one_end() -> None:
    """All of them are woken, in the order in which they came, and none is where it left."""
    await in_order()
    channel = open_channel[int](1)
    watchers = [Watcher(closing=(channel.send,)) for _ in range(4)]
    order: list[int] = []

    async def watch(number: int) -> None:
        await watchers[number].run()
        order.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(watch, number)
            await rounds(2)
        watchers[1].scope.cancel()
        await until(lambda: watchers[1].over)
        await channel.recv.aclose()
        await until(lambda: len(order) == 4)
    assert order == [1, 0, 2, 3]
    assert [watcher.woken for watcher in watchers] == [True, False, True, True]


@pytest.mark.parametrize("end", ["send", "recv"])
async def test_close_that_was_before_is_seen_at_once(end: str) -> None:
    """Who watches the close of a closed channel goes on after it has let others run."""
    await in_order()
    channel = open_channel[int](1)
    await getattr(channel, end).aclose()
    ran: list[str] = []

    async def other() -> None:
        ran.append("other")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        await wait_any(closing=(channel.send,))
        assert ran == ["other"]


async def test_one_wait_watches_an_end_and_its_close() -> None:
    """The same end may be waited for in both ways, and is free afterwards."""
    channel = filled(1, items=1)
    watcher = Watcher(channel.send, closing=(channel.send,))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watcher.run)
        await sender_blocks(channel)
        channel.recv.receive_nowait()
        await until(lambda: watcher.woken)
    channel.send.send_nowait(1)


# One user at a time


@pytest.mark.parametrize("size", SIZES)
async def test_watched_end_is_in_use(size: float) -> None:
    """Whoever else uses it is told so, with the names of the channel and of the watcher's task."""
    channel = filled(size)

    async def watch(end: Any) -> None:
        await wait_any(end)

    async def refused(call: Callable[[], Any]) -> None:
        with pytest.raises(ChannelInUse, match=r"'obs'.*'the watcher'"):
            result = call()
            if result is not None:
                await result

    send, recv = channel.send, channel.recv
    uses: dict[Any, list[Callable[[], Any]]] = {
        send: [
            lambda: send.send(1),
            lambda: send.send_nowait(1),
            lambda: send.send_many([1]),
            lambda: send.evict_nowait(),
            lambda: wait_any(send),
        ],
        recv: [
            lambda: recv.receive(),
            lambda: recv.receive_nowait(),
            lambda: recv.receive_many(2),
            lambda: recv.peek_nowait(),
            lambda: anext(aiter(recv)),
            lambda: wait_any(recv),
        ],
    }
    for end, calls in uses.items():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch, end, name="the watcher")
            await until(lambda: send.statistics().waiters_send + recv.statistics().waiters_receive)
            for call in calls:
                for _ in range(20):
                    await refused(call)
            tasks.cancel_scope.cancel()
        stats = recv.statistics()
        assert (stats.waiters_send, stats.waiters_receive, stats.sent) == (0, 0, 0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send.send, 5)
        assert await recv.receive() == 5


async def test_watcher_is_told_who_uses_the_end() -> None:
    """An end in which a task is blocked cannot be watched, and the others are let go."""
    busy, free = filled(0), open_channel[int](0)
    event = Spy()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(busy.recv.receive, name="the receiver")
        await receiver_blocks(busy)
        with pytest.raises(ChannelInUse, match=r"'obs'.*'the receiver'"):
            await wait_any(free.recv, free.send, event, busy.recv, closing=(free.send,))
        assert event.waiters == []
        stats = free.recv.statistics()
        assert (stats.waiters_send, stats.waiters_receive) == (0, 0)
        with pytest.raises(WouldBlock):
            free.recv.receive_nowait()
        with pytest.raises(WouldBlock):
            free.send.send_nowait(1)
        assert busy.recv.statistics().waiters_receive == 1
        busy.send.send_nowait(1)


async def test_end_that_is_given_twice_is_refused() -> None:
    """Of one end twice, the second is in use, and both are free afterwards."""
    channel = filled(0)
    with pytest.raises(ChannelInUse):
        await wait_any(channel.recv, channel.recv)
    assert channel.recv.statistics().waiters_receive == 0


@pytest.mark.parametrize("size", SIZES)
async def test_end_is_free_once_the_wait_is_over(size: float) -> None:
    """Any task may use an end that was watched, in the round in which the watcher goes on."""
    channel = filled(size)
    watcher = Watcher(channel.recv)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watcher.run)
        await receiver_blocks(channel)
        channel.send.send_nowait(1)
        with pytest.raises(ChannelInUse):  # woken, but has not run
            channel.recv.receive_nowait()
        await until(lambda: watcher.woken)
        assert channel.recv.receive_nowait() == 1


# Cancelled


class Spy:
    """Notes who watches."""

    def __init__(self) -> None:
        self.waiters: list[Any] = []

    def watch(self, waiter: Any) -> None:
        self.waiters.append(waiter)

    def unwatch(self, waiter: Any) -> None:
        if waiter in self.waiters:
            self.waiters.remove(waiter)


class SpyEnd(Spy, SendStream[int]):
    """Notes who watches its close."""

    def watch(self, waiter: Any, *, closing: bool = False) -> None:
        assert closing
        super().watch(waiter)

    async def send(self, item: int) -> None:
        raise NotImplementedError

    def send_nowait(self, item: int) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError

    def statistics(self) -> ChannelStats:
        raise NotImplementedError


class Scene:
    """A task that watches a receiving end, a sending end, a close, and things of the test's own."""

    def __init__(self, size: int) -> None:
        self.source = filled(size)
        self.dest = filled(size, items=size)
        self.spy, self.spy_end, self.closing = Spy(), SpyEnd(), filled(size)
        self.watcher = Watcher(
            self.source.recv,
            self.dest.send,
            self.spy,
            closing=(self.spy_end, self.closing.send),
        )

    async def ready(self) -> None:
        await receiver_blocks(self.source)
        assert self.spy.waiters == self.spy_end.waiters
        assert len(self.spy.waiters) == 1

    def check(self, arrived: bool) -> None:
        """Nothing was left behind: no user, no watcher, no item out of its place."""
        assert self.watcher.over
        assert self.spy.waiters == self.spy_end.waiters == []
        for channel in self.source, self.dest:
            stats = channel.recv.statistics()
            assert (stats.waiters_send, stats.waiters_receive) == (0, 0)
        if arrived:
            assert self.source.recv.peek_nowait() == 9
            assert self.source.recv.receive_nowait() == 9
        with pytest.raises(WouldBlock):
            self.source.recv.receive_nowait()
        with pytest.raises(WouldBlock):
            self.dest.send.send_nowait(1)
        assert self.source.recv.statistics().sent == arrived
        assert self.dest.recv.statistics().sent == self.dest.recv.statistics().max_buffer_size


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("order", ["cancel only", "wake first", "cancel first"])
async def test_cancelled_wait_leaves_nothing_behind(size: int, order: str) -> None:
    """Cancelled by a scope, before or in the round of a wake-up, it has taken nothing."""
    scene = Scene(size)
    sent = order != "cancel only"

    def send() -> None:
        nonlocal sent
        try:
            scene.source.send.send_nowait(9)
        except WouldBlock:  # nobody waits any more
            sent = False

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.watcher.run)
        await scene.ready()
        if order == "cancel only":
            scene.watcher.scope.cancel()
        else:
            in_one_round(order, send, scene.watcher.scope.cancel)
        await until(lambda: scene.watcher.over)
        scene.check(arrived=sent)
    assert scene.watcher.woken == (order == "wake first")


async def test_wait_in_a_cancelled_scope_raises_and_leaves_nothing_behind() -> None:
    """A cancellation that is pending already is raised, and wakes nobody for long."""
    scene = Scene(0)
    scene.watcher.scope.cancel()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.watcher.run)
        await until(lambda: scene.watcher.over)
    scene.check(arrived=False)
    assert not scene.watcher.woken


async def test_wait_for_what_was_there_before_is_a_cancellation_point() -> None:
    """A wait that ends at once raises a pending cancellation, too."""
    channel = open_channel[int](1)
    await channel.recv.aclose()
    watcher = Watcher(closing=(channel.send,))
    watcher.scope.cancel()
    await watcher.run()
    assert not watcher.woken


@ONLY_ASYNCIO
@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("order", ["cancel only", "wake first", "cancel first", "before the wait"])
async def test_wait_cancelled_natively_leaves_nothing_behind(size: int, order: str) -> None:
    """`Task.cancel` before the wait, in it, or in the round of a wake-up: nothing was taken."""
    scene = Scene(size)
    sent = False

    def send() -> None:
        nonlocal sent
        with suppress(WouldBlock):
            scene.source.send.send_nowait(9)
            sent = True

    async def body() -> None:
        if order == "before the wait":
            task.cancel()
        await scene.watcher.run()

    task = asyncio.create_task(body())
    if order != "before the wait":
        await scene.ready()
    if order == "cancel only":
        task.cancel()
    elif order != "before the wait":
        in_one_round(order, send, lambda: task.cancel())
    with pytest.raises(asyncio.CancelledError):
        await task
    scene.check(arrived=sent)
    assert sent == (order == "wake first" or (order == "cancel first" and size == 1))


@ONLY_ASYNCIO
async def test_wait_that_times_out_natively_leaves_nothing_behind() -> None:
    """`asyncio.timeout` around a wait takes nothing."""
    scene = Scene(0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await scene.watcher.run()
    scene.check(arrived=False)
    scene = Scene(1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await scene.watcher.run()
    scene.check(arrived=False)


MODES = st.sampled_from(("call", "watch"))


@settings(max_examples=150)
@given(
    size=st.integers(0, 3),
    sender=MODES,
    receiver=MODES,
    native=st.booleans(),
    cancel=st.lists(st.tuples(st.sampled_from("sr"), st.integers(0, 3)), max_size=20),
)
async def test_cancellations_of_watchers_at_any_moment_lose_and_repeat_nothing(
    anyio_backend: str,
    size: int,
    sender: str,
    receiver: str,
    native: bool,
    cancel: list[tuple[str, int]],
) -> None:
    """Whenever either side is cancelled, by either means, every item arrives once, in order."""
    channel = open_channel[int](size)
    delivered: list[int] = []
    received: list[int] = []
    cancels: dict[str, Callable[[], object]] = {}
    finished = False

    async def produce_one(n: int) -> None:
        if sender == "call":
            await channel.send.send(n)
        else:
            while not channel.send.ready():
                await wait_any(channel.send)
            channel.send.send_nowait(n)
        delivered.append(n)

    async def consume_one() -> None:
        if receiver == "call":
            received.append(await channel.recv.receive())
            return
        while not channel.recv.ready():
            await wait_any(channel.recv)
        item = channel.recv.peek_nowait()
        assert channel.recv.receive_nowait() == item
        received.append(item)

    async def protected(who: str, work: Any) -> None:
        if native and anyio_backend == "asyncio":
            task = asyncio.create_task(work)
            cancels[who] = task.cancel
            with suppress(asyncio.CancelledError):
                await task
        else:
            with anyio.CancelScope() as scope:
                cancels[who] = scope.cancel
                await work

    async def produce() -> None:
        n = 0
        while not finished:
            await protected("s", produce_one(n))
            n += 1
            await checkpoint()
        await channel.send.aclose()

    async def consume() -> None:
        with suppress(EndOfStream):
            while True:
                await protected("r", consume_one())
                await checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        tasks.start_soon(consume)
        await rounds(4)
        for who, pause in cancel:
            cancels[who]()
            await rounds(pause)
        enough = len(received) + 3
        await until(lambda: len(received) >= enough)
        finished = True
        await until(lambda: channel.recv.statistics().open_send_streams == 0)
        await until(lambda: not channel.recv.statistics().current_buffer_used)
    assert received == delivered
    stats = channel.recv.statistics()
    assert (stats.sent, stats.received, stats.discarded) == (len(received), len(received), 0)


# Looking ahead


@pytest.mark.parametrize("size", [1, 3, math.inf])
async def test_peek_is_what_the_next_receive_returns(size: float) -> None:
    """A peek returns the oldest item as often as asked, and moves nothing."""
    channel = filled(size, items=1)
    for way in ("receive", "receive_nowait", "receive_many", "iterate"):
        before = channel.recv.statistics()
        assert [channel.recv.peek_nowait() for _ in range(40)] == [before.received] * 40
        assert channel.recv.statistics() == before
        match way:
            case "receive":
                item = await channel.recv.receive()
            case "receive_nowait":
                item = channel.recv.receive_nowait()
            case "receive_many":
                [item] = await channel.recv.receive_many(1)
            case _:
                item = await anext(aiter(channel.recv))
        assert item == before.received
        channel.send.send_nowait(before.received + 1)


async def test_peek_raises_what_a_receive_raises() -> None:
    """Where there is nothing, where the stream has ended, and where this end was closed."""
    channel = filled(1)
    with pytest.raises(WouldBlock):
        channel.recv.peek_nowait()
    channel.send.send_nowait(1)
    await channel.send.aclose()
    assert channel.recv.peek_nowait() == 1
    channel.recv.receive_nowait()
    with pytest.raises(EndOfStream):
        channel.recv.peek_nowait()
    await channel.recv.aclose()
    with pytest.raises(EndpointClosed):
        channel.recv.peek_nowait()


async def test_peek_shows_an_offer_until_its_sender_is_cancelled() -> None:
    """An offer that was seen is neither delivered by that nor kept for whoever saw it."""
    channel = open_channel[str](0)
    scope = anyio.CancelScope()
    delivered = False

    async def offer() -> None:
        nonlocal delivered
        with scope:
            await channel.send.send("offer")
            delivered = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(offer)
        await sender_blocks(channel)
        assert [channel.recv.peek_nowait() for _ in range(3)] == ["offer"] * 3
        await rounds()
        assert channel.send.statistics().waiters_send == 1
        scope.cancel()
        for look in (channel.recv.peek_nowait, channel.recv.receive_nowait):
            with pytest.raises(WouldBlock):
                look()
        assert not channel.recv.ready()
    assert not delivered
    assert channel.recv.statistics().sent == 0


async def test_offer_that_was_seen_and_taken_is_delivered() -> None:
    """Taken in the step of the peek, the offer is what was seen, whatever happens to its sender."""
    channel = open_channel[str](0)
    scope = anyio.CancelScope()
    delivered = False

    async def offer() -> None:
        nonlocal delivered
        with scope:
            await channel.send.send("offer")
            delivered = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(offer)
        await sender_blocks(channel)
        assert channel.recv.peek_nowait() == channel.recv.receive_nowait() == "offer"
        scope.cancel()
    assert delivered
    assert channel.recv.statistics().sent == 1


# Taking back


@pytest.mark.parametrize("size", [1, 3, math.inf])
async def test_evicted_item_counts_as_discarded_and_makes_room(size: float) -> None:
    """The oldest item goes, the others keep their order, and every one is accounted for."""
    items = 4 if size == math.inf else int(size)
    channel = filled(size, items=items)
    assert channel.send.evict_nowait() == 0
    stats = channel.send.statistics()
    assert (stats.sent, stats.received, stats.discarded) == (items, 0, 1)
    assert stats.current_buffer_used == items - 1
    assert stats.high_water == items
    assert channel.send.ready()
    channel.send.send_nowait(9)
    await channel.send.aclose()
    assert [item async for item in channel.recv] == [*range(1, items), 9]
    stats = channel.send.statistics()
    assert (stats.sent, stats.received, stats.discarded) == (items + 1, items, 1)


async def test_eviction_says_why_there_is_nothing_to_take_back() -> None:
    """Nothing sent, the receiver gone, this end closed: each is an error of its own."""
    channel = filled(2)
    with pytest.raises(WouldBlock, match="'obs'"):
        channel.send.evict_nowait()
    channel.send.send_nowait(1)
    await channel.recv.aclose()
    with pytest.raises(ChannelClosed):
        channel.send.evict_nowait()
    await channel.send.aclose()
    with pytest.raises(EndpointClosed):
        channel.send.evict_nowait()
    assert channel.send.statistics().discarded == 1


@pytest.mark.parametrize("way", ["receive", "receive_many", "watch", "iterate"])
@pytest.mark.parametrize("size", SIZES)
async def test_receiver_that_was_woken_for_an_evicted_item_waits_on(size: float, way: str) -> None:
    """An item may be taken back in the round in which it woke the receiver, who gets the next."""
    channel = open_channel[int](size)
    received: list[int] = []

    async def consume() -> None:
        match way:
            case "receive":
                received.append(await channel.recv.receive())
            case "receive_many":
                received.extend(await channel.recv.receive_many(3))
            case "iterate":
                received.append(await anext(aiter(channel.recv)))
            case _:
                while not channel.recv.ready():
                    await wait_any(channel.recv)
                received.append(channel.recv.receive_nowait())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await receiver_blocks(channel)
        channel.send.send_nowait(1)
        assert channel.send.evict_nowait() == 1
        await rounds()
        assert received == []
        channel.send.send_nowait(2)
        await until(lambda: received)
    assert received == [2]
    stats = channel.recv.statistics()
    assert (stats.sent, stats.received, stats.discarded) == (2, 1, 1)


async def test_offer_is_not_evicted() -> None:
    """What a blocked send offers is that task's to take back."""
    channel = filled(0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.send.send, 5)
        await sender_blocks(channel)
        with pytest.raises(ChannelInUse):
            channel.send.evict_nowait()
        assert await channel.recv.receive() == 5


# Ready, by a model


@dataclass(eq=False)
class FakeWaiter:
    """A waiter without a task."""

    task: Any = None
    subject: object = "a test"
    parked: bool = True

    @property
    def woken(self) -> bool:
        return not self.parked

    def wake(self) -> bool:
        was, self.parked = self.parked, False
        return was

    def __await__(self) -> Iterator[Any]:
        raise NotImplementedError


@dataclass
class Model:
    """What a channel is expected to do when nobody is blocked in a call."""

    size: float
    items: list[int] = field(default_factory=list)
    send_open: bool = True
    recv_open: bool = True
    sender: str = "away"  # or watches, or was woken
    receiver: str = "away"
    received: int = 0
    discarded: int = 0
    closing_woken: bool = False

    def sending(self) -> type[ChannelError] | None:
        """The error of `send_nowait` by whoever may."""
        if not self.send_open:
            return EndpointClosed
        if not self.recv_open:
            return ChannelClosed
        if self.size == 0:
            return WouldBlock if self.items or self.receiver != "watches" else None
        return WouldBlock if len(self.items) >= self.size else None

    def receiving(self) -> type[ChannelError] | None:
        """The error of `receive_nowait` by whoever may."""
        if not self.recv_open:
            return EndpointClosed
        if self.items:
            return None
        return WouldBlock if self.send_open else EndOfStream

    def evicting(self) -> type[ChannelError] | None:
        """The error of `evict_nowait` by whoever may."""
        if not self.send_open:
            return EndpointClosed
        if not self.recv_open:
            return ChannelClosed
        return None if self.items else WouldBlock

    def wake_sender(self) -> None:
        self.sender = "was woken" if self.sender == "watches" else self.sender

    def wake_receiver(self) -> None:
        self.receiver = "was woken" if self.receiver == "watches" else self.receiver

    def close(self) -> None:
        self.wake_sender()
        self.wake_receiver()
        self.closing_woken = True


def current_task() -> Any:
    """The running task, which errors name."""
    return new_waiter("nothing").task


OPERATIONS = (
    "send",
    "receive",
    "peek",
    "evict",
    "close send",
    "close recv",
    "watch send",
    "watch recv",
    "unwatch send",
    "unwatch recv",
)
# Closes end most of what can be seen, so they are rare.
STEPS = st.lists(
    st.one_of(
        st.sampled_from([op for op in OPERATIONS if "close" not in op]),
        st.sampled_from([op for op in OPERATIONS if "close" not in op]),
        st.sampled_from([op for op in OPERATIONS if "close" not in op]),
        st.sampled_from(OPERATIONS),
    ),
    max_size=40,
)


@settings(max_examples=300)
@given(size=st.sampled_from(SIZES), steps=STEPS)
async def test_ends_do_what_they_say(size: float, steps: list[str]) -> None:
    """`ready` tells what the next call does, who watches is woken for it, and the counts agree."""
    channel = open_channel[int](size)
    send, recv = channel.send, channel.recv
    model = Model(size)
    at_send, at_recv, at_close = FakeWaiter(), FakeWaiter(), FakeWaiter()
    send.watch(at_close, closing=True)
    number = 0

    def expect(error: type[ChannelError] | None, in_use: bool, call: Callable[[], Any]) -> Any:
        expected = ChannelInUse if in_use else error
        if expected is None:
            return call()
        with pytest.raises(expected) as caught:
            call()
        assert caught.type is expected
        return None

    for step in steps:
        sender_in_use, receiver_in_use = model.sender != "away", model.receiver != "away"
        match step:
            case "send":
                number += 1
                error = model.sending()
                expect(error, sender_in_use, lambda: send.send_nowait(number))  # noqa: B023
                if error is None and not sender_in_use:
                    model.items.append(number)
                    model.wake_receiver()
            case "receive" | "peek":
                error = model.receiving()
                call = recv.receive_nowait if step == "receive" else recv.peek_nowait
                item = expect(error, receiver_in_use, call)
                if error is None and not receiver_in_use:
                    assert item == model.items[0]
                    if step == "receive":
                        del model.items[0]
                        model.received += 1
                        model.wake_sender()
            case "evict":
                error = model.evicting()
                item = expect(error, sender_in_use, send.evict_nowait)
                if error is None and not sender_in_use:
                    assert item == model.items.pop(0)
                    model.discarded += 1
            case "close send":
                await send.aclose()
                if model.send_open:
                    model.send_open = False
                    model.close()
            case "close recv":
                await recv.aclose()
                if model.recv_open:
                    model.recv_open = False
                    model.discarded += len(model.items)
                    model.items.clear()
                    model.close()
            case "watch send":
                fresh = FakeWaiter(task=current_task())
                expect(None, sender_in_use, lambda: send.watch(fresh))  # noqa: B023
                if not sender_in_use:
                    at_send, model.sender = fresh, "watches"
            case "watch recv":
                fresh = FakeWaiter(task=current_task())
                expect(None, receiver_in_use, lambda: recv.watch(fresh))  # noqa: B023
                if not receiver_in_use:
                    at_recv, model.receiver = fresh, "watches"
                    if size == 0 and not model.items:
                        model.wake_sender()
            case "unwatch send":
                send.unwatch(at_send)
                recv.unwatch(at_send)  # of which it knows nothing
                model.sender = "away"
            case "unwatch recv":
                recv.unwatch(at_recv)
                model.receiver = "away"
        assert send.ready() == (model.sending() is not WouldBlock)
        assert recv.ready() == (model.receiving() is not WouldBlock)
        assert at_send.woken == (model.sender == "was woken") or model.sender == "away"
        assert at_recv.woken == (model.receiver == "was woken") or model.receiver == "away"
        assert at_close.woken == model.closing_woken
        stats = recv.statistics()
        assert stats.sent == stats.received + stats.current_buffer_used + stats.discarded
        assert (stats.received, stats.discarded) == (model.received, model.discarded)
        assert stats.current_buffer_used == len(model.items)
        assert stats.waiters_send == (model.sender == "watches")
        assert stats.waiters_receive == (model.receiver == "watches")


# Ends of one's own


class OwnSend(SendStream[int]):
    async def send(self, item: int) -> None:
        raise NotImplementedError

    def send_nowait(self, item: int) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError

    def statistics(self) -> ChannelStats:
        raise NotImplementedError


class OwnReceive(ReceiveStream[int]):
    async def receive(self) -> int:
        raise NotImplementedError

    def receive_nowait(self) -> int:
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError

    def statistics(self) -> ChannelStats:
        raise NotImplementedError


@pytest.mark.parametrize("own", [OwnSend(), OwnReceive()], ids=lambda own: type(own).__name__)
async def test_end_of_ones_own_needs_not_be_watchable(own: Any) -> None:
    """Without more, an end cannot be waited for with others, which says what is missing."""
    calls = {
        "ready()": own.ready,
        "evict_nowait()": getattr(own, "evict_nowait", None),
        "peek_nowait()": getattr(own, "peek_nowait", None),
    }
    for what, call in calls.items():
        if call is not None:
            with pytest.raises(NotImplementedError) as caught:
                call()
            assert type(own).__name__ in str(caught.value)
            assert what in str(caught.value)
    channel = open_channel[int](0)
    for watched in (channel.recv, own), (own, channel.recv):
        with pytest.raises(NotImplementedError, match=r"Own\w+ has no watch\(\)"):
            await wait_any(*watched, closing=(channel.send,))
        assert channel.recv.statistics().waiters_receive == 0
