"""Several tasks that send to one end."""

from __future__ import annotations

from collections import deque
from typing import Any, Generic, TypeVar

from chrono_core import SendStream
from chrono_core.lowlevel import Waiter, new_waiter, wait_any

from ._common import GONE

T = TypeVar("T")


class SharedSend(Generic[T]):
    """Lets several tasks send to one end, in the order in which they come.

    Who stands first sends for all that wait, as far as there is room: to have each send for itself
    would take a round of the scheduler for each item.
    """

    __slots__ = ("_dest", "_line", "_subject")

    def __init__(self, dest: SendStream[T]) -> None:
        self._dest = dest
        self._line: deque[_Place] = deque()
        self._subject = f"its turn at {dest!r}"

    async def send(self, item: T) -> None:
        """Send an item; gives way to other tasks only where it has to wait.

        Cancelled by anyio, it raises if and only if the item was not delivered.

        Raises:
            ChannelClosed: the receiver has gone.
            EndpointClosed: the end was closed.
        """
        if not self._line and self._dest.ready():
            self._dest.send_nowait(item)
            return
        place = _Place(item)
        self._line.append(place)
        try:
            while not place.sent:
                if self._line[0] is not place:
                    await place.wait(self._subject)
                elif self._dest.ready():
                    self._send_all()
                else:
                    await wait_any(self._dest)
        finally:
            if not place.sent:
                self._line.remove(place)
            if self._line:
                self._line[0].wake()

    def _send_all(self) -> None:
        """Send the first item, and what else there is room for."""
        mine = self._line[0]
        while self._line and self._dest.ready():
            place = self._line[0]
            try:
                self._dest.send_nowait(place.item)
            except GONE:
                if place is mine:
                    raise
                return  # whose item it is finds out by itself
            self._line.popleft()
            place.sent = True
            place.wake()


class _Place:
    """One item that waits to be sent, and who waits for that."""

    __slots__ = ("item", "sent", "waiter")

    def __init__(self, item: Any) -> None:
        self.item = item
        self.sent = False
        self.waiter: Waiter | None = None

    async def wait(self, subject: str) -> None:
        self.waiter = new_waiter(subject)
        await self.waiter

    def wake(self) -> None:
        if self.waiter is not None:
            self.waiter.wake()
