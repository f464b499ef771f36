"""Time moves only when nothing else can: exactly, on both backends."""

import threading

import anyio
import anyio.to_thread
import pytest
from chrono_core import Context, ReceiveStream, SendStream, SimClock, Supervisor, open_channel

HOPS = 1000


async def chain(
    clock: SimClock, tasks: anyio.abc.TaskGroup, hops: int, arrivals: list[float]
) -> SendStream[int]:
    """Tasks that pass an item on through rendezvous channels, and note when it arrived."""

    async def hop(source: ReceiveStream[int], target: SendStream[int] | None) -> None:
        async for item in source:
            arrivals.append(clock.now())
            if target is not None:
                await target.send(item)

    first = channel = open_channel[int](0)
    for number in range(hops):
        following = open_channel[int](0) if number < hops - 1 else None
        tasks.start_soon(hop, channel.recv, following.send if following else None)
        channel = following or channel
    return first.send


async def test_a_thousand_hops_end_at_the_instant_at_which_they_began() -> None:
    """No sleeper is present to hide behind, but the one wake that begins the chain."""
    clock = SimClock()
    arrivals: list[float] = []
    async with anyio.create_task_group() as tasks:
        send = await chain(clock, tasks, HOPS, arrivals)

        async def begin() -> None:
            await clock.sleep(1.0)
            await send.send(1)

        tasks.start_soon(begin)
        await clock.advance(5.0)
        assert arrivals == [1.0] * HOPS
        tasks.cancel_scope.cancel()


async def test_the_next_sleeper_waits_for_the_whole_chain() -> None:
    """Another sleeper, a nanosecond later, wakes after the last hop."""
    clock = SimClock()
    arrivals: list[float] = []
    seen: list[int] = []
    async with anyio.create_task_group() as tasks:
        send = await chain(clock, tasks, HOPS, arrivals)

        async def begin() -> None:
            await clock.sleep(1.0)
            await send.send(1)

        async def watch() -> None:
            await clock.sleep(1.0 + 1e-9)
            seen.append(len(arrivals))

        tasks.start_soon(watch)
        tasks.start_soon(begin)
        await clock.advance(2.0)
        tasks.cancel_scope.cancel()
    assert seen == [HOPS]


async def test_ties_wake_one_at_a_time_each_settled_before_the_next() -> None:
    """What the first of two equal deadlines sets off is over before the second wakes."""
    clock = SimClock()
    arrivals: list[float] = []
    seen: list[int] = []
    async with anyio.create_task_group() as tasks:
        send = await chain(clock, tasks, 100, arrivals)

        async def first() -> None:
            await clock.sleep(1.0)
            await send.send(1)

        async def second() -> None:
            await clock.sleep(1.0)
            seen.append(len(arrivals))

        tasks.start_soon(first)
        tasks.start_soon(second)
        await clock.advance(1.0)
        tasks.cancel_scope.cancel()
    assert seen == [100]


async def test_a_daemon_takes_fifty_checkpoints_before_its_first_sleep() -> None:
    """Freshly added daemons run before time first moves, however long that takes."""
    clock = SimClock()
    woke: list[float] = []

    async def slow_starter(ctx: Context) -> None:
        for _ in range(50):
            await anyio.lowlevel.checkpoint()
        await ctx.clock.sleep(1.0)
        woke.append(ctx.clock.now())

    async with Supervisor(clock=clock) as supervisor:
        supervisor.spawn(slow_starter)
        await clock.advance(10.0)
    assert woke == [1.0]


async def test_threads_in_flight_hold_time() -> None:
    """A worker thread ends at the instant at which it was started, however long it takes."""
    clock = SimClock()
    release = threading.Event()
    ended: list[float] = []
    ticks: list[float] = []

    async def compute(ctx: Context) -> None:
        await ctx.clock.sleep(1.0)
        threading.Timer(0.02, release.set).start()
        await anyio.to_thread.run_sync(release.wait)
        ended.append(ctx.clock.now())
        await ctx.clock.sleep(0.5)
        ended.append(ctx.clock.now())

    async def tick(ctx: Context) -> None:
        async for now in ctx.clock.every(0.25):
            ticks.append(now)

    async with Supervisor(clock=clock, on_exit="stop") as supervisor:
        supervisor.spawn(compute)
        supervisor.spawn(tick)
        await clock.advance(3.0)
    assert ended == [1.0, 1.5]
    assert ticks == [0.25 * n for n in range(1, 13)]


async def test_call_soon_chains_hold_time(anyio_backend: str) -> None:
    """A chain of bare callbacks on asyncio is something that can run."""
    if anyio_backend != "asyncio":
        pytest.skip("trio has no such callbacks")
    import asyncio

    clock = SimClock()
    ended: list[float] = []
    loop = asyncio.get_running_loop()

    def link(left: int) -> None:
        if left:
            loop.call_soon(link, left - 1)
        else:
            ended.append(clock.now())

    async def begin() -> None:
        await clock.sleep(1.0)
        loop.call_soon(link, 500)

    task = asyncio.create_task(begin())
    await clock.advance(2.0)
    await task
    assert ended == [1.0]


async def test_nested_gathers_hold_time(anyio_backend: str) -> None:
    """Futures that wait for futures settle before time moves."""
    if anyio_backend != "asyncio":
        pytest.skip("trio has no gather")
    import asyncio

    clock = SimClock()

    async def deep(levels: int) -> None:
        if levels:
            await asyncio.gather(deep(levels - 1), deep(levels - 1))

    async def begin() -> float:
        await clock.sleep(1.0)
        await deep(8)
        return clock.now()

    task = asyncio.create_task(begin())
    await clock.advance(2.0)
    assert await task == 1.0


async def test_a_simulation_inside_takes_no_time_outside() -> None:
    """A nested supervisor with a clock of its own runs to its end at one instant outside."""
    outer_clock = SimClock()
    log: list[tuple[float, float]] = []

    async def session(ctx: Context) -> None:
        await ctx.clock.sleep(1.0)
        clock = SimClock()

        async def tick(inner: Context) -> None:
            async for now in inner.clock.every(0.5):
                log.append((ctx.clock.now(), now))

        async with Supervisor(clock=clock, on_exit="stop") as supervisor:
            supervisor.spawn(tick)
            await clock.advance(1.5)
        log.append((ctx.clock.now(), clock.now()))

    async def other(ctx: Context) -> None:
        async for now in ctx.clock.every(0.3):
            log.append((now, -1.0))

    async with Supervisor(clock=outer_clock, on_exit="stop") as supervisor:
        supervisor.spawn(session)
        supervisor.spawn(other)
        await outer_clock.advance(1.2)
    inside = [entry for entry in log if entry[1] != -1.0]
    assert inside == [(1.0, 0.5), (1.0, 1.0), (1.0, 1.5), (1.0, 1.5)]
    assert [now for now, mark in log if mark == -1.0] == pytest.approx([0.3, 0.6, 0.9, 1.2])


async def test_time_is_right_after_a_chain_of_rendezvous_in_daemons() -> None:
    """Every daemon of a supervised chain stamps the instant of the tick, for every tick."""
    clock = SimClock()
    channels = [open_channel[float](0) for _ in range(6)]
    stamps: list[tuple[float, float]] = []

    async def source(ctx: Context) -> None:
        async for now in ctx.clock.every(0.1):
            await channels[0].send.send(now)

    async def relay(ctx: Context, number: int) -> None:
        async for tick in channels[number].recv:
            stamps.append((tick, ctx.clock.now()))
            if number + 1 < len(channels):
                await channels[number + 1].send.send(tick)

    async with Supervisor(clock=clock, on_exit="stop") as supervisor:
        supervisor.spawn(source)
        for number in range(len(channels)):
            supervisor.spawn(relay, number)
        await clock.advance(2.0)
    assert len(stamps) == 20 * len(channels)
    assert [tick for tick, _ in stamps] == [now for _, now in stamps]
