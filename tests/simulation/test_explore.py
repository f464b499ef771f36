"""Many orders of one program, and the simplest that fails."""

import random
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from chrono_core import (
    Choice,
    Context,
    Exploration,
    ExplorationFailure,
    NondeterminismError,
    ReplayMismatch,
    SimClock,
    SimulationError,
    SimulationStalled,
    Supervisor,
    explore,
    simulate,
)
from chrono_core._choices import Script, Seeded
from chrono_core._shrink import shrink
from chrono_core.testing import available_backends

both = pytest.mark.parametrize("backend", available_backends())
strategies = pytest.mark.parametrize("strategy", ["random", "pct", "delay-bounded"])


async def lost_update() -> None:
    """Three tasks add to a number that each has read before it waits."""
    total = 0

    async def add() -> None:
        nonlocal total
        await anyio.sleep(1)
        seen = total
        await checkpoint()
        total = seen + 1

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(add)
    assert total == 3


async def harmless() -> None:
    async with anyio.create_task_group() as tasks:
        for n in range(4):
            tasks.start_soon(anyio.sleep, n % 2)


async def abba() -> None:
    """Two tasks take two locks in two orders."""
    a, b = anyio.Lock(), anyio.Lock()

    async def both_locks(first: anyio.Lock, second: anyio.Lock, after: float) -> None:
        await anyio.sleep(after)
        async with first:
            await checkpoint()
            async with second:
                pass

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(both_locks, a, b, 1)
        tasks.start_soon(both_locks, b, a, 1)


@both
@strategies
def test_a_failure_is_found_made_simple_and_replayed(backend: Any, strategy: Any) -> None:
    """First in, first out, the program is right; the simplest order in which it is not is shown."""
    simulate(lost_update, backend=backend)
    with pytest.raises(ExplorationFailure) as raised:
        explore(lost_update, strategy=strategy, backend=backend)
    failure = raised.value
    assert isinstance(failure.__cause__, (AssertionError, ExceptionGroup))
    chosen = [choice for choice in failure.choices if choice[1]]
    assert 1 <= len(chosen) <= 2
    assert "\n" not in failure.replay
    assert failure.replay in str(failure)
    with pytest.raises(ExplorationFailure, match="failed again") as again:
        explore(lost_update, replay=failure.replay)
    assert again.value.choices == failure.choices
    assert again.value.replay == failure.replay


@both
@strategies
def test_what_cannot_fail_is_explored_to_the_end(backend: Any, strategy: Any) -> None:
    """The record tells how much was tried."""
    explored = explore(harmless, runs=30, strategy=strategy, backend=backend, seed=5)
    assert isinstance(explored, Exploration)
    assert (explored.runs, explored.seed, explored.backend) == (30, 5, backend)
    assert 1 < explored.orders <= 30
    assert explored.choices > 30


@both
def test_a_deadlock_is_a_failure(backend: Any) -> None:
    """Two locks in two orders: some order stalls, and the message says so."""
    simulate(abba, backend=backend)
    with pytest.raises(ExplorationFailure, match="SimulationStalled") as raised:
        explore(abba, backend=backend)
    assert isinstance(raised.value.__cause__, SimulationStalled)


@both
def test_the_seed_of_a_failure_makes_simulate_fail(backend: Any) -> None:
    """With the strategy "random", a run is what `simulate` runs for its seed."""
    with pytest.raises(ExplorationFailure) as raised:
        explore(lost_update, backend=backend, seed=100)
    with pytest.raises((AssertionError, ExceptionGroup)):
        simulate(lost_update, backend=backend, seed=raised.value.seed)


@both
def test_a_replay_of_another_program_is_refused(backend: Any) -> None:
    """It never runs something else in silence."""

    async def longer() -> None:
        await harmless()
        await lost_update()

    async def fixed() -> None:
        lock = anyio.Lock()

        async def add() -> None:
            await anyio.sleep(1)
            async with lock:
                await checkpoint()

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(add)

    with pytest.raises(ExplorationFailure) as raised:
        explore(lost_update, backend=backend)
    for other in (longer, fixed, harmless):
        with pytest.raises(ReplayMismatch, match="not the program that failed"):
            explore(other, replay=raised.value.replay)


@pytest.mark.parametrize("line", ["", "asyncio", "asyncio:1:2:zz", "asyncio:1:2:00000000:x", "a:b"])
def test_what_is_no_replay_is_refused(line: str) -> None:
    """A line that was cut off, or is none, is a ValueError."""
    with pytest.raises(ValueError, match="is no replay"):
        explore(harmless, replay=line)


def test_what_depends_on_the_outside_is_reported() -> None:
    """A failure that does not come back when it is played again is not shown as one."""
    runs = []

    async def every_other() -> None:
        runs.append(1)
        await checkpoint()
        assert len(runs) % 2

    with pytest.raises(NondeterminismError, match="not simulated"):
        explore(every_other)


def test_interrupts_pass() -> None:
    """Who stops the program stops the exploration."""

    async def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explore(interrupted)


@both
def test_daemons_start_in_many_orders(backend: Any) -> None:
    """`on_start` keeps its order, as is promised; `run` begins in any."""
    orders = set()

    async def main() -> None:
        order: list[str] = []

        async def run(ctx: Context) -> None:
            order.append(ctx.name)

        async with Supervisor() as supervisor:
            for name in "abc":
                supervisor.spawn(run, name=name)
        orders.add("".join(order))

    simulate(main, backend=backend)
    assert orders == {"abc"}
    explore(main, runs=400, backend=backend)
    assert len(orders) == 6


@both
def test_ties_go_off_in_every_order_and_together(backend: Any) -> None:
    """Of equal deadlines, any may be first, and the next need not wait for it to settle."""
    orders = set()

    async def main() -> None:
        order = ""

        async def sleep(name: str) -> None:
            nonlocal order
            await anyio.sleep(1)
            order += name
            await checkpoint()
            order += name

        async with anyio.create_task_group() as tasks:
            for name in "ab":
                tasks.start_soon(sleep, name)
        orders.add(order)

    simulate(main, backend=backend)
    assert orders == {"aabb"}
    explore(main, runs=200, backend=backend)
    assert orders == {"aabb", "abab", "abba", "baab", "baba", "bbaa"}


@both
def test_one_seed_is_one_order(backend: Any) -> None:
    """The same seed gives the same run, and other seeds give others."""

    def run(seed: int | None) -> list[str]:
        trace: list[str] = []

        async def worker(name: str) -> None:
            for n in range(5):
                await checkpoint()
                trace.append(f"{name}{n}")

        async def main() -> None:
            async with anyio.create_task_group() as tasks:
                for name in "abcd":
                    tasks.start_soon(worker, name)

        simulate(main, seed=seed, backend=backend)
        return trace

    assert run(None) == [f"{name}{n}" for n in range(5) for name in "abcd"]
    traces = [run(seed) for seed in range(10)]
    assert traces == [run(seed) for seed in range(10)]
    assert len({tuple(trace) for trace in traces}) > 5


@both
def test_random_generators_hang_on_seed_and_name_alone(backend: Any) -> None:
    """Another daemon more or less changes nothing, and a restart goes on where it was."""

    def run(seed: int | None, *names: str) -> dict[str, list[float]]:
        drawn: dict[str, list[float]] = {name: [] for name in names}

        async def draw(ctx: Context) -> None:
            assert ctx.rng is ctx.rng
            drawn[ctx.name].append(ctx.rng.random())
            if len(drawn[ctx.name]) < 3:
                raise ValueError

        async def main() -> None:
            async with Supervisor(on_error="restart") as supervisor:
                for name in names:
                    supervisor.spawn(draw, name=name)

        simulate(main, seed=seed, backend=backend)
        return drawn

    alone, company = run(7, "a"), run(7, "b", "a", "c")
    assert (
        alone["a"]
        == company["a"]
        == [random.Random("7 a").random() for _ in range(1)] + (alone["a"][1:])
    )
    assert len(set(company["a"] + company["b"] + company["c"])) == 9
    assert run(None, "a") == run(0, "a") != run(1, "a")


async def test_outside_of_a_simulation_only_simulated_time_has_a_seed() -> None:
    """In real time, daemons throw real dice."""

    async def draw(ctx: Context) -> None:
        drawn.append(ctx.rng.random())

    drawn: list[float] = []
    for clock in (SimClock(), SimClock(), None, None):
        async with Supervisor(clock=clock) as supervisor:
            supervisor.spawn(draw, name="a")
    assert drawn[0] == drawn[1] == random.Random("0 a").random()
    assert len(set(drawn[1:])) == 3


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"runs": 0}, ValueError),
        ({"depth": 0}, ValueError),
        ({"shrink_runs": -1}, ValueError),
        ({"strategy": "luck"}, ValueError),
        ({"backend": "curio"}, ValueError),
        ({"seed": None}, TypeError),
    ],
)
def test_arguments_of_explore_are_checked(options: dict[str, Any], kind: type[Exception]) -> None:
    """A wrong value is an error at the call."""
    with pytest.raises(kind):
        explore(harmless, **options)


async def test_explore_does_not_run_inside_of_a_loop() -> None:
    """It runs event loops of its own."""
    with pytest.raises(SimulationError, match="running event loop"):
        explore(harmless)


def test_shrinking_leaves_what_is_needed() -> None:
    """Of many choices, those stay without which there is no failure, as small as can be."""

    def attempt(values: dict[int, int]) -> tuple[Choice, ...] | None:
        tried.append(values)
        if values.get(17, 0) >= 2 and values.get(60, 0) >= 1:
            return tuple(Choice("task", values.get(n, 0), 9) for n in range(100))
        return None

    tried: list[dict[int, int]] = []
    choices = [Choice("task", 5, 9) for _ in range(100)]
    simplest = shrink(choices, attempt, 500)
    assert {n: choice.value for n, choice in enumerate(simplest) if choice.value} == {17: 2, 60: 1}
    assert len(tried) < 100
    assert shrink(choices, attempt, 0) == tuple(choices)


def test_scripts_survive_being_one_line() -> None:
    """What is written is what is read."""
    seeded = Seeded(3)
    choices = [Choice("task", seeded.decide("task", 5, ()), 5) for _ in range(30)]
    script = Script.of("trio", -4, choices)
    assert Script.parse(script.line()) == script
