"""What several recipes need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from chrono_core import ChannelClosed, Clock, Context, EndpointClosed, ReceiveStream, SendStream
from chrono_core.lowlevel import number, wait_any

from ._drops import OnDrop

T = TypeVar("T")

# A recipe that never has to wait gives way to other tasks once in so many items.
ITEMS_PER_YIELD = 16

# What an end says from which nothing more can be sent.
GONE = (ChannelClosed, EndpointClosed)


def clock_of(ctx: Context | Clock) -> Clock:
    """The clock of a daemon's context, or the clock itself.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(ctx, Context):
        return ctx.clock
    if isinstance(ctx, Clock):
        return ctx
    raise TypeError(f"the first argument must be a Context or a Clock, got {ctx!r}")


def check_receive(end: object, what: str) -> None:
    """Refuse what is not the receiving end of a channel."""
    if not isinstance(end, ReceiveStream):
        raise TypeError(
            f"{what} must be the receiving end of a channel, as channel.recv is, got {end!r}"
        )


def check_send(end: object, what: str) -> None:
    """Refuse what is not the sending end of a channel."""
    if not isinstance(end, SendStream):
        raise TypeError(
            f"{what} must be the sending end of a channel, as channel.send is, got {end!r}"
        )


def listed(ends: object, what: str) -> list[Any]:
    """Several ends as a list of one's own; refuse what is no collection."""
    if not isinstance(ends, Iterable):
        raise TypeError(f"{what} must be several ends of channels in a list, got {ends!r}")
    return list(ends)


def check_distinct(ends: Sequence[object], what: str) -> None:
    """Refuse no end at all, and an end that comes twice."""
    if not ends:
        raise ValueError(f"{what} must be at least one end of a channel, got none")
    if len({id(end) for end in ends}) < len(ends):
        raise ValueError(f"{what} must be different ends of channels, got one of them twice")


def check_count(value: object, what: str) -> None:
    """Refuse what is not a whole number from 1 up."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{what} must be a whole number from 1 up, got {value!r}")


def check_seconds(value: float, what: str, *, positive: bool = False) -> float:
    """Refuse what is not a number of seconds, or is negative."""
    value = number(value, what)
    if value < 0 or (positive and not value):
        raise ValueError(
            f"{what} must {'be positive' if positive else 'not be negative'}, got {value!r}"
        )
    return value


def check_clock(value: object) -> None:
    """Refuse what is not a clock."""
    if not isinstance(value, Clock):
        raise TypeError(f"clock must be a Clock, as ctx.clock is, got {value!r}")


def check_callable(value: object, what: str) -> None:
    """Refuse what cannot be called."""
    if not callable(value):
        raise TypeError(f"{what} must be a function, got {value!r}")


def gone(dest: SendStream[Any]) -> bool:
    """Whether nothing can be sent to this end any more."""
    stats = dest.statistics()
    return not (stats.open_receive_streams and stats.open_send_streams)


def sent(dest: SendStream[T], item: T) -> bool:
    """Send an item to where there is room; False where the destination has gone."""
    try:
        dest.send_nowait(item)
    except GONE:
        return False
    return True


def drop_held(held: Iterable[T], error: BaseException, on_drop: OnDrop[T]) -> None:
    """Report what was held while something was raised."""
    reason = "failed" if isinstance(error, Exception) else "cancelled"
    for item in list(held):
        on_drop(item, reason)


async def next_ready(sources: Sequence[ReceiveStream[Any]], dests: list[Any]) -> bool:
    """Wait until a source has an item or has ended; False where every destination has gone.

    Destinations that have gone meanwhile are removed.
    """
    while not any(source.ready() for source in sources):
        await wait_any(*sources, closing=dests)
        if not any(source.ready() for source in sources):
            dests[:] = [dest for dest in dests if not gone(dest)]
        if not dests:
            return False
    return True


async def close_all(ends: Iterable[SendStream[Any] | ReceiveStream[Any]]) -> None:
    """Close every end, even where a cancellation comes meanwhile, which is raised afterwards."""
    error: BaseException | None = None
    for end in ends:
        try:
            await end.aclose()
        except BaseException as failed:
            error = failed if error is None else error
    if error is not None:
        raise error
