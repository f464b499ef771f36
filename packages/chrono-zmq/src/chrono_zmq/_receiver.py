"""The protocol of the end that receives: see `_machine`."""

from __future__ import annotations

from collections import deque
from math import inf

from . import _frames as frames
from ._frames import UNLIMITED, Data, Hello, ReceiverState, SenderState
from ._machine import FIRST_QUESTION, Machine, Terms

# So many seconds after something was taken, at the latest, the sender is told of the room.
TELL_AFTER = 0.001


class Receiver(Machine):
    """Keeps what has arrived until it is taken, and says how much more may come.

    Attributes:
        inbox: what has arrived and was not taken.
        arrived: items that have arrived.
        taken: of these, how many the user took.
        limit: how many may come in all.
        high_water: the most that the inbox ever held.
        total: how many there are in all, once the sender closed.
        closed: whether the user closed.
    """

    role = frames.RECEIVES

    def __init__(self, terms: Terms, now: float) -> None:
        super().__init__(terms, now)
        # Until it has met a sender, this end knows no more than its own bound.
        self.maxsize = UNLIMITED if terms.maxsize is None else terms.maxsize
        self.inbox: deque[bytes] = deque()
        self.arrived = self.taken = self.high_water = 0
        self.total: int | None = None
        self.sender_done = False
        self.limit = 0
        self._told_limit = 0
        self._told_taken = 0
        self._wanted = False
        self._eager = False
        self._echo = 0
        self._gap_told = False
        self._tell_at = inf
        self._close_at = inf

    # The user

    @property
    def ended(self) -> bool:
        """Whether the stream came to its proper end, and everything was taken."""
        return self.total is not None and self.taken == self.total

    @property
    def complete(self) -> bool:
        """Whether everything is here: the sender may go."""
        return self.total is not None and self.arrived == self.total

    @property
    def broken(self) -> bool:
        """Whether nothing more comes, and that is no proper end."""
        return self.failure is not None and not self.inbox and not self.ended

    def take(self, now: float, count: int = 1) -> list[bytes]:
        """Take items that have arrived."""
        inbox = self.inbox
        items = [inbox.popleft() for _ in range(count)]
        self.taken += count
        self._wanted = False
        if self.met:
            self._raise_limit()
            self._tell_of_room(now)
        return items

    def want(self, now: float) -> None:
        """The user is about to wait for an item."""
        self._wanted = True
        if self.met:
            self._raise_limit()
            if self.limit != self._told_limit and self._matters():
                self._tell()

    def close(self, now: float) -> None:
        """The user takes no more."""
        self.closed = True
        self.inbox.clear()
        if not self.met or self.failure is not None or self.sender_done:
            self.over = True
        elif self.complete:
            self._close_at = now + FIRST_QUESTION  # the sender is about to say that it is done
        else:
            self._say_closed(now)

    # What happened

    def on_time(self, now: float) -> None:
        super().on_time(now)
        if self.failure is not None or self.over:
            return
        if now >= self._tell_at:
            self._tell()
        if now >= self._close_at:
            self._say_closed(now)

    def deadline(self) -> float:
        if self.over or self.failure is not None:
            return inf
        if self.complete and not self.closed:
            return self._tell_at
        return min(super().deadline(), self._tell_at, self._close_at)

    def fail(self, reason: int, text: str) -> None:
        if not self.complete:
            super().fail(reason, text)
        if self.closed:
            self.over = True

    def _maxsize(self) -> int:
        return self.maxsize

    def _meet(self, hello: Hello, now: float) -> None:
        self.maxsize = min(self.maxsize, hello.maxsize)
        self._raise_limit()
        self._tell()

    def _resume(self, now: float) -> None:
        self._tell()

    def _prove(self, now: float) -> None:
        self._tell(frames.ASK)

    def _on_body(self, body: frames.Body, now: float) -> None:
        if isinstance(body, Data):
            self._on_data(body)
        elif isinstance(body, SenderState):
            self._on_state(body, now)
        else:
            self.refused += 1

    def _on_data(self, data: Data) -> None:
        end = data.first + len(data.items)
        if self.closed:
            self._tell()
        elif data.first > self.arrived:
            if not self._gap_told:
                self._gap_told = True
                self._tell(frames.GAP)
        elif end > self.limit or not self._fits(data):
            self.refused += 1
        elif end > self.arrived:
            self.inbox.extend(data.items[self.arrived - data.first :])
            self.arrived = end
            self._gap_told = False
            self.changed = True
            self.high_water = max(self.high_water, len(self.inbox))

    def _fits(self, data: Data) -> bool:
        if self.total is not None and data.first + len(data.items) > self.total:
            return False
        return all(len(item) <= self.terms.max_message for item in data.items)

    def _on_state(self, state: SenderState, now: float) -> None:
        self._echo = state.nonce
        self._eager = bool(state.flags & frames.WAITS)
        self._gap_told = False
        if state.flags & frames.FIN and self.total is None and state.total >= self.arrived:
            self.total = state.total
            self.changed = True
        if state.flags & frames.DONE:
            self.sender_done = True
        if state.flags & (frames.DONE | frames.CLOSE_SEEN):
            if self.closed:
                self.over = True
                self.changed = True
            return
        self._tell()

    # Sending

    def _raise_limit(self) -> None:
        if self.maxsize == UNLIMITED:
            self.limit = UNLIMITED
        elif self.maxsize:
            self.limit = min(self.taken + self.maxsize, UNLIMITED)
        elif self._wanted:
            self.limit = max(self.limit, self.taken + 1)

    def _tell_of_room(self, now: float) -> None:
        """Tell at once where that is much of the window; otherwise soon, where it matters."""
        if self.taken - self._told_taken >= max(1, min(self.maxsize // 4, 4096)):
            self._tell()
        elif self._tell_at == inf and self._matters():
            self._tell_at = now + TELL_AFTER
            self.stirred = True

    def _matters(self) -> bool:
        """Whether the sender may be waiting for news."""
        return self._eager or self._told_limit - self.arrived <= self.maxsize // 2

    def _say_closed(self, now: float) -> None:
        self._close_at = now + FIRST_QUESTION
        self._tell()

    def _tell(self, flags: int = 0) -> None:
        assert self.peer is not None
        self._tell_at = inf
        self.stirred = True
        self._told_limit = self.limit
        self._told_taken = self.taken
        if self.closed:
            flags |= frames.CLOSED
        if self.total is not None:
            flags |= frames.FIN_SEEN
        state = ReceiverState(flags, self._echo, self.arrived, self.taken, self.limit)
        self._send(frames.pack_receiver(self.session, self.peer, state))
