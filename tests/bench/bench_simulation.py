"""Simulated programs: ours beside the clocks and loops that simulate one backend each.

A program is the same on every side: plain anyio, which knows nothing of a simulation. SimPy has no
event loop, and shows what a synchronous kernel can do.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Generator, Iterator
from functools import partial
from importlib.util import find_spec
from time import perf_counter
from typing import Any

import anyio
import simpy
import trio.testing
from chrono_core import simulate

from . import peers
from .harness import Case, Goal, Peer, Side, Unit, check

WAKES = Unit("µs per wake", 1e6, rate="wakes/s")
TIMEOUTS = Unit("µs per timeout", 1e6, rate="timeouts/s")
TRIPS = Unit("µs per round trip", 1e6, rate="round trips/s")

TASKS = 100
PERIOD = 2.0
STARTS = [(number + 1) / 64 for number in range(TASKS)]  # exact in binary and in microseconds
PAUSE = 1 / 64

Program = Callable[[int], Awaitable[float]]

AHEAD = (Goal("ratio", 1.0),)
PEERS = {"asyncio": ("looptime", "async_solipsism", "simloom", "seedloop"), "trio": ("trio",)}


def cases(backends: tuple[str, ...]) -> Iterator[Case]:
    for name in sum(PEERS.values(), ()):
        if find_spec(name) is None:
            python = ".".join(map(str, sys.version_info[:2]))
            print(f"{name} is not installed for Python {python}, and left out")
    for backend in backends:
        if backend in PEERS:  # the loop is the simulation's own, so there is no uvloop
            yield case(backend, "100 tasks that sleep", WAKES, sleepers, simpy_sleepers)
            yield case(backend, "100 tasks in timeouts", TIMEOUTS, timeouts, simpy_timeouts)
            yield case(backend, "ping-pong with sleeps", TRIPS, ping_pong, simpy_ping_pong)


def case(
    backend: str, name: str, unit: Unit, program: Program, ceiling: Callable[[int], float]
) -> Case:
    there = [peer for peer in PEERS[backend] if find_spec(peer) is not None]
    return Case(
        name=name,
        backend=backend,
        unit=unit,
        work=2_000,
        ours=Side("chrono-core", partial(simulated, backend, program)),
        peers=(
            *(Peer(_host(peer, program), AHEAD) for peer in there),
            Peer(Side("SimPy (synchronous)", ceiling)),
        ),
    )


def _host(peer: str, program: Program) -> Side:
    name, host = HOSTS[peer]
    return Side(name, partial(host, program), most=MOST.get(peer, float("inf")))


# Who simulates


def simulated(backend: str, program: Program, work: int) -> float:
    return simulate(program, work, backend=backend)


def on_looptime(program: Program, work: int) -> float:
    import looptime

    loop_class = looptime.make_event_loop_class(asyncio.SelectorEventLoop)
    # By default it lets 42 empty rounds pass before each step of time.
    make_loop = partial(loop_class, start=0, noop_cycles=0)
    return anyio.run(program, work, backend_options={"loop_factory": make_loop})


def on_async_solipsism(program: Program, work: int) -> float:
    import async_solipsism

    options = {"loop_factory": async_solipsism.EventLoop}
    return anyio.run(program, work, backend_options=options)


def on_simloom(program: Program, work: int) -> float:
    import simloom

    seconds: float = simloom.run(partial(program, work), seed=0).value
    return seconds


def on_seedloop(program: Program, work: int) -> float:
    import seedloop

    seconds: list[float] = []

    async def scenario(_: seedloop.World) -> None:
        seconds.append(await program(work))

    seedloop.replay(scenario, seed=0)
    return seconds[0]


def on_mock_clock(program: Program, work: int) -> float:
    clock = trio.testing.MockClock(autojump_threshold=0)
    return anyio.run(program, work, backend="trio", backend_options={"clock": clock})


HOSTS: dict[str, tuple[str, Callable[[Program, int], float]]] = {
    "looptime": ("looptime", on_looptime),
    "async_solipsism": ("async-solipsism", on_async_solipsism),
    "simloom": ("simloom", on_simloom),
    "seedloop": ("seedloop", on_seedloop),
    "trio": ("trio's MockClock", on_mock_clock),
}
MOST = {"simloom": 20_000}  # it keeps a log of every step


# What is simulated


async def sleepers(work: int) -> float:
    """So many wakes of tasks that sleep one period after another, each at its own instants."""
    sums = [0.0] * TASKS
    start = anyio.current_time()

    async def sleeper(number: int) -> None:
        await anyio.sleep(STARTS[number])
        for _ in range(work // TASKS):
            await anyio.sleep(PERIOD)
            sums[number] += anyio.current_time() - start

    seconds = await _run_all(sleeper)
    _check_sums(sums, work)
    return seconds


async def timeouts(work: int) -> float:
    """So many timeouts that run out, around waits that nothing else would end."""
    sums = [0.0] * TASKS
    start = anyio.current_time()

    async def waiter(number: int) -> None:
        await anyio.sleep(STARTS[number])
        never = anyio.Event()
        for _ in range(work // TASKS):
            with anyio.move_on_after(PERIOD) as limit:
                await never.wait()
            if limit.cancelled_caught:
                sums[number] += anyio.current_time() - start

    seconds = await _run_all(waiter)
    _check_sums(sums, work)
    return seconds


async def _run_all(task: Callable[[int], Awaitable[None]]) -> float:
    """The seconds that all tasks take together."""
    started = perf_counter()
    async with anyio.create_task_group() as tasks:
        for number in range(TASKS):
            tasks.start_soon(task, number)
    return perf_counter() - started


async def ping_pong(work: int) -> float:
    """So many items there and back over memory streams, with a sleep on either side."""
    there_send, there_receive = anyio.create_memory_object_stream[int](0)
    back_send, back_receive = anyio.create_memory_object_stream[int](0)
    start = anyio.current_time()
    received: list[int] = []

    async def echo() -> None:
        async with there_receive, back_send:
            async for item in there_receive:
                await anyio.sleep(PAUSE)
                await back_send.send(-item)

    started = perf_counter()
    async with anyio.create_task_group() as tasks, there_send, back_receive:
        tasks.start_soon(echo)
        for item in range(work):
            await anyio.sleep(PAUSE)
            await there_send.send(item)
            received.append(await back_receive.receive())
        await there_send.aclose()
    seconds = perf_counter() - started
    _check_trips(received, anyio.current_time() - start, work)
    return seconds


# The ceiling


def simpy_sleepers(work: int) -> float:
    seconds, sums = peers.simpy_tickers(work, starts=STARTS, period=PERIOD)
    _check_sums(sums, work)
    return seconds


def simpy_timeouts(work: int) -> float:
    sums = [0.0] * TASKS
    environment = simpy.Environment()

    def waiter(number: int) -> Generator[simpy.Event, Any, None]:
        yield environment.timeout(STARTS[number])
        for _ in range(work // TASKS):
            limit = environment.timeout(PERIOD)
            happened = yield limit | environment.event()
            if limit in happened:
                sums[number] += environment.now

    for number in range(TASKS):
        environment.process(waiter(number))
    started = perf_counter()
    environment.run()
    seconds = perf_counter() - started
    _check_sums(sums, work)
    return seconds


def simpy_ping_pong(work: int) -> float:
    environment = simpy.Environment()
    there, back = simpy.Store(environment, capacity=1), simpy.Store(environment, capacity=1)
    received: list[int] = []

    def echo() -> Generator[simpy.Event, Any, None]:
        for _ in range(work):
            item = yield there.get()
            yield environment.timeout(PAUSE)
            yield back.put(-item)

    def serve() -> Generator[simpy.Event, Any, None]:
        for item in range(work):
            yield environment.timeout(PAUSE)
            yield there.put(item)
            received.append((yield back.get()))

    environment.process(echo())
    environment.process(serve())
    started = perf_counter()
    environment.run()
    seconds = perf_counter() - started
    _check_trips(received, environment.now, work)
    return seconds


def _check_sums(sums: list[float], work: int) -> None:
    """Each task woke so often, each time at its own instant."""
    wakes = work // TASKS
    expected = [start * wakes + PERIOD * wakes * (wakes + 1) / 2 for start in STARTS]
    check(sums, expected, "sums of the times of the wakes")


def _check_trips(received: list[int], seconds: float, work: int) -> None:
    check(received, [-item for item in range(work)], "items that came back")
    check(seconds, 2 * PAUSE * work, "simulated seconds")
