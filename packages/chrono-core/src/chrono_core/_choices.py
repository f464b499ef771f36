"""What is left open in a run, who decides it, and how it is written down.

Wherever a simulation with a seed may do one thing or another, it makes a choice: a label, a number
from 0 up, and the bound below which that is. 0 is always what would have happened without a seed. A
run is the list of its choices, so it can be played again, and be made simpler.
"""

from __future__ import annotations

import random
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

# A task that was preferred so often in a row, while others could run, is preferred no more.
FAIR = 200

# How finely an amount is drawn.
STEPS = 1000


class Choice(NamedTuple):
    """One choice that a simulated run has made.

    Attributes:
        label: what was chosen: ``"task"`` that runs next, ``"timer"`` of several that are due
            at one instant, whether two of these go off ``"together"``, when a daemon's run
            ``"start"``s, or a fault.
        value: the number that was chosen. 0 is what happens without a seed.
        bound: of how many.
    """

    label: str
    value: int
    bound: int


class Decider(ABC):
    """Who decides."""

    @abstractmethod
    def decide(self, label: str, bound: int, who: Sequence[Any]) -> int:
        """A number from 0 up, below the bound."""

    def chance(self, label: str, probability: float) -> bool:
        """Whether something happens that has this probability."""
        raise NotImplementedError

    def amount(self, label: str, bound: int) -> int:
        """How much of it happens; by default a choice like any other."""
        return self.decide(label, bound, ())


class Seeded(Decider):
    """Throws dice that a seed has loaded: every order can come, and some runs leave most as it is.

    The share of choices that are thrown for differs from seed to seed. Where a bug needs one thing
    late and all else in time, a run of few surprises is likelier to show it.
    """

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(f"chrono {seed}")
        self._rate = self.dice.choice((1.0, 1.0, 0.5, 0.25, 0.1))

    def decide(self, label: str, bound: int, who: Sequence[Any]) -> int:
        if self._rate < 1.0 and self.dice.random() >= self._rate:
            return 0
        return self.dice.randrange(bound)

    def chance(self, label: str, probability: float) -> bool:
        return self.dice.random() < probability

    def amount(self, label: str, bound: int) -> int:
        return self.dice.randrange(bound)


class Canonical(Seeded):
    """First in, first out; only faults are thrown for."""

    def __init__(self) -> None:
        super().__init__(0)

    def decide(self, label: str, bound: int, who: Sequence[Any]) -> int:
        return 0


class Prioritized(Seeded):
    """Always runs the task with the highest priority, which changes at a few moments only.

    Probabilistic concurrency testing, after Burckhardt, Kothari, Musuvathi and Nagarakatte (2010):
    a bug that needs `depth` things to come in one order is found with a probability that does not
    depend on how many other things could come in between.

    Args:
        seed: loads the dice.
        length: about how many choices a run has.
        depth: how many moments there are.
    """

    def __init__(self, seed: int, length: int, depth: int) -> None:
        super().__init__(seed)
        self._priorities: dict[Any, float] = {}
        self._changes = {self.dice.randrange(max(length, 1)) for _ in range(depth - 1)}
        self._count = 0
        self._lowest = 0.0
        self._last: Any = None
        self._in_a_row = 0

    def decide(self, label: str, bound: int, who: Sequence[Any]) -> int:
        if not who:
            return self.dice.randrange(bound)
        priorities = self._priorities
        for task in who:
            if task not in priorities:
                priorities[task] = 1.0 + self.dice.random()
        best = max(who, key=priorities.__getitem__)
        self._in_a_row = self._in_a_row + 1 if best is self._last else 0
        if self._count in self._changes or self._in_a_row > FAIR:
            self._in_a_row = 0
            self._lowest -= 1.0
            priorities[best] = self._lowest
            best = max(who, key=priorities.__getitem__)
        self._count += 1
        self._last = best
        return who.index(best)


class Delaying(Seeded):
    """First in, first out, but for a few moments at which something else comes first.

    Delay-bounded scheduling, after Emmi, Qadeer and Rakamarić (2011).

    Args:
        seed: loads the dice.
        length: about how many choices a run has.
        depth: how many moments there are at most.
    """

    def __init__(self, seed: int, length: int, depth: int) -> None:
        super().__init__(seed)
        delays = self.dice.randint(1, depth)
        self._delays = {self.dice.randrange(max(length, 1)) for _ in range(delays)}
        self._count = 0

    def decide(self, label: str, bound: int, who: Sequence[Any]) -> int:
        self._count += 1
        return self.dice.randrange(1, bound) if self._count - 1 in self._delays else 0


class Replay(Decider):
    """Decides as written down; where nothing is, as without a seed."""

    def __init__(self, values: Mapping[int, int]) -> None:
        self._values = values
        self._count = 0

    def decide(self, label: str, bound: int, who: Sequence[Any]) -> int:
        value = self._values.get(self._count, 0)
        self._count += 1
        return min(value, bound - 1)

    def chance(self, label: str, probability: float) -> bool:
        return bool(self.decide(label, 2, ()))


class Recorder:
    """Asks the decider, and writes down what was chosen."""

    def __init__(self, decider: Decider) -> None:
        self._decider = decider
        self.choices: list[Choice] = []
        # Told of each choice, for who checks it.
        self.check: Callable[[int, Choice], None] | None = None

    def choose(self, label: str, bound: int, who: Sequence[Any] = ()) -> int:
        """A number from 0 up, below the bound."""
        return self._record(label, self._decider.decide(label, bound, who), bound)

    def chance(self, label: str, probability: float) -> bool:
        """Whether something happens that has this probability."""
        if probability <= 0:
            return False
        return bool(self._record(label, int(self._decider.chance(label, probability)), 2))

    def amount(self, label: str, most: float) -> float:
        """Some of so much: more than none, and at most all of it."""
        value = self._record(label, self._decider.amount(label, STEPS), STEPS)
        return most * (value + 1) / STEPS

    def _record(self, label: str, value: int, bound: int) -> int:
        choice = Choice(label, value, bound)
        self.choices.append(choice)
        if self.check is not None:
            self.check(len(self.choices) - 1, choice)
        return value


@dataclass(frozen=True, slots=True)
class Script:
    """A run, in one line: what has to be known to play it again.

    Attributes:
        backend: on which event loop.
        seed: what `Context.rng` is made of.
        length: how many choices there were.
        shape: a check sum of all labels and bounds.
        values: position, label, value and bound of every choice that was not 0.
    """

    backend: str
    seed: int
    length: int
    shape: int
    values: tuple[tuple[int, Choice], ...]

    @staticmethod
    def of(backend: str, seed: int, choices: Sequence[Choice]) -> Script:
        """The script of these choices."""
        values = tuple((n, choice) for n, choice in enumerate(choices) if choice.value)
        return Script(backend, seed, len(choices), shape(choices), values)

    def line(self) -> str:
        """One line, without blanks or quotes."""
        head = f"{self.backend}:{self.seed}:{self.length}:{self.shape:08x}"
        return head + "".join(
            f":{n}.{choice.label}.{choice.value}.{choice.bound}" for n, choice in self.values
        )

    @staticmethod
    def parse(line: str) -> Script:
        """The script that a line stands for.

        Raises:
            ValueError: it stands for none.
        """
        try:
            backend, seed, length, check, *parts = line.strip().split(":")
            values = []
            for part in parts:
                n, label, value, bound = part.split(".")
                values.append((int(n), Choice(label, int(value), int(bound))))
            script = Script(backend, int(seed), int(length), int(check, 16), tuple(values))
        except ValueError:
            raise ValueError(
                f"{line!r} is no replay: pass the line that explore() has printed, all of it"
            ) from None
        return script


def shape(choices: Sequence[Choice]) -> int:
    """A check sum of all labels and bounds, but of no value."""
    return zlib.crc32("".join(f"{choice.label}/{choice.bound};" for choice in choices).encode())
