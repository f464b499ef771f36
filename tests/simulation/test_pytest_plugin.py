"""The plugin for pytest."""

import re
import subprocess
import sys
from importlib.util import find_spec

import pytest
from chrono_core.testing import available_backends

pytest_plugins = ["pytester"]

CONFTEST = """
    import pytest

    @pytest.fixture
    def anyio_backend(simulated):
        return simulated
"""

BACKENDS = len(available_backends())


def run(pytester: pytest.Pytester, *args: str, others: bool = False) -> pytest.RunResult:
    """Run the tests in a process of their own, without pytest-asyncio unless told."""
    plugins = () if others else ("-p", "no:asyncio")
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *plugins, *args, timeout=100)


def test_simulated_backends_put_a_test_in_virtual_time(pytester: pytest.Pytester) -> None:
    """With anyio's plugin, on every backend, on the clock that the test gets."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        """
        import anyio, pytest
        pytestmark = pytest.mark.anyio

        async def test_an_hour(sim_clock):
            await anyio.sleep(3600)
            assert sim_clock.now() == 3600

        async def test_a_supervisor(sim_clock, supervisor):
            async def tick(ctx):
                async for due in ctx.clock.every(1):
                    ticks.append(due)

            ticks = []
            supervisor.spawn(tick)
            await anyio.sleep(3.5)
            assert ticks == [1, 2, 3]

        @pytest.fixture
        async def sleepy(sim_clock):
            await anyio.sleep(10)
            yield sim_clock.now()
            await anyio.sleep(10)

        async def test_async_fixtures(sleepy, sim_clock):
            assert sleepy == 10
            await anyio.sleep(1)
            assert sim_clock.now() == 11
        """
    )
    result = run(pytester)
    result.assert_outcomes(passed=3 * BACKENDS)


def test_a_stalled_test_fails_and_the_next_goes_on(pytester: pytest.Pytester) -> None:
    """It does not hang, and says who waits on what."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        """
        import anyio, pytest
        pytestmark = pytest.mark.anyio

        async def test_stalls():
            await anyio.Event().wait()

        async def test_is_fine():
            await anyio.sleep(1)
        """
    )
    result = run(pytester)
    result.assert_outcomes(passed=BACKENDS, failed=BACKENDS)
    result.stdout.fnmatch_lines(["*SimulationStalled: at 0.0, nothing can run*"])


def test_a_seed_is_passed_on_and_printed(pytester: pytest.Pytester) -> None:
    """`--chrono-seed` orders simulated tests, and a failure says how to run it again."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        """
        import anyio, pytest

        @pytest.mark.anyio
        async def test_order():
            order = []

            async def work(n):
                order.append(n)

            async with anyio.create_task_group() as tasks:
                for n in range(6):
                    tasks.start_soon(work, n)
            assert order == list(range(6))
        """
    )
    run(pytester).assert_outcomes(passed=BACKENDS)
    result = run(pytester, "--chrono-seed=3")
    result.assert_outcomes(failed=BACKENDS)
    result.stdout.fnmatch_lines(["*to run it again: pytest *test_order*--chrono-seed=3"])


EXPLORED = """
    import anyio, pytest
    from anyio.lowlevel import checkpoint

    @pytest.mark.explore(runs=200)
    async def test_lost_update():
        total = 0

        async def add():
            nonlocal total
            seen = total
            await checkpoint()
            total = seen + 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(add)
            await checkpoint()
            await checkpoint()
            tasks.start_soon(add)
        assert total == 2

    @pytest.mark.explore(runs=20)
    async def test_right(sim_clock, supervisor, tmp_path):
        async def sleep(ctx):
            await ctx.clock.sleep(3)

        handle = supervisor.spawn(sleep)
        await handle.wait_stopped()
        assert sim_clock.now() == anyio.current_time() == 3
        assert tmp_path.exists()

    class TestClass:
        @pytest.mark.explore(runs=20)
        async def test_method(self):
            await anyio.sleep(1000)
            assert isinstance(self, TestClass)
"""


def replay_of(result: pytest.RunResult) -> str:
    """The option that a failure has printed."""
    lines = [line for line in result.outlines if "to play it again: pytest" in line]
    (option,) = {line.split()[-1] for line in lines}  # pytest's summary repeats it, where CI is set
    return option


def test_marked_tests_are_explored_and_replayed(pytester: pytest.Pytester) -> None:
    """Nobody else has to run async tests for that; the command that is printed fails again."""
    pytester.makepyfile(EXPLORED)
    result = run(pytester)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*ExplorationFailure: run *", "*seed: *"])
    again = run(pytester, "-k", "lost_update", replay_of(result))
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*ExplorationFailure: the run failed again*"])


def test_a_seed_begins_the_exploration(pytester: pytest.Pytester) -> None:
    """The seed that was printed is the first that is tried."""
    pytester.makepyfile(EXPLORED)
    (seed,) = set(re.findall(r"^E +seed: (\d+)$", run(pytester).stdout.str(), re.MULTILINE))
    result = run(pytester, "-k", "lost_update", f"--chrono-seed={seed}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*run 1, with seed {seed}, failed*"])


def test_it_works_beside_the_automatic_mode_of_anyio(pytester: pytest.Pytester) -> None:
    """A marked test is explored on each backend that the fixture names."""
    pytester.makeini("[pytest]\nanyio_mode = auto\n")
    pytester.makepyfile(EXPLORED)
    result = run(pytester)
    result.assert_outcomes(passed=2 * BACKENDS, failed=BACKENDS)


@pytest.mark.skipif(find_spec("pytest_asyncio") is None, reason="pytest-asyncio is not installed")
@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_it_works_beside_pytest_asyncio(pytester: pytest.Pytester, mode: str) -> None:
    """Marked tests are ours, the others are not."""
    pytester.makeini(
        f"[pytest]\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function\n"
    )
    pytester.makepyfile(
        EXPLORED
        + """
    @pytest.mark.asyncio
    async def test_of_pytest_asyncio():
        await anyio.sleep(0.001)
        assert anyio.current_time() > 1
"""
    )
    result = run(pytester, others=True)
    result.assert_outcomes(passed=3, failed=1)


def test_a_marked_test_that_is_not_async_fails(pytester: pytest.Pytester) -> None:
    """There is nothing to order in it."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.explore
        def test_plain():
            pass
        """
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*explore is for async tests*"])


def test_the_package_does_not_need_pytest() -> None:
    """Neither importing nor simulating imports it."""
    code = (
        "import sys, anyio, chrono_core as c; c.simulate(anyio.sleep, 1); c.explore(anyio.sleep, 1,"
        " runs=2); sys.exit('pytest' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
