"""Gathering items in lists."""

from __future__ import annotations

import math
from collections.abc import Coroutine
from typing import Any, TypeVar

from chrono_core import Clock, Context, ReceiveStream, SendStream

from ._common import (
    check_callable,
    check_count,
    check_receive,
    check_seconds,
    check_send,
    clock_of,
)
from ._drops import OnDrop, ignore
from ._holding import Holding

T = TypeVar("T")


def window(
    ctx: Context | Clock,
    source: ReceiveStream[T],
    dest: SendStream[list[T]],
    *,
    count: int | None = None,
    seconds: float | None = None,
    on_drop: OnDrop[T] = ignore,
) -> Coroutine[Any, Any, None]:
    """Gather items in lists, and send each list when it is full or its time is over.

    A list begins when its first item is taken, and never is empty. An item that comes at the very
    instant at which the time is over belongs to the next list. While a list is due and the
    destination has no room, nothing is taken.

    When the source ends, the list that was begun is sent, then the destination is closed, and the
    call returns. When the destination closes, the source is closed, so that its sender is told,
    and the call returns; the items that are held are dropped. When the source fails, or the call
    is cancelled, nothing is closed, and the items that are held are dropped.

    Args:
        ctx: the daemon's context, or a clock.
        source: where to take items from.
        dest: where to send the lists.
        count: how many items a list has at most; any number where not given.
        seconds: after so many seconds, a list is sent; never where not given.
        on_drop: called with an item and ``"destination gone"``, ``"cancelled"`` or ``"failed"``.

    Raises:
        TypeError: these are not ends of channels, or there is no clock, or neither ``count`` nor
            ``seconds`` is given.
        ValueError: ``count`` is not a whole number from 1 up, or ``seconds`` is not positive.
    """
    clock = clock_of(ctx)
    check_receive(source, "source")
    check_send(dest, "dest")
    check_callable(on_drop, "on_drop")
    if count is None and seconds is None:
        raise TypeError("window needs count or seconds, or both: a list would never be sent")
    if count is not None:
        check_count(count, "count")
    limit = math.inf if seconds is None else check_seconds(seconds, "seconds", positive=True)
    return _List(clock, limit, on_drop, math.inf if count is None else count).run(source, dest)


class _List(Holding[T]):
    """Holds so many items at most, for so long from the first on."""

    def __init__(self, clock: Clock, seconds: float, on_drop: OnDrop[T], count: float) -> None:
        super().__init__(clock, seconds, on_drop)
        self._count = count

    def add(self, item: T) -> None:
        self._held.append(item)
        if len(self._held) == 1:
            self.begin_time()

    def made(self) -> list[T]:
        return self._held

    def is_due(self) -> bool:
        return len(self._held) >= self._count or super().is_due()
