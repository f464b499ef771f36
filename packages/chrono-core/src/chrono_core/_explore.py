"""Running a program in many orders, and making the first that fails simple."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVarTuple

from ._choices import (
    Canonical,
    Choice,
    Decider,
    Delaying,
    Prioritized,
    Recorder,
    Replay,
    Script,
    Seeded,
    shape,
)
from ._exceptions import ExplorationFailure, NondeterminismError, ReplayMismatch
from ._faults import Faults
from ._shrink import shrink
from ._simclock import SimClock
from ._simulate import Backend, check, run
from ._simulation import Simulation

PosArgs = TypeVarTuple("PosArgs")
Strategy = Literal["random", "pct", "delay-bounded"]

STRATEGIES = ("random", "pct", "delay-bounded")


@dataclass(frozen=True, slots=True)
class Exploration:
    """What was explored, and found to be right.

    Attributes:
        runs: how many runs there were.
        orders: how many of them made choices that no other made.
        choices: how many choices they made, all in all.
        strategy: how choices were made.
        backend: on which event loop.
        seed: the first seed.
    """

    runs: int
    orders: int
    choices: int
    strategy: str
    backend: str
    seed: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one run ended.

    Attributes:
        choices: what was chosen.
        error: what it raised; None where it ended well.
    """

    choices: tuple[Choice, ...]
    error: BaseException | None

    @property
    def kind(self) -> tuple[str, ...] | None:
        """What failed, as far as it has to be the same in another run that fails alike."""
        return None if self.error is None else tuple(sorted(set(_leaves(self.error))))


def _leaves(error: BaseException) -> list[str]:
    if isinstance(error, BaseExceptionGroup):
        return [name for inner in error.exceptions for name in _leaves(inner)]
    return [type(error).__qualname__]


class Explorer:
    """Runs one program, as often as it takes."""

    def __init__(
        self,
        async_fn: Callable[..., Awaitable[object]],
        args: tuple[Any, ...],
        backend: Backend,
        limit: float | None,
        faults: Faults | None,
        failures: tuple[type[BaseException], ...],
    ) -> None:
        self._async_fn = async_fn
        self._args = args
        self.backend: Backend = backend
        self._limit = limit
        self._faults = faults
        self._failures = failures

    def run(
        self, decider: Decider, seed: int, expected: dict[int, Choice] | None = None
    ) -> Outcome:
        """Run it once.

        Raises:
            ReplayMismatch: a choice is another than was expected.
        """
        recorder = Recorder(decider)
        simulation = Simulation(
            SimClock(),
            seed=seed,
            limit=self._limit,
            recorder=recorder,
            explores=True,
            faults=self._faults,
        )
        if expected is not None:

            def compare(n: int, choice: Choice) -> None:
                wanted = expected.get(n, choice)
                if wanted != choice and simulation.error is None:
                    simulation.fail(
                        ReplayMismatch(
                            f"choice {n + 1} of the replay is {wanted.label!r} with {wanted.bound} "
                            f"to choose from, but the program has come to {choice.label!r} with "
                            f"{choice.bound}: it is not the program that failed"
                        )
                    )

            recorder.check = compare
        try:
            run(simulation, self.backend, self._async_fn, self._args)
        except ReplayMismatch:
            raise
        except self._failures as error:
            return Outcome(tuple(recorder.choices), error)
        return Outcome(tuple(recorder.choices), None)

    def again(self, choices: Sequence[Choice], seed: int) -> Outcome:
        """Run it with these choices, as far as they fit."""
        return self.run(Replay({n: c.value for n, c in enumerate(choices) if c.value}), seed)


def explore(
    async_fn: Callable[[*PosArgs], Awaitable[object]],
    *args: *PosArgs,
    runs: int = 1000,
    strategy: Strategy = "random",
    backend: Backend = "asyncio",
    seed: int = 0,
    limit: float | None = None,
    faults: Faults | None = None,
    depth: int = 3,
    shrink_runs: int = 500,
    replay: str | None = None,
    failures: tuple[type[BaseException], ...] = (Exception,),
) -> Exploration:
    """Run a program in many orders, each of which could happen, until one makes it fail.

    Each run is a simulation of its own, with a seed of its own, as of `simulate`. The first run
    that raises is played again, to be sure; then its choices are made as few and as small as they
    can be while it still fails alike, and that run is raised.

    Args:
        async_fn: the program. It is called for each run, and must begin afresh.
        *args: its arguments, the same for each run.
        runs: how many runs.
        strategy: how choices are made. ``"random"``: each by itself, as `simulate` does with the
            seeds from ``seed`` on. ``"pct"``: tasks have priorities, which change at ``depth - 1``
            moments. ``"delay-bounded"``: first in, first out, but for up to ``depth`` moments at
            which something else comes first.
        backend: the event loop: ``"asyncio"`` or ``"trio"``.
        seed: the seed of the first run; each later run has the next.
        limit: so many virtual seconds each run may last.
        faults: what goes wrong on purpose.
        depth: see ``strategy``.
        shrink_runs: how many runs may be spent on making a failure simple.
        replay: the line that a failure has printed: only that run, on its backend.
        failures: what counts as a failure; anything else that is raised passes through.

    Returns:
        What was explored, where nothing failed.

    Raises:
        ExplorationFailure: a run failed. ``replay`` of it is one line that plays the simplest such
            run again; its cause is what the program raised.
        NondeterminismError: a run failed, and not when it was played again: the program depends on
            something that is not simulated.
        ReplayMismatch: what was to be played again does not fit the program.
        TypeError: ``async_fn`` is no async function.
        ValueError: a number is out of range, or there is no such strategy or backend.
    """
    check(async_fn, backend, seed, limit)
    if seed is None:
        raise TypeError("seed must be a whole number: each run draws from its own")
    if runs < 1 or depth < 1 or shrink_runs < 0:
        raise ValueError("runs and depth must be at least 1, and shrink_runs at least 0")
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, got {strategy!r}")
    explorer = Explorer(async_fn, args, backend, limit, faults, failures)
    if replay is not None:
        return _play(explorer, Script.parse(replay))
    orders = set()
    total = 0
    longest = 0
    for n in range(runs):
        decider: Decider
        if strategy == "random":
            decider = Seeded(seed + n)
        elif n == 0:
            decider = Canonical()  # to know how long a run is
        elif strategy == "pct":
            decider = Prioritized(seed + n, longest, depth)
        else:
            decider = Delaying(seed + n, longest, depth)
        outcome = explorer.run(decider, seed + n)
        orders.add(tuple(choice.value for choice in outcome.choices))
        total += len(outcome.choices)
        longest = max(longest, len(outcome.choices))
        if outcome.error is not None:
            _raise(explorer, outcome, seed + n, n + 1, shrink_runs)
    return Exploration(runs, len(orders), total, strategy, backend, seed)


def _raise(explorer: Explorer, outcome: Outcome, seed: int, n: int, budget: int) -> None:
    """Make sure of a failure, make it simple, and raise it."""
    again = explorer.again(outcome.choices, seed)
    if again.kind != outcome.kind or again.choices != outcome.choices:
        ended = "ended well" if again.error is None else f"raised {again.error!r}"
        raise NondeterminismError(
            f"run {n}, with seed {seed}, raised {outcome.error!r}, and {ended} when it was played "
            "again: the program depends on something that is not simulated; check_determinism() "
            "shows what"
        ) from outcome.error

    def attempt(values: dict[int, int]) -> tuple[Choice, ...] | None:
        tried = explorer.run(Replay(values), seed)
        return tried.choices if tried.kind == outcome.kind else None

    choices = shrink(outcome.choices, attempt, budget)
    simplest = explorer.again(choices, seed)
    raise failure(explorer.backend, simplest, seed, f"run {n}, with seed {seed}, failed") from (
        simplest.error
    )


def failure(backend: str, outcome: Outcome, seed: int, what: str) -> ExplorationFailure:
    """The error that tells of a run that failed."""
    line = Script.of(backend, seed, outcome.choices).line()
    error = outcome.error
    few = sum(1 for choice in outcome.choices if choice.value)
    return ExplorationFailure(
        f"{what}: {type(error).__name__}: {error}\n"
        f"{few} of its {len(outcome.choices)} choices are not first in, first out; to play it "
        f"again: replay={line!r}",
        seed=seed,
        choices=outcome.choices,
        replay=line,
    )


def _play(explorer: Explorer, script: Script) -> Exploration:
    """Play a run again, and nothing else."""
    if script.backend not in ("asyncio", "trio"):
        raise ValueError(f"the replay is of backend {script.backend!r}, which is none")
    explorer.backend = "trio" if script.backend == "trio" else "asyncio"
    expected = dict(script.values)
    replay = Replay({n: choice.value for n, choice in script.values})
    outcome = explorer.run(replay, script.seed, expected)
    if len(outcome.choices) != script.length or shape(outcome.choices) != script.shape:
        raise ReplayMismatch(
            f"the program made {len(outcome.choices)} choices, and the run to be played again made "
            f"{script.length}, or others: it is not the program that failed"
        ) from outcome.error
    if outcome.error is not None:
        raise failure(explorer.backend, outcome, script.seed, "the run failed again") from (
            outcome.error
        )
    return Exploration(1, 1, len(outcome.choices), "replay", explorer.backend, script.seed)
