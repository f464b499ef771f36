"""The two machines, over every kind of bad link."""

from collections import deque
from math import inf

from chrono_zmq import _frames as frames
from chrono_zmq._machine import LOST, Machine, Terms
from chrono_zmq._receiver import Receiver
from chrono_zmq._sender import Sender
from hypothesis import example, given
from hypothesis import strategies as st

HEARTBEAT = 1.0
PEER_TIMEOUT = 1000.0  # no schedule below lasts so long
BINDER = b"\x01" * 8
CONNECTOR = b"\x02" * 8
ROUTE = b"r"


def terms(session: bytes, *, maxsize: int | None = None, schema: str = "") -> Terms:
    return Terms(
        session=session,
        binds=session == BINDER,
        maxsize=maxsize,
        max_message=1000,
        schema=schema,
        heartbeat=HEARTBEAT,
        peer_timeout=PEER_TIMEOUT,
    )


class Wire:
    """A sender, a receiver, and a link between them that does what the test says."""

    def __init__(self, maxsize: int, theirs: int | None, *, sender_binds: bool) -> None:
        self.now = 0.0
        ours, other = (BINDER, CONNECTOR) if sender_binds else (CONNECTOR, BINDER)
        self.sender = Sender(terms(ours, maxsize=maxsize), 0.0)
        self.receiver = Receiver(terms(other, maxsize=theirs), 0.0)
        self.to_receiver: deque[bytes] = deque()
        self.to_sender: deque[bytes] = deque()
        self.taken: list[bytes] = []
        self.given = 0
        self.up = False
        self.set_up(True)

    def set_up(self, up: bool) -> None:
        self.up = up
        for machine in (self.sender, self.receiver):
            if machine.terms.binds:
                if not up:
                    machine.on_unreachable(ROUTE)
            else:
                machine.on_link(up, self.now)
        if not up:
            self.to_receiver.clear()
            self.to_sender.clear()
        self.collect()

    def collect(self) -> None:
        """Put on the wire what the machines want sent."""
        for machine, queue in (
            (self.sender, self.to_receiver),
            (self.receiver, self.to_sender),
        ):
            for route, frame in machine.outgoing():
                assert (route is None) != machine.terms.binds
                if self.up:
                    queue.append(frame)
                elif route is not None:
                    machine.on_unreachable(route)
        self.check()

    def deliver(self, machine: Machine, frame: bytes) -> None:
        machine.on_frame(frame, ROUTE if machine.terms.binds else None, self.now)
        self.collect()

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while min(self.sender.deadline(), self.receiver.deadline()) <= end:
            self.now = max(self.now, min(self.sender.deadline(), self.receiver.deadline()))
            self.tell_time()
        self.now = end
        self.tell_time()

    def tell_time(self) -> None:
        for machine in (self.sender, self.receiver):
            machine.on_time(self.now)
        self.collect()

    def give(self) -> bool:
        sender = self.sender
        if sender.closed or sender.peer_closed or not sender.has_room():
            sender.want(self.now)
            self.collect()
            return False
        sender.accept([b"%d" % self.given])
        self.given += 1
        sender.push(self.now)
        self.collect()
        return True

    def take(self) -> bool:
        receiver = self.receiver
        if not receiver.inbox:
            receiver.want(self.now)
            self.collect()
            return False
        self.taken += receiver.take(self.now)
        self.collect()
        return True

    def check(self) -> None:
        """What holds at every moment."""
        sender, receiver = self.sender, self.receiver
        assert self.taken == [b"%d" % i for i in range(len(self.taken))]
        assert sender.taken <= sender.arrived <= sender.accepted
        assert sender.taken <= receiver.taken <= receiver.arrived <= sender.accepted
        assert receiver.arrived <= receiver.limit or not receiver.met
        if receiver.maxsize not in (0, frames.UNLIMITED):
            assert len(receiver.inbox) <= receiver.maxsize
        if receiver.ended:
            assert sender.closed and len(self.taken) == sender.accepted

    def settle(self, seconds: float = 60.0) -> None:
        """Let the link work well from now on, for so long, with everybody polling."""
        self.set_up(True)
        end = self.now + seconds
        while self.now < end:
            while self.to_receiver or self.to_sender:
                if self.to_receiver:
                    self.deliver(self.receiver, self.to_receiver.popleft())
                if self.to_sender:
                    self.deliver(self.sender, self.to_sender.popleft())
            deadline = min(self.sender.deadline(), self.receiver.deadline())
            if deadline == inf:
                return
            self.pass_time(max(0.0, min(deadline, end) - self.now))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "give", "give", "take", "take", "to receiver", "to sender", "to receiver",
                "to sender", "drop", "drop back", "repeat", "repeat back", "swap", "swap back",
                "cut", "mend", "wait", "wait long",
            ]
        ),
        st.integers(0, 5),
    ),
    max_size=60,
)  # fmt: skip


def play(wire: Wire, steps: list[tuple[str, int]]) -> None:
    queues = {"": wire.to_receiver, " back": wire.to_sender}
    for action, number in steps:
        if action == "give":
            wire.give()
        elif action == "take":
            wire.take()
        elif action == "to receiver" and wire.to_receiver:
            wire.deliver(wire.receiver, wire.to_receiver.popleft())
        elif action == "to sender" and wire.to_sender:
            wire.deliver(wire.sender, wire.to_sender.popleft())
        elif action == "cut":
            wire.set_up(False)
        elif action == "mend" and not wire.up:
            wire.set_up(True)
        elif action == "wait":
            wire.pass_time(0.05)
        elif action == "wait long":
            wire.pass_time(0.6)
        else:
            verb, back, _ = action.partition(" back")
            queue = queues[back]
            if verb == "drop" and queue:
                del queue[number % len(queue)]
            elif verb == "repeat" and queue:
                queue.append(queue[number % len(queue)])
            elif verb == "swap" and queue:
                queue.rotate(number)


def take_all(wire: Wire) -> None:
    """Take whatever was given; each item comes within two seconds."""
    while len(wire.taken) < wire.given:
        if not wire.take():
            wire.settle(2.0)
            assert wire.take(), "an item never arrives"


SIZES = st.sampled_from([0, 1, 2, 5, frames.UNLIMITED - 1, frames.UNLIMITED])


@given(
    maxsize=SIZES, theirs=st.none() | SIZES, sender_binds=st.booleans(), met=st.booleans(),
    steps=STEPS,
)  # fmt: skip
@example(
    maxsize=1,
    theirs=1,
    sender_binds=True,
    met=False,
    steps=[("give", 0)] * 16
    + [("to sender", 0), ("to receiver", 0), ("drop", 0), ("drop back", 0)],
)
@example(  # the most that may come is more than a frame can say
    maxsize=frames.UNLIMITED - 1,
    theirs=None,
    sender_binds=True,
    met=True,
    steps=[("give", 0)] * 3,
)
def test_items_arrive_exactly_once_over_any_link(
    maxsize: int, theirs: int | None, sender_binds: bool, met: bool, steps: list[tuple[str, int]]
) -> None:
    """Whatever is lost, repeated, swapped or cut: once it works again, all arrives, in order."""
    wire = Wire(maxsize, theirs, sender_binds=sender_binds)
    if met:
        wire.settle(0.5)
    play(wire, steps)
    wire.settle(2.0)
    take_all(wire)
    wire.settle(2.0)
    assert wire.sender.taken == wire.sender.arrived == wire.given
    wire.take()  # somebody waits, so that a rendezvous can begin
    wire.settle(2.0)
    assert wire.give(), "there is room, and the sender does not know"
    wire.sender.close(wire.now)
    wire.collect()
    wire.settle(2.0)
    assert wire.take()
    wire.settle(2.0)
    assert wire.receiver.ended
    assert wire.sender.over and wire.sender.delivered
    assert wire.sender.failure is None and wire.receiver.failure is None


@given(maxsize=SIZES, sender_binds=st.booleans(), steps=STEPS)
def test_the_end_never_comes_too_early(
    maxsize: int, sender_binds: bool, steps: list[tuple[str, int]]
) -> None:
    """A sender that closed in the middle: the receiver has everything before it sees the end."""
    wire = Wire(maxsize, None, sender_binds=sender_binds)
    play(wire, steps[: len(steps) // 2])
    wire.sender.close(wire.now)
    wire.collect()
    play(wire, steps[len(steps) // 2 :])
    wire.settle(2.0)
    take_all(wire)
    wire.settle(2.0)
    assert wire.receiver.ended
    assert wire.sender.over


@given(maxsize=SIZES, sender_binds=st.booleans(), steps=STEPS)
def test_a_receiver_that_closes_is_noticed(
    maxsize: int, sender_binds: bool, steps: list[tuple[str, int]]
) -> None:
    """Whatever the link does, a sender learns that its receiver closed, and what it had taken."""
    wire = Wire(maxsize, None, sender_binds=sender_binds)
    wire.settle(0.5)
    half = len(steps) // 2
    play(wire, steps[:half])
    taken = wire.receiver.taken
    wire.receiver.close(wire.now)
    wire.collect()
    play(wire, [step for step in steps[half:] if step[0] != "take"])
    wire.settle(2.0)
    assert wire.sender.peer_closed
    assert wire.sender.taken == taken
    assert wire.receiver.over


def test_silence_is_loss() -> None:
    """Both ends give up after `peer_timeout` without a word, and not before."""
    wire = Wire(4, None, sender_binds=False)
    wire.settle(0.5)
    wire.set_up(False)
    wire.pass_time(PEER_TIMEOUT - 0.6)
    assert wire.sender.failure is None and wire.receiver.failure is None
    wire.pass_time(0.6)
    for machine in (wire.sender, wire.receiver):
        assert machine.failure is not None and machine.failure.reason == LOST
        assert machine.deadline() == inf


def test_an_idle_link_stays_alive() -> None:
    """An hour without an item is no reason to be lost, and costs two frames a heartbeat."""
    wire = Wire(4, None, sender_binds=False)
    wire.settle(3600.0)
    assert wire.sender.met and wire.receiver.met
    assert wire.sender.failure is None and wire.receiver.failure is None


def test_what_had_arrived_is_there_after_a_loss() -> None:
    """A receiver is not broken before it has taken what had come."""
    wire = Wire(4, None, sender_binds=False)
    wire.settle(0.5)
    for _ in range(3):
        wire.give()
    wire.settle(0.1)
    wire.set_up(False)
    wire.pass_time(PEER_TIMEOUT + 1)
    assert not wire.receiver.broken
    while wire.take():
        pass
    assert wire.taken == [b"0", b"1", b"2"]
    assert wire.receiver.broken and not wire.receiver.ended


def test_another_process_in_its_place_is_a_loss() -> None:
    """A connecting end that finds another session where it was does not go on with that."""
    wire = Wire(4, None, sender_binds=False)
    wire.settle(0.5)
    other = Receiver(
        Terms(
            session=b"\x03" * 8, binds=True, maxsize=None, max_message=1000, schema="",
            heartbeat=1.0, peer_timeout=PEER_TIMEOUT,
        ),
        wire.now,
    )  # fmt: skip
    wire.give()
    other.on_frame(wire.to_receiver.popleft(), ROUTE, wire.now)
    for _, frame in other.outgoing():
        wire.sender.on_frame(frame, None, wire.now)
    assert wire.sender.failure is not None and wire.sender.failure.reason == LOST
    assert not other.inbox and other.refused == 1


def test_a_stranger_is_told_once_the_owner_shows_that_it_lives() -> None:
    """A second sender is refused, and the first goes on."""
    wire = Wire(4, None, sender_binds=False)
    wire.settle(0.5)
    stranger = Sender(
        Terms(
            session=b"\x04" * 8, binds=False, maxsize=1, max_message=1000, schema="",
            heartbeat=1.0, peer_timeout=PEER_TIMEOUT,
        ),
        wire.now,
    )  # fmt: skip
    stranger.on_link(True, wire.now)
    stranger.on_time(wire.now)
    ((_, hello),) = stranger.outgoing()
    wire.receiver.on_frame(hello, b"s", wire.now)
    sent = wire.receiver.outgoing()
    assert [route for route, _ in sent] == [ROUTE], "the owner is asked first"
    wire.sender.on_frame(sent[0][1], None, wire.now)
    for _, frame in wire.sender.outgoing():
        wire.receiver.on_frame(frame, ROUTE, wire.now)
    answers = [frame for route, frame in wire.receiver.outgoing() if route == b"s"]
    for frame in answers:
        stranger.on_frame(frame, None, wire.now)
    assert stranger.failure is not None and stranger.failure.reason == frames.IN_USE
    assert wire.receiver.failure is None and wire.receiver.peer == wire.sender.session


def test_different_types_of_items_do_not_meet() -> None:
    """Both have a schema and they differ: the connecting end is told, the binding end goes on."""
    sender = Sender(terms(CONNECTOR, maxsize=1, schema="int 1"), 0.0)
    receiver = Receiver(terms(BINDER, schema="str 2"), 0.0)
    sender.on_link(True, 0.0)
    sender.on_time(0.0)
    for _, frame in sender.outgoing():
        receiver.on_frame(frame, ROUTE, 0.0)
    for _, frame in receiver.outgoing():
        sender.on_frame(frame, None, 0.0)
    assert sender.failure is not None and sender.failure.reason == frames.OTHER_SCHEMA
    assert sender.failure.text == (
        "items of 'int 1' are sent, and items of 'str 2' are to be received"
    )
    assert receiver.failure is None and not receiver.met and receiver.refused == 1
