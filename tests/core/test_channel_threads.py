import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from chrono_core import Channel, open_channel
from chrono_core.lowlevel import wait_any

from .scheduling import until

CALLS: dict[str, Callable[[Channel[int]], object]] = {
    "send_nowait": lambda channel: channel.send.send_nowait(9),
    "evict_nowait": lambda channel: channel.send.evict_nowait(),
    "receive_nowait": lambda channel: channel.recv.receive_nowait(),
    "peek_nowait": lambda channel: channel.recv.peek_nowait(),
    "ready to send": lambda channel: channel.send.ready(),
    "ready to receive": lambda channel: channel.recv.ready(),
}

COROUTINES: dict[str, Callable[[Channel[int]], Any]] = {
    "send": lambda channel: channel.send.send(9),
    "send_many": lambda channel: channel.send.send_many([9]),
    "watch sender": lambda channel: wait_any(channel.send),
    "watch receiver": lambda channel: wait_any(channel.recv),
    "watch the close": lambda channel: wait_any(closing=(channel.send,)),
    "close sender": lambda channel: channel.send.aclose(),
    "receive": lambda channel: channel.recv.receive(),
    "receive_many": lambda channel: channel.recv.receive_many(5),
    "close receiver": lambda channel: channel.recv.aclose(),
}


def error_in_thread(function: Callable[[], object]) -> BaseException | None:
    """What a function raises in a thread of its own."""
    errors: list[BaseException] = []

    def body() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    return errors[0] if errors else None


def in_a_loop_of_its_own(channel: Channel[int], way: str, backend: str) -> Callable[[], object]:
    async def main() -> None:
        await COROUTINES[way](channel)

    return lambda: anyio.run(main, backend=backend)


def assert_refused(error: BaseException | None) -> None:
    assert type(error) is RuntimeError
    assert "'obs'" in str(error)


@pytest.mark.parametrize("way", CALLS)
@pytest.mark.parametrize("thread", ["its own", "a worker"])
async def test_call_from_another_thread_is_refused(way: str, thread: str) -> None:
    """A call from a thread without an event loop names the channel, and does nothing."""
    channel = open_channel[int](4, name="obs")
    await channel.send.send_many([1, 2])
    if thread == "its own":
        error = error_in_thread(lambda: CALLS[way](channel))
    else:
        with pytest.raises(RuntimeError) as caught:
            await anyio.to_thread.run_sync(CALLS[way], channel)
        error = caught.value
    assert_refused(error)
    assert [channel.recv.receive_nowait() for _ in range(2)] == [1, 2]


@pytest.mark.parametrize("used", ["by the caller", "by nobody"])
@pytest.mark.parametrize("way", COROUTINES)
async def test_call_from_another_event_loop_is_refused(
    anyio_backend: str, way: str, used: str
) -> None:
    """A call from the event loop of another thread names the channel, and does nothing."""
    channel = open_channel[int](4, name="obs")
    await channel.send.send_many([1, 2])
    if used == "by the caller":
        await channel.recv.receive()
        await channel.send.send(3)
    before = channel.send.statistics()
    assert_refused(error_in_thread(in_a_loop_of_its_own(channel, way, anyio_backend)))
    assert channel.send.statistics() == before
    expected = [2, 3] if used == "by the caller" else [1, 2]
    assert await channel.recv.receive_many(5) == expected
    await channel.send.send(4)


@pytest.mark.parametrize("way", COROUTINES)
async def test_call_from_an_event_loop_of_another_kind_is_refused(
    anyio_backend: str, way: str
) -> None:
    """A thread with the other kind of event loop is refused by name as well."""
    pytest.importorskip("trio")
    other = "trio" if anyio_backend == "asyncio" else "asyncio"
    channel = open_channel[int](4, name="obs")
    await channel.send.send_many([1, 2])
    await channel.send.send(3)
    await channel.recv.receive()
    before = channel.send.statistics()
    assert_refused(error_in_thread(in_a_loop_of_its_own(channel, way, other)))
    assert channel.send.statistics() == before
    assert await channel.recv.receive_many(5) == [2, 3]


@pytest.mark.parametrize("size", [0, 1])
async def test_thread_cannot_fail_to_wake_a_blocked_receiver(size: int) -> None:
    """While somebody waits, a `send_nowait` from a thread is refused, and is not half done."""
    channel = open_channel[int](size, name="obs")
    received = []

    async def consume() -> None:
        received.append(await channel.recv.receive())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await until(lambda: channel.recv.statistics().waiters_receive)
        assert_refused(error_in_thread(lambda: channel.send.send_nowait(1)))
        assert channel.recv.statistics().current_buffer_used == 0
        channel.send.send_nowait(2)
    assert received == [2]


async def test_thread_may_send_through_the_event_loop() -> None:
    """`anyio.from_thread` is the way in for a worker thread, and it wakes the receiver."""
    channel = open_channel[int](4)
    received = []

    def work() -> None:
        for n in range(3):
            anyio.from_thread.run(channel.send.send, n)
            anyio.from_thread.run_sync(channel.send.send_nowait, 10 + n)
        anyio.from_thread.run(channel.send.aclose)

    async def consume() -> None:
        async for item in channel.recv:
            received.append(item)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await anyio.to_thread.run_sync(work)
    assert received == [0, 10, 1, 11, 2, 12]


def test_channel_may_be_filled_before_there_is_an_event_loop(anyio_backend_name: str) -> None:
    """What was sent without waiting before the event loop began is received in it."""
    channel = open_channel[int](4)
    channel.send.send_nowait(1)
    channel.send.send_nowait(2)

    async def main() -> list[int]:
        return [await channel.recv.receive(), channel.recv.receive_nowait()]

    assert anyio.run(main, backend=anyio_backend_name) == [1, 2]


def test_channel_may_go_on_in_a_later_event_loop(anyio_backend_name: str) -> None:
    """When its event loop is gone, the channel goes over to the next one, with its items."""
    channel = open_channel[int](4)

    async def fill() -> None:
        await channel.send.send_many([1, 2])
        with anyio.move_on_after(0):
            await channel.recv.receive()

    async def drain() -> list[int]:
        await channel.send.send(3)
        await channel.send.aclose()
        return [item async for item in channel.recv]

    anyio.run(fill, backend=anyio_backend_name)
    assert anyio.run(drain, backend=anyio_backend_name)[-2:] == [2, 3]
