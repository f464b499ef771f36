import asyncio
import math
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from chrono_core import (
    ChronoError,
    ClockBusy,
    Context,
    RealTimeWarning,
    SimClock,
    SimulationError,
    SimulationLivelock,
    SimulationStalled,
    Supervisor,
    daemon,
    open_channel,
)

from .scheduling import rounds, until

ONLY_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"])

DRIVES: dict[str, Callable[[SimClock], Awaitable[object]]] = {
    "advance": lambda clock: clock.advance(1),
    "advance_to": lambda clock: clock.advance_to(1),
    "step": lambda clock: clock.step(),
    "run_until": lambda clock: clock.run_until(lambda: True, limit=1),
}


def test_errors_of_simulations_are_one_family() -> None:
    """Every error of simulated time is a `SimulationError`, which is a `ChronoError`."""
    for error in (ClockBusy, SimulationStalled, SimulationLivelock):
        assert error.__bases__ == (SimulationError,)
    assert issubclass(SimulationError, ChronoError)
    assert issubclass(RealTimeWarning, UserWarning)


# Wrong arguments


@pytest.mark.parametrize("t0", [math.nan, math.inf, -math.inf])
def test_time_cannot_begin_nowhere(t0: float) -> None:
    """`t0` is a finite number."""
    with pytest.raises(ValueError, match="t0"):
        SimClock(t0)


@pytest.mark.parametrize("rounds", [0, -1])
def test_livelock_needs_a_positive_number(rounds: int) -> None:
    """`livelock_after` is positive."""
    with pytest.raises(ValueError, match=f"livelock_after.*{rounds}"):
        SimClock(livelock_after=rounds)


@pytest.mark.parametrize("dt", [-1, -1e-9, math.nan, math.inf, -math.inf])
def test_advance_checks_its_argument_at_the_call(dt: float) -> None:
    """Time goes forward by a finite number of seconds, or the call itself is refused."""
    with pytest.raises(ValueError, match="dt"):
        SimClock().advance(dt)


@pytest.mark.parametrize("t", [math.nan, math.inf, -math.inf])
def test_advance_to_checks_its_argument_at_the_call(t: float) -> None:
    """Time goes to a finite number of seconds, or the call itself is refused."""
    with pytest.raises(ValueError, match=r"\bt\b"):
        SimClock().advance_to(t)


@pytest.mark.parametrize("limit", [-1, -1e-9, math.nan, -math.inf])
def test_run_until_checks_its_limit_at_the_call(limit: float) -> None:
    """A limit is not negative and is a number, or the call itself is refused."""
    with pytest.raises(ValueError, match="limit"):
        SimClock().run_until(lambda: True, limit=limit)


@pytest.mark.parametrize("condition", [None, True, 5, "done"])
def test_run_until_checks_its_condition_at_the_call(condition: Any) -> None:
    """A condition is a function, an event or an awaitable, or the call itself is refused."""
    with pytest.raises(TypeError, match="condition") as caught:
        SimClock().run_until(condition, limit=1)
    assert repr(condition) in str(caught.value)


def test_run_until_needs_a_limit() -> None:
    """There is no limit by default: it must be chosen."""
    call: Any = SimClock().run_until
    with pytest.raises(TypeError, match="limit"):
        call(lambda: True)


@pytest.mark.parametrize("value", ["1", None])
def test_what_is_no_number_is_refused_at_the_call(value: Any) -> None:
    """Every argument that is a time is refused by the call where it is no number."""
    clock = SimClock()
    for call in (
        SimClock,
        clock.advance,
        clock.advance_to,
        lambda limit: clock.run_until(lambda: True, limit=limit),
    ):
        with pytest.raises(TypeError, match="must be a number"):
            call(value)


async def test_condition_that_is_an_async_function_is_explained() -> None:
    """A function that returns an awaitable is no condition, and the error says what to do."""

    async def condition() -> bool:
        return True

    function: Any = condition
    with pytest.raises(TypeError, match="awaitable"):
        await SimClock().run_until(function, limit=1)


async def test_error_of_a_condition_comes_out() -> None:
    """What the condition raises ends `run_until`, and the clock can be driven again."""
    clock = SimClock()

    def condition() -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await clock.run_until(condition, limit=1)
    await clock.advance(1)
    assert clock.now() == 1


@pytest.mark.parametrize("call", DRIVES)
def test_driving_needs_an_event_loop(call: str) -> None:
    """Outside of an event loop, driving says what is missing."""
    drive: Any = DRIVES[call](SimClock())
    with pytest.raises(RuntimeError, match="event loop"):
        drive.send(None)


# One driver


@pytest.mark.parametrize("call", DRIVES)
async def test_second_driver_is_refused_at_once(call: str) -> None:
    """While somebody drives the clock, another is refused, naming the first; that one goes on."""
    clock = SimClock()
    release = anyio.Event()

    async def drive() -> None:
        with clock.hold():
            tasks.start_soon(clock.advance, 5, name="first driver")
            await release.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(drive)
        await rounds()
        with pytest.raises(ClockBusy, match=r"first driver.*one driver at a time"):
            await DRIVES[call](clock)
        with pytest.raises(ClockBusy, match=rf"^{call}\(\)"):
            await DRIVES[call](clock)
        assert clock.now() == 0
        release.set()
    assert clock.now() == 5
    await DRIVES[call](clock)


async def test_second_run_until_does_not_leave_its_awaitable_alone() -> None:
    """A refused `run_until` cancels what it was given to await, and warns nobody."""
    clock = SimClock()
    release = anyio.Event()
    ended = False

    async def body() -> None:
        nonlocal ended
        try:
            await clock.sleep(1)
        finally:
            ended = True

    async def drive() -> None:
        with clock.hold():
            tasks.start_soon(clock.advance, 5)
            await release.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(drive)
        await rounds()
        with pytest.raises(ClockBusy):
            await clock.run_until(body(), limit=10)
        assert ended
        release.set()
    assert clock.pending == []


@pytest.mark.parametrize("call", DRIVES)
@pytest.mark.parametrize("while_driven", [False, True])
async def test_daemon_cannot_drive_the_clock_that_it_lives_in(
    call: str, while_driven: bool
) -> None:
    """Driving a clock from inside its own simulation is an error that names the daemon."""
    clock = SimClock()
    errors: list[Exception] = []

    async def drive() -> None:
        try:
            await DRIVES[call](clock)
        except ClockBusy as error:
            errors.append(error)

    @daemon
    async def driver(ctx: Context) -> None:
        if while_driven:
            await clock.sleep(1)
        await drive()
        async with anyio.create_task_group() as tasks:  # a task of the daemon's is the daemon
            tasks.start_soon(drive)

    async with Supervisor(clock=clock) as sup:
        sup.add(driver(), name="driver")
        if while_driven:
            await clock.advance(2)
        await until(lambda: len(errors) == 2)
    for error in errors:
        assert "'driver'" in str(error)
        assert call in str(error)
    assert clock.now() == 2 * while_driven


# Stalls


@pytest.mark.parametrize("limit", [5, math.inf])
@pytest.mark.parametrize("kind", ["function", "event", "awaitable"])
async def test_run_until_that_can_never_come_true_stalls(kind: str, limit: float) -> None:
    """Where nothing runs, sleeps or is held, `run_until` raises at once, and time stands."""
    clock = SimClock(10)
    event = anyio.Event()
    condition: dict[str, Callable[[], Any]] = {
        "function": lambda: lambda: False,
        "event": lambda: event,
        "awaitable": event.wait,
    }
    with pytest.raises(SimulationStalled, match=r"10\.0"):
        await clock.run_until(condition[kind](), limit=limit)
    assert clock.now() == 10
    await clock.advance(1)


async def test_stall_comes_after_the_last_sleeper() -> None:
    """As long as something sleeps, there is hope; infinite sleepers give none."""
    clock = SimClock()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(clock.sleep, 3)
        tasks.start_soon(clock.sleep, math.inf)
        with pytest.raises(SimulationStalled):
            await clock.run_until(lambda: False, limit=math.inf)
        assert clock.now() == 3
        tasks.cancel_scope.cancel()


async def test_stall_names_every_daemon_and_what_it_waits_on() -> None:
    """The error says, for each daemon, on what it waits."""
    clock = SimClock()
    other = SimClock()
    empty = open_channel[int](4, name="obs")
    full = open_channel[int](0, name="commands")

    @daemon
    async def consumer(ctx: Context) -> None:
        await empty.recv.receive()

    @daemon
    async def producer(ctx: Context) -> None:
        await full.send.send(1)

    @daemon
    async def sleeper(ctx: Context) -> None:
        await other.wait_until(12.5)

    async with Supervisor(clock=clock) as sup:
        sup.add(consumer(), name="the consumer")
        sup.add(producer(), name="the producer")
        sup.add(sleeper(), name="the sleeper")
        with pytest.raises(SimulationStalled) as caught:
            await clock.run_until(lambda: False, limit=math.inf)
        await sup.stop()
    lines = str(caught.value).splitlines()
    for name, subject in {
        "'the consumer'": "receive on channel 'obs'",
        "'the producer'": "send on channel 'commands'",
        "'the sleeper'": "clock until 12.5",
    }.items():
        assert any(name in line and subject in line for line in lines), lines


async def test_advance_never_stalls() -> None:
    """Time can pass though nothing is there to happen."""
    clock = SimClock()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(open_channel[int](1).recv.receive)
        await clock.advance(5)
        await clock.advance_to(6)
        assert await clock.step() is None
        tasks.cancel_scope.cancel()
    assert clock.now() == 6


async def test_task_that_waits_for_ever_does_not_prevent_a_stall() -> None:
    """`anyio.sleep_forever` is no timer that could bring anything about, nor a real one."""
    clock = SimClock()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.sleep_forever)
        await rounds(3)
        with anyio.fail_after(5), pytest.raises(SimulationStalled):
            await clock.run_until(lambda: False, limit=math.inf)
        tasks.cancel_scope.cancel()


# Livelocks


@pytest.mark.parametrize("drive", ["advance", "step", "run_until"])
async def test_daemon_that_never_blocks_is_reported_by_name(drive: str) -> None:
    """What spins at one instant ends the drive, naming it and the instant, and not the others."""
    clock = SimClock(livelock_after=500)
    stop = False

    @daemon
    async def spinner(ctx: Context) -> None:
        await clock.sleep(2)
        while not stop:
            await checkpoint()

    @daemon
    async def idler(ctx: Context) -> None:
        await clock.sleep(60)

    async with Supervisor(clock=clock) as sup:
        sup.add(spinner(), name="spinner")
        sup.add(idler(), name="idler")
        with pytest.raises(SimulationLivelock) as caught:
            if drive == "step":
                await clock.step()
            elif drive == "advance":
                await clock.advance(5)
            else:
                await clock.run_until(lambda: False, limit=5)
        assert "spinner" in str(caught.value)
        assert "idler" not in str(caught.value)
        assert "2.0" in str(caught.value)
        assert "500" in str(caught.value)
        assert "livelock_after" in str(caught.value)
        assert clock.now() == 2
        stop = True
        await clock.advance(1)
        assert clock.now() == 3
        await sup.stop()


async def test_daemons_that_keep_each_other_busy_are_reported() -> None:
    """A livelock of two daemons that pass an item to and fro is found as well."""
    clock = SimClock(livelock_after=500)
    there, back = open_channel[int](0), open_channel[int](0)
    over = False

    @daemon
    async def player(ctx: Context, recv: Any, send: Any) -> None:
        async for item in recv:
            if over:
                break
            await send.send(item)

    @daemon
    async def server(ctx: Context) -> None:
        await there.send.send(1)

    async with Supervisor(clock=clock) as sup:
        sup.add(player(there.recv, back.send), name="ping")
        sup.add(player(back.recv, there.send), name="pong")
        sup.add(server(), name="server")
        with pytest.raises(SimulationLivelock, match=r"ping|pong"):
            await clock.advance(1)
        over = True
        await sup.stop()


async def test_long_chain_is_no_livelock() -> None:
    """The default is generous: thousands of rounds at one instant are fine."""
    clock = SimClock()

    async def body() -> None:
        await clock.sleep(1)
        await rounds(5000)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(body)
        await clock.advance(1)


async def test_steps_are_counted_at_each_instant_anew() -> None:
    """What takes many rounds over many instants is no livelock."""
    clock = SimClock(livelock_after=200)

    async def body() -> None:
        async for _tick in clock.every(1):
            await rounds(50)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(body)
        await clock.advance(20)
        await clock.advance(20)
        tasks.cancel_scope.cancel()


# Real time


def line_of(text: str) -> int:
    """The line of this file that has this comment at its end."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return next(n for n, line in enumerate(lines, 1) if line.endswith(f"# {text}"))


async def anyio_sleep() -> None:
    await anyio.sleep(3600)  # line of anyio.sleep


async def asyncio_sleep() -> None:
    await asyncio.sleep(3600)  # line of asyncio.sleep


async def anyio_timeout() -> None:
    with anyio.move_on_after(3600):
        await anyio.Event().wait()  # line of move_on_after


@pytest.mark.parametrize(
    ("function", "line"),
    [
        (anyio_sleep, "line of anyio.sleep"),
        (asyncio_sleep, "line of asyncio.sleep"),
        (anyio_timeout, "line of move_on_after"),
    ],
)
async def test_real_timer_is_reported_with_its_task_and_line(
    anyio_backend: str, function: Callable[[], Awaitable[None]], line: str
) -> None:
    """A real timer that is pending while time moves gives one warning, which says where it is."""
    if function is asyncio_sleep and anyio_backend != "asyncio":
        pytest.skip("asyncio.sleep works on asyncio only")
    clock = SimClock()

    async def body() -> None:
        await function()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(body, name="impatient")
        with pytest.warns(RealTimeWarning) as record:
            await clock.advance(10)
        tasks.cancel_scope.cancel()
    assert clock.now() == 10
    assert len(record) == 1
    assert "'impatient'" in str(record[0].message)
    assert record[0].filename == __file__
    assert record[0].lineno == line_of(line)


async def test_real_timer_of_a_daemon_is_reported_by_its_name() -> None:
    """The task in the warning is the daemon."""
    clock = SimClock()

    @daemon
    async def impatient(ctx: Context) -> None:
        await ctx.clock.sleep(1)
        await anyio_sleep()

    async with Supervisor(clock=clock) as sup:
        sup.add(impatient(), name="impatient daemon")
        sup.add(impatient(), name="other daemon")
        with pytest.warns(RealTimeWarning) as record:
            await clock.advance(1)
            await clock.advance(10)
            await sup.stop()
    messages = "".join(str(warning.message) for warning in record)
    assert "impatient daemon" in messages
    assert "other daemon" in messages


async def test_warning_that_is_an_error_ends_the_drive() -> None:
    """Where warnings are errors, `advance` raises, and can be called again."""
    clock = SimClock()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio_sleep)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(RealTimeWarning):
                await clock.advance(10)
        tasks.cancel_scope.cancel()
    await clock.advance(10)


async def test_waiting_for_ever_is_no_real_timer() -> None:
    """`anyio.sleep_forever` waits for no time, and is not reported."""
    clock = SimClock()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.sleep_forever)
        await clock.advance(10)
        tasks.cancel_scope.cancel()
    assert clock.now() == 10


async def test_simulated_time_alone_is_not_reported(recwarn: pytest.WarningsRecorder) -> None:
    """Sleeps and timeouts on the clock are not real, nor is a timeout around the driver."""
    clock = SimClock()

    async def body() -> None:
        with clock.move_on_after(5):
            await clock.sleep(60)
        async for _tick in clock.every(1):
            pass

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(body)
        with anyio.fail_after(3600):
            await clock.advance(10)
        tasks.cancel_scope.cancel()
    assert not recwarn.list


async def test_timer_that_is_over_is_not_reported(recwarn: pytest.WarningsRecorder) -> None:
    """A real timer that was cancelled before time moved is none."""
    clock = SimClock()
    with anyio.move_on_after(3600):
        await checkpoint()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio_sleep)
        await rounds(3)
        tasks.cancel_scope.cancel()
    await clock.advance(10)
    assert not recwarn.list


@ONLY_ASYNCIO
async def test_timer_without_a_task_is_reported() -> None:
    """A `call_later` belongs to no task, and is reported by its function."""
    clock = SimClock()
    timer = asyncio.get_running_loop().call_later(3600, line_of, "")
    with pytest.warns(RealTimeWarning, match="line_of"):
        await clock.advance(1)
    timer.cancel()
