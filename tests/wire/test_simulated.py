"""Ends in the process of a simulation: what is on its way holds time."""

import anyio
import pytest
from chrono_core import Context, SimClock, Supervisor
from chrono_zmq import open_zmq_channel

SIZES = [0, 1, 4]

every_size = pytest.mark.parametrize("maxsize", SIZES)
either_binds = pytest.mark.parametrize("bind_receive", [True, False])


@every_size
@either_binds
async def test_an_item_arrives_at_the_instant_at_which_it_was_sent(
    maxsize: int, bind_receive: bool
) -> None:
    """Time does not pass while an item travels, nor while the two ends meet."""
    clock = SimClock()
    ch = open_zmq_channel(maxsize=maxsize, bind_receive=bind_receive)
    seen: list[tuple[float, float]] = []

    async def produce(ctx: Context) -> None:
        for _ in range(10):
            await ch.send.send(ctx.clock.now())
            await ctx.clock.sleep(1.0)
        await ch.send.aclose()

    async def consume(ctx: Context) -> None:
        async for sent in ch.recv:
            seen.append((sent, ctx.clock.now()))

    with anyio.fail_after(60):
        async with Supervisor(clock=clock) as sup:
            sup.spawn(produce)
            sup.spawn(consume)
            await clock.advance(20.0)
    await ch.recv.aclose()
    assert seen == [(float(i), float(i)) for i in range(10)]


async def test_a_chain_of_hops_takes_no_time() -> None:
    """Ten channels in a row, through ten daemons, at one instant."""
    clock = SimClock()
    channels = [open_zmq_channel(maxsize=1) for _ in range(10)]
    seen: list[tuple[int, float]] = []

    async def pass_on(ctx: Context, index: int) -> None:
        async for item in channels[index].recv:
            await channels[index + 1].send.send(item)

    async def produce(ctx: Context) -> None:
        for i in range(3):
            await ctx.clock.sleep(1.0)
            await channels[0].send.send(i)

    async def consume(ctx: Context) -> None:
        async for item in channels[-1].recv:
            seen.append((item, ctx.clock.now()))

    with anyio.fail_after(60):
        async with Supervisor(clock=clock, on_exit="stop") as sup:
            for index in range(9):
                sup.spawn(pass_on, index)
            sup.spawn(produce)
            sup.spawn(consume)
            await clock.advance(5.0)
    for ch in channels:
        await ch.recv.aclose()
        await ch.send.aclose()
    assert seen == [(0, 1.0), (1, 2.0), (2, 3.0)]


@every_size
async def test_news_of_room_takes_no_time(maxsize: int) -> None:
    """A sender that waits for room goes on at the instant at which an item is taken."""
    clock = SimClock()
    ch = open_zmq_channel(maxsize=maxsize)
    sent: list[float] = []

    async def produce(ctx: Context) -> None:
        for i in range(8):
            await ch.send.send(i)
            sent.append(ctx.clock.now())
        await ch.send.aclose()

    async def consume(ctx: Context) -> None:
        while True:
            await ctx.clock.sleep(1.0)
            await ch.recv.receive()

    with anyio.fail_after(60):
        async with Supervisor(clock=clock, on_error="ignore") as sup:
            sup.spawn(produce)
            sup.spawn(consume)
            await clock.advance(20.0)
    await ch.recv.aclose()
    assert sent == [float(max(0, i + 1 - maxsize)) for i in range(8)]


async def test_time_goes_on_where_nothing_is_on_its_way() -> None:
    """A receiver that waits for ever, and a channel that is full, hold nothing."""
    clock = SimClock()
    full = open_zmq_channel(maxsize=2)
    empty = open_zmq_channel(maxsize=2)

    async def fill(ctx: Context) -> None:
        while True:
            await full.send.send(0)

    async def wait(ctx: Context) -> None:
        await empty.recv.receive()

    with anyio.fail_after(60):
        async with Supervisor(clock=clock, on_exit="stop") as sup:
            sup.spawn(fill)
            sup.spawn(wait)
            await clock.advance(3600.0)
    assert clock.now() == 3600.0
    for ch in (full, empty):
        await ch.recv.aclose()
        await ch.send.aclose()


async def test_a_close_takes_no_time() -> None:
    """The end of the stream, and the close of a receiver, are noticed at their instants."""
    clock = SimClock()
    ends = open_zmq_channel(maxsize=4)
    closes = open_zmq_channel(maxsize=0)
    noticed: dict[str, float] = {}

    async def close(ctx: Context) -> None:
        await ends.send.send(1)
        await ctx.clock.sleep(2.0)
        await ends.send.aclose()
        await ctx.clock.sleep(2.0)
        await closes.recv.aclose()

    async def watch_end(ctx: Context) -> None:
        async for _ in ends.recv:
            pass
        noticed["end"] = ctx.clock.now()

    async def watch_close(ctx: Context) -> None:
        try:
            await closes.send.send(1)
        except Exception as error:
            noticed[type(error).__name__] = ctx.clock.now()

    with anyio.fail_after(60):
        async with Supervisor(clock=clock) as sup:
            sup.spawn(close)
            sup.spawn(watch_end)
            sup.spawn(watch_close)
            await clock.advance(20.0)
    await ends.recv.aclose()
    await closes.send.aclose()
    assert noticed == {"end": 2.0, "ChannelClosed": 4.0}
