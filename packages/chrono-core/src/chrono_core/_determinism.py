"""Running a program several times in the same way, and comparing what it does step by step."""

from __future__ import annotations

import gc
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVarTuple

from ._choices import Canonical, Recorder, Seeded
from ._exceptions import NondeterminismError
from ._faults import Faults
from ._simclock import SimClock
from ._simulate import Backend, check, run
from ._simulation import Simulation
from ._trace import Trace

PosArgs = TypeVarTuple("PosArgs")

# What asyncio calls a task without a name, after a counter of the process.
UNNAMED = re.compile(r"\bTask-\d+\b")

# What differs from one run of a program to the next, and means nothing.
ADDRESS = re.compile(r"\b0x[0-9a-f]+\b")


class Steps:
    """Writes down each step of each task, and where that has led it."""

    def __init__(self) -> None:
        self.trace = Trace()
        self.clock = SimClock()

    def ran(self, what: str, where: str) -> None:
        """A task has run, and this is where it stands now."""
        name = UNNAMED.sub("Task", what)
        self.trace.write(f"{self.clock.now_ns()} task {name}: {where}")


def check_determinism(
    async_fn: Callable[[*PosArgs], Awaitable[object]],
    *args: *PosArgs,
    backend: Backend = "asyncio",
    seed: int | None = None,
    runs: int = 2,
    limit: float | None = None,
    faults: Faults | None = None,
) -> Trace:
    """Simulate a program several times in the same way, and compare the steps that it takes.

    A step is what a task does between two waits: its trace is one line with the time, the task, and
    where it waits next. Between the runs the heap is disturbed, so that an order that hangs on
    addresses shows. An order that hangs on the hashes of strings shows between processes only.

    Args:
        async_fn: the program. It is called for each run, and must begin afresh.
        *args: its arguments, the same for each run.
        backend: the event loop: ``"asyncio"`` or ``"trio"``.
        seed: see `simulate`.
        runs: how often to run it; twice at least.
        limit: so many virtual seconds each run may last.
        faults: what goes wrong on purpose.

    Returns:
        The trace. Its ``digest`` is the same in every process.

    Raises:
        NondeterminismError: two runs differ; the message shows where they begin to.
        TypeError: ``async_fn`` is no async function, or ``seed`` is no whole number.
        ValueError: ``runs`` is below 2, or see `simulate`.
        Exception: whatever the program raises, where it does so in every run alike.
    """
    check(async_fn, backend, seed, limit)
    if runs < 2:
        raise ValueError(f"runs must be at least 2, got {runs!r}")
    first: Trace | None = None
    error: Exception | None = None
    ballast: list[object] = []
    for n in range(runs):
        ballast.append([bytearray(97 * k % 512) for k in range(50 + 37 * n)])
        gc.collect()
        trace, error = _steps(async_fn, args, backend, seed, limit, faults)
        if first is None:
            first = trace
            continue
        difference = first.difference(trace)
        if difference is not None:
            raise NondeterminismError(
                f"run 1 (-) and run {n + 1} (+) on {backend} differ from {difference}"
            ) from error
    if error is not None:
        raise error
    assert first is not None
    return first


def _steps(
    async_fn: Callable[..., Awaitable[object]],
    args: tuple[Any, ...],
    backend: Backend,
    seed: int | None,
    limit: float | None,
    faults: Faults | None,
) -> tuple[Trace, Exception | None]:
    steps = Steps()
    simulation = Simulation(
        steps.clock,
        seed=seed,
        limit=limit,
        recorder=Recorder(Canonical() if seed is None else Seeded(seed)),
        explores=seed is not None,
        faults=faults,
        observer=steps,
    )
    try:
        result = run(simulation, backend, async_fn, args)
    except Exception as error:
        steps.trace.write(ADDRESS.sub("0x", f"raised {error!r}"))
        return steps.trace, error
    steps.trace.write(ADDRESS.sub("0x", f"returned {result!r}"))
    return steps.trace, None
