import math

import pytest
from chrono_core import SimClock, open_channel
from chrono_recipes._window import window
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


def start(count: int | None, seconds: float | None) -> Start:
    return lambda clock, sources, dest, drop: window(
        clock, sources[0], dest, count=count, seconds=seconds, on_drop=drop
    )


def test_lists_end_by_count_by_time_and_with_the_source(anyio_backend: str) -> None:
    """A list is sent when it is full, when its time is over, and when no more can come."""
    events = [(at, 0, at) for at in (0, 1, 2, 3, 8, 9)]
    log = fed(events, start(3, 0.4), anyio_backend)
    assert log.out == [(2, [0, 1, 2]), (7, [3]), (9, [8, 9])]
    assert log.dropped == []


@given(
    gaps=st.lists(st.integers(0, 4), max_size=20),
    count=st.none() | st.integers(1, 4),
    seconds=st.none() | st.integers(1, 6),
    settle=st.booleans(),
)
def test_lists_are_what_the_definition_says(
    gaps: list[int], count: int | None, seconds: int | None, settle: bool, anyio_backend: str
) -> None:
    """Every item is in one list; an item at the very end of a list's time is in the next."""
    if count is None and seconds is None:
        count = 2
    expected: list[tuple[int, list[int]]] = []
    held: list[int] = []
    now = begun = 0
    events = []
    for n, gap in enumerate(gaps):
        now += gap
        events.append((now, 0, n))
        if held and seconds is not None and now >= begun + seconds:
            expected.append((begun + seconds, held))
            held = []
        if not held:
            begun = now
        held = [*held, n]
        if len(held) == count:
            expected.append((now, held))
            held = []
    if held:
        expected.append((now, held))
    rule = start(count, None if seconds is None else seconds / 10)
    assert fed(events, rule, anyio_backend, settle=settle).out == expected


@given(
    story=stories(), count=st.none() | st.integers(1, 3), seconds=st.sampled_from([0.2, math.inf])
)
def test_nothing_is_lost_or_invented(
    story: Story, count: int | None, seconds: float, anyio_backend: str
) -> None:
    """However the ends behave, and whenever it is cancelled, what was taken is accounted for."""
    outcome = play(story, start(count, seconds), anyio_backend)
    outcome.balance(item for items in outcome.out for item in items)
    assert all(outcome.out)
    assert outcome.reasons <= {"destination gone", "cancelled"}
    assert story.cancels or "cancelled" not in outcome.reasons
    assert story.leaves is not None or "destination gone" not in outcome.reasons


def test_full_destination_lets_a_list_grow_no_further(anyio_backend: str) -> None:
    """What comes after a list's time, while it waits for room, goes into the next."""
    story = Story((steady(8),), (8,), dest_size=0, pauses=(5,))
    outcome = play(story, start(None, 0.2), anyio_backend)
    assert [[n for _, n, _ in items] for items in outcome.out] == [[0, 1], [2, 3, 4, 5], [6, 7]]


async def test_closed_destination_reaches_a_silent_source() -> None:
    """Whoever would send learns that nobody wants it, even where the source was silent."""
    await check_gone_reaches_silent_sources(start(2, 1.0))


def test_one_trace() -> None:
    """It goes the same way on every run and on both backends."""
    story = Story((steady(12),), (1,), dest_size=0, pauses=(0, 7), cancels=((3, 1), (5, 2)))
    check_one_trace(story, start(3, 0.2))


def test_bad_input_is_refused_at_the_call() -> None:
    """What makes no sense is said at once, with the name of the argument."""
    clock, channel, lists = SimClock(), open_channel[int](1), open_channel[list[int]](1)
    recv, send = channel.recv, lists.send
    with pytest.raises(TypeError, match="count or seconds"):
        window(clock, recv, send)
    for seconds in (-1.0, 0.0, math.nan):
        with pytest.raises(ValueError, match="seconds"):
            window(clock, recv, send, seconds=seconds)
    for count in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="count"):
            window(clock, recv, send, count=count)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Context or a Clock"):
        window(None, recv, send, count=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="source"):
        window(clock, send, send, count=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="dest"):
        window(clock, recv, recv, count=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="on_drop"):
        window(clock, recv, send, count=1, on_drop=1)  # type: ignore[arg-type]
