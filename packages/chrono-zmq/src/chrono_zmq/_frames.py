"""The frames of the wire format, as docs/wire-format.md describes them byte by byte.

One frame is one ZeroMQ message. Everything here is a pure function of bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

MAGIC = b"\xc7z"
VERSION = 1

# Frames
HELLO, WELCOME, RESET, DATA, SENDER, RECEIVER = range(1, 7)

# Roles in HELLO and WELCOME
SENDS, RECEIVES = 1, 2

# Flags in SENDER
FIN = 1  # the sender closed, and `total` says after how many items
DONE = 2  # it knows that everything arrived, and is gone after this
CLOSE_SEEN = 4  # it knows that the receiver closed
WAITS = 8  # its user waits for what was sent to be taken

# Flags in RECEIVER
FIN_SEEN = 1  # it knows the total
CLOSED = 2  # it closed, and takes nothing more
GAP = 4  # something is missing before what came last
ASK = 8  # show at once that you live

# Reasons in RESET
UNKNOWN, GONE, IN_USE, OTHER_VERSION, OTHER_SCHEMA, SAME_ROLE, TOO_LARGE = range(1, 8)

NOBODY = b"\0" * 8
UNLIMITED = 2**64 - 1
SESSION = 8

# magic, version, type, check sum, session of who sends this, session of whom it is for
_HEADER = struct.Struct("!2sBBI8s8s")
_HELLO = struct.Struct("!BQQH")
_RESET = struct.Struct("!B8sH")
_DATA = struct.Struct("!QI")
_LENGTH = struct.Struct("!I")
_SENDER = struct.Struct("!BIQ")
_RECEIVER = struct.Struct("!BIQQQ")

HEADER = _HEADER.size
# What a frame adds to one item.
OVERHEAD = HEADER + _DATA.size + _LENGTH.size
MAX_SCHEMA = 1024


class BadFrame(Exception):
    """These bytes are no frame."""


class OtherVersion(Exception):
    """This is a frame of another version of the format."""

    def __init__(self, version: int, source: bytes) -> None:
        super().__init__(version)
        self.version = version
        self.source = source


@dataclass(frozen=True, slots=True)
class Hello:
    """HELLO and WELCOME: what one end is."""

    role: int
    maxsize: int
    max_message: int
    schema: str


@dataclass(frozen=True, slots=True)
class Reset:
    """RESET: these two ends have nothing to say to each other."""

    reason: int
    about: bytes
    text: str


@dataclass(frozen=True, slots=True)
class Data:
    """DATA: items, from number `first` on."""

    first: int
    items: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class SenderState:
    """SENDER: how far the sender is. To be answered."""

    flags: int
    nonce: int
    total: int


@dataclass(frozen=True, slots=True)
class ReceiverState:
    """RECEIVER: how far the receiver is."""

    flags: int
    echo: int
    arrived: int
    taken: int
    limit: int


Body = Hello | Reset | Data | SenderState | ReceiverState


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that was read."""

    type: int
    source: bytes
    target: bytes
    body: Body


def pack_hello(source: bytes, target: bytes, hello: Hello, *, welcome: bool = False) -> bytes:
    schema = hello.schema.encode()
    body = _HELLO.pack(hello.role, hello.maxsize, hello.max_message, len(schema)) + schema
    return _pack(WELCOME if welcome else HELLO, source, target, body)


def pack_reset(source: bytes, target: bytes, reset: Reset) -> bytes:
    text = reset.text.encode()
    return _pack(RESET, source, target, _RESET.pack(reset.reason, reset.about, len(text)) + text)


def pack_data(source: bytes, target: bytes, first: int, items: Sequence[bytes]) -> bytes:
    start = _DATA.pack(first, len(items))
    if len(items) == 1:  # it may be large, and is copied once
        return _pack(DATA, source, target, start + _LENGTH.pack(len(items[0])), items[0])
    parts = [start]
    for item in items:
        parts.append(_LENGTH.pack(len(item)))
        parts.append(item)
    return _pack(DATA, source, target, b"".join(parts))


def pack_sender(source: bytes, target: bytes, state: SenderState) -> bytes:
    return _pack(SENDER, source, target, _SENDER.pack(state.flags, state.nonce, state.total))


def pack_receiver(source: bytes, target: bytes, state: ReceiverState) -> bytes:
    body = _RECEIVER.pack(state.flags, state.echo, state.arrived, state.taken, state.limit)
    return _pack(RECEIVER, source, target, body)


def _pack(type: int, source: bytes, target: bytes, body: bytes, item: bytes = b"") -> bytes:
    head = bytes((VERSION, type)) + source + target
    check = crc32(item, crc32(body, crc32(head)))
    return b"".join((_HEADER.pack(MAGIC, VERSION, type, check, source, target), body, item))


def unpack(data: bytes) -> Frame:
    """Read a frame.

    Raises:
        BadFrame: these bytes are none.
        OtherVersion: it is one of another version.
    """
    if len(data) < HEADER or data[:2] != MAGIC:
        raise BadFrame
    _, version, type, check, source, target = _HEADER.unpack_from(data)
    if version != VERSION:
        raise OtherVersion(version, source)
    if check != crc32(memoryview(data)[HEADER:], crc32(data[2:4] + data[8:HEADER])):
        raise BadFrame
    if source == NOBODY:
        raise BadFrame
    try:
        body = _unpack_body(type, data)
    except (struct.error, UnicodeDecodeError):
        raise BadFrame from None
    return Frame(type, source, target, body)


def _unpack_body(type: int, data: bytes) -> Body:
    if type == DATA:
        return _unpack_data(data)
    if type == RECEIVER:
        _expect(data, HEADER + _RECEIVER.size)
        state = ReceiverState(*_RECEIVER.unpack_from(data, HEADER))
        if not state.taken <= state.arrived <= state.limit:
            raise BadFrame
        return state
    if type == SENDER:
        _expect(data, HEADER + _SENDER.size)
        return SenderState(*_SENDER.unpack_from(data, HEADER))
    if type in (HELLO, WELCOME):
        role, maxsize, max_message, length = _HELLO.unpack_from(data, HEADER)
        start = HEADER + _HELLO.size
        _expect(data, start + length)
        if role not in (SENDS, RECEIVES) or length > MAX_SCHEMA:
            raise BadFrame
        return Hello(role, maxsize, max_message, data[start:].decode())
    if type == RESET:
        reason, about, length = _RESET.unpack_from(data, HEADER)
        start = HEADER + _RESET.size
        _expect(data, start + length)
        return Reset(reason, about, data[start:].decode())
    raise BadFrame


def _unpack_data(data: bytes) -> Data:
    first, count = _DATA.unpack_from(data, HEADER)
    at = HEADER + _DATA.size
    end = len(data)
    if not 1 <= count <= (end - at) // _LENGTH.size or first + count > UNLIMITED:
        raise BadFrame
    items = []
    for _ in range(count):
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if length > end - at:
            raise BadFrame
        items.append(data[at : at + length])
        at += length
    if at != end:
        raise BadFrame
    return Data(first, items)


def _expect(data: bytes, length: int) -> None:
    if len(data) != length:
        raise BadFrame
