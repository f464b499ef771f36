"""Noticing that a source is silent."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
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

T = TypeVar("T")


def timeout_items(
    ctx: Context | Clock,
    source: ReceiveStream[T],
    dest: SendStream[T],
    *,
    seconds: float,
    on_timeout: Callable[[], T] | None = None,
) -> Coroutine[Any, Any, None]:
    """Pass on items, and raise or send something else where none comes for a while.

    The time begins with the call, and anew whenever an item was passed on. An item that comes at
    the very instant at which the time is over is too late, and is passed on as the next. One that
    waits in its source for room in the destination has come.

    When the destination closes, the source is closed, so that its sender is told, and the call
    returns. When the source ends, the destination is closed, and the call returns. When the source
    fails, its error is raised. Then, on a timeout that is raised, and when cancelled, nothing is
    closed and nothing is lost.

    Args:
        ctx: the daemon's context, or a clock.
        source: where to take items from.
        dest: where to send them.
        seconds: for how long no item may come.
        on_timeout: makes the item to send where none has come, whereupon the time begins anew. It
            is called when the destination has room; where an item has come by then, that is
            passed on instead.

    Raises:
        TypeError: these are not ends of channels, or there is no clock, or ``on_timeout`` is no
            function.
        ValueError: ``seconds`` is not positive.
        TimeoutError: no item came for so long, and there is no ``on_timeout``.
    """
    clock = clock_of(ctx)
    check_receive(source, "source")
    check_send(dest, "dest")
    seconds = check_seconds(seconds, "seconds", positive=True)
    if on_timeout is not None:
        check_callable(on_timeout, "on_timeout")
    return _timeout_items(clock, source, dest, seconds, on_timeout)


async def _timeout_items(
    clock: Clock,
    source: ReceiveStream[T],
    dest: SendStream[T],
    seconds: float,
    on_timeout: Callable[[], T] | None,
) -> None:
    due = Deadline.after(clock, seconds)
    in_time = False  # what the source has now
    moved = 0
    while not gone(dest):
        # Where this task was kept from running until after the instant, the item goes first.
        in_time = source.ready() and (in_time or not due.has_come() or due.is_past())
        if in_time:
            make = source.peek_nowait
            try:
                make()
            except EndOfStream:
                await dest.aclose()
                return
        elif not due.has_come():
            await due.wait_any(source, closing=(dest,))
            continue
        elif on_timeout is None:
            raise TimeoutError(f"no item has come from {source!r} for {seconds!r} s")
        else:
            make = on_timeout
        if not dest.ready():
            await wait_any(dest)
            continue
        if not sent(dest, make()):
            break
        if in_time:
            source.receive_nowait()
        due = Deadline.after(clock, seconds)
        in_time = False
        moved += 1
        if not moved % ITEMS_PER_YIELD:
            await checkpoint()
    await source.aclose()
