"""Sockets: what is set on them, and what they report."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq
from zmq.utils import z85
from zmq.utils.monitor import parse_monitor_message

from ._address import Address
from ._config import Security, ZmqConfig
from ._frames import OVERHEAD
from ._sender import BYTES, ITEMS

# A frame of many items has so many bytes at most beside its largest item.
BATCH = BYTES + ITEMS * OVERHEAD

# Milliseconds between two attempts to connect.
RECONNECT = 20
RECONNECT_MOST = 500

# The window bounds what is under way between two ends. These are for others, who send what nobody
# asked for and do not read what they are told: messages of one connection that wait to be read
# here, and there. What is beyond is read later, or counts as lost.
UNHEARD = 1_000
UNREAD = 50_000

_EVENTS = int(zmq.EVENTS)
_READABLE = int(zmq.POLLIN)
_NOBLOCK = int(zmq.NOBLOCK)
_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)

_UP = zmq.EVENT_HANDSHAKE_SUCCEEDED
_REFUSED = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
_CUT = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
_DOWN = zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED

# So many times the other end may hang up in the middle of the CURVE handshake, which is all that
# it says to a wrong key.
CUTS = 3


@dataclass(frozen=True, slots=True)
class Reports:
    """What the connection of an end that connects has come to.

    Attributes:
        up: whether it was made, or lost; None where neither.
        refused: whether the other end refused who this one is.
    """

    up: bool | None
    refused: bool


class Endpoint:
    """One socket, bound or connecting, with its reports.

    It is for one thread at a time.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        address: Address,
        *,
        bind: bool,
        security: Security | None,
        config: ZmqConfig,
        domain: str,
    ) -> None:
        self.domain: str = domain
        self._cuts = 0
        self._curve = security is not None and not security.insecure
        self._reports: zmq.Socket[Any] | None = None
        self._binds = bind
        self._path: Path | None = None
        socket = self._socket = context.socket(zmq.ROUTER if bind else zmq.DEALER)
        try:
            self._set_up(config, address)
            if security is not None and not security.insecure:
                self._set_up_curve(security)
            if not bind:
                events = _UP | _REFUSED | _CUT | _DOWN
                self._reports = socket.get_monitor_socket(events)
            (socket.bind if bind else socket.connect)(address.text)
        except BaseException:
            self.close(0)
            raise
        if bind:
            self._path = address.path
        self.address: str = bytes(socket.get(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()

    def _set_up(self, config: ZmqConfig, address: Address) -> None:
        socket = self._socket
        if self._binds:
            socket.set(zmq.ROUTER_MANDATORY, 1)
        else:
            socket.set(zmq.RECONNECT_IVL, RECONNECT)
            socket.set(zmq.RECONNECT_IVL_MAX, RECONNECT_MOST)
        socket.set(zmq.SNDHWM, UNREAD)
        socket.set(zmq.RCVHWM, UNHEARD)
        socket.set(zmq.MAXMSGSIZE, config.max_message + BATCH)
        socket.set(zmq.HANDSHAKE_IVL, max(1, int(config.peer_timeout * 1000)))
        socket.set(zmq.ZAP_DOMAIN, self.domain.encode())  # keeps out what is no ZeroMQ at all
        socket.set(zmq.IPV6, int("[" in address.text))

    def _set_up_curve(self, security: Security) -> None:
        socket = self._socket
        assert security.public_key is not None and security.secret_key is not None
        socket.set(zmq.CURVE_PUBLICKEY, security.public_key.encode())
        socket.set(zmq.CURVE_SECRETKEY, security.secret_key.encode())
        if self._binds:
            socket.set(zmq.CURVE_SERVER, 1)
        else:
            assert security.server_key is not None
            socket.set(zmq.CURVE_SERVERKEY, security.server_key.encode())

    def descriptors(self) -> tuple[int, int | None]:
        """What becomes readable when there is a message, and when there is a report."""
        reports = None if self._reports is None else int(self._reports.get(zmq.FD))
        return int(self._socket.get(zmq.FD)), reports

    def readable(self) -> bool:
        """Whether there is a message. Until this says no, descriptors need not show any."""
        return bool(int(self._socket.get(_EVENTS)) & _READABLE)

    def receive(self) -> tuple[bytes | None, bytes | None] | None:
        """The next message and the route that leads back, or None; a message of parts has none."""
        try:
            parts = self._socket.recv_multipart(_NOBLOCK)
        except zmq.Again:
            return None
        if self._binds:
            return parts[0], parts[1] if len(parts) == 2 else None
        return None, parts[0] if len(parts) == 1 else None

    def send(self, route: bytes | None, frame: bytes) -> bool:
        """Send, and say whether the route leads anywhere."""
        try:
            if route is not None:
                self._socket.send(route, _MORE)
            self._socket.send(frame, _NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise
            return False
        return True

    def reports(self) -> Reports:
        """What has become of the connection since the last time."""
        up = None
        refused = False
        while self._reports is not None and int(self._reports.get(_EVENTS)) & _READABLE:
            event = parse_monitor_message(self._reports.recv_multipart(_NOBLOCK))["event"]
            if event & _UP:
                up = True
                self._cuts = 0
            elif event & _REFUSED:
                refused = True
            elif event & _DOWN:
                up = False
            elif event & _CUT and self._curve:
                self._cuts += 1
                refused = refused or self._cuts >= CUTS
        return Reports(up, refused)

    def close(self, linger: float) -> None:
        """Close; what was sent goes out for at most so many seconds more."""
        if self._reports is not None:
            self._socket.disable_monitor()
            self._reports.close(0)
            self._reports = None
        if self._path is not None:
            # ZeroMQ leaves it behind. It is ours as long as the socket listens.
            with suppress(OSError):
                self._path.unlink()
            self._path = None
        self._socket.close(int(linger * 1000))


class Gatekeeper:
    """Asks of every CURVE key whether it is on the list, as ZAP (ZeroMQ RFC 27) has it."""

    def __init__(self, context: zmq.Context[Any]) -> None:
        self._socket = context.socket(zmq.REP)
        self._socket.bind("inproc://zeromq.zap.01")
        self._allowed: dict[str, frozenset[str]] = {}

    def descriptor(self) -> int:
        """What becomes readable when somebody is at the gate."""
        return int(self._socket.get(zmq.FD))

    def admit(self, domain: str, keys: frozenset[str]) -> None:
        """Let these keys into this domain."""
        self._allowed[domain] = keys

    def forget(self, domain: str) -> None:
        """Let nobody into the domain any more."""
        self._allowed.pop(domain, None)

    def answer(self) -> None:
        """Answer whoever is at the gate."""
        while int(self._socket.get(_EVENTS)) & _READABLE:
            request = self._socket.recv_multipart(_NOBLOCK)
            version, number, domain, _, _, mechanism, *credentials = request
            code, text = b"400", b"not on the list"
            if self._may_enter(domain.decode(), mechanism, credentials):
                code, text = b"200", b""
            self._socket.send_multipart((version, number, code, text, b"", b""), _NOBLOCK)

    def _may_enter(self, domain: str, mechanism: bytes, credentials: list[bytes]) -> bool:
        if mechanism == b"NULL":
            return True  # both ends ask that have no keys, and want none
        keys = self._allowed.get(domain, frozenset())
        key = z85.encode(credentials[0]).decode() if len(credentials) == 1 else ""
        return mechanism == b"CURVE" and key in keys

    def close(self) -> None:
        """Let nobody in any more."""
        self._socket.close(0)
