"""The ends of things: closing, cancelling, stopping at the wrong moment."""

from __future__ import annotations

import anyio
from anyio.lowlevel import checkpoint
from anyio.streams.memory import MemoryObjectSendStream
from chrono_core import Context, Supervisor, WouldBlock, open_channel

from .bug import bug, expect


@bug
async def sent_to_who_has_left() -> None:
    """A subscriber closes its end, then has itself taken off the list."""
    subscribers: list[MemoryObjectSendStream[int]] = []

    async def subscribe(times: int) -> None:
        send, receive = anyio.create_memory_object_stream[int](10)
        subscribers.append(send)
        async with send, receive:
            for _ in range(times):
                await checkpoint()
            await receive.aclose()
            await checkpoint()  # it says good-bye
            subscribers.remove(send)

    async def publish() -> None:
        for n in range(3):
            for subscriber in list(subscribers):
                subscriber.send_nowait(n)
            await checkpoint()
            await checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(subscribe, 1)
        tasks.start_soon(subscribe, 3)
        tasks.start_soon(publish)


@bug
async def cancelled_as_it_completes() -> None:
    """A reply has been taken when its reader is cancelled, and is not there for the next one."""
    send, receive = anyio.create_memory_object_stream[str](1)
    replies: list[str] = []
    attempt = anyio.CancelScope()

    async def answer() -> None:
        send.send_nowait("reply")

    async def read() -> None:
        with attempt:
            reply = await receive.receive()
            await checkpoint()  # it is decoded
            replies.append(reply)
        if attempt.cancelled_caught:
            with anyio.move_on_after(5):
                replies.append(await receive.receive())

    async def give_up() -> None:
        await checkpoint()
        await checkpoint()
        if not replies:
            attempt.cancel()

    with send, receive:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer)
            tasks.start_soon(read)
            tasks.start_soon(give_up)
    expect(replies, ["reply"], "what was read")


@bug
async def stopped_before_the_last() -> None:
    """A consumer looks whether it shall stop before it looks whether there is more."""
    channel = open_channel[int](10)
    handled: list[int] = []

    async def consume(ctx: Context) -> None:
        while not ctx.stopping:
            try:
                handled.append(channel.recv.receive_nowait())
            except WouldBlock:
                await ctx.clock.sleep(0.25)

    async def produce(ctx: Context) -> None:
        for n in range(3):
            await ctx.clock.sleep(0.25)
            await channel.send.send(n)
        await ctx.clock.sleep(0.25)
        ctx.supervisor.signal_stop()

    async with Supervisor() as supervisor:
        supervisor.spawn(consume)
        supervisor.spawn(produce)
    expect(handled, [0, 1, 2], "what was handled")
