"""The wire format, byte by byte."""

from pathlib import Path
from zlib import crc32

import chrono_zmq._frames as frames
import pytest
from chrono_zmq._frames import (
    NOBODY,
    UNLIMITED,
    BadFrame,
    Data,
    Frame,
    Hello,
    OtherVersion,
    ReceiverState,
    Reset,
    SenderState,
    unpack,
)
from chrono_zmq._machine import Terms
from chrono_zmq._receiver import Receiver
from chrono_zmq._sender import Sender
from hypothesis import given
from hypothesis import strategies as st

SHORT = st.integers(0, 2**8 - 1)
LONG = st.integers(0, 2**32 - 1)
HUGE = st.integers(0, UNLIMITED)
SESSION = st.binary(min_size=8, max_size=8)
SOMEBODY = SESSION.filter(lambda session: session != NOBODY)
# At most 1,024 bytes in UTF-8.
TEXT = st.text(max_size=256)


def receiver_state(flags: int, echo: int, taken: int, arrived: int, limit: int) -> ReceiverState:
    return ReceiverState(flags, echo, arrived, taken, limit)


HELLOS = st.builds(
    Hello,
    role=st.sampled_from([frames.SENDS, frames.RECEIVES]),
    maxsize=HUGE,
    max_message=HUGE,
    schema=TEXT,
)
BODIES = (
    HELLOS
    | st.builds(Reset, reason=SHORT, about=SESSION, text=TEXT)
    | st.builds(
        Data,
        first=st.integers(0, UNLIMITED - 10),
        items=st.lists(st.binary(max_size=100), min_size=1, max_size=10),
    )
    | st.builds(SenderState, flags=SHORT, nonce=LONG, total=HUGE)
    | st.builds(
        lambda flags, echo, counts: receiver_state(flags, echo, *sorted(counts)),
        SHORT,
        LONG,
        st.tuples(HUGE, HUGE, HUGE),
    )
)
TYPES: dict[type[object], int] = {
    Hello: frames.HELLO,
    Reset: frames.RESET,
    Data: frames.DATA,
    SenderState: frames.SENDER,
    ReceiverState: frames.RECEIVER,
}
FRAMES = st.builds(
    lambda body, source, target: Frame(TYPES[type(body)], source, target, body),
    BODIES,
    SOMEBODY,
    SESSION,
) | st.builds(Frame, st.just(frames.WELCOME), SOMEBODY, SESSION, HELLOS)


def pack(frame: Frame) -> bytes:
    source, target, body = frame.source, frame.target, frame.body
    if isinstance(body, Hello):
        return frames.pack_hello(source, target, body, welcome=frame.type == frames.WELCOME)
    if isinstance(body, Reset):
        return frames.pack_reset(source, target, body)
    if isinstance(body, Data):
        return frames.pack_data(source, target, body.first, body.items)
    if isinstance(body, SenderState):
        return frames.pack_sender(source, target, body)
    return frames.pack_receiver(source, target, body)


@given(frame=FRAMES)
def test_what_is_packed_is_unpacked(frame: Frame) -> None:
    """Every frame is read as what was written."""
    assert unpack(pack(frame)) == frame


@given(frame=FRAMES, data=st.data())
def test_changed_byte_is_noticed(frame: Frame, data: st.DataObject) -> None:
    """No frame with one byte changed is taken for a frame."""
    packed = pack(frame)
    at = data.draw(st.integers(0, len(packed) - 1))
    change = data.draw(st.integers(1, 255))
    with pytest.raises(OtherVersion if at == 2 else BadFrame):
        unpack(packed[:at] + bytes([packed[at] ^ change]) + packed[at + 1 :])


@given(frame=FRAMES, data=st.data())
def test_truncated_frame_is_noticed(frame: Frame, data: st.DataObject) -> None:
    """No beginning of a frame is taken for a frame, and nothing may follow one."""
    packed = pack(frame)
    end = data.draw(st.integers(0, len(packed) - 1))
    for wrong in (packed[:end], packed + packed[:end] + b"\0"):
        with pytest.raises(BadFrame):
            unpack(wrong)


@given(frame=FRAMES, data=st.data())
def test_truncated_frame_with_a_good_checksum_is_noticed(frame: Frame, data: st.DataObject) -> None:
    """The lengths within a frame must fit, even where the checksum does."""
    packed = pack(frame)
    end = data.draw(st.integers(frames.HEADER, len(packed) - 1))
    for wrong in (packed[:end], packed + b"\0"):
        with pytest.raises(BadFrame):
            unpack(repaired(wrong))


def repaired(data: bytes) -> bytes:
    """These bytes, with a checksum that is right."""
    check = crc32(data[2:4] + data[8:])
    return data[:4] + check.to_bytes(4, "big") + data[8:]


@given(data=st.binary(max_size=200), head=st.booleans(), type=st.integers(0, 8))
def test_arbitrary_bytes_raise_nothing_else(data: bytes, head: bool, type: int) -> None:
    """Bytes are a frame, of another version, or none, whatever they are."""
    if head:
        data = repaired(frames.MAGIC + bytes([frames.VERSION, type]) + bytes(4) + data)
    try:
        frame = unpack(data)
    except (BadFrame, OtherVersion):
        return
    assert pack(frame) == data


def test_nobody_sends_nothing() -> None:
    """A frame bears the session of whoever sent it."""
    data = frames.pack_sender(NOBODY, b"receiver", SenderState(0, 0, 0))
    with pytest.raises(BadFrame):
        unpack(data)


def test_frame_of_another_version_tells_which(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first twelve bytes and the two sessions mean the same in every version."""
    monkeypatch.setattr(frames, "VERSION", 7)
    data = frames.pack_sender(b"a sender", b"receiver", SenderState(0, 0, 0))
    monkeypatch.undo()
    with pytest.raises(OtherVersion) as caught:
        unpack(data + b"and what this version knows nothing of")
    assert (caught.value.version, caught.value.source) == (7, b"a sender")


def test_bytes_of_a_frame() -> None:
    """One frame of DATA, as docs/wire-format.md has it."""
    assert frames.pack_data(b"a sender", b"receiver", 258, [b"xy", b""]) == (
        bytes.fromhex("c77a 01 04")
        + bytes.fromhex("342a67ca")
        + b"a sender"
        + b"receiver"
        + bytes.fromhex("0000000000000102 00000002")
        + bytes.fromhex("00000002")
        + b"xy"
        + bytes.fromhex("00000000")
    )


# A conversation of version 1, which every later release that speaks it must understand

ITEMS = [b"\x00", b"\x01", b"\x02", b"\xa5three", b"\x04", b"\x05", b"\x06"]


def exchange() -> list[tuple[str, bytes]]:
    """What was said, and to whom: "to-receiver", "to-sender" or "to-stranger"."""
    lines = (Path(__file__).parent / "exchange_1.txt").read_text(encoding="utf-8").splitlines()
    said = [line.split() for line in lines if not line.startswith("#")]
    return [(whom, bytes.fromhex(data)) for whom, data in said]


def terms(session: bytes, *, binds: bool) -> Terms:
    return Terms(
        session=session * 8,
        binds=binds,
        maxsize=None if binds else 4,
        max_message=1024,
        schema="int 0123456789abcdef",
        heartbeat=1.0,
        peer_timeout=5.0,
    )


def test_recorded_frames_are_packed_as_they_were() -> None:
    """Every frame of the recorded exchange is read, and written with the same bytes."""
    assert {unpack(data).type for _, data in exchange()} == set(range(1, 7))
    for _, data in exchange():
        assert pack(unpack(data)) == data


def test_recorded_exchange_gives_the_same_items() -> None:
    """A receiver that hears the recorded sender receives what was sent, and the end."""
    receiver = Receiver(terms(b"\x22", binds=True), 0.0)
    taken: list[bytes] = []
    for whom, data in exchange():
        if whom == "to-receiver":
            receiver.on_frame(data, b"route", 0.0)
            taken += receiver.take(0.0, len(receiver.inbox))
    assert taken == ITEMS
    assert receiver.ended and receiver.sender_done
    assert receiver.refused == 0


def test_recorded_exchange_is_understood_by_a_sender() -> None:
    """A sender that hears the recorded receiver sends the same, and knows that it arrived."""
    sender = Sender(terms(b"\x11", binds=False), 0.0)
    sender.on_link(True, 0.0)
    sender.on_time(0.0)
    sent: dict[int, bytes] = {}
    left = list(ITEMS)
    for whom, data in exchange():
        while left and sender.has_room():
            sender.accept([left.pop(0)])
            sender.push(0.0)
        if not left and not sender.closed:
            sender.close(0.0)
        for _, frame in sender.outgoing():
            body = unpack(frame).body
            if isinstance(body, Data):
                sent |= enumerate(body.items, body.first)
        if whom == "to-sender":
            sender.on_frame(data, None, 0.0)
    assert [sent[number] for number in sorted(sent)] == ITEMS
    assert sender.delivered and sender.over
    assert sender.refused == 0
