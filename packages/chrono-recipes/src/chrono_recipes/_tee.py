"""One source, every item to each of several destinations."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from chrono_core import EndOfStream, ReceiveStream, SendStream
from chrono_core.lowlevel import checkpoint, wait_any

from ._common import (
    ITEMS_PER_YIELD,
    check_callable,
    check_distinct,
    check_receive,
    check_send,
    close_all,
    drop_held,
    next_ready,
    sent,
)
from ._drops import OnDrop, ignore

T = TypeVar("T")


def tee(
    source: ReceiveStream[T], *dests: SendStream[T], on_drop: OnDrop[T] = ignore
) -> Coroutine[Any, Any, None]:
    """Send every item of a source to every destination, in order.

    An item goes to each destination as soon as that has room; the next one is taken when all have
    had it. So the slowest sets the pace, and a faster one is at most one item and its own buffer
    ahead. Each gets the same object.

    A destination that closes is left out from then on; when all have closed, the source is closed,
    so that its sender is told, and the call returns. When the source ends, every destination is
    closed, and the call returns. When the source fails, its error is raised, and nothing is
    closed. Cancelled, nothing is closed either; an item that some destinations have had and others
    have not is dropped for the others.

    Args:
        source: where to take items from.
        dests: where to send them.
        on_drop: called with the item and ``"cancelled"``, once for each destination that misses
            it, where the call is cancelled in the middle of an item, or ``"failed"``, where
            another task uses a destination then.

    Raises:
        TypeError: these are not ends of channels.
        ValueError: there is no destination, or one comes twice.
    """
    check_receive(source, "source")
    for dest in dests:
        check_send(dest, "each destination")
    check_distinct(dests, "destinations")
    check_callable(on_drop, "on_drop")
    return _tee(source, list(dests), on_drop)


async def _tee(source: ReceiveStream[T], dests: list[SendStream[T]], on_drop: OnDrop[T]) -> None:
    live = list(dests)
    moved = 0
    while live:
        if not source.ready() and not await next_ready([source], live):
            break
        try:
            item = source.peek_nowait()
        except EndOfStream:
            await close_all(dests)
            return
        delivered, missing = _offer(item, live, live)
        if not delivered:
            if missing:
                await wait_any(*missing)
            continue
        source.receive_nowait()
        while missing:
            try:
                await wait_any(*missing)
            except BaseException as error:
                drop_held([item] * len(missing), error, on_drop)
                raise
            missing = _offer(item, missing, live)[1]
        moved += 1
        if not moved % ITEMS_PER_YIELD:
            await checkpoint()
    await source.aclose()


def _offer(
    item: T, dests: list[SendStream[T]], live: list[SendStream[T]]
) -> tuple[bool, list[SendStream[T]]]:
    """Send where there is room; returns whether anybody got it, and who has no room."""
    delivered = False
    missing = []
    for dest in list(dests):
        if not dest.ready():
            missing.append(dest)
            continue
        if sent(dest, item):
            delivered = True
        else:
            live.remove(dest)
    return delivered, missing
