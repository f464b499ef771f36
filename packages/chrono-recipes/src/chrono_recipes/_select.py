"""Whichever of several receivers has an item first."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Generic, TypeVar

from chrono_core import EndOfStream, ReceiveStream
from chrono_core.lowlevel import checkpoint, wait_any

from ._common import ITEMS_PER_YIELD, check_distinct, check_receive
from ._exceptions import ReceiverEnded

T = TypeVar("T")


class select(Generic[T]):
    """Receive from whichever of several receivers has an item first.

    ``index, item = await select(a, b)`` takes one item. Keep the object to take more: then
    receivers that have items take turns, and ``async for index, item in select(a, b)`` runs until
    all have ended. Between calls, the receivers may be used by others.

    No item is lost: one is taken in the step that returns it, and none when cancelled. Every call
    that has to wait can be cancelled, and of those that need not wait one in 16.

    A receiver that has ended is left out from then on. A single ``await`` says so by
    `ReceiverEnded`; the loop goes on with the others. When a receiver fails, its error is raised,
    and the others are as they were. Nothing is ever closed.

    Args:
        receivers: what to receive from.

    Raises:
        TypeError: these are not receiving ends of channels.
        ValueError: there is none, or one comes twice.
        ReceiverEnded: one of them has ended; raised by ``await``, once for each.
        EndOfStream: all of them have ended before.
        ChannelInUse: another task is using one of them.
    """

    __slots__ = ("_calls", "_live", "_receivers", "_turn", "ended")

    def __init__(self, *receivers: ReceiveStream[T]) -> None:
        for receiver in receivers:
            check_receive(receiver, "each receiver")
        check_distinct(receivers, "receivers")
        self._receivers = receivers
        self._live = list(range(len(receivers)))
        self._turn = 0
        self._calls = ITEMS_PER_YIELD  # that may be answered without giving way to others
        self.ended: tuple[int, ...] = ()
        """Which receivers have ended, in the order in which that was seen."""

    def __await__(self) -> Generator[Any, Any, tuple[int, T]]:
        return self._next().__await__()

    def __aiter__(self) -> select[T]:
        return self

    async def __anext__(self) -> tuple[int, T]:
        while True:
            try:
                taken = self._poll()
                return await self._next() if taken is None else taken
            except ReceiverEnded:
                continue
            except EndOfStream:
                raise StopAsyncIteration from None

    async def _next(self) -> tuple[int, T]:
        if not self._calls:
            await checkpoint()
            self._calls = ITEMS_PER_YIELD
        while (taken := self._poll()) is None:
            await wait_any(*(self._receivers[index] for index in self._live))
        return taken

    def _poll(self) -> tuple[int, T] | None:
        """Take an item; None where there is none, or it is time to give way to others."""
        if not self._calls:
            return None
        live = self._live
        for n in range(self._turn, self._turn + len(live)):
            place = n % len(live)
            index = live[place]
            receiver = self._receivers[index]
            if receiver.ready():
                self._turn = place + 1  # also where it fails: the others have their turns
                try:
                    item = receiver.receive_nowait()
                except EndOfStream as end:
                    raise self._forget(place, end) from None
                self._calls -= 1
                return index, item
        if not live:
            raise EndOfStream("every receiver of this select has ended", channel="select")
        return None

    def _forget(self, place: int, end: EndOfStream) -> ReceiverEnded:
        index = self._live.pop(place)
        self._turn = place
        self.ended += (index,)
        return ReceiverEnded(
            f"receiver {index} of this select has ended: {end}", channel=end.channel, index=index
        )
