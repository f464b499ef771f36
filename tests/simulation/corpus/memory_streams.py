"""Memory object streams of anyio."""

from __future__ import annotations

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from .program import Log, Write, anyio_program, outline


@anyio_program
async def many_to_many(trace: Write) -> None:
    """Four producers and three consumers on clones of one small stream."""
    log = Log(trace)
    send, receive = anyio.create_memory_object_stream[str](2)

    async def produce(name: int, stream: MemoryObjectSendStream[str]) -> None:
        async with stream:
            for n in range(5):
                await stream.send(f"{name}/{n}")
                log("sent", f"{name}/{n}")
                if n % 2:
                    await anyio.sleep(0.1 * name)

    async def consume(name: int, stream: MemoryObjectReceiveStream[str]) -> None:
        async with stream:
            async for item in stream:
                log(name, "received", item)
                await anyio.sleep(0.05 * name)
        log(name, "sees the end")

    async with anyio.create_task_group() as tasks:
        async with send, receive:
            for name in range(4):
                tasks.start_soon(produce, name, send.clone())
            for name in range(3):
                tasks.start_soon(consume, name, receive.clone())
    log("all are done")


@anyio_program
async def rendezvous_given_up(trace: Write) -> None:
    """A stream without a buffer whose two sides lose patience, and then close."""
    log = Log(trace)
    send, receive = anyio.create_memory_object_stream[int](0)

    async def sender(number: int) -> None:
        stream = send.clone()
        async with stream:
            try:
                for n in range(4):
                    with anyio.move_on_after(0.15) as limit:
                        await stream.send(10 * number + n)
                        log(number, "sent", n)
                    if limit.cancelled_caught:
                        log(number, "kept", n)
            except anyio.BrokenResourceError as error:
                log(number, "found nobody", outline(error))

    async def receiver(number: int, until: float) -> None:
        stream = receive.clone()
        async with stream:
            with anyio.move_on_after(until):
                try:
                    while True:
                        log(number, "received", await stream.receive())
                        await anyio.sleep(0.1)
                except anyio.EndOfStream:
                    log(number, "sees the end")
                    return
            log(number, "has had enough")

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(sender, number)
        tasks.start_soon(receiver, 0, 0.45)
        tasks.start_soon(receiver, 1, 0.3)
        await anyio.sleep(0.1)
        await receive.aclose()
        await send.aclose()
    log("all are done")


@anyio_program
async def pipeline(trace: Write) -> None:
    """Five stages in a row, two lanes of them; what enters at one instant leaves at one."""
    log = Log(trace)

    async def stage(
        name: str,
        seconds: float,
        source: MemoryObjectReceiveStream[int],
        dest: MemoryObjectSendStream[int],
    ) -> None:
        async with source, dest:
            async for item in source:
                if seconds:
                    await anyio.sleep(seconds)
                await dest.send(item + 1)
                if item % 100 == 3:
                    log(name, "passed on", item)

    async def lane(name: str, size: int) -> None:
        first, source = anyio.create_memory_object_stream[int](size)
        async with anyio.create_task_group() as tasks:
            for number in range(5):
                dest, following = anyio.create_memory_object_stream[int](size)
                tasks.start_soon(stage, f"{name}.{number}", 0.1 if number == 2 else 0, source, dest)
                source = following
            tasks.start_soon(feed, first)
            async with source:
                async for item in source:
                    log(name, "got", item)

    async def feed(stream: MemoryObjectSendStream[int]) -> None:
        async with stream:
            for n in range(6):
                await stream.send(100 * n)
                await anyio.sleep(0.05)

    async with anyio.create_task_group() as tasks:
        for size in (0, 1, 3):
            tasks.start_soon(lane, f"size-{size}", size)
    log("all are done")
