"""Supervisors: what a daemon costs that is added, started and stopped."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from types import ModuleType
from typing import Any

import anyio
import anyio.lowlevel
import chrono_core
import chrono_daemon

from . import peers
from .harness import Case, Goal, Peer, Unit, check, side

DAEMONS = Unit("µs per daemon", 1e6)
WORK = 1_000

BEYOND_A_TASK = Goal("beyond", 100.0)


def cases(backends: tuple[str, ...]) -> Iterator[Case]:
    for backend in backends:
        if backend == "uvloop":  # a supervisor asks nothing of its loop that asyncio's does not
            continue
        yield Case(
            name="daemons: add, start, stop",
            backend=backend,
            unit=DAEMONS,
            work=WORK,
            ours=side("chrono-core", backend, churn, chrono_core),
            peers=(
                Peer(side("bare task group", backend, peers.bare_tasks), (BEYOND_A_TASK,)),
                Peer(side("chrono-daemon", backend, churn, chrono_daemon)),
            ),
        )
        yield Case(
            name="daemons on a SimClock: add, start, stop",
            backend=backend,
            unit=DAEMONS,
            work=WORK,
            ours=side("chrono-core", backend, churn_simulated, chrono_core),
            peers=(
                Peer(side("bare task group", backend, peers.bare_tasks)),
                Peer(side("chrono-daemon", backend, churn_simulated, chrono_daemon)),
            ),
        )
        yield Case(
            name="daemons: add, start, stop by force",
            backend=backend,
            unit=DAEMONS,
            work=WORK,
            ours=side("chrono-core", backend, churn_by_force, chrono_core),
            peers=(
                Peer(side("cancelled task group", backend, peers.cancelled_tasks)),
                Peer(side("chrono-daemon", backend, churn_by_force, chrono_daemon)),
            ),
        )


async def churn(library: ModuleType, work: int) -> float:
    """Daemons that stop when they are told to."""
    return await _churn(library, library.Supervisor(), work)


async def churn_simulated(library: ModuleType, work: int) -> float:
    """The same under a simulated clock."""
    return await _churn(library, library.Supervisor(clock=library.SimClock()), work)


async def _churn(library: ModuleType, supervisor: Any, work: int) -> float:
    counts = [0, 0]

    @library.daemon  # type: ignore[untyped-decorator]
    async def idler(ctx: Any) -> None:
        counts[0] += 1
        await ctx.stop_event.wait()
        counts[1] += 1

    started = perf_counter()
    async with supervisor:
        for number in range(work):
            supervisor.add(idler(), name=f"idler-{number}")
        await supervisor.wait_all_started()
        while counts[0] < work:
            await anyio.lowlevel.checkpoint()
        await supervisor.stop()
    seconds = perf_counter() - started
    check(counts, [work, work], "daemons started and stopped")
    return seconds


async def churn_by_force(library: ModuleType, work: int) -> float:
    """Daemons that have to be cancelled."""
    counts = [0, 0]

    @library.daemon  # type: ignore[untyped-decorator]
    async def sleeper(ctx: Any) -> None:
        counts[0] += 1
        try:
            await anyio.Event().wait()
        finally:
            counts[1] += 1

    started = perf_counter()
    async with library.Supervisor() as supervisor:
        for number in range(work):
            supervisor.add(sleeper(), name=f"sleeper-{number}")
        await supervisor.wait_all_started()
        while counts[0] < work:
            await anyio.lowlevel.checkpoint()
        await supervisor.stop(grace=0)
    seconds = perf_counter() - started
    check(counts, [work, work], "daemons started and cancelled")
    return seconds
