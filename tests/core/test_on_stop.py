"""Every way out of a daemon runs ``on_stop``, once for each ``on_start`` that has returned."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import anyio
import pytest
from chrono_core import (
    Clock,
    Context,
    DaemonError,
    RestartPolicy,
    SimClock,
    Supervisor,
    WallClock,
    open_channel,
)

from .probes import Probe, defy, fail, failing, gone, obey

QUICK = RestartPolicy(base=0.001, cap=0.001, max_retries=2)

WayOut = Callable[[Clock, str], Awaitable[list[str]]]


@pytest.fixture(params=["wall", "sim"])
def clock(request: pytest.FixtureRequest) -> Clock:
    return WallClock() if request.param == "wall" else SimClock()


async def returning(clock: Clock, backend: str) -> list[str]:
    probe = Probe()
    async with Supervisor(clock=clock) as sup:
        sup.add(probe)
    return probe.log


async def error_that_shuts_down(clock: Clock, backend: str) -> list[str]:
    probe = Probe(fail)
    with pytest.RaisesGroup(DaemonError):
        async with Supervisor(clock=clock) as sup:
            sup.add(probe)
    return probe.log


async def error_that_is_ignored(clock: Clock, backend: str) -> list[str]:
    probe = Probe(fail)
    async with Supervisor(clock=clock, on_error="ignore") as sup:
        sup.add(probe)
    return probe.log


async def error_after_the_last_restart(clock: Clock, backend: str) -> list[str]:
    probe = Probe(fail)
    with pytest.RaisesGroup(DaemonError):
        async with Supervisor(clock=clock, on_error="restart", restart=QUICK) as sup:
            await gone(sup, sup.add(probe))
    return probe.log


async def restart_that_goes_well(clock: Clock, backend: str) -> list[str]:
    errors = [ValueError("once")]

    async def fail_once(ctx: Context) -> None:
        if errors:
            raise errors.pop()

    probe = Probe(fail_once)
    async with Supervisor(clock=clock, on_error="restart", restart=QUICK) as sup:
        await gone(sup, sup.add(probe))
    return probe.log


async def stop_in_a_backoff(clock: Clock, backend: str) -> list[str]:
    probe = Probe(fail)
    async with Supervisor(clock=clock, on_error="restart", restart=RestartPolicy(9, 1, 9)) as sup:
        handle = sup.add(probe)
        while handle.health.state != "restarting":
            await anyio.lowlevel.checkpoint()
        sup.signal_stop()
    return probe.log


async def end_of_stream(clock: Clock, backend: str) -> list[str]:
    channel = open_channel[int]()

    async def receive(ctx: Context) -> None:
        await channel.recv.receive()

    probe = Probe(receive)
    async with Supervisor(clock=clock, on_error="restart", restart=QUICK) as sup:
        sup.add(probe)
        await channel.send.aclose()
    return probe.log


async def own_scope_cancelled_in_run(clock: Clock, backend: str) -> list[str]:
    async def cancel(ctx: Context) -> None:
        ctx.cancel_scope.cancel()
        await anyio.sleep_forever()

    probe = Probe(cancel)
    async with Supervisor(clock=clock) as sup:
        sup.add(probe)
    return probe.log


async def own_scope_cancelled_without_a_wait(clock: Clock, backend: str) -> list[str]:
    async def cancel(ctx: Context) -> None:
        ctx.cancel_scope.cancel()

    probe = Probe(cancel)
    async with Supervisor(clock=clock) as sup:
        sup.add(probe)
    return probe.log


async def own_scope_cancelled_in_on_start_which_returns(clock: Clock, backend: str) -> list[str]:
    async def cancel(ctx: Context) -> None:
        ctx.cancel_scope.cancel()

    probe = Probe(defy, on_start=cancel)
    async with Supervisor(clock=clock) as sup:
        sup.add(probe)
    return probe.log


async def native_cancellation_of_itself(clock: Clock, backend: str) -> list[str]:
    if backend != "asyncio":
        pytest.skip("only asyncio's tasks can be cancelled")

    async def cancel(ctx: Context) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await anyio.sleep_forever()

    probe = Probe(cancel)
    async with Supervisor(clock=clock) as sup:
        sup.add(probe)
    return probe.log


async def native_cancellation_from_outside(clock: Clock, backend: str) -> list[str]:
    if backend != "asyncio":
        pytest.skip("only asyncio's tasks can be cancelled")
    tasks: list[asyncio.Task[object]] = []

    async def run(ctx: Context) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        await anyio.sleep_forever()

    probe = Probe(run)
    async with Supervisor(clock=clock) as sup:
        sup.add(probe)
        await sup.wait_all_started()
        tasks[0].cancel()
    return probe.log


async def stop_that_is_obeyed(clock: Clock, backend: str) -> list[str]:
    probe = Probe(obey)
    async with Supervisor(clock=clock) as sup:
        sup.add(probe)
        await sup.wait_all_started()
        assert await sup.stop() == []
    return probe.log


async def stop_that_has_to_force(clock: Clock, backend: str) -> list[str]:
    probe = Probe(defy, name="defiant")
    async with Supervisor(clock=clock) as sup:
        sup.add(probe)
        await sup.wait_all_started()
        assert await sup.stop(grace=0.01) == ["defiant"]
    return probe.log


async def stop_without_grace(clock: Clock, backend: str) -> list[str]:
    probe = Probe(obey)
    async with Supervisor(clock=clock) as sup:
        sup.add(probe)
        await sup.wait_all_started()
        await sup.stop(grace=0)
    return probe.log


async def stop_of_this_daemon_alone(clock: Clock, backend: str) -> list[str]:
    probe = Probe(defy)
    async with Supervisor(clock=clock) as sup:
        handle = sup.add(probe)
        await handle.wait_started()
        await handle.stop(grace=0.01)
    return probe.log


async def stop_from_inside(clock: Clock, backend: str) -> list[str]:
    async def stop(ctx: Context) -> None:
        await ctx.supervisor.stop()

    probe = Probe(stop)
    async with Supervisor(clock=clock) as sup:
        sup.add(probe)
    return probe.log


async def stop_at_the_end_of_the_block(clock: Clock, backend: str) -> list[str]:
    probe = Probe(obey)
    async with Supervisor(clock=clock, on_exit="stop") as sup:
        sup.add(probe)
        await sup.wait_all_started()
    return probe.log


async def signal(clock: Clock, backend: str) -> list[str]:
    probe = Probe(obey)
    async with Supervisor(clock=clock) as sup:
        sup.add(probe)
        await sup.wait_all_started()
        sup.signal_stop()
    return probe.log


async def keyboard_interrupt(clock: Clock, backend: str) -> list[str]:
    probe = Probe(failing(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        async with Supervisor(clock=clock) as sup:
            sup.add(probe)
    return probe.log


async def system_exit(clock: Clock, backend: str) -> list[str]:
    probe = Probe(failing(SystemExit(3)))
    with pytest.raises(SystemExit):
        async with Supervisor(clock=clock) as sup:
            sup.add(probe)
    return probe.log


async def keyboard_interrupt_of_another(clock: Clock, backend: str) -> list[str]:
    probe = Probe(defy)
    with pytest.raises(KeyboardInterrupt):
        async with Supervisor(clock=clock) as sup:
            sup.add(probe)
            sup.add(Probe(failing(KeyboardInterrupt())))
    return probe.log


async def error_of_another(clock: Clock, backend: str) -> list[str]:
    probe = Probe(defy)
    with pytest.RaisesGroup(DaemonError):
        async with Supervisor(clock=clock) as sup:
            sup.add(probe)
            sup.add(Probe(fail))
    return probe.log


async def error_of_the_block(clock: Clock, backend: str) -> list[str]:
    probe = Probe(defy)
    with pytest.raises(LookupError):
        async with Supervisor(clock=clock) as sup:
            sup.add(probe)
            await sup.wait_all_started()
            raise LookupError
    return probe.log


async def keyboard_interrupt_of_the_block(clock: Clock, backend: str) -> list[str]:
    probe = Probe(defy)
    with pytest.raises(KeyboardInterrupt):
        async with Supervisor(clock=clock) as sup:
            sup.add(probe)
            await sup.wait_all_started()
            raise KeyboardInterrupt
    return probe.log


async def cancellation_of_the_block(clock: Clock, backend: str) -> list[str]:
    probe = Probe(defy)
    with anyio.CancelScope() as scope:
        async with Supervisor(clock=clock) as sup:
            sup.add(probe)
            await sup.wait_all_started()
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    return probe.log


async def cancellation_after_the_body(clock: Clock, backend: str) -> list[str]:
    async def cancel(ctx: Context) -> None:
        scope.cancel()
        await anyio.sleep_forever()

    probe = Probe(cancel)
    with anyio.CancelScope() as scope:
        async with Supervisor(clock=clock) as sup:
            sup.add(probe)
    assert scope.cancelled_caught
    return probe.log


async def native_cancellation_of_the_block(clock: Clock, backend: str) -> list[str]:
    if backend != "asyncio":
        pytest.skip("only asyncio's tasks can be cancelled")
    probe = Probe(defy)

    async def host() -> None:
        async with Supervisor(clock=clock) as sup:
            sup.add(probe)
            await sup.wait_all_started()
            started.set()
            await anyio.sleep_forever()

    started = asyncio.Event()
    task = asyncio.create_task(host())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return probe.log


@pytest.mark.parametrize(
    ("way_out", "starts"),
    [
        (returning, 1),
        (error_that_shuts_down, 1),
        (error_that_is_ignored, 1),
        (error_after_the_last_restart, 3),
        (restart_that_goes_well, 2),
        (stop_in_a_backoff, 1),
        (end_of_stream, 1),
        (own_scope_cancelled_in_run, 1),
        (own_scope_cancelled_without_a_wait, 1),
        (own_scope_cancelled_in_on_start_which_returns, 1),
        (native_cancellation_of_itself, 1),
        (native_cancellation_from_outside, 1),
        (stop_that_is_obeyed, 1),
        (stop_that_has_to_force, 1),
        (stop_without_grace, 1),
        (stop_of_this_daemon_alone, 1),
        (stop_from_inside, 1),
        (stop_at_the_end_of_the_block, 1),
        (signal, 1),
        (keyboard_interrupt, 1),
        (system_exit, 1),
        (keyboard_interrupt_of_another, 1),
        (error_of_another, 1),
        (error_of_the_block, 1),
        (keyboard_interrupt_of_the_block, 1),
        (cancellation_of_the_block, 1),
        (cancellation_after_the_body, 1),
        (native_cancellation_of_the_block, 1),
    ],
)
async def test_every_way_out_runs_on_stop_once(
    way_out: WayOut, starts: int, clock: Clock, anyio_backend: str
) -> None:
    """``on_stop`` runs to its end, exactly once after each start, whatever ended the daemon."""
    log = await way_out(clock, anyio_backend)
    assert log == ["start", "run", "stop", "stopped"] * starts


async def error_in_on_start(clock: Clock, backend: str) -> list[str]:
    probe = Probe(on_start=fail)
    with pytest.RaisesGroup(DaemonError):
        async with Supervisor(clock=clock) as sup:
            sup.add(probe)
    return probe.log


async def ignored_error_in_on_start(clock: Clock, backend: str) -> list[str]:
    probe = Probe(on_start=fail)
    async with Supervisor(clock=clock, on_error="ignore") as sup:
        sup.add(probe)
    return probe.log


async def repeated_error_in_on_start(clock: Clock, backend: str) -> list[str]:
    probe = Probe(on_start=fail)
    with pytest.RaisesGroup(DaemonError):
        async with Supervisor(clock=clock, on_error="restart", restart=QUICK) as sup:
            await gone(sup, sup.add(probe))
    return probe.log


async def own_scope_cancelled_in_on_start(clock: Clock, backend: str) -> list[str]:
    async def cancel(ctx: Context) -> None:
        ctx.cancel_scope.cancel()
        await anyio.sleep_forever()

    probe = Probe(on_start=cancel)
    async with Supervisor(clock=clock) as sup:
        sup.add(probe)
    return probe.log


async def native_cancellation_in_on_start(clock: Clock, backend: str) -> list[str]:
    if backend != "asyncio":
        pytest.skip("only asyncio's tasks can be cancelled")

    async def cancel(ctx: Context) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await anyio.sleep_forever()

    probe = Probe(on_start=cancel)
    async with Supervisor(clock=clock) as sup:
        sup.add(probe)
    return probe.log


async def keyboard_interrupt_in_on_start(clock: Clock, backend: str) -> list[str]:
    probe = Probe(on_start=failing(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        async with Supervisor(clock=clock) as sup:
            sup.add(probe)
    return probe.log


async def start_that_takes_too_long(clock: Clock, backend: str) -> list[str]:
    probe = Probe(on_start=defy)
    with pytest.RaisesGroup(DaemonError):
        async with Supervisor(clock=clock) as sup:
            await gone(sup, sup.add(probe, start_timeout=0.01))
    return probe.log


async def stop_in_on_start(clock: Clock, backend: str) -> list[str]:
    entered = anyio.Event()

    async def hang(ctx: Context) -> None:
        entered.set()
        await anyio.sleep_forever()

    probe = Probe(on_start=hang)
    async with Supervisor(clock=clock) as sup:
        sup.add(probe)
        await entered.wait()
        await sup.stop(grace=0)
    return probe.log


async def stop_before_entry(clock: Clock, backend: str) -> list[str]:
    probe = Probe()
    sup = Supervisor(clock=clock)
    sup.add(probe)
    await sup.stop()
    async with sup:
        pass
    return probe.log


async def error_before_its_turn(clock: Clock, backend: str) -> list[str]:
    probe = Probe()
    with pytest.RaisesGroup(DaemonError):
        async with Supervisor(clock=clock) as sup:
            sup.add(Probe(on_start=fail))
            sup.add(probe)
    return probe.log


@pytest.mark.parametrize(
    "way_out",
    [
        error_in_on_start,
        ignored_error_in_on_start,
        repeated_error_in_on_start,
        own_scope_cancelled_in_on_start,
        native_cancellation_in_on_start,
        keyboard_interrupt_in_on_start,
        start_that_takes_too_long,
        stop_in_on_start,
        stop_before_entry,
        error_before_its_turn,
    ],
)
async def test_a_daemon_that_did_not_come_up_is_owed_no_on_stop(
    way_out: WayOut, clock: Clock, anyio_backend: str
) -> None:
    """Where ``on_start`` did not return, neither ``run`` nor ``on_stop`` is called."""
    assert await way_out(clock, anyio_backend) == []


async def test_an_error_of_the_block_before_its_turn_leaves_no_start_without_a_stop(
    clock: Clock,
) -> None:
    """A daemon that comes up while the block is failing still gets its ``on_stop``."""
    probe = Probe()
    with pytest.raises(LookupError):
        async with Supervisor(clock=clock) as sup:
            sup.add(probe)
            raise LookupError
    assert probe.log.count("stopped") == probe.log.count("start")


async def test_a_stop_of_what_sleeps_for_ever_warns_of_nothing() -> None:
    """To sleep for ever is nothing real: simulated time may move while ``on_stop`` does."""

    async def sleep_forever(ctx: Context) -> None:
        await anyio.sleep_forever()

    async with Supervisor(clock=SimClock(), on_error="ignore") as sup:
        handle = sup.add(Probe(sleep_forever, on_stop=sleep_forever))
        await sup.wait_all_started()
        await sup.stop()
    assert isinstance(handle.health.last_error, TimeoutError)


async def test_on_start_that_is_cancelled_can_clean_up_after_itself(clock: Clock) -> None:
    """A forced stop reaches ``on_start`` as a cancellation, whose ``finally`` runs."""
    entered = anyio.Event()
    released = []

    async def acquire(ctx: Context) -> None:
        try:
            entered.set()
            await anyio.sleep_forever()
        finally:
            released.append(True)

    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(on_start=acquire))
        await entered.wait()
        await sup.stop(grace=0)
    assert released == [True]


async def test_on_stop_is_shielded_from_the_cancellation_that_ended_the_daemon(
    clock: Clock,
) -> None:
    """``on_stop`` may wait, though its daemon and the block around it were cancelled."""

    async def wait(ctx: Context) -> None:
        for _ in range(3):
            await anyio.lowlevel.checkpoint()

    probe = Probe(defy, on_stop=wait)
    with anyio.CancelScope() as scope:
        async with Supervisor(clock=clock) as sup:
            sup.add(probe)
            await sup.wait_all_started()
            scope.cancel()
            await anyio.sleep_forever()
    assert probe.log[-1] == "stopped"


async def test_cancelling_the_scope_within_on_stop_does_not_cut_it_short(clock: Clock) -> None:
    """The scope of a daemon does not reach into its ``on_stop``."""

    async def cancel(ctx: Context) -> None:
        ctx.cancel_scope.cancel()
        await anyio.lowlevel.checkpoint()

    probe = Probe(on_stop=cancel)
    async with Supervisor(clock=clock) as sup:
        sup.add(probe)
    assert probe.log[-1] == "stopped"


async def test_a_forced_on_stop_is_cut_short_after_the_finalize_timeout(clock: Clock) -> None:
    """Where it is forced, an ``on_stop`` that does not end is cancelled, and that is an error."""
    probe = Probe(defy, on_stop=defy, name="slow")
    stopped = []
    with pytest.raises(ExceptionGroup) as caught:
        async with Supervisor(clock=clock) as sup:
            sup.add(probe)
            await sup.wait_all_started()
            stopped = await sup.stop(grace=0, finalize_timeout=0.01)
    assert stopped == ["slow"]
    assert probe.log == ["start", "run", "stop"]
    (error,) = caught.value.exceptions
    assert isinstance(error, DaemonError)
    assert (error.daemon, error.phase) == ("slow", "on_stop")
    assert isinstance(error.__cause__, TimeoutError)


async def test_an_overrun_is_reported_where_the_policy_lets_it_go(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Under ``"ignore"``, an ``on_stop`` that was cut short is in the health and in the log."""
    async with Supervisor(clock=clock, on_error="ignore") as sup:
        handle = sup.add(Probe(defy, on_stop=defy, name="slow"))
        await sup.wait_all_started()
        await sup.stop(grace=0, finalize_timeout=0.01)
    assert isinstance(handle.health.last_error, TimeoutError)
    assert handle.health.last_error_phase == "on_stop"
    assert any(
        "slow" in record.getMessage() and "on_stop" in record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING
    )


async def test_a_hanging_on_stop_does_not_keep_the_others_from_theirs(clock: Clock) -> None:
    """After one ``on_stop`` was cut short, those of the daemons before it run."""
    log: list[str] = []
    with pytest.RaisesGroup(DaemonError):
        async with Supervisor(clock=clock) as sup:
            sup.add(Probe(defy, name="a", log=log))
            sup.add(Probe(defy, on_stop=defy, name="b", log=log))
            await sup.wait_all_started()
            await sup.stop(grace=0, finalize_timeout=0.01)
    assert log[-3:] == ["b stop", "a stop", "a stopped"]


async def test_on_stop_after_a_normal_return_is_unbounded_in_real_time() -> None:
    """A daemon that returned by itself takes as long for its ``on_stop`` as it likes."""
    release = anyio.Event()
    entered = anyio.Event()

    async def wait(ctx: Context) -> None:
        entered.set()
        await release.wait()

    probe = Probe(on_stop=wait)
    async with Supervisor() as sup:
        handle = sup.add(probe)
        await entered.wait()
        await anyio.sleep(0.02)
        assert handle.health.stopped_at is None
        release.set()
    assert probe.log[-1] == "stopped"


async def test_on_stop_after_a_normal_return_is_unbounded_in_simulated_time() -> None:
    """A daemon that returned by itself may sleep an hour in its ``on_stop``."""

    async def sleep(ctx: Context) -> None:
        await ctx.clock.sleep(3600)

    clock = SimClock()
    probe = Probe(on_stop=sleep)
    async with Supervisor(clock=clock) as sup:
        handle = sup.add(probe)
        await clock.advance(3599)
        assert probe.log == ["start", "run", "stop"]
        await clock.advance(1)
    assert probe.log[-1] == "stopped"
    assert handle.health.stopped_at == 3600


async def test_stop_moves_simulated_time_for_on_stop() -> None:
    """A clock sleep in the ``on_stop`` of a forced daemon does not hang the stop."""

    async def sleep(ctx: Context) -> None:
        await ctx.clock.sleep(1.5)

    clock = SimClock()
    probe = Probe(defy, on_stop=sleep, name="sleeper")
    async with Supervisor(clock=clock) as sup:
        handle = sup.add(probe)
        await sup.wait_all_started()
        assert await sup.stop() == ["sleeper"]
        assert probe.log[-1] == "stopped"
        assert clock.now() == 1.5
    assert handle.health.last_error is None


async def test_stop_cuts_a_simulated_sleep_in_on_stop_short() -> None:
    """Under a SimClock the ``finalize_timeout`` counts simulated seconds."""

    async def sleep(ctx: Context) -> None:
        await ctx.clock.sleep(3600)

    clock = SimClock()
    with pytest.RaisesGroup(DaemonError):
        async with Supervisor(clock=clock) as sup:
            sup.add(Probe(defy, on_stop=sleep))
            await sup.wait_all_started()
            await sup.stop(finalize_timeout=2)
            assert clock.now() == 2


async def test_the_end_of_a_failed_block_moves_simulated_time_for_on_stop() -> None:
    """A clock sleep in ``on_stop`` does not hang the block when its body has failed."""

    async def sleep(ctx: Context) -> None:
        await ctx.clock.sleep(1)

    probe = Probe(defy, on_stop=sleep)
    with pytest.raises(LookupError):
        async with Supervisor(clock=SimClock()) as sup:
            sup.add(probe)
            await sup.wait_all_started()
            raise LookupError
    assert probe.log[-1] == "stopped"


async def test_a_stop_from_inside_moves_time_that_its_driver_no_longer_moves() -> None:
    """A clock sleep in ``on_stop`` does not hang a stop that began while time was moved."""

    async def stop_later(ctx: Context) -> None:
        await ctx.clock.sleep(0.5)
        await ctx.supervisor.stop()

    async def sleep(ctx: Context) -> None:
        await ctx.clock.sleep(1)

    clock = SimClock()
    probe = Probe(defy, on_stop=sleep)
    async with Supervisor(clock=clock) as sup:
        sup.add(probe)
        sup.add(Probe(stop_later))
        await clock.advance(0.75)
    assert probe.log[-1] == "stopped"


async def test_driving_goes_on_while_a_daemon_stops_everything() -> None:
    """Whoever drives the clock is not refused because a daemon has called ``stop``."""
    stopping = anyio.Event()

    async def stop(ctx: Context) -> None:
        await ctx.supervisor.stop()

    async def sleep(ctx: Context) -> None:
        stopping.set()
        await ctx.clock.sleep(1)

    clock = SimClock()
    probe = Probe(defy, on_stop=sleep)
    async with Supervisor(clock=clock) as sup:
        sup.add(probe)
        sup.add(Probe(stop))
        await stopping.wait()
        await clock.advance(1)
    assert probe.log[-1] == "stopped"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)], ids=["interrupt", "exit"])
async def test_what_ends_the_program_passes_through_from_on_stop(
    error: BaseException, clock: Clock
) -> None:
    """``KeyboardInterrupt`` and ``SystemExit`` in ``on_stop`` pass through; the others stop."""
    other = Probe(defy)
    with pytest.raises(type(error)) as caught:
        async with Supervisor(clock=clock) as sup:
            sup.add(other)
            sup.add(Probe(on_stop=failing(error)))
    assert caught.value is error
    assert other.log[-1] == "stopped"


async def test_an_error_in_on_stop_is_raised_with_its_phase(clock: Clock) -> None:
    """Under ``"shutdown"``, an error in ``on_stop`` is a DaemonError that says so."""
    with pytest.raises(ExceptionGroup) as caught:
        async with Supervisor(clock=clock) as sup:
            sup.add(Probe(on_stop=fail, name="leaky"))
    (error,) = caught.value.exceptions
    assert isinstance(error, DaemonError)
    assert (error.daemon, error.phase) == ("leaky", "on_stop")
    assert isinstance(error.__cause__, ValueError)


async def test_errors_in_run_and_on_stop_are_both_raised(clock: Clock) -> None:
    """The error of ``on_stop`` does not hide the one of ``run``."""
    with pytest.raises(ExceptionGroup) as caught:
        async with Supervisor(clock=clock) as sup:
            sup.add(Probe(fail, on_stop=failing(LookupError())))
    phases = [(error.phase, type(error.__cause__)) for error in caught.value.exceptions]
    assert phases == [("run", ValueError), ("on_stop", LookupError)]


@pytest.mark.parametrize("policy", ["ignore", "restart"])
async def test_an_error_in_on_stop_is_reported_where_it_is_not_raised(
    policy: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Under the other policies, an error in ``on_stop`` is in the health and in the log."""
    async with Supervisor(clock=clock, on_error=policy) as sup:
        handle = sup.add(Probe(on_stop=fail, name="leaky"))
    assert isinstance(handle.health.last_error, ValueError)
    assert handle.health.last_error_phase == "on_stop"
    assert any(
        "leaky" in record.getMessage() and "on_stop" in record.getMessage()
        for record in caplog.records
    )
