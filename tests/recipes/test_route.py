import math
import pickle
from typing import Any

import anyio
import pytest
from chrono_core import ChronoError, SimClock, open_channel
from chrono_core.testing import Trace, assert_one_trace, collect, feed
from chrono_recipes import Drops, UnknownKey, route

from tests.core.scheduling import rounds

from .routing import drain


def parity(item: int) -> str:
    return "odd" if item % 2 else "even"


@pytest.mark.parametrize("size", [0, 1, 3, math.inf])
async def test_each_item_goes_to_the_destination_of_its_key(size: float) -> None:
    """Every destination gets its own items, in their order, and then ends."""
    source = open_channel[int](size)
    dests = {name: open_channel[int](size) for name in ("even", "odd")}
    got: dict[str, list[int]] = {}

    async def consume(name: str) -> None:
        got[name] = await collect(dests[name].recv)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed, source.send, range(30))
        for name in dests:
            tasks.start_soon(consume, name)
        await route(source.recv, parity, {name: dest.send for name, dest in dests.items()})
    assert got == {"even": list(range(0, 30, 2)), "odd": list(range(1, 30, 2))}


async def test_unknown_key_is_an_error_that_keeps_the_item() -> None:
    """It names item and key; nothing is closed; the item is the next one of the source."""
    source, dest = open_channel[str](3), open_channel[str](3)
    for item in ("a1", "b2", "a3"):
        source.send.send_nowait(item)
    with pytest.raises(UnknownKey, match=r"'b2' has the key 'b'.*default") as caught:
        await route(source.recv, lambda item: item[0], {"a": dest.send})
    assert (caught.value.item, caught.value.key) == ("b2", "b")
    assert isinstance(caught.value, ChronoError)
    assert source.send.statistics().open_receive_streams
    assert dest.send.statistics().open_send_streams
    assert drain(dest.recv) == ["a1"]
    assert drain(source.recv) == ["b2", "a3"]


def test_unknown_key_can_be_pickled() -> None:
    """An error that crosses a process keeps what it says."""
    error = pickle.loads(pickle.dumps(UnknownKey("no", item=1, key="k")))
    assert (str(error), error.item, error.key) == ("no", 1, "k")


async def test_unknown_keys_go_to_the_default() -> None:
    """With a default, no key is unknown, and None can be a key like another."""
    source = open_channel[Any](9)
    dests: dict[Any, Any] = {key: open_channel[Any](9) for key in (None, "rest")}
    for item in (None, 1, None, 2):
        source.send.send_nowait(item)
    await source.send.aclose()
    sends = {key: dest.send for key, dest in dests.items()}
    await route(source.recv, lambda item: item, sends, default="rest")
    assert [drain(dest.recv) for dest in dests.values()] == [[None, None], [1, 2]]


@pytest.mark.parametrize("bad", ["raises", "cannot be hashed"])
async def test_key_that_fails_keeps_the_item(bad: str) -> None:
    """The error of the key function is raised as it is, and the item is still there."""
    source, dest = open_channel[int](3), open_channel[int](3)
    source.send.send_nowait(0)

    def key(item: int) -> Any:
        return [] if bad == "cannot be hashed" else 1 // item

    with pytest.raises(TypeError if bad == "cannot be hashed" else ZeroDivisionError):
        await route(source.recv, key, {1: dest.send})
    assert drain(source.recv) == [0]
    assert dest.send.statistics().open_send_streams


async def test_destination_without_room_holds_up_the_others() -> None:
    """The order is kept, and what waits is still in the source."""
    source = open_channel[int](9)
    even, odd = open_channel[int](1), open_channel[int](9)
    for n in (0, 2, 1):
        source.send.send_nowait(n)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(route, source.recv, parity, {"even": even.send, "odd": odd.send})
        await rounds()
        assert odd.recv.statistics().sent == 0
        assert source.recv.statistics().current_buffer_used == 2
        assert await even.recv.receive() == 0
        await rounds()
        assert drain(odd.recv) == [1]
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("waiting", [True, False])
async def test_items_for_a_destination_that_has_closed_are_dropped(waiting: bool) -> None:
    """Each is reported with its reason, and the other destinations get theirs."""
    source = open_channel[int](9)
    even, odd = open_channel[int](1), open_channel[int](9)
    drops = Drops()
    async with anyio.create_task_group() as tasks:

        async def call() -> None:
            sends = {"even": even.send, "odd": odd.send}
            await route(source.recv, parity, sends, on_drop=drops)

        tasks.start_soon(call)
        await rounds()
        if waiting:
            for n in (0, 2):
                source.send.send_nowait(n)
            await rounds()
        await even.recv.aclose()
        await rounds()
        for n in (4, 1, 6, 3):
            source.send.send_nowait(n)
        await source.send.aclose()
        assert await collect(odd.recv) == [1, 3]
    assert drops.by_reason == {"destination gone": 3 if waiting else 2}
    assert even.recv.statistics().discarded == int(waiting)


async def test_mapping_is_read_at_the_call() -> None:
    """What becomes of the mapping later does not matter."""
    source, dest = open_channel[int](9), open_channel[int](9)
    sends = {0: dest.send}
    call = route(source.recv, lambda item: 0, sends)
    sends.clear()
    source.send.send_nowait(1)
    await source.send.aclose()
    await call
    assert drain(dest.recv) == [1]


def test_one_trace() -> None:
    """Destinations of several speeds, one of which leaves, see the same on every backend."""

    async def program(trace: Trace) -> None:
        clock = SimClock()
        source = open_channel[int](2)
        dests = [open_channel[int](size) for size in (0, 1, 3)]

        def drop(item: int, reason: str) -> None:
            trace.write(f"{clock.now_ns()} dropped {item}: {reason}")

        async def consume(number: int) -> None:
            async for item in dests[number].recv:
                trace.write(f"{clock.now_ns()} {number} got {item}")
                await clock.sleep(0.1 * number)
                if (number, item) == (1, 28):
                    break
            await dests[number].recv.aclose()

        async def call() -> None:
            sends = {n: dest.send for n, dest in enumerate(dests)}
            await route(source.recv, lambda item: item % 3, sends, on_drop=drop)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            for number in range(3):
                tasks.start_soon(consume, number)
            tasks.start_soon(feed, source.send, range(60))
            await clock.advance(20)

    lines = assert_one_trace(program).lines
    assert len(lines) >= 58
    assert any("dropped" in line for line in lines)
