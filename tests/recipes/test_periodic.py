import logging
import math
import statistics
from collections.abc import Callable
from typing import Any, Literal, cast

import anyio
import pytest
from chrono_core import Clock, Context, SimClock, Supervisor, WallClock
from chrono_core.lowlevel import Event
from chrono_core.testing import Trace, assert_one_trace
from chrono_recipes._periodic import TickStats, cooperative_every, periodic
from hypothesis import given
from hypothesis import strategies as st

from tests.core.scheduling import rounds
from tests.core.virtual_time import run_virtually

First = Literal["now", "after"]
Missed = Literal["skip", "burst", "delay"]


def context(clock: Clock, stop: Event | None = None) -> Context:
    """What a daemon would be given."""
    return Context(
        clock=clock,
        cancel_scope=anyio.CancelScope(),
        logger=logging.LoggerAdapter(logging.getLogger(__name__)),
        name="daemon",
        supervisor=cast(Supervisor, None),
        stop_event=Event("to be told to stop") if stop is None else stop,
    )


async def run_on(clock: SimClock, program: Callable[[], Any], seconds: float = 1e4) -> None:
    """Run it as a task that lives on the clock, to its end or until the time is over."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(program)
        await clock.advance(seconds)
        tasks.cancel_scope.cancel()


# The instants


@given(
    period=st.floats(1e-3, 10) | st.fractions(1, 5).map(float) | st.integers(1, 4).map(float),
    t0=st.sampled_from([0.0, 0.1, -7.3, 1.7e9]),
    before=st.floats(0, 5),
    first=st.sampled_from(["now", "after"]),
    missed=st.sampled_from(["skip", "burst", "delay"]),
    work=st.lists(st.floats(0, 20) | st.integers(0, 12).map(float), min_size=1, max_size=8),
    timeouts=st.lists(st.floats(0, 5), max_size=3),
)
async def test_ticks_are_those_of_the_clock(
    period: float,
    t0: float,
    before: float,
    first: First,
    missed: Missed,
    work: list[float],
    timeouts: list[float],
) -> None:
    """Whatever the consumer does, ticks are due and given exactly when `Clock.every` does it."""

    async def given_at(kind: str) -> list[tuple[float, int]]:
        clock = SimClock(t0)
        ctx = context(clock)
        log: list[tuple[float, int]] = []
        ticks: Any
        if kind == "core":
            ticks = clock.every(period, first=first, missed=missed)
        elif kind == "cooperative":
            ticks = cooperative_every(ctx, period, first=first, missed=missed)
        else:
            ticks = periodic(ctx, period, first=first, missed=missed)

        async def consume() -> None:
            await clock.sleep(before)
            for timeout in timeouts:
                with clock.move_on_after(timeout):
                    log.append((due(await anext(ticks)), clock.now_ns()))
            for busy in work:
                log.append((due(await anext(ticks)), clock.now_ns()))
                await clock.sleep(busy)

        await run_on(clock, consume)
        return log

    expected = await given_at("core")
    assert await given_at("cooperative") == expected
    assert await given_at("periodic") == expected


def due(tick: Any) -> float:
    return tick if isinstance(tick, float) else cast(float, tick.scheduled)


async def test_tick_has_its_number_its_time_and_how_late_it_is() -> None:
    """In bursts, ticks that are made up for are late, and all numbers come."""
    clock = SimClock()
    seen: list[tuple[int, float, float]] = []

    async def consume() -> None:
        async for tick in periodic(context(clock), 1, missed="burst"):
            seen.append((tick.n, tick.scheduled, tick.late))
            if tick.n == 1:
                await clock.sleep(2.5)
            if tick.n == 5:
                return

    await run_on(clock, consume)
    assert seen == [(1, 1, 0), (2, 2, 1.5), (3, 3, 0.5), (4, 4, 0), (5, 5, 0)]


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        ("skip", [(0, 0.0), (1, 1.0), (4, 4.0), (5, 5.0)]),
        ("burst", [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]),
        ("delay", [(0, 0.0), (1, 1.0), (2, 3.5), (3, 4.5)]),
    ],
)
async def test_numbers_rise_and_leave_out_what_was_dropped(
    missed: Missed, expected: list[tuple[int, float]]
) -> None:
    """A dropped tick leaves a gap; one that is put off keeps its number."""
    clock = SimClock()
    seen: list[tuple[int, float]] = []

    async def consume() -> None:
        async for tick in periodic(context(clock), 1, first="now", missed=missed):
            seen.append((tick.n, tick.scheduled))
            if tick.n == 1:
                await clock.sleep(2.5)
            if len(seen) == 4:
                return

    await run_on(clock, consume)
    assert seen == expected


async def test_cancelled_wait_goes_on_with_the_same_tick() -> None:
    """A tick whose wait was cancelled comes in the next call, late if need be, and once."""
    clock = SimClock()
    seen: list[tuple[int, float]] = []

    async def consume() -> None:
        ticks = periodic(context(clock), 1)
        with clock.move_on_after(0.5):
            await anext(ticks)
        await clock.sleep(0.75)
        for _ in range(2):
            tick = await anext(ticks)
            seen.append((tick.n, tick.late))

    await run_on(clock, consume)
    assert seen == [(1, 0.25), (2, 0)]


async def test_every_tick_gives_way() -> None:
    """Ticks that are made up for at once are cancellation points that let others run."""
    clock = SimClock()
    others = 0

    async def other() -> None:
        nonlocal others
        for _ in range(50):
            others += 1
            await anyio.lowlevel.checkpoint()

    async def consume() -> None:
        ticks = periodic(context(clock), 1, missed="burst")
        await clock.sleep(1000)
        before = others
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other)
            for _ in range(30):
                await anext(ticks)
            assert others >= before + 25
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anext(ticks)
        assert scope.cancelled_caught

    await run_on(clock, consume)
    assert others == 50


def test_ticks_on_the_loop_of_real_time(anyio_backend: str) -> None:
    """Under `WallClock`, ticks are given in their time, and the stop ends the wait."""

    async def main(lose: Any) -> None:
        clock = WallClock()
        stop = Event("stop")
        start = clock.now()
        seen: list[float] = []
        ticks = periodic(context(clock, stop), 1)
        async for tick in ticks:
            assert clock.now() >= tick.scheduled - 1e-9
            seen.append(tick.scheduled - start)
            if len(seen) == 1:
                lose(start + 3.5 - clock.now())
            if len(seen) == 3:
                break
        assert seen == pytest.approx([1, 4, 5], abs=1e-3)
        assert ticks.stats.missed == 2
        before = clock.now()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain, periodic(context(clock, stop), 1000))
            await clock.sleep(0.25)
            stop.set()
        assert clock.now() == pytest.approx(before + 0.25, abs=1e-3)

    async def drain(ticks: periodic) -> None:
        async for _ in ticks:
            raise AssertionError

    run_virtually(anyio_backend, main)


def test_no_tick_comes_twice_where_timers_fire_early() -> None:
    """On a loop whose timers fire a little early, every tick comes once and not before its time."""

    async def main(lose: Any) -> None:
        clock = WallClock()
        start = clock.now()
        seen = []
        async for due in cooperative_every(context(clock), 0.01, first="now"):
            assert clock.now() >= due - 1e-9
            seen.append(due - start)
            if len(seen) == 50:
                break
        assert seen == pytest.approx([n / 100 for n in range(50)], abs=1e-9)

    run_virtually("asyncio", main, early=0.0007)


# The stop


async def test_stop_ends_the_wait_at_once() -> None:
    """A daemon that waits an hour for its tick ends when it is told to, and not later."""
    clock = SimClock()
    ended: list[float] = []

    async def daemon(ctx: Context, make: Callable[..., Any]) -> None:
        async for _ in make(ctx, 3600):
            raise AssertionError
        ended.append(clock.now())

    async with Supervisor(clock=clock) as supervisor:
        for make in (periodic, cooperative_every):
            supervisor.spawn(daemon, make)
        await clock.advance(1.5)
        await supervisor.stop(grace=100)
    assert ended == [1.5, 1.5]


async def test_no_tick_comes_after_the_stop() -> None:
    """Once told to stop, there is no tick, not even one that is due, and the end stays the end."""
    clock = SimClock()
    stop = Event("stop")
    ticks = periodic(context(clock, stop), 1, first="now", missed="burst")
    await clock.advance(10)
    stop.set()
    for _ in range(3):
        with pytest.raises(StopAsyncIteration):
            await anext(ticks)
    assert ticks.stats == TickStats(0, 0, 0, 0, 0)


async def test_no_tick_comes_after_the_stop_where_its_wait_was_cancelled() -> None:
    """A tick that is still owed is not given after the stop."""
    clock = SimClock()
    stop = Event("stop")
    ticks = periodic(context(clock, stop), 10)

    async def consume() -> None:
        with clock.move_on_after(1):
            await anext(ticks)
        stop.set()
        with pytest.raises(StopAsyncIteration):
            await anext(ticks)
        assert clock.now() == 1

    await run_on(clock, consume)


@pytest.mark.parametrize(("stopper_first", "given"), [(True, []), (False, [1.0])])
async def test_stop_at_the_instant_of_a_tick_wins_if_it_comes_first(
    stopper_first: bool, given: list[float]
) -> None:
    """Of a stop and a tick at one instant, the one that was waited for first happens first."""
    clock = SimClock()
    stop = Event("stop")
    seen: list[float] = []

    async def consume() -> None:
        async for tick in periodic(context(clock, stop), 1):
            seen.append(tick.scheduled)

    async def tell() -> None:
        await clock.sleep(1)
        stop.set()

    async with anyio.create_task_group() as tasks:
        for task in (tell, consume) if stopper_first else (consume, tell):
            tasks.start_soon(task)
            await rounds()
        await clock.advance(5)
    assert seen == given


async def test_stop_during_the_checkpoint_of_a_late_tick_wins() -> None:
    """A tick that is made up for is not given where the stop comes while it gives way."""
    clock = SimClock()
    stop = Event("stop")
    seen: list[int] = []
    ticks = periodic(context(clock, stop), 1, missed="burst")
    await clock.advance(3)

    async def consume() -> None:
        async for tick in ticks:
            seen.append(tick.n)

    async def tell() -> None:
        stop.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        tasks.start_soon(tell)
    assert seen == []


@given(
    stop_at=st.integers(0, 40),
    work=st.lists(st.integers(0, 15), min_size=1, max_size=5),
    missed=st.sampled_from(["skip", "burst", "delay"]),
)
async def test_stop_cuts_the_ticks_short_and_changes_none(
    stop_at: int, work: list[int], missed: Missed
) -> None:
    """Ticks before the stop are those of `Clock.every`; when idle, the loop ends with the stop."""

    async def run(cooperative: bool) -> tuple[list[tuple[float, float]], float]:
        clock = SimClock()
        stop = Event("stop")
        log: list[tuple[float, float]] = []
        end: list[float] = [math.inf]

        async def consume() -> None:
            busy_until = 0.0
            ticks = (
                cooperative_every(context(clock, stop), 1, missed=missed)
                if cooperative
                else clock.every(1, missed=missed)
            )
            async for tick in ticks:
                log.append((tick, clock.now()))
                await clock.sleep(work[len(log) % len(work)] / 4)
                busy_until = clock.now()
            end.append(max(busy_until, stop_at + 0.125))
            assert clock.now() == end[-1]

        async def tell() -> None:
            await clock.sleep(stop_at + 0.125)
            stop.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consume)
            tasks.start_soon(tell)
            await clock.advance(100)
            tasks.cancel_scope.cancel()
        return log, end[-1]

    expected, _ = await run(False)
    got, end = await run(True)
    assert end < math.inf
    assert got == [entry for entry in expected if entry[1] <= stop_at]


# What was missed


@pytest.mark.parametrize(
    ("missed", "work", "calls"),
    [
        ("skip", [2.5, 0, 0, 1.5, 0], [2, 1]),
        ("burst", [3.5, 0, 0, 0, 0, 2.25, 0], [3, 2]),
        ("delay", [3.5, 0, 2.25, 0], [3, 2]),
        ("burst", [1.5] * 10, [1]),
        ("delay", [1.5] * 10, [1]),
        ("skip", [1.5] * 10, [1] * 9),
        ("skip", [1.0] * 10, []),
        ("burst", [1.0] * 10, []),
        ("delay", [1.0] * 10, []),
    ],
)
async def test_on_miss_is_called_once_for_each_time_of_falling_behind(
    missed: Missed, work: list[float], calls: list[int]
) -> None:
    """With how many ticks have passed, and again only after the consumer has caught up."""
    clock = SimClock()
    missing: list[int] = []

    async def consume() -> None:
        ticks = periodic(context(clock), 1, missed=missed, on_miss=missing.append)
        for busy in work:
            await anext(ticks)
            await clock.sleep(busy)

    await run_on(clock, consume)
    assert missing == calls


async def test_failing_on_miss_loses_no_tick() -> None:
    """What it raises comes out of the loop; the next call gives the tick, and that is all."""
    clock = SimClock()
    calls = 0
    seen: list[int] = []

    def on_miss(count: int) -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError(f"{count} missed")

    async def consume() -> None:
        ticks = periodic(context(clock), 1, on_miss=on_miss)
        await clock.sleep(2.5)
        with pytest.raises(RuntimeError, match="2 missed"):
            await anext(ticks)
        for _ in range(2):
            seen.append((await anext(ticks)).n)

    await run_on(clock, consume)
    assert seen == [3, 4]
    assert calls == 1


@given(
    missed=st.sampled_from(["skip", "burst", "delay"]),
    first=st.sampled_from(["now", "after"]),
    work=st.lists(st.floats(0, 5), min_size=1, max_size=20),
)
async def test_statistics_are_those_of_the_ticks(
    missed: Missed, first: First, work: list[float]
) -> None:
    """Counts, mean, maximum and deviation are what one computes from all ticks afterwards."""
    clock = SimClock()
    missing: list[int] = []
    ticks = periodic(context(clock), 1, first=first, missed=missed, on_miss=missing.append)
    seen: list[Any] = []

    async def consume() -> None:
        for busy in work:
            seen.append(await anext(ticks))
            await clock.sleep(busy)

    await run_on(clock, consume)
    late = [tick.late for tick in seen]
    stats = ticks.stats
    assert stats.ticks == len(work)
    assert stats.late_mean == pytest.approx(statistics.fmean(late), abs=1e-9)
    assert stats.late_max == max(late)
    assert stats.jitter == pytest.approx(statistics.pstdev(late), abs=1e-6)
    start = 0 if first == "now" else 1
    if missed == "skip":
        # Each tick was given or dropped.
        assert stats.ticks + stats.missed == seen[-1].n + 1 - start
        assert sum(missing) == stats.missed
        assert stats.late_max == 0
    else:
        assert [tick.n for tick in seen] == list(range(start, start + len(work)))
        assert sum(missing) >= bool(stats.missed)
    if missed == "burst":
        assert stats.missed == sum(lateness > 0 for lateness in late)


async def test_statistics_of_no_ticks_are_zero() -> None:
    """Before the first tick, everything is 0."""
    assert periodic(context(SimClock()), 1).stats == TickStats(0, 0, 0.0, 0.0, 0.0)


# What is refused

both = pytest.mark.parametrize("make", [periodic, cooperative_every])


@both
@pytest.mark.parametrize("period", [0, -1, math.nan, math.inf, 1e-10])
async def test_impossible_period_is_refused(make: Callable[..., Any], period: float) -> None:
    """A period is positive, finite, and not below the resolution of the clock."""
    with pytest.raises(ValueError, match="period must be"):
        make(context(SimClock()), period)


@both
async def test_misspelt_policy_is_refused(make: Callable[..., Any]) -> None:
    """The error lists what there is."""
    with pytest.raises(ValueError, match='first must be "now" or "after"'):
        make(context(SimClock()), 1, first="later")
    with pytest.raises(ValueError, match='missed must be "skip", "burst" or "delay"'):
        make(context(SimClock()), 1, missed="drop")


@both
@pytest.mark.parametrize("ctx", [None, SimClock(), 3])
async def test_what_is_no_context_is_refused(make: Callable[..., Any], ctx: Any) -> None:
    """A clock alone is not enough: it cannot tell to stop."""
    with pytest.raises(TypeError, match="ctx must be the Context"):
        make(ctx, 1)


async def test_on_miss_that_is_no_function_is_refused() -> None:
    """It must be possible to call it."""
    bad: Any = 3
    with pytest.raises(TypeError, match="on_miss"):
        periodic(context(SimClock()), 1, on_miss=bad)


def test_one_trace() -> None:
    """Daemons with all policies, told to stop at the instant of a tick, give one trace."""

    async def program(trace: Trace) -> None:
        clock = SimClock()

        async def daemon(ctx: Context, missed: Missed) -> None:
            def on_miss(count: int) -> None:
                trace.record(ctx, f"missed {count}")

            ticks = periodic(ctx, 0.1, missed=missed, on_miss=on_miss)
            async for tick in ticks:
                trace.record(ctx, tick)
                await clock.sleep(0.07 * (tick.n % 4))
            trace.record(ctx, ticks.stats)

        async with Supervisor(clock=clock) as supervisor:
            for missed in ("skip", "burst", "delay"):
                supervisor.spawn(daemon, missed, name=missed)
            await clock.advance(5)
            await supervisor.stop(grace=100)

    assert len(assert_one_trace(program).lines) > 100
