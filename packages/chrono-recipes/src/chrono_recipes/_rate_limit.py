"""Passing on items no faster than at a rate."""

from __future__ import annotations

import math
from collections.abc import Coroutine
from typing import Any, TypeVar

from chrono_core import Clock, Context, EndOfStream, ReceiveStream, SendStream
from chrono_core.lowlevel import Ticks, checkpoint, finite, wait_any

from ._common import (
    ITEMS_PER_YIELD,
    check_count,
    check_receive,
    check_send,
    clock_of,
    gone,
    sent,
)
from ._deadline import Deadline, now_ns

T = TypeVar("T")


def rate_limit(
    ctx: Context | Clock,
    source: ReceiveStream[T],
    dest: SendStream[T],
    *,
    rate: float,
    burst: int = 1,
) -> Coroutine[Any, Any, None]:
    """Pass on items no faster than at a rate, but for short bursts; delay them, drop none.

    A bucket holds ``burst`` tokens and is full at first. Each item costs one; they come back at
    the rate. Instants are computed from when the bucket was full last, so that nothing adds up. An
    item that has to wait stays in its source.

    When the destination closes, the source is closed, so that its sender is told, and the call
    returns. When the source ends, the destination is closed, and the call returns. When the source
    fails, its error is raised. Then, and when cancelled, nothing is closed and nothing is lost.

    Args:
        ctx: the daemon's context, or a clock.
        source: where to take items from.
        dest: where to send them.
        rate: items a second.
        burst: how many items may pass at one instant after a pause.

    Raises:
        TypeError: these are not ends of channels, or there is no clock.
        ValueError: ``rate`` is not positive or not finite, or ``burst`` is not a whole number from
            1 up.

    The algorithm is the token bucket (J. Turner, "New directions in communications", IEEE
    Communications Magazine 24 (10), 1986), in the form of ITU-T I.371's generic cell rate
    algorithm, which keeps instants and no fractions of tokens.
    """
    clock = clock_of(ctx)
    check_receive(source, "source")
    check_send(dest, "dest")
    rate = finite(rate, "rate")
    if rate <= 0 or math.isinf(1 / rate):
        raise ValueError(f"rate must be a positive number of items a second, got {rate!r}")
    check_count(burst, "burst")
    return _rate_limit(clock, source, dest, 1 / rate, burst)


async def _rate_limit(
    clock: Clock, source: ReceiveStream[T], dest: SendStream[T], period: float, burst: int
) -> None:
    # `taken` tokens since the bucket was full, at the start of the ticks; one comes at each tick.
    ticks = Ticks(now_ns(clock), period)
    taken = 0
    token = Deadline(clock, ticks.at(1 - burst))
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
        if not token.has_come():
            await token.wait_any(closing=(dest,))
            continue
        if not dest.ready():
            await wait_any(dest)
            continue
        if not sent(dest, item):
            break
        source.receive_nowait()
        now = now_ns(clock)
        if ticks.at(taken) < now:
            ticks, taken = Ticks(now, period), 0
        taken += 1
        token = Deadline(clock, ticks.at(taken + 1 - burst))
        moved += 1
        if not moved % ITEMS_PER_YIELD:
            await checkpoint()
    await source.aclose()
