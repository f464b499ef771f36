"""Pairs of ends within one process: what is on its way between them is known exactly.

Time that is simulated must not pass while an item travels. A channel of the core travels in no
time; here a socket and a thread lie between, which no simulation sees. So while two ends in this
process do not know the same, they hold time as a worker thread does: each takes a token of the
event loop's limiter of threads.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

import anyio
from anyio.to_thread import current_default_thread_limiter
from chrono_core.lowlevel import EventLoop

from ._link import Link
from ._receiver import Receiver
from ._sender import Sender

_lock = threading.Lock()
_links: weakref.WeakSet[Link] = weakref.WeakSet()


def add(link: Link) -> None:
    """Find the other end of a new link, should it be in this process."""
    with _lock:
        for other in _links:
            if other.mate is None and not other.shut and _fit(link, other):
                link.mate = other
                other.mate = link
                break
        _links.add(link)


def forget() -> None:
    """In a forked child: the links of its parent have their other ends elsewhere."""
    global _lock, _links
    _lock = threading.Lock()
    _links = weakref.WeakSet()


def _fit(one: Link, other: Link) -> bool:
    return (
        one.address == other.address
        and one.machine.role != other.machine.role
        and one.machine.terms.binds != other.machine.terms.binds
        and not other.machine.met
        and not other.machine.closed
    )


def settled(link: Link) -> bool:
    """Whether nothing is on its way between a link and the other one in this process."""
    mate = link.mate
    if mate is None:
        return True
    first, second = (link, mate) if link.number < mate.number else (mate, link)
    with first.lock, second.lock:
        sender, receiver = link.machine, mate.machine
        if isinstance(sender, Receiver):
            sender, receiver = receiver, sender
        assert isinstance(sender, Sender) and isinstance(receiver, Receiver)
        return _agree(sender, receiver)


def _agree(sender: Sender, receiver: Receiver) -> bool:
    ended = any(one.over or one.failure is not None for one in (sender, receiver))
    if ended or (sender.met and sender.peer != receiver.session):
        return True
    return (
        sender.met
        and receiver.met
        and receiver.arrived == sender.sendable
        and sender.taken == receiver.taken
        and sender.limit == receiver.limit
        and sender.closed == (receiver.total is not None)
        and not receiver.complete  # the sender has yet to hear of that
        and sender.peer_closed == receiver.closed
    )


class Hold:
    """Holds simulated time in one event loop, or does not."""

    def __init__(self) -> None:
        self._limiter: anyio.CapacityLimiter | None = None

    def acquire(self) -> None:
        """Hold it. In the loop."""
        if self._limiter is None:
            limiter = current_default_thread_limiter()
            limiter.total_tokens += 1  # so that no thread has to wait for this
            try:
                limiter.acquire_on_behalf_of_nowait(self)
            except anyio.WouldBlock:  # threads are waiting, and hold time themselves
                limiter.total_tokens -= 1
            else:
                self._limiter = limiter

    def release_soon(self, loop: EventLoop, settled: Callable[[], bool]) -> None:
        """Let go after everything that the loop was told so far, if it is settled then."""
        if self._limiter is None:
            return

        def release() -> None:
            limiter = self._limiter
            if limiter is not None and settled():
                self._limiter = None
                limiter.release_on_behalf_of(self)
                limiter.total_tokens -= 1

        try:
            loop.call_threadsafe(release)
        except RuntimeError:
            self._limiter = None  # the loop has ended
