"""What the two ends of a channel see when processes and networks fail."""

import random
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import inf

import anyio
import chrono_zmq._frames as frames
import msgspec
import pytest
import zmq
from chrono_core import ChannelInUse, EndOfStream, ReceiveStream, SendStream
from chrono_zmq import (
    MessageDecodeError,
    MsgpackSerde,
    PeerLost,
    Undelivered,
    VersionMismatch,
    ZmqReceiveStream,
    ZmqSendStream,
    open_zmq_receive,
    open_zmq_send,
)
from chrono_zmq._machine import Terms
from chrono_zmq._receiver import Receiver

from .processes import (
    DEAD,
    NEVER,
    PATIENCE,
    SLACK,
    Item,
    Process,
    Stopwatch,
    check,
    collect,
    config,
    make,
    until,
)
from .proxy import Proxy

ANY = "tcp://127.0.0.1:*"

stops = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="nothing stops a process here")
every_death = pytest.mark.parametrize("death", ["_exit", "SIGKILL"])


def receiver(
    address: str = ANY, *, bind: bool = True, peer_timeout: float = NEVER
) -> ZmqReceiveStream[Item]:
    return open_zmq_receive(address, bind=bind, config=config(peer_timeout))


def sender(
    address: str = ANY, *, bind: bool = False, maxsize: float = 16, peer_timeout: float = NEVER
) -> ZmqSendStream[Item]:
    return open_zmq_send(address, bind=bind, maxsize=maxsize, config=config(peer_timeout))


async def send_range(end: SendStream[Item], count: int, *, start: int = 0, size: int = 8) -> None:
    for number in range(start, start + count):
        await end.send(make(number, size))


async def close_lost(end: SendStream[Item]) -> None:
    """Close an end whose peer was lost while it owed something, or nothing."""
    try:
        await end.aclose()
    except Undelivered:
        pass


def is_up(end: ReceiveStream[Item] | SendStream[Item]) -> bool:
    """Whether the other end is there, as far as this one knows."""
    statistics = end.statistics()  # type: ignore[union-attr]
    if isinstance(end, ZmqReceiveStream):
        return statistics.open_send_streams == 1
    return statistics.open_receive_streams == 1


# Deaths


@every_death
async def test_receiver_gets_what_had_arrived_from_a_dead_sender(death: str) -> None:
    """An idle sender dies: its items are received, then PeerLost, in time; no end of stream."""
    async with receiver(peer_timeout=DEAD) as end:
        options = {"maxsize": 64, "count": 10, "peer_timeout": DEAD, "then": "stay"}
        with Process("send", end.address, **options) as process:
            await until(lambda: end.statistics().sent == 10)
            watch = Stopwatch()
            process.die(death)
            await until(lambda: not is_up(end))
            assert watch.seconds < DEAD + SLACK
            assert await collect(end) == (list(range(10)), PeerLost)
            with pytest.raises(PeerLost):
                await end.receive()


@every_death
async def test_receiver_gets_a_prefix_from_a_sender_that_dies_at_work(death: str) -> None:
    """A sender dies amid sending: what arrived is received in order, then PeerLost, in time."""
    async with receiver(peer_timeout=DEAD) as end:
        options = {"maxsize": 64, "peer_timeout": DEAD}
        with Process("send", end.address, **options) as process:
            numbers = [check(await end.receive()) for _ in range(300)]
            process.die(death)
            watch = Stopwatch()
            rest, error = await collect(end)
            numbers += rest
            assert error is PeerLost
            assert watch.seconds < DEAD + SLACK
            assert numbers == list(range(len(numbers)))


@every_death
async def test_idle_sender_notices_a_dead_receiver(death: str) -> None:
    """The receiver took everything and died: the next send raises PeerLost; nothing is owed."""
    end = sender(bind=True, maxsize=4, peer_timeout=DEAD)
    options = {"count": 5, "peer_timeout": DEAD, "then": "stay"}
    with Process("receive", end.address, **options) as process:
        await send_range(end, 5)
        await until(lambda: end.statistics().received == 5)
        watch = Stopwatch()
        process.die(death)
        await until(lambda: not is_up(end))
        assert watch.seconds < DEAD + SLACK
        with pytest.raises(PeerLost):
            await end.send(make(5))
        with pytest.raises(PeerLost):
            end.send_nowait(make(5))
        await end.drain()  # all was taken
        assert end.statistics().sent == 5
    await end.aclose()


@every_death
async def test_waiting_sender_notices_a_dead_receiver(death: str) -> None:
    """A sender that waits for room is told PeerLost, in time, and can count what was taken."""
    end = sender(maxsize=4, bind=True, peer_timeout=DEAD)
    with Process("receive", end.address, tell=100, peer_timeout=DEAD) as process:
        await send_range(end, 300)
        process.die(death)
        watch = Stopwatch()
        with anyio.fail_after(PATIENCE), pytest.raises(PeerLost):
            await send_range(end, 1_000, start=300)
        assert watch.seconds < DEAD + SLACK
        statistics = end.statistics()
        assert statistics.received >= 296
        assert statistics.sent == statistics.received + 4
    await end.aclose()  # it was told


async def test_close_says_what_a_dead_receiver_never_had() -> None:
    """The receiver has died, and the sender closes unaware: Undelivered, with the count."""
    end = sender(maxsize=4, bind=True, peer_timeout=DEAD)
    options = {"count": 1, "peer_timeout": DEAD, "then": "stay"}
    with Process("receive", end.address, **options) as process:
        await send_range(end, 1)
        await until(lambda: end.statistics().received == 1)
        process.die()
        await send_range(end, 3, start=1)
        watch = Stopwatch()
        with anyio.fail_after(PATIENCE), pytest.raises(Undelivered) as caught:
            await end.aclose()
        assert watch.seconds < DEAD + SLACK
        assert caught.value.count == 3


async def test_rendezvous_with_a_dead_receiver_is_lost() -> None:
    """A send that waits for somebody to meet raises PeerLost when the receiver dies."""
    end = sender(bind=True, maxsize=0, peer_timeout=DEAD)
    options = {"count": 3, "peer_timeout": DEAD, "then": "stay"}
    with Process("receive", end.address, **options) as process:
        await send_range(end, 3)
        watch = Stopwatch()
        async with anyio.create_task_group() as tasks:

            @tasks.start_soon
            async def send_one_more() -> None:
                with anyio.fail_after(PATIENCE), pytest.raises(PeerLost):
                    await end.send(make(3))

            process.die()
        assert watch.seconds < DEAD + SLACK
        assert end.statistics().sent == 3
    await end.aclose()


# Standstill


@stops
async def test_stopped_sender_is_lost_and_stays_lost() -> None:
    """A sender that stands still is lost; when it goes on it is told, and nothing more comes."""
    async with receiver(peer_timeout=DEAD) as end:
        options = {"maxsize": 4, "count": None, "peer_timeout": DEAD, "every": 1, "pause": 0.005}
        with Process("send", end.address, **options) as process:
            assert check(await end.receive()) == 0
            process.stop()
            watch = Stopwatch()
            numbers, error = await collect(end)
            assert watch.seconds < DEAD + SLACK
            assert error is PeerLost
            assert numbers == list(range(1, 1 + len(numbers)))
            process.go_on()
            assert await process.until("error") == ["PeerLost"]
            assert await collect(end) == ([], PeerLost)


@stops
async def test_stopped_receiver_is_lost_and_stays_lost() -> None:
    """A receiver that stands still is lost; when it goes on it is told what it is."""
    end = sender(bind=True, maxsize=4, peer_timeout=DEAD)
    with Process("receive", end.address, peer_timeout=DEAD) as process:
        await send_range(end, 50)
        await until(lambda: end.statistics().received >= 46)
        process.stop()
        watch = Stopwatch()
        with anyio.fail_after(PATIENCE), pytest.raises(PeerLost):
            await send_range(end, 1_000, start=50)
        assert watch.seconds < DEAD + SLACK
        sent = end.statistics().sent
        process.go_on()
        numbers, error = await process.received()
        assert error == "PeerLost"
        assert numbers == list(range(len(numbers)))
        assert end.statistics().received <= len(numbers) <= sent
        with pytest.raises(PeerLost):
            await end.send(make(sent))
    await end.aclose()


@stops
async def test_short_standstill_of_the_sender_loses_nothing() -> None:
    """A sender that stands still for less than peer_timeout is waited for."""
    async with receiver() as end:
        options = {"maxsize": 16, "count": 1_000}
        with Process("send", end.address, **options) as process:
            first = [check(await end.receive()) for _ in range(300)]
            process.stop()
            await anyio.sleep(1.0)
            process.go_on()
            rest, error = await collect(end)
            assert (first + rest, error) == (list(range(1_000)), EndOfStream)
            assert await process.until("closed") == []


@stops
async def test_short_standstill_of_the_receiver_loses_nothing() -> None:
    """A receiver that stands still for less than peer_timeout is waited for."""
    async with sender(bind=True) as end:
        with Process("receive", end.address, tell=100) as process:
            await send_range(end, 300)
            process.stop()
            async with anyio.create_task_group() as tasks:

                @tasks.start_soon
                async def send_the_others() -> None:
                    await send_range(end, 700, start=300)
                    await end.aclose()

                await anyio.sleep(1.0)
                process.go_on()
            assert await process.received() == (list(range(1_000)), "EndOfStream")


@stops
@pytest.mark.parametrize("who", ["sender", "receiver"])
async def test_own_standstill_loses_nobody(who: str) -> None:
    """A process that itself stood still for longer than peer_timeout does not lose a live peer."""
    count = 400
    pace = {"every": 1, "pause": 0.005, "peer_timeout": DEAD}
    if who == "sender":
        async with receiver() as end:
            options = {"maxsize": 4, "count": count, **pace}
            with Process("send", end.address, **options) as process:
                first = [check(await end.receive()) for _ in range(20)]
                await stand_still(process)
                rest, error = await collect(end)
                assert (first + rest, error) == (list(range(count)), EndOfStream)
                await process.until("closed")
        return
    async with sender(bind=True, maxsize=4) as end:
        with Process("receive", end.address, tell=100, **pace) as process:
            await send_range(end, 20)
            await stand_still(process)
            await send_range(end, count - 20, start=20)
            await end.aclose()
            assert await process.received() == (list(range(count)), "EndOfStream")


@stops
@pytest.mark.parametrize("busy", [True, False], ids=["busy", "idle"])
async def test_standstill_of_both_loses_nobody(busy: bool) -> None:
    """Two processes that stood still together for longer than peer_timeout go on together."""
    pace = {"every": 1, "pause": 0.01 if busy else 1.2}
    options = {"bind": True, "peer_timeout": DEAD, "tell": 1}
    with Process("receive", ANY, **options) as second:
        address = await second.address()
        count = 200 if busy else 3
        options = {"maxsize": 4, "count": count, "peer_timeout": DEAD, **pace}
        with Process("send", address, **options) as first:
            await second.until("item")
            for _ in range(2):  # the second time before they have heard each other again
                await stand_still(first, second)
            assert await first.until("sent") == [str(count)]
            assert await second.received() == (list(range(count)), "EndOfStream")


async def stand_still(*processes: Process) -> None:
    """Stop processes for much longer than some of their ends wait."""
    for process in processes:
        process.stop()
    await anyio.sleep(DEAD + 0.6)
    for process in processes:
        process.go_on()


# Restarts


@pytest.mark.parametrize("binds", [True, False], ids=["binds", "connects"])
async def test_restarted_receiver_is_another(binds: bool) -> None:
    """The old end of the sender gets PeerLost; a new one talks to the new process."""
    old = sender(ANY, bind=not binds, maxsize=4, peer_timeout=DEAD) if not binds else None
    address = ANY if old is None else old.address
    options = {"bind": binds, "peer_timeout": DEAD}
    with Process("receive", address, **options) as process:
        if old is None:
            address = await process.address()
            old = sender(address, maxsize=4, peer_timeout=DEAD)
        await send_range(old, 20)
        await until(lambda: old.statistics().received >= 16)
        process.die()
    with Process("receive", address, **options) as process:
        with anyio.fail_after(PATIENCE), pytest.raises(PeerLost):
            await send_range(old, 1_000, start=20)
        await old.aclose()
        new = sender(address, bind=not binds, maxsize=4, peer_timeout=NEVER)
        await send_range(new, 5, start=7_000)
        await new.aclose()
        assert await process.received() == (list(range(7_000, 7_005)), "EndOfStream")


@pytest.mark.parametrize("binds", [True, False], ids=["binds", "connects"])
async def test_restarted_sender_is_another(binds: bool) -> None:
    """The old end of the receiver gets PeerLost; a new one talks to the new process."""
    old = None if binds else receiver(peer_timeout=DEAD)
    address = ANY if old is None else old.address
    options = {"bind": binds, "maxsize": 4, "peer_timeout": DEAD}
    with Process("send", address, count=3, then="stay", **options) as process:
        if old is None:
            address = await process.address()
            old = receiver(address, bind=False, peer_timeout=DEAD)
        assert [check(await old.receive()) for _ in range(3)] == [0, 1, 2]
        process.die()
    with Process("send", address, count=50, **options) as process:
        with anyio.fail_after(PATIENCE):
            assert await collect(old) == ([], PeerLost)
        await old.aclose()
        new = receiver(address, bind=not binds)
        with anyio.fail_after(PATIENCE):
            assert await collect(new) == (list(range(50)), EndOfStream)
        assert await process.until("closed") == []
        await new.aclose()


# Strangers


async def test_second_sender_is_refused() -> None:
    """It is told ChannelInUse, and sends nothing; the first one notices nothing."""
    async with receiver() as end:
        pace = {"count": 200, "every": 1, "pause": 0.005}
        with Process("send", end.address, maxsize=4, **pace) as process:
            first = [check(await end.receive())]
            second = sender(end.address, maxsize=1)
            with anyio.fail_after(PATIENCE), pytest.raises(ChannelInUse):
                await send_range(second, 3, start=9_000)
            await close_lost(second)
            rest, error = await collect(end)
            assert (first + rest, error) == (list(range(200)), EndOfStream)
            assert await process.until("closed") == []


async def test_second_receiver_is_refused() -> None:
    """It is told ChannelInUse, and gets nothing; the first one notices nothing."""
    async with sender(bind=True, maxsize=4) as end:
        with Process("receive", end.address) as process:
            await send_range(end, 1)
            await process.until("item")
            second = receiver(end.address, bind=False)
            with anyio.fail_after(PATIENCE):
                assert await collect(second) == ([], ChannelInUse)
            await second.aclose()
            await send_range(end, 200, start=1)
            await end.aclose()
            assert await process.received() == (list(range(201)), "EndOfStream")


async def test_sender_of_another_version_is_refused() -> None:
    """It is told VersionMismatch; the channel beside which it came is unharmed."""
    async with receiver() as end:
        with Process("send", end.address, maxsize=4, count=200) as process:
            first = [check(await end.receive())]
            with Process("send", end.address, count=1, version=2) as other:
                assert await other.until("error") == ["VersionMismatch"]
            assert end.refused > 0
            rest, error = await collect(end)
            assert (first + rest, error) == (list(range(200)), EndOfStream)
            assert await process.until("closed") == []


async def test_receiver_of_another_version_is_refused() -> None:
    """An end that connects to another version is told VersionMismatch."""
    with Process("receive", ANY, bind=True, version=2) as process:
        end = sender(await process.address(), maxsize=1)
        with anyio.fail_after(PATIENCE), pytest.raises(VersionMismatch):
            await send_range(end, 3)
        await close_lost(end)


# Networks


async def test_resets_lose_and_repeat_nothing_from_a_sender() -> None:
    """The connection of a sender is reset every 150 ms: 5,000 items come once, in order."""
    async with receiver() as end:
        with Proxy(end.address) as proxy:
            proxy.reset_every = 0.15
            options = {"maxsize": 64, "count": 5_000, "every": 10, "pause": 0.005}
            with Process("send", proxy.address, **options) as process:
                with anyio.fail_after(PATIENCE):
                    assert await collect(end) == (list(range(5_000)), EndOfStream)
                assert await process.until("closed") == []
            assert proxy.resets > 5


async def test_resets_lose_and_repeat_nothing_to_a_receiver() -> None:
    """The connection of a receiver is reset every 150 ms: 5,000 items come once, in order."""
    end = sender(bind=True, maxsize=64)
    with Proxy(end.address) as proxy:
        proxy.reset_every = 0.15
        options = {"tell": 10_000, "every": 10, "pause": 0.005}
        with Process("receive", proxy.address, **options) as process:
            with anyio.fail_after(PATIENCE):
                await send_range(end, 5_000)
                await end.aclose()
            assert await process.received() == (list(range(5_000)), "EndOfStream")
        assert proxy.resets > 5


async def test_stall_loses_nothing() -> None:
    """Nothing passes for a second, which is shorter than peer_timeout: everything comes."""
    async with receiver() as end:
        with Proxy(end.address) as proxy:
            with Process("send", proxy.address, maxsize=16, count=1_000) as process:
                first = [check(await end.receive()) for _ in range(300)]
                proxy.stalled = True
                await anyio.sleep(1.0)
                assert is_up(end)
                proxy.stalled = False
                rest, error = await collect(end)
                assert (first + rest, error) == (list(range(1_000)), EndOfStream)
                assert await process.until("closed") == []


async def test_narrow_link_loses_nothing() -> None:
    """A link that passes 200 kB a second is slow, and nothing else; the window holds."""
    async with receiver() as end:
        with Proxy(end.address) as proxy:
            proxy.rate = 200_000
            options = {"maxsize": 16, "count": 300, "size": 1_000}
            with Process("send", proxy.address, **options) as process:
                watch = Stopwatch()
                assert await collect(end) == (list(range(300)), EndOfStream)
                assert watch.seconds > 300 * 1_000 / 200_000 / 2
                assert end.statistics().high_water <= 16
                assert await process.until("closed") == []


@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_wrong_comes_over_a_link_that_corrupts(seed: int) -> None:
    """Everything comes and ends, or the peer is lost; what is received is right, and in order."""
    count = 1_500
    async with receiver(peer_timeout=DEAD) as end:
        with Proxy(end.address, seed=seed) as proxy:
            options = {"maxsize": 16, "count": count, "size": 64, "peer_timeout": DEAD}
            with Process("send", proxy.address, **options) as process:
                numbers = [check(await end.receive()) for _ in range(100)]
                proxy.corrupt = 0.02
                with anyio.fail_after(PATIENCE):
                    rest, error = await collect(end)
                numbers += rest
                assert proxy.corrupted > 0
                assert numbers == list(range(len(numbers)))
                if error is EndOfStream:
                    assert len(numbers) == count
                else:
                    assert error is PeerLost
                words = await process.line()
                while words not in (["closed"], ["error", "Undelivered"], ["error", "PeerLost"]):
                    assert words, "it ended without saying how"
                    words = await process.line()
                if words == ["closed"]:
                    assert error is EndOfStream


@pytest.mark.parametrize("how", ["reset", "silent"])
async def test_cut_for_good_is_noticed_at_both_ends(how: str) -> None:
    """A link that is gone is PeerLost for both, in time, whether it broke or went silent."""
    async with receiver(peer_timeout=DEAD) as end:
        with Proxy(end.address) as proxy:
            # More than the kernel takes for a link on which nothing moves.
            options = {"maxsize": 64, "size": 200_000, "peer_timeout": DEAD}
            with Process("send", proxy.address, **options) as process:
                first = [check(await end.receive()) for _ in range(20)]
                if how == "reset":
                    proxy.cut = True
                else:
                    proxy.stalled = True
                watch = Stopwatch()
                rest, error = await collect(end)
                assert error is PeerLost
                assert first + rest == list(range(20 + len(rest)))
                assert await process.until("error") == ["PeerLost"]
                await process.ended()  # and does not linger for what nobody will have
                assert watch.seconds < DEAD + SLACK


# Rubbish

HALF_A_GREETING = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03"


async def test_garbage_connections_do_no_harm() -> None:
    """Whoever talks something else to the port disturbs nobody, before the sender came or after."""
    rng = random.Random(7)
    kinds = [rng.randbytes(500), b"GET / HTTP/1.1\r\n\r\n", HALF_A_GREETING, HALF_A_GREETING * 9]
    async with receiver() as end:
        host, port = end.address.removeprefix("tcp://").split(":")
        with ExitStack() as stack:

            def disturb() -> None:
                for number in range(10):
                    one = socket.create_connection((host, int(port)))
                    stack.enter_context(one).sendall(kinds[number % len(kinds)])

            disturb()
            with Process("send", end.address, maxsize=4, count=500) as process:
                first = [check(await end.receive())]
                disturb()
                rest, error = await collect(end)
                assert (first + rest, error) == (list(range(500)), EndOfStream)
                assert await process.until("closed") == []
        assert end.refused == 0  # they did not come so far


def rubbish(ours: bytes, theirs: bytes) -> list[list[bytes]]:
    """Messages to be refused by an end with a session that has met another."""
    stranger = b"stranger"
    item = msgspec.msgpack.encode(make(0))
    data = frames.pack_data(theirs, ours, 0, [item])
    lies = frames.ReceiverState(0, 0, 2**40, 2**40, 2**41)
    gone = frames.Reset(frames.GONE, stranger, "")
    return [
        [b""],
        [b"rubbish"],
        [frames.MAGIC],
        [random.Random(3).randbytes(1_000)],
        [data, b"and more"],
        [b"", data],
        [data[:-1]],
        [data[: frames.HEADER]],
        [data + b"\0"],
        [data[:-1] + b"\0\0"],
        [data[:3] + b"\x09" + data[4:]],
        [frames.pack_data(stranger, ours, 1, [item])],
        [frames.pack_data(theirs, stranger, 1, [item])],
        [frames.pack_data(theirs, ours, 2**41, [])],
        [frames.pack_receiver(theirs, ours, lies)],
        [frames.pack_sender(stranger, ours, frames.SenderState(frames.FIN, 0, 0))],
        [frames.pack_reset(stranger, ours, gone)],
        [frames.pack_reset(theirs, stranger, gone)],
        [frames.pack_reset(stranger, stranger, gone)],
    ]


@contextmanager
def raw_socket(kind: int) -> Iterator[zmq.Socket[bytes]]:
    """A socket that says whatever it is given."""
    with zmq.Context() as context, context.socket(kind) as raw:
        raw.set(zmq.LINGER, 0)
        yield raw


async def test_hostile_client_does_no_harm() -> None:
    """Rubbish and forgery at a binding receiver are counted; what is replayed comes once."""
    async with receiver() as end:
        with Process("send", end.address, maxsize=4, count=500) as process:
            numbers = [check(await end.receive()) for _ in range(3)]
            ours, theirs = end._machine.session, end._machine.peer
            assert theirs is not None
            messages = rubbish(ours, theirs)
            with raw_socket(zmq.DEALER) as raw, raw_socket(zmq.DEALER) as large:
                for one in (raw, large):
                    one.connect(end.address)
                large.send(bytes(2**20))
                for message in messages:
                    raw.send_multipart(message)
                for number in range(3):
                    item = msgspec.msgpack.encode(make(number))
                    raw.send(frames.pack_data(theirs, ours, number, [item]))
                raw.send(b"the last")
                await until(lambda: end.refused > len(messages))
                rest, error = await collect(end)
                assert (numbers + rest, error) == (list(range(500)), EndOfStream)
            assert end.refused == len(messages) + 1
            assert await process.until("closed") == []


async def test_hostile_server_does_no_harm() -> None:
    """A binder mixes rubbish and old frames with everything it says: all is sent once."""
    rng = random.Random(5)
    with raw_socket(zmq.ROUTER) as raw:
        raw.bind(ANY)
        end = sender(bytes(raw.get(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode(), maxsize=4)
        terms = Terms(
            session=b"receiver",
            binds=True,
            maxsize=None,
            max_message=2**20,
            schema="",
            heartbeat=1.0,
            peer_timeout=NEVER,
        )
        machine = Receiver(terms, 0.0)
        taken: list[bytes] = []
        said: list[bytes] = []

        async def serve() -> None:
            while not machine.sender_done:
                try:
                    route, frame = raw.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    await anyio.sleep(0.001)
                    continue
                machine.on_frame(frame, route, 0.0)
                taken.extend(machine.take(0.0, len(machine.inbox)))
                messages = rubbish(end._machine.session, b"receiver")
                for _, reply in machine.outgoing():
                    raw.send_multipart([route, *rng.choice(messages)])
                    raw.send_multipart([route, reply])
                    said.append(reply)
                    raw.send_multipart([route, rng.choice(said)])

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(serve)
                await send_range(end, 100)
                await end.aclose()
        assert [check(msgspec.msgpack.decode(item)) for item in taken] == list(range(100))
        assert end.refused > 0
        assert machine.refused == 0


async def test_flood_leaves_the_other_links_of_the_process_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While one end has more to refuse than it can, others of its process meet and talk."""
    monkeypatch.setattr("chrono_zmq._socket.UNHEARD", 0)  # so that all of it waits at once
    flood = 150_000
    flooded = receiver()
    with raw_socket(zmq.DEALER) as raw:
        raw.set(zmq.SNDHWM, 0)
        raw.connect(flooded.address)
        for _ in range(flood):
            raw.send(b"rubbish")
        async with receiver() as end, sender(end.address) as other:
            await other.send(make(1))
            assert check(await end.receive()) == 1
            assert 0 < flooded.refused < flood
            await until(lambda: flooded.refused == flood)
    await flooded.aclose()


async def test_flood_that_is_not_read_is_held_back() -> None:
    """Whoever sends more than this process reads has to wait, before it fills the memory."""
    async with receiver() as end:
        with raw_socket(zmq.DEALER) as raw, end._link.lock:  # so that nobody reads
            raw.set(zmq.SNDHWM, 1)
            raw.connect(end.address)
            raw.set(zmq.SNDTIMEO, 500)
            count = 0
            with pytest.raises(zmq.Again):
                while count < 20_000:
                    raw.send(bytes(10_000))
                    count += 1


async def test_answers_that_are_not_read_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for ever, and reads no answer, gets no more than so many later."""
    monkeypatch.setattr("chrono_zmq._socket.UNREAD", 100)
    questions = 20_000
    async with receiver() as end:
        with raw_socket(zmq.DEALER) as raw:
            raw.set(zmq.RCVHWM, 1)
            raw.connect(end.address)
            hello = frames.Hello(frames.RECEIVES, 4, 100, "")
            for _ in range(questions):
                raw.send(frames.pack_hello(b"stranger", frames.NOBODY, hello))
            await until(lambda: end.refused == questions)
            raw.set(zmq.RCVTIMEO, 500)
            answers = 0
            with pytest.raises(zmq.Again):
                while answers < questions:
                    raw.recv()
                    answers += 1


async def test_bad_item_is_one_error_between_good_ones() -> None:
    """What is no item of this channel raises once, and is gone; those after it come."""
    bad = [b"", b"\xc1", b"\xa2\xff\xff", b"\x91" * 20_000 + b"\x01", b"\xa1x", b"\x01\x02"]
    raw = [piece for index, one in enumerate(bad) for piece in (bytes([index]), one)] + [b"\x07"]
    async with open_zmq_receive(ANY, serde=MsgpackSerde(int), config=config()) as end:
        options = {"maxsize": 4, "count": len(raw), "raw": [one.hex() for one in raw]}
        with Process("send", end.address, **options) as process:
            for index in range(len(bad)):
                assert await end.receive() == index
                with pytest.raises(MessageDecodeError):
                    await end.receive()
            assert await end.receive() == 7
            with pytest.raises(EndOfStream):
                await end.receive()
            assert await process.until("closed") == []


# Cancellation, and leaving


@pytest.mark.parametrize("anyio_backend", ["asyncio"], scope="module")
@pytest.mark.parametrize(
    ("backend", "how", "counts"),
    [
        ("asyncio", "scope", (2_000, 5_000)),
        ("trio", "scope", (2_000, 5_000)),
        ("asyncio", "timeout", (500, 2_000)),
        ("asyncio", "task", (500, 2_000)),
        ("uvloop", "timeout", (500, 2_000)),
        ("uvloop", "task", (500, 2_000)),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
@pytest.mark.parametrize("maxsize", [0, 4])
async def test_cancellation_of_both_sides_loses_and_repeats_nothing(
    maxsize: int, backend: str, how: str, counts: tuple[int, int]
) -> None:
    """Two processes cancel their calls at random: every item comes once, in order."""
    count = counts[bool(maxsize)]
    if backend != "asyncio":
        pytest.importorskip(backend)
    options = {"how": how, "seed": maxsize, "bind": True}
    with Process("receive", ANY, backend, tell=count, **options) as taker:
        options = {"how": how, "seed": 1, "maxsize": maxsize, "count": count}
        with Process("send", await taker.address(), backend, **options) as giver:
            await giver.until("closed")
        assert await taker.received() == (list(range(count)), "EndOfStream")


@pytest.mark.parametrize("maxsize", [1, 64, inf])
@pytest.mark.parametrize(
    ("then", "last"), [("close", EndOfStream), ("leave", PeerLost)], ids=["closes", "leaves"]
)
async def test_process_that_ends_at_once_delivers_all(
    maxsize: float, then: str, last: type[Exception], anyio_backend: str
) -> None:
    """Full buffers of 10 kB, and the process ends: all comes; without a close, PeerLost after."""
    count = 300 if maxsize == inf else int(maxsize)
    async with receiver() as end:
        options = {"maxsize": maxsize, "count": count, "size": 10_000, "then": then}
        with Process("send", end.address, anyio_backend, **options) as process:
            await process.until("sent")
            assert await process.ended() == 0
            assert await collect(end) == (list(range(count)), last)
