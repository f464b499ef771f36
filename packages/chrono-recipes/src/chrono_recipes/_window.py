"""Gathering items in lists."""

from __future__ import annotations

import math
from collections.abc import Coroutine
from typing import Any, TypeVar

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
    return _window(clock, source, dest, math.inf if count is None else count, limit, on_drop)


async def _window(
    clock: Clock,
    source: ReceiveStream[T],
    dest: SendStream[list[T]],
    count: float,
    seconds: float,
    on_drop: OnDrop[T],
) -> None:
    held: list[T] = []
    due = Deadline(clock, None)
    ended = False
    moved = 0
    try:
        while not gone(dest):
            if held and (ended or len(held) >= count or due.has_come()):
                if not dest.ready():
                    await wait_any(dest)
                    continue
                if not sent(dest, held):
                    break
                held = []
                due = Deadline(clock, None)
            elif ended:
                await dest.aclose()
                return
            elif not source.ready():
                await due.wait_any(source, closing=(dest,))
                continue
            else:
                try:
                    held.append(source.receive_nowait())
                except EndOfStream:
                    ended = True
                    continue
                if len(held) == 1:
                    due = Deadline.after(clock, seconds)
            moved += 1
            if not moved % ITEMS_PER_YIELD:
                await checkpoint()
    except BaseException as error:
        drop_held(held, error, on_drop)
        raise
    for item in held:
        on_drop(item, "destination gone")
    await source.aclose()
