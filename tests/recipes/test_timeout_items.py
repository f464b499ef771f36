import math
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from chrono_core import SimClock, WallClock, open_channel
from chrono_recipes._timeout_items import timeout_items
from hypothesis import given
from hypothesis import strategies as st

from tests.core.scheduling import rounds
from tests.core.virtual_time import run_virtually

from .timed import (
    END,
    Start,
    Story,
    check_gone_reaches_silent_sources,
    check_one_trace,
    fed,
    play,
    steady,
    stories,
)

SILENT = (9, 9, 9)


def start(seconds: float, on_timeout: Callable[[], Any] | None = lambda: SILENT) -> Start:
    return lambda clock, sources, dest, drop: timeout_items(
        clock, sources[0], dest, seconds=seconds, on_timeout=on_timeout
    )


def test_silence_raises_and_loses_nothing(anyio_backend: str) -> None:
    """Where no item comes for so long, it raises."""
    log = fed([(at, 0, at) for at in (1, 3, 6, 7)], start(0.3, None), anyio_backend)
    assert log.out == [(1, 1), (3, 3)]
    assert isinstance(log.error, TimeoutError)
    assert "0.3" in str(log.error)
    assert log.at == 0.6


async def test_nothing_is_closed_on_a_timeout() -> None:
    """After a timeout, it can be called again with the same channels."""
    clock, source, dest = SimClock(), open_channel[int](2), open_channel[int](2)

    async def run() -> None:
        with pytest.raises(TimeoutError, match="no item has come"):
            await timeout_items(clock, source.recv, dest.send, seconds=1)
        await source.send.send(1)
        await source.send.aclose()
        await timeout_items(clock, source.recv, dest.send, seconds=1)

    await clock.run_until(run(), limit=10)
    assert await dest.recv.receive_many(5) == [1]


@given(
    gaps=st.lists(st.integers(0, 9), max_size=12),
    tail=st.integers(0, 9),
    seconds=st.integers(1, 4),
    settle=st.booleans(),
)
def test_silence_is_filled_as_the_definition_says(
    gaps: list[int], tail: int, seconds: int, settle: bool, anyio_backend: str
) -> None:
    """After each silence of the length another item is sent; one at the instant itself is late."""
    events: list[tuple[int, int, Any]] = []
    expected: list[tuple[int, Any]] = []
    now, due = 0, seconds
    for n, gap in enumerate([*gaps, tail]):
        now += gap
        while due <= now:
            expected.append((due, SILENT))
            due += seconds
        if n < len(gaps):
            events.append((now, 0, n))
            expected.append((now, n))
            due = now + seconds
        else:
            events.append((now, 0, END))
    assert fed(events, start(seconds / 10), anyio_backend, settle=settle).out == expected


@given(story=stories(), seconds=st.sampled_from([0.1, 0.3, math.inf]), fill=st.booleans())
def test_nothing_is_lost_or_invented(
    story: Story, seconds: float, fill: bool, anyio_backend: str
) -> None:
    """However the ends behave, and whenever it is cancelled, every item that was taken goes on."""

    async def again(clock: Any, sources: Any, dest: Any, drop: Any) -> None:
        while True:
            try:
                await timeout_items(clock, sources[0], dest, seconds=seconds)
                return
            except TimeoutError:
                pass

    outcome = play(story, start(seconds) if fill else again, anyio_backend)
    assert [item for item in outcome.out if item != SILENT] == outcome.taken[0]


def test_item_that_waits_for_room_has_come(anyio_backend: str) -> None:
    """While the destination is full, the source is not silent."""
    story = Story((steady(3),), (0,), dest_size=0, pauses=(20,))
    outcome = play(story, start(0.5, None), anyio_backend)
    assert [number for _, number, _ in outcome.out] == [0, 1, 2]


def test_item_that_came_while_the_loop_was_busy_has_come(anyio_backend: str) -> None:
    """On a real clock, work that blocks the loop for too long is no silence of the source."""
    clock, source, dest = WallClock(), open_channel[int](9), open_channel[int](9)

    async def main(lose: Callable[[float], None]) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: timeout_items(clock, source.recv, dest.send, seconds=1))
            await rounds()
            source.send.send_nowait(1)
            lose(3)
            assert await dest.recv.receive() == 1
            tasks.cancel_scope.cancel()

    run_virtually(anyio_backend, main)


async def test_failing_on_timeout_comes_through() -> None:
    """An error of the function that makes the item is raised."""
    clock, source, dest = SimClock(), open_channel[int](2), open_channel[int](2)

    def fail() -> int:
        raise LookupError("nothing")

    with pytest.raises(LookupError, match="nothing"):
        await clock.run_until(
            timeout_items(clock, source.recv, dest.send, seconds=1, on_timeout=fail), limit=5
        )


async def test_item_that_was_withdrawn_has_not_come() -> None:
    """A sender that gives up while there was no room leaves the source silent."""
    clock, source, dest = SimClock(), open_channel[int](0), open_channel[int](1)
    await dest.send.send(0)

    async def produce() -> None:
        with clock.move_on_after(0.5):
            await source.send.send(1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        tasks.start_soon(
            lambda: timeout_items(clock, source.recv, dest.send, seconds=1, on_timeout=lambda: 2)
        )
        await clock.advance(3)
        assert dest.recv.receive_nowait() == 0
        await clock.advance(0)
        assert dest.recv.receive_nowait() == 2
        tasks.cancel_scope.cancel()


async def test_closed_destination_reaches_a_silent_source() -> None:
    """Whoever would send learns that nobody wants it, even where the source was silent."""
    await check_gone_reaches_silent_sources(start(1.0))


def test_one_trace() -> None:
    """It goes the same way on every run and on both backends."""
    story = Story((steady(8, gap=4),), (1,), dest_size=0, pauses=(0, 7), cancels=((3, 1), (5, 2)))
    check_one_trace(story, start(0.2))


def test_bad_input_is_refused_at_the_call() -> None:
    """What makes no sense is said at once, with the name of the argument."""
    clock, channel = SimClock(), open_channel[int](1)
    recv, send = channel.recv, channel.send
    for seconds in (-1.0, 0.0, math.nan):
        with pytest.raises(ValueError, match="seconds"):
            timeout_items(clock, recv, send, seconds=seconds)
    with pytest.raises(TypeError, match="on_timeout"):
        timeout_items(clock, recv, send, seconds=1, on_timeout=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Context or a Clock"):
        timeout_items(None, recv, send, seconds=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="source"):
        timeout_items(clock, send, send, seconds=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="dest"):
        timeout_items(clock, recv, recv, seconds=1)  # type: ignore[arg-type]
