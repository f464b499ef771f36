"""Simulated clocks: how fast they wake, and what a sleeper costs."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from time import perf_counter
from types import ModuleType

import anyio
import anyio.lowlevel
import chrono_core
import chrono_daemon

from . import peers
from .harness import Case, Goal, Peer, Side, Unit, check, side

WAKES = Unit("µs per wake", 1e6, rate="wakes/s")
SLEEPERS = Unit("µs per sleeper", 1e6)
BYTES = Unit("bytes per sleeper", 1)

TICKERS = 100
PERIOD = 1.0
STARTS = [
    (number + 1) / 128 for number in range(TICKERS)
]  # exact in binary and in whole nanoseconds

FASTER = {"asyncio": 6.0, "trio": 3.0}  # than chrono-daemon
WAKES_PER_SECOND = {"asyncio": 200_000.0, "trio": 90_000.0}  # on an idle core
SLEEPER_BYTES = 1200.0  # beyond a bare task
A_FEW = 100_000  # sleepers; a million take chrono-daemon minutes


def cases(backends: tuple[str, ...]) -> Iterator[Case]:
    for backend in backends:
        yield tickers_case(backend, "sleep", sleep_tickers)
        yield tickers_case(backend, "every", every_tickers)
        if backend != "uvloop":  # what a sleeper costs is not the loop's affair
            yield sleepers_case(backend)
            yield memory_case(backend)


def tickers_case(backend: str, name: str, program: Callable[..., Awaitable[float]]) -> Case:
    goals: tuple[Goal, ...] = ()
    if backend in FASTER:
        goals = (Goal("ratio", FASTER[backend]), Goal("ours", WAKES_PER_SECOND[backend]))
    return Case(
        name=f"{TICKERS} tickers, {name}",
        backend=backend,
        unit=WAKES,
        work=2_000,
        ours=side("chrono-core", backend, program, chrono_core),
        peers=(
            Peer(side("chrono-daemon", backend, program, chrono_daemon), goals),
            Peer(Side("SimPy (synchronous)", simpy_tickers)),
        ),
    )


def sleepers_case(backend: str) -> Case:
    return Case(
        name="sleepers: set, run, finish",
        backend=backend,
        unit=SLEEPERS,
        work=10_000,
        ours=side("chrono-core", backend, sleepers, chrono_core),
        peers=(
            Peer(side("chrono-daemon", backend, sleepers, chrono_daemon, most=A_FEW)),
            Peer(side("bare tasks", backend, peers.bare_tasks)),
            Peer(Side("SimPy (synchronous)", simpy_sleepers)),
        ),
    )


def memory_case(backend: str) -> Case:
    return Case(
        name="sleepers: memory",
        backend=backend,
        unit=BYTES,
        work=1_000,  # tracing is slow, and the figure flat
        ours=side("chrono-core", backend, sleeper_memory, chrono_core),
        peers=(
            Peer(
                side("bare tasks", backend, bare_memory, backend), (Goal("beyond", SLEEPER_BYTES),)
            ),
            Peer(side("chrono-daemon", backend, sleeper_memory, chrono_daemon, most=A_FEW)),
        ),
    )


async def sleep_tickers(library: ModuleType, work: int) -> float:
    """So many wakes of tasks that sleep one period after another."""
    clock = library.SimClock()
    sums = [0.0] * TICKERS

    async def ticker(number: int, start: float) -> None:
        await clock.sleep(start)
        while True:
            await clock.sleep(PERIOD)
            sums[number] += clock.now()

    async with anyio.create_task_group() as tasks:
        for number, start in enumerate(STARTS):
            tasks.start_soon(ticker, number, start)
        await _start()
        started = perf_counter()
        await clock.advance_to(PERIOD * (work // TICKERS + 1))
        seconds = perf_counter() - started
        tasks.cancel_scope.cancel()
    check_tickers(sums, work)
    return seconds


async def every_tickers(library: ModuleType, work: int) -> float:
    """So many wakes of tasks that tick with `every`."""
    clock = library.SimClock()
    sums = [0.0] * TICKERS

    async def ticker(number: int, start: float) -> None:
        await clock.sleep(start)
        async for tick in clock.every(PERIOD):
            sums[number] += tick

    async with anyio.create_task_group() as tasks:
        for number, start in enumerate(STARTS):
            tasks.start_soon(ticker, number, start)
        await _start()
        started = perf_counter()
        await clock.advance_to(PERIOD * (work // TICKERS + 1))
        seconds = perf_counter() - started
        tasks.cancel_scope.cancel()
    check_tickers(sums, work)
    return seconds


def simpy_tickers(work: int) -> float:
    seconds, sums = peers.simpy_tickers(work, starts=STARTS, period=PERIOD)
    check_tickers(sums, work)
    return seconds


def check_tickers(sums: list[float], work: int) -> None:
    """Each ticker ticked so often, each time at its own instant."""
    ticks = work // TICKERS
    expected = [start * ticks + PERIOD * ticks * (ticks + 1) / 2 for start in STARTS]
    check(sums, expected, "sums of the times of the ticks")


def deadlines(work: int) -> list[float]:
    """Distinct instants, far from sorted, exact in binary and in whole nanoseconds."""
    return [1 + number * 7919 % work / 512 for number in range(work)]


async def sleepers(library: ModuleType, work: int) -> float:
    """Tasks that sleep once, each until an instant of its own."""
    clock = library.SimClock()
    woken: list[float] = []
    due = deadlines(work)

    async def sleeper(deadline: float) -> None:
        await clock.wait_until(deadline)
        woken.append(clock.now())

    started = perf_counter()
    async with anyio.create_task_group() as tasks:
        for deadline in due:
            tasks.start_soon(sleeper, deadline)
        await _start()
        await clock.advance_to(max(due))
    seconds = perf_counter() - started
    check(woken, sorted(due), "when the sleepers woke")
    return seconds


def simpy_sleepers(work: int) -> float:
    due = deadlines(work)
    seconds, woken = peers.simpy_sleepers(due)
    check(woken, sorted(due), "when the sleepers woke")
    return seconds


async def sleeper_memory(library: ModuleType, work: int) -> float:
    """What so many tasks hold while they sleep."""
    clock = library.SimClock()
    counts = [0, 0]

    async def sleeper(deadline: float) -> None:
        counts[0] += 1
        await clock.wait_until(deadline)
        counts[1] += 1

    async with anyio.create_task_group() as tasks:
        tracemalloc.start()
        for deadline in deadlines(work):
            tasks.start_soon(sleeper, deadline)
        await _start()
        used = _traced_bytes()
        check(counts, [work, 0], "sleepers asleep and woken")
        await clock.advance_to(1.0 + work / 512)
    check(counts, [work, work], "sleepers asleep and woken")
    return used


async def bare_memory(backend: str, work: int) -> float:
    """What so many tasks hold that wait with the least that they can."""
    wait, release = peers.bare_wait(backend)
    counts = [0, 0]

    async def task(deadline: float) -> None:
        counts[0] += 1
        await wait()
        counts[1] += 1

    async with anyio.create_task_group() as tasks:
        tracemalloc.start()
        for deadline in deadlines(work):
            tasks.start_soon(task, deadline)
        await _start()
        used = _traced_bytes()
        check(counts, [work, 0], "tasks waiting and released")
        release()
    check(counts, [work, work], "tasks waiting and released")
    return used


def _traced_bytes() -> int:
    gc.collect()
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return used


async def _start() -> None:
    """Let new tasks reach their first wait; the other library's `advance` counts on it."""
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
