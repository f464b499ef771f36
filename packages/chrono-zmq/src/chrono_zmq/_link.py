"""A link: one machine and its socket, used by the user's thread and by the driver's.

Both hold the lock while they touch either. Handing a message from one thread to another takes
longer than all the rest, so the user's thread sends and reads by itself, and waits for the socket
in its own event loop. The driver's thread keeps time, and reads where the user does not: for one
who is busy it looks from time to time; once he has not been there for a while, or waits for
several things at once, it is *armed*, and waits for the socket itself.

The descriptor of a ZeroMQ socket becomes readable once, and then not again before the socket was
asked for its events. So whoever has touched the socket asks it last, and goes on while there is
something to read.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from itertools import count
from math import inf
from typing import TYPE_CHECKING

from ._machine import AUTHENTICATION, Machine
from ._real import now
from ._sender import Sender
from ._socket import Endpoint

if TYPE_CHECKING:
    from ._driver import Driver

logger = logging.getLogger("chrono_zmq")

_numbers = count()

# Messages that are read in one go, before others have their turn.
AT_ONCE = 1024

# Where nothing was sent and nobody is there, the end of the stream waits so many seconds for a
# receiver who may be about to come.
MEETING = 0.5

# Seconds between two looks for a user who is busy.
POLL = 0.02


class Link:
    """One machine and its socket.

    Attributes:
        machine: the protocol.
        lock: to be held by whoever touches the machine or calls a method here.
        waited_for: whether somebody in the user's loop wants to know of news.
        reading: whether the user's loop waits for the socket.
        armed: whether the driver waits for the socket.
        mate: the link at the other end, where that is in this process.
        on_settled: called, without the lock, when it may be that nothing is on its way to the mate.
        on_news: called, with the lock held, when there is news for somebody.
        told: whether somebody knows of what was not delivered.
        descriptor: what becomes readable when something came.
        reports: what becomes readable when the connection was made or lost; None for a binder.
    """

    def __init__(self, driver: Driver, machine: Machine, endpoint: Endpoint, linger: float) -> None:
        self.machine: Machine = machine
        self.lock: threading.Lock = threading.Lock()
        self.waited_for: bool = False
        self.reading: bool = False
        self.armed: bool = True
        self.on_news: Callable[[], None] | None = None
        self.on_settled: Callable[[], None] | None = None
        self.mate: Link | None = None
        self.number: int = next(_numbers)
        self.told: bool = False
        self.scheduled: float = inf
        self.address: str = endpoint.address
        self.descriptor: int
        self.reports: int | None
        self.descriptor, self.reports = endpoint.descriptors()
        self.domain: str = endpoint.domain
        self.shut: bool = False
        self.process: int = os.getpid()
        self.linger: float = linger
        self._driver = driver
        self._endpoint = endpoint
        self._alone = machine.terms.binds  # as far as is known, nobody is there
        self._owes = True
        self._left_at = inf
        self._leave_at = inf
        self._watchers = 0
        self._touched = False
        self._poll_at = inf

    # The user's thread

    def use(self) -> None:
        """The user is here: read and send whatever can be."""
        self._touch()
        self.pump()

    def wait_for_news(self) -> None:
        """The user, still holding the lock, has found nothing and is about to wait."""
        self.waited_for = True
        self.reading = not (self.armed or self.shut)

    def wait_no_more(self, *, waited_for: bool) -> None:
        """The user has waited."""
        self.reading = False
        self.waited_for = waited_for
        if self.shut:
            self._close()
        else:
            self._touch()
            if self.scheduled > self._poll_at:
                self._schedule(inf)

    def start_watch(self) -> None:
        """Somebody waits for several things at once."""
        self._watchers += 1
        self.waited_for = True
        self._arm()

    def stop_watch(self) -> None:
        """He waits no more."""
        self._watchers -= 1

    def _touch(self) -> None:
        if self._watchers or self.mate is not None:
            self._arm()
            return
        self.armed = False
        self._touched = True
        if self._poll_at == inf:
            self._poll_at = now() + POLL

    # Either

    def pump(self) -> None:
        """Read and send whatever can be read and sent now."""
        if self.shut:
            return
        endpoint = self._endpoint
        machine = self.machine
        stirred, machine.stirred = machine.stirred, False
        if machine.to_send:
            self._flush()
        left = AT_ONCE
        batch = 1  # to ask once more costs less than to find nothing, unless there is much
        while left > 0 and endpoint.readable():
            time = now()
            for _ in range(batch):
                message = endpoint.receive()
                if message is None:
                    break
                route, frame = message
                if frame is None:
                    machine.refused += 1
                else:
                    machine.on_frame(frame, route, time)
            left -= batch
            batch *= 2
            if machine.to_send:
                self._flush()
        if machine.changed:
            machine.changed = False
            if self.waited_for and self.on_news is not None:
                self.on_news()
        if machine.over:
            self._shut()
        elif left <= 0:
            self._schedule(0.0)
        elif stirred or machine.stirred or self.scheduled > self._poll_at or self._poll_at == inf:
            # All else comes after the next look.
            self._schedule(inf)

    # The driver's thread

    def look(self) -> None:
        """The connection may have been made or lost, or something come."""
        if self.shut:
            return
        reports = self._endpoint.reports()
        if reports.up is not None:
            self.machine.on_link(reports.up, now())
            self._alone = not reports.up
            self._plan_to_leave()
        if reports.refused and not self.machine.met:
            self.machine.fail(AUTHENTICATION, "the other end refused the keys")
        self.pump()

    def tick(self, time: float) -> None:
        """A deadline may have come."""
        if self.shut:
            return
        self.scheduled = inf
        if time >= self._poll_at:
            self._poll_at = time + POLL if self._touched else inf
            if not (self._touched or self.reading):
                self._arm()
            self._touched = False
        self.machine.on_time(time)
        if time >= self._leave_at and not self.machine.over:
            self.machine.part("it was closed, and did not wait any longer")
        self.pump()
        if self.machine.over and not self.waited_for:
            self.report_undelivered()

    # Parting

    def leave(self, *, owes: bool = True) -> None:
        """Go on for `linger` seconds, for what has to be said yet, or less if that is not much."""
        self._left_at = min(self._left_at, now())
        self._owes = self._owes and owes
        self._plan_to_leave()
        self.pump()

    def _plan_to_leave(self) -> None:
        most = MEETING if self._alone and not self._owes else inf
        self._leave_at = self._left_at + min(self.linger, most)

    def abandon(self) -> None:
        """Nobody can use this any more. Without the lock: garbage is collected at any moment."""
        self._driver.drop(self)

    def drop(self, text: str) -> None:
        """Part at once."""
        if not self.shut:
            self.machine.part(text)
            self.pump()

    def report_undelivered(self) -> None:
        """Log how many items nobody received, where nobody was told so far."""
        machine = self.machine
        if not isinstance(machine, Sender) or machine.peer_closed or self.told:
            return
        if machine.owes:
            self.told = True
            logger.error(
                "%d of %d items sent to %r were never received: no receiver took them in time",
                machine.accepted - machine.arrived,
                machine.accepted,
                self.address,
            )

    def _flush(self) -> None:
        for route, frame in self.machine.outgoing():
            if not self._endpoint.send(route, frame) and route is not None:
                self.machine.on_unreachable(route)

    def _schedule(self, soonest: float) -> None:
        deadline = min(self.machine.deadline(), self._leave_at, self._poll_at, soonest)
        if deadline < self.scheduled:
            self.scheduled = deadline
            self._driver.schedule(self, deadline)

    def _shut(self) -> None:
        self.shut = True
        self._driver.forget(self)
        if not self.reading:  # otherwise it is closed where it is read
            self._close()

    def _close(self) -> None:
        # To a peer that is lost, nothing is on its way.
        self._endpoint.close(0.0 if self.machine.failure is not None else self.linger)

    def _arm(self) -> None:
        if not self.armed and not self.shut:
            self.armed = True
            self._driver.arm(self)
