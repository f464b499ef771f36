"""Counting what was dropped, and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

OnDrop = Callable[[T, str], object]
"""Is called with an item that was dropped, and with the reason."""


class Drops:
    """Counts dropped items by their reasons; give it to a recipe as ``on_drop``.

    Attributes:
        by_reason: how many items were dropped for each reason.
    """

    def __init__(self) -> None:
        self.by_reason: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Drops {self.by_reason}>"

    def __call__(self, item: object, reason: str) -> None:
        """Count one item."""
        self.by_reason[reason] = self.by_reason.get(reason, 0) + 1

    @property
    def total(self) -> int:
        """How many items were dropped in all."""
        return sum(self.by_reason.values())


def ignore(item: object, reason: str) -> None:
    """What happens to dropped items that nobody asks for."""
