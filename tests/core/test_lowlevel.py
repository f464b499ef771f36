"""What the core is built on, for those who build on the core."""

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import pytest
from chrono_core import (
    ChannelInUse,
    Context,
    SimClock,
    SimulationStalled,
    Supervisor,
    WouldBlock,
    lowlevel,
    open_channel,
)
from chrono_core.lowlevel import (
    Event,
    EventLoop,
    Lock,
    Pulse,
    Ticks,
    Waiter,
    checkpoint,
    current_loop,
    new_waiter,
    to_ns,
    to_seconds,
    wait_any,
)
from chrono_core.testing import Trace, assert_one_trace
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .scheduling import in_order, rounds, until
from .test_channel_cancellation import ONLY_ASYNCIO


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """Daemons that fail on purpose need not be heard of."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_public_names_are_these() -> None:
    """A name that is added or goes is a change of what is public."""
    assert lowlevel.__all__ == [
        "Event",
        "EventLoop",
        "Lock",
        "Pulse",
        "Ticks",
        "Waiter",
        "Watchable",
        "checkpoint",
        "current_loop",
        "finite",
        "new_waiter",
        "number",
        "to_ns",
        "to_seconds",
        "wait_any",
    ]


# Waiting for one of several


async def test_any_of_several_things_ends_the_wait() -> None:
    """A receiving end, a sending end, an event, a pulse, a close: each of them alone suffices."""
    source, other, dest, closing = (open_channel[int](1) for _ in range(4))
    dest.send.send_nowait(0)
    pulse = Pulse("a beat")
    wakes: list[tuple[str, Callable[[Event], Any]]] = [
        ("a receiving end", lambda _: source.send.send_nowait(1)),
        ("another", lambda _: other.send.send_nowait(1)),
        ("a sending end", lambda _: dest.recv.receive_nowait()),
        ("an event", lambda event: event.set()),
        ("a pulse", lambda _: pulse.beat()),
        ("a close", lambda _: closing.recv.aclose()),
    ]
    over: list[str] = []

    async def wait(what: str, event: Event) -> None:
        await wait_any(source.recv, other.recv, dest.send, event, pulse, closing=(closing.send,))
        over.append(what)

    for what, wake in wakes:
        event = Event("the event")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, what, event)
            await until(lambda: source.recv.statistics().waiters_receive)
            await rounds()
            assert what not in over
            result = wake(event)
            if result is not None and not isinstance(result, int):
                await result
            await until(lambda what=what: what in over)  # type: ignore[misc]
        for channel in (source, other):
            with suppress(WouldBlock):
                channel.recv.receive_nowait()
        with suppress(WouldBlock):
            dest.send.send_nowait(0)


async def test_several_wake_ups_in_one_round_end_one_wait() -> None:
    """What changed besides is there to be seen, and wakes nobody later."""
    source, event, pulse = open_channel[int](4), Event("the event"), Pulse("a beat")
    looks: list[tuple[bool, bool]] = []

    async def wait() -> None:
        await wait_any(source.recv, event, pulse)
        looks.append((source.recv.ready(), event.is_set()))
        source.recv.receive_nowait()
        await wait_any(source.recv, event, pulse)
        looks.append((source.recv.ready(), event.is_set()))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await until(lambda: source.recv.statistics().waiters_receive)
        source.send.send_nowait(1)
        event.set()
        pulse.beat()
        await rounds()
        assert looks == [(True, True)]
        pulse.beat()
        await until(lambda: len(looks) == 2)
    assert looks == [(True, True), (False, True)]


async def test_wait_for_nothing_ends_by_cancellation() -> None:
    """Of nothing at all, it waits until it is cancelled."""
    over = False

    async def wait() -> None:
        nonlocal over
        await wait_any()
        over = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await rounds(50)
        tasks.cancel_scope.cancel()
    assert not over


async def test_thing_that_wakes_at_once_lets_others_run() -> None:
    """A watchable that wakes whoever comes ends the wait, after other tasks have run."""
    await in_order()

    class Impatient:
        def watch(self, waiter: Waiter) -> None:
            assert waiter.wake()

        def unwatch(self, waiter: Waiter) -> None:
            pass

    ran: list[str] = []

    async def other() -> None:
        ran.append("other")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        await wait_any(Impatient(), Event("never"))
        assert ran == ["other"]
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await wait_any(Impatient())
        ran.append("shielded")
        await wait_any(Impatient())
        ran.append("not cancelled")
    assert ran == ["other", "shielded"]


async def test_second_wake_up_of_a_waiter_that_was_woken_at_once_is_harmless() -> None:
    """A waiter that one thing woke before it parked, another may wake before it runs."""
    await in_order()
    first, second = open_channel[int](1), open_channel[int](1)
    await first.recv.aclose()

    async def close() -> None:
        await second.send.aclose()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(close)
        await wait_any(second.recv, closing=(first.send,))
    assert second.recv.ready()


@pytest.mark.parametrize("named", [False, True])
async def test_reports_say_what_is_waited_for(named: bool) -> None:
    """The things that are watched are named, or what the caller calls them."""
    clock = SimClock()
    source, dest = open_channel[int](0, name="obs"), open_channel[int](0, name="act")
    things = (source.recv, Event("the first frame"), Pulse("a beat"))

    async def wait(ctx: Context) -> None:
        await wait_any(*things, closing=(dest.send,), subject="work" if named else None)

    async with Supervisor(clock=clock, on_exit="stop") as supervisor:
        handle = supervisor.spawn(wait, name="waits")
        await clock.advance(1.0)
        words = handle.health.waiting_on
        assert words is not None
        if named:
            assert words == "work"
        else:
            assert words == (
                "<receiving end of channel 'obs'> or <event: the first frame> or <pulse: a beat> "
                "or the close of <sending end of channel 'act'>"
            )
        with pytest.raises(SimulationStalled) as caught:
            await clock.run_until(lambda: False, limit=10.0)
        assert words in str(caught.value)
        await supervisor.stop(grace=0.0)


async def test_reports_name_a_wait_for_nothing() -> None:
    """A task that watches nothing is said to wait for nothing."""
    clock = SimClock()
    async with Supervisor(clock=clock, on_exit="stop") as supervisor:

        async def wait(ctx: Context) -> None:
            await wait_any()

        handle = supervisor.spawn(wait)
        await clock.advance(1.0)
        assert handle.health.waiting_on == "nothing"
        await supervisor.stop(grace=0.0)


async def test_waiter_of_ones_own_is_woken_once() -> None:
    """A waiter parks its task until `wake`, which says whether that was the first one."""
    waiters: list[Waiter] = []
    over = False

    async def park() -> None:
        nonlocal over
        waiter = new_waiter("to be woken")
        waiters.append(waiter)
        await waiter
        over = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(park)
        await until(lambda: waiters)
        await rounds()
        [waiter] = waiters
        assert waiter.parked
        assert not waiter.woken
        assert not over
        assert waiter.wake()
        assert not waiter.wake()
        assert waiter.woken
        assert not waiter.parked
        await until(lambda: over)


def test_waiter_needs_an_event_loop() -> None:
    """Outside of any event loop there is nobody to wait."""
    with pytest.raises(RuntimeError, match="no event loop"):
        new_waiter("nothing")


async def test_checkpoint_lets_others_run_and_is_cancelled() -> None:
    """One checkpoint is one turn for everybody else, and raises a pending cancellation."""
    await in_order()
    ran: list[str] = []

    async def other() -> None:
        ran.append("other")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        await checkpoint()
        assert ran == ["other"]
        tasks.cancel_scope.cancel()
        await checkpoint()
        ran.append("not cancelled")
    assert ran == ["other"]


# Events and pulses


async def test_event_wakes_in_the_order_of_arrival() -> None:
    """By `wait` and by `wait_any` alike, whoever came first runs first."""
    await in_order()
    event = Event("the event")
    order: list[int] = []

    async def wait(number: int) -> None:
        if number % 2:
            await wait_any(Event("another"), event)
        else:
            await event.wait()
        order.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(wait, number)
            await checkpoint()
        await rounds()
        assert order == []
        event.set()
        event.set()
        assert event.is_set()
        await until(lambda: len(order) == 6)
        await event.wait()
    assert order == list(range(6))


async def test_event_that_is_set_lets_others_run() -> None:
    """Waiting for what has come is one checkpoint, and a cancellation point."""
    await in_order()
    event = Event("the event")
    event.set()
    ran: list[str] = []

    async def other() -> None:
        ran.append("other")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        await event.wait()
        assert ran == ["other"]
        tasks.cancel_scope.cancel()
        await event.wait()
        ran.append("not cancelled")
    assert ran == ["other"]


async def test_pulse_wakes_those_who_are_there() -> None:
    """A beat wakes each waiter once, in order, and is lost on whoever comes later."""
    await in_order()
    pulse = Pulse("a beat")
    order: list[tuple[int, int]] = []

    async def wait(number: int) -> None:
        for turn in range(2):
            await pulse.next()
            order.append((turn, number))

    pulse.beat()
    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(wait, number)
            await checkpoint()
        for turn in range(2):
            await rounds()
            assert len(order) == 3 * turn
            pulse.beat()
            pulse.beat()
        await until(lambda: len(order) == 6)
    assert order == [(turn, number) for turn in range(2) for number in range(3)]


async def test_pulse_need_not_be_waited_for_where_it_is_so_already() -> None:
    """`unless` is asked once, right before the wait."""
    asked: list[bool] = []

    def so() -> bool:
        asked.append(True)
        return True

    await Pulse("a beat").next(so)
    assert asked == [True]


async def test_cancelled_waiters_leave_events_and_pulses_empty() -> None:
    """Who was cancelled is woken no more, and the others keep their order."""
    await in_order()
    event, pulse = Event("the event"), Pulse("a beat")
    order: list[int] = []
    scopes = [anyio.CancelScope() for _ in range(6)]
    waits: list[Callable[[], Any]] = [event.wait, pulse.next, lambda: wait_any(event, pulse)]

    async def wait(number: int) -> None:
        with scopes[number]:
            await waits[number % 3]()
            order.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(wait, number)
            await checkpoint()
        for number in (3, 1, 2):
            scopes[number].cancel()
        event.set()
        pulse.beat()
        await until(lambda: len(order) == 3)
    assert order == [0, 5, 4]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers by signal")
async def test_event_may_be_set_by_a_signal_handler() -> None:
    """However the signal falls into the making of a wait, the waiter goes on."""

    def handler(number: int, frame: object) -> None:
        event.set()

    before = signal.signal(signal.SIGALRM, handler)
    try:
        for microseconds in range(20, 400, 20):
            event = Event("the signal")
            signal.setitimer(signal.ITIMER_REAL, microseconds * 1e-6)
            with anyio.fail_after(10):
                while not event.is_set():
                    with anyio.move_on_after(0.05):  # wakes a loop that sleeps
                        await event.wait()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# Locks


async def test_lock_that_is_free_costs_nothing() -> None:
    """Taking it lets nobody else run."""
    lock = Lock("the lock")
    ran: list[str] = []

    async def other() -> None:
        ran.append("other")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        for _ in range(100):
            assert lock.idle
            async with lock:
                assert not lock.idle
        assert ran == []


async def test_lock_is_handed_on_in_order() -> None:
    """Whoever came first gets it first, and nobody who came later overtakes."""
    lock = Lock("the lock")
    order: list[int] = []
    arrived: list[int] = []

    async def work(number: int) -> None:
        arrived.append(number)
        async with lock:
            order.append(number)
            await rounds(2)
        # At once again: behind those who wait.
        async with lock:
            order.append(number + 100)

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(work, number)
        await until(lambda: len(order) == 10)
    assert order == arrived + [number + 100 for number in arrived]
    assert lock.idle


async def test_lock_that_is_left_by_an_exception_is_handed_on() -> None:
    """An error in the block passes through, and frees the lock."""
    lock = Lock("the lock")
    with pytest.raises(ZeroDivisionError):
        async with lock:
            raise ZeroDivisionError
    assert lock.idle


@pytest.mark.parametrize("who", [1, 2, 3])
@pytest.mark.parametrize("moment", ["before", "with", "after"])
async def test_lock_passes_over_whoever_was_cancelled(who: int, moment: str) -> None:
    """Cancelled before, as or after the lock was handed on, a waiter holds up nobody."""
    lock = Lock("the lock")
    scopes = [anyio.CancelScope() for _ in range(5)]
    got: list[int] = []

    async def work(number: int) -> None:
        with scopes[number]:
            async with lock:
                got.append(number)
                await rounds(2)

    async with anyio.create_task_group() as tasks:
        async with lock:
            for number in range(1, 5):
                tasks.start_soon(work, number)
                await rounds(2)
            if moment == "before":
                scopes[who].cancel()
                await rounds(2)
            elif moment == "with":
                scopes[who].cancel()
        if moment == "after":
            scopes[who].cancel()
        await until(lambda: lock.idle)
    expected = [1, 2, 3, 4]
    if moment != "after" or who != 1:  # the first was woken, and so it has the lock
        expected.remove(who)
    assert got == expected


async def test_newcomer_behind_a_cancelled_waiter_gets_the_lock() -> None:
    """Though the one before it was cancelled when the lock was free, it is not left waiting."""
    lock = Lock("the lock")
    scope = anyio.CancelScope()
    got: list[str] = []

    async def wait() -> None:
        with scope:
            async with lock:
                got.append("cancelled")

    async with anyio.create_task_group() as tasks:
        await lock.__aenter__()
        tasks.start_soon(wait)
        await rounds(3)
        scope.cancel()
        await lock.__aexit__(None, None, None)
        with anyio.fail_after(5):
            async with lock:
                got.append("newcomer")
    assert got == ["newcomer"]
    assert lock.idle


WORK = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4)),  # rounds before it comes, and that it stays
    min_size=2,
    max_size=8,
)
CANCELS = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3)), max_size=16)


async def crowd(work: list[tuple[int, int]], cancels: list[tuple[int, int]], native: bool) -> None:
    """Tasks that want one lock, and are cancelled."""
    lock = Lock("the lock")
    holders = 0
    arrived: list[int] = []
    got: list[int] = []
    gone: list[int] = []
    cancel: dict[int, Callable[[], object]] = {}

    async def want(number: int, before: int, stay: int) -> None:
        nonlocal holders
        await rounds(before)
        arrived.append(number)
        async with lock:
            got.append(number)
            holders += 1
            assert holders == 1
            try:
                await rounds(stay)
            finally:
                holders -= 1

    async def protected(number: int, before: int, stay: int) -> None:
        try:
            if native:
                task = asyncio.create_task(want(number, before, stay))
                cancel[number] = task.cancel
                with suppress(asyncio.CancelledError):
                    await task
            else:
                with anyio.CancelScope() as scope:
                    cancel[number] = scope.cancel
                    await want(number, before, stay)
        finally:
            gone.append(number)

    cancelled: set[int] = set()
    async with anyio.create_task_group() as tasks:
        for number, (before, stay) in enumerate(work):
            tasks.start_soon(protected, number, before, stay)
        await checkpoint()
        for number, pause in cancels:
            if number in cancel:
                cancel[number]()
                cancelled.add(number)
            await rounds(pause)
        await until(lambda: len(gone) == len(work))
    assert lock.idle
    assert holders == 0
    assert got == [number for number in arrived if number in got]
    assert set(range(len(work))) - set(got) <= cancelled


@settings(max_examples=200)
@given(work=WORK, cancels=CANCELS)
async def test_lock_survives_any_cancellations(
    work: list[tuple[int, int]], cancels: list[tuple[int, int]]
) -> None:
    """Never two holders, first come first served, and nobody is forgotten."""
    await crowd(work, cancels, native=False)


@ONLY_ASYNCIO
@settings(max_examples=200)
@given(work=WORK, cancels=CANCELS)
async def test_lock_survives_any_native_cancellations(
    work: list[tuple[int, int]], cancels: list[tuple[int, int]]
) -> None:
    """The same with `Task.cancel`, in the round of the wake-up, too."""
    await crowd(work, cancels, native=True)


# One order

OPS = st.one_of(
    st.tuples(st.just("lock"), st.integers(0, 1), st.sampled_from((0.0, 0.5, 1.0))),
    st.tuples(st.just("hold for rounds"), st.integers(0, 1), st.integers(0, 3)),
    st.tuples(st.just("next"), st.sampled_from((0.5, 1.0))),
    st.tuples(st.just("wait"), st.integers(0, 1), st.sampled_from((0.5, 1.0))),
    st.tuples(st.just("any"), st.integers(1, 255), st.sampled_from((0.5, 1.0))),
    st.tuples(st.just("close watch"), st.integers(0, 1), st.sampled_from((0.5, 1.0))),
    st.tuples(st.just("beat")),
    st.tuples(st.just("set"), st.integers(0, 1)),
    st.tuples(st.just("send"), st.integers(0, 1)),
    st.tuples(st.just("receive"), st.integers(0, 1)),
    st.tuples(st.just("send nowait"), st.integers(0, 1)),
    st.tuples(st.just("receive nowait"), st.integers(0, 1)),
    st.tuples(st.just("evict"), st.integers(0, 1)),
    st.tuples(st.just("close"), st.integers(0, 1)),
    st.tuples(st.just("sleep"), st.sampled_from((0.0, 0.5, 1.0))),
    st.tuples(st.just("checkpoint")),
    st.tuples(st.just("cancel"), st.integers(0, 4)),
)
PROGRAMS = st.lists(st.lists(OPS, max_size=12), min_size=2, max_size=5)


class Stage:
    """Daemons that share locks, a pulse, events and channels, and each follow a program."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.locks = [Lock("a lock"), Lock("another")]
        self.pulse = Pulse("a beat")
        self.events = [Event("an event"), Event("another")]
        self.channels = [open_channel[int](size, name=f"c{size}") for size in (0, 1)]
        self.scopes: dict[int, anyio.CancelScope] = {}
        self.numbers = 0

    async def follow(self, ctx: Context, me: int, program: list[tuple[Any, ...]]) -> None:
        for op in program:
            self.trace.record(ctx, f"begins {op}")
            try:
                with anyio.CancelScope() as self.scopes[me]:
                    result = await self.do(ctx, *op)
                    self.trace.record(ctx, f"has done {op}: {result}")
                    continue
                self.trace.record(ctx, "was cancelled")
            except Exception as error:
                self.trace.record(ctx, f"{op} raised {type(error).__name__}")

    async def do(self, ctx: Context, name: str, *args: Any) -> object:
        clock = ctx.clock
        assert isinstance(clock, SimClock)
        match name, *args:
            case "lock", number, seconds:
                async with self.locks[number]:
                    self.trace.record(ctx, "holds the lock")
                    await clock.sleep(seconds)
            case "hold for rounds", number, turns:
                async with self.locks[number]:
                    for _ in range(turns):
                        await checkpoint()
                        self.trace.record(ctx, "holds the lock")
            case "next", seconds:
                with clock.move_on_after(seconds) as scope:
                    await self.pulse.next()
                return scope.cancelled_caught
            case "wait", number, seconds:
                with clock.move_on_after(seconds) as scope:
                    await self.events[number].wait()
                return scope.cancelled_caught
            case "any", chosen, seconds:
                with clock.move_on_after(seconds) as scope:
                    await wait_any(*self.chosen(chosen))
                return scope.cancelled_caught, [channel.recv.ready() for channel in self.channels]
            case "close watch", number, seconds:
                with clock.move_on_after(seconds) as scope:
                    await wait_any(closing=(self.channels[number].send,))
                return scope.cancelled_caught
            case ("beat",):
                self.pulse.beat()
            case "set", number:
                self.events[number].set()
            case "send", number:
                self.numbers += 1
                await self.channels[number].send.send(self.numbers)
            case "receive", number:
                return await self.channels[number].recv.receive()
            case "send nowait", number:
                self.numbers += 1
                self.channels[number].send.send_nowait(self.numbers)
            case "receive nowait", number:
                return self.channels[number].recv.receive_nowait()
            case "evict", number:
                return self.channels[number].send.evict_nowait()
            case "close", number:
                await self.channels[number].recv.aclose()
            case "sleep", seconds:
                await clock.sleep(seconds)
            case ("checkpoint",):
                await checkpoint()
            case "cancel", whom:
                if whom in self.scopes:
                    self.scopes[whom].cancel()
        return None

    def chosen(self, bits: int) -> list[Any]:
        things = [
            *(channel.recv for channel in self.channels),
            *(channel.send for channel in self.channels),
            self.pulse,
            *self.events,
        ]
        return [thing for n, thing in enumerate(things) if bits >> n & 1] or [self.pulse]


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(programs=PROGRAMS)
def test_any_program_has_one_trace(programs: list[list[tuple[Any, ...]]]) -> None:
    """Locks, pulses, events, watched ends and cancellations take equal rounds on both backends."""

    async def program(trace: Trace) -> None:
        stage = Stage(trace)
        clock = SimClock()
        async with Supervisor(clock=clock, on_exit="stop") as supervisor:
            for number, ops in enumerate(programs):
                supervisor.spawn(stage.follow, number, ops, name=f"d{number}")
            await clock.advance(30.0)
            for name, health in supervisor.snapshot().items():
                trace.write(f"{name} {health.state} {health.waiting_on}")
            await supervisor.stop(grace=0.0)
        for lock in stage.locks:
            trace.write(f"{lock!r} idle: {lock.idle}")
        for channel in stage.channels:
            trace.write(str(channel.recv.statistics()))

    assert_one_trace(program, times=1)


async def test_watched_end_that_is_in_use_is_let_go_in_one_order() -> None:
    """A wait that fails may have woken a sender, who finds nobody and waits on."""
    busy, free = open_channel[int](0), open_channel[int](0)
    looks: list[bool] = []

    async def produce() -> None:
        while not free.send.ready():
            await wait_any(free.send)
            looks.append(free.send.ready())
        free.send.send_nowait(1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(busy.recv.receive)
        tasks.start_soon(produce)
        await rounds(3)
        with pytest.raises(ChannelInUse):
            await wait_any(free.recv, busy.recv)
        await until(lambda: looks)
        assert looks == [False]
        assert await free.recv.receive() == 1
        busy.send.send_nowait(1)


# Time


def test_ticks_are_computed_and_not_added_up() -> None:
    """Tick n is the start and n periods, rounded once."""
    ticks = Ticks(7, 0.1)
    assert [ticks.at(n) for n in (0, 1, 3, 10**9)] == [
        7,
        100_000_007,
        300_000_007,
        100_000_000_000_000_013,  # the float is a little more than a tenth
    ]
    assert ticks.first_from(0, 4) == 4
    assert ticks.first_from(300_000_007, 0) == 3
    assert ticks.first_from(300_000_008, 0) == 4


def test_seconds_and_nanoseconds() -> None:
    """A float becomes the nearest whole number of nanoseconds, and back."""
    assert to_ns(0.1) == 100_000_000
    assert to_ns(-1e-9) == -1
    assert to_ns(3) == 3_000_000_000
    assert to_seconds(1_500_000_000) == 1.5


@pytest.mark.parametrize("check", [lowlevel.number, lowlevel.finite])
def test_numbers_are_checked_by_name(check: Callable[[Any, str], float]) -> None:
    """What is no number is refused with the name of the parameter and the value."""
    assert check(2, "delay") == 2
    for wrong in ("2", None, float("nan")):
        with pytest.raises((TypeError, ValueError), match="delay must be a number"):
            check(wrong, "delay")
    if check is lowlevel.finite:
        with pytest.raises(ValueError, match="delay must be finite, got inf"):
            check(float("inf"), "delay")
    else:
        assert check(float("inf"), "delay") == float("inf")


async def test_waiter_is_woken_by_a_descriptor() -> None:
    """A waiter with a descriptor wakes as soon as that can be read from, and may wait again."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for _ in range(3):
            async with anyio.create_task_group() as tasks:
                waiter_done = []

                async def wait(done: list[int] = waiter_done) -> None:
                    await new_waiter("a word", readable=ours.fileno())
                    done.append(1)

                tasks.start_soon(wait)
                await rounds(3)
                assert waiter_done == []
                theirs.send(b"x")
            assert waiter_done == [1]
            ours.recv(1)


async def test_waiter_with_a_descriptor_is_woken_otherwise() -> None:
    """Where nothing can be read, it wakes when it is told to, once."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        waiters: list[Waiter] = []

        async def wait() -> None:
            waiter = new_waiter("a word", readable=ours.fileno())
            waiters.append(waiter)
            await waiter

        for _ in range(2):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await rounds(3)
                assert waiters[-1].parked
                assert waiters[-1].wake()
                assert not waiters[-1].wake()
            assert waiters[-1].woken and not waiters[-1].parked


async def test_waiter_with_a_descriptor_is_cancelled() -> None:
    """A cancelled wait leaves the descriptor to the next."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with anyio.move_on_after(0) as scope:
            await new_waiter("a word", readable=ours.fileno())
        assert scope.cancelled_caught
        theirs.send(b"x")
        with anyio.fail_after(10):
            await new_waiter("a word", readable=ours.fileno())


async def test_descriptor_is_forgotten_before_it_is_closed() -> None:
    """Its number may then be that of another one, which can be waited for as well."""
    for _ in range(3):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.send(b"x")
            with anyio.fail_after(10):
                await new_waiter("a word", readable=ours.fileno())
            current_loop().forget_descriptor(ours.fileno())
            current_loop().forget_descriptor(ours.fileno())


async def test_what_comes_while_nobody_waits_is_there_for_the_next() -> None:
    """The loop goes on with other things meanwhile, and does not look all the time."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        await new_waiter("a word", readable=ours.fileno())
        await rounds(20)
        for _ in range(3):
            with anyio.fail_after(10):
                await new_waiter("a word", readable=ours.fileno())
        assert ours.recv(10) == b"x"
        with anyio.move_on_after(0.01) as scope:
            await new_waiter("a word", readable=ours.fileno())
        assert scope.cancelled_caught
        current_loop().forget_descriptor(ours.fileno())


async def test_descriptor_that_nobody_waits_for_is_nothing_real() -> None:
    """Simulated time does not wait for what was read before or since it began."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"xy")
        for _ in range(2):
            await new_waiter("a word", readable=ours.fileno())
            ours.recv(1)
            clock = SimClock()
            async with Supervisor(clock=clock, on_exit="stop"):
                await clock.advance(10)
        current_loop().forget_descriptor(ours.fileno())


async def test_loop_is_called_from_another_thread_in_order() -> None:
    """What a thread gives to a loop runs there, in the order in which it was given."""
    loop = current_loop()
    told: list[int] = []
    done = Event("the last")

    def tell() -> None:
        for number in range(100):
            loop.call_threadsafe(partial(told.append, number))
        loop.call_threadsafe(done.set)

    thread = threading.Thread(target=tell)
    thread.start()
    with anyio.fail_after(10):
        await done.wait()
    thread.join()
    assert told == list(range(100))
    assert loop.is_current() and loop.alive()


async def test_loop_calls_soon() -> None:
    """A callback given inside a loop runs after whoever gave it, not at once."""
    told: list[int] = []
    current_loop().call_soon(lambda: told.append(1))
    assert told == []
    with anyio.fail_after(10):
        while not told:
            await checkpoint()


def test_loop_that_has_ended_says_so(anyio_backend: str) -> None:
    """Whoever calls a loop that is no more gets a RuntimeError."""

    async def get() -> EventLoop:
        return current_loop()

    loop = anyio.run(get, backend=anyio_backend)
    assert not loop.alive()
    with pytest.raises(RuntimeError):
        loop.call_threadsafe(int)
