import math
from typing import Any

import pytest
from chrono_core import SimClock, open_channel
from chrono_recipes._drops import Drops
from chrono_recipes._throttle import throttle
from hypothesis import given
from hypothesis import strategies as st

from .timed import (
    Start,
    Story,
    check_gone_reaches_silent_sources,
    check_one_trace,
    fed,
    play,
    steady,
    stories,
)


def start(interval: float) -> Start:
    return lambda clock, sources, dest, drop: throttle(
        clock, sources[0], dest, interval=interval, on_drop=drop
    )


def test_first_passes_at_once_and_followers_are_dropped(anyio_backend: str) -> None:
    """An item opens an interval in which others are dropped; the one at its end passes."""
    events = [(at, 0, at) for at in (2, 3, 4, 5, 6, 9)]
    log = fed(events, start(0.3), anyio_backend)
    assert log.out == [(2, 2), (5, 5), (9, 9)]
    assert log.dropped == [(3, 3, "too soon"), (4, 4, "too soon"), (6, 6, "too soon")]


@given(
    gaps=st.lists(st.integers(0, 4), max_size=20),
    interval=st.integers(0, 7),
    settle=st.booleans(),
)
def test_what_passes_is_what_the_definition_says(
    gaps: list[int], interval: int, settle: bool, anyio_backend: str
) -> None:
    """An item passes if and only if none has within the interval before it."""
    events: list[tuple[int, int, Any]] = []
    expected: list[tuple[int, int]] = []
    now = 0
    for n, gap in enumerate(gaps):
        now += gap
        events.append((now, 0, n))
        if not expected or now - expected[-1][0] >= interval:
            expected.append((now, n))
    log = fed(events, start(interval / 10), anyio_backend, settle=settle)
    assert log.out == expected
    assert len(log.dropped) == len(gaps) - len(expected)


@given(story=stories(), interval=st.sampled_from([0.0, 0.3, math.inf]))
def test_nothing_is_lost_or_invented(story: Story, interval: float, anyio_backend: str) -> None:
    """However the ends behave, and whenever it is cancelled, what was taken is accounted for."""
    outcome = play(story, start(interval), anyio_backend)
    outcome.balance()
    assert outcome.reasons <= {"too soon"}


def test_infinite_interval_passes_only_the_first(anyio_backend: str) -> None:
    """The interval may be infinite, and then never ends."""
    log = fed([(at, 0, at) for at in range(50)], start(math.inf), anyio_backend)
    assert log.out == [(0, 0)]


def test_full_destination_keeps_the_due_item_in_its_source(anyio_backend: str) -> None:
    """What is due waits for room, and the interval begins when it is passed on."""
    story = Story((steady(8, gap=1),), (0,), dest_size=0, pauses=(10,))
    outcome = play(story, start(0.5), anyio_backend)
    assert [event for event in outcome.events if "got" in event] == [
        "1000000000 got (0, 0, 0)",
        "2000000000 got (0, 5, 5)",
    ]
    assert [item[1] for item, _ in outcome.dropped] == [1, 2, 3, 4, 6, 7]


async def test_closed_destination_reaches_a_silent_source() -> None:
    """Whoever would send learns that nobody wants it, even where the source was silent."""
    await check_gone_reaches_silent_sources(start(1.0))


def test_one_trace() -> None:
    """It goes the same way on every run and on both backends."""
    story = Story((steady(12),), (1,), dest_size=1, pauses=(0, 7), cancels=((3, 1), (5, 2)))
    check_one_trace(story, start(0.3))


def test_drops_count(anyio_backend: str) -> None:
    """`Drops` counts what was dropped."""
    drops = Drops()
    fed(
        [(0, 0, n) for n in range(5)],
        lambda clock, sources, dest, _: throttle(
            clock, sources[0], dest, interval=1, on_drop=drops
        ),
        anyio_backend,
    )
    assert drops.by_reason == {"too soon": 2 * 4}  # it is played twice


def test_bad_input_is_refused_at_the_call() -> None:
    """What makes no sense is said at once, with the name of the argument."""
    clock, channel = SimClock(), open_channel[int](1)
    recv, send = channel.recv, channel.send
    for interval in (-1.0, math.nan):
        with pytest.raises(ValueError, match="interval"):
            throttle(clock, recv, send, interval=interval)
    with pytest.raises(TypeError, match="interval"):
        throttle(clock, recv, send, interval="1")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Context or a Clock"):
        throttle(None, recv, send, interval=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="source"):
        throttle(clock, send, send, interval=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="dest"):
        throttle(clock, recv, recv, interval=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="on_drop"):
        throttle(clock, recv, send, interval=1, on_drop=3)  # type: ignore[arg-type]
