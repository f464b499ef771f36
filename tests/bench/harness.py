"""One piece of work, done by our side and by its peers in turns, in one process.

Every figure is a cost: seconds or bytes for one unit of work. A ratio is the peer's cost over
ours, so that above 1 we are ahead.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from statistics import median
from typing import Any, Literal

import anyio

BACKENDS = ("asyncio", "uvloop", "trio")
WARM_UP = 10  # the part of the work that each side does before it is measured
GROWTH = ((0.1, 3), (10, 1))  # beside the work: so many times as much, in so many rounds


class WrongAnswer(Exception):
    """A side did not do the work that was asked for."""


@dataclass(frozen=True, slots=True)
class Side:
    """Who does the work.

    Attributes:
        run: does so many units of work, checks the answer, and returns what it cost.
        most: the most work that anybody would wait for.
    """

    name: str
    run: Callable[[int], float]
    most: float = float("inf")


@dataclass(frozen=True, slots=True)
class Unit:
    """How a cost is shown: multiplied by `scale` as `cost`, or, where named, as a `rate`."""

    cost: str
    scale: float
    rate: str | None = None

    @property
    def label(self) -> str:
        return self.rate or self.cost

    def show(self, cost: float) -> float:
        return 1 / cost if self.rate else cost * self.scale


@dataclass(frozen=True, slots=True)
class Goal:
    """What is promised, in the shown unit.

    ``ratio``: at least so many times the peer. ``ours``: at least that rate, at most that cost.
    ``beyond``: at most that cost more than the peer.
    """

    kind: Literal["ratio", "ours", "beyond"]
    limit: float


@dataclass(frozen=True, slots=True)
class Peer:
    side: Side
    goals: tuple[Goal, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """One piece of work, on one backend, and who does it."""

    name: str
    backend: str
    unit: Unit
    work: int
    ours: Side
    peers: tuple[Peer, ...]
    grows: bool = True


@dataclass(frozen=True, slots=True)
class Spread:
    median: float
    min: float
    max: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal, and how far we got."""

    goal: str
    value: float
    met: bool


@dataclass(frozen=True, slots=True)
class Point:
    """The cost of one unit where there is so much work; None where nobody would wait for it."""

    work: int
    ours: float | None
    peer: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """Our side beside one peer. `growth` is in `cost_unit`, the other figures in `unit`."""

    name: str
    backend: str
    peer_name: str
    unit: str
    cost_unit: str
    work: int
    rounds: int
    ours: float
    peer: float
    ratio: Spread
    verdicts: tuple[Verdict, ...]
    growth: tuple[Point, ...]


def available_backends() -> tuple[str, ...]:
    return tuple(name for name in BACKENDS if find_spec(name) is not None)


def run_on(backend: str, program: Callable[..., Awaitable[float]], *args: Any) -> float:
    """Run a program in a fresh event loop."""
    options: dict[str, Any] = {"use_uvloop": True} if backend == "uvloop" else {}
    loop = "trio" if backend == "trio" else "asyncio"
    return anyio.run(program, *args, backend=loop, backend_options=options)


def side(
    name: str,
    backend: str,
    program: Callable[..., Awaitable[float]],
    *args: Any,
    most: float = float("inf"),
) -> Side:
    """A side whose work is an asynchronous program: `program(*args, work)` returns the cost."""
    return Side(name, partial(run_on, backend, program, *args), most)


def check(found: object, expected: object, what: str) -> None:
    """Raise `WrongAnswer` unless what was found is what was expected."""
    if found != expected:
        raise WrongAnswer(f"{what}: expected {expected!r:.80}, got {found!r:.80}")


def measure(case: Case, *, rounds: int, growth: bool) -> list[Row]:
    """Measure every side of a case, and return one row for each peer."""
    sides = (case.ours, *(peer.side for peer in case.peers))
    for each in sides:
        _cost(case, each, max(1, case.work // WARM_UP))
    costs = _take_turns(case, sides, case.work, rounds)
    sizes = [(case.work, costs)]
    if growth and case.grows:
        for times, turns in GROWTH:
            work = max(1, int(case.work * times))
            sizes.append((work, _take_turns(case, sides, work, min(turns, rounds))))
        sizes.sort(key=lambda size: size[0])
    return [_row(case, peer, costs, sizes) for peer in case.peers]


def _take_turns(
    case: Case, sides: Sequence[Side], work: int, rounds: int
) -> dict[str, list[float]]:
    """The costs of a unit by side: A B A B, and nothing of a side that has too much to do."""
    costs: dict[str, list[float]] = {each.name: [] for each in sides}
    for _ in range(rounds):
        for each in sides:
            if work <= each.most:
                costs[each.name].append(_cost(case, each, work))
    return costs


def _cost(case: Case, each: Side, work: int) -> float:
    gc.collect()  # nobody pays for what another left; while it runs, each pays for its own
    try:
        return each.run(work) / work
    except Exception as error:
        error.add_note(f"{each.name}, {case.name} on {case.backend}, {work:,} units of work")
        raise


def _row(
    case: Case,
    peer: Peer,
    costs: dict[str, list[float]],
    sizes: Sequence[tuple[int, dict[str, list[float]]]],
) -> Row:
    ours, theirs = costs[case.ours.name], costs[peer.side.name]
    ratios = [their / our for our, their in zip(ours, theirs, strict=True)]
    unit = case.unit

    def cost_at(each: Side, found: dict[str, list[float]]) -> float | None:
        return median(found[each.name]) * unit.scale if found[each.name] else None

    return Row(
        name=case.name,
        backend=case.backend,
        peer_name=peer.side.name,
        unit=unit.label,
        cost_unit=unit.cost,
        work=case.work,
        rounds=len(ours),
        ours=unit.show(median(ours)),
        peer=unit.show(median(theirs)),
        ratio=Spread(median(ratios), min(ratios), max(ratios)),
        verdicts=tuple(_judge(goal, peer, unit, ours, theirs) for goal in peer.goals),
        growth=tuple(
            Point(work, cost_at(case.ours, found), cost_at(peer.side, found))
            for work, found in sizes
        ),
    )


def _judge(
    goal: Goal, peer: Peer, unit: Unit, ours: Sequence[float], theirs: Sequence[float]
) -> Verdict:
    name, limit = peer.side.name, goal.limit
    if goal.kind == "ratio":
        value = median(their / our for our, their in zip(ours, theirs, strict=True))
        return Verdict(f"at least {limit:g} times {name}", value, value >= limit)
    if goal.kind == "beyond":
        value = median(our - their for our, their in zip(ours, theirs, strict=True)) * unit.scale
        return Verdict(f"at most {limit:g} {unit.cost} beyond {name}", value, value <= limit)
    value = unit.show(median(ours))
    if unit.rate:
        return Verdict(f"at least {limit:,g} {unit.rate}", value, value >= limit)
    return Verdict(f"at most {limit:g} {unit.cost}", value, value <= limit)
