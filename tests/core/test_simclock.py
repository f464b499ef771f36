import asyncio
import gc
import math
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from chrono_core import Context, SimClock, Sleeper, Supervisor, daemon, open_channel
from hypothesis import given
from hypothesis import strategies as st

from .scheduling import rounds, until

ONLY_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"])


class Log:
    """Who did something, and when on the clock."""

    def __init__(self, clock: SimClock) -> None:
        self.clock = clock
        self.events: list[tuple[float, object]] = []

    def note(self, what: object) -> None:
        self.events.append((self.clock.now(), what))

    async def after(self, seconds: float, what: object) -> None:
        await self.clock.sleep(seconds)
        self.note(what)

    async def at(self, deadline: float, what: object) -> None:
        await self.clock.wait_until(deadline)
        self.note(what)


# Reading


def test_time_begins_where_it_is_told_to() -> None:
    """A clock starts at 0 or at `t0`, before there is an event loop."""
    assert SimClock().now() == 0.0
    assert SimClock(12.5).now() == 12.5
    assert SimClock(-3).now() == -3.0
    assert SimClock(1.7e9 + 0.125).now_ns() == 1_700_000_000_125_000_000
    assert "12.5" in repr(SimClock(12.5))


async def test_three_sleeps_of_a_tenth_end_at_three_tenths() -> None:
    """Seconds are rounded once, at the edge: tenths add up."""
    clock = SimClock()

    async def sleep() -> None:
        for _ in range(3):
            await clock.sleep(0.1)
        assert clock.now() == 0.3
        assert clock.now_ns() == 300_000_000

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleep)
        await clock.advance(0.3)


async def test_steps_of_a_tenth_end_at_a_whole() -> None:
    """Advancing by tenths does not drift either, at the size of Unix time."""
    clock = SimClock(1.7e9)
    for _ in range(1000):
        await clock.advance(0.1)
    assert clock.now() == 1.7e9 + 100


async def test_pending_says_what_sleeps_until_when_and_for_whom() -> None:
    """What sleeps is listed in the order in which it will wake, with its task's name."""
    clock = SimClock()

    async def timeout() -> None:
        with clock.move_on_after(2):
            await anyio.Event().wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(clock.sleep, 3, name="third")
        tasks.start_soon(clock.sleep, 1, name="first")
        tasks.start_soon(timeout, name="second")
        tasks.start_soon(clock.sleep, math.inf, name="never")
        assert clock.next_deadline is None
        await clock.advance(0)
        assert clock.pending == [
            Sleeper(1.0, "first"),
            Sleeper(2.0, "second"),
            Sleeper(3.0, "third"),
        ]
        assert clock.next_deadline == 1.0
        await clock.advance(2.5)
        assert clock.pending == [Sleeper(3.0, "third")]
        assert clock.next_deadline == 3.0
        tasks.cancel_scope.cancel()
    assert clock.pending == []
    assert clock.next_deadline is None


# Sleeping


async def test_time_passes_for_sleepers_in_order() -> None:
    """Each sleeper wakes at its deadline, and sees that time."""
    clock = SimClock()
    log = Log(clock)
    async with anyio.create_task_group() as tasks:
        for seconds in (3, 1, 2):
            tasks.start_soon(log.after, seconds, seconds)
        await clock.advance(2)
        assert log.events == [(1.0, 1), (2.0, 2)]
        assert clock.now() == 2.0
        await clock.advance(5)
        assert log.events[2:] == [(3.0, 3)]
        assert clock.now() == 7.0


async def test_equal_deadlines_wake_in_the_order_of_the_calls() -> None:
    """Sleepers with one deadline wake in the order in which they called, whichever the call."""
    clock = SimClock()
    log = Log(clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.after, 1, "a")
        tasks.start_soon(log.at, 1, "b")
        await clock.advance(0.5)
        tasks.start_soon(log.after, 0.5, "c")
        tasks.start_soon(log.at, 1, "d")
        await clock.advance(0.5)
    assert log.events == [(1.0, who) for who in "abcd"]


async def test_sleeper_is_registered_by_the_call() -> None:
    """A `sleep(1)` that was called before a `wait_until(1)` wakes first, though awaited later."""
    clock = SimClock()
    log = Log(clock)
    sleeps = [clock.sleep(1), clock.wait_until(1), clock.sleep(1)]

    async def await_it(n: int) -> None:
        await sleeps[n]
        log.note(n)

    async with anyio.create_task_group() as tasks:
        for n in (2, 1, 0):
            tasks.start_soon(await_it, n)
            await rounds(3)
        await clock.advance(1)
    assert log.events == [(1.0, 0), (1.0, 1), (1.0, 2)]


async def test_deadline_of_a_sleep_counts_from_the_call() -> None:
    """A sleep that is awaited late still ends when it would have."""
    clock = SimClock()
    log = Log(clock)
    sleep = clock.sleep(5)
    await clock.advance(3)

    async def late() -> None:
        await sleep
        log.note("awake")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(late)
        await clock.advance(10)
    assert log.events == [(5.0, "awake")]


@pytest.mark.parametrize("seconds", [0, -1, -0.0, -math.inf])
async def test_sleep_of_nothing_is_one_checkpoint(seconds: float) -> None:
    """A sleep that is over takes one round and no time, and can be cancelled."""
    clock = SimClock(10)
    for wait in (clock.sleep, lambda seconds: clock.wait_until(10 + seconds)):
        ran: list[bool] = []

        async def other(ran: list[bool] = ran) -> None:
            ran.append(True)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other)
            for _ in range(2):
                await wait(seconds)
            assert ran
        with anyio.CancelScope() as scope:
            scope.cancel()
            await wait(seconds)
        assert scope.cancelled_caught
    assert clock.now() == 10


async def test_infinite_sleep_lasts_until_it_is_cancelled() -> None:
    """Infinity is no deadline: time does not go there, and the sleeper can be cancelled."""
    clock = SimClock()
    woke = False

    async def forever(wait: Callable[[float], Awaitable[None]]) -> None:
        nonlocal woke
        await wait(math.inf)
        woke = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(forever, clock.sleep)
        tasks.start_soon(forever, clock.wait_until)
        await clock.advance(1e9)
        assert clock.next_deadline is None
        assert await clock.step() is None
        assert not woke
        tasks.cancel_scope.cancel()
    assert not woke


async def test_cancelled_sleeper_does_not_wake() -> None:
    """A sleeper that was cancelled is gone, and the others keep their order."""
    clock = SimClock()
    log = Log(clock)
    scope = anyio.CancelScope()

    async def cancelled() -> None:
        with scope:
            await log.after(2, "cancelled")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.after, 2, "a")
        tasks.start_soon(cancelled)
        tasks.start_soon(log.after, 2, "b")
        await clock.advance(1)
        scope.cancel()
        assert len(clock.pending) == 3 or not scope.cancelled_caught
        await clock.advance(5)
    assert log.events == [(2.0, "a"), (2.0, "b")]


async def test_cancelled_sleepers_leave_nothing_behind() -> None:
    """Memory does not grow by a hundred thousand sleeps and timeouts that were cut short."""
    clock = SimClock()

    async def batch(n: int) -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(n):
                tasks.start_soon(clock.sleep, 1e6)
            await until(lambda: len(clock.pending) == n + 1)
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(clock.sleep, 1e9)
        await clock.advance(0)
        await batch(200)
        gc.collect()
        before = len(gc.get_objects())
        for _ in range(5):
            await batch(200)
        for _ in range(100_000):
            with clock.move_on_after(1e6):
                pass
        gc.collect()
        assert len(gc.get_objects()) - before < 2000
        assert clock.pending == [Sleeper(1e9, clock.pending[0].task)]
        tasks.cancel_scope.cancel()


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(["sleep", "wait_until", "move_on"])),
        max_size=12,
    )
)
async def test_wake_ups_are_sorted_by_deadline_and_then_by_call(
    sleepers: list[tuple[int, str]],
) -> None:
    """Any sleepers wake in the stable order of their deadlines, timeouts included."""
    clock = SimClock()
    log = Log(clock)

    async def sleep(n: int, seconds: int, way: str) -> None:
        if way == "move_on":
            with clock.move_on_after(seconds):
                await anyio.Event().wait()
        else:
            await getattr(clock, way)(seconds)
        log.note(n)

    async with anyio.create_task_group() as tasks:
        for n, (seconds, way) in enumerate(sleepers):
            tasks.start_soon(sleep, n, seconds + 1, way)
            await rounds(2)
        await clock.advance(10)
    expected = sorted(range(len(sleepers)), key=lambda n: sleepers[n][0])
    assert log.events == [(sleepers[n][0] + 1.0, n) for n in expected]


# Driving


async def test_advance_lets_what_was_just_added_run_first() -> None:
    """A task that has not had its first turn sleeps from the instant before time moves."""
    clock = SimClock()
    log = Log(clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.after, 1, "awake")
        await clock.advance(1)
        assert log.events == [(1.0, "awake")]


async def test_advance_by_nothing_lets_everything_run_that_can() -> None:
    """`advance(0)` moves no time, and returns when every task is blocked."""
    clock = SimClock()
    channel = open_channel[int](0)
    received = []

    async def produce() -> None:
        for n in range(50):
            await channel.send.send(n)
        await channel.send.aclose()

    async def consume() -> None:
        async for n in channel.recv:
            received.append(n)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        tasks.start_soon(consume)
        await clock.advance(0)
        assert received == list(range(50))
    assert clock.now() == 0


async def test_advance_returns_when_everything_due_has_happened() -> None:
    """What a wake-up at the last instant sets off at that instant has happened on return."""
    clock = SimClock()
    log = Log(clock)

    async def body() -> None:
        await clock.sleep(1)
        for n in range(5):
            await rounds(3)
            log.note(n)
        await clock.sleep(0)
        await clock.wait_until(1)
        log.note("last")
        await clock.sleep(1e-9)
        log.note("too late")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(body)
        await clock.advance(1)
        assert log.events[-1] == (1.0, "last")
        tasks.cancel_scope.cancel()


async def test_advance_to_goes_to_a_time() -> None:
    """`advance_to` stops at its time, on everything due by then."""
    clock = SimClock(10)
    log = Log(clock)
    async with anyio.create_task_group() as tasks:
        for seconds in (1, 2, 3):
            tasks.start_soon(log.after, seconds, seconds)
        await clock.advance_to(12)
        assert clock.now() == 12
        assert log.events == [(11.0, 1), (12.0, 2)]
        tasks.cancel_scope.cancel()


async def test_advance_to_the_past_only_settles() -> None:
    """`advance_to` a time that has passed lets run what can, and moves nothing."""
    clock = SimClock(10)
    log = Log(clock)

    async def body() -> None:
        await rounds()
        log.note("ran")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(body)
        await clock.advance_to(3)
        assert log.events == [(10.0, "ran")]
    assert clock.now() == 10


async def test_step_goes_to_the_next_deadline() -> None:
    """`step` wakes everything due at the next deadline, and returns it; None if nothing sleeps."""
    clock = SimClock()
    log = Log(clock)
    async with anyio.create_task_group() as tasks:
        for seconds in (2, 1, 1):
            tasks.start_soon(log.after, seconds, seconds)
        assert await clock.step() == 1.0
        assert log.events == [(1.0, 1), (1.0, 1)]
        assert await clock.step() == 2.0
        assert log.events[2:] == [(2.0, 2)]
        assert await clock.step() is None
    assert clock.now() == 2.0


async def test_step_finds_a_deadline_set_by_what_could_still_run() -> None:
    """`step` lets run what can before it looks for the next deadline."""
    clock = SimClock()

    async def body() -> None:
        await rounds()
        await clock.sleep(1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(clock.sleep, 5)
        tasks.start_soon(body)
        assert await clock.step() == 1.0
        assert await clock.step() == 5.0


async def test_run_until_a_function_says_so() -> None:
    """`run_until` stops at the instant at which its function is true, and returns None."""
    clock = SimClock()
    log = Log(clock)
    async with anyio.create_task_group() as tasks:
        for seconds in (1, 2, 3):
            tasks.start_soon(log.after, seconds, seconds)
        result = await clock.run_until(lambda: len(log.events) == 2, limit=10)
        assert result is None
        assert clock.now() == 2.0
        tasks.cancel_scope.cancel()
    await clock.run_until(lambda: True, limit=0)
    assert clock.now() == 2.0


@pytest.mark.parametrize("kind", ["anyio", "asyncio", "stop event"])
async def test_run_until_an_event_is_set(kind: str) -> None:
    """`run_until` takes anything that tells whether it is set."""
    clock = SimClock()
    event: Any = anyio.Event()
    if kind == "asyncio":
        event = asyncio.Event()
    if kind == "stop event":
        event = Supervisor(clock=clock).stop_event

    async def body() -> None:
        await clock.sleep(3)
        event.set()
        await clock.sleep(60)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(body)
        await clock.run_until(event, limit=10)
        assert event.is_set()
        assert clock.now() == 3.0
        tasks.cancel_scope.cancel()


async def test_run_until_an_awaitable_gives_its_result() -> None:
    """`run_until` awaits an awaitable, stops when it is done, and returns what it gave."""
    clock = SimClock()

    async def body() -> str:
        await clock.sleep(3)
        return "result"

    assert await clock.run_until(body(), limit=10) == "result"
    assert clock.now() == 3.0

    async def at_once() -> int:
        return 7

    assert await clock.run_until(at_once(), limit=0) == 7


async def test_run_until_an_awaitable_gives_its_error() -> None:
    """What the awaitable raises comes out as it is, in no group."""
    clock = SimClock()

    async def body() -> None:
        await clock.sleep(3)
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        await clock.run_until(body(), limit=10)
    assert clock.now() == 3.0


@ONLY_ASYNCIO
async def test_run_until_a_future_that_is_cancelled() -> None:
    """The cancellation of a future that is awaited comes out as what it is."""
    clock = SimClock()
    future = asyncio.get_running_loop().create_future()
    async with anyio.create_task_group() as tasks:

        async def cancel() -> None:
            await clock.sleep(2)
            future.cancel()

        tasks.start_soon(cancel)
        with pytest.raises(asyncio.CancelledError):
            await clock.run_until(future, limit=10)
    assert clock.now() == 2


async def test_run_until_an_item_arrives() -> None:
    """The receive of a channel is something to run until."""
    clock = SimClock()
    channel = open_channel[int](0)

    async def produce() -> None:
        await clock.sleep(3)
        await channel.send.send(7)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        assert await clock.run_until(channel.recv.receive(), limit=10) == 7


@pytest.mark.parametrize("kind", ["function", "awaitable"])
async def test_run_until_gives_up_at_its_limit(kind: str) -> None:
    """After `limit` simulated seconds, `run_until` raises and the clock stands there."""
    clock = SimClock(100)
    cancelled = False

    async def body() -> None:
        nonlocal cancelled
        try:
            await clock.sleep(60)
        finally:
            cancelled = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(clock.sleep, 60)
        with pytest.raises(TimeoutError, match=r"2\.5"):
            await clock.run_until(body() if kind == "awaitable" else lambda: False, limit=2.5)
        assert clock.now() == 102.5
        assert cancelled == (kind == "awaitable")
        tasks.cancel_scope.cancel()


async def test_run_until_reaches_what_is_due_at_its_limit() -> None:
    """What happens exactly at the limit is in time."""
    clock = SimClock()
    await clock.run_until(clock.sleep(2), limit=2)
    assert clock.now() == 2


async def test_run_until_without_a_limit() -> None:
    """An infinite limit is none."""
    clock = SimClock()
    await clock.run_until(clock.sleep(1e8), limit=math.inf)
    assert clock.now() == 1e8


async def test_cancelled_advance_goes_on_where_it_was() -> None:
    """A cancelled `advance` leaves the clock at the last instant reached, and nothing is lost."""
    clock = SimClock()
    log = Log(clock)
    scope = anyio.CancelScope()

    async def body() -> None:
        for n in range(6):
            await clock.sleep(1)
            log.note(n)
            if n == 2:
                scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(body)
        with scope:
            await clock.advance(10)
        assert scope.cancelled_caught
        assert clock.now() == 3.0
        assert log.events == [(1.0, 0), (2.0, 1), (3.0, 2)]
        await clock.advance(1.5)
        assert clock.now() == 4.5
        await clock.advance(1.5)
    assert log.events == [(n + 1.0, n) for n in range(6)]


async def test_cancelled_run_until_can_be_called_again() -> None:
    """A cancelled `run_until` is over: the clock is free, and its awaitable was cancelled."""
    clock = SimClock()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:

            async def cancel() -> None:
                await clock.sleep(2)
                scope.cancel()

            tasks.start_soon(cancel)
            await clock.run_until(clock.sleep(60), limit=100)
    assert clock.now() == 2.0
    assert clock.pending == []
    await clock.run_until(clock.sleep(1), limit=100)
    assert clock.now() == 3.0


# Holding


async def test_time_does_not_move_inside_a_hold() -> None:
    """While somebody holds the clock, everything runs, and time stands."""
    clock = SimClock()
    log = Log(clock)
    release = anyio.Event()

    async def holder() -> None:
        with clock.hold():
            await release.wait()
            log.note("released")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(holder)
        await rounds(3)
        tasks.start_soon(clock.advance, 5)
        await rounds(50)
        assert clock.now() == 0
        release.set()
    assert log.events == [(0.0, "released")]
    assert clock.now() == 5


async def test_holds_add_up() -> None:
    """Time moves when the last hold is over, one that failed included."""
    clock = SimClock()
    one, two = clock.hold(), clock.hold()
    async with anyio.create_task_group() as tasks:
        with one:
            with pytest.raises(ZeroDivisionError), two:
                tasks.start_soon(clock.advance, 5)
                await rounds()
                raise ZeroDivisionError
            await rounds()
            assert clock.now() == 0
    assert clock.now() == 5


async def test_hold_from_another_thread() -> None:
    """A thread that holds the clock keeps time from moving, and lets go from where it is."""
    clock = SimClock()
    held, let_go = threading.Event(), threading.Event()

    def work() -> None:
        with clock.hold():
            held.set()
            let_go.wait()

    thread = threading.Thread(target=work)
    thread.start()
    held.wait()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(clock.advance, 5)
        await rounds(50)
        assert clock.now() == 0
        let_go.set()
    assert clock.now() == 5
    thread.join()


async def test_run_until_waits_for_a_hold_and_does_not_stall() -> None:
    """What a holder brings about in the end is no stall."""
    clock = SimClock()
    done = False
    token: Any = anyio.Event()

    def finish() -> None:
        nonlocal done
        done = True

    def work() -> None:
        with hold:
            go_on.wait()
            portal_call(finish)

    go_on = threading.Event()
    hold = clock.hold()
    async with anyio.create_task_group() as tasks:
        async with anyio.from_thread.BlockingPortal() as portal:

            def portal_call(function: Callable[[], None]) -> None:
                portal.call(function)

            thread = threading.Thread(target=work)

            async def start() -> None:
                thread.start()
                await rounds(50)
                go_on.set()

            tasks.start_soon(start)
            with clock.hold():
                await until(thread.is_alive)
            await clock.run_until(lambda: done, limit=math.inf)
            token.set()
    thread.join()
    assert clock.now() == 0


async def test_worker_thread_holds_time() -> None:
    """While a worker thread runs, time stands, and what it gives comes at its own instant."""
    clock = SimClock()
    log = Log(clock)
    go_on = threading.Event()
    running = threading.Event()

    def work() -> str:
        running.set()
        go_on.wait()
        return "result"

    async def body() -> None:
        log.note(await anyio.to_thread.run_sync(work))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.after, 1, "sleeper")
        tasks.start_soon(body)
        await until(running.is_set)
        tasks.start_soon(clock.advance, 2)
        await rounds(50)
        assert clock.now() == 0
        go_on.set()
    assert log.events == [(0.0, "result"), (1.0, "sleeper")]


async def test_worker_thread_started_by_a_sleeper_holds_time() -> None:
    """A worker started at one instant has ended before the next one."""
    clock = SimClock()
    log = Log(clock)

    async def body() -> None:
        for n in range(3):
            await clock.sleep(1)
            await anyio.to_thread.run_sync(lambda: None)
            log.note(n)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.after, 1.5, "between")
        tasks.start_soon(body)
        await clock.advance(3)
    assert log.events == [(1.0, 0), (1.5, "between"), (2.0, 1), (3.0, 2)]


# Several clocks and several runs


async def test_two_clocks_side_by_side() -> None:
    """Two clocks in one event loop are driven at once, each in its own time."""
    one, two = SimClock(), SimClock(1000)
    events = []

    async def tick(name: str, clock: SimClock, period: float) -> None:
        async for tick in clock.every(period):
            assert clock.now() == tick
            events.append((name, tick))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick, "one", one, 1)
        tasks.start_soon(tick, "two", two, 2)
        async with anyio.create_task_group() as drivers:
            drivers.start_soon(one.advance, 3)
            drivers.start_soon(two.advance, 6)
        tasks.cancel_scope.cancel()
    assert [event for event in events if event[0] == "one"] == [("one", n) for n in (1, 2, 3)]
    assert [event for event in events if event[0] == "two"] == [
        ("two", n) for n in (1002, 1004, 1006)
    ]
    assert (one.now(), two.now()) == (3, 1006)


async def test_clock_that_nobody_drives_stands() -> None:
    """Driving one clock does not move another."""
    one, two = SimClock(), SimClock()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.sleep, 1)
        tasks.start_soon(two.sleep, 1)
        await one.advance(5)
        assert two.now() == 0
        assert two.next_deadline == 1
        await two.advance(1)


async def test_simulation_inside_a_simulation_takes_no_time_outside() -> None:
    """A daemon that drives a clock of its own does so within one instant of the outer clock."""
    outer = SimClock()
    log = Log(outer)

    @daemon
    async def simulate(ctx: Context) -> None:
        await ctx.clock.sleep(1)
        inner = SimClock()
        async with Supervisor(clock=inner) as sup:
            sup.spawn(inner_ticker, inner)
            await inner.advance(100)
            log.note(("inner", inner.now()))
            await sup.stop()

    async def inner_ticker(ctx: Context, inner: SimClock) -> None:
        async for _tick in inner.every(10):
            assert outer.now() == 1

    @daemon
    async def other(ctx: Context) -> None:
        await ctx.clock.sleep(1.5)
        log.note("other")

    async with Supervisor(clock=outer) as sup:
        sup.add(simulate())
        sup.add(other())
        await outer.advance(2)
    assert log.events == [(1.0, ("inner", 100.0)), (1.5, "other")]


def test_clock_goes_on_in_a_later_event_loop(anyio_backend_name: str) -> None:
    """A clock keeps its time in a second run, and nothing of the first one's sleepers."""
    clock = SimClock()

    async def first() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(clock.sleep, 10)
            await clock.advance(3)
            tasks.cancel_scope.cancel()

    async def second() -> None:
        assert clock.pending == []
        log = Log(clock)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(log.after, 2, "awake")
            await clock.advance(4)
        assert log.events == [(5.0, "awake")]

    anyio.run(first, backend=anyio_backend_name)
    anyio.run(second, backend=anyio_backend_name)
    assert clock.now() == 7


async def test_clock_in_two_event_loops_at_once_is_refused(anyio_backend_name: str) -> None:
    """A clock that is in use in one event loop cannot be used in another thread's."""
    clock = SimClock()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            anyio.run(clock.advance, 1, backend=anyio_backend_name)
        except BaseException as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(clock.sleep, 1)
        await clock.advance(0)
        await anyio.to_thread.run_sync(work)
        assert clock.next_deadline == 1
        await clock.advance(1)
    assert [type(error) for error in errors] == [RuntimeError]
    assert "another event loop" in str(errors[0])


# Other event loops of asyncio


async def scenario() -> list[tuple[float, object]]:
    """Sleepers, chains through channels, a worker thread and timeouts."""
    clock = SimClock()
    log = Log(clock)
    hops = 30
    channels = [open_channel[int](0) for _ in range(hops)]

    async def hop(n: int) -> None:
        async for item in channels[n - 1].recv:
            await channels[n].send.send(item + 1)
        await channels[n].send.aclose()

    async def begin() -> None:
        async for tick in clock.every(1):
            await channels[0].send.send(round(tick) * 100)
            if tick == 3:
                break
        await channels[0].send.aclose()

    async def end() -> None:
        async for item in channels[-1].recv:
            log.note(item)

    async def work() -> None:
        await clock.sleep(2.5)
        await anyio.to_thread.run_sync(lambda: None)
        loop_calls: list[int] = []
        channel = open_channel[int](4)
        channel.send.send_nowait(1)
        loop_calls.append(await channel.recv.receive())
        log.note(("worked", loop_calls))
        with clock.move_on_after(1):
            await clock.sleep(60)
        log.note("timeout")

    async with anyio.create_task_group() as tasks:
        for n in range(1, hops):
            tasks.start_soon(hop, n)
        tasks.start_soon(begin)
        tasks.start_soon(end)
        tasks.start_soon(work)
        for seconds in (3, 1, 2, 2):
            tasks.start_soon(log.after, seconds, seconds)
        await clock.advance(10)
    return log.events


EXPECTED: list[tuple[float, object]] = [
    (1.0, 129),
    (1.0, 1),
    (2.0, 229),
    (2.0, 2),
    (2.0, 2),
    (2.5, ("worked", [1])),
    (3.0, 329),
    (3.0, 3),
    (3.5, "timeout"),
]


def in_order(events: list[tuple[float, object]]) -> list[tuple[float, object]]:
    return sorted(events, key=repr)


async def test_scenario_ends_every_chain_at_its_own_instant() -> None:
    """A chain of thirty rendezvous ends at the instant at which it began."""
    assert in_order(await scenario()) == in_order(EXPECTED)


def test_uvloop_gives_the_same_answers() -> None:
    """On uvloop, which does not show its queue, idleness is exact as well."""
    uvloop = pytest.importorskip("uvloop")
    events = anyio.run(
        scenario, backend="asyncio", backend_options={"loop_factory": uvloop.new_event_loop}
    )
    assert events == anyio.run(scenario, backend="asyncio")
    assert in_order(events) == in_order(EXPECTED)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has eager tasks since 3.12")
def test_eager_tasks_give_the_same_answers() -> None:
    """With asyncio's eager tasks, idleness is exact as well."""

    async def eagerly() -> list[tuple[float, object]]:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        return await scenario()

    assert in_order(anyio.run(eagerly, backend="asyncio")) == in_order(EXPECTED)


@ONLY_ASYNCIO
@pytest.mark.parametrize("debug", [False, True])
async def test_chain_of_callbacks_is_not_idle(debug: bool) -> None:
    """A chain of `call_soon` of any length ends before time moves."""
    clock = SimClock()
    loop = asyncio.get_running_loop()
    loop.set_debug(debug)
    log = Log(clock)

    def chain(left: int) -> None:
        if left:
            loop.call_soon(chain, left - 1)
        else:
            log.note("end of the chain")

    async def body() -> None:
        await clock.sleep(1)
        loop.call_soon(chain, 1000)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(body)
        tasks.start_soon(log.after, 1.000000001, "sleeper")
        await clock.advance(2)
    assert [what for _, what in log.events] == ["end of the chain", "sleeper"]
    assert log.events[0][0] == 1.0


@ONLY_ASYNCIO
async def test_native_tasks_are_waited_for() -> None:
    """Tasks and futures of asyncio itself hold time as those of anyio do."""
    clock = SimClock()
    log = Log(clock)

    async def native(n: int) -> int:
        await asyncio.sleep(0)
        return n if n == 0 else await asyncio.create_task(native(n - 1))

    async def body() -> None:
        await clock.sleep(1)
        log.note(await native(50))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(body)
        tasks.start_soon(log.after, 1, "sleeper")
        await clock.advance(2)
    assert log.events == [(1.0, 0), (1.0, "sleeper")]
