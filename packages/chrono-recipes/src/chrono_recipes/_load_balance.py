"""One source, its items dealt out to several destinations."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from chrono_core import EndOfStream, ReceiveStream, SendStream
from chrono_core.lowlevel import checkpoint, wait_any

from ._common import (
    ITEMS_PER_YIELD,
    check_distinct,
    check_receive,
    check_send,
    close_all,
    listed,
    next_ready,
    sent,
)

T = TypeVar("T")


def load_balance(
    source: ReceiveStream[T], dests: Sequence[SendStream[T]], *, close_dests: bool = True
) -> Coroutine[Any, Any, None]:
    """Send each item of a source to one of several destinations, strictly in turns.

    The next destination in the rotation is waited for, even where another one has room; for "who
    is idle takes the next" see `worker_pool`. An item is taken only when its destination has room
    for it, so none is ever in between.

    A destination that closes leaves the rotation, and the next one gets its item; when all have
    closed, the source is closed, so that its sender is told, and the call returns. When the source
    ends, the destinations are closed, and the call returns. When the source fails, its error is
    raised. Then, and when cancelled, nothing is closed and nothing is lost: what was not sent on
    is still in the source.

    Args:
        source: where to take items from.
        dests: where to send them, in the order of the rotation.
        close_dests: whether to close the destinations when the source has ended.

    Raises:
        TypeError: these are not ends of channels.
        ValueError: there is no destination, or one comes twice.
    """
    check_receive(source, "source")
    dests = listed(dests, "dests")
    for dest in dests:
        check_send(dest, "each destination")
    check_distinct(dests, "destinations")
    return _load_balance(source, dests, close_dests)


async def _load_balance(
    source: ReceiveStream[T], dests: list[SendStream[T]], close_dests: bool
) -> None:
    rotation = list(dests)  # who is next stands first
    moved = 0
    while rotation:
        if not source.ready() and not await next_ready([source], rotation):
            break
        try:
            item = source.peek_nowait()
        except EndOfStream:
            if close_dests:
                await close_all(dests)
            return
        dest = rotation[0]
        if not dest.ready():
            await wait_any(dest)
            continue
        if not sent(dest, item):
            del rotation[0]
            continue
        source.receive_nowait()
        rotation.append(rotation.pop(0))
        moved += 1
        if not moved % ITEMS_PER_YIELD:
            await checkpoint()
    await source.aclose()
