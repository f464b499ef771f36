"""The peers whose programs look different from ours.

chrono-daemon is not here: it runs the very programs that our side runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from time import perf_counter
from typing import Any

import anyio
import anyio.lowlevel
import simpy
import trio

from .harness import check


def simpy_tickers(work: int, *, starts: list[float], period: float) -> tuple[float, list[float]]:
    """So many wakes of SimPy processes; returns the seconds and each process's sum of times."""
    sums = [0.0] * len(starts)
    environment = simpy.Environment()

    def ticker(number: int, start: float) -> Generator[simpy.Event, Any, None]:
        yield environment.timeout(start)
        while True:
            yield environment.timeout(period)
            sums[number] += environment.now

    for number, start in enumerate(starts):
        environment.process(ticker(number, start))
    started = perf_counter()
    environment.run(until=period * (work // len(starts) + 1))
    return perf_counter() - started, sums


def simpy_sleepers(deadlines: list[float]) -> tuple[float, list[float]]:
    """One SimPy process for each deadline; returns the seconds and when they woke."""
    woken: list[float] = []
    environment = simpy.Environment()

    def sleeper(deadline: float) -> Generator[simpy.Event, Any, None]:
        yield environment.timeout(deadline)
        woken.append(environment.now)

    started = perf_counter()
    for deadline in deadlines:
        environment.process(sleeper(deadline))
    environment.run()
    return perf_counter() - started, woken


async def bare_tasks(work: int) -> float:
    """Tasks in a bare task group: started, let go by one event, finished."""
    release = anyio.Event()
    counts = [0, 0]

    async def task(number: int) -> None:
        counts[0] += 1
        await release.wait()
        counts[1] += 1

    started = perf_counter()
    async with anyio.create_task_group() as tasks:
        for number in range(work):
            tasks.start_soon(task, number, name=f"task-{number}")
        while counts[0] < work:
            await anyio.lowlevel.checkpoint()
        release.set()
    seconds = perf_counter() - started
    check(counts, [work, work], "tasks started and finished")
    return seconds


def bare_wait(backend: str) -> tuple[Callable[[], Awaitable[object]], Callable[[], None]]:
    """The least that a task can wait with, and how to let all go that wait so."""
    if backend != "trio":
        future = asyncio.get_running_loop().create_future()
        return lambda: future, lambda: future.set_result(None)
    waiting: list[trio.lowlevel.Task] = []

    def wait() -> Awaitable[object]:
        waiting.append(trio.lowlevel.current_task())
        return trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED)

    def release() -> None:
        for task in waiting:
            trio.lowlevel.reschedule(task)

    return wait, release


async def cancelled_tasks(work: int) -> float:
    """Tasks in a bare task group: started, all cancelled at once."""
    counts = [0, 0]

    async def task(number: int) -> None:
        counts[0] += 1
        try:
            await anyio.Event().wait()
        finally:
            counts[1] += 1

    started = perf_counter()
    async with anyio.create_task_group() as tasks:
        for number in range(work):
            tasks.start_soon(task, number, name=f"task-{number}")
        while counts[0] < work:
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    seconds = perf_counter() - started
    check(counts, [work, work], "tasks started and cancelled")
    return seconds


async def asyncio_queue(maxsize: int, work: int) -> float:
    """So many items through an `asyncio.Queue`."""
    queue: asyncio.Queue[int] = asyncio.Queue(maxsize)
    received: list[int] = []

    async def produce() -> None:
        for item in range(work):
            await queue.put(item)

    async def consume() -> None:
        for _ in range(work):
            received.append(await queue.get())

    started = perf_counter()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        tasks.start_soon(consume)
    seconds = perf_counter() - started
    check(received, list(range(work)), "items received")
    return seconds


def anyio_stream(maxsize: int) -> tuple[Any, Any]:
    """Both ends of anyio's memory object stream."""
    return anyio.create_memory_object_stream[int](maxsize)


def trio_channel(maxsize: int) -> tuple[Any, Any]:
    """Both ends of trio's memory channel."""
    return trio.open_memory_channel[int](maxsize)
