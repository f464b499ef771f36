"""The protocol of one end, apart from sockets, threads and tasks.

A machine is told what happened (a frame came, the link came up, time passed, the user did this)
and asked what is to be sent and when it wants to be told the time again. It never waits and reads
no clock, so that a test can drive two of them through any schedule.

An end that connects says HELLO until an end that binds answers WELCOME or RESET; then the two
have *met*, for the rest of their lives: every end has a random session number, every frame bears
both, and an end never goes on with another session. Whatever is said later is absolute ("so many
arrived", "so many may come"), so that frames may be lost, repeated and reordered. The sender asks
from time to time how far the receiver is; what it sent before it asked, and the answer does not
count, was lost.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf

from . import _frames as frames
from ._frames import NOBODY, Hello, Reset

# Seconds between two HELLOs, and before a first question whether something was lost.
SAY_HELLO = 0.25
FIRST_QUESTION = 0.1

# So many strangers at most are told that the other end is taken.
STRANGERS = 16

Route = bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an end can do nothing any more: a reason of RESET, or `LOST`."""

    reason: int
    text: str


LOST = 0
AUTHENTICATION = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What one end is given by its user."""

    session: bytes
    binds: bool
    maxsize: int | None
    max_message: int
    schema: str
    heartbeat: float
    peer_timeout: float


class Machine(ABC):
    """What senders and receivers do alike: meet, stay alive, part."""

    role: int

    def __init__(self, terms: Terms, now: float) -> None:
        self.terms: Terms = terms
        self.session: bytes = terms.session
        self.peer: bytes | None = None
        self.failure: Failure | None = None
        # The user closed this end.
        self.closed: bool = False
        # Nothing is left to be said, and nothing is expected.
        self.over: bool = False
        # Something happened that the user may wait for. Whoever looks puts it back.
        self.changed: bool = False
        # Something is to be sent, or `deadline` comes earlier. Whoever looks puts it back.
        self.stirred: bool = False
        # Frames that were refused.
        self.refused: int = 0
        self.up: bool = terms.binds
        self._route: Route | None = None
        self._heard = now
        self._lost_at = inf
        self._hello_at = inf if terms.binds else now
        self._asked = -inf
        self._strangers: dict[bytes, Route | None] = {}
        # What is to be sent, and along which route, until `outgoing` has it.
        self.to_send: list[tuple[Route | None, bytes]] = []

    @property
    def met(self) -> bool:
        return self.peer is not None

    # What happened

    def on_link(self, up: bool, now: float) -> None:
        """The connection of an end that connects was made, or is gone."""
        self.up = up
        if not up:
            return
        if self.met:
            self._resume(now)
        else:
            self._hello_at = now

    def on_frame(self, data: bytes, route: Route | None, now: float) -> None:
        """A message came; of an end that binds, `route` leads back to where it came from."""
        if self.over or self.failure is not None:
            return
        try:
            frame = frames.unpack(data)
        except frames.BadFrame:
            self.refused += 1
            return
        except frames.OtherVersion as other:
            self.refused += 1
            self._on_other_version(other, route)
            return
        body = frame.body
        if frame.type == frames.HELLO:
            assert isinstance(body, Hello)
            self._on_hello(frame.source, body, route, now)
        elif frame.type == frames.RESET:
            assert isinstance(body, Reset)
            self._on_reset(frame.source, frame.target, body)
        elif frame.target != self.session:
            self._refuse(frame.source, route, frames.UNKNOWN, frame.target)
        elif frame.type == frames.WELCOME:
            assert isinstance(body, Hello)
            self._on_welcome(frame.source, body, now)
        elif frame.source != self.peer:
            self._refuse(frame.source, route, frames.UNKNOWN, frame.target)
        else:
            self._on_peer(route, now)
            self._on_body(body, now)

    def on_unreachable(self, route: Route) -> None:
        """What was sent along this route could not be."""
        if self._route == route:
            self._route = None

    def on_time(self, now: float) -> None:
        """Time has passed."""
        if self.over or self.failure is not None:
            return
        if self.met:
            self._on_silence(now)
            return
        if now >= self._hello_at and self.up:
            self._hello_at = now + SAY_HELLO
            self._send(frames.pack_hello(self.session, NOBODY, self._hello()))

    # What to do

    def deadline(self) -> float:
        """When to call `on_time` next."""
        if self.over or self.failure is not None:
            return inf
        if self.met:
            return min(self._lost_at, self._doubted_at())
        return self._hello_at if self.up else inf

    def outgoing(self) -> list[tuple[Route | None, bytes]]:
        """What is to be sent now, and along which route."""
        sent, self.to_send = self.to_send, []
        return sent

    def part(self, text: str) -> None:
        """Leave without a proper end: the peer is told, if it can be reached."""
        if self.met and self.failure is None and not self.over:
            self._reset(self.peer or NOBODY, self._route, frames.GONE, NOBODY, text)
        self.over = True
        self.changed = True

    def fail(self, reason: int, text: str) -> None:
        """From now on, nothing works any more."""
        if self.failure is None and not self.over:
            self.failure = Failure(reason, text)
            self.to_send.clear()
            self._strangers.clear()
            self.changed = True

    # What senders and receivers do each in their way

    @abstractmethod
    def _on_body(self, body: frames.Body, now: float) -> None: ...

    @abstractmethod
    def _meet(self, hello: Hello, now: float) -> None: ...

    @abstractmethod
    def _resume(self, now: float) -> None:
        """The link was renewed: find out what was lost."""

    @abstractmethod
    def _prove(self, now: float) -> None:
        """Have the peer show at once that it lives."""

    @abstractmethod
    def _maxsize(self) -> int: ...

    # Meeting

    def _hello(self) -> Hello:
        terms = self.terms
        return Hello(self.role, self._maxsize(), terms.max_message, terms.schema)

    def _on_hello(self, source: bytes, hello: Hello, route: Route | None, now: float) -> None:
        if not self.terms.binds or source == self.session:
            self.refused += 1
            return
        if self.met and source != self.peer:
            # It is told that this end is taken as soon as its owner shows that it lives.
            if len(self._strangers) < STRANGERS or source in self._strangers:
                self._strangers[source] = route
            if now - self._asked >= SAY_HELLO / 2:
                self._asked = now
                self._prove(now)
            return
        misfit = None if self.met else self._misfit(hello)
        if misfit is not None:
            self.refused += 1
            self._reset(source, route, misfit.reason, source, misfit.text)
            return
        welcome = frames.pack_hello(self.session, source, self._hello(), welcome=True)
        self.to_send.append((route, welcome))
        if self.met:
            self._on_peer(route, now)
        else:
            self._route = route
            self._begin(source, hello, now)

    def _on_welcome(self, source: bytes, hello: Hello, now: float) -> None:
        if self.terms.binds or (self.met and source != self.peer):
            self.refused += 1
            return
        if self.met:
            self._on_peer(None, now)
            return
        misfit = self._misfit(hello)
        if misfit is not None:
            self.fail(misfit.reason, misfit.text)
            return
        self._begin(source, hello, now)

    def _begin(self, peer: bytes, hello: Hello, now: float) -> None:
        self.peer = peer
        self._is_alive(now)
        self.changed = True
        self._meet(hello, now)

    def _misfit(self, hello: Hello) -> Failure | None:
        if hello.role == self.role:
            verb = "sends" if self.role == frames.SENDS else "receives"
            return Failure(frames.SAME_ROLE, f"each of the two ends {verb}")
        ours, theirs = self.terms.schema, hello.schema
        if ours and theirs and ours != theirs:
            sent, received = (ours, theirs) if self.role == frames.SENDS else (theirs, ours)
            return Failure(
                frames.OTHER_SCHEMA,
                f"items of {sent!r} are sent, and items of {received!r} are to be received",
            )
        sender, receiver = self.terms.max_message, hello.max_message
        if self.role == frames.RECEIVES:
            sender, receiver = receiver, sender
        if sender > receiver:
            return Failure(
                frames.TOO_LARGE,
                f"max_message is {sender} B where it sends and only {receiver} B where it receives",
            )
        return None

    def _on_peer(self, route: Route | None, now: float) -> None:
        """The peer shows that it lives."""
        self._is_alive(now)
        if self.terms.binds and route != self._route:
            self._route = route
            self._resume(now)
        if self._strangers:
            for stranger, way in self._strangers.items():
                self._reset(stranger, way, frames.IN_USE, stranger, "it is in use by another")
            self._strangers.clear()

    # Staying alive. After half of the time the peer is asked, and the other half is counted from
    # then: this process may have stood still itself, and what came meanwhile is not yet read. When
    # it looks that late a second time, it has stood still again.

    def _is_alive(self, now: float) -> None:
        self._heard = now
        self._lost_at = inf

    def _doubted_at(self) -> float:
        return self._heard + self.terms.peer_timeout / 2 if self._lost_at == inf else inf

    def _on_silence(self, now: float) -> None:
        half = self.terms.peer_timeout / 2
        late = now - self._lost_at
        if 0 <= late < half:
            self.fail(LOST, f"nothing was heard of it for {self.terms.peer_timeout} s")
        elif late >= half or now >= self._doubted_at():
            self._lost_at = now + half
            self._prove(now)

    # Parting

    def _on_reset(self, source: bytes, target: bytes, reset: Reset) -> None:
        if target != self.session:
            self.refused += 1
        elif source == self.peer and reset.reason == frames.GONE:
            self.fail(LOST, reset.text)
        elif self.met and not self.terms.binds and reset.about == self.peer:
            self.fail(LOST, "another process has taken its place")
        elif not self.met and not self.terms.binds and reset.about == self.session:
            self.fail(reset.reason, reset.text)
        else:
            self.refused += 1

    def _on_other_version(self, other: frames.OtherVersion, route: Route | None) -> None:
        if self.terms.binds:
            text = f"it speaks version {frames.VERSION} of the wire format, not {other.version}"
            self._reset(other.source, route, frames.OTHER_VERSION, other.source, text)
        elif not self.met:
            self.fail(
                frames.OTHER_VERSION,
                f"it speaks version {other.version} of the wire format, not {frames.VERSION}",
            )

    def _refuse(self, source: bytes, route: Route | None, reason: int, about: bytes) -> None:
        self.refused += 1
        if self.terms.binds and source != self.peer:
            self._reset(source, route, reason, about, "it does not know this session")

    # Sending

    def _reset(
        self, peer: bytes, route: Route | None, reason: int, about: bytes, text: str
    ) -> None:
        if self.terms.binds and route is None:
            return
        reset = frames.pack_reset(self.session, peer, Reset(reason, about, text))
        self.to_send.append((route, reset))

    def _send(self, frame: bytes) -> None:
        """Send to the peer, where there is a way."""
        if self.up and not (self.terms.binds and self._route is None):
            self.to_send.append((self._route, frame))
