"""The protocol of the end that sends: see `_machine`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice
from math import inf

from . import _frames as frames
from ._frames import UNLIMITED, Hello, ReceiverState, SenderState
from ._machine import FIRST_QUESTION, Machine, Terms

# A frame holds no more items, and no more bytes unless one item does.
ITEMS = 256
BYTES = 64 * 1024


class Sender(Machine):
    """Keeps what was accepted until it has arrived, and sends what the receiver has room for.

    Attributes:
        accepted: items that the user gave.
        arrived: of these, how many the receiver's process has.
        taken: of these, how many the receiver's user has.
        closed: whether the user closed.
        limit: how many the receiver said may come in all.
        peer_closed: whether the receiver closed.
        waiting: whether the user waits for room, so that lost news of it must be noticed.
    """

    role = frames.SENDS

    def __init__(self, terms: Terms, now: float) -> None:
        super().__init__(terms, now)
        assert terms.maxsize is not None
        self.maxsize = terms.maxsize
        self.accepted = self.arrived = self.taken = 0
        self.peer_closed = self.waiting = False
        self.limit = 0
        self._kept: deque[bytes] = deque()  # those from `arrived` on
        self._sent = 0
        self._sent_ever = 0
        self._fin_seen = False
        self._eager = False
        self._nonce = 0
        self._sent_when_asked = 0
        self._question_at = inf
        self._pause = FIRST_QUESTION

    # The user

    def has_room(self) -> bool:
        """Whether one more may be accepted."""
        return self.room() > 0

    def room(self) -> int:
        """How many more may be accepted."""
        if self.maxsize == UNLIMITED:
            return UNLIMITED
        top = self.limit if self.maxsize == 0 else self.taken + self.maxsize
        return max(0, top - self.accepted)

    def accept(self, items: Iterable[bytes]) -> None:
        """Take items that there is room for; they are sent by `push`."""
        kept = self._kept
        before = len(kept)
        kept.extend(items)
        self.accepted += len(kept) - before
        self.waiting = self._eager = False

    @property
    def unsent(self) -> int:
        """How many items wait to be sent."""
        return self.accepted - self._sent

    def want(self, now: float, *, all_taken: bool = False) -> None:
        """The user waits for room, or until all is taken, of which the receiver must be asked."""
        self.push(now)
        if self.met and not self.waiting:
            self.waiting = True
            self._question_at = min(self._question_at, now + FIRST_QUESTION)
        if self.met and all_taken and not self._eager:
            self._eager = True
            self._ask(now)

    def close(self, now: float) -> None:
        """The user gives no more."""
        self.closed = True
        if self.peer_closed or self.failure is not None:
            self.over = True
        else:
            self.push(now)
            self._ask(now)

    @property
    def delivered(self) -> bool:
        """Whether the receiver has everything, and knows that this is all."""
        return self._fin_seen and self.arrived == self.accepted

    @property
    def owes(self) -> bool:
        """Whether there is something that has not arrived."""
        return self.arrived < self.accepted

    @property
    def sendable(self) -> int:
        """How many the receiver has room for, of those accepted in all."""
        return min(self.accepted, self.limit)

    # What happened

    def on_time(self, now: float) -> None:
        super().on_time(now)
        self.push(now)
        if now >= self._question_at:
            self._pause = min(self._pause * 2, self.terms.heartbeat)
            self._ask(now)

    def deadline(self) -> float:
        if self.over or self.failure is not None or self.peer_closed:
            return inf
        return min(super().deadline(), self._question_at if self.up else inf)

    def fail(self, reason: int, text: str) -> None:
        if not self.peer_closed:  # then it may go
            super().fail(reason, text)
        if self.closed:
            self.over = True

    def _maxsize(self) -> int:
        return self.maxsize

    def _meet(self, hello: Hello, now: float) -> None:
        self.maxsize = min(self.maxsize, hello.maxsize)
        self._pause = FIRST_QUESTION
        self._ask(now)

    def _resume(self, now: float) -> None:
        self._pause = FIRST_QUESTION
        self._ask(now)

    def _prove(self, now: float) -> None:
        self._ask(now)

    def _on_body(self, body: frames.Body, now: float) -> None:
        if not isinstance(body, ReceiverState) or body.arrived > self._sent_ever:
            self.refused += 1
            return
        if not self.peer_closed:
            self._learn(body)
        if body.flags & frames.CLOSED:
            self._on_closed()
        if body.flags & frames.ASK:
            self._ask(now)
        answers = body.echo == self._nonce and body.arrived < self._sent_when_asked
        if (answers or body.flags & frames.GAP) and body.arrived < self._sent:
            self._sent = max(body.arrived, self.arrived)
        if body.flags & frames.FIN_SEEN:
            self._fin_seen = self.closed
        if self.delivered and not self.peer_closed:
            self._state(frames.FIN | frames.DONE)
            self.over = True
            self.changed = True
        self.push(now)

    def _learn(self, state: ReceiverState) -> None:
        if state.arrived > self.arrived:
            for _ in range(state.arrived - self.arrived):
                self._kept.popleft()
            self.arrived = state.arrived
            self._sent = max(self._sent, self.arrived)
            self._pause = FIRST_QUESTION
            self.changed = True
        if state.taken > self.taken:
            self.taken = state.taken
            self._pause = FIRST_QUESTION
            self.changed = True
        if state.limit > self.limit:
            self.limit = state.limit
            self.changed = True

    def _on_closed(self) -> None:
        if not self.peer_closed:
            self.peer_closed = True
            self.changed = True
            self._kept.clear()
        self._state(frames.CLOSE_SEEN)
        if self.closed:
            self.over = True

    # Sending

    def push(self, now: float) -> None:
        """Send what may be sent."""
        if not self.met or self.peer_closed or self.failure is not None:
            return
        end = self.sendable
        if self._sent >= end or not self.up or (self.terms.binds and self._route is None):
            return
        if self._question_at > now + FIRST_QUESTION:
            self._question_at = now + FIRST_QUESTION
        assert self.peer is not None
        kept = self._kept
        while self._sent < end:
            start = self._sent - self.arrived
            items: list[bytes] = []
            size = 0
            for item in islice(kept, start, start + min(ITEMS, end - self._sent)):
                size += len(item)
                if items and size > BYTES:
                    break
                items.append(item)
            self._send(frames.pack_data(self.session, self.peer, self._sent, items))
            self._sent += len(items)
        self._sent_ever = max(self._sent_ever, self._sent)

    def _ask(self, now: float) -> None:
        """Ask how far the receiver is; this also shows that this end lives."""
        if not self.met:
            return
        quiet = self.arrived == self.accepted == self.taken and not (self.waiting or self.closed)
        self._question_at = now + (self.terms.heartbeat if quiet else self._pause)
        self._nonce = (self._nonce + 1) % 2**32
        self._sent_when_asked = self._sent
        flags = frames.FIN if self.closed else 0
        self._state(flags | frames.WAITS if self._eager else flags)

    def _state(self, flags: int) -> None:
        assert self.peer is not None
        state = SenderState(flags, self._nonce, self.accepted)
        self._send(frames.pack_sender(self.session, self.peer, state))
