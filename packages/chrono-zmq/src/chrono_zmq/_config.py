"""How an end behaves: times, sizes, keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import zmq
from chrono_core.lowlevel import finite
from zmq.utils import z85

MAX_MESSAGE = 2**31

# ZeroMQ counts milliseconds in 32 bits.
MAX_SECONDS = 2_000_000

_NO_CURVE = "this libzmq has no CURVE: install pyzmq from a wheel"


@dataclass(frozen=True, slots=True, kw_only=True)
class ZmqConfig:
    """Times and sizes of one end. Both ends should be given the same.

    Attributes:
        linger: how long, in seconds, a closed end goes on delivering, and for how long ``aclose``
            and the end of the process wait for that.
        heartbeat: an idle link shows that it lives once in so many seconds.
        peer_timeout: an end that was not heard for so many seconds is lost. At least twice the
            heartbeat. Code that holds Python's global lock for as long looks dead as well.
        max_message: the largest item, in bytes once encoded; up to 2 GiB. The receiver's must not
            be smaller than the sender's.

    Raises:
        ValueError: a value is out of its range, when it is made.
    """

    linger: float = 5.0
    heartbeat: float = 1.0
    peer_timeout: float = 5.0
    max_message: int = 16 * 1024 * 1024

    def __post_init__(self) -> None:
        for name in ("linger", "heartbeat", "peer_timeout"):
            seconds = finite(getattr(self, name), name)
            if seconds < 0 or (seconds == 0 and name != "linger"):
                raise ValueError(f"{name} must be a number of seconds above 0, got {seconds}")
            if seconds > MAX_SECONDS:
                raise ValueError(f"{name} must be at most {MAX_SECONDS} seconds, got {seconds}")
        if self.peer_timeout < 2 * self.heartbeat:
            raise ValueError(
                f"peer_timeout must be at least twice the heartbeat, got {self.peer_timeout} "
                f"and {self.heartbeat}"
            )
        size: object = self.max_message
        whole = isinstance(size, int) and not isinstance(size, bool)
        if not whole or not 1 <= self.max_message <= MAX_MESSAGE:
            raise ValueError(
                f"max_message must be a whole number of bytes from 1 to {MAX_MESSAGE}, got "
                f"{self.max_message!r}"
            )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Security:
    """Who may be at the other end.

    With CURVE, the end that binds is given its own pair of keys and the public keys that it
    accepts; the end that connects its own pair and the public key of the end that binds. Keys are
    text of 40 characters, as `generate_keys` makes them.

    Attributes:
        public_key: this end's own public key.
        secret_key: this end's own secret key. It is never printed.
        server_key: of an end that connects: the public key of the end that binds.
        allowed_keys: of an end that binds: the public keys that may connect.
        insecure: no encryption and no check, in so many words. Needed without keys for
            everything but ``ipc`` and loopback addresses.

    Raises:
        ValueError: a key is no key, or they do not make sense together, when it is made.
    """

    public_key: str | None = None
    secret_key: str | None = None
    server_key: str | None = None
    allowed_keys: Iterable[str] | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.allowed_keys, (str, bytes)):
            raise ValueError("allowed_keys must be a collection of public keys, not one text")
        if self.allowed_keys is not None:
            object.__setattr__(self, "allowed_keys", frozenset(self.allowed_keys))
        for name in ("public_key", "secret_key", "server_key"):
            _check_key(getattr(self, name), name)
        for key in self.allowed_keys or ():
            _check_key(key, "every one of allowed_keys")
        others = (self.public_key, self.secret_key, self.server_key, self.allowed_keys)
        if self.insecure:
            if any(one is not None for one in others):
                raise ValueError("insecure=True and keys exclude each other: give one of them")
            return
        if self.public_key is None or self.secret_key is None:
            raise ValueError(
                "a Security needs public_key and secret_key (see generate_keys), or insecure=True"
            )
        if _public(self.secret_key) != self.public_key:
            raise ValueError("public_key and secret_key are not of one pair: see generate_keys")
        if (self.server_key is None) == (self.allowed_keys is None):
            raise ValueError(
                "a Security needs server_key where its end connects, or allowed_keys where it "
                "binds, and not both"
            )

    def __repr__(self) -> str:
        if self.insecure:
            return "Security(insecure=True)"
        return f"Security(public_key={self.public_key!r}, ...)"


def _check_key(key: object, name: str) -> None:
    if key is None:
        return
    try:
        good = isinstance(key, str) and len(key) == 40 and len(z85.decode(key)) == 32
    except (ValueError, KeyError):
        good = False
    if not good:
        raise ValueError(f"{name} must be a CURVE key of 40 characters, as generate_keys makes it")


def _public(secret_key: str) -> str:
    try:
        return zmq.curve_public(secret_key.encode()).decode()
    except zmq.ZMQError as error:
        raise RuntimeError(_NO_CURVE) from error


def generate_keys() -> tuple[str, str]:
    """Make a pair of CURVE keys: the public one, and the secret one.

    Raises:
        RuntimeError: this build of libzmq has no CURVE.
    """
    try:
        public, secret = zmq.curve_keypair()
    except zmq.ZMQError as error:
        raise RuntimeError(_NO_CURVE) from error
    return public.decode(), secret.decode()
