"""Putting items in order that come a little out of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Coroutine
from heapq import heappop, heappush
from typing import Any, Generic, Protocol, TypeVar

from chrono_core import Clock, Context, EndOfStream, ReceiveStream, SendStream
from chrono_core.lowlevel import checkpoint, wait_any

from ._common import (
    ITEMS_PER_YIELD,
    check_callable,
    check_count,
    check_receive,
    check_seconds,
    check_send,
    clock_of,
    drop_held,
    gone,
    sent,
)
from ._deadline import Deadline
from ._drops import OnDrop, ignore

T = TypeVar("T")


class _Ordered(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...


K = TypeVar("K", bound=_Ordered)


def reorder(
    ctx: Context | Clock,
    source: ReceiveStream[T],
    dest: SendStream[T],
    *,
    key: Callable[[T], K],
    max_delay: float,
    limit: int = 1024,
    on_drop: OnDrop[T] = ignore,
) -> Coroutine[Any, Any, None]:
    """Pass on items in the order of a key, holding each for a while in case a smaller one comes.

    When an item has been held for ``max_delay``, it is due: it is passed on, after all that have
    smaller keys, and before anything is taken that comes at the very instant. When ``limit`` items
    are held and another comes, the smallest of all is passed on. An item whose key is smaller than
    one that was passed on is dropped. Items with equal keys stay in the order in which they came.

    While the destination has no room, items are taken, and kept in order, up to the limit.

    When the source ends, what is held is passed on, then the destination is closed, and the call
    returns. When the destination closes, the source is closed, so that its sender is told, and the
    call returns; the items that are held are dropped. When the source or ``key`` fails, or the
    call is cancelled, nothing is closed, and the items that are held are dropped; the one on which
    ``key`` has failed is still the next of its source.

    Args:
        ctx: the daemon's context, or a clock.
        source: where to take items from.
        dest: where to send them.
        key: what to order an item by.
        max_delay: seconds from when an item is taken; infinity for as long as the limit allows.
        limit: how many items to hold at most.
        on_drop: called with an item and ``"late"``, ``"destination gone"``, ``"cancelled"`` or
            ``"failed"``.

    Raises:
        TypeError: these are not ends of channels, or there is no clock, or ``key`` is no function.
        ValueError: ``max_delay`` is negative or NaN, ``limit`` is not a whole number from 1 up, or
            a key is NaN.
    """
    clock = clock_of(ctx)
    check_receive(source, "source")
    check_send(dest, "dest")
    check_callable(key, "key")
    max_delay = check_seconds(max_delay, "max_delay")
    check_count(limit, "limit")
    check_callable(on_drop, "on_drop")
    return _Reorder(clock, source, dest, key, max_delay, limit, on_drop).run()


class _Held(Generic[T]):
    """An item that is held; smaller than another if it goes out before that."""

    __slots__ = ("due", "item", "key", "number")

    def __init__(self, item: T, key: Any, number: int, due: Deadline) -> None:
        self.item = item
        self.key = key
        self.number = number
        self.due = due

    def __lt__(self, other: _Held[T]) -> bool:
        if self.key < other.key:
            return True
        if other.key < self.key:
            return False
        return self.number < other.number


class _Reorder(Generic[T]):
    def __init__(
        self,
        clock: Clock,
        source: ReceiveStream[T],
        dest: SendStream[T],
        key: Callable[[T], Any],
        max_delay: float,
        limit: int,
        on_drop: OnDrop[T],
    ) -> None:
        self._clock = clock
        self._source = source
        self._dest = dest
        self._key = key
        self._max_delay = max_delay
        self._limit = limit
        self._on_drop = on_drop
        self._heap: list[_Held[T]] = []
        self._by_arrival: OrderedDict[int, _Held[T]] = OrderedDict()  # the same items
        self._taken = 0
        self._last: list[Any] = []  # the key of what was passed on last, if anything was

    async def run(self) -> None:
        try:
            ended = await self._pass_on()
        except BaseException as error:
            drop_held(self._in_hand(), error, self._on_drop)
            raise
        if ended:
            await self._dest.aclose()
            return
        for item in self._in_hand():
            self._on_drop(item, "destination gone")
        await self._source.aclose()

    def _in_hand(self) -> list[T]:
        return [one.item for one in self._by_arrival.values()]

    async def _pass_on(self) -> bool:
        """Pass on until an end; returns whether that is the end of the source."""
        source, dest = self._source, self._dest
        ended = False
        moved = 0
        while not gone(dest):
            oldest = next(iter(self._by_arrival.values()), None)
            due = oldest is not None and (ended or oldest.due.has_come())
            if due and dest.ready():
                if not self._send_smallest():
                    break
            elif ended:
                if not due:
                    return True
                await wait_any(dest)
                continue
            elif source.ready() and (len(self._heap) < self._limit or dest.ready()):
                try:
                    self._take()
                except EndOfStream:
                    ended = True
                    continue
                if len(self._heap) > self._limit and not self._send_smallest():
                    break
            elif source.ready():
                await wait_any(dest)
                continue
            elif due:
                await wait_any(dest, source)
                continue
            elif oldest is not None:
                await oldest.due.wait_any(source, closing=(dest,))
                continue
            else:
                await wait_any(source, closing=(dest,))
                continue
            moved += 1
            if not moved % ITEMS_PER_YIELD:
                await checkpoint()
        return False

    def _take(self) -> None:
        item = self._source.peek_nowait()
        key = self._key(item)
        if key != key:
            raise ValueError(
                f"the key of {item!r} is NaN, which has no place in any order: return a number"
            )
        late = bool(self._last) and key < self._last[0]
        one = _Held(item, key, self._taken, Deadline.after(self._clock, self._max_delay))
        if not late:
            heappush(self._heap, one)
            self._by_arrival[one.number] = one
        self._source.receive_nowait()
        self._taken += 1
        if late:
            self._on_drop(item, "late")

    def _send_smallest(self) -> bool:
        """Pass on the smallest; False where the destination has gone."""
        smallest = self._heap[0]
        if not sent(self._dest, smallest.item):
            return False
        heappop(self._heap)
        del self._by_arrival[smallest.number]
        self._last = [smallest.key]
        return True
