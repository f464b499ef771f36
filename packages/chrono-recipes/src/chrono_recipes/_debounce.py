"""Passing on the last item of a burst."""

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
    drop_held,
    gone,
    sent,
)
from ._deadline import Deadline
from ._drops import OnDrop, ignore

T = TypeVar("T")


def debounce(
    ctx: Context | Clock,
    source: ReceiveStream[T],
    dest: SendStream[T],
    *,
    quiet: float,
    on_drop: OnDrop[T] = ignore,
) -> Coroutine[Any, Any, None]:
    """Pass on the newest item when nothing has come after it for a while.

    An item is taken when it comes, and held. The next one takes its place, and the time begins
    anew. When the time is over, the item is due: one that comes at the very instant is too late to
    take its place. While an item is due and the destination has no room, nothing is taken.

    When the source ends, the item that is held is passed on, then the destination is closed, and
    the call returns. When the destination closes, the source is closed, so that its sender is
    told, and the call returns; the item that is held is dropped. When the source fails, or the
    call is cancelled, nothing is closed, and the item that is held is dropped.

    Args:
        ctx: the daemon's context, or a clock.
        source: where to take items from.
        dest: where to send them.
        quiet: seconds; 0 passes everything, infinity only the last item.
        on_drop: called with an item and ``"superseded"``, ``"destination gone"``, ``"cancelled"``
            or ``"failed"``.

    Raises:
        TypeError: these are not ends of channels, or there is no clock.
        ValueError: ``quiet`` is negative or NaN.

    This is ``debounce`` of ReactiveX.
    """
    clock = clock_of(ctx)
    check_receive(source, "source")
    check_send(dest, "dest")
    check_callable(on_drop, "on_drop")
    return _debounce(clock, source, dest, check_seconds(quiet, "quiet"), on_drop)


async def _debounce(
    clock: Clock,
    source: ReceiveStream[T],
    dest: SendStream[T],
    quiet: float,
    on_drop: OnDrop[T],
) -> None:
    held: list[T] = []  # one item at most
    due = Deadline(clock, None)
    ended = False
    moved = 0
    try:
        while not gone(dest):
            if held and (ended or due.has_come()):
                if not dest.ready():
                    await wait_any(dest)
                    continue
                if not sent(dest, held[0]):
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
                before = held
                try:
                    held = [source.receive_nowait()]
                except EndOfStream:
                    ended = True
                    continue
                due = Deadline.after(clock, quiet)
                for item in before:
                    on_drop(item, "superseded")
            moved += 1
            if not moved % ITEMS_PER_YIELD:
                await checkpoint()
    except BaseException as error:
        drop_held(held, error, on_drop)
        raise
    for item in held:
        on_drop(item, "destination gone")
    await source.aclose()
