"""Real compute that costs simulated time."""

import functools
import math
import random
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest
from chrono_core import Clock, Context, SimClock, Supervisor, WallClock
from chrono_core.testing import Trace, assert_one_trace
from chrono_recipes._charge import charge

from tests.core.scheduling import rounds

BOOM = ValueError("boom")


def double(x: int) -> int:
    """Compute something."""
    return 2 * x


async def async_double(x: int) -> int:
    """Compute something, with pauses."""
    await rounds()
    return 2 * x


def pause(seconds: float) -> int:
    """Take real time."""
    time.sleep(seconds)
    return 0


def raises(x: int) -> int:
    """Fail."""
    raise BOOM


async def async_raises(x: int) -> int:
    """Fail."""
    raise BOOM


class Doubler:
    """An object that can be called, asynchronously."""

    async def __call__(self, x: int) -> int:
        """Compute something."""
        return await async_double(x)


both = pytest.mark.parametrize(
    "fn",
    [double, async_double, functools.partial(async_double), Doubler()],
    ids=["sync", "async", "partial", "object"],
)


async def timed(clock: SimClock, computing: Awaitable[int]) -> tuple[int, float]:
    """What it returns, and how much simulated time it took."""
    began = clock.now()
    result = await clock.run_until(computing, limit=1000)
    return result, clock.now() - began


@both
async def test_compute_costs_so_many_seconds(fn: Callable[[int], Any]) -> None:
    """However long it takes for real; the result is what the function returns."""
    clock = SimClock()
    assert await timed(clock, charge(clock, fn, 21, cost=1.5)) == (42, 1.5)


@both
async def test_a_sampler_says_what_it_costs(fn: Callable[[int], Any]) -> None:
    """It is asked once for each call."""
    clock = SimClock()
    costs = iter([0.25, 4])
    assert await timed(clock, charge(clock, fn, 1, cost=lambda: next(costs))) == (2, 0.25)
    assert await timed(clock, charge(clock, fn, 2, cost=lambda: next(costs))) == (4, 4)


async def test_measured_compute_costs_what_it_has_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the real clock, read before and after."""
    clock = SimClock()
    readings = iter([100.0, 102.5, 200.0, 200.125])
    main = threading.get_ident()
    threads: list[bool] = []

    def perf_counter() -> float:
        threads.append(threading.get_ident() == main)
        return next(readings)

    monkeypatch.setattr(time, "perf_counter", perf_counter)
    assert await timed(clock, charge(clock, double, 1)) == (2, 2.5)
    assert await timed(clock, charge(clock, async_double, 1)) == (2, 0.125)
    # In the worker thread: waiting for one is not the function's fault.
    assert threads == [False, False, True, True]


async def test_measured_compute_really_costs_something() -> None:
    """As much as a real pause, at least."""
    clock = SimClock()
    _, seconds = await timed(clock, charge(clock, pause, 0.01))
    assert 0.0099 <= seconds < 100


@pytest.mark.parametrize("cost", [0.5, "measured"])
async def test_time_stands_still_while_it_computes(cost: Any) -> None:
    """Nothing that sleeps on the clock wakes before the compute is over."""
    clock = SimClock()
    computing, release = threading.Event(), threading.Event()
    woken: list[float] = []
    seen: list[tuple[float, list[float]]] = []

    def compute() -> None:
        computing.set()
        assert release.wait(30)
        seen.append((clock.now(), list(woken)))

    async def sleep() -> None:
        await clock.sleep(1e-9)
        woken.append(clock.now())

    async def let_go() -> None:
        while not computing.is_set():
            await anyio.lowlevel.checkpoint()
        await rounds(100)
        release.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleep)
        tasks.start_soon(let_go)
        await clock.run_until(charge(clock, compute, cost=cost), limit=1000)
    assert seen == [(0.0, [])]
    assert woken == [1e-9]


async def test_time_stands_still_while_async_compute_waits_for_what_is_real() -> None:
    """For a thread that is not anyio's, say, of which the event loop knows nothing."""
    clock = SimClock()
    done = anyio.Event()
    token = anyio.lowlevel.current_token()

    def outside() -> None:
        time.sleep(0.01)
        anyio.from_thread.run_sync(done.set, token=token)

    async def compute() -> float:
        threading.Thread(target=outside).start()
        await done.wait()
        return clock.now()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(clock.sleep, 0.001)
        assert await clock.run_until(charge(clock, compute, cost=1), limit=10) == 0.0


@pytest.mark.parametrize("fn", [raises, async_raises], ids=["sync", "async"])
@pytest.mark.parametrize("cost", [3, "measured", lambda: 3], ids=["fixed", "measured", "sampled"])
async def test_an_error_is_raised_at_once(fn: Callable[[int], Any], cost: Any) -> None:
    """It costs nothing, and leaves no sleeper and no hold behind."""
    clock = SimClock()
    with pytest.raises(ValueError) as caught:
        await charge(clock, fn, 1, cost=cost)
    assert caught.value is BOOM
    assert clock.pending == []
    await clock.advance(1)
    assert clock.now() == 1


async def test_cancelled_while_it_computes_the_clock_is_let_go() -> None:
    """The result is lost, and time may move again."""
    clock = SimClock()
    started = anyio.Event()

    async def compute() -> None:
        started.set()
        await anyio.Event().wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(functools.partial(charge, clock, compute, cost=1))
        await started.wait()
        tasks.cancel_scope.cancel()
    await clock.advance(1)
    assert clock.now() == 1


async def test_cancelled_while_it_pays_it_leaves_no_sleeper() -> None:
    """As any sleep on the clock."""
    clock = SimClock()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(functools.partial(charge, clock, double, 1, cost=10))
        await clock.advance(5)
        assert [sleeper.deadline for sleeper in clock.pending] == [10]
        tasks.cancel_scope.cancel()
    assert clock.pending == []


@pytest.mark.parametrize("fn", [double, async_double], ids=["sync", "async"])
@pytest.mark.parametrize(
    "cost", [3600.0, "measured", lambda: 1 / 0], ids=lambda cost: str(cost)[:5]
)
async def test_on_a_real_clock_nothing_is_added(fn: Callable[[int], Any], cost: Any) -> None:
    """The program costs what it costs, and no sampler is asked."""

    class Impatient(WallClock):
        async def _wait_until(self, deadline: float) -> None:
            raise AssertionError("it sleeps")

    assert await charge(Impatient(), fn, 21, cost=cost) == 42


@pytest.mark.parametrize("cost", [-1, -0.5, math.nan, math.inf, "measure"])
def test_a_bad_cost_is_refused_at_the_call(cost: Any) -> None:
    """Before anything is computed."""
    with pytest.raises(ValueError, match="cost"):
        charge(SimClock(), double, 1, cost=cost)  # type: ignore[unused-coroutine]


@pytest.mark.parametrize("sample", [-1, math.nan, math.inf])
async def test_a_bad_sample_is_refused_before_it_computes(sample: float) -> None:
    """The message says where it came from, and nothing is left behind."""
    clock = SimClock()
    computed: list[int] = []
    with pytest.raises(ValueError, match="the function for the cost returns"):
        await charge(clock, computed.append, 1, cost=lambda: sample)
    assert computed == []
    await clock.advance(1)


def test_what_cannot_be_charged_is_refused() -> None:
    """A function and a clock are needed, and a cost that is a number."""
    refused: Callable[..., Any] = charge
    with pytest.raises(TypeError, match="fn must be a function, got 7"):
        refused(SimClock(), 7)
    with pytest.raises(TypeError, match="a Context or a Clock, got 7"):
        refused(7, double)
    with pytest.raises(TypeError, match="cost must be a number of seconds, got None"):
        refused(SimClock(), double, 1, cost=None)


def test_daemons_that_compute_at_once_have_one_trace() -> None:
    """However the threads come to an end, the order is that of the calls; costs may be drawn."""
    pauses = random.Random()  # not seeded: the real time that a run takes is of no account

    async def program(trace: Trace) -> None:
        clock = SimClock()
        dice = random.Random(7)

        def compute() -> None:
            time.sleep(pauses.random() / 500)

        async def work(ctx: Context) -> None:
            for _ in range(3):
                await charge(ctx, compute, cost=0.5)
                trace.record(ctx, "computed")
            for _ in range(2):
                await charge(ctx, compute, cost=lambda: dice.choice([0.1, 0.2]))
                trace.record(ctx, "drew")
            await charge(ctx, async_double, 1, cost=1)
            trace.record(ctx, "async")

        async with Supervisor(clock=clock) as sup:
            for name in "abcd":
                sup.spawn(work, name=name)
            await clock.advance(10)

    assert len(assert_one_trace(program).lines) == 24


def test_a_custom_clock_is_taken_for_real() -> None:
    """Only a `SimClock` can be charged."""

    class Custom(WallClock):
        pass

    clock: Clock = Custom()

    async def main() -> int:
        return await charge(clock, double, 3, cost=3600)

    assert anyio.run(main) == 6
