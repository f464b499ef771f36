"""Graphs of recipes: branching, joining, batching, pooling, selecting, shaping."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from chrono_core import (
    Clock,
    Context,
    EndOfStream,
    ReceiveStream,
    SendStream,
    Supervisor,
    daemon,
    open_channel,
)
from chrono_core.testing import feed
from chrono_recipes import (
    Aligned,
    BatcherStopped,
    CoalesceSend,
    Done,
    DropNewestSend,
    DropOldestSend,
    Latest,
    Pending,
    ReceiverEnded,
    SupervisorHost,
    align,
    batcher_loop,
    cooperative_every,
    debounce,
    load_balance,
    merge,
    rate_limit,
    reorder,
    route,
    select,
    submit,
    tee,
    throttle,
    timeout_items,
    window,
    worker_pool,
)

from .program import Log, Write, our_program, outline


async def produce(ctx: Context, dest: SendStream[int], period: float, count: int) -> None:
    async with dest:
        async for _ in ctx.clock.every(period):
            await dest.send(count)
            count -= 1
            if not count:
                return


async def consume(ctx: Context, source: ReceiveStream[object], log: Log, seconds: float) -> None:
    async for item in source:
        log(ctx.name, item)
        await ctx.clock.sleep(seconds)
    log(ctx.name, "sees the end")


@our_program
async def tee_and_merge(trace: Write, clock: Clock) -> None:
    """Two sources, each to three branches of unequal speed, all joined again."""
    log = Log(trace, clock)

    async def branch(
        ctx: Context, source: ReceiveStream[int], dest: SendStream[str], seconds: float
    ) -> None:
        async with dest:
            async for item in source:
                await ctx.clock.sleep(seconds)
                await dest.send(f"{ctx.name}:{item}")

    async with Supervisor(clock=clock) as supervisor:
        joined = []
        for n in range(2):
            source = open_channel[int](0)
            branches = [open_channel[int](size) for size in (0, 1, 2)]
            outs = [open_channel[str](1) for _ in branches]
            supervisor.spawn(produce, source.send, 0.1, 5, name=f"source-{n}")
            sends = [channel.send for channel in branches]
            supervisor.spawn(lambda _, s=source, d=sends: tee(s.recv, *d), name=f"tee-{n}")
            for number, (channel, out) in enumerate(zip(branches, outs, strict=True)):
                name = f"{n}/{number}"
                supervisor.spawn(branch, channel.recv, out.send, 0.05 * number, name=name)
            joined += [out.recv for out in outs]
        sink = open_channel[str](0)
        supervisor.spawn(lambda _: merge(joined, sink.send), name="merge")
        supervisor.spawn(consume, sink.recv, log, 0.0, name="sink")
    log("is over")


@our_program
async def batches(trace: Write, clock: Clock) -> None:
    """Twenty callers of one batcher: some lose patience, one batch fails, the last find it gone."""
    log = Log(trace, clock)
    requests = open_channel[Pending[int, int]](8)

    async def forward(numbers: list[int]) -> list[int]:
        log("computes", *numbers)
        await clock.sleep(0.2)
        if 11 in numbers:
            raise ValueError("unlucky")
        return [number * 10 for number in numbers]

    async def call(number: int) -> None:
        await clock.sleep(0.05 * (number % 7))
        try:
            with clock.move_on_after(0.3 if number % 4 == 1 else 2) as limit:
                log(number, "gets", await submit(requests.send, number))
        except (ValueError, BatcherStopped) as error:
            log(number, "is told", type(error).__name__)
        else:
            if limit.cancelled_caught:
                log(number, "lost patience")

    async with Supervisor(clock=clock) as supervisor:
        loop = supervisor.spawn(
            lambda ctx: batcher_loop(
                requests.recv, forward, max_batch=4, max_queue_delay=0.1, clock=ctx.clock
            ),
            name="batcher",
        )
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(call, number)
            await clock.sleep(0.9)
            await loop.stop(grace=0)
            log("the batcher is gone")
    log("is over")


@our_program
async def pool_of_workers(trace: Write, clock: Clock) -> None:
    """Three workers, requests that take their time or fail, and one pool cancelled half-way."""
    log = Log(trace, clock)

    async def handle(request: int) -> int:
        try:
            await clock.sleep(0.1 * (request % 4))
        except anyio.get_cancelled_exc_class():
            log("cancels", request)
            raise
        if request % 5 == 3:
            raise ValueError(f"no {request}")
        return -request

    async def report(ctx: Context, results: ReceiveStream[Done[int, int]]) -> None:
        async for done in results:
            log(ctx.name, done.request, done.value, done.error)
        log(ctx.name, "sees the end")

    async def work(
        ctx: Context, requests: ReceiveStream[int], results: SendStream[Done[int, int]]
    ) -> None:
        def dropped(request: int, reason: str) -> None:
            log(ctx.name, "drops", request, reason)

        await worker_pool(requests, results, handle, workers=3, on_drop=dropped)

    async with Supervisor(clock=clock) as supervisor:
        pools = []
        for name in ("whole", "half"):
            requests, results = open_channel[int](2), open_channel[Done[int, int]](0)
            supervisor.spawn(lambda _, r=requests: feed(r.send, range(12)), name=f"{name}/feed")
            pool = daemon(work)(requests.recv, results.send)
            owns = [requests.recv, results.send]
            pools.append(supervisor.add(pool, name=f"{name}/pool", owns=owns, on_error="ignore"))
            supervisor.spawn(report, results.recv, name=f"{name}/report")
        await clock.sleep(0.35)
        await pools[1].stop(grace=0)
        log("half is gone")
    log("is over")


@our_program
async def whoever_is_first(trace: Write, clock: Clock) -> None:
    """Selecting from four sources that are ready together, end, and are waited for in vain."""
    log = Log(trace, clock)
    channels = [open_channel[int](size) for size in (0, 1, 2, 0)]

    async def chooses(ctx: Context) -> None:
        first = select(*(channel.recv for channel in channels))
        while True:
            try:
                with ctx.clock.move_on_after(0.25):
                    log("takes", *await first)
                    continue
                log("waited in vain")
            except ReceiverEnded as end:
                log(end.index, "has ended")
            except EndOfStream:
                log("all have ended")
                return

    async with Supervisor(clock=clock) as supervisor:
        for n, channel in enumerate(channels):
            period = (0.1, 0.2, 0.05, 0.4)[n]
            supervisor.spawn(produce, channel.send, period, 5, name=f"source-{n}")
        supervisor.spawn(chooses)
    log("is over")


@our_program
async def dealt_out(trace: Write, clock: Clock) -> None:
    """Items in turns and by key to consumers of which some leave."""
    log = Log(trace, clock)

    async def leaves(ctx: Context, source: ReceiveStream[int], count: int) -> None:
        async with source:
            for _ in range(count):
                log(ctx.name, await source.receive())
                await ctx.clock.sleep(0.15)
        log(ctx.name, "leaves")

    def dropped(item: int, reason: str) -> None:
        log("dropped", item, reason)

    async with Supervisor(clock=clock) as supervisor:
        turns, keyed = open_channel[int](0), open_channel[int](1)
        outs = {name: open_channel[int](n % 2) for n, name in enumerate("abcdef")}
        sends = {name: channel.send for name, channel in outs.items()}
        supervisor.spawn(produce, turns.send, 0.05, 12, name="in-turns")
        supervisor.spawn(produce, keyed.send, 0.05, 12, name="by-key")
        supervisor.spawn(
            lambda _: load_balance(turns.recv, [sends[name] for name in "abc"]), name="balance"
        )
        supervisor.spawn(
            lambda _: route(
                keyed.recv,
                lambda item: "def"[item % 3],
                {n: sends[n] for n in "def"},
                on_drop=dropped,
            ),
            name="route",
        )
        for name, channel in outs.items():
            if name in "be":
                supervisor.spawn(leaves, channel.recv, 2, name=name)
            else:
                supervisor.spawn(consume, channel.recv, log, 0.1, name=name)
    log("is over")


@our_program
async def shaped_flows(trace: Write, clock: Clock) -> None:
    """One stream through everything that shapes it by time, side by side."""
    log = Log(trace, clock)

    def shape(
        name: str, ctx: Context, source: ReceiveStream[int], dest: SendStream[Any]
    ) -> Awaitable[None]:
        shapes: dict[str, Callable[[], Awaitable[None]]] = {
            "throttle": lambda: throttle(ctx, source, dest, interval=0.25),
            "debounce": lambda: debounce(ctx, source, dest, quiet=0.1),
            "window": lambda: window(ctx, source, dest, count=3, seconds=0.3),
            "limit": lambda: rate_limit(ctx, source, dest, rate=5, burst=2),
            "silence": lambda: timeout_items(ctx, source, dest, seconds=0.2, on_timeout=lambda: -1),
            "reorder": lambda: reorder(ctx, source, dest, key=lambda n: n, max_delay=0.2),
        }
        return shapes[name]()

    async def bursts(ctx: Context, dest: SendStream[int]) -> None:
        async with dest:
            for n, pause in enumerate((0.1, 0.0, 0.0, 0.1, 0.1, 0.3, 0.0, 0.05, 0.05, 0.2)):
                await ctx.clock.sleep(pause)
                await dest.send(n ^ 1)

    async with Supervisor(clock=clock) as supervisor:
        source = open_channel[int](0)
        names = ("throttle", "debounce", "window", "limit", "silence", "reorder")
        lanes = [open_channel[int](4) for _ in names]
        supervisor.spawn(bursts, source.send)
        supervisor.spawn(lambda _: tee(source.recv, *(lane.send for lane in lanes)), name="tee")
        for name, lane in zip(names, lanes, strict=True):
            out = open_channel[object](0)
            supervisor.spawn(
                lambda ctx, n=name, lane=lane, out=out: shape(n, ctx, lane.recv, out.send),
                name=name,
            )
            supervisor.spawn(consume, out.recv, log, 0.0, name=f"{name}-sink")
    log("is over")


@our_program
async def newest_and_nearest(trace: Write, clock: Clock) -> None:
    """Values that replace one another, sends that drop, streams joined by time, in a host."""
    log = Log(trace, clock)
    latest = Latest[int](clock=clock)
    lanes = [open_channel[int](2) for _ in range(3)]
    lossy = (
        DropNewestSend(lanes[0].send),
        DropOldestSend(lanes[1].send),
        CoalesceSend(lanes[2].send, max),
    )
    frames, poses = open_channel[float](1), open_channel[float](1)
    joined = open_channel[Aligned[float, float]](0)

    async def sets(ctx: Context) -> None:
        count = 0
        async for _ in cooperative_every(ctx, 0.05):
            latest.set(count)
            for end in lossy:
                await end.send(count)
            count += 1

    async def watches(ctx: Context, pause: float) -> None:
        while not ctx.stopping:
            log(ctx.name, await latest.changed(), latest.version)
            await ctx.clock.sleep(pause)

    async def stamps(ctx: Context, dest: SendStream[float], period: float) -> None:
        start = ctx.clock.now()
        async for due in cooperative_every(ctx, period):
            await dest.send(round(due - start, 9))

    supervisor = Supervisor(clock=clock)
    host = SupervisorHost(supervisor)
    supervisor.spawn(sets)
    for n in range(3):
        supervisor.spawn(watches, 0.05 * n, name=f"watch-{n}")
        supervisor.spawn(consume, lanes[n].recv, log, 0.2, name=f"lane-{n}")
    supervisor.spawn(stamps, frames.send, 0.1, name="frames")
    supervisor.spawn(stamps, poses.send, 0.07, name="poses")
    supervisor.spawn(
        lambda ctx: align(
            ctx,
            frames.recv,
            [poses.recv],
            joined.send,
            tolerance=0.03,
            max_wait=0.1,
            key=lambda stamp: stamp,
        ),
        name="align",
    )
    supervisor.spawn(consume, joined.recv, log, 0.0, name="joined")
    try:
        async with anyio.create_task_group() as tasks:
            log("late", *await host.start(tasks))
            await clock.sleep(0.6)
            log("forced", *await host.stop(grace=0))
    except* Exception as group:
        log(outline(group))
    log("is over")
