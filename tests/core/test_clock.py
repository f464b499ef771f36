import gc
import math
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from chrono_core import Clock, SimClock, WallClock
from hypothesis import given
from hypothesis import strategies as st

from .scheduling import rounds, until
from .virtual_time import run_virtually

HOUR = 3600.0


async def ticks_while(
    clock: SimClock, seconds: float, body: Callable[[float], Any], **options: Any
) -> list[tuple[float, float]]:
    """Each tick and when it came, while the clock is driven and the body takes its time."""
    seen: list[tuple[float, float]] = []

    async def consume() -> None:
        async for tick in clock.every(**options):
            seen.append((tick, clock.now()))
            await body(tick)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await clock.advance(seconds)
        tasks.cancel_scope.cancel()
    return seen


async def nothing(_: float) -> None:
    pass


# Both clocks


@pytest.mark.parametrize("make", [SimClock, WallClock])
def test_clocks_are_clocks(make: Callable[[], Clock]) -> None:
    """Both clocks keep the protocol."""
    assert isinstance(make(), Clock)


CALLS: list[Callable[[Any, float], object]] = [
    lambda clock, value: clock.sleep(value),
    lambda clock, value: clock.wait_until(value),
    lambda clock, value: clock.every(value),
    lambda clock, value: clock.move_on_after(value),
    lambda clock, value: clock.move_on_at(value),
    lambda clock, value: clock.fail_after(value),
    lambda clock, value: clock.fail_at(value),
]
NAMES = ["sleep", "wait_until", "every", "move_on_after", "move_on_at", "fail_after", "fail_at"]


@pytest.mark.parametrize("call", CALLS, ids=NAMES)
@pytest.mark.parametrize("make", [SimClock, WallClock])
async def test_nan_is_refused_by_the_call(
    make: Callable[[], Clock], call: Callable[[Any, float], object]
) -> None:
    """Every method refuses NaN when it is called, not when it is awaited or entered."""
    with pytest.raises(ValueError, match="NaN"):
        call(make(), math.nan)


@pytest.mark.parametrize("call", CALLS, ids=NAMES)
@pytest.mark.parametrize("make", [SimClock, WallClock])
@pytest.mark.parametrize("value", ["1", None])
async def test_what_is_no_number_is_refused_by_the_call(
    make: Callable[[], Clock], call: Callable[[Any, Any], object], value: Any
) -> None:
    """Every method refuses what is no number, with the value."""
    with pytest.raises(TypeError, match="must be a number") as caught:
        call(make(), value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("period", [0, 0.0, -1, -1e-9, math.inf, -math.inf])
@pytest.mark.parametrize("make", [SimClock, WallClock])
async def test_period_that_is_none_is_refused(make: Callable[[], Clock], period: float) -> None:
    """A period is positive and finite, or is refused by the call with its value."""
    with pytest.raises(ValueError, match="period") as caught:
        make().every(period)
    assert repr(period) in str(caught.value)


@pytest.mark.parametrize("make", [SimClock, WallClock])
async def test_period_below_the_resolution_is_refused(make: Callable[[], Clock]) -> None:
    """A period of less than a nanosecond is refused, and one of a nanosecond is not."""
    with pytest.raises(ValueError, match=r"period.*resolution"):
        make().every(0.9e-9)
    make().every(1e-9)


@pytest.mark.parametrize("make", [SimClock, WallClock])
async def test_misspelt_policies_are_refused(make: Callable[[], Any]) -> None:
    """A policy that does not exist is refused by the call, naming those that do."""
    with pytest.raises(ValueError, match=r"first.*now.*after.*'later'"):
        make().every(1, first="later")
    with pytest.raises(ValueError, match=r"missed.*skip.*burst.*delay.*'drop'"):
        make().every(1, missed="drop")


# Ticks in simulated time


async def test_first_tick_is_after_a_period() -> None:
    """Unless told, the first tick is due a period after the call."""
    seen = await ticks_while(SimClock(), 3, nothing, period=1)
    assert seen == [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]


async def test_first_tick_is_now_where_asked_for() -> None:
    """With `first="now"`, the first tick is due at the time of the call."""
    seen = await ticks_while(SimClock(), 2, nothing, period=1, first="now")
    assert seen == [(0.0, 0.0), (1.0, 1.0), (2.0, 2.0)]


async def test_ticks_are_anchored_at_the_call() -> None:
    """Ticks count from the call of `every`, not from the first `async for`."""
    clock = SimClock()
    ticks = clock.every(1)
    await clock.advance(0.25)
    late = clock.every(1)
    seen = []

    async def consume(name: str, ticks: Any) -> None:
        async for tick in ticks:
            seen.append((name, tick))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume, "early", ticks)
        tasks.start_soon(consume, "late", late)
        await clock.advance(2)
        tasks.cancel_scope.cancel()
    assert seen == [("early", 1.0), ("late", 1.25), ("early", 2.0), ("late", 2.25)]


@pytest.mark.parametrize("t0", [0.0, 1.7e9])
async def test_ticks_do_not_drift(t0: float) -> None:
    """A thousand ticks of a tenth end where a hundred seconds do, at the size of Unix time too."""
    seen = await ticks_while(SimClock(t0), 100, nothing, period=0.1)
    assert len(seen) == 1000
    assert seen[-1] == (t0 + 100, t0 + 100)
    assert all(tick == came for tick, came in seen)


async def test_body_of_exactly_a_period_is_not_behind() -> None:
    """A consumer that takes exactly one period gets every tick in its time."""

    async def body(_: float) -> None:
        await clock.sleep(0.1)

    for missed in ("skip", "burst", "delay"):
        clock = SimClock()
        seen = await ticks_while(clock, 1, body, period=0.1, missed=missed)
        assert [came for _, came in seen] == pytest.approx([n / 10 for n in range(1, 11)])
        assert all(tick == came for tick, came in seen)


async def test_consumer_that_falls_behind_skips_whole_periods() -> None:
    """With `missed="skip"`, ticks that passed are dropped, and the next is on the grid."""

    async def body(tick: float) -> None:
        await clock.sleep(2.5 if tick == 1 else 0)

    clock = SimClock()
    seen = await ticks_while(clock, 6, body, period=1, missed="skip")
    assert seen == [(1.0, 1.0), (4.0, 4.0), (5.0, 5.0), (6.0, 6.0)]


async def test_consumer_that_comes_exactly_at_a_tick_gets_it() -> None:
    """With `missed="skip"`, a tick that is due now is not missed."""

    async def body(tick: float) -> None:
        await clock.sleep(3 if tick == 1 else 0)

    clock = SimClock()
    seen = await ticks_while(clock, 5, body, period=1, missed="skip")
    assert seen == [(1.0, 1.0), (4.0, 4.0), (5.0, 5.0)]


async def test_burst_makes_up_for_every_tick() -> None:
    """With `missed="burst"`, ticks that passed come at once, each with the time it was due."""

    async def body(tick: float) -> None:
        await clock.sleep(2.5 if tick == 1 else 0)

    clock = SimClock()
    seen = await ticks_while(clock, 5, body, period=1, missed="burst")
    assert seen == [(1.0, 1.0), (2.0, 3.5), (3.0, 3.5), (4.0, 4.0), (5.0, 5.0)]


async def test_delay_counts_from_the_late_tick() -> None:
    """With `missed="delay"`, one tick comes at once, and the next a period after it."""

    async def body(tick: float) -> None:
        await clock.sleep(2.5 if tick == 1 else 0)

    clock = SimClock()
    seen = await ticks_while(clock, 6, body, period=1, missed="delay")
    assert seen == [(1.0, 1.0), (3.5, 3.5), (4.5, 4.5), (5.5, 5.5)]


async def test_nanosecond_period_after_a_stall_of_an_hour_skips_at_once() -> None:
    """Being 3.6·10¹² periods behind costs no more than being one behind."""
    clock = SimClock()
    ticks = clock.every(1e-9)
    await clock.advance(HOUR)
    seen = []

    async def consume() -> None:
        async for tick in ticks:
            seen.append(round(tick * 1e9))
            if len(seen) == 3:
                break

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await clock.advance(1e-6)
    hour = 3_600_000_000_000
    assert seen == [hour, hour + 1, hour + 2]


async def test_loop_over_ticks_left_early_leaves_nothing_behind(
    recwarn: pytest.WarningsRecorder,
) -> None:
    """Leaving the loop leaves no sleeper, no generator and no warning."""
    clock = SimClock()

    async def consume() -> None:
        async for _tick in clock.every(1):
            break
        async for _tick in clock.every(1, first="now"):
            break
        clock.every(1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await clock.advance(5)
    gc.collect()
    await rounds()
    assert clock.pending == []
    assert not recwarn.list


async def test_loop_over_ticks_can_be_taken_up_again() -> None:
    """The iterator goes on where a loop was left, and with the tick that a timeout cut off."""
    clock = SimClock()
    seen = []

    async def consume() -> None:
        ticks = clock.every(1)
        async for tick in ticks:
            seen.append(tick)
            break
        with clock.move_on_after(0.5):
            await anext(ticks)
        async for tick in ticks:
            seen.append(tick)
            if tick == 3:
                break

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await clock.advance(5)
    assert seen == [1.0, 2.0, 3.0]


@given(
    period=st.sampled_from([0.1, 0.25, 1 / 3, 1, 1e-3]),
    work=st.lists(st.floats(0, 5), max_size=10),
    missed=st.sampled_from(["skip", "burst", "delay"]),
    first=st.sampled_from(["now", "after"]),
)
async def test_no_tick_comes_twice_or_early(
    period: float, work: list[float], missed: str, first: str
) -> None:
    """However long the consumer takes, ticks rise strictly and never come before they are due."""
    clock = SimClock()
    left = list(work)

    async def body(_: float) -> None:
        if left:
            await clock.sleep(left.pop())
        else:
            await clock.sleep(math.inf)

    seen = await ticks_while(clock, 100, body, period=period, missed=missed, first=first)
    assert len(seen) == len(work) + 1
    assert all(tick <= came for tick, came in seen)
    assert all(one < two for (one, _), (two, _) in pairwise(seen))


# Real time, on a loop whose time is virtual


@pytest.fixture
def virtually(anyio_backend_name: str) -> Callable[..., None]:
    def run(main: Callable[[Any], Coroutine[Any, Any, None]], **options: Any) -> None:
        run_virtually(anyio_backend_name, main, **options)

    return run


def test_wall_clock_shows_the_time_of_the_loop(virtually: Callable[..., None]) -> None:
    """The real clock is virtual where the loop is: an hour passes at once."""

    async def main(lose: Any) -> None:
        clock = WallClock()
        start = clock.now()
        assert start == anyio.current_time()
        await clock.sleep(HOUR)
        assert clock.now() == pytest.approx(start + HOUR, abs=1e-3)
        await clock.wait_until(start + 3 * HOUR)
        assert clock.now() == pytest.approx(start + 3 * HOUR, abs=1e-3)

    virtually(main)


def test_wall_clock_sleeps_from_the_call_on(virtually: Callable[..., None]) -> None:
    """The deadline of `sleep` counts from the call, not from the await."""

    async def main(lose: Any) -> None:
        clock = WallClock()
        start = clock.now()
        sleep = clock.sleep(10)
        lose(4)
        await sleep
        assert clock.now() == pytest.approx(start + 10, abs=1e-3)

    virtually(main)


@pytest.mark.parametrize("seconds", [0, -1, -math.inf])
def test_wall_clock_that_need_not_wait_takes_one_checkpoint(
    virtually: Callable[..., None], seconds: float
) -> None:
    """Sleeping for nothing lets others run once, and takes no time."""

    async def main(lose: Any) -> None:
        clock = WallClock()
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await checkpoint()

        for wait in (clock.sleep, lambda seconds: clock.wait_until(clock.now() + seconds)):
            start = clock.now()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(other)
                await rounds(2)
                turns = 0
                for _ in range(10):
                    await wait(seconds)
                assert 9 <= turns <= 11
                tasks.cancel_scope.cancel()
            assert clock.now() == start
            with anyio.CancelScope() as scope:
                scope.cancel()
                await wait(seconds)
            assert scope.cancelled_caught

    virtually(main)


def test_wall_clock_sleeps_for_ever(virtually: Callable[..., None]) -> None:
    """An infinite sleep lasts until it is cancelled."""

    async def main(lose: Any) -> None:
        clock = WallClock()
        for forever in (clock.sleep, clock.wait_until):
            with anyio.move_on_after(1000 * HOUR) as scope:
                await forever(math.inf)
            assert scope.cancelled_caught

    virtually(main)


def test_wall_clock_ticks_as_the_simulated_one_does(virtually: Callable[..., None]) -> None:
    """The policies do in real time what they do in simulated time."""

    async def main(lose: Any) -> None:
        clock = WallClock()
        for missed, expected in {
            "skip": [1, 4, 5],
            "burst": [1, 2, 3, 4],
            "delay": [1, 3.5, 4.5],
        }.items():
            start = clock.now()
            seen = []
            async for tick in clock.every(1, missed=missed):  # type: ignore[arg-type]
                seen.append(tick - start)
                assert clock.now() >= tick - 1e-9
                if len(seen) == 1:
                    lose(start + 3.5 - clock.now())
                if len(seen) == len(expected):
                    break
            assert seen == pytest.approx(expected, abs=1e-3)

    virtually(main)


def test_wall_clock_skips_an_hour_of_nanoseconds_at_once(virtually: Callable[..., None]) -> None:
    """A nanosecond period after a stall of an hour does not loop."""

    async def main(lose: Any) -> None:
        clock = WallClock()
        start = clock.now()
        ticks = clock.every(1e-9)
        lose(HOUR)
        assert await anext(ticks) == pytest.approx(start + HOUR, abs=1e-3)

    virtually(main)


def test_wall_clock_yields_no_tick_twice_where_timers_fire_early() -> None:
    """On a loop whose timers fire a little early, every tick comes once and not before its time."""

    async def main(lose: Any) -> None:
        clock = WallClock()
        start = clock.now()
        seen = []
        async for tick in clock.every(0.01, first="now"):
            assert clock.now() >= tick - 1e-9
            seen.append(tick - start)
            if len(seen) == 50:
                break
        assert seen == pytest.approx([n / 100 for n in range(50)], abs=1e-9)

    run_virtually("asyncio", main, early=0.0007)


def test_wall_clock_timeouts(virtually: Callable[..., None]) -> None:
    """The four timeouts cancel at their deadline, and `fail_*` raises `TimeoutError`."""

    async def main(lose: Any) -> None:
        clock = WallClock()
        start = clock.now()
        with clock.move_on_after(1) as scope:
            await clock.sleep(10)
        assert scope.cancelled_caught
        assert clock.now() == pytest.approx(start + 1, abs=1e-3)
        with clock.move_on_at(start + 3) as scope:
            await clock.sleep(10)
        assert scope.cancelled_caught
        assert clock.now() == pytest.approx(start + 3, abs=1e-3)
        with pytest.raises(TimeoutError), clock.fail_after(1):
            await clock.sleep(10)
        assert clock.now() == pytest.approx(start + 4, abs=1e-3)
        with pytest.raises(TimeoutError), clock.fail_at(start + 6):
            await clock.sleep(10)
        assert clock.now() == pytest.approx(start + 6, abs=1e-3)

    virtually(main)


@pytest.mark.parametrize("way", ["move_on_at", "fail_at"])
def test_wall_clock_deadline_stands_though_entered_late(
    virtually: Callable[..., None], way: str
) -> None:
    """A timeout at a time is over at that time, however late its block is entered."""

    async def main(lose: Any) -> None:
        clock = WallClock()
        start = clock.now()
        timeout = getattr(clock, way)(start + 5)
        lose(3)
        try:
            with timeout:
                await clock.sleep(60)
        except TimeoutError:
            assert way == "fail_at"
        assert clock.now() == pytest.approx(start + 5, abs=1e-3)

    virtually(main)


def test_wall_clock_timeouts_that_were_not_needed(virtually: Callable[..., None]) -> None:
    """A block that ends in time is not touched, and an infinite timeout never fires."""

    async def main(lose: Any) -> None:
        clock = WallClock()
        for seconds in (5, math.inf):
            with clock.move_on_after(seconds) as scope:
                await clock.sleep(1)
            assert not scope.cancelled_caught
            with clock.fail_after(seconds) as scope:
                await clock.sleep(1)
            with clock.fail_at(clock.now() + seconds) as scope:
                await clock.sleep(1)
            assert not scope.cancelled_caught

    virtually(main)


# Timeouts in simulated time


async def drive(clock: SimClock, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run something while the clock is driven as far as it needs."""
    over = False

    async def run() -> None:
        nonlocal over
        await body()
        over = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await clock.run_until(lambda: over, limit=1e6)


@pytest.mark.parametrize("way", ["move_on_after", "move_on_at"])
async def test_move_on_cancels_at_its_deadline(way: str) -> None:
    """The block is cancelled at its instant, and the scope tells so."""
    clock = SimClock(10)

    async def body() -> None:
        with getattr(clock, way)(2 if way == "move_on_after" else 12) as scope:
            await clock.sleep(60)
        assert scope.cancelled_caught
        assert clock.now() == 12
        with getattr(clock, way)(2 if way == "move_on_after" else 14) as scope:
            await clock.sleep(1)
        assert not scope.cancelled_caught
        assert clock.now() == 13

    await drive(clock, body)
    assert clock.pending == []


@pytest.mark.parametrize("way", ["fail_after", "fail_at"])
async def test_fail_raises_at_its_deadline(way: str) -> None:
    """The block is cancelled at its instant with `TimeoutError`, which names it."""
    clock = SimClock(10)

    async def body() -> None:
        with pytest.raises(TimeoutError, match=r"12\.0"):
            with getattr(clock, way)(2 if way == "fail_after" else 12):
                await clock.sleep(60)
        assert clock.now() == 12
        with getattr(clock, way)(2 if way == "fail_after" else 14):
            await clock.sleep(1)
        assert clock.now() == 13

    await drive(clock, body)
    assert clock.pending == []


@pytest.mark.parametrize("seconds", [0, -1, -math.inf])
async def test_timeout_that_has_passed_cancels_the_first_await(seconds: float) -> None:
    """A timeout of nothing lets run what does not wait, and cancels the first wait."""
    clock = SimClock(10)
    with clock.move_on_after(seconds) as scope:
        pass
    assert not scope.cancelled_caught
    with clock.move_on_after(seconds) as scope:
        await clock.sleep(1)
    assert scope.cancelled_caught
    with clock.move_on_at(10 + seconds) as scope:
        await clock.sleep(1)
    assert scope.cancelled_caught
    with pytest.raises(TimeoutError), clock.fail_after(seconds):
        await clock.sleep(1)
    with pytest.raises(TimeoutError), clock.fail_at(10 + seconds):
        await clock.sleep(1)


async def test_infinite_timeout_never_fires() -> None:
    """Infinity is no timeout, and leaves nothing for the clock to do."""
    clock = SimClock()
    for scope in (
        clock.move_on_after(math.inf),
        clock.move_on_at(math.inf),
        clock.fail_after(math.inf),
        clock.fail_at(math.inf),
    ):
        with scope:
            assert clock.next_deadline is None
            await rounds(3)


async def test_error_leaves_a_timeout_as_it_is() -> None:
    """An error inside comes out, and leaves no timeout behind."""
    clock = SimClock()
    for timeout in (clock.move_on_after(5), clock.fail_after(5)):
        with pytest.raises(ZeroDivisionError), timeout:
            assert clock.next_deadline == 5
            raise ZeroDivisionError
    assert clock.next_deadline is None


async def test_scope_cancelled_by_hand_is_no_timeout() -> None:
    """`fail_after` does not raise where somebody else cancelled its block."""
    clock = SimClock()
    with clock.fail_after(5) as scope:
        scope.cancel()
        await clock.sleep(1)
    assert scope.cancelled_caught


async def test_timeouts_nest() -> None:
    """The outer timeout takes the inner one with it, and each catches its own."""
    clock = SimClock()

    async def body() -> None:
        with clock.move_on_after(1) as outer:
            with clock.move_on_after(2) as inner:
                await clock.sleep(60)
        assert (outer.cancelled_caught, inner.cancelled_caught) == (True, False)
        with clock.move_on_after(2) as outer:
            with clock.move_on_after(1) as inner:
                await clock.sleep(60)
            assert clock.now() == 2
        assert (outer.cancelled_caught, inner.cancelled_caught) == (False, True)

    await drive(clock, body)
    await until(lambda: clock.pending == [])
