"""Making a run that fails simpler."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ._choices import Choice

Attempt = Callable[[dict[int, int]], tuple[Choice, ...] | None]


def shrink(choices: Sequence[Choice], attempt: Attempt, budget: int) -> tuple[Choice, ...]:
    """The simplest run found that fails alike: as few choices other than 0 as can be, and small.

    Delta debugging, after Zeller and Hildebrandt (2002), towards the run without a seed.

    Args:
        choices: the run.
        attempt: plays a run with some choices, by position, and returns what was chosen in it where
            it fails alike.
        budget: how many attempts there may be.
    """
    shrinker = _Shrinker(tuple(choices), attempt, budget)
    shrinker.drop_all()
    before = None
    while before != shrinker.weight:
        before = shrinker.weight
        shrinker.drop()
        shrinker.lower()
    return shrinker.best


class _Shrinker:
    def __init__(self, choices: tuple[Choice, ...], attempt: Attempt, budget: int) -> None:
        self.best = choices
        self._attempt = attempt
        self._budget = budget

    @property
    def values(self) -> dict[int, int]:
        return {n: choice.value for n, choice in enumerate(self.best) if choice.value}

    @property
    def weight(self) -> tuple[int, int, int]:
        return _weight(self.best)

    def _try(self, values: dict[int, int]) -> bool:
        if self._budget <= 0:
            return False
        self._budget -= 1
        found = self._attempt(values)
        if found is None or _weight(found) >= self.weight:
            return False
        self.best = found
        return True

    def drop_all(self) -> None:
        if self.values:
            self._try({})

    def drop(self) -> None:
        """Leave out some choices, many at once first."""
        size = max(1, len(self.values) // 2)
        while True:
            position = 0
            while position < len(self.values):
                keys = list(self.values)
                kept = keys[:position] + keys[position + size :]
                values = self.values
                if not self._try({key: values[key] for key in kept}):
                    position += size
            if size == 1:
                return
            size //= 2

    def lower(self) -> None:
        """Make what is left smaller."""
        for position in list(self.values):
            value = self.values.get(position, 0)
            for smaller in dict.fromkeys((1, value // 2, value - 1)):
                if 0 < smaller < value and self._try(self.values | {position: smaller}):
                    break


def _weight(choices: Sequence[Choice]) -> tuple[int, int, int]:
    values = [choice.value for choice in choices if choice.value]
    return len(values), sum(values), len(choices)
