"""Several sources, one destination."""

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


def merge(
    sources: Sequence[ReceiveStream[T]], dest: SendStream[T], *, close_dest: bool = True
) -> Coroutine[Any, Any, None]:
    """Send the items of several sources to one destination.

    The items of one source stay in order. Sources that have items take turns. An item is taken
    only when the destination has room for it, so none is ever in between.

    When the destination closes, every source is closed, so that the senders are told, and the
    call returns. When all sources have ended, the destination is closed, and the call returns.
    When a source fails, its error is raised. Then, and when cancelled, nothing is closed and
    nothing is lost: what was not sent on is still in its source.

    Args:
        sources: where to take items from.
        dest: where to send them.
        close_dest: whether to close the destination when all sources have ended.

    Raises:
        TypeError: these are not ends of channels.
        ValueError: there is no source, or one comes twice.
    """
    sources = listed(sources, "sources")
    for source in sources:
        check_receive(source, "each source")
    check_distinct(sources, "sources")
    check_send(dest, "dest")
    return _merge(sources, dest, close_dest)


async def _merge(sources: list[ReceiveStream[T]], dest: SendStream[T], close_dest: bool) -> None:
    live = list(sources)
    turn = 0
    moved = 0
    while live:
        for n in range(turn, turn + len(live)):
            if live[n % len(live)].ready():
                turn = n % len(live)
                break
        else:
            if await next_ready(live, [dest]):
                continue
            await close_all(sources)
            return
        source = live[turn]
        try:
            item = source.peek_nowait()
        except EndOfStream:
            del live[turn]
            continue
        if not dest.ready():
            await wait_any(dest)
            continue
        if not sent(dest, item):
            await close_all(sources)
            return
        source.receive_nowait()
        turn += 1
        moved += 1
        if not moved % ITEMS_PER_YIELD:
            await checkpoint()
    if close_dest:
        await dest.aclose()
