"""Passing on at most one item in a while."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from chrono_core import Clock, Context, EndOfStream, ReceiveStream, SendStream
from chrono_core.lowlevel import checkpoint, wait_any

from ._common import (
    ITEMS_PER_YIELD,
    check_callable,
    check_receive,
    check_seconds,
    check_send,
    clock_of,
    gone,
    sent,
)
from ._deadline import Deadline
from ._drops import OnDrop, ignore

T = TypeVar("T")


def throttle(
    ctx: Context | Clock,
    source: ReceiveStream[T],
    dest: SendStream[T],
    *,
    interval: float,
    on_drop: OnDrop[T] = ignore,
) -> Coroutine[Any, Any, None]:
    """Pass on an item, and drop those that follow it within an interval.

    The first item passes at once, as does the first that comes when the interval is over; one that
    comes at the very instant at which it is over passes. The interval begins when an item is
    passed on. An item that is due stays in its source until the destination has room.

    When the destination closes, the source is closed, so that its sender is told, and the call
    returns. When the source ends, the destination is closed, and the call returns. When the source
    fails, its error is raised. Then, and when cancelled, nothing is closed and nothing is lost.

    Args:
        ctx: the daemon's context, or a clock.
        source: where to take items from.
        dest: where to send them.
        interval: seconds; 0 passes everything, infinity only the first item.
        on_drop: called with an item and ``"too soon"``.

    Raises:
        TypeError: these are not ends of channels, or there is no clock.
        ValueError: ``interval`` is negative or NaN.

    This is ``throttleFirst`` of ReactiveX.
    """
    clock = clock_of(ctx)
    check_receive(source, "source")
    check_send(dest, "dest")
    check_callable(on_drop, "on_drop")
    return _throttle(clock, source, dest, check_seconds(interval, "interval"), on_drop)


async def _throttle(
    clock: Clock,
    source: ReceiveStream[T],
    dest: SendStream[T],
    interval: float,
    on_drop: OnDrop[T],
) -> None:
    interval_over: Deadline | None = None
    moved = 0
    while not gone(dest):
        if not source.ready():
            await wait_any(source, closing=(dest,))
            continue
        try:
            item = source.peek_nowait()
        except EndOfStream:
            await dest.aclose()
            return
        if interval_over is not None and not interval_over.has_come():
            source.receive_nowait()
            on_drop(item, "too soon")
        elif not dest.ready():
            await wait_any(dest)
            continue
        elif not sent(dest, item):
            break
        else:
            source.receive_nowait()
            interval_over = Deadline.after(clock, interval)
        moved += 1
        if not moved % ITEMS_PER_YIELD:
            await checkpoint()
    await source.aclose()
