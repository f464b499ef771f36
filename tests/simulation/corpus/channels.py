"""Our channels: rendezvous and buffered, slow and given up, closed from either side."""

from __future__ import annotations

import math

import anyio
from chrono_core import (
    ChannelClosed,
    Clock,
    Context,
    EndOfStream,
    ReceiveStream,
    SendStream,
    Supervisor,
    WouldBlock,
    daemon,
    open_channel,
)

from .program import Log, Write, our_program


@our_program
async def rendezvous_chain(trace: Write, clock: Clock) -> None:
    """Twelve hops without a buffer; each item is through at the instant at which it came."""
    log = Log(trace, clock)

    async def hop(ctx: Context, source: ReceiveStream[int], dest: SendStream[int]) -> None:
        async for item in source:
            await dest.send(item + 1)
            if item % 4 == 0:
                log(ctx.name, "passed on", item)

    async def feed(ctx: Context, dest: SendStream[int]) -> None:
        async for tick in ctx.clock.every(0.1):
            log("feeds at", f"{tick:.9f}")
            await dest.send(0)

    async def drain(ctx: Context, source: ReceiveStream[int]) -> None:
        for _ in range(5):
            log("got", await source.receive())
        ctx.supervisor.signal_stop()
        ctx.cancel_scope.cancel()

    async with Supervisor(clock=clock, on_exit="stop") as supervisor:
        channels = [open_channel[int](0, name=f"c{n}") for n in range(13)]
        supervisor.spawn(feed, channels[0].send)
        for n in range(12):
            supervisor.spawn(hop, channels[n].recv, channels[n + 1].send, name=f"hop-{n}")
        last = supervisor.spawn(drain, channels[12].recv)
        await last.wait_stopped()
    log("is over")


@our_program
async def back_pressure(trace: Write, clock: Clock) -> None:
    """Fast producers held up by slow consumers, over channels of every size."""
    log = Log(trace, clock)

    async def produce(ctx: Context, dest: SendStream[str]) -> None:
        for n in range(3):
            await dest.send_many([f"{n}a", f"{n}b", f"{n}c"])
            log(ctx.name, "has sent", n, dest.statistics().current_buffer_used)

    async def consume(ctx: Context, source: ReceiveStream[str], seconds: float) -> None:
        while True:
            try:
                items = await source.receive_many(2)
            except EndOfStream:
                log(ctx.name, "sees the end")
                return
            log(ctx.name, "received", *items)
            await ctx.clock.sleep(seconds)

    async with Supervisor(clock=clock) as supervisor:
        for n, size in enumerate((0, 1, 2, 5, math.inf)):
            channel = open_channel[str](size, name=f"size-{size}")
            supervisor.add(daemon(produce)(channel.send), name=f"p{size}", owns=[channel.send])
            supervisor.spawn(consume, channel.recv, 0.1 + 0.05 * n, name=f"c{size}")
    log("is over")


@our_program
async def nothing_is_lost(trace: Write, clock: Clock) -> None:
    """Sends and receives cut short by timeouts that meet; what was not sent is sent again."""
    log = Log(trace, clock)

    async def produce(ctx: Context, dest: SendStream[int], patience: float) -> None:
        for n in range(6):
            while True:
                with ctx.clock.move_on_after(patience):
                    await dest.send(n)
                    break
                log(ctx.name, "tries again", n)
        await dest.aclose()
        log(ctx.name, "has sent all")

    async def consume(ctx: Context, source: ReceiveStream[int], patience: float) -> None:
        while True:
            try:
                with ctx.clock.move_on_after(patience):
                    log(ctx.name, "received", await source.receive())
                    continue
                log(ctx.name, "does something else")
                await ctx.clock.sleep(0.2)
            except EndOfStream:
                log(ctx.name, "sees the end")
                return

    async with Supervisor(clock=clock) as supervisor:
        for n, size in enumerate((0, 0, 1, 2)):
            channel = open_channel[int](size)
            supervisor.spawn(produce, channel.send, 0.1 + 0.05 * (n % 2), name=f"p{n}")
            supervisor.spawn(consume, channel.recv, 0.1 if n < 2 else 0.05, name=f"c{n}")
        with clock.move_on_after(3):
            await clock.sleep(5)
        supervisor.signal_stop()
        log(*await supervisor.stop())
    log("is over")


@our_program
async def closed_from_either_side(trace: Write, clock: Clock) -> None:
    """Ends closed while the other side waits, before it comes, and by their owner's end."""
    log = Log(trace, clock)

    async def sends_to_nobody(ctx: Context, dest: SendStream[int], wait: float) -> None:
        await ctx.clock.sleep(wait)
        try:
            for n in range(10):
                await dest.send(n)
                log(ctx.name, "sent", n)
        except ChannelClosed:
            log(ctx.name, "found nobody", dest.statistics().discarded)

    async def leaves(ctx: Context, source: ReceiveStream[int], after: float) -> None:
        await ctx.clock.sleep(after)
        try:
            log(ctx.name, "takes", source.receive_nowait())
        except (WouldBlock, EndOfStream) as error:
            log(ctx.name, type(error).__name__)
        await source.aclose()
        log(ctx.name, "has closed")

    async with Supervisor(clock=clock) as supervisor:
        for n, size in enumerate((0, 0, 2, 2)):
            channel = open_channel[int](size)
            supervisor.add(
                daemon(sends_to_nobody)(channel.send, 0.2 * (n % 2)),
                name=f"sender-{n}",
                owns=[channel.send],
            )
            supervisor.spawn(leaves, channel.recv, 0.1 + 0.1 * (n % 2), name=f"leaver-{n}")
    log("is over")


@our_program
async def ping_pong(trace: Write, clock: Clock) -> None:
    """Six pairs that hit back and forth, some of them at one instant, some taking their time."""
    log = Log(trace, clock)
    table = anyio.Lock()

    async def serve(name: int, there: SendStream[int], back: ReceiveStream[int]) -> None:
        for n in range(4):
            await there.send(n)
            log(name, "is hit back", await back.receive())
            if name % 3 == 0:
                await clock.sleep(0.1)
        await there.aclose()

    async def hit(name: int, here: ReceiveStream[int], back: SendStream[int]) -> None:
        async for n in here:
            async with table:
                if name % 2:
                    await clock.sleep(0.05)
                await back.send(-n)

    async with anyio.create_task_group() as tasks:
        for name in range(6):
            there, back = open_channel[int](name % 2), open_channel[int](name // 2)
            tasks.start_soon(serve, name, there.send, back.recv)
            tasks.start_soon(hit, name, there.recv, back.send)
    log("is over")
