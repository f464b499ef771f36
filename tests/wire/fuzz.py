"""Feeds hostile input to the wire format: `python -m tests.wire.fuzz --inputs N --seed S`.

A finding is an error that is not documented, or a promise that no longer holds. It is printed with
its input in hex, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Any
from zlib import crc32

import msgspec
from chrono_zmq import MsgpackSerde
from chrono_zmq import _frames as frames
from chrono_zmq._frames import UNLIMITED, Hello, ReceiverState, Reset, SenderState
from chrono_zmq._machine import Machine, Terms
from chrono_zmq._receiver import Receiver
from chrono_zmq._sender import ITEMS, Sender

OURS, THEIRS, STRANGER = b"\x11" * 8, b"\x22" * 8, b"\x33" * 8
ROUTES = (b"route", b"other")
MAX_MESSAGE = 64
SIZES = (0, 1, 4, 64, UNLIMITED)

# Inputs that one machine is given before another takes its place.
LIFE = 100

NUMBERS = (0, 1, 2, 3, 4, 5, 64, 255, 256, 2**16, 2**31, 2**32 - 1, 2**63, 2**64 - 2, 2**64 - 1)


class Finding(Exception):
    """Something does not hold."""


# Input


def repaired(data: bytes) -> bytes:
    """These bytes, with a checksum that is right."""
    return data[:4] + crc32(data[2:4] + data[8:]).to_bytes(4, "big") + data[8:]


def valid_frame(rng: random.Random) -> bytes:
    """A frame as an end might send it, from whom and for whom it may be."""
    source = THEIRS if rng.random() < 0.85 else rng.choice((STRANGER, OURS))
    target = OURS if rng.random() < 0.85 else rng.choice((STRANGER, frames.NOBODY))
    few = rng.randrange(12)
    kind = rng.randrange(12)
    if kind <= 4:
        items = [rng.randbytes(rng.choice((0, 1, 8, 65))) for _ in range(rng.randint(1, 6))]
        return frames.pack_data(source, target, few, items)
    if kind <= 6:
        state = SenderState(rng.randrange(8), rng.randrange(4), few)
        return frames.pack_sender(source, target, state)
    if kind <= 9:
        taken, arrived, limit = sorted(rng.randrange(12) for _ in range(3))
        answer = ReceiverState(rng.randrange(16), rng.randrange(4), arrived, taken, limit)
        return frames.pack_receiver(source, target, answer)
    if kind == 10:
        role = rng.choice((frames.SENDS, frames.RECEIVES))
        hello = Hello(role, rng.choice(SIZES), MAX_MESSAGE, rng.choice(("", "a", "b")))
        return frames.pack_hello(source, target, hello, welcome=rng.random() < 0.5)
    about = rng.choice((OURS, THEIRS, STRANGER))
    return frames.pack_reset(source, target, Reset(rng.randrange(10), about, "text"))


def mutated(data: bytes, rng: random.Random) -> bytes:
    """These bytes, somewhat changed."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(5)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            width = rng.choice((1, 2, 4, 8))
            out[at : at + width] = (rng.choice(NUMBERS) % 256**width).to_bytes(width, "big")
        elif kind == 2:
            del out[at:]
        elif kind == 3:
            out[at:at] = rng.randbytes(rng.randrange(1, 9))
        else:
            other = rng.randrange(len(out) + 1)
            out[at:] = out[other:]
    return bytes(out)


def frame_input(rng: random.Random) -> tuple[str, bytes]:
    """One input for whatever reads frames, and what kind it is of."""
    kind = rng.random()
    if kind < 0.1:
        return "random", rng.randbytes(rng.randrange(120))
    data = valid_frame(rng)
    if kind < 0.3:
        return "valid", data
    data = mutated(data, rng)
    return ("mutated", data) if kind < 0.45 else ("repaired", repaired(data))


# What is fed


def feed_unpack(rng: random.Random) -> Iterator[str]:
    """Frames to `unpack`: each is one, of another version, or none."""
    while True:
        kind, data = frame_input(rng)
        with reported(data):
            try:
                frames.unpack(data)
                outcome = "frame"
            except frames.BadFrame:
                outcome = "no frame"
            except frames.OtherVersion:
                outcome = "of another version"
        yield f"unpack: {kind}: {outcome}"


def feed_machines(rng: random.Random) -> Iterator[str]:
    """Frames to ends in all states, whose users go on meanwhile."""
    while True:
        user = User(rng)
        for _ in range(LIFE):
            kind, data = frame_input(rng)
            machine = user.machine
            with reported(data):
                before = machine.refused
                user.now += rng.choice((0.0, 0.0, 0.001, 0.1, 1.0))
                route = rng.choice(ROUTES) if machine.terms.binds else None
                machine.on_frame(data, route, user.now)
                user.check()
                user.act()
                user.check()
            refused = "refused" if machine.refused > before else "heard"
            yield f"{type(machine).__name__.lower()}: {kind}: {refused}"
            if machine.over or machine.failure is not None:
                break


class Point(msgspec.Struct):
    """A type of items."""

    x: int
    names: list[str]
    inner: Point | None = None


def feed_decoder(rng: random.Random) -> Iterator[str]:
    """MessagePack, and what is nearly so, to the decoders of several types."""
    serdes: list[MsgpackSerde[Any]] = [
        MsgpackSerde(kind) for kind in (Any, int, str, dict[str, list[float]], Point)
    ]
    encoded = [
        msgspec.msgpack.encode(item)
        for item in (
            None, 1, -1.5, "text", "ü" * 40, b"bytes", [1, [2, [3]]], {"a": [1.0, 2.0]},
            Point(1, ["a", "b"], Point(2, [])), {"x": 1, "names": ["é"], "inner": None},
        )
    ]  # fmt: skip
    while True:
        kind, data = payload(rng, encoded)
        with reported(data):
            try:
                rng.choice(serdes).decode(data)
                outcome = "item"
            except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
                outcome = type(error).__name__
        yield f"decode: {kind}: {outcome}"


def payload(rng: random.Random, encoded: list[bytes]) -> tuple[str, bytes]:
    kind = rng.random()
    if kind < 0.1:
        return "random", rng.randbytes(rng.randrange(60))
    if kind < 0.13:
        opening = rng.choice((b"\x91", b"\x81\xa1a", b"\xdc\x00\x01", b"\x82\xa1x\x01\xa5inner"))
        return "deep", opening * rng.choice((10, 500, 5_000)) + rng.choice((b"", b"\x01"))
    if kind < 0.3:
        text = rng.randbytes(rng.randrange(1, 20)) + rng.choice((b"\xff", b"\xc3", b"\xed\xa0\x80"))
        return "bad text", bytes([0xA0 + len(text)]) + text
    if kind < 0.5:
        length = rng.choice(NUMBERS) % 2**32
        head = rng.choice((b"\xdd", b"\xdf", b"\xc6", b"\xdb", b"\xc9"))
        return "bad length", head + length.to_bytes(4, "big") + rng.choice(encoded)
    return "mutated", mutated(rng.choice(encoded), rng)


# Ends and their users


class User:
    """One end, in some state, and what is done with it."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.now = 0.0
        kind = rng.choice((Sender, Receiver))
        size = rng.choice(SIZES)
        terms = Terms(
            session=OURS,
            binds=rng.random() < 0.5,
            maxsize=None if kind is Receiver and rng.random() < 0.5 else size,
            max_message=MAX_MESSAGE,
            schema=rng.choice(("", "a")),
            heartbeat=1.0,
            peer_timeout=5.0,
        )
        self.machine: Machine = kind(terms, self.now)
        self.machine.on_link(True, self.now)
        if rng.random() < 0.9:
            self.meet()
        self.machine.outgoing()

    def meet(self) -> None:
        """Meet the other end, as it should be."""
        machine = self.machine
        role = frames.RECEIVES if machine.role == frames.SENDS else frames.SENDS
        hello = Hello(role, self.rng.choice(SIZES), MAX_MESSAGE, "")
        data = frames.pack_hello(THEIRS, OURS, hello, welcome=not machine.terms.binds)
        route = ROUTES[0] if machine.terms.binds else None
        machine.on_frame(data, route, self.now)
        if isinstance(machine, Sender):  # let it have something to be wrong about
            state = ReceiverState(0, 0, 0, 0, self.rng.choice((1, 8, UNLIMITED)))
            machine.on_frame(frames.pack_receiver(THEIRS, OURS, state), route, self.now)
            machine.accept([b"item"] * min(machine.room(), 8))
            machine.push(self.now)

    def act(self) -> None:
        """Do what a user or a link may do."""
        rng, machine = self.rng, self.machine
        kind = rng.randrange(40)
        if kind == 0:
            machine.on_link(rng.random() < 0.8, self.now)
        elif kind == 1 and machine.terms.binds:
            machine.on_unreachable(rng.choice(ROUTES))
        elif kind <= 4:
            machine.on_time(self.now)
        elif isinstance(machine, Sender):
            self.send(machine, kind)
        elif isinstance(machine, Receiver):
            if kind <= 24 and machine.inbox:
                machine.take(self.now, rng.randint(1, len(machine.inbox)))
            elif kind == 39 and rng.random() < 0.1:
                machine.close(self.now)
            else:
                machine.want(self.now)

    def send(self, machine: Sender, kind: int) -> None:
        if machine.closed or machine.peer_closed or machine.failure is not None:
            return
        if kind <= 24:
            count = min(self.rng.randint(1, 6), machine.room())
            machine.accept([b"item"] * count)
            machine.push(self.now)
        elif kind == 39 and self.rng.random() < 0.1:
            machine.close(self.now)
        else:
            machine.want(self.now)

    def check(self) -> None:
        """What holds whatever comes."""
        machine = self.machine
        sent = machine.outgoing()
        for route, data in sent:
            expect((route is None) != machine.terms.binds, "sent nowhere")
            frames.unpack(data)
        expect(machine.deadline() > -inf, "no deadline")
        if isinstance(machine, Sender):
            expect(machine.taken <= machine.arrived <= machine.accepted, "taken, arrived, accepted")
            expect(len(sent) <= machine.accepted / ITEMS + 16 + 8, "one frame brings forth many")
        if isinstance(machine, Receiver):
            expect(machine.taken <= machine.arrived, "taken, arrived")
            expect(machine.arrived <= machine.limit, "arrived, limit")
            expect(all(len(item) <= MAX_MESSAGE for item in machine.inbox), "too large an item")
            expect(len(machine.inbox) <= max(1, machine.maxsize), "the window")
            expect(machine.total is None or machine.arrived <= machine.total, "arrived, total")
            expect(len(sent) <= 16 + 8, "one frame brings forth many")


def expect(holds: bool, what: str) -> None:
    if not holds:
        raise Finding(what)


@contextmanager
def reported(data: bytes) -> Iterator[None]:
    """Make a finding that shows the input of every error."""
    try:
        yield
    except Exception as error:
        raise Finding(f"{type(error).__name__}: {error}; the input was {data.hex()}") from error


FEEDS: tuple[tuple[Callable[[random.Random], Iterator[str]], int], ...] = (
    (feed_unpack, 3),
    (feed_machines, 4),
    (feed_decoder, 3),
)


def run(inputs: int, seed: int) -> Counter[str]:
    """Feed so many inputs; returns how often each outcome came.

    Raises:
        Finding: something does not hold.
    """
    rng = random.Random(seed)
    feeds = [feed(rng) for feed, weight in FEEDS for _ in range(weight)]
    outcomes: Counter[str] = Counter()
    for number in range(inputs):
        outcomes[next(feeds[number % len(feeds)])] += 1
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.wire.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.perf_counter()
    try:
        outcomes = run(options.inputs, options.seed)
    except Finding as finding:
        print(f"finding: {finding}")
        return 1
    seconds = time.perf_counter() - start
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:>9}  {outcome}")
    print(f"{options.inputs} inputs, seed {options.seed}, {options.inputs / seconds:,.0f} a second")
    return 0


if __name__ == "__main__":
    sys.exit(main())
