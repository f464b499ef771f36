"""Opening ends."""

from __future__ import annotations

import math
import os
from typing import Any, TypeVar

import zmq
from chrono_core import Channel

from . import _pairs
from ._address import Address, check_free, parse
from ._config import Security, ZmqConfig
from ._driver import LEAVING, LOOK, driver
from ._exceptions import AddressInUse
from ._frames import MAX_SCHEMA, SESSION, UNLIMITED
from ._link import Link
from ._machine import Terms
from ._real import nap, now, random_bytes
from ._receiver import Receiver
from ._receiving import ZmqReceiveStream
from ._sender import Sender
from ._sending import ZmqSendStream
from ._serde import MsgpackSerde, Serde
from ._socket import Endpoint

T = TypeVar("T")


def open_zmq_send(
    address: str,
    *,
    bind: bool = False,
    maxsize: float = 0,
    serde: Serde[T] | None = None,
    name: str | None = None,
    security: Security | None = None,
    config: ZmqConfig | None = None,
) -> ZmqSendStream[T]:
    """Open the sending end of a channel to another process.

    It need not be there yet: until it is, ``send`` takes ``maxsize`` items and then waits.

    Args:
        address: ``ipc://NAME``, ``ipc:///a/path`` or ``tcp://HOST:PORT``.
        bind: whether this end binds to the address; one of the two must, and the other connects.
        maxsize: how many items may be under way. 0 is a rendezvous: ``send`` returns when the
            receiver has taken the item. ``math.inf`` is unbounded.
        serde: what items are made into; without one, only plain values travel.
        name: what errors and reports call the channel; the address where not given.
        security: keys, or the word that none are wanted.
        config: times and sizes.

    Raises:
        ValueError: the address is none or is not safe, ``maxsize`` is no size.
        AddressInUse: something is bound there.
        TypeError: the address is no text, or ``serde`` none.
    """
    size = _size(maxsize)
    config, serde = config or ZmqConfig(), serde or MsgpackSerde()
    link = _open(Sender, address, bind, size, serde, name, security, config)
    return ZmqSendStream(link, name or link.address, serde, config)


def open_zmq_receive(
    address: str,
    *,
    bind: bool = True,
    maxsize: float | None = None,
    serde: Serde[T] | None = None,
    name: str | None = None,
    security: Security | None = None,
    config: ZmqConfig | None = None,
) -> ZmqReceiveStream[T]:
    """Open the receiving end of a channel from another process.

    Args:
        address: ``ipc://NAME``, ``ipc:///a/path`` or ``tcp://HOST:PORT``.
        bind: whether this end binds to the address; one of the two must, and the other connects.
        maxsize: how many items this end is willing to hold; where it is less than the sender's,
            it counts. None takes the sender's.
        serde: what items are made of; without one, only plain values travel.
        name: what errors and reports call the channel; the address where not given.
        security: keys, or the word that none are wanted.
        config: times and sizes.

    Raises:
        ValueError: the address is none or is not safe, ``maxsize`` is no size.
        AddressInUse: something is bound there.
        TypeError: the address is no text, or ``serde`` none.
    """
    size = None if maxsize is None else _size(maxsize)
    config, serde = config or ZmqConfig(), serde or MsgpackSerde()
    link = _open(Receiver, address, bind, size, serde, name, security, config)
    return ZmqReceiveStream(link, name or link.address, serde)


def open_zmq_channel(
    address: str = "ipc://*",
    *,
    bind_receive: bool = True,
    maxsize: float = 0,
    serde: Serde[T] | None = None,
    name: str | None = None,
    config: ZmqConfig | None = None,
) -> Channel[T]:
    """Open both ends in this process, with a real link between them: for tests.

    Args:
        address: as `open_zmq_send` has it; it must be ``ipc`` or loopback.
        bind_receive: whether the receiving end binds, and the sending end connects.
        maxsize: as `open_zmq_send` has it.
        serde: as `open_zmq_send` has it.
        name: what errors and reports call the channel; the address where not given.
        config: times and sizes.

    Raises:
        ValueError: the address is none or is not safe, ``maxsize`` is no size.
        AddressInUse: something is bound there.
        TypeError: the address is no text, or ``serde`` none.
    """
    send: ZmqSendStream[T]
    recv: ZmqReceiveStream[T]
    if bind_receive:
        recv = open_zmq_receive(address, serde=serde, name=name, config=config)
        send = open_zmq_send(recv.address, maxsize=maxsize, serde=serde, name=name, config=config)
    else:
        send = open_zmq_send(
            address, bind=True, maxsize=maxsize, serde=serde, name=name, config=config
        )
        recv = open_zmq_receive(send.address, bind=False, serde=serde, name=name, config=config)
    return Channel(send, recv, name or send.address)


def _size(maxsize: float) -> int:
    whole = isinstance(maxsize, int) and not isinstance(maxsize, bool)
    if maxsize != math.inf and not (whole and 0 <= maxsize < UNLIMITED):
        raise ValueError(f"maxsize must be a whole number from 0 up, or math.inf, got {maxsize!r}")
    return UNLIMITED if maxsize == math.inf else int(maxsize)


def _open(
    kind: type[Sender] | type[Receiver],
    address: str,
    bind: bool,
    maxsize: int | None,
    serde: Serde[Any],
    name: str | None,
    security: Security | None,
    config: ZmqConfig,
) -> Link:
    if os.name == "nt":
        raise NotImplementedError(
            "chrono-zmq waits for descriptors, as Windows does not: run it on Linux or macOS"
        )
    where = parse(address, bind=bind, security=security)
    if isinstance(serde, type) or not (hasattr(serde, "encode") and hasattr(serde, "decode")):
        raise TypeError(
            f"serde must have encode() and decode(), as MsgpackSerde(TYPE) has, got {serde!r}"
        )
    schema = getattr(serde, "schema", "")
    if not isinstance(schema, str) or len(schema.encode()) > MAX_SCHEMA:
        raise ValueError(f"the schema of {serde!r} must be a text of at most {MAX_SCHEMA} bytes")
    terms = Terms(
        session=random_bytes(SESSION),
        binds=bind,
        maxsize=maxsize,
        max_message=config.max_message,
        schema=schema,
        heartbeat=config.heartbeat,
        peer_timeout=config.peer_timeout,
    )
    endpoint = _endpoint(where, name or address, bind, security, config)
    ours = driver()
    link = Link(ours, kind(terms, now()), endpoint, config.linger)
    _pairs.add(link)
    ours.add(link)
    return link


def _endpoint(
    where: Address, channel: str, bind: bool, security: Security | None, config: ZmqConfig
) -> Endpoint:
    """Open the socket, once what this process had there is gone."""
    ours = driver()
    give_up = now() + LEAVING
    while bind and ours.leaves(where.text) and now() < give_up:
        # Its path is removed when it closes: not that of the next, then.
        if where.path is None or not where.path.exists():
            break
        nap(LOOK)
    while True:
        try:
            if bind and where.path is not None:
                check_free(where.path, channel)
            return ours.endpoint(where, bind=bind, security=security, config=config)
        except zmq.ZMQError as error:
            if error.errno != zmq.EADDRINUSE:
                raise ValueError(f"{where.text!r} cannot be used: {error.strerror}") from None
            if not ours.leaves(where.text) or now() > give_up:
                raise AddressInUse(
                    f"something is bound to {where.text!r} already: choose another port, or close "
                    "it",
                    channel=channel,
                ) from None
        nap(LOOK)
