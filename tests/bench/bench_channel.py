"""Channels: one producer, one consumer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from time import perf_counter
from typing import Any

import anyio
import chrono_core
import chrono_daemon

from . import peers
from .harness import Case, Goal, Peer, Side, Unit, check, side

ITEMS = Unit("µs per item", 1e6, rate="items/s")
WORK = 10_000
BATCH = 64

BESIDE_ANYIO = {0: 1.0, 64: 4.0}
BESIDE_ASYNCIO_QUEUE = {64: 1.0}


def cases(backends: tuple[str, ...]) -> Iterator[Case]:
    for backend in backends:
        for maxsize in (0, 64) if backend == "uvloop" else (0, 1, 64, 1024):
            yield Case(
                name=f"channel of {maxsize}",
                backend=backend,
                unit=ITEMS,
                work=WORK,
                ours=side("chrono-core", backend, pump, partial(chrono_core_channel, maxsize)),
                peers=tuple(channel_peers(backend, maxsize)),
            )
        for maxsize in () if backend == "uvloop" else (0, 64, 1024):
            yield Case(
                name=f"channel of {maxsize}, {BATCH} at once",
                backend=backend,
                unit=ITEMS,
                work=WORK,
                ours=side("chrono-core", backend, pump_batches, maxsize),
                peers=(Peer(anyio_stream(backend, maxsize)),),
            )


def channel_peers(backend: str, maxsize: int) -> Iterator[Peer]:
    yield Peer(anyio_stream(backend, maxsize), goal(BESIDE_ANYIO, backend, maxsize))
    if backend == "trio":
        yield Peer(side("trio channel", backend, pump, partial(peers.trio_channel, maxsize)))
    elif maxsize > 0:  # 0 would be unbounded
        queue = side("asyncio.Queue", backend, peers.asyncio_queue, maxsize)
        yield Peer(queue, goal(BESIDE_ASYNCIO_QUEUE, backend, maxsize))
    yield Peer(side("chrono-daemon", backend, pump, partial(chrono_daemon_channel, maxsize)))


def anyio_stream(backend: str, maxsize: int) -> Side:
    return side("anyio stream", backend, pump, partial(peers.anyio_stream, maxsize))


def goal(limits: dict[int, float], backend: str, maxsize: int) -> tuple[Goal, ...]:
    """The goals are for the standard event loops."""
    if backend == "uvloop" or maxsize not in limits:
        return ()
    return (Goal("ratio", limits[maxsize]),)


def chrono_core_channel(maxsize: int) -> tuple[Any, Any]:
    channel = chrono_core.open_channel[int](maxsize)
    return channel.send, channel.recv


def chrono_daemon_channel(maxsize: int) -> tuple[Any, Any]:
    channel: chrono_daemon.Channel[int] = chrono_daemon.open_channel(maxsize)
    return channel.send, channel.recv


async def pump(open_ends: Callable[[], tuple[Any, Any]], work: int) -> float:
    """So many items, one by one, and the end of the stream."""
    send, receive = open_ends()
    received: list[int] = []

    async def produce() -> None:
        for item in range(work):
            await send.send(item)
        await send.aclose()

    async def consume() -> None:
        async for item in receive:
            received.append(item)

    started = perf_counter()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        tasks.start_soon(consume)
    seconds = perf_counter() - started
    await receive.aclose()
    check(received, list(range(work)), "items received")
    return seconds


async def pump_batches(maxsize: int, work: int) -> float:
    """So many items, many at once, and the end of the stream."""
    send, receive = chrono_core_channel(maxsize)
    received: list[int] = []

    async def produce() -> None:
        for first in range(0, work, BATCH):
            await send.send_many(range(first, min(first + BATCH, work)))
        await send.aclose()

    async def consume() -> None:
        try:
            while True:
                received.extend(await receive.receive_many(BATCH))
        except chrono_core.EndOfStream:
            pass

    started = perf_counter()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        tasks.start_soon(consume)
    seconds = perf_counter() - started
    await receive.aclose()
    check(received, list(range(work)), "items received")
    return seconds
