import asyncio
import math
import pickle
from contextlib import suppress
from typing import Any

import anyio
import pytest
from chrono_core import (
    ChannelInUse,
    EndOfStream,
    EndpointClosed,
    SimClock,
    WouldBlock,
    open_channel,
)
from chrono_core.lowlevel import checkpoint
from chrono_core.testing import Trace, assert_one_trace, feed
from chrono_recipes import ReceiverEnded, select
from hypothesis import given
from hypothesis import strategies as st

from tests.core.scheduling import rounds, until

from .ends import Broken, ProbeReceive
from .routing import drain

SIZES = (0, 1, 3, math.inf)


def at_most(number: int, got: list[int], still: dict[int, int]) -> None:
    """Check that nobody who had something was passed over more than ``number - 1`` times."""
    waited = dict.fromkeys(still, 0)
    for index in got:
        still[index] -= 1
        for other, left in still.items():
            waited[other] = 0 if other == index or not left else waited[other] + 1
            assert waited[other] <= number - 1


@given(counts=st.lists(st.integers(0, 12), min_size=1, max_size=5))
async def test_busy_receivers_take_turns(counts: list[int]) -> None:
    """No receiver that has items waits for more than one item of each of the others."""
    channels = [open_channel[int](math.inf) for _ in counts]
    for channel, count in zip(channels, counts, strict=True):
        for n in range(count):
            channel.send.send_nowait(n)
        await channel.send.aclose()
    got = [index async for index, _ in select(*(channel.recv for channel in channels))]
    assert sorted(got) == sorted(n for n, count in enumerate(counts) for _ in range(count))
    at_most(len(counts), got, dict(enumerate(counts)))


@pytest.mark.parametrize("loop", [True, False])
async def test_one_that_always_has_an_item_starves_nobody(loop: bool) -> None:
    """However fast the first is, the second has its turn as soon as it has an item."""
    fast, slow = open_channel[int](math.inf), open_channel[int](0)
    for n in range(500):
        fast.send.send_nowait(n)
    got = []
    selecting = select(fast.recv, slow.recv)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed, slow.send, range(5))
        await rounds(2)
        for _ in range(400):
            index, _ = await (anext(selecting) if loop else selecting)
            got.append(index)
            if got.count(1) == 5:
                break
        tasks.cancel_scope.cancel()
    assert got.count(1) == 5
    assert got[:2].count(1) == 1


@pytest.mark.parametrize("sizes", [SIZES, (0, 0), (1, 0), (math.inf,)])
async def test_receivers_of_every_size_in_any_mixture(sizes: tuple[float, ...]) -> None:
    """Each item comes once, with the number of its receiver, in the order of that."""
    channels = [open_channel[int](size) for size in sizes]
    async with anyio.create_task_group() as tasks:
        for channel in channels:
            tasks.start_soon(feed, channel.send, range(20))
        got = [taken async for taken in select(*(channel.recv for channel in channels))]
    for number in range(len(sizes)):
        assert [item for index, item in got if index == number] == list(range(20))


@pytest.mark.parametrize("size", SIZES)
async def test_two_that_are_ready_at_once_lose_nothing(size: float) -> None:
    """When items arrive at both in one round, one is returned and the other is still there."""
    channels = [open_channel[str](size) for _ in range(2)]
    got: list[Any] = []

    async def take() -> None:
        got.append(await select(channels[0].recv, channels[1].recv))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take)
        await until(lambda: channels[1].send.statistics().waiters_receive)
        for channel, item in zip(channels, "ab", strict=True):
            tasks.start_soon(channel.send.send, item)
        await until(lambda: got)
        index, item = got[0]
        assert item == "ab"[index]
        assert [drain(channel.recv) for channel in channels] == [["a"][1 - index :], ["b"][index:]]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("order", ["item first", "cancel first"])
@pytest.mark.parametrize("native", [False, True])
async def test_cancelled_in_the_round_of_an_item_it_takes_nothing(
    size: float, order: str, native: bool, anyio_backend: str
) -> None:
    """Whichever came first, what was not returned is still there."""
    if native and anyio_backend == "trio":
        pytest.skip("trio has no native cancellation of one task")
    channels = [open_channel[str](size) for _ in range(2)]
    got: list[Any] = []
    scope = anyio.CancelScope()

    async def take() -> None:
        with scope:
            got.append(await select(*(channel.recv for channel in channels)))

    def send() -> None:
        for channel in channels:
            with suppress(WouldBlock):  # at a rendezvous where nobody waits any more
                channel.send.send_nowait("item")

    async with anyio.create_task_group() as tasks:
        if native:
            task = asyncio.create_task(take())
            cancel: Any = task.cancel
        else:
            tasks.start_soon(take)
            cancel = scope.cancel
        await until(lambda: channels[1].send.statistics().waiters_receive)
        if order == "item first":
            send()
            cancel()
        else:
            cancel()
            send()
        await rounds()
    left = [drain(channel.recv) for channel in channels]
    sent = [channel.send.statistics().sent for channel in channels]
    assert [len(items) for items in left] == [sent[0] - len(got), sent[1]]


@given(
    sizes=st.lists(st.sampled_from(SIZES), min_size=1, max_size=4),
    pauses=st.lists(st.integers(0, 5), max_size=30),
    keep=st.booleans(),
)
async def test_cancelled_at_any_round_it_loses_and_repeats_nothing(
    sizes: list[float], pauses: list[int], keep: bool
) -> None:
    """Kept or made anew after each cancellation, it returns every item once and in order."""
    channels = [open_channel[int](size) for size in sizes]
    got: list[tuple[int, int]] = []
    scope = anyio.CancelScope()

    async def take() -> None:
        nonlocal scope
        live = list(range(len(sizes)))
        selecting = select(*(channel.recv for channel in channels))
        while live:
            with anyio.CancelScope() as scope:
                if not keep:
                    selecting = select(*(channels[number].recv for number in live))
                try:
                    index, item = await selecting
                except ReceiverEnded as end:
                    live.remove(end.index if keep else live[end.index])
                else:
                    got.append((index if keep else live[index], item))

    async with anyio.create_task_group() as tasks:
        for channel in channels:
            tasks.start_soon(feed, channel.send, range(10))
        tasks.start_soon(take)
        for pause in pauses:
            await rounds(pause)
            scope.cancel()
    for number in range(len(sizes)):
        assert [item for index, item in got if index == number] == list(range(10))


async def test_end_of_a_receiver_is_said_once() -> None:
    """A single await raises for each end, with its number; when all have ended, for good."""
    first, second = open_channel[int](1), open_channel[int](1, name="second")
    selecting = select(first.recv, second.recv)
    await second.send.aclose()
    with pytest.raises(ReceiverEnded, match=r"receiver 1 .*'second'") as caught:
        await selecting
    assert (caught.value.index, caught.value.channel) == (1, "second")
    assert selecting.ended == (1,)
    first.send.send_nowait(1)
    assert await selecting == (0, 1)
    await first.send.aclose()
    with pytest.raises(ReceiverEnded, match="receiver 0"):
        await selecting
    assert selecting.ended == (1, 0)
    for _ in range(40):
        with pytest.raises(EndOfStream) as ended:
            await selecting
        assert not isinstance(ended.value, ReceiverEnded)
    assert [taken async for taken in selecting] == []


def test_error_of_an_end_can_be_pickled() -> None:
    """It keeps its message, channel and number."""
    error = pickle.loads(pickle.dumps(ReceiverEnded("over", channel="c", index=3)))
    assert (str(error), error.channel, error.index) == ("over", "c", 3)


async def test_loop_goes_on_when_one_has_ended() -> None:
    """It runs until all have ended, and says which ended in which order."""
    channels = [open_channel[int](0) for _ in range(3)]
    clock = SimClock()

    async def produce(number: int) -> None:
        for n in range(3):
            await clock.sleep(3 - number)
            await channels[number].send.send(n)
        await channels[number].send.aclose()

    selecting = select(*(channel.recv for channel in channels))
    got: list[Any] = []

    async def consume() -> None:
        got.extend([taken async for taken in selecting])

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(produce, number)
        tasks.start_soon(consume)
        await clock.advance(20)
    assert len(got) == 9
    assert selecting.ended == (2, 1, 0)


@pytest.mark.parametrize("size", SIZES)
async def test_receivers_can_be_used_by_others_between_calls(size: float) -> None:
    """After a call, another task can receive from any of them, and a later call goes on."""
    channels = [open_channel[int](size) for _ in range(2)]
    selecting = select(*(channel.recv for channel in channels))
    async with anyio.create_task_group() as tasks:
        for channel in channels:
            tasks.start_soon(feed, channel.send, range(4))
        got: list[list[int]] = [[], []]
        for _ in range(2):
            index, item = await selecting
            got[index].append(item)
            for number, channel in enumerate(channels):

                async def other(number: int = number, recv: Any = channel.recv) -> None:
                    got[number].append(await recv.receive())

                async with anyio.create_task_group() as others:
                    others.start_soon(other)
        async for index, item in selecting:
            got[index].append(item)
    assert got == [list(range(4))] * 2


async def test_receiver_in_use_by_another_task_is_an_error() -> None:
    """While another task waits at one of them, a call says so, and waits at none of the others."""
    mine, theirs = open_channel[int](0), open_channel[int](0, name="theirs")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(theirs.recv.receive)
        await rounds()
        for receivers in ((mine.recv, theirs.recv), (theirs.recv, mine.recv)):
            with pytest.raises(ChannelInUse, match="'theirs'"):
                await select(*receivers)
            assert not mine.recv.statistics().waiters_receive
        assert theirs.recv.statistics().waiters_receive
        await theirs.send.send(1)


async def test_others_are_refused_while_it_waits() -> None:
    """While a call waits, its receivers are in use, and say so to others."""
    channels = [open_channel[int](1) for _ in range(2)]
    async with anyio.create_task_group() as tasks:

        async def take() -> None:
            await select(*(channel.recv for channel in channels))

        tasks.start_soon(take)
        await rounds()
        for channel in channels:
            with pytest.raises(ChannelInUse):
                await channel.recv.receive()
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("when", ["before", "while it waits"])
async def test_failing_receiver_raises_its_own_error(when: str) -> None:
    """The error comes as it is; the others have lost nothing, and have their turns meanwhile."""
    broken, good = open_channel[int](1), open_channel[int](3)
    probe = ProbeReceive(broken.recv)
    selecting = select(probe, good.recv)
    error = Broken()

    async def fail() -> None:
        probe.fail(error)

    async with anyio.create_task_group() as tasks:
        if when == "before":
            probe.fail(error)
        else:
            await rounds()
            tasks.start_soon(fail)
        with pytest.raises(Broken) as caught:
            await selecting
    assert caught.value is error
    for n in range(3):
        good.send.send_nowait(n)
    got = []
    for _ in range(6):
        try:
            got.append((await selecting)[1])
        except Broken:
            got.append(-1)
    assert got == [0, -1, 1, -1, 2, -1]
    probe.mend()
    broken.send.send_nowait(7)
    assert await selecting == (0, 7)


async def test_receiver_closed_on_this_side_is_an_error() -> None:
    """Somebody has closed what would be received from."""
    first, second = open_channel[int](1), open_channel[int](1)
    await first.recv.aclose()
    second.send.send_nowait(1)
    selecting = select(first.recv, second.recv)
    with pytest.raises(EndpointClosed):
        await selecting
    assert await selecting == (1, 1)


async def test_waiting_looks_at_nothing() -> None:
    """In an hour of silence, whatever others do, it does not run."""
    clock = SimClock()
    probes = [ProbeReceive(open_channel[int](size).recv) for size in SIZES]

    async def take() -> None:
        await select(*probes)

    async def tick() -> None:
        while True:
            await clock.sleep(20)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take)
        tasks.start_soon(tick)
        await clock.advance(0)
        before = sum(probe.looks for probe in probes)
        await clock.advance(3600)
        assert sum(probe.looks for probe in probes) == before < 20
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("loop", [True, False])
async def test_other_tasks_run_while_it_never_has_to_wait(loop: bool) -> None:
    """Of the calls that need not wait, at least one in 16 gives way, and can be cancelled."""
    channel = open_channel[int](math.inf)
    for n in range(320):
        channel.send.send_nowait(n)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await checkpoint()
            turns += 1

    selecting = select(channel.recv)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        await rounds(2)
        turns = 0
        for _ in range(320):
            await (anext(selecting) if loop else selecting)
        tasks.cancel_scope.cancel()
    assert turns >= 320 / 17 - 1
    for n in range(40):
        channel.send.send_nowait(n)
    got = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        for _ in range(40):
            got.append((await (anext(selecting) if loop else selecting))[1])
    assert scope.cancelled_caught
    assert len(got) <= 16
    assert got + drain(channel.recv) == list(range(40))


async def test_nothing_is_ever_closed() -> None:
    """Left early or run to the end, it closes none of its receivers."""
    first, second = open_channel[int](1), open_channel[int](1)
    first.send.send_nowait(1)
    async for _ in select(first.recv, second.recv):
        break
    for channel in (first, second):
        stats = channel.recv.statistics()
        assert stats.open_receive_streams
        assert not stats.waiters_receive
        await channel.send.aclose()
    assert [taken async for taken in select(first.recv, second.recv)] == []
    assert first.recv.statistics().open_receive_streams


def test_one_trace() -> None:
    """Receivers that become ready at the same instants are taken in one order."""

    async def program(trace: Trace) -> None:
        clock = SimClock()
        channels = [open_channel[int](size) for size in SIZES]

        async def produce(number: int) -> None:
            for n in range(20):
                await clock.sleep(0.1 * (number + 1))
                await channels[number].send.send(n)
            await channels[number].send.aclose()

        async def consume() -> None:
            async for taken in select(*(channel.recv for channel in channels)):
                trace.write(f"{clock.now_ns()} {taken}")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consume)
            for number in range(len(SIZES)):
                tasks.start_soon(produce, number)
            await clock.advance(20)

    assert len(assert_one_trace(program).lines) == 80
