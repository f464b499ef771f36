"""Pairing items with the newest of another stream."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

from chrono_core import Clock, Context, EndOfStream, ReceiveStream, SendStream
from chrono_core.lowlevel import checkpoint, wait_any

from ._common import (
    ITEMS_PER_YIELD,
    check_callable,
    check_distinct,
    check_receive,
    check_seconds,
    check_send,
    clock_of,
    close_all,
    drop_held,
    gone,
    sent,
)
from ._deadline import Deadline
from ._drops import OnDrop, ignore

P = TypeVar("P")
O = TypeVar("O")  # noqa: E741 - the other


def latest_within(
    ctx: Context | Clock,
    primary: ReceiveStream[P],
    other: ReceiveStream[O],
    dest: SendStream[tuple[P, O]],
    *,
    max_age: float,
    on_drop: OnDrop[P | O] = ignore,
) -> Coroutine[Any, Any, None]:
    """Pair each item with the newest item of another stream, unless that is too old.

    A primary item is looked at when the destination has room, and stays in its stream until then.
    The age of the other item counts from when it was taken, which is when it comes; at the very
    instant at which it has ``max_age``, it is good. Of what is there at the same time, the
    other stream goes first. An other item may be in several pairs.

    When the primary stream ends, the destination is closed, so is the other stream, and the call
    returns. When the other stream ends, its last item stays the newest. When the destination
    closes, both streams are closed, so that their senders are told, and the call returns. When a
    stream fails, or the call is cancelled, nothing is closed. In every case, the newest other item
    is dropped unless it was in a pair.

    Args:
        ctx: the daemon's context, or a clock.
        primary: of whose items each is passed on, or dropped.
        other: whose newest item is paired with them.
        dest: where to send the pairs.
        max_age: seconds; infinity for any age.
        on_drop: called with a primary item and ``"nothing yet"`` or ``"stale"``; with an other
            item that never was in a pair and ``"superseded"``, or, where it is the last,
            ``"unmatched"``, ``"destination gone"``, ``"cancelled"`` or ``"failed"``.

    Raises:
        TypeError: these are not ends of channels, or there is no clock.
        ValueError: ``max_age`` is negative or NaN, or both streams are one.
    """
    clock = clock_of(ctx)
    check_receive(primary, "primary")
    check_receive(other, "other")
    check_distinct((primary, other), "primary and other")
    check_send(dest, "dest")
    check_callable(on_drop, "on_drop")
    max_age = check_seconds(max_age, "max_age")
    return _LatestWithin(clock, primary, other, dest, max_age, on_drop).run()


class _LatestWithin(Generic[P, O]):
    def __init__(
        self,
        clock: Clock,
        primary: ReceiveStream[P],
        other: ReceiveStream[O],
        dest: SendStream[tuple[P, O]],
        max_age: float,
        on_drop: OnDrop[P | O],
    ) -> None:
        self._clock = clock
        self._primary = primary
        self._other = other
        self._others = [other]  # empty once it has ended
        self._dest = dest
        self._max_age = max_age
        self._on_drop = on_drop
        self._newest: list[O] = []  # one item at most
        self._unpaired: list[O] = []  # the same, until it is in a pair
        self._too_old = Deadline(clock, None)

    async def run(self) -> None:
        try:
            reason = await self._pair()
        except BaseException as error:
            drop_held(self._unpaired, error, self._on_drop)
            raise
        for item in self._unpaired:
            self._on_drop(item, reason)
        ends = (self._primary, self._other)
        await close_all(ends if reason == "destination gone" else (self._dest, self._other))

    async def _pair(self) -> str:
        """Pair until an end; returns what becomes of an other item that has no pair."""
        primary, dest = self._primary, self._dest
        moved = 0
        while not gone(dest):
            moved += self._take_others()
            if not primary.ready():
                await wait_any(primary, *self._others, closing=(dest,))
                continue
            try:
                item = primary.peek_nowait()
            except EndOfStream:
                return "unmatched"
            if not dest.ready():
                await wait_any(dest, *self._others)
                continue
            if not self._newest or self._too_old.is_past():
                primary.receive_nowait()
                self._on_drop(item, "stale" if self._newest else "nothing yet")
            elif not sent(dest, (item, self._newest[0])):
                break
            else:
                primary.receive_nowait()
                self._unpaired = []
            moved += 1
            if moved >= ITEMS_PER_YIELD:
                moved = 0
                await checkpoint()
        return "destination gone"

    def _take_others(self) -> int:
        """Take what is there, of which only the newest counts; returns how many it was."""
        taken = 0
        while self._others and self._other.ready():
            try:
                item = self._other.receive_nowait()
            except EndOfStream:
                self._others = []
                break
            before = self._unpaired
            self._newest = self._unpaired = [item]
            self._too_old = Deadline.after(self._clock, self._max_age)
            taken += 1
            for old in before:
                self._on_drop(old, "superseded")
        return taken
