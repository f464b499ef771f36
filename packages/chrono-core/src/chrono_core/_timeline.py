"""Simulated time itself: where it stands, and what waits for it."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, Protocol

from ._time import to_seconds

# Below so many cancelled sleepers, sorting them out is not worth it.
FEW = 64


class Sleeping(Protocol):
    """What waits for time: a parked task, or a timeout around one."""

    task: Any

    @property
    def parked(self) -> bool: ...

    def wake(self) -> bool: ...


class Timeline:
    """Integer nanoseconds, and a heap of (deadline, number, who).

    Equal deadlines wake in the order of their numbers. Sleepers who were cancelled stay in the
    heap until there are too many of them.
    """

    __slots__ = ("_cancelled", "_heap", "_numbers", "choose", "driver", "holds", "now")

    def __init__(self, now: int) -> None:
        self.now = now
        # How many hold it where it stands, and which task moves it.
        self.holds = 0
        self.driver: Any = None
        # Decides which of equal deadlines wakes first, where that is not their numbers.
        self.choose: Callable[[str, int], int] | None = None
        self._heap: list[tuple[int, int, Sleeping]] = []
        self._numbers = count()
        self._cancelled = 0

    def number(self) -> int:
        """A number greater than all before."""
        return next(self._numbers)

    def add(self, deadline: int, number: int, who: Sleeping) -> None:
        """Somebody sleeps."""
        heappush(self._heap, (deadline, number, who))

    def push(self, deadline: int, who: Sleeping) -> None:
        """Somebody sleeps, who comes after all before."""
        heappush(self._heap, (deadline, next(self._numbers), who))

    def forget_one(self) -> None:
        """Somebody who sleeps was cancelled."""
        self._cancelled += 1
        if self._cancelled > FEW and 2 * self._cancelled > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].parked]
            heapify(self._heap)
            self._cancelled = 0

    def forget_all(self) -> None:
        """Everybody who sleeps is gone, with the event loop."""
        self._heap.clear()
        self._cancelled = 0
        self.driver = None

    def next_deadline(self) -> int | None:
        """The deadline of whoever is next to wake."""
        heap = self._heap
        while heap:
            if heap[0][2].parked:
                return heap[0][0]
            heappop(heap)
            self._cancelled -= 1
        return None

    def wake_next(self, last: int | None) -> bool:
        """Move to the next deadline, unless that is after the last, and wake who has it."""
        if self.choose is not None:
            return self._wake_chosen(self.choose, last)
        heap = self._heap
        while heap and (last is None or heap[0][0] <= last):
            deadline, _, who = heappop(heap)
            if who.wake():
                if deadline > self.now:
                    self.now = deadline
                return True
            self._cancelled -= 1
        return False

    def _wake_chosen(self, choose: Callable[[str, int], int], last: int | None) -> bool:
        deadline = self.next_deadline()
        if deadline is None or (last is not None and deadline > last):
            return False
        tied = []
        heap = self._heap
        while self.next_deadline() == deadline:
            tied.append(heappop(heap))
        woken = False
        while tied:
            entry = tied.pop(choose("timer", len(tied)) if len(tied) > 1 else 0)
            self.now = max(self.now, deadline)
            woken |= entry[2].wake()
            if tied and not choose("together", 2):
                break
        for entry in tied:
            heappush(heap, entry)
        return woken or self._wake_chosen(choose, last)

    def move_to(self, target: int) -> None:
        """Move, where nobody wakes before."""
        self.now = max(self.now, target)

    def sleepers(self) -> list[tuple[int, Sleeping]]:
        """Deadlines and who has them, in the order in which they will wake."""
        entries = sorted(self._heap, key=lambda entry: entry[:2])
        return [(deadline, who) for deadline, _, who in entries if who.parked]


class Until:
    """What a sleeper waits on; made into words when somebody asks."""

    __slots__ = ("_deadline",)

    def __init__(self, deadline: int) -> None:
        self._deadline = deadline

    def __str__(self) -> str:
        return f"clock until {to_seconds(self._deadline)!r}"
