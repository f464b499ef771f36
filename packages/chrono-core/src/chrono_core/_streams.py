"""The two ends of a channel, as anything may implement them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

from ._exceptions import EndOfStream, WouldBlock

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)


def check_max_items(max_items: object) -> None:
    """Refuse a number of items to receive that is none."""
    if isinstance(max_items, bool) or not isinstance(max_items, int) or max_items < 1:
        raise ValueError(f"max_items must be a whole number from 1 up, got {max_items!r}")


@dataclass(frozen=True, slots=True)
class ChannelStats:
    """What a channel holds and has moved, at one moment. Counts are items; -1 is "not known".

    Attributes:
        current_buffer_used: items sent and not yet received.
        max_buffer_size: the channel's ``maxsize``; ``math.inf`` where unbounded.
        open_send_streams: 1 while the sending end is open, else 0.
        open_receive_streams: 1 while the receiving end is open, else 0.
        waiters_send: 1 while a ``send`` is blocked, else 0.
        waiters_receive: 1 while a ``receive`` is blocked, else 0.
        sent: items accepted from the sender so far.
        received: items handed to the receiver so far.
        discarded: items accepted and never received, because the receiver closed.
        high_water: the most items that were ever buffered at once.
    """

    current_buffer_used: int
    max_buffer_size: float
    open_send_streams: int
    open_receive_streams: int
    waiters_send: int
    waiters_receive: int
    sent: int = -1
    received: int = -1
    discarded: int = -1
    high_water: int = -1


class SendStream(ABC, Generic[T_contra]):
    """The sending end of a channel: one producer at a time.

    Subclasses implement ``send``, ``send_nowait``, ``aclose`` and ``statistics``; the rest
    follows from these. Leaving ``async with stream:`` closes it.
    """

    __slots__ = ()

    @abstractmethod
    async def send(self, item: T_contra) -> None:
        """Send one item, waiting for room.

        Cancelled, it raises if and only if the item was not delivered.

        Raises:
            ChannelClosed: the receiver has gone.
            EndpointClosed: this end was closed.
            ChannelInUse: another task is using this end.
        """

    @abstractmethod
    def send_nowait(self, item: T_contra) -> None:
        """Send one item without waiting.

        Raises:
            WouldBlock: there is no room (for a rendezvous: no receiver waits).
            ChannelClosed: the receiver has gone.
            EndpointClosed: this end was closed.
            ChannelInUse: another task is using this end.
        """

    async def send_many(self, items: Iterable[T_contra]) -> None:
        """Send items in order, waiting for room as needed.

        Cancelled or failing part-way, a prefix was delivered; ``statistics().sent`` tells how
        long it is. Raises what ``send`` raises.
        """
        for item in items:
            await self.send(item)

    @abstractmethod
    async def aclose(self) -> None:
        """Close this end: what is buffered can still be received, then the stream ends.

        Closing twice is fine. The close takes effect even when the call is cancelled.
        """

    @abstractmethod
    def statistics(self) -> ChannelStats:
        """The channel's figures now."""

    async def __aenter__(self) -> SendStream[T_contra]:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.aclose()


class ReceiveStream(ABC, Generic[T_co]):
    """The receiving end of a channel: one consumer at a time.

    Subclasses implement ``receive``, ``receive_nowait``, ``aclose`` and ``statistics``; the
    rest follows from these. ``async for`` runs to the end of the stream and leaves nothing
    behind when left early. Leaving ``async with stream:`` closes it.
    """

    __slots__ = ()

    @abstractmethod
    async def receive(self) -> T_co:
        """Receive the next item, waiting for one.

        Cancelled, it has taken nothing: the item is there for the next call.

        Raises:
            EndOfStream: the sender closed and everything was received.
            EndpointClosed: this end was closed.
            ChannelInUse: another task is using this end.
        """

    @abstractmethod
    def receive_nowait(self) -> T_co:
        """Receive the next item without waiting.

        Raises:
            WouldBlock: there is no item.
            EndOfStream: the sender closed and everything was received.
            EndpointClosed: this end was closed.
            ChannelInUse: another task is using this end.
        """

    async def receive_many(self, max_items: int) -> list[T_co]:
        """Wait for one item, then take what else is there, up to ``max_items`` in all.

        Cancelled, it has taken nothing. Raises what ``receive`` raises, and ``ValueError``
        where ``max_items`` is below 1.
        """
        check_max_items(max_items)
        items = [await self.receive()]
        try:
            while len(items) < max_items:
                items.append(self.receive_nowait())
        except (WouldBlock, EndOfStream):
            pass
        return items

    @abstractmethod
    async def aclose(self) -> None:
        """Close this end: whoever sends is told ``ChannelClosed``.

        Items never taken are counted in ``statistics().discarded``. Closing twice is fine.
        The close takes effect even when the call is cancelled.
        """

    @abstractmethod
    def statistics(self) -> ChannelStats:
        """The channel's figures now."""

    def __aiter__(self) -> AsyncIterator[T_co]:
        return self

    async def __anext__(self) -> T_co:
        try:
            return await self.receive()
        except EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> ReceiveStream[T_co]:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.aclose()
