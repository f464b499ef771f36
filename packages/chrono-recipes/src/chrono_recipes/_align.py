"""Joining streams by the time that is written in their items."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from chrono_core import Clock, Context, EndOfStream, ReceiveStream, SendStream
from chrono_core.lowlevel import checkpoint, finite, to_ns, wait_any

from ._common import (
    ITEMS_PER_YIELD,
    check_callable,
    check_count,
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
O = TypeVar("O")  # noqa: E741 - the others


@dataclass(frozen=True, slots=True)
class Aligned(Generic[P, O]):
    """An item, and what is nearest to it in time in each other stream.

    Attributes:
        primary: the item of the primary stream.
        others: the nearest item of each other stream, in the order of the streams.
    """

    primary: P
    others: tuple[O, ...]


def align(
    ctx: Context | Clock,
    primary: ReceiveStream[P],
    others: Sequence[ReceiveStream[O]],
    dest: SendStream[Aligned[P, O]],
    *,
    tolerance: float,
    max_wait: float,
    key: Callable[[P | O], float],
    limit: int = 1024,
    on_drop: OnDrop[P | O] = ignore,
) -> Coroutine[Any, Any, None]:
    """Put each item of one stream together with the nearest, by key, of each of the others.

    The key is a time, compared in whole nanoseconds, and never goes back within a stream: an item
    whose key is smaller than one before it is dropped. Of two that are equally near, the one that
    came first is taken. An other item may go with several primary ones.

    A primary item is decided on, in order, as soon as each other stream has an item whose key is
    not smaller, or has ended, or when it is certain that there is no match. It waits for that no
    longer than ``max_wait`` from when it was taken, on the clock, then takes the nearest that
    there is. An item that comes at the very instant at which the wait is over is too late for it.
    While the destination has no room, the wait may be longer, and so counts what comes meanwhile.

    Every stream is taken from while another is waited for, so that who feeds several of them may
    do so in any order. Where ``limit`` primary items wait and another comes, the first of them is
    decided on at once. Where ``limit`` items of another stream are held and another comes, the
    oldest is dropped; while the destination has no room, it is left in its stream instead.

    When the primary stream ends, what is held is decided on as ever, then the destination and the
    other streams are closed, and the call returns. When another stream ends, its last items are
    matched as ever. When the destination closes, all streams are closed, so that their senders are
    told, and the call returns; the items that are held are dropped. When a stream or ``key`` fails,
    or the call is cancelled, nothing is closed, and the items that are held are dropped; the one
    on which ``key`` has failed is still the next of its stream. Other items that were in a match
    have gone on, and are not reported as dropped.

    Args:
        ctx: the daemon's context, or a clock.
        primary: of whose items each is matched, or dropped.
        others: what to match them with.
        dest: where to send the matches.
        tolerance: seconds; how far apart the keys of a match may be.
        max_wait: seconds; how long a primary item waits. Infinity waits until it is certain.
        key: the time of an item, in seconds.
        limit: how many items of each stream to hold at most, but at least two of each other one.
        on_drop: called with a primary item and ``"no match"``, or ``"overflow"`` where the limit
            cut its wait short; with an other item that never was in a match and ``"unmatched"`` or
            ``"overflow"``; with any item and ``"late"``, ``"destination gone"``, ``"cancelled"`` or
            ``"failed"``.

    Raises:
        TypeError: these are not ends of channels, or there is no clock, or ``key`` is no function.
        ValueError: ``tolerance`` or ``max_wait`` is negative or NaN, ``limit`` is not a whole
            number from 1 up, there is no other stream, a stream comes twice, or a key is not
            finite.

    It finds what ``pandas.merge_asof(direction="nearest")`` does in sorted tables, but where two
    are equally near. ``ApproximateTime`` of ROS's message_filters finds sets of items that are
    close together without a primary stream, and uses each item once.
    """
    clock = clock_of(ctx)
    check_receive(primary, "primary")
    others = list(others)
    for other in others:
        check_receive(other, "each of others")
    check_distinct(others, "others")
    check_distinct((primary, *others), "primary and others")
    check_send(dest, "dest")
    tolerance = check_seconds(tolerance, "tolerance")
    max_wait = check_seconds(max_wait, "max_wait")
    check_callable(key, "key")
    check_count(limit, "limit")
    check_callable(on_drop, "on_drop")
    return _Align(clock, primary, others, dest, tolerance, max_wait, key, limit, on_drop).run()


class _Waiting(Generic[P]):
    """A primary item that is not decided on. Keys are nanoseconds."""

    __slots__ = ("due", "item", "key")

    def __init__(self, item: P, key: int, due: Deadline) -> None:
        self.item = item
        self.key = key
        self.due = due


class _Candidate(Generic[O]):
    """An other item that may match."""

    __slots__ = ("item", "key", "used")

    def __init__(self, item: O, key: int) -> None:
        self.item = item
        self.key = key
        self.used = False


class _Lane(Generic[O]):
    """Another stream, and what was taken from it: keys rise from each candidate to the next."""

    __slots__ = ("candidates", "ended", "last", "source")

    def __init__(self, source: ReceiveStream[O]) -> None:
        self.source = source
        self.candidates: deque[_Candidate[O]] = deque()
        self.last: float = -math.inf  # the key that was taken last
        self.ended = False

    def is_final(self, key: int) -> bool:
        """Whether nothing nearer to this key can come."""
        return self.ended or self.last >= key

    def ready(self) -> bool:
        return not self.ended and self.source.ready()

    def unused(self) -> list[O]:
        return [candidate.item for candidate in self.candidates if not candidate.used]


class _Align(Generic[P, O]):
    def __init__(
        self,
        clock: Clock,
        primary: ReceiveStream[P],
        others: list[ReceiveStream[O]],
        dest: SendStream[Aligned[P, O]],
        tolerance: float,
        max_wait: float,
        key: Callable[[P | O], float],
        limit: int,
        on_drop: OnDrop[P | O],
    ) -> None:
        self._clock = clock
        self._primary = primary
        self._lanes = [_Lane(other) for other in others]
        self._dest = dest
        self._tolerance = tolerance if math.isinf(tolerance) else to_ns(tolerance)
        self._max_wait = max_wait
        self._key = key
        self._limit = limit
        self._on_drop = on_drop
        self._waiting: deque[_Waiting[P]] = deque()
        self._last: float = -math.inf  # the primary key that was taken last
        self._least: float = -math.inf  # no primary item that is or will be waiting has less
        self._ended = False
        # Whether everything that was there when the last primary item was taken was looked at.
        self._caught_up = True

    async def run(self) -> None:
        try:
            reason = await self._join()
        except BaseException as error:
            drop_held(self._held(), error, self._on_drop)
            raise
        for item in self._held():
            self._on_drop(item, reason)
        first = self._primary if reason == "destination gone" else self._dest
        await close_all([first, *(lane.source for lane in self._lanes)])

    def _held(self) -> list[P | O]:
        held: list[P | O] = [waiting.item for waiting in self._waiting]
        for lane in self._lanes:
            held += lane.unused()
        return held

    async def _join(self) -> str:
        """Join until an end; returns what becomes of other items that have no match."""
        dest = self._dest
        moved = 0
        while not gone(dest):
            blocked = False
            if not self._waiting:
                if not self._primary_ready() and self._ended:
                    return "unmatched"
                acted = self._take_ahead(blocked)
            elif self._is_hopeless():
                self._on_drop(self._waiting.popleft().item, "no match")
                self._go_on()
                acted = True
            elif self._take_needed():
                acted = True
            elif (reason := self._verdict()) is None:
                acted = self._take_ahead(blocked)
            elif (match := self._match()) is None:
                self._on_drop(self._waiting.popleft().item, reason)
                self._go_on()
                acted = True
            elif not dest.ready():
                blocked = True
                acted = self._take_ahead(blocked)
            elif not sent(dest, self._aligned(match)):
                break
            else:
                for candidate in match:
                    candidate.used = True
                self._waiting.popleft()
                self._go_on()
                acted = True
            if not acted:
                await self._wait(blocked)
                continue
            moved += 1
            if not moved % ITEMS_PER_YIELD:
                await checkpoint()
        return "destination gone"

    async def _wait(self, blocked: bool) -> None:
        watched = [lane.source for lane in self._lanes if self._takes_from(lane, blocked)]
        takes_primary = not self._ended and (not blocked or len(self._waiting) < self._limit)
        primary = [self._primary] if takes_primary else []
        self._caught_up = True
        if blocked:
            await wait_any(self._dest, *primary, *watched)
        elif self._waiting:
            await self._waiting[0].due.wait_any(*primary, *watched, closing=(self._dest,))
        else:
            await wait_any(*primary, *watched, closing=(self._dest,))

    # Deciding

    def _is_hopeless(self) -> bool:
        """Whether the first that waits certainly has no match, whatever comes."""
        key = self._waiting[0].key
        return any(lane.is_final(key) and self._nearest(lane) is None for lane in self._lanes)

    def _verdict(self) -> str | None:
        """Whether to decide on the first that waits: why it is dropped if it has no match."""
        first = self._waiting[0]
        if all(lane.is_final(first.key) for lane in self._lanes) or first.due.has_come():
            return "no match"
        if len(self._waiting) >= self._limit and self._primary_ready():
            return "overflow"
        return None

    def _nearest(self, lane: _Lane[O]) -> _Candidate[O] | None:
        """What matches the first that waits best: everything before it was thrown out."""
        if not lane.candidates:
            return None
        candidate = lane.candidates[0]
        near = abs(candidate.key - self._waiting[0].key) <= self._tolerance
        return candidate if near else None

    def _match(self) -> list[_Candidate[O]] | None:
        match = []
        for lane in self._lanes:
            candidate = self._nearest(lane)
            if candidate is None:
                return None
            match.append(candidate)
        return match

    def _aligned(self, match: list[_Candidate[O]]) -> Aligned[P, O]:
        return Aligned(self._waiting[0].item, tuple(candidate.item for candidate in match))

    def _go_on(self) -> None:
        """Throw out what matters no more, now that another primary item is the first."""
        if self._waiting:
            self._least = self._waiting[0].key
            for lane in self._lanes:
                self._throw_out(lane)

    def _throw_out(self, lane: _Lane[O]) -> None:
        """Drop what can be the nearest to no primary item any more, or is too far from all."""
        candidates, least = lane.candidates, self._least
        while candidates:
            key = candidates[0].key
            outdone = len(candidates) > 1 and abs(candidates[1].key - least) < abs(key - least)
            if not outdone and least - key <= self._tolerance:
                return
            self._drop_oldest(lane, "unmatched")

    def _drop_oldest(self, lane: _Lane[O], reason: str) -> None:
        oldest = lane.candidates.popleft()
        if not oldest.used:
            self._on_drop(oldest.item, reason)

    # Taking

    def _primary_ready(self) -> bool:
        """Whether there is a primary item to take."""
        if self._ended or not self._primary.ready():
            return False
        try:
            self._primary.peek_nowait()
        except EndOfStream:
            self._ended = True
        return not self._ended

    def _takes_from(self, lane: _Lane[O], blocked: bool) -> bool:
        return not lane.ended and (not blocked or len(lane.candidates) < self._limit)

    def _take_needed(self) -> bool:
        """Take what the first that waits is waiting for, if there is anything."""
        due = self._waiting[0].due
        if not due.has_come():
            return self._take_one_each()
        if due.is_past() or not self._caught_up:
            while self._take_one_each():  # what is there now, and nothing that comes later
                pass
        return False

    def _take_one_each(self) -> bool:
        key = self._waiting[0].key
        needed = [lane for lane in self._lanes if lane.ready() and not lane.is_final(key)]
        for lane in needed:
            self._take(lane)
        return bool(needed)

    def _take_ahead(self, blocked: bool) -> bool:
        """Take something that nobody is waiting for yet, if there is anything."""
        if len(self._waiting) < self._limit and self._primary_ready():
            self._take_primary()
            return True
        ready = [lane for lane in self._lanes if lane.ready() and self._takes_from(lane, blocked)]
        for lane in ready:
            self._take(lane)
            if len(lane.candidates) > self._limit:
                self._drop_oldest(lane, "overflow")
        return bool(ready)

    def _take_primary(self) -> None:
        item = self._primary.peek_nowait()
        key = self._key_of(item)
        self._primary.receive_nowait()
        if key < self._last:
            self._on_drop(item, "late")
            return
        self._last = key
        self._caught_up = False
        self._waiting.append(_Waiting(item, key, Deadline.after(self._clock, self._max_wait)))
        if len(self._waiting) == 1:
            self._go_on()

    def _take(self, lane: _Lane[O]) -> None:
        try:
            item = lane.source.peek_nowait()
        except EndOfStream:
            lane.ended = True
            return
        key = self._key_of(item)
        lane.source.receive_nowait()
        if key < lane.last:
            self._on_drop(item, "late")
        elif lane.candidates and key == lane.candidates[-1].key:
            self._on_drop(item, "unmatched")
        else:
            lane.last = key
            lane.candidates.append(_Candidate(item, key))
            self._throw_out(lane)

    def _key_of(self, item: P | O) -> int:
        return to_ns(finite(self._key(item), "key(item)"))
