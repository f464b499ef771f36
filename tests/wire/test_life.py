"""Ends that are opened, closed, dropped and left behind: what stays, and what is told."""

import gc
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.to_thread import run_sync
from chrono_core import (
    ChannelClosed,
    EndOfStream,
    EndpointClosed,
)
from chrono_zmq import (
    PeerLost,
    Undelivered,
    ZmqConfig,
    ZmqReceiveStream,
    ZmqSendStream,
    open_zmq_channel,
    open_zmq_receive,
    open_zmq_send,
)

from tests.core.channels import (
    PATIENCE,
    QUIET,
    arrived,
    meet,
    receiver_gone,
    sender_blocks,
    stays,
    until,
)

DESCRIPTORS = Path("/proc/self/fd")

# Whoever waits for the timeout alone waits for longer than the test does.
NEVER = ZmqConfig(heartbeat=1.0, peer_timeout=10 * PATIENCE, linger=10 * PATIENCE)
SOON = ZmqConfig(linger=0.1)

BINDABLE = ["ipc://*", "tcp://127.0.0.1:*"]


@pytest.fixture
def closing() -> Iterator[list[Any]]:
    """Ends that are dropped after the test, whatever became of it."""
    ends: list[Any] = []
    yield ends
    ends.clear()


def descriptors() -> int:
    return len(os.listdir(DESCRIPTORS))


async def idle() -> None:
    """Wait until nothing of the package runs in this process."""
    gc.collect()
    await until(lambda: all(one.name != "chrono-zmq" for one in threading.enumerate()))


# Nothing is left


async def connected(address: str) -> None:
    """Use a channel, and close both ends."""
    channel = open_zmq_channel(address, maxsize=4)
    await channel.send.send(1)
    assert await channel.recv.receive() == 1
    await channel.send.aclose()
    with pytest.raises(EndOfStream):
        await channel.recv.receive()
    await channel.recv.aclose()


async def receiver_first(address: str) -> None:
    """Use a channel, and close its receiver first."""
    channel = open_zmq_channel(address, maxsize=4, bind_receive=False)
    await channel.send.send(1)
    assert await channel.recv.receive() == 1
    await channel.recv.aclose()
    await channel.send.aclose()


async def unmet(address: str) -> None:
    """Open ends that meet nobody, and close them."""
    await open_zmq_send(address, bind=True).aclose()
    await open_zmq_receive(address).aclose()
    somewhere = "ipc://nobody-is-here" if address.startswith("ipc") else "tcp://127.0.0.1:1"
    await open_zmq_send(somewhere).aclose()
    await open_zmq_receive(somewhere, bind=False).aclose()


async def at_once(address: str) -> None:
    """Open a channel, and close it before anything else could happen."""
    # A receiver that has just met its sender lingers where that one went without having met it.
    channel = open_zmq_channel(address, maxsize=4, config=SOON)
    await channel.recv.aclose()
    await channel.send.aclose()


LIVES: dict[str, tuple[Callable[[str], Any], int]] = {
    "connected": (connected, 100),
    "receiver first": (receiver_first, 50),
    "unmet": (unmet, 50),  # of four ends each
    "at once": (at_once, 100),
}


async def leave_nothing(life: str, address: str) -> None:
    """Open and close many channels, and see that nothing is left of them."""
    body, times = LIVES[life]
    await body(address)
    await idle()
    tasks = len(anyio.get_running_tasks())
    before = descriptors()
    for _ in range(times):
        await body(address)
    await idle()
    await until(lambda: descriptors() <= before)
    assert len(anyio.get_running_tasks()) == tasks


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="descriptors cannot be counted here")
@pytest.mark.parametrize("address", BINDABLE)
@pytest.mark.parametrize("life", LIVES)
def test_opening_and_closing_leaves_nothing(anyio_backend: str, life: str, address: str) -> None:
    """After more than a thousand ends in all, nothing is left: no descriptor, thread or task."""
    # In a process of its own, where nobody else opens anything.
    program = (
        "import anyio\n"
        "from tests.wire.test_life import leave_nothing\n"
        f"anyio.run(leave_nothing, {life!r}, {address!r}, backend={anyio_backend!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("address", BINDABLE)
async def test_ends_that_close_at_once_do_no_harm(address: str) -> None:
    """While ends come and go faster than they can be looked after, other channels work."""
    channel = open_zmq_channel(address, maxsize=1)
    with anyio.fail_after(PATIENCE):
        for n in range(100):
            await at_once(address)
            await channel.send.send(n)
            assert await channel.recv.receive() == n
        await channel.send.aclose()
        await channel.recv.aclose()


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("kind", BINDABLE)
async def test_address_can_be_bound_again_right_after_the_close(kind: str, used: bool) -> None:
    """What was bound to an address is gone when `aclose` has returned."""
    address = kind
    with anyio.fail_after(PATIENCE):
        for n in range(50):
            recv = open_zmq_receive(address)
            address = recv.address
            if used:
                send = open_zmq_send(address)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(send.send, n)
                    assert await recv.receive() == n
                await send.aclose()
            await recv.aclose()


async def test_address_of_a_dropped_end_can_be_bound_again(closing: list[Any]) -> None:
    """An end that was dropped without a close leaves its address soon."""
    recv = open_zmq_receive("ipc://*")
    address = recv.address
    del recv
    gc.collect()
    await idle()
    closing.append(open_zmq_receive(address))
    closing.append(open_zmq_send(address))
    await until(lambda: closing[1].statistics().open_receive_streams == 1)


# Dropped without a close


@pytest.mark.parametrize("bind_receive", [False, True])
async def test_receiver_of_a_dropped_sender_is_told(
    bind_receive: bool, recwarn: pytest.WarningsRecorder
) -> None:
    """It gets what had arrived, and then `PeerLost`, long before any timeout."""
    channel = open_zmq_channel(
        "ipc://*", bind_receive=bind_receive, maxsize=4, name="obs", config=NEVER
    )
    recv = channel.recv
    await channel.send.send_many(range(3))
    await arrived(channel, 3)
    del channel
    gc.collect()
    with anyio.fail_after(PATIENCE):
        assert [await recv.receive() for _ in range(3)] == [0, 1, 2]
        for _ in range(2):
            with pytest.raises(PeerLost, match="'obs'") as caught:
                await recv.receive()
            assert caught.value.channel == "obs"
            with pytest.raises(PeerLost):
                recv.receive_nowait()
            with pytest.raises(PeerLost):
                await recv.receive_many(3)
            with pytest.raises(PeerLost):
                async for _item in recv:
                    raise AssertionError
    assert not recwarn.list
    await recv.aclose()


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("bind_receive", [False, True])
async def test_sender_to_a_dropped_receiver_is_told(
    bind_receive: bool, size: int, recwarn: pytest.WarningsRecorder
) -> None:
    """A send that is blocked raises `PeerLost`, which is a `ChannelClosed`."""
    channel = open_zmq_channel(
        "ipc://*", bind_receive=bind_receive, maxsize=size, name="obs", config=NEVER
    )
    await meet(channel)
    send, recv = channel.send, channel.recv
    del channel
    await send.send_many(range(size))

    async def produce() -> None:
        with pytest.raises(PeerLost, match="'obs'") as caught:
            await send.send(99)
        assert isinstance(caught.value, ChannelClosed)

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(produce)
            await until(lambda: send.statistics().waiters_send)
            del recv
            gc.collect()
        assert send.ready()
        with pytest.raises(PeerLost):
            send.send_nowait(99)
        await send.aclose()  # what is to be said was said
    assert not recwarn.list


async def test_items_of_a_dropped_sender_that_never_arrived_are_reported(
    caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    """Dropping an end with items that nobody took is logged, and warns nobody."""
    send: ZmqSendStream[int] = open_zmq_send("ipc://nobody-is-here", maxsize=4)
    await send.send_many(range(3))
    with caplog.at_level(logging.ERROR, "chrono_zmq"):
        del send
        gc.collect()
        await until(lambda: "3 of 3 items" in caplog.text)
    assert "nobody-is-here" in caplog.text
    assert not recwarn.list


# Closing with items that nobody took


@pytest.mark.parametrize("bind", [False, True])
async def test_items_that_nobody_took_are_counted_by_the_close(bind: bool) -> None:
    """Where no receiver ever came, `aclose` waits for `linger`, and says how many are lost."""
    send: ZmqSendStream[int] = open_zmq_send(
        "ipc://*" if bind else "ipc://nobody-is-here",
        bind=bind,
        maxsize=4,
        name="obs",
        config=SOON,
    )
    await send.send_many(range(3))
    start = anyio.current_time()
    with anyio.fail_after(PATIENCE):
        with pytest.raises(Undelivered, match="'obs'") as caught:
            await send.aclose()
    assert anyio.current_time() - start >= 0.1
    assert (caught.value.count, caught.value.channel) == (3, "obs")
    await send.aclose()  # it was said once


async def test_stream_without_an_item_ends(anyio_backend: str) -> None:
    """A process that sends nothing, closes and exits at once leaves a proper end behind."""
    program = (
        "import sys, anyio\n"
        "from chrono_zmq import open_zmq_send\n"
        "async def main():\n"
        "    async with open_zmq_send(sys.argv[1]):\n"
        "        pass\n"
        f"anyio.run(main, backend={anyio_backend!r})\n"
    )
    for _ in range(3):
        async with open_zmq_receive("ipc://*") as recv:
            with subprocess.Popen([sys.executable, "-c", program, recv.address]) as process:
                with anyio.fail_after(2 * PATIENCE), pytest.raises(EndOfStream):
                    await recv.receive()
                assert await run_sync(process.wait) == 0


async def test_close_of_a_sender_that_sent_nothing_waits_for_nobody() -> None:
    """Where nothing was sent and nobody came, there is nothing to wait for."""
    send: ZmqSendStream[int] = open_zmq_send("ipc://nobody-is-here", maxsize=4, config=NEVER)
    with anyio.fail_after(PATIENCE):
        await send.aclose()


async def test_items_that_a_small_receiver_had_no_room_for_are_counted(closing: list[Any]) -> None:
    """What waits at the sender for room is lost past `linger`; what arrived is received."""
    recv: ZmqReceiveStream[int] = open_zmq_receive("ipc://*", maxsize=1, config=NEVER)
    closing.append(recv)
    send: ZmqSendStream[int] = open_zmq_send(recv.address, maxsize=4, config=SOON)
    await send.send_many(range(4))  # it does not know yet how small the receiver is
    await until(recv.ready)
    with anyio.fail_after(PATIENCE):
        with pytest.raises(Undelivered) as caught:
            await send.aclose()
        assert caught.value.count == 3
        assert await recv.receive() == 0
        with pytest.raises(PeerLost):
            await recv.receive()


async def test_error_of_a_block_is_not_hidden_by_what_was_not_delivered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`async with` that ends by an error raises that one, and logs what was lost."""
    send: ZmqSendStream[int] = open_zmq_send("ipc://nobody-is-here", maxsize=4, config=SOON)
    with pytest.raises(ZeroDivisionError):
        async with send:
            await send.send_many(range(3))
            raise ZeroDivisionError
    assert "3 of 3 items" in caplog.text


async def test_block_that_ends_well_tells_what_was_not_delivered() -> None:
    """`async with` around a sender whose items nobody took raises `Undelivered`."""
    send: ZmqSendStream[int] = open_zmq_send("ipc://nobody-is-here", maxsize=4, config=SOON)
    with pytest.raises(Undelivered):
        async with send:
            await send.send_many(range(3))


async def test_cancelled_close_goes_on_in_the_background(closing: list[Any]) -> None:
    """A receiver that comes after a cancelled `aclose` gets every item, and the end."""
    address = "ipc://chrono-test-late"
    send: ZmqSendStream[int] = open_zmq_send(address, maxsize=4, config=NEVER)
    await send.send_many(range(4))
    with anyio.move_on_after(QUIET) as scope:
        await send.aclose()
    assert scope.cancelled_caught
    with pytest.raises(EndpointClosed):
        await send.send(9)
    recv: ZmqReceiveStream[int] = open_zmq_receive(address, config=NEVER)
    closing.append(recv)
    with anyio.fail_after(PATIENCE):
        assert [item async for item in recv] == [0, 1, 2, 3]
        await recv.aclose()


async def test_cancelled_close_that_comes_to_nothing_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What a close in the background could not deliver is logged after `linger`."""
    send: ZmqSendStream[int] = open_zmq_send("ipc://nobody-is-here", maxsize=4, config=SOON)
    await send.send_many(range(2))
    with anyio.CancelScope() as scope:
        scope.cancel()
        await send.aclose()
    await until(lambda: "2 of 2 items" in caplog.text)


# Before anybody is there


@pytest.mark.parametrize("size", [0, 3])
@pytest.mark.parametrize("bind", [False, True])
async def test_sender_alone_takes_what_there_is_room_for(
    bind: bool, size: int, closing: list[Any]
) -> None:
    """Before a receiver is there, as many sends return as there is room for; later, it gets all."""
    address = f"ipc://chrono-test-alone-{os.getpid()}"
    send: ZmqSendStream[int] = open_zmq_send(address, bind=bind, maxsize=size)
    closing.append(send)
    returned = 0

    async def produce() -> None:
        nonlocal returned
        for n in range(size + 2):
            await send.send(n)
            returned += 1
        await send.aclose()

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(produce)
            await until(lambda: returned == size)
            await stays(lambda: returned == size)
            recv: ZmqReceiveStream[int] = open_zmq_receive(address, bind=not bind)
            assert [item async for item in recv] == list(range(size + 2))
        await recv.aclose()


async def test_smaller_size_of_the_two_counts(closing: list[Any]) -> None:
    """Once they have met, a receiver that holds less than the sender bounds the channel."""
    recv: ZmqReceiveStream[int] = open_zmq_receive("ipc://*", maxsize=2)
    send: ZmqSendStream[int] = open_zmq_send(recv.address, maxsize=50)
    closing += [recv, send]
    await until(lambda: send.statistics().open_receive_streams == 1)
    assert send.statistics().max_buffer_size == 2
    for n in range(2):
        await send.send(n)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send.send, 2)
        await until(lambda: send.statistics().waiters_send)
        await stays(lambda: send.statistics().sent == 2)
        assert [await recv.receive() for _ in range(3)] == [0, 1, 2]


# Draining


async def test_drain_returns_when_everything_was_taken(closing: list[Any]) -> None:
    """`drain` waits for the receiver's application, not for its process."""
    channel = open_zmq_channel(maxsize=4, name="obs")
    closing.append(channel)
    await channel.send.drain()  # nothing was sent
    await channel.send.send_many(range(3))
    await arrived(channel, 3)
    drained = False

    async def drain() -> None:
        nonlocal drained
        await channel.send.drain()
        drained = True

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain)
            await stays(lambda: not drained)
            assert await channel.recv.receive_many(2) == [0, 1]
            await stays(lambda: not drained)
            assert await channel.recv.receive() == 2
    assert drained


@pytest.mark.parametrize("seconds", [0, 0.05])
async def test_drain_gives_up_after_its_timeout(seconds: float, closing: list[Any]) -> None:
    """`drain` with a timeout says how many were not taken, and the end goes on."""
    channel = open_zmq_channel(maxsize=4, name="obs")
    closing.append(channel)
    await channel.send.send_many(range(3))
    with pytest.raises(TimeoutError, match=r"3 items.*'obs'"):
        await channel.send.drain(seconds)
    await channel.send.aclose()
    assert [item async for item in channel.recv] == [0, 1, 2]


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), "1"])
async def test_drain_refuses_a_timeout_that_is_none(seconds: Any, closing: list[Any]) -> None:
    """What is no number of seconds is refused."""
    channel = open_zmq_channel(maxsize=4)
    closing.append(channel)
    with pytest.raises((ValueError, TypeError)):
        await channel.send.drain(seconds)


async def test_drain_tells_that_nobody_will_take_the_rest(closing: list[Any]) -> None:
    """A receiver that closes, or the end itself, ends the wait with an error."""
    channel = open_zmq_channel(maxsize=4, name="obs")
    closing.append(channel)
    await meet(channel)
    await channel.send.send_many(range(3))

    async def drain() -> None:
        with pytest.raises(ChannelClosed, match="'obs'"):
            await channel.send.drain()

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain)
            await sender_blocks(channel)
            await channel.recv.aclose()
        await receiver_gone(channel)
        await channel.send.aclose()
        with pytest.raises(EndpointClosed):
            await channel.send.drain()


# Processes


def python(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", program, *words],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )


SENDS_AND_CLOSES = """
import sys
import anyio
from chrono_zmq import open_zmq_send

async def main():
    count = int(sys.argv[3])
    async with open_zmq_send(sys.argv[1], maxsize=64) as send:
        for n in range(count):
            await send.send(n.to_bytes(4, "big") * 2500)

anyio.run(main, backend=sys.argv[2])
"""


@pytest.mark.parametrize("address", BINDABLE)
async def test_process_that_closes_and_exits_at_once_loses_nothing(
    address: str, anyio_backend_name: str
) -> None:
    """Items of 10 kB that fill every buffer arrive, though nobody took any before it was gone."""
    recv: ZmqReceiveStream[bytes] = open_zmq_receive(address)
    done = await run_sync(partial(python, SENDS_AND_CLOSES, recv.address, anyio_backend_name, "64"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with anyio.fail_after(PATIENCE):
        items = [item async for item in recv]
    assert items == [n.to_bytes(4, "big") * 2500 for n in range(64)]
    await recv.aclose()


async def test_process_that_closes_while_it_is_read_loses_nothing(anyio_backend_name: str) -> None:
    """More than fits goes across, and the end comes after the last."""
    recv: ZmqReceiveStream[bytes] = open_zmq_receive("ipc://*")
    items: list[bytes] = []
    with anyio.fail_after(2 * PATIENCE):
        async with anyio.create_task_group() as tasks:

            async def run() -> None:
                program = partial(python, SENDS_AND_CLOSES, recv.address, anyio_backend_name, "300")
                done = await run_sync(program)
                assert (done.returncode, done.stderr) == (0, "")

            tasks.start_soon(run)
            items += [item async for item in recv]
    assert items == [n.to_bytes(4, "big") * 2500 for n in range(300)]
    await recv.aclose()


EXITS_WITHOUT_A_CLOSE = """
import sys
import anyio
from chrono_zmq import ZmqConfig, open_zmq_send

async def main():
    global send
    send = open_zmq_send(sys.argv[1], maxsize=64)
    await send.send_many(range(5))

anyio.run(main, backend=sys.argv[2])
"""


async def test_process_that_exits_without_a_close_is_lost_after_its_items(
    anyio_backend_name: str,
) -> None:
    """The receiver gets what was sent, then `PeerLost`, long before any timeout."""
    recv: ZmqReceiveStream[int] = open_zmq_receive("ipc://*", config=NEVER)
    program = partial(python, EXITS_WITHOUT_A_CLOSE, recv.address, anyio_backend_name)
    done = await run_sync(program)
    assert (done.returncode, done.stderr) == (0, "")
    with anyio.fail_after(PATIENCE):
        assert [await recv.receive() for _ in range(5)] == list(range(5))
        with pytest.raises(PeerLost):
            await recv.receive()
    await recv.aclose()


EXITS_WITH_ITEMS = """
import sys
import anyio
from chrono_zmq import Undelivered, ZmqConfig, open_zmq_send

async def main():
    global send
    send = open_zmq_send("ipc://nobody-is-here", maxsize=64, config=ZmqConfig(linger=0.2))
    await send.send_many(range(5))
    if sys.argv[2] == "closed":
        with anyio.CancelScope() as scope:
            scope.cancel()
            await send.aclose()

anyio.run(main, backend=sys.argv[1])
sys.exit(7)
"""


@pytest.mark.parametrize("closed", ["closed", "open"])
def test_process_that_exits_with_items_that_nobody_took_says_so(closed: str) -> None:
    """Past `linger` it is logged, once, and the exit code is what it was."""
    done = python(EXITS_WITH_ITEMS, "asyncio", closed)
    assert done.returncode == 7
    assert done.stderr.count("5 of 5 items") == 1
    assert "nobody-is-here" in done.stderr
    assert "Traceback" not in done.stderr


EXITS_WHILE_IT_WAITS = """
import asyncio, sys, threading
from chrono_zmq import open_zmq_receive, open_zmq_send

recv = open_zmq_receive("ipc://*")
send = open_zmq_send("ipc://nobody-is-here")
loop = asyncio.new_event_loop()
waiting = [loop.create_task(recv.receive()), loop.create_task(send.send(1))]

async def until_they_wait():
    while not (recv.statistics().waiters_receive and send.statistics().waiters_send):
        await asyncio.sleep(0.001)

loop.run_until_complete(until_they_wait())
if sys.argv[1] == "running":
    threading.Thread(target=loop.run_forever, daemon=True).start()
"""


@pytest.mark.parametrize("loop", ["stopped", "running"])
def test_process_exits_though_tasks_wait_in_a_loop_that_was_left(loop: str) -> None:
    """What waits in a loop that was not run to its end does not hold up the end of the process."""
    assert python(EXITS_WHILE_IT_WAITS, loop).returncode == 0


FORKS = """
import os, sys
import anyio
from chrono_zmq import open_zmq_channel

backend = sys.argv[1]

def child(leave):
    pid = os.fork()
    if pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
        return
    calls = channel.send.ready, channel.recv.receive_nowait, lambda: channel.send.send_nowait(9)
    for call in calls:
        try:
            call()
        except RuntimeError as error:
            assert "forked" in str(error) and "'obs'" in str(error), error
        else:
            os._exit(1)
    leave(5)

channel = open_zmq_channel(maxsize=4, name="obs")

async def own():
    mine = open_zmq_channel(maxsize=4)
    await mine.send.send(1)
    assert await mine.recv.receive() == 1
    await mine.send.aclose()
    await mine.recv.aclose()

def use_own(code):
    anyio.run(own, backend=backend)
    sys.exit(code)

child(use_own)

async def main():
    await channel.send.send(1)
    child(os._exit)
    await channel.send.send(2)
    assert await channel.recv.receive() == 1
    await channel.send.aclose()
    assert await channel.recv.receive() == 2
    await channel.recv.aclose()
    print("went on")

anyio.run(main, backend=backend)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_forked_child_is_refused_and_its_parent_goes_on(anyio_backend_name: str) -> None:
    """In a child, the ends of its parent say so, its own work, and the parent notices nothing."""
    done = python(FORKS, anyio_backend_name)
    assert (done.stdout, done.stderr, done.returncode) == ("went on\n", "", 0)


TALKS_TO_ITS_PARENT = """
import os, sys
import anyio
from anyio.to_thread import current_default_thread_limiter
from chrono_zmq import open_zmq_receive, open_zmq_send

backend = sys.argv[1]
recv = open_zmq_receive("ipc://*")

async def child():
    async with open_zmq_send(recv.address, maxsize=4) as send:
        await send.send(1)
        assert current_default_thread_limiter().borrowed_tokens == 0

async def parent():
    print([item async for item in recv])
    await recv.aclose()

if os.fork():
    anyio.run(parent, backend=backend)
    os.wait()
else:
    anyio.run(child, backend=backend)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_forked_child_is_another_process_to_its_parent(anyio_backend_name: str) -> None:
    """Its end is no mate of its parent's in this process, for which it would hold time."""
    done = python(TALKS_TO_ITS_PARENT, anyio_backend_name)
    assert (done.stdout, done.stderr, done.returncode) == ("[1]\n", "", 0)


# Threads and loops


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit])
async def test_interrupt_comes_out_of_a_rendezvous(
    error: type[BaseException], closing: list[Any]
) -> None:
    """An interrupt while an item waits to be taken ends the program, as anywhere else."""
    channel = open_zmq_channel()
    closing += channel.recv, channel.send
    await meet(channel)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.recv.receive)
            await until(channel.send.ready)  # an item is promised to be taken
            scope.cancel()
    call = channel.send.send(1)
    call.send(None)
    with pytest.raises(error):
        call.throw(error)


def test_end_goes_from_a_loop_that_has_ended_to_the_next(anyio_backend_name: str) -> None:
    """An end stays usable after the loop in which it was used has ended."""
    channel = open_zmq_channel(maxsize=4)

    async def first() -> None:
        await channel.send.send(1)

    async def second() -> None:
        assert await channel.recv.receive() == 1
        await channel.send.send(2)
        await channel.send.aclose()
        assert [item async for item in channel.recv] == [2]
        await channel.recv.aclose()

    for body in (first, second):
        anyio.run(body, backend=anyio_backend_name)


def test_call_outside_of_a_loop_says_what_is_missing() -> None:
    """Without an event loop, `send_nowait` says that there is none."""
    channel = open_zmq_channel(maxsize=4)
    with pytest.raises(RuntimeError, match="no event loop"):
        channel.send.send_nowait(1)
