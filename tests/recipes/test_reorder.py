import math
from typing import Any

import anyio
import pytest
from chrono_core import SimClock, open_channel
from chrono_recipes._reorder import reorder
from hypothesis import given
from hypothesis import strategies as st

from .timed import (
    Start,
    Story,
    check_gone_reaches_silent_sources,
    check_one_trace,
    fed,
    play,
    stories,
)


def start(max_delay: float, limit: int = 1024) -> Start:
    return lambda clock, sources, dest, drop: reorder(
        clock,
        sources[0],
        dest,
        key=lambda item: item[-1],
        max_delay=max_delay,
        limit=limit,
        on_drop=drop,
    )


def test_items_go_out_in_the_order_of_their_keys(anyio_backend: str) -> None:
    """An item waits for smaller ones; one that comes after a greater has gone is dropped."""
    keys = [(0, 1), (1, 3), (2, 2), (3, 5), (7, 4), (8, 4), (9, 6)]
    log = fed([(at, 0, (at, key)) for at, key in keys], start(0.3), anyio_backend)
    assert log.out == [
        (3, (0, 1)),
        (4, (2, 2)),
        (4, (1, 3)),
        (6, (3, 5)),
        (9, (9, 6)),
    ]
    assert log.dropped == [(7, (7, 4), "late"), (8, (8, 4), "late")]


Item = tuple[int, int]


@given(
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(-4, 4)), max_size=24),
    max_delay=st.none() | st.integers(0, 8),
    limit=st.none() | st.integers(1, 4),
    settle=st.booleans(),
)
def test_order_is_what_the_definition_says(
    steps: list[tuple[int, int]],
    max_delay: int | None,
    limit: int | None,
    settle: bool,
    anyio_backend: str,
) -> None:
    """Sorting a list again and again gives the same items at the same times."""
    events = []
    expected: list[tuple[int, Item]] = []
    late: list[tuple[int, Item, str]] = []
    held: list[tuple[int, Item]] = []  # (when it came, item), in that order
    now = 0

    def smallest() -> tuple[int, Item]:
        return min(held, key=lambda one: one[1][-1])

    def out(at: int) -> None:
        one = smallest()
        held.remove(one)
        expected.append((at, one[1]))

    for n, (gap, jitter) in enumerate(steps):
        now += gap
        item = (n, n + jitter)
        events.append((now, 0, item))
        while held and max_delay is not None and held[0][0] + max_delay <= now:
            due = held[0]
            while due in held:
                out(due[0] + max_delay)
        if expected and item[-1] < expected[-1][1][-1]:
            late.append((now, item, "late"))
            continue
        held.append((now, item))
        if limit is not None and len(held) > limit:
            out(now)
    while held:
        due_times = [at + max_delay for at, _ in held] if max_delay is not None else []
        out(min([now, *due_times]))
    delay = math.inf if max_delay is None else max_delay / 10
    log = fed(events, start(delay, limit or 1024), anyio_backend, settle=settle)
    assert log.out == expected
    assert log.dropped == late


@given(story=stories(), max_delay=st.sampled_from([0.0, 0.4, math.inf]), limit=st.integers(1, 5))
def test_nothing_is_lost_or_invented(
    story: Story, max_delay: float, limit: int, anyio_backend: str
) -> None:
    """However the ends behave, and whenever it is cancelled, what was taken is accounted for."""
    outcome = play(story, start(max_delay, limit), anyio_backend)
    outcome.balance()
    assert story.cancels or "cancelled" not in outcome.reasons
    if not story.cancels:
        keys = [item[-1] for item in outcome.out]
        assert keys == sorted(keys)


def test_equal_keys_stay_in_the_order_in_which_they_came(anyio_backend: str) -> None:
    """The sort is stable."""
    events = [(0, 0, (name, key)) for name, key in (("a", 2), ("b", 1), ("c", 2), ("d", 1))]
    log = fed(events, start(0.1), anyio_backend)
    assert [name for _, (name, _) in log.out] == ["b", "d", "a", "c"]


def test_full_destination_leaves_time_to_sort(anyio_backend: str) -> None:
    """While there is no room, items are put in order up to the limit, and none is lost."""
    script = tuple((1, (0, n, -n)) for n in range(6))
    story = Story((script,), (0,), dest_size=0, pauses=(20, 0))
    outcome = play(story, start(0.1), anyio_backend)
    assert [key for _, _, key in outcome.out] == [-5, -4, -3, -2, -1, 0]


async def test_limit_is_kept_while_the_destination_is_full() -> None:
    """No more than the limit is taken from the source while nothing can go out."""
    clock, source, dest = SimClock(), open_channel[int](math.inf), open_channel[int](0)
    await source.send.send_many(range(100))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(
            lambda: reorder(clock, source.recv, dest.send, key=int, max_delay=1, limit=7)
        )
        await clock.advance(5)
        assert source.recv.statistics().received == 7
        tasks.cancel_scope.cancel()


async def test_failing_key_leaves_its_item_in_the_source() -> None:
    """An error of ``key`` comes through; what was held is named, and nothing is closed."""
    clock, source, dest = SimClock(), open_channel[Any](5), open_channel[Any](5)
    dropped: list[tuple[Any, str]] = []
    await source.send.send_many([1, "x"])
    with pytest.raises(ValueError, match="'x'"):
        await reorder(
            clock,
            source.recv,
            dest.send,
            key=int,
            max_delay=1,
            on_drop=lambda item, reason: dropped.append((item, reason)),
        )
    assert dropped == [(1, "failed")]
    assert source.recv.receive_nowait() == "x"
    await source.send.send(math.nan)
    with pytest.raises(ValueError, match="NaN"):
        await reorder(clock, source.recv, dest.send, key=float, max_delay=1)
    assert dest.send.statistics().open_send_streams == 1


async def test_what_has_gone_out_is_not_kept() -> None:
    """An item that waits for ever does not keep alive those that overtake it."""
    clock, source, dest = SimClock(), open_channel[int](0), open_channel[int](math.inf)
    running = reorder(clock, source.recv, dest.send, key=int, max_delay=math.inf, limit=3)
    recipe = running.cr_frame.f_locals["self"]  # type: ignore[attr-defined]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: running)
        await source.send.send(10**9)
        for n in range(1000):
            await source.send.send(n)
        assert len(recipe._by_arrival) == len(recipe._heap) == 3
        tasks.cancel_scope.cancel()


async def test_closed_destination_is_noticed_while_an_item_is_held() -> None:
    """What is held is reported, and the sender is told, when nobody wants it any more."""
    clock, source, dest = SimClock(), open_channel[int](0), open_channel[int](0)
    dropped: list[Any] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(
            lambda: reorder(
                clock,
                source.recv,
                dest.send,
                key=int,
                max_delay=9,
                on_drop=lambda *one: dropped.append(one),
            )
        )
        await source.send.send(1)
        await clock.advance(0)
        await dest.recv.aclose()
    assert dropped == [(1, "destination gone")]
    assert not source.send.statistics().open_receive_streams


async def test_closed_destination_reaches_a_silent_source() -> None:
    """Whoever would send learns that nobody wants it, even where the source was silent."""
    await check_gone_reaches_silent_sources(start(1.0))


def test_one_trace() -> None:
    """It goes the same way on every run and on both backends."""
    script = tuple((1, (0, n, n ^ 3)) for n in range(14))
    story = Story((script,), (1,), dest_size=0, pauses=(0, 7), cancels=((3, 1), (5, 2)))
    check_one_trace(story, start(0.3))


def test_bad_input_is_refused_at_the_call() -> None:
    """What makes no sense is said at once, with the name of the argument."""
    clock, channel = SimClock(), open_channel[int](1)
    recv, send = channel.recv, channel.send
    for max_delay in (-1.0, math.nan):
        with pytest.raises(ValueError, match="max_delay"):
            reorder(clock, recv, send, key=int, max_delay=max_delay)
    for limit in (0, 1.5, True):
        with pytest.raises(ValueError, match="limit"):
            reorder(clock, recv, send, key=int, max_delay=1, limit=limit)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="key"):
        reorder(clock, recv, send, key=3, max_delay=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Context or a Clock"):
        reorder(None, recv, send, key=int, max_delay=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="source"):
        reorder(clock, send, send, key=int, max_delay=1)  # type: ignore[arg-type, misc]
    with pytest.raises(TypeError, match="dest"):
        reorder(clock, recv, recv, key=int, max_delay=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="on_drop"):
        reorder(clock, recv, send, key=int, max_delay=1, on_drop=1)  # type: ignore[arg-type]
