"""The thread that reads for all links of this process, and keeps time for them.

There is one, while there are links. An event loop could not do it: a link must answer while the
loop is busy, and deliver what was sent after the loop has ended.
"""

from __future__ import annotations

import atexit
import heapq
import os
import selectors
import threading
from collections import deque
from collections.abc import Callable
from itertools import count
from math import inf
from typing import Any

import zmq

from . import _pairs
from ._address import Address
from ._config import Security, ZmqConfig
from ._link import Link
from ._real import nap, now, random_bytes
from ._sender import Sender
from ._socket import Endpoint, Gatekeeper

# Sockets of one context: three for each link that connects.
MAX_SOCKETS = 32768

# Seconds after which the socket of a link that was closed is gone for sure.
LEAVING = 1.0

# Seconds between two looks, at the end of the process, at what has yet to be delivered.
LOOK = 0.005


class Driver:
    """All links of this process."""

    def __init__(self) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, MAX_SOCKETS)
        self._lock = threading.Lock()
        self._links: dict[Link, None] = {}
        self._heap: list[tuple[float, int, Link]] = []
        self._numbers = count()
        self._changes: deque[Callable[[selectors.BaseSelector], object]] = deque()
        self._left: dict[str, float] = {}  # where there was a link, until when
        self._dropped: deque[Link] = deque()
        self._gate: Gatekeeper | None = None
        self._thread: threading.Thread | None = None
        # Never closed: garbage may be collected at any moment, and tells the thread by this.
        self._alarm = os.pipe()
        for end in self._alarm:
            os.set_blocking(end, False)
        self._wakes_at = -inf  # until when the thread sleeps; -inf where it is awake

    # Any thread

    def endpoint(
        self, address: Address, *, bind: bool, security: Security | None, config: ZmqConfig
    ) -> Endpoint:
        """Open a socket."""
        keys = None if security is None else security.allowed_keys
        with self._lock:
            if keys is not None and self._gate is None:
                gate = self._gate = Gatekeeper(self._context)
                self._changes.append(lambda selector: _watch(selector, gate.descriptor(), gate))
        domain = random_bytes(8).hex()
        if keys is not None:
            assert self._gate is not None
            self._gate.admit(domain, frozenset(keys))
        try:
            return Endpoint(
                self._context, address, bind=bind, security=security, config=config, domain=domain
            )
        except BaseException:
            if self._gate is not None:
                self._gate.forget(domain)
            raise

    def add(self, link: Link) -> None:
        """Look after a link from now on."""

        def watch(selector: selectors.BaseSelector) -> None:
            with link.lock:
                if link.shut:
                    return  # its descriptors are closed, or will be
                if link.reports is not None:
                    _watch(selector, link.reports, (link, False))
                _watch(selector, link.descriptor, (link, True))
            self._look(link)

        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="chrono-zmq", daemon=True)
                thread.start()
                self._thread = thread
            self._links[link] = None
            self._changes.append(watch)
            self._wake()

    def arm(self, link: Link) -> None:
        """Wait for the socket of a link from now on."""

        def watch(selector: selectors.BaseSelector) -> None:
            with link.lock:
                if link.shut:
                    return
                _watch(selector, link.descriptor, (link, True))
            self._look(link)

        with self._lock:
            self._changes.append(watch)
            self._wake()

    def forget(self, link: Link) -> None:
        """Look after a link no more; its socket is about to be closed."""

        def unwatch(selector: selectors.BaseSelector) -> None:
            for descriptor in (link.descriptor, link.reports):
                if descriptor is not None:
                    _unwatch(selector, descriptor)

        with self._lock:
            if link in self._links:
                del self._links[link]
                if link.machine.terms.binds:
                    self._left[link.address] = now()
                self._changes.append(unwatch)
                if self._gate is not None:
                    self._gate.forget(link.domain)
                self._wake()

    def leaves(self, address: str) -> bool:
        """Whether a link of this process that was bound is about to leave, or has just left."""
        with self._lock:
            links = [
                link for link in self._links if link.address == address and link.machine.terms.binds
            ]
            left = now() - self._left.get(address, -inf) < LEAVING
            for old in [one for one, since in self._left.items() if now() - since >= LEAVING]:
                del self._left[old]
        closed = [link for link in links if link.machine.closed]
        for link in closed:
            with link.lock:
                if not link.machine.met:
                    link.drop("it was closed")
                    link.report_undelivered()
        return left or bool(closed)

    def schedule(self, link: Link, deadline: float) -> None:
        """Have a link look at the time then."""
        with self._lock:
            heapq.heappush(self._heap, (deadline, next(self._numbers), link))
            if deadline < self._wakes_at:
                self._wake()

    def drop(self, link: Link) -> None:
        """Nobody can use this link any more. Safe wherever garbage is collected."""
        self._dropped.append(link)
        _write(self._alarm[1])

    def finish(self) -> None:
        """The process ends: deliver what `linger` allows, and report what was not."""
        with self._lock:
            links = list(self._links)
        for link in links:
            with link.lock:
                link.leave()
        while any(self._must_stay(link) for link in links):
            nap(LOOK)
        for link in links:
            with link.lock:
                link.drop("its process has ended")
                link.report_undelivered()
                link.wait_no_more(waited_for=False)  # in a loop that has stopped, nobody else does
        thread = self._thread
        if thread is not None:
            thread.join(LEAVING)
        if self._gate is not None:
            self._gate.close()
        self._context.term()

    @staticmethod
    def _must_stay(link: Link) -> bool:
        machine = link.machine
        if link.shut or machine.failure is not None:
            return False
        if machine.closed:
            return True
        return isinstance(machine, Sender) and not machine.peer_closed and machine.owes

    def _wake(self) -> None:
        if self._wakes_at > -inf:
            _write(self._alarm[1])

    # The thread

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._alarm[0], selectors.EVENT_READ)
            if self._gate is not None:
                _watch(selector, self._gate.descriptor(), self._gate)
            while self._work(selector):
                pass

    def _work(self, selector: selectors.BaseSelector) -> bool:
        """Sleep, and do what is to be done then; False once there is no link left."""
        while self._changes:
            self._changes.popleft()(selector)
        with self._lock:
            if not self._links and not self._changes:
                self._thread = None
                self._heap.clear()
                return False
            wakes_at = -inf
            if not (self._changes or self._dropped):
                wakes_at = self._heap[0][0] if self._heap else inf
            self._wakes_at = wakes_at
        ready = selector.select(None if wakes_at == inf else max(0.0, wakes_at - now()))
        with self._lock:
            self._wakes_at = -inf
        time = now()
        for key, _ in ready:
            if key.fd == self._alarm[0]:
                _drain(key.fd)
            elif isinstance(key.data, Gatekeeper):
                key.data.answer()
            else:
                link, is_socket = key.data
                if is_socket and not link.armed:
                    _unwatch(selector, key.fd)  # its user reads by himself
                else:
                    self._look(link)
        while self._dropped:
            link = self._dropped.popleft()
            with link.lock:
                link.drop("its end was dropped without a close")
                link.report_undelivered()
        self._tick(time)
        return True

    def _look(self, link: Link) -> None:
        with link.lock:
            link.look()
        _settle(link)

    def _tick(self, time: float) -> None:
        due = []  # a link that is not done with its work gets its next turn after all others
        with self._lock:
            while self._heap and self._heap[0][0] <= time:
                due.append(heapq.heappop(self._heap))
        for deadline, _, link in due:
            with link.lock:
                if link.scheduled == deadline:
                    link.tick(time)
            _settle(link)


def _settle(link: Link) -> None:
    """Tell both ends of a pair within this process when nothing is on its way between them."""
    mate = link.mate
    if mate is not None and _pairs.settled(link):
        for one in (link, mate):
            if one.on_settled is not None:
                one.on_settled()


def _watch(selector: selectors.BaseSelector, descriptor: int, data: object) -> None:
    _unwatch(selector, descriptor)  # of a socket that was closed, and whose number is used again
    selector.register(descriptor, selectors.EVENT_READ, data)


def _unwatch(selector: selectors.BaseSelector, descriptor: int) -> None:
    try:
        selector.unregister(descriptor)
    except KeyError:
        pass


def _write(descriptor: int) -> None:
    try:
        os.write(descriptor, b"\0")
    except BlockingIOError:
        pass  # it is full, so that the thread wakes anyhow


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 4096):
            pass
    except BlockingIOError:
        pass


_driver: Driver | None = None
_lock = threading.Lock()
# Those of parent processes: they are never touched, nor collected.
_inherited: list[Driver] = []


def driver() -> Driver:
    """The driver of this process."""
    global _driver
    with _lock:
        if _driver is None:
            _driver = Driver()
        return _driver


def _on_exit() -> None:
    if _driver is not None:
        _driver.finish()


def _after_fork() -> None:
    global _driver, _lock
    _lock = threading.Lock()
    _pairs.forget()
    if _driver is not None:
        _inherited.append(_driver)
        _driver = None


atexit.register(_on_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
