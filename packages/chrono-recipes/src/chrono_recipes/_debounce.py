"""Passing on the last item of a burst."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from chrono_core import Clock, Context, ReceiveStream, SendStream

from ._common import check_callable, check_receive, check_seconds, check_send, clock_of
from ._drops import OnDrop, ignore
from ._holding import Holding

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
    return _Newest(clock, check_seconds(quiet, "quiet"), on_drop).run(source, dest)


class _Newest(Holding[T]):
    """Holds one item at most: the newest."""

    def add(self, item: T) -> None:
        before, self._held = self._held, [item]
        self.begin_time()
        for old in before:
            self._on_drop(old, "superseded")

    def made(self) -> T:
        return self._held[0]
