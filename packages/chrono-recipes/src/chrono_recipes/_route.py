"""One source, each item to the destination of its key."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable, Mapping
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
    next_ready,
    sent,
)
from ._drops import OnDrop, ignore
from ._exceptions import UnknownKey

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


def route(
    source: ReceiveStream[T],
    key: Callable[[T], K],
    dests: Mapping[K, SendStream[T]],
    *,
    default: K | None = None,
    on_drop: OnDrop[T] = ignore,
) -> Coroutine[Any, Any, None]:
    """Send each item of a source to the destination of its key.

    The order of the items is kept, so one whose destination has no room holds up the others. It is
    taken only when there is room, so none is ever in between.

    Items for a destination that has closed are dropped; when all have closed, the source is closed,
    so that its sender is told, and the call returns. When the source ends, every destination is
    closed, and the call returns. When the source or ``key`` fails, or a key is unknown, the error
    is raised. Then, and when cancelled, nothing is closed and nothing is lost: what was not sent
    on, with the item that the error was about, is still in the source.

    Args:
        source: where to take items from.
        key: the key of an item. It may be asked more than once.
        dests: the destinations by their keys.
        default: the key whose destination gets the items of unknown keys.
        on_drop: called with an item and ``"destination gone"``.

    Raises:
        TypeError: these are not ends of channels, or ``key`` cannot be called.
        ValueError: there is no destination, one comes twice, or the default has none.
        UnknownKey: there is no destination for an item, and no default.
    """
    check_receive(source, "source")
    if not callable(key):
        raise TypeError(f"key must be a function of an item, got {key!r}")
    check_callable(on_drop, "on_drop")
    if not isinstance(dests, Mapping):
        raise TypeError(f"dests must map keys to sending ends of channels, got {dests!r}")
    dests = dict(dests)
    for name, dest in dests.items():
        check_send(dest, f"the destination of {name!r}")
    check_distinct(list(dests.values()), "destinations")
    if default is not None and default not in dests:
        raise ValueError(f"default must be the key of a destination, got {default!r}")
    return _route(source, key, dests, default, on_drop)


async def _route(
    source: ReceiveStream[T],
    key: Callable[[T], K],
    dests: dict[K, SendStream[T]],
    default: K | None,
    on_drop: OnDrop[T],
) -> None:
    live = list(dests.values())
    moved = 0
    while live:
        if not source.ready() and not await next_ready([source], live):
            break
        try:
            item = source.peek_nowait()
        except EndOfStream:
            await close_all(dests.values())
            return
        name = key(item)
        dest = dests.get(name)
        if dest is None and default is not None:
            dest = dests[default]
        if dest is None:
            raise UnknownKey(
                f"the item {item!r} has the key {name!r}, for which there is no destination: add "
                "one, or name a default",
                item=item,
                key=name,
            )
        if not dest.ready():
            await wait_any(dest)
            continue
        if sent(dest, item):
            source.receive_nowait()
        else:
            if dest in live:
                live.remove(dest)
            if not live:
                break
            source.receive_nowait()
            on_drop(item, "destination gone")
        moved += 1
        if not moved % ITEMS_PER_YIELD:
            await checkpoint()
    await source.aclose()
