"""The plugin for pytest, which finds it by its entry point. The package itself never imports it."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from anyio import get_available_backends

from ._backends import current_run
from ._exceptions import ExplorationFailure
from ._explore import explore
from ._simclock import SimClock
from ._simulate import simulation_backend
from ._supervisor import Supervisor

FAILURES = (Exception, pytest.fail.Exception)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the command line."""
    group = parser.getgroup("chrono")
    group.addoption(
        "--chrono-seed",
        type=int,
        default=None,
        metavar="N",
        help="the seed of simulated backends, and the first seed of @pytest.mark.explore",
    )
    group.addoption(
        "--chrono-replay",
        default=None,
        metavar="LINE",
        help="have @pytest.mark.explore play again the run that has printed this line",
    )


def pytest_configure(config: pytest.Config) -> None:
    """The marker."""
    config.addinivalue_line(
        "markers",
        "explore(runs=1000, strategy='random', ...): simulate an async test in many orders of its "
        "tasks; takes what chrono_core.explore takes",
    )


# Fixtures


@pytest.fixture
def sim_clock() -> SimClock:
    """A clock for one test: that of the simulation, where the test runs in one."""
    return SimClock()


@pytest.fixture(params=get_available_backends())
def simulated(request: pytest.FixtureRequest, sim_clock: SimClock) -> tuple[str, dict[str, Any]]:
    """A backend in virtual time on ``sim_clock``, once for each event loop that there is.

    It is what anyio's ``anyio_backend`` fixture is to return, for anyio's plugin to simulate tests:

        @pytest.fixture
        def anyio_backend(simulated):
            return simulated
    """
    seed = request.config.getoption("--chrono-seed")
    return simulation_backend(request.param, sim_clock, seed=seed)


@pytest.fixture
async def chrono_entered_supervisor(sim_clock: SimClock) -> AsyncIterator[Supervisor]:
    """What ``supervisor`` is, where anyio's plugin runs the test."""
    async with Supervisor(clock=sim_clock, on_exit="stop") as supervisor:
        yield supervisor


@pytest.fixture
def supervisor(request: pytest.FixtureRequest) -> Supervisor | None:
    """A supervisor on ``sim_clock`` that was entered, and stops its daemons after the test.

    For tests that anyio's plugin runs, simulated or not, and for those that are explored.
    """
    if request.node.get_closest_marker("explore") is not None:
        return None  # each run makes its own
    entered: Supervisor = request.getfixturevalue("chrono_entered_supervisor")
    return entered


# Running


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Explore a marked test."""
    marker = pyfuncitem.get_closest_marker("explore")
    if marker is None:
        return None
    # pytest-asyncio puts a function around it that is not async.
    function = inspect.unwrap(pyfuncitem.obj)
    if not inspect.iscoroutinefunction(function):
        pytest.fail("@pytest.mark.explore is for async tests", pytrace=False)
    if pyfuncitem.cls is not None and not inspect.ismethod(function):
        function = function.__get__(pyfuncitem.instance)
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    options = dict(marker.kwargs)
    backend: Any = pyfuncitem.funcargs.get("anyio_backend")
    if backend is not None:
        options["backend"] = backend if isinstance(backend, str) else backend[0]
    seed = pyfuncitem.config.getoption("--chrono-seed")
    if seed is not None:
        options["seed"] = seed
    replay = pyfuncitem.config.getoption("--chrono-replay")
    if replay is not None:
        if not replay.startswith(f"{options.get('backend', 'asyncio')}:"):
            pytest.skip("the replay is of another backend")
        options["replay"] = replay
    try:
        explore(_program(function, arguments), *marker.args, failures=FAILURES, **options)
    except ExplorationFailure as failure:
        test = shlex.quote(pyfuncitem.nodeid)
        failure.add_note(
            f"seed: {failure.seed}\n"
            f"to play it again: pytest {test} --chrono-replay={shlex.quote(failure.replay)}"
        )
        raise
    return True


def _program(
    function: Callable[..., Awaitable[object]], arguments: dict[str, Any]
) -> Callable[[], Awaitable[object]]:
    """One run of a test, which gets the clock of that run, and a supervisor on it."""

    async def program() -> None:
        clock = current_run().simulation.clock
        mine = dict(arguments)
        if "sim_clock" in mine:
            mine["sim_clock"] = clock
        if "supervisor" not in mine:
            await function(**mine)
            return
        async with Supervisor(clock=clock, on_exit="stop") as mine["supervisor"]:
            await function(**mine)

    program.__qualname__ = getattr(function, "__qualname__", "program")
    return program


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Say with which seed a simulated test has failed."""
    report = yield
    seed = item.config.getoption("--chrono-seed")
    if report.failed and seed is not None and "simulated" in getattr(item, "fixturenames", ()):
        command = f"pytest {shlex.quote(item.nodeid)} --chrono-seed={seed}"
        report.sections.append(("chrono", f"seed: {seed}\nto run it again: {command}"))
    return report
