"""Every planted bug hides in the usual order, and is found in others."""

import anyio
import pytest
from anyio.lowlevel import checkpoint
from chrono_core import ExplorationFailure, SimulationStalled, explore, simulate
from chrono_core.testing import available_backends

from .bugs import BUGS, Bug

STRATEGIES = ("random", "pct", "delay-bounded")
RUNS = 1000

every_bug = pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS)
both_backends = pytest.mark.parametrize("backend", available_backends())


def strategy_for(bug: Bug) -> str:
    """One strategy for each bug, so that each has its share; the command tries them all."""
    return STRATEGIES[list(BUGS).index(bug.name) % len(STRATEGIES)]


def find(bug: Bug, backend: str) -> ExplorationFailure:
    with pytest.raises(ExplorationFailure) as caught:
        explore(bug.function, runs=RUNS, strategy=strategy_for(bug), backend=backend)
    return caught.value


def root(error: BaseException | None) -> BaseException | None:
    """What has gone wrong inside all the groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def test_there_are_ten_bugs() -> None:
    """There are as many as it says."""
    assert len(BUGS) >= 10


@both_backends
@every_bug
def test_a_bug_hides_in_the_usual_order(bug: Bug, backend: str) -> None:
    """First in, first out, the program is right."""
    simulate(bug.function, backend=backend)


@both_backends
@every_bug
def test_a_bug_is_found_and_its_replay_fails(bug: Bug, backend: str) -> None:
    """The shrunken choices make the program fail again, by the same error."""
    found = find(bug, backend)
    assert found.choices
    with pytest.raises(ExplorationFailure) as again:
        explore(bug.function, backend=backend, replay=found.replay)
    assert again.value.choices == found.choices
    first, second = root(found.__cause__), root(again.value.__cause__)
    assert type(first) is type(second)
    if not isinstance(first, SimulationStalled):
        assert str(first) == str(second)


@both_backends
def test_the_same_exploration_finds_the_same(backend: str) -> None:
    """A search is a function of its seed."""
    bug = BUGS["cycle_of_three"]
    first, second = find(bug, backend), find(bug, backend)
    assert (first.seed, first.replay) == (second.seed, second.replay)


@pytest.mark.parametrize("strategy", STRATEGIES)
@both_backends
def test_a_program_without_a_bug_passes(strategy: str, backend: str) -> None:
    """Where the balance is locked from reading to writing, no order loses a deposit."""

    async def program() -> None:
        balance = 0
        lock = anyio.Lock()

        async def deposit(amount: int) -> None:
            nonlocal balance
            async with lock:
                seen = balance
                await checkpoint()
                balance = seen + amount

        async with anyio.create_task_group() as tasks:
            for amount in (1, 20, 300):
                tasks.start_soon(deposit, amount)
        assert balance == 321

    explore(program, runs=50, strategy=strategy, backend=backend)
