import math
from typing import Any

import anyio
import pytest
from chrono_core import SimClock, open_channel
from chrono_recipes._latest_within import latest_within
from hypothesis import given
from hypothesis import strategies as st

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


def start(max_age: float) -> Start:
    return lambda clock, sources, dest, drop: latest_within(
        clock, sources[0], sources[1], dest, max_age=max_age, on_drop=drop
    )


def test_each_item_is_paired_with_the_newest_that_is_fresh(anyio_backend: str) -> None:
    """The newest other item is used as often as it is asked for, until it is too old."""
    events = [
        (0, 0, "a"),
        (1, 1, 1),
        (2, 1, 2),
        (3, 0, "b"),
        (5, 0, "c"),
        (6, 0, "d"),
        (7, 1, 3),
    ]
    log = fed(events, start(0.3), anyio_backend, sources=2)
    assert log.out == [(3, ("b", 2)), (5, ("c", 2))]
    assert log.dropped == [
        (0, "a", "nothing yet"),
        (2, 1, "superseded"),
        (6, "d", "stale"),
        (7, 3, "unmatched"),
    ]


@given(
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), max_size=20),
    max_age=st.none() | st.integers(0, 5),
)
def test_pairs_are_what_the_definition_says(
    steps: list[tuple[int, int]], max_age: int | None, anyio_backend: str
) -> None:
    """Looking back from each item gives the same pairs."""
    now = 0
    events: list[tuple[int, int, int]] = []
    for n, (gap, source) in enumerate(steps):
        now += gap
        events.append((now, source, n))
    expected = []
    stale = set()
    for at, source, n in events:
        if source == 0:
            before = [event for event in events[:n] if event[1] == 1]
            if before and (max_age is None or at - before[-1][0] <= max_age):
                expected.append((at, (n, before[-1][2])))
            else:
                stale.add((n, "stale" if before else "nothing yet"))
    age = math.inf if max_age is None else max_age / 10
    log = fed(events, start(age), anyio_backend, sources=2)
    assert log.out == expected
    dropped = {(n, reason) for _, n, reason in log.dropped}
    assert {one for one in dropped if events[one[0]][1] == 0} == stale
    paired = {other for _, (_, other) in expected}
    unpaired = {n for _, source, n in events if source == 1 and n not in paired}
    assert sorted(n for n, reason in dropped if events[n][1] == 1) == sorted(unpaired)
    assert len(dropped) == len(log.dropped)


@given(story=stories(sources=2), max_age=st.sampled_from([0.0, 0.3, math.inf]))
def test_nothing_is_lost_or_invented(story: Story, max_age: float, anyio_backend: str) -> None:
    """However the ends behave, and whenever it is cancelled, what was taken is accounted for."""
    outcome = play(story, start(max_age), anyio_backend)
    others = {other for _, other in outcome.out}
    outcome.balance([*(primary for primary, _ in outcome.out), *others])
    assert story.cancels or "cancelled" not in outcome.reasons


def test_of_what_is_there_at_once_the_other_stream_goes_first(anyio_backend: str) -> None:
    """Items that come together are paired, in whichever order they were sent."""
    log = fed([(0, 0, "a"), (0, 1, 1)], start(0.0), anyio_backend, sources=2, settle=False)
    assert log.out == [(0, ("a", 1))]


async def test_item_is_judged_when_there_is_room() -> None:
    """While an item waits for room, the other stream is taken from, and time goes on."""
    clock, dest = SimClock(), open_channel[tuple[int, int]](1)
    primary, other = open_channel[int](3), open_channel[int](0)
    dropped: list[Any] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(
            lambda: latest_within(
                clock,
                primary.recv,
                other.recv,
                dest.send,
                max_age=1,
                on_drop=lambda item, reason: dropped.append((item, reason)),
            )
        )
        await other.send.send(10)
        await primary.send.send_many([1, 2, 3])
        await clock.advance(0.5)
        await other.send.send(20)
        await clock.advance(0)
        assert dest.recv.receive_nowait() == (1, 10)
        await clock.advance(0)
        await clock.advance(1.5)
        assert dest.recv.receive_nowait() == (2, 20)
        await clock.advance(0)
        assert dropped == [(3, "stale")]
        await primary.send.aclose()
    with pytest.raises(Exception, match="closed"):
        await other.send.send(30)


def test_last_other_item_stays_when_its_stream_ends(anyio_backend: str) -> None:
    """The end of the other stream takes nothing away."""
    events = [(0, 1, 1), (1, 1, END), (3, 0, "a"), (9, 0, "b")]
    log = fed(events, start(0.5), anyio_backend, sources=2)
    assert log.out == [(3, ("a", 1))]
    assert log.dropped == [(9, "b", "stale")]


async def test_closed_destination_reaches_silent_sources() -> None:
    """Whoever would send learns that nobody wants it, even where both sources were silent."""
    await check_gone_reaches_silent_sources(start(1.0), sources=2)


def test_one_trace() -> None:
    """It goes the same way on every run and on both backends."""
    scripts = (steady(9, gap=2), steady(7, gap=3, source=1))
    story = Story(scripts, (1, 0), dest_size=0, pauses=(0, 7), cancels=((3, 1), (5, 2)))
    check_one_trace(story, start(0.3))


def test_bad_input_is_refused_at_the_call() -> None:
    """What makes no sense is said at once, with the name of the argument."""
    clock, one, two = SimClock(), open_channel[int](1), open_channel[int](1)
    send = open_channel[tuple[int, int]](1).send
    for max_age in (-1.0, math.nan):
        with pytest.raises(ValueError, match="max_age"):
            latest_within(clock, one.recv, two.recv, send, max_age=max_age)
    with pytest.raises(ValueError, match="primary and other"):
        latest_within(clock, one.recv, one.recv, send, max_age=1)
    with pytest.raises(TypeError, match="Context or a Clock"):
        latest_within(None, one.recv, two.recv, send, max_age=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="primary"):
        latest_within(clock, send, two.recv, send, max_age=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="other"):
        latest_within(clock, one.recv, send, send, max_age=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="dest"):
        latest_within(clock, one.recv, two.recv, 3, max_age=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="on_drop"):
        latest_within(clock, one.recv, two.recv, send, max_age=1, on_drop=3)  # type: ignore[arg-type]
