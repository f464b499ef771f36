import math
from functools import partial

import anyio
import pytest
from chrono_core import SimClock, open_channel
from chrono_core.testing import Trace, assert_one_trace, collect, feed
from chrono_recipes import load_balance

from tests.core.scheduling import rounds

from .routing import drain


@pytest.mark.parametrize("size", [0, 1, 3, math.inf])
async def test_items_are_dealt_out_strictly_in_turns(size: float) -> None:
    """Destination k of n gets the items k, k + n, k + 2n and so on."""
    source = open_channel[int](size)
    dests = [open_channel[int](size) for _ in range(3)]
    got: dict[int, list[int]] = {}

    async def consume(n: int) -> None:
        got[n] = await collect(dests[n].recv)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed, source.send, range(20))
        for n in range(3):
            tasks.start_soon(consume, n)
        await load_balance(source.recv, [dest.send for dest in dests])
    assert got == {n: list(range(n, 20, 3)) for n in range(3)}


async def test_next_in_the_rotation_is_waited_for() -> None:
    """A full destination holds up the others, and its item stays in the source meanwhile."""
    source = open_channel[int](9)
    dests = [open_channel[int](1) for _ in range(2)]
    for n in range(4):
        source.send.send_nowait(n)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(load_balance, source.recv, [dest.send for dest in dests])
        await rounds()
        assert await dests[1].recv.receive() == 1
        await rounds()
        assert dests[1].recv.statistics().current_buffer_used == 0
        assert source.recv.statistics().current_buffer_used == 2
        assert await dests[0].recv.receive() == 0
        await rounds()
        assert [drain(dest.recv) for dest in dests] == [[2], [3]]
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("silent", [True, False])
async def test_destination_that_closes_leaves_the_rotation(silent: bool) -> None:
    """Its item goes to the next one, also where the item waited for room there."""
    source = open_channel[int](9)
    dests = [open_channel[int](1 if n == 1 else math.inf) for n in range(3)]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(load_balance, source.recv, [dest.send for dest in dests])
        for n in range(3 if silent else 9):
            source.send.send_nowait(n)
        await rounds()
        assert dests[1].recv.receive_nowait() == 1
        if not silent:
            await rounds()
        await dests[1].recv.aclose()
        await rounds()
        for n in range(3, 9) if silent else ():
            source.send.send_nowait(n)
        await source.send.aclose()
        first, third = await collect(dests[0].recv), await collect(dests[2].recv)
    if silent:
        assert (first, third) == ([0, 3, 5, 7], [2, 4, 6, 8])
    else:
        discarded = dests[1].recv.statistics().discarded
        assert discarded == 1
        assert sorted(first + third) == [0, 2, 3, 5, 6, 7, 8]


async def test_destinations_stay_open_if_so_asked() -> None:
    """With close_dests off, the destinations can be used for more."""
    source, dests = open_channel[int](1), [open_channel[int](5) for _ in range(2)]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed, source.send, range(2))
        await partial(load_balance, close_dests=False)(source.recv, [d.send for d in dests])
    for dest in dests:
        dest.send.send_nowait(9)
    assert [drain(dest.recv) for dest in dests] == [[0, 9], [1, 9]]


def test_one_trace() -> None:
    """Consumers of several speeds get the same items at the same times on every backend."""

    async def program(trace: Trace) -> None:
        clock = SimClock()
        source = open_channel[int](2)
        dests = [open_channel[int](size) for size in (0, 1, 3)]

        async def consume(number: int) -> None:
            async for item in dests[number].recv:
                trace.write(f"{clock.now_ns()} {number} got {item}")
                await clock.sleep(0.1 * number)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(load_balance, source.recv, [dest.send for dest in dests])
            for number in range(3):
                tasks.start_soon(consume, number)
            tasks.start_soon(feed, source.send, range(60))
            await clock.advance(20)

    assert len(assert_one_trace(program).lines) == 60
