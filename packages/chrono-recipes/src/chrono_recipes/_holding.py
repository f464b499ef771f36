"""Holding items until they are due."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from chrono_core import Clock, EndOfStream, ReceiveStream, SendStream
from chrono_core.lowlevel import checkpoint, wait_any

from ._common import ITEMS_PER_YIELD, drop_held, gone, sent
from ._deadline import Deadline
from ._drops import OnDrop

T = TypeVar("T")


class Holding(ABC, Generic[T]):
    """Takes items from a source, holds them, and sends what it makes of them when it is due."""

    def __init__(self, clock: Clock, seconds: float, on_drop: OnDrop[T]) -> None:
        self._clock = clock
        self._seconds = seconds
        self._on_drop = on_drop
        self._held: list[T] = []
        self._due = Deadline(clock, None)

    @abstractmethod
    def add(self, item: T) -> None:
        """Hold an item that was just taken."""

    @abstractmethod
    def made(self) -> Any:
        """What to send, where something is held."""

    def is_due(self) -> bool:
        """Whether to send what is held."""
        return self._due.has_come()

    def begin_time(self) -> None:
        """From now on, the time runs after which what is held is due."""
        self._due = Deadline.after(self._clock, self._seconds)

    async def run(self, source: ReceiveStream[T], dest: SendStream[Any]) -> None:
        """Hold and send until an end."""
        ended = False
        moved = 0
        try:
            while not gone(dest):
                if self._held and (ended or self.is_due()):
                    if not dest.ready():
                        await wait_any(dest)
                        continue
                    if not sent(dest, self.made()):
                        break
                    self._held = []
                    self._due = Deadline(self._clock, None)
                elif ended:
                    await dest.aclose()
                    return
                elif not source.ready():
                    await self._due.wait_any(source, closing=(dest,))
                    continue
                else:
                    try:
                        item = source.receive_nowait()
                    except EndOfStream:
                        ended = True
                        continue
                    self.add(item)
                moved += 1
                if not moved % ITEMS_PER_YIELD:
                    await checkpoint()
        except BaseException as error:
            drop_held(self._held, error, self._on_drop)
            raise
        for item in self._held:
            self._on_drop(item, "destination gone")
        await source.aclose()
