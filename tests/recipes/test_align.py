import math
import random
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import anyio
import pytest
from chrono_core import SimClock, WallClock, WouldBlock, open_channel
from chrono_core.testing import collect
from chrono_recipes._align import Aligned, align
from hypothesis import example, given
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


def start(tolerance: float, max_wait: float, limit: int = 1024) -> Start:
    return lambda clock, sources, dest, drop: align(
        clock,
        sources[0],
        sources[1:],
        dest,
        tolerance=tolerance,
        max_wait=max_wait,
        key=lambda item: item[-1],
        limit=limit,
        on_drop=drop,
    )


Item = tuple[str, float]


def a(key: float) -> Item:
    return ("a", key)


def b(key: float) -> Item:
    return ("b", key)


def c(key: float) -> Item:
    return ("c", key)


def test_nearest_of_each_stream_is_found(anyio_backend: str) -> None:
    """Each item goes with the nearest of every other stream, as soon as that is certain."""
    events = [
        (0, 1, b(0.9)),
        (0, 0, a(1.0)),
        (1, 2, c(1.2)),
        (2, 1, b(1.05)),
        (3, 0, a(1.15)),
        (3, 1, b(2.0)),
    ]
    log = fed(events, start(0.2, 10), anyio_backend, sources=3)
    assert log.out == [
        (2, Aligned(a(1.0), (b(1.05), c(1.2)))),
        (3, Aligned(a(1.15), (b(1.05), c(1.2)))),
    ]
    assert log.dropped == [(2, b(0.9), "unmatched"), (3, b(2.0), "unmatched")]


def test_late_others_are_waited_for_but_not_for_ever(anyio_backend: str) -> None:
    """When the wait is over, the nearest that there is will do; what comes then is too late."""
    events = [
        (0, 1, b(0.9)),
        (0, 0, a(1.0)),
        (5, 1, b(0.99)),
        (6, 0, a(2.0)),
        (11, 1, b(2.0)),
    ]
    log = fed(events, start(0.2, 0.5), anyio_backend, sources=2)
    assert log.out == [(5, Aligned(a(1.0), (b(0.9),)))]
    assert [(at, item, why) for at, item, why in log.dropped if item[0] == "a"] == [
        (11, a(2.0), "no match")
    ]


def test_item_without_hope_is_dropped_at_once(anyio_backend: str) -> None:
    """Where one stream has no match and will have none, the others are not waited for."""
    log = fed([(0, 0, a(1)), (1, 1, b(2)), (4, 2, c(1))], start(0.2, 9), anyio_backend, sources=3)
    assert log.dropped[0] == (1, a(1), "no match")


def test_what_can_match_nothing_is_not_kept(anyio_backend: str) -> None:
    """Others that are too old for what comes, or of which one is nearer, are dropped at once."""
    events = [(0, 1, b(0.5)), (1, 0, a(2)), (2, 1, b(1.85)), (3, 1, b(1.9)), (4, 1, b(2))]
    log = fed(events, start(0.2, 9), anyio_backend, sources=2)
    assert log.out == [(4, Aligned(a(2), (b(2),)))]
    assert [(at, key) for at, (_, key), _ in log.dropped] == [(1, 0.5), (3, 1.85), (4, 1.9)]


def test_equal_keys_are_passed_over_for_a_nearer_one(anyio_backend: str) -> None:
    """Of equals the first counts, and they do not hide what comes behind them."""
    events: list[tuple[int, int, Any]] = [
        (0, 1, ("first", 1)),
        (0, 1, ("second", 1)),
        (1, 0, a(1)),
        (2, 0, a(2)),
        (3, 1, ("third", 2)),
    ]
    log = fed(events, start(1, 9), anyio_backend, sources=2)
    assert [match.others[0][0] for _, match in log.out] == ["first", "third"]
    assert log.dropped == [(0, ("second", 1), "unmatched")]


def test_tenths_are_within_a_tolerance_of_a_tenth(anyio_backend: str) -> None:
    """Keys are compared in whole nanoseconds, where floats would be a little off."""
    events = [(0, 0, a(0.3)), (0, 1, b(0.4)), (1, 0, a(0.8)), (1, 1, b(0.7)), (2, 1, b(0.9))]
    log = fed(events, start(0.1, 1), anyio_backend, sources=2)
    assert log.out == [(0, Aligned(a(0.3), (b(0.4),))), (2, Aligned(a(0.8), (b(0.7),)))]


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(-1, 3)), max_size=30
    ),
    ends=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 2)), max_size=2),
    tolerance=st.none() | st.integers(0, 4),
    max_wait=st.none() | st.integers(0, 8),
    lanes=st.integers(1, 2),
)
@example(  # one that has no hope once those before it are out, as an item comes at their instant
    steps=[*[(0, 0, 0)] * 10, (0, 0, 1), (0, 1, 0), (1, 0, 0), (3, 2, 0)],
    ends=[(12, 1)],
    tolerance=0,
    max_wait=4,
    lanes=2,
)
def test_matches_are_what_the_definition_says(
    steps: list[tuple[int, int, int]],
    ends: list[tuple[int, int]],
    tolerance: int | None,
    max_wait: int | None,
    lanes: int,
    anyio_backend: str,
) -> None:
    """Looking through everything that came, at every instant, gives the same matches."""
    now = 0
    events: list[tuple[int, int, Any]] = []
    keys = [0, 0, 0]
    closed: set[int] = set()
    for n, (gap, source, jump) in enumerate(steps):
        now += gap
        source %= lanes + 1
        for at, end in ends:
            if at == n and end <= lanes and end not in closed:
                events.append((now, end, END))
                closed.add(end)
        if source not in closed:
            keys[source] += jump
            events.append((now, source, (source, n, keys[source] / 10)))
    oracle = Oracle(lanes, tolerance, max_wait)
    for at, source, item in events:
        oracle.pass_time(at)
        oracle.happen(at, source, item)
    for source in range(lanes + 1):
        oracle.happen(events[-1][0] if events else 0, source, END)
    oracle.pass_time(10**9)
    rule = start(
        math.inf if tolerance is None else tolerance / 10,
        math.inf if max_wait is None else max_wait / 10,
    )
    log = fed(events, rule, anyio_backend, sources=lanes + 1)
    assert log.out == oracle.out
    primary = [one for one in log.dropped if one[1][0] == 0]
    assert primary == oracle.dropped
    used = {other for _, match in oracle.out for other in match.others}
    others = {item for _, source, item in events if item is not END and source}
    dropped = [item for _, item, _ in log.dropped if item[0]]
    assert sorted(dropped) == sorted(others - used)
    assert {item for _, item, why in log.dropped if item[0] and why == "late"} == oracle.late


class Oracle:
    """The definition, word for word: every other item is looked at each time."""

    def __init__(self, lanes: int, tolerance: int | None, max_wait: int | None) -> None:
        self.seen: list[list[Any]] = [[] for _ in range(lanes)]
        self.ended = [False] * (lanes + 1)
        self.waiting: list[tuple[float, Any]] = []
        self.greatest = -math.inf
        self.tolerance = math.inf if tolerance is None else tolerance
        self.max_wait = math.inf if max_wait is None else max_wait
        self.out: list[tuple[int, Any]] = []
        self.dropped: list[tuple[int, Any, str]] = []
        self.late: set[Any] = set()

    def pass_time(self, until: int) -> None:
        while self.waiting and self.waiting[0][0] <= until:
            self.decide(int(self.waiting[0][0]))

    def happen(self, now: int, source: int, item: Any) -> None:
        if item is END:
            self.ended[source] = True
        elif source == 0:
            if item[2] < self.greatest:
                self.dropped.append((now, item, "late"))
            else:
                self.greatest = item[2]
                self.waiting.append((now + self.max_wait, item))
        elif self.seen[source - 1] and item[2] < self.seen[source - 1][-1][2]:
            self.late.add(item)
        else:
            self.seen[source - 1].append(item)
        self.decide(now)

    def decide(self, now: int) -> None:
        """Decide on the first for as long as that can be done."""
        while self.waiting:
            due, item = self.waiting[0]
            nearest = [self.nearest(lane, item) for lane in self.seen]
            final = [
                ended or bool(lane and lane[-1][2] >= item[2])
                for ended, lane in zip(self.ended[1:], self.seen, strict=True)
            ]
            hopeless = any(
                done and other is None for done, other in zip(final, nearest, strict=True)
            )
            if not (hopeless or all(final) or due <= now):
                return
            del self.waiting[0]
            if None in nearest:
                self.dropped.append((now, item, "no match"))
            else:
                self.out.append((now, Aligned(item, tuple(nearest))))

    def nearest(self, lane: list[Any], item: Any) -> Any:
        distances = [abs(round(10 * other[2]) - round(10 * item[2])) for other in lane]
        if not distances or min(distances) > self.tolerance:
            return None
        return lane[distances.index(min(distances))]


@given(
    story=stories(sources=3, items=8),
    tolerance=st.sampled_from([0, 2, math.inf]),
    max_wait=st.sampled_from([0.0, 0.4, math.inf]),
    limit=st.sampled_from([1, 2, 3, 1024]),
)
def test_nothing_is_lost_or_invented(
    story: Story, tolerance: float, max_wait: float, limit: int, anyio_backend: str
) -> None:
    """However the ends behave, and whenever it is cancelled, what was taken is accounted for."""
    outcome = play(story, start(tolerance, max_wait, limit), anyio_backend)
    others = {other for match in outcome.out for other in match.others}
    outcome.balance([*(match.primary for match in outcome.out), *others])
    for match in outcome.out:
        assert all(abs(other[-1] - match.primary[-1]) <= tolerance for other in match.others)
    assert story.cancels or "cancelled" not in outcome.reasons
    assert limit < 1024 or "overflow" not in outcome.reasons


@given(
    seed=st.integers(0, 10**6),
    limit=st.sampled_from([1, 2, 50]),
    size=st.sampled_from([0, 1, 4]),
    max_wait=st.sampled_from([0.0, 1.0, math.inf]),
)
async def test_one_task_may_feed_all_streams_in_any_order(
    seed: int, limit: int, size: int, max_wait: float
) -> None:
    """Whichever stream is sent to, it is taken from, so that the sender gets to the others."""
    clock, dest = SimClock(), open_channel[Any](0)
    channels = [open_channel[Any](size) for _ in range(3)]
    rng = random.Random(seed)
    plan = [(source, key) for source in range(3) for key in range(10)]
    for _ in range(rng.choice((0, 10, 100))):
        n, m = rng.randrange(len(plan)), rng.randrange(len(plan))
        plan[n], plan[m] = plan[m], plan[n]

    async def produce() -> None:
        for source, key in plan:
            await channels[source].send.send((source, key))
        for channel in channels:
            await channel.send.aclose()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        tasks.start_soon(
            lambda: start(1, max_wait, limit)(
                clock, [channel.recv for channel in channels], dest.send, lambda *_: None
            )
        )
        await clock.run_until(collect(dest.recv), limit=math.inf)


def test_streams_that_are_there_as_a_whole_are_joined_without_overflow(
    anyio_backend: str,
) -> None:
    """However long the streams, no more is taken of each than is needed."""
    events = [(0, source, (source, n)) for source in range(3) for n in range(50)]
    log = fed(events, start(0, 0, 2), anyio_backend, sources=3, settle=False)
    assert [match.others for _, match in log.out] == [((1, n), (2, n)) for n in range(50)]
    assert log.dropped == []


def test_limit_of_waiting_items_cuts_the_first_wait_short(anyio_backend: str) -> None:
    """Where too many items wait, the first is decided on with what there is."""
    events: list[tuple[int, int, Any]] = [(0, 1, b(0.9))]
    events += [(0, 0, a(n)) for n in (1, 2, 3, 4)]
    log = fed(events, start(0.2, 5, 2), anyio_backend, sources=2)
    assert log.out == [(0, Aligned(a(1), (b(0.9),)))]
    assert [(item, why) for _, item, why in log.dropped] == [
        (a(2), "overflow"),
        (a(3), "no match"),
        (a(4), "no match"),
    ]


def test_limit_of_others_drops_the_oldest(anyio_backend: str) -> None:
    """Where nobody asks for the others, only the newest are kept."""
    events: list[tuple[int, int, Any]] = [(0, 1, b(n)) for n in range(5)]
    events += [(1, 0, a(2)), (1, 0, a(3))]
    log = fed(events, start(0, 5, 2), anyio_backend, sources=2)
    assert log.out == [(1, Aligned(a(3), (b(3),)))]
    assert [(item, why) for _, item, why in log.dropped] == [
        (b(0), "overflow"),
        (b(1), "overflow"),
        (b(2), "overflow"),
        (a(2), "no match"),
        (b(4), "unmatched"),
    ]


def test_full_destination_loses_nothing(anyio_backend: str) -> None:
    """However slow the consumer, what has matched goes on, and the rest waits in the streams."""
    scripts = (steady(20), steady(20, source=1))
    story = Story(scripts, (0, 0), dest_size=0, pauses=(30,))
    outcome = play(story, start(0, 0.5, 3), anyio_backend)
    assert [match.primary[1] for match in outcome.out] == list(range(20))
    assert outcome.dropped == []


async def test_nothing_is_accepted_that_would_not_be_taken() -> None:
    """While no more can be held, a sender without patience is told so."""
    clock, dest = SimClock(), open_channel[Any](0)
    one, two = open_channel[Any](0), open_channel[Any](0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(
            lambda: start(0, 9, 2)(clock, [one.recv, two.recv], dest.send, lambda *_: None)
        )
        for n in range(2):
            await one.send.send(a(n))
            await two.send.send(b(n))
        await clock.advance(0)
        for channel in (one, two):
            with pytest.raises(WouldBlock):
                channel.send.send_nowait(a(9))
        tasks.cancel_scope.cancel()


def test_item_that_came_in_time_counts_where_the_loop_was_busy(anyio_backend: str) -> None:
    """On a real clock, work that blocks the loop beyond the end of a wait costs no match."""
    clock, dest = WallClock(), open_channel[Any](9)
    one, two = open_channel[Any](9), open_channel[Any](9)

    async def main(lose: Callable[[float], None]) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(
                lambda: start(0, 0.5)(clock, [one.recv, two.recv], dest.send, lambda *_: None)
            )
            await one.send.send(a(1))
            await rounds()
            two.send.send_nowait(b(1))
            lose(3)
            assert await dest.recv.receive() == Aligned(a(1), (b(1),))
            tasks.cancel_scope.cancel()

    run_virtually(anyio_backend, main)


async def test_closed_destination_is_noticed_while_an_item_waits() -> None:
    """What is held is reported, and the senders are told, when nobody wants it any more."""
    clock, dest = SimClock(), open_channel[Any](0)
    one, two = open_channel[Any](0), open_channel[Any](0)
    dropped: list[Any] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(
            lambda: start(0, 9)(
                clock, [one.recv, two.recv], dest.send, lambda *one: dropped.append(one)
            )
        )
        await one.send.send(a(1))
        await two.send.send(b(1 - 1e-9))
        await clock.advance(0)
        await dest.recv.aclose()
    assert dropped == [(b(1 - 1e-9), "unmatched"), (a(1), "destination gone")]
    for channel in (one, two):
        assert not channel.send.statistics().open_receive_streams


async def test_items_that_came_in_time_count_where_the_task_comes_late() -> None:
    """After time has jumped over the end of a wait, what is there by then is looked at."""
    clock, dest = SimClock(), open_channel[Any](1)
    one, two = open_channel[Any](9), open_channel[Any](9)
    await dest.send.send(None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(
            lambda: start(0, 0.5, 2)(clock, [one.recv, two.recv], dest.send, lambda *_: None)
        )
        await one.send.send_many([a(1), a(5)])
        await two.send.send_many([b(1), b(2), b(3), b(4), b(5)])
        await clock.advance(3)
        assert dest.recv.receive_nowait() is None
        await clock.advance(0)
        assert dest.recv.receive_nowait() == Aligned(a(1), (b(1),))
        await clock.advance(0)
        assert dest.recv.receive_nowait() == Aligned(a(5), (b(5),))
        tasks.cancel_scope.cancel()


async def test_backlog_of_another_stream_does_not_prolong_a_wait() -> None:
    """A stream that never pauses, and never gets there, is not followed beyond the wait."""
    clock, dest = SimClock(), open_channel[Any](1)
    one, two = open_channel[Any](9), open_channel[Any](1)
    dropped: list[Any] = []

    async def flood() -> None:
        for n in range(1000):
            await two.send.send(b(n))
            if n == 500:
                await clock.sleep(1)
        await clock.sleep(100)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flood)
        tasks.start_soon(
            lambda: start(0, 0.5, 2)(
                clock, [one.recv, two.recv], dest.send, lambda *one: dropped.append(one)
            )
        )
        await one.send.send(a(10**6))
        await clock.advance(0.5)
        assert (a(10**6), "no match") in dropped
        tasks.cancel_scope.cancel()


async def test_failing_key_leaves_its_item_in_its_stream() -> None:
    """An error of ``key`` comes through; what was held is named, and nothing is closed."""
    clock, dest = SimClock(), open_channel[Any](5)
    one, two = open_channel[Any](5), open_channel[Any](5)
    dropped: list[tuple[Any, str]] = []
    await one.send.send(a(1))
    await two.send.send_many([b(0.5), b(math.nan)])
    with pytest.raises(ValueError, match=r"key\(item\)"):
        await start(1, 1)(
            clock,
            [one.recv, two.recv],
            dest.send,
            lambda item, reason: dropped.append((item, reason)),
        )
    assert dropped == [(a(1), "failed"), (b(0.5), "failed")]
    assert two.recv.receive_nowait()[0] == "b"
    assert all(channel.send.statistics().open_receive_streams for channel in (one, two))
    assert dest.send.statistics().open_send_streams


async def test_others_are_closed_when_the_primary_stream_ends() -> None:
    """Whoever feeds another stream learns that nobody needs it any more."""
    clock, dest = SimClock(), open_channel[Any](5)
    one, two = open_channel[Any](5), open_channel[Any](0)
    await one.send.aclose()
    await start(1, 1)(clock, [one.recv, two.recv], dest.send, lambda *_: None)
    assert not two.send.statistics().open_receive_streams
    assert await collect(dest.recv) == []


async def test_closed_destination_reaches_silent_sources() -> None:
    """Whoever would send learns that nobody wants it, even where all sources were silent."""
    await check_gone_reaches_silent_sources(start(1.0, 1.0), sources=3)


def test_one_trace() -> None:
    """It goes the same way on every run and on both backends."""
    scripts = (steady(9, gap=2), steady(16, source=1), steady(7, gap=3, source=2))
    story = Story(scripts, (1, 0, 3), dest_size=0, pauses=(0, 7), cancels=((3, 1), (5, 2)))
    check_one_trace(story, start(1, 0.3))


def test_aligned_is_a_value() -> None:
    """Matches compare by what they hold, and cannot be changed."""
    match = Aligned(1, (2, 3))
    assert match == Aligned(1, (2, 3))
    assert hash(match) == hash(Aligned(1, (2, 3)))
    with pytest.raises(FrozenInstanceError):
        match.primary = 2  # type: ignore[misc]


def test_bad_input_is_refused_at_the_call() -> None:
    """What makes no sense is said at once, with the name of the argument."""
    clock, one, two = SimClock(), open_channel[int](1), open_channel[int](1)
    send = open_channel[Aligned[int, int]](1).send
    good: dict[str, Any] = {"tolerance": 1, "max_wait": 1, "key": float}
    for name, value, error in [
        ("tolerance", -1, ValueError),
        ("tolerance", math.nan, ValueError),
        ("max_wait", -1, ValueError),
        ("max_wait", "1", TypeError),
        ("key", 3, TypeError),
        ("limit", 0, ValueError),
        ("limit", 1.5, ValueError),
        ("on_drop", 3, TypeError),
    ]:
        with pytest.raises(error, match=name):
            align(clock, one.recv, [two.recv], send, **{**good, name: value})
    with pytest.raises(TypeError, match="Context or a Clock"):
        align(None, one.recv, [two.recv], send, **good)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="primary"):
        align(clock, send, [two.recv], send, **good)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="others"):
        align(clock, one.recv, [send], send, **good)  # type: ignore[list-item]
    with pytest.raises(ValueError, match="others"):
        align(clock, one.recv, [], send, **good)
    with pytest.raises(ValueError, match="twice"):
        align(clock, one.recv, [one.recv], send, **good)
    with pytest.raises(TypeError, match="dest"):
        align(clock, one.recv, [two.recv], one.recv, **good)  # type: ignore[arg-type]
