import math
from typing import Any

import anyio
import pytest
from chrono_core import ChannelInUse, EndOfStream, SimClock, open_channel
from chrono_core.testing import Trace, assert_one_trace, collect, feed
from chrono_recipes import Drops, tee

from tests.core.scheduling import rounds, until

from .routing import drain


@pytest.mark.parametrize("size", [0, 1, 3, math.inf])
async def test_every_destination_gets_every_item_in_order(size: float) -> None:
    """However large the channels are, each destination gets each item once, the same object."""
    source = open_channel[Any](size)
    dests = [open_channel[Any](size) for _ in range(3)]
    items = [object() for _ in range(50)]
    got: list[list[Any]] = [[], [], []]

    async def consume(n: int) -> None:
        got[n] = await collect(dests[n].recv)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed, source.send, items)
        for n in range(3):
            tasks.start_soon(consume, n)
        await tee(source.recv, *(dest.send for dest in dests))
    assert all(a is b for one in got for a, b in zip(one, items, strict=True))


@pytest.mark.parametrize("room", [1, 3])
async def test_faster_destination_is_at_most_one_item_ahead(room: int) -> None:
    """The slowest sets the pace: without it, a faster one gets what that has room for, and one."""
    source = open_channel[int](math.inf)
    slow, fast = open_channel[int](room), open_channel[int](math.inf)
    for n in range(20):
        source.send.send_nowait(n)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tee, source.recv, slow.send, fast.send)
        for taken in range(4):
            await rounds(10)
            assert fast.recv.statistics().sent == room + 1 + taken
            assert await slow.recv.receive() == taken
        tasks.cancel_scope.cancel()


async def test_destination_that_closes_is_left_out() -> None:
    """The others go on, also where the one that closes was being waited for."""
    source = open_channel[int](0)
    slow, other = open_channel[int](1), open_channel[int](math.inf)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tee, source.recv, slow.send, other.send)
        tasks.start_soon(feed, source.send, range(10))
        await until(lambda: other.recv.statistics().sent == 2)
        await slow.recv.aclose()
        assert await collect(other.recv) == list(range(10))


async def test_item_that_nobody_has_had_stays_in_its_source() -> None:
    """Cancelled while no destination has room, it drops nothing and takes nothing."""
    source, dests = open_channel[int](1), [open_channel[int](0) for _ in range(2)]
    source.send.send_nowait(1)
    drops = Drops()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: tee(source.recv, *(d.send for d in dests), on_drop=drops))
        await rounds()
        tasks.cancel_scope.cancel()
    assert drops.total == 0
    assert drain(source.recv) == [1]


async def test_half_delivered_item_is_dropped_once_for_each_that_misses_it() -> None:
    """Cancelled in the middle of an item, it says so for those who wait, and goes on after it."""
    source = open_channel[int](3)
    dests = [open_channel[int](size) for size in (5, 0, 0)]
    for n in range(2):
        source.send.send_nowait(n)
    dropped: list[tuple[int, str]] = []
    async with anyio.create_task_group() as tasks:

        async def call() -> None:
            sends = [dest.send for dest in dests]
            await tee(source.recv, *sends, on_drop=lambda *drop: dropped.append(drop))

        tasks.start_soon(call)
        await rounds()
        tasks.cancel_scope.cancel()
    assert dropped == [(0, "cancelled")] * 2
    await source.send.aclose()
    got: list[Any] = []

    async def consume(n: int) -> None:
        got.append((n, await collect(dests[n].recv)))

    async with anyio.create_task_group() as tasks:
        for n in range(3):
            tasks.start_soon(consume, n)
        await tee(source.recv, *(dest.send for dest in dests))
    assert sorted(got) == [(0, [0, 1]), (1, [1]), (2, [1])]


async def test_destination_in_use_by_another_fails_the_call() -> None:
    """Its error is raised, and the item that others have had counts as failed for it."""
    source, mine = open_channel[int](1), open_channel[int](1)
    shared = open_channel[int](1, name="shared")
    shared.send.send_nowait(0)
    source.send.send_nowait(1)
    drops = Drops()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shared.send.send, 2)
        await rounds()
        with pytest.raises(ChannelInUse, match="'shared'"):
            await tee(source.recv, mine.send, shared.send, on_drop=drops)
        tasks.cancel_scope.cancel()
    assert drops.by_reason == {"failed": 1}
    assert drain(mine.recv) == [1]


async def test_failing_source_leaves_a_half_delivered_item_to_be_delivered() -> None:
    """What one destination waits for is not affected by what the source does meanwhile."""
    source, slow, fast = (open_channel[int](n) for n in (1, 0, 9))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tee, source.recv, slow.send, fast.send)
        source.send.send_nowait(1)
        await rounds()
        await source.send.aclose()
        await rounds()
        assert await slow.recv.receive() == 1
        with pytest.raises(EndOfStream):
            await slow.recv.receive()
    assert drain(fast.recv) == [1]


def test_one_trace() -> None:
    """Consumers of any speed, one of which leaves, see the same on every backend."""

    async def program(trace: Trace) -> None:
        clock = SimClock()
        source = open_channel[int](2)
        dests = [open_channel[int](size) for size in (0, 1, 3)]

        async def produce() -> None:
            for n in range(20):
                await clock.sleep(0.1)
                await source.send.send(n)
                trace.write(f"{clock.now_ns()} sent {n}")
            await source.send.aclose()

        async def consume(number: int) -> None:
            async for item in dests[number].recv:
                trace.write(f"{clock.now_ns()} {number} got {item}")
                await clock.sleep(0.1 * number)
                if (number, item) == (2, 12):
                    break
            await dests[number].recv.aclose()

        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(consume, number)
            tasks.start_soon(tee, source.recv, *(dest.send for dest in dests))
            tasks.start_soon(produce)
            await clock.advance(10)

    assert len(assert_one_trace(program).lines) == 20 + 20 + 20 + 13
