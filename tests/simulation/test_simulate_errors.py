"""What cannot go on, and what cannot be simulated."""

import asyncio
import re
import sys
import threading
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from chrono_core import (
    ClockBusy,
    RealTimeWarning,
    SimClock,
    SimulationError,
    SimulationLivelock,
    SimulationStalled,
    simulate,
    simulation_backend,
)
from chrono_core._backends import _virtual
from chrono_core.testing import available_backends

both = pytest.mark.parametrize("backend", available_backends())


async def forever() -> None:
    await anyio.Event().wait()


async def spin() -> None:
    while True:
        await checkpoint()


async def tick() -> None:
    while True:
        await anyio.sleep(1)


@both
def test_a_stall_names_every_task_and_its_line(backend: str) -> None:
    """Nothing sleeps and nothing can run: that is said at once, with who waits where."""
    cleaned = []

    async def main() -> None:
        lock = anyio.Lock()
        try:
            async with lock, anyio.create_task_group() as tasks:
                tasks.start_soon(forever, name="waiter")
                await anyio.sleep(3)
                async with lock_of_nobody:
                    await lock_of_nobody_else.acquire()
        finally:
            cleaned.append(clock.now())

    lock_of_nobody = anyio.Semaphore(1)
    lock_of_nobody_else = anyio.Semaphore(0)
    clock = SimClock()
    with pytest.raises(SimulationStalled) as raised:
        simulate(main, clock=clock, backend=backend)
    text = str(raised.value)
    assert "at 3.0" in text
    lines = [line for line in text.splitlines() if "test_simulate_errors.py:" in line]
    assert len(lines) == 2
    assert "'waiter' waits on Event.wait" in text
    assert re.search(r"main' waits on Semaphore\w*\.acquire", text)
    assert cleaned == [3.0]


@both
def test_a_stall_while_it_is_cleaned_up_breaks_the_shields(backend: str) -> None:
    """A clean-up that waits for ever does not hang the simulation."""

    async def main() -> None:
        try:
            await forever()
        finally:
            with anyio.CancelScope(shield=True):
                await forever()

    with pytest.raises(SimulationStalled):
        simulate(main, backend=backend)


@both
def test_a_clean_up_may_take_virtual_time(backend: str) -> None:
    """After a stall, what sleeps while it cleans up is waited for."""
    done = []

    async def main() -> None:
        try:
            await forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(10)
                done.append(clock.now())

    clock = SimClock()
    with pytest.raises(SimulationStalled):
        simulate(main, clock=clock, backend=backend)
    assert done == [10.0]


@both
def test_a_clean_up_that_never_ends_is_cut_short(backend: str) -> None:
    """Nobody cleans up for ever, in virtual time either."""

    async def main() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await tick()

    with pytest.raises(SimulationStalled):
        simulate(main, backend=backend)


@both
def test_the_limit_says_that_it_is_virtual(backend: str) -> None:
    """A program that goes on is ended at the limit, where it stands."""
    clock = SimClock(5.0)
    with pytest.raises(TimeoutError, match=r"limit of 100 virtual seconds, at 105\.0") as raised:
        simulate(tick, clock=clock, limit=100, backend=backend)
    assert "test_simulate_errors.py" in str(raised.value)
    assert clock.now() == 105.0


@both
def test_the_limit_holds_for_who_drives_the_clock(backend: str) -> None:
    """A driver may not go past it either."""

    async def main() -> None:
        while True:
            await clock.advance(30)

    clock = SimClock()
    with pytest.raises(TimeoutError, match="virtual"):
        simulate(main, clock=clock, limit=100, backend=backend)
    assert clock.now() <= 130


@both
def test_a_program_that_ends_at_its_limit_is_fine(backend: str) -> None:
    """The limit is reached when something is to happen after it."""
    simulate(anyio.sleep, 10, limit=10, backend=backend)
    with pytest.raises(TimeoutError):
        simulate(anyio.sleep, 10, limit=9.999, backend=backend)


@both
def test_endless_work_at_one_instant_is_named(backend: str) -> None:
    """Time cannot move while something runs for ever."""

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(spin, name="spinner")
            await anyio.sleep(1)

    with pytest.raises(SimulationLivelock, match="'spinner' kept running at"):
        simulate(main, clock=SimClock(livelock_after=1000), backend=backend)


def test_an_endless_chain_of_callbacks_is_found() -> None:
    """Nobody can be cancelled there; it ends all the same."""

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def again() -> None:
            loop.call_soon(again)

        again()
        await asyncio.sleep(1)

    with pytest.raises(SimulationLivelock):
        simulate(main, clock=SimClock(livelock_after=1000))


@both
def test_a_clock_is_in_one_simulation_at_a_time(backend: str) -> None:
    """Another thread that wants it is refused, and the first goes on."""
    clock = SimClock()
    errors = []

    def other() -> None:
        try:
            simulate(anyio.sleep, 1, clock=clock, backend=backend)
        except ClockBusy as error:
            errors.append(error)

    async def main() -> None:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        await anyio.sleep(1)

    simulate(main, clock=clock, backend=backend)
    assert "in use by another simulation" in str(errors[0])
    assert clock.now() == 1


@both
def test_simulations_do_not_nest(backend: str) -> None:
    """Inside of one, and inside of any event loop, `simulate` says what to do instead."""

    async def main() -> None:
        simulate(forever)

    with pytest.raises(SimulationError, match="inside a simulation"):
        simulate(main, backend=backend)
    with pytest.raises(SimulationError, match="inside a running event loop"):
        anyio.run(main, backend=backend)


def test_what_is_no_async_function_is_refused() -> None:
    """At the call, each with its own message."""

    def plain() -> None:
        raise AssertionError

    async def generator() -> AsyncIterator[int]:
        yield 1

    for wrong in (plain, generator, None, 3):
        with pytest.raises(TypeError, match="async function is needed"):
            simulate(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not a coroutine"):
        simulate(forever())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be async"):
        simulate(lambda: None)  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"backend": "curio"}, ValueError, "backend must be"),
        ({"backend": "asyncio+uvloop"}, ValueError, "uvloop"),
        ({"backend": "uvloop"}, ValueError, "uvloop"),
        ({"backend": None}, ValueError, "backend must be"),
        ({"seed": 1.5}, TypeError, "seed must be"),
        ({"seed": True}, TypeError, "seed must be"),
        ({"limit": -1}, ValueError, "limit must not be negative"),
        ({"limit": float("nan")}, ValueError, "limit"),
        ({"clock": 3}, TypeError, "clock must be a SimClock"),
    ],
)
def test_arguments_are_checked_at_the_call(
    options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    """A wrong value is an error there, not later."""
    with pytest.raises(kind, match=message):
        simulate(forever, **options)


def test_an_installed_uvloop_policy_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has asked for uvloop is told that it is not what would run."""

    class EventLoopPolicy:
        __module__ = "uvloop"

    monkeypatch.setattr(asyncio.events, "_event_loop_policy", EventLoopPolicy())
    with pytest.raises(ValueError, match="uvloop is installed"):
        simulate(forever)
    with pytest.raises(ValueError, match="uvloop is installed"):
        simulation_backend("asyncio", SimClock())


@both
def test_a_stall_is_raised_by_anyio_run_as_well(backend: str) -> None:
    """With the backend alone, where no scope of ours is around the program."""
    name, options = simulation_backend(backend, SimClock())
    with pytest.raises((SimulationStalled, ExceptionGroup)) as raised:
        anyio.run(forever, backend=name, backend_options=options)
    found = raised.value
    while isinstance(found, ExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, SimulationStalled)


@both
def test_the_backend_can_be_used_again(backend: str) -> None:
    """Each run of it is a simulation, and the clock goes on."""
    clock = SimClock()
    name, options = simulation_backend(backend, clock, seed=3)
    for n in (1, 2):
        anyio.run(anyio.sleep, 5, backend=name, backend_options=options)
        assert clock.now() == 5 * n


@both
def test_who_holds_time_for_long_is_told(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that takes its time is waited for, and named."""
    monkeypatch.setattr(_virtual, "PATIENCE", 0.01)
    release = threading.Event()

    async def main() -> None:
        await anyio.to_thread.run_sync(release.wait)

    threading.Timer(0.2, release.set).start()
    with pytest.warns(RealTimeWarning, match="held by 1 worker thread"):
        simulate(main, backend=backend)


def test_importing_the_core_does_not_import_what_simulates() -> None:
    """Programs that run for real do not pay for it."""
    import subprocess

    code = (
        "import sys; there = set(sys.modules); import chrono_core; "
        "new = set(sys.modules) - there; "
        "assert not new & {'asyncio', 'trio', 'random', 'pytest'}, new; "
        "words = ('_simulat', '_virtual', '_fault', '_explore', '_choices'); "
        "assert not [name for name in new if any(word in name for word in words)], new; "
        "assert 'simulate' in dir(chrono_core); chrono_core.simulate"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_other_names_are_still_unknown() -> None:
    """What is found later is what is listed."""
    import chrono_core

    assert isinstance(chrono_core, ModuleType)
    with pytest.raises(AttributeError, match="no attribute 'simulat'"):
        chrono_core.simulat  # noqa: B018
