import math
from functools import partial
from typing import Any

import anyio
import pytest
from chrono_core import ChannelClosed, SimClock, open_channel
from chrono_core.testing import Trace, assert_one_trace, collect, feed
from chrono_recipes import merge

from tests.core.scheduling import rounds

from .routing import drain


@pytest.mark.parametrize("size", [0, 1, 3, math.inf])
async def test_sources_that_have_items_take_turns(size: float) -> None:
    """No source gets two items through while another has one, and each stays in order."""
    sources = [open_channel[Any](math.inf) for _ in range(3)]
    dest = open_channel[Any](size)
    for number, source in enumerate(sources):
        for n in range(10):
            source.send.send_nowait((number, n))
        await source.send.aclose()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(merge, [source.recv for source in sources], dest.send)
        got = await collect(dest.recv)
    assert got == [(number, n) for n in range(10) for number in range(3)]


async def test_item_is_taken_only_when_there_is_room() -> None:
    """While the destination is full, what it has no room for is still in its source."""
    sources = [open_channel[int](2) for _ in range(2)]
    dest = open_channel[int](1)
    for source in sources:
        for n in range(2):
            source.send.send_nowait(n)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(merge, [source.recv for source in sources], dest.send)
        await rounds()
        held = [source.recv.statistics().current_buffer_used for source in sources]
        assert held == [1, 2]
        tasks.cancel_scope.cancel()
    assert [drain(source.recv) for source in sources] == [[1], [0, 1]]
    assert drain(dest.recv) == [0]


async def test_source_that_ends_leaves_the_others() -> None:
    """The destination ends only when all sources have ended."""
    first, second, dest = (open_channel[int](1) for _ in range(3))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(merge, [first.recv, second.recv], dest.send)
        await feed(first.send, [1])
        assert await dest.recv.receive() == 1
        await rounds()
        assert dest.send.statistics().open_send_streams
        await feed(second.send, [2])
        assert await collect(dest.recv) == [2]


async def test_destination_stays_open_if_so_asked() -> None:
    """With close_dest off, the destination can be used for more."""
    source, dest = open_channel[int](1), open_channel[int](5)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed, source.send, [1])
        await merge([source.recv], dest.send, close_dest=False)
    dest.send.send_nowait(2)
    assert drain(dest.recv) == [1, 2]


async def test_two_merges_into_one_destination_are_both_told_that_it_has_gone() -> None:
    """Waiting for their sources, they share the destination, and its close reaches all senders."""
    sources = [open_channel[int](0) for _ in range(2)]
    dest = open_channel[int](0)
    async with anyio.create_task_group() as tasks:
        for source in sources:
            tasks.start_soon(partial(merge, [source.recv], dest.send, close_dest=False))
        await rounds()
        await dest.recv.aclose()
    for source in sources:
        with pytest.raises(ChannelClosed):
            await source.send.send(1)


async def test_cancelled_close_of_the_sources_closes_all_of_them() -> None:
    """Cancelled in the round in which the destination goes, it stops half-way at no source."""
    for order in ("close first", "cancel first"):
        sources = [open_channel[int](0) for _ in range(3)]
        dest = open_channel[int](0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(merge, [source.recv for source in sources], dest.send)
            await rounds()
            if order == "cancel first":
                tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await dest.recv.aclose()
            tasks.cancel_scope.cancel()
        opened = [source.recv.statistics().open_receive_streams for source in sources]
        assert opened in ([0, 0, 0], [1, 1, 1])


async def test_sources_may_come_from_any_iterable() -> None:
    """A generator of receiving ends will do."""
    sources, dest = [open_channel[int](1) for _ in range(3)], open_channel[int](5)
    async with anyio.create_task_group() as tasks:
        for n, source in enumerate(sources):
            tasks.start_soon(feed, source.send, [n])
        await merge((source.recv for source in sources), dest.send)  # type: ignore[arg-type]
    assert sorted(drain(dest.recv)) == [0, 1, 2]


def test_one_trace() -> None:
    """Sources of several periods that fall together come in one order."""

    async def program(trace: Trace) -> None:
        clock = SimClock()
        sources = [open_channel[Any](size) for size in (0, 1, 3)]
        dest = open_channel[Any](0)

        async def produce(number: int) -> None:
            for n in range(20):
                await clock.sleep(0.1 * (number + 1))
                await sources[number].send.send((number, n))
            await sources[number].send.aclose()

        async def consume() -> None:
            async for item in dest.recv:
                trace.write(f"{clock.now_ns()} got {item}")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(merge, [source.recv for source in sources], dest.send)
            tasks.start_soon(consume)
            for number in range(3):
                tasks.start_soon(produce, number)
            await clock.advance(10)

    assert len(assert_one_trace(program).lines) == 60
