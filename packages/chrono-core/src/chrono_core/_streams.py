"""The two ends of a channel, as anything may implement them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, NoReturn, TypeVar

from ._backends import Waiter
from ._exceptions import EndOfStream, WouldBlock

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)


def check_max_items(max_items: object) -> None:
    """Refuse a number of items to receive that is none."""
    if isinstance(max_items, bool) or not isinstance(max_items, int) or max_items < 1:
        raise ValueError(f"max_items must be a whole number from 1 up, got {max_items!r}")


def _missing(end: object, what: str) -> NoReturn:
    raise NotImplementedError(f"{type(end).__name__} has no {what}, which this needs")


@dataclass(frozen=True, slots=True)
class ChannelStats:
    """What a channel holds and has moved, at one moment. Counts are items; -1 is "not known".

    Attributes:
        current_buffer_used: items sent and not yet received.
        max_buffer_size: the channel's ``maxsize``; ``math.inf`` where unbounded.
        open_send_streams: 1 while the sending end is open, else 0.
        open_receive_streams: 1 while the receiving end is open, else 0.
        waiters_send: 1 while a task is blocked in a ``send`` or watches the sending end, else 0.
        waiters_receive: 1 while a task is blocked in a ``receive`` or watches the receiving end,
            else 0.
        sent: items accepted from the sender so far.
        received: items handed to the receiver so far.
        discarded: items accepted and never received, because the receiver closed or the sender
            took them back.
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

    Subclasses implement ``send``, ``send_nowait``, ``aclose`` and ``statistics``, and, where
    several ends are to be waited for at once, ``ready``, ``watch`` and ``unwatch``; the rest
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

    def ready(self) -> bool:
        """Whether ``send_nowait`` would do anything but raise ``WouldBlock``.

        So it is true where either end is closed. It does not tell whether another task is using
        this end.

        Raises:
            NotImplementedError: this end cannot tell.
        """
        _missing(self, "ready()")

    def watch(self, waiter: Waiter, *, closing: bool = False) -> None:
        """Have the waiter woken whenever ``ready`` may have become true; see `lowlevel.wait_any`.

        Until ``unwatch``, this end is in use by the waiter's task. Nothing is sent. At a rendezvous
        it is ready while somebody waits to receive, which includes whoever watches the other end;
        a receiver that only polls is never met this way.

        Args:
            waiter: whom to wake.
            closing: wake it only when either end is closed, or at once where one is, and leave this
                one to others meanwhile. Any number of waiters may do so.

        Raises:
            ChannelInUse: another task is using this end; not where ``closing``.
            NotImplementedError: this end cannot be watched.
        """
        _missing(self, "watch() and unwatch()")

    def unwatch(self, waiter: Waiter) -> None:
        """Wake the waiter no more; fine where it was not watching."""
        _missing(self, "watch() and unwatch()")

    def evict_nowait(self) -> Any:
        """Take back the oldest item that was sent and not received, and return it.

        It counts as discarded, and makes room for another.

        Raises:
            WouldBlock: nothing waits to be received.
            ChannelClosed: the receiver has gone.
            EndpointClosed: this end was closed.
            ChannelInUse: another task is using this end.
            NotImplementedError: what this end has sent cannot be taken back.
        """
        _missing(self, "evict_nowait()")

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

    Subclasses implement ``receive``, ``receive_nowait``, ``aclose`` and ``statistics``, and, where
    several ends are to be waited for at once, ``ready``, ``peek_nowait``, ``watch`` and
    ``unwatch``; the rest follows from these. ``async for`` runs to the end of the stream and
    leaves nothing behind when left early. Leaving ``async with stream:`` closes it.
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

    def ready(self) -> bool:
        """Whether ``receive_nowait`` would do anything but raise ``WouldBlock``.

        So it is true where the stream has ended or this end is closed. It does not tell whether
        another task is using this end.

        Raises:
            NotImplementedError: this end cannot tell.
        """
        _missing(self, "ready()")

    def peek_nowait(self) -> T_co:
        """Return the item that ``receive_nowait`` would, and leave it there.

        It may be gone after the next ``await``: a sender can take back what it has sent, and at a
        rendezvous what it offers ends with its cancellation.

        Raises what ``receive_nowait`` raises, and ``NotImplementedError`` where this end cannot
        look ahead.
        """
        _missing(self, "peek_nowait()")

    def watch(self, waiter: Waiter) -> None:
        """Have the waiter woken whenever ``ready`` may have become true; see `lowlevel.wait_any`.

        Until ``unwatch``, this end is in use by the waiter's task, which counts as one that waits
        to receive: at a rendezvous, ``send_nowait`` may hand it an item. Nothing is taken.

        Raises:
            ChannelInUse: another task is using this end.
            NotImplementedError: this end cannot be watched.
        """
        _missing(self, "watch() and unwatch()")

    def unwatch(self, waiter: Waiter) -> None:
        """Wake the waiter no more; fine where it was not watching."""
        _missing(self, "watch() and unwatch()")

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
