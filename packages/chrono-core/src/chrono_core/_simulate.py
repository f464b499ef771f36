"""Running a whole program in virtual time."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar, TypeVarTuple

import anyio

from ._backends import running
from ._choices import Canonical, Recorder, Seeded
from ._exceptions import ClockBusy, SimulationError
from ._faults import Faults
from ._simclock import SimClock
from ._simulation import Simulation, is_occupied
from ._time import number

T = TypeVar("T")
PosArgs = TypeVarTuple("PosArgs")
Backend = Literal["asyncio", "trio"]


def simulate(
    async_fn: Callable[[*PosArgs], Awaitable[T]],
    *args: *PosArgs,
    clock: SimClock | None = None,
    backend: Backend = "asyncio",
    seed: int | None = None,
    limit: float | None = None,
    faults: Faults | None = None,
) -> T:
    """Run a program in virtual time, and return what it returns.

    Inside, every sleep and timeout of anyio, of the event loop itself, of `WallClock` and of the
    clock of the simulation is on one virtual clock. It jumps to the next deadline as soon as
    nothing can run, so that an hour takes milliseconds, and every run is the same run. Worker
    threads, and ``hold`` of the clock, keep time from moving.

    ``time.time``, ``time.monotonic`` and ``datetime`` are not touched.

    Args:
        async_fn: the program.
        *args: its arguments.
        clock: the clock of the simulation; a new one where not given. Supervisors inside may use
            it, and it may be driven, but not by its own daemons. Without a driver, it moves by
            itself.
        backend: the event loop: ``"asyncio"`` or ``"trio"``.
        seed: None runs everything first in, first out. A number draws from itself which of the
            tasks that can run at one instant runs next, and which of equal deadlines comes first.
            `Context.rng` and ``faults`` draw from it as well; of None, they draw as from 0.
        limit: so many virtual seconds it may last.
        faults: what goes wrong on purpose.

    Raises:
        TypeError: ``async_fn`` is no async function, or ``seed`` is no whole number.
        ValueError: there is no such backend, or it is one that cannot be simulated; ``limit`` is
            negative or NaN.
        ClockBusy: the clock is used by another simulation.
        SimulationError: an event loop runs here already.
        SimulationStalled: nothing can ever happen again; it names every task.
        SimulationLivelock: something runs for ever at one instant.
        TimeoutError: the limit was reached.
    """
    check(async_fn, backend, seed, limit, clock)
    simulation = make(SimClock() if clock is None else clock, seed, limit, faults)
    return run(simulation, backend, async_fn, args)


def simulation_backend(
    backend: Backend,
    clock: SimClock,
    *,
    seed: int | None = None,
    limit: float | None = None,
    faults: Faults | None = None,
) -> tuple[str, dict[str, Any]]:
    """The backend and its options for a run in virtual time, as anyio takes them.

    For ``anyio.run(main, backend=name, backend_options=options)``, and for the ``anyio_backend``
    fixture of anyio's pytest plugin. Each run that is made of it is a simulation as `simulate`
    makes one; of several, the clock goes on where it stood. On trio, it takes an anyio that passes
    the options on, as 4.12 does not.

    Args:
        backend: the event loop: ``"asyncio"`` or ``"trio"``.
        clock: the clock of the simulation.
        seed: see `simulate`.
        limit: see `simulate`.
        faults: see `simulate`.

    Raises:
        TypeError: ``seed`` is no whole number.
        ValueError: there is no such backend, or it is one that cannot be simulated; ``limit`` is
            negative or NaN.
    """
    check_backend(backend, seed, limit)
    return backend, _virtual(backend).options(lambda: make(clock, seed, limit, faults))


def make(
    clock: SimClock, seed: int | None, limit: float | None, faults: Faults | None
) -> Simulation:
    """A simulation that draws what is left open from the seed."""
    decider = Canonical() if seed is None else Seeded(seed)
    return Simulation(
        clock,
        seed=seed,
        limit=limit,
        recorder=Recorder(decider),
        explores=seed is not None,
        faults=faults,
    )


def run(
    simulation: Simulation,
    backend: Backend,
    async_fn: Callable[..., Awaitable[T]],
    args: tuple[Any, ...],
) -> T:
    """Run a program as this simulation."""
    results: list[T] = []

    async def main() -> None:
        with anyio.CancelScope() as simulation.scope:
            try:
                awaitable = async_fn(*args)
                if not inspect.isawaitable(awaitable):
                    raise TypeError(f"{async_fn!r} returned {awaitable!r}: it must be async")
                results.append(await awaitable)
            finally:
                simulation.clear()

    if hasattr(async_fn, "__qualname__"):
        main.__qualname__, main.__module__ = async_fn.__qualname__, async_fn.__module__
    try:
        _virtual(backend).run(main, lambda: simulation)
    except BaseException as error:
        if simulation.error is not None and error is not simulation.error:
            raise simulation.error from error
        raise
    if simulation.error is not None:
        raise simulation.error
    return results[0]


def check(
    async_fn: object,
    backend: object,
    seed: object,
    limit: float | None,
    clock: SimClock | None = None,
) -> None:
    """Refuse what cannot be run."""
    if inspect.iscoroutine(async_fn):
        async_fn.close()
        raise TypeError(
            f"pass the async function {async_fn.__qualname__} and its arguments, not a coroutine: "
            "do not call it"
        )
    if not callable(async_fn) or inspect.isasyncgenfunction(async_fn):
        raise TypeError(f"an async function is needed, got {async_fn!r}")
    if _is_plainly_sync(async_fn):
        raise TypeError(f"an async function is needed, and {async_fn!r} is not async")
    check_backend(backend, seed, limit)
    if clock is not None and not isinstance(clock, SimClock):
        raise TypeError(f"clock must be a SimClock, got {clock!r}")
    here = running()
    if here is not None:
        if here.simulation is not None:
            raise SimulationError(
                "a simulation cannot begin inside a simulation: await the program there instead"
            )
        raise SimulationError(
            "a simulation cannot begin inside a running event loop: it runs one of its own, so "
            "begin it outside of async code"
        )
    if clock is not None and is_occupied(clock):
        raise ClockBusy(
            f"{clock!r} is in use by another simulation: each that runs needs a clock of its own"
        )


def _is_plainly_sync(function: Any) -> bool:
    """Whether this is a function by `def`; what else can be called may return an awaitable."""
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        return False
    lambda_or_wrapper = function.__name__ == "<lambda>" or hasattr(function, "__wrapped__")
    return not lambda_or_wrapper and not inspect.iscoroutinefunction(function)


def check_backend(backend: object, seed: object, limit: float | None) -> None:
    """Refuse a backend that is none, and values that mean nothing."""
    if not isinstance(backend, str) or backend.partition("+")[2] or backend == "uvloop":
        name = str(backend)
        if "uvloop" in name or "winloop" in name:
            raise ValueError(
                f"{name!r} cannot be simulated: uvloop does not let anybody stand in for its "
                'timers; simulate on "asyncio" or "trio"'
            )
    if backend not in ("asyncio", "trio"):
        raise ValueError(f'backend must be "asyncio" or "trio", got {backend!r}')
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise TypeError(f"seed must be a whole number or None, got {seed!r}")
    if limit is not None and number(limit, "limit") < 0:
        raise ValueError(f"limit must not be negative, got {limit!r}")
    if backend == "asyncio":
        from ._backends._virtual_asyncio import uvloop_policy

        if uvloop_policy():
            raise ValueError(
                "uvloop is installed as the event loop policy, and cannot be simulated: simulate "
                "before uvloop.install(), or without it"
            )


def _virtual(backend: str) -> Any:
    """What runs this backend in virtual time."""
    if backend == "trio":
        from ._backends import _virtual_trio

        return _virtual_trio
    from ._backends import _virtual_asyncio

    return _virtual_asyncio
