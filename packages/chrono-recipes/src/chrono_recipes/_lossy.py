"""Sending ends that never wait, and drop items instead."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

import anyio
from chrono_core import ChannelStats, SendStream, WouldBlock
from chrono_core.lowlevel import Waiter, checkpoint

from ._common import ITEMS_PER_YIELD, check_callable, check_send
from ._drops import OnDrop, ignore

T = TypeVar("T")


class _LossySend(SendStream[T]):
    """What such ends have in common."""

    __slots__ = ("_calls", "_dropped", "_inner", "_on_drop")

    def __init__(self, inner: SendStream[T], on_drop: OnDrop[T]) -> None:
        check_send(inner, "inner")
        check_callable(on_drop, "on_drop")
        if isinstance(inner, _LossySend):
            raise ValueError(f"inner never has to wait, so nothing is dropped here: {inner!r}")
        self._needs(inner, "ready")
        self._inner = inner
        self._on_drop = on_drop
        self._dropped = 0
        self._calls = ITEMS_PER_YIELD - 1  # that need not give way to others

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self._inner!r}, {self._dropped} dropped>"

    @property
    def dropped(self) -> int:
        """How many items were dropped so far."""
        return self._dropped

    async def send(self, item: T) -> None:
        """Send one item, without waiting for room; gives way to other tasks once in 16 calls.

        Cancelled, it has sent nothing and dropped nothing.

        Raises:
            ChannelClosed: the receiver has gone.
            EndpointClosed: this end was closed.
            ChannelInUse: another task is using this end.
        """
        if not self._calls or anyio.current_effective_deadline() == -math.inf:
            await checkpoint()
            self._calls = ITEMS_PER_YIELD
        self._calls -= 1
        self.send_nowait(item)

    @abstractmethod
    def send_nowait(self, item: T) -> None:
        """Send one item; never raises ``WouldBlock``. Raises what ``send`` raises."""

    def ready(self) -> bool:
        """Always: there is room, or what to drop."""
        return True

    def watch(self, waiter: Waiter, *, closing: bool = False) -> None:
        """Wake the waiter at once, or with ``closing`` when the receiver goes."""
        self._inner.watch(waiter, closing=closing)
        if not closing:
            waiter.wake()

    def unwatch(self, waiter: Waiter) -> None:
        """Wake the waiter no more; fine where it was not watching."""
        self._inner.unwatch(waiter)

    async def aclose(self) -> None:
        """Close the end inside; see `SendStream.aclose`."""
        await self._inner.aclose()

    def statistics(self) -> ChannelStats:
        """The figures of the channel inside: what never got into it is not among them."""
        return self._inner.statistics()

    def _needs(self, inner: SendStream[T], method: str) -> None:
        if getattr(type(inner), method) is getattr(SendStream, method):
            raise ValueError(
                f"inner must be an end that has {method}(), which {inner!r} has not: use one that "
                "has, such as that of open_channel"
            )

    def _needs_limit(self, inner: SendStream[T]) -> None:
        if inner.statistics().max_buffer_size == math.inf:
            raise ValueError(
                f"inner must be the end of a channel with a limit, or nothing is ever dropped, got "
                f"{inner!r}"
            )

    def _needs_buffer(self, inner: SendStream[T]) -> None:
        self._needs(inner, "evict_nowait")
        if inner.statistics().max_buffer_size == 0:
            raise ValueError(
                f"inner must be the end of a channel with a buffer, got {inner!r}, which is a "
                "rendezvous, where nothing waits that could be taken back: give it a maxsize"
            )

    def _drop(self, item: T, reason: str) -> None:
        self._dropped += 1
        self._on_drop(item, reason)


class DropNewestSend(_LossySend[T]):
    """A sending end that drops the new item where there is no room.

    Over a rendezvous, an item goes to a receiver that waits for it, and is dropped where none does.

    Items that were sent stay in the channel: closing and cancellation do to them what they do in
    the channel inside. When the receiver has gone, ``send`` raises, and drops nothing.

    Args:
        inner: the end to send to, which nobody else should use.
        on_drop: called with an item and ``"full"``. What it raises comes out of ``send``, when
            everything is done.

    Raises:
        TypeError: ``inner`` is not the sending end of a channel.
        ValueError: ``inner`` belongs to an unbounded channel, drops items itself, or cannot tell
            whether it has room.
    """

    __slots__ = ()

    def __init__(self, inner: SendStream[T], *, on_drop: OnDrop[T] = ignore) -> None:
        super().__init__(inner, on_drop)
        self._needs_limit(inner)

    def send_nowait(self, item: T) -> None:
        """Send one item, or drop it. Raises what ``send`` raises."""
        try:
            self._inner.send_nowait(item)
        except WouldBlock:
            self._drop(item, "full")


class DropOldestSend(_LossySend[T]):
    """A sending end that makes room by dropping the oldest item that nobody has received.

    Items that were sent stay in the channel: closing and cancellation do to them what they do in
    the channel inside. When the receiver has gone, ``send`` raises, and drops nothing.

    Args:
        inner: the end to send to, which nobody else should use.
        on_drop: called with an item and ``"oldest"``. What it raises comes out of ``send``, when
            everything is done.

    Raises:
        TypeError: ``inner`` is not the sending end of a channel.
        ValueError: ``inner`` belongs to a rendezvous or to an unbounded channel, drops items
            itself, or cannot take items back.
    """

    __slots__ = ()

    def __init__(self, inner: SendStream[T], *, on_drop: OnDrop[T] = ignore) -> None:
        super().__init__(inner, on_drop)
        self._needs_buffer(inner)
        self._needs_limit(inner)

    def send_nowait(self, item: T) -> None:
        """Send one item, and drop the oldest to make room. Raises what ``send`` raises."""
        if self._inner.ready():
            self._inner.send_nowait(item)
            return
        oldest: T = self._inner.evict_nowait()
        self._inner.send_nowait(item)
        self._drop(oldest, "oldest")


class CoalesceSend(_LossySend[T]):
    """A sending end that has one item wait at most, made of all that nobody has received.

    That is the newest, or what ``merge`` makes of it and the one that waits. So the receiver gets
    what is up to date, at its own pace. The channel may be of any size but a rendezvous.

    Items that were sent stay in the channel: closing and cancellation do to them what they do in
    the channel inside. When the receiver has gone, ``send`` raises, and drops nothing.

    Args:
        inner: the end to send to, which nobody else should use.
        merge: ``merge(waiting, new)`` returns the item that replaces both. It is called inside of
            ``send``. What it raises comes out of that, and the one that waits is left alone.
        on_drop: called with the item that waited and ``"replaced"``, or ``"merged"``. What it
            raises comes out of ``send``, when everything is done.

    Raises:
        TypeError: ``inner`` is not the sending end of a channel, or ``merge`` not a function.
        ValueError: ``inner`` belongs to a rendezvous, drops items itself, or cannot take items
            back.
    """

    __slots__ = ("_merge",)

    def __init__(
        self,
        inner: SendStream[T],
        merge: Callable[[T, T], T] | None = None,
        *,
        on_drop: OnDrop[T] = ignore,
    ) -> None:
        super().__init__(inner, on_drop)
        if merge is not None:
            check_callable(merge, "merge")
        self._needs_buffer(inner)
        self._merge = merge

    def send_nowait(self, item: T) -> None:
        """Send one item, in place of all that wait. Raises what ``send`` raises."""
        waiting = self._take_back()
        try:
            new = self._merged(waiting, item)
        except BaseException:
            for old in waiting:
                self._inner.send_nowait(old)
            raise
        self._inner.send_nowait(new)
        for old in waiting:
            self._drop(old, "replaced" if self._merge is None else "merged")

    def _take_back(self) -> list[Any]:
        """Everything that nobody has received, the oldest first."""
        waiting: list[Any] = []
        try:
            while True:
                waiting.append(self._inner.evict_nowait())
        except WouldBlock:
            return waiting

    def _merged(self, waiting: list[T], item: T) -> T:
        if self._merge is None or not waiting:
            return item
        merged, *others = *waiting, item
        for new in others:
            merged = self._merge(merged, new)
        return merged
