"""What an error of a daemon does, under each policy, and what passes through as it is."""

import logging
import traceback
from collections.abc import Callable

import anyio
import pytest
from chrono_core import (
    Clock,
    Context,
    DaemonError,
    EndOfStream,
    RestartPolicy,
    SimClock,
    Supervisor,
    WallClock,
    open_channel,
)

from .probes import Probe, defy, fail, failing, gone, obey

QUICK = RestartPolicy(base=0.001, cap=0.001, max_retries=2)


@pytest.fixture(params=["wall", "sim"])
def clock(request: pytest.FixtureRequest) -> Clock:
    return WallClock() if request.param == "wall" else SimClock()


# shutdown


@pytest.mark.parametrize("phase", ["on_start", "run", "on_stop"])
async def test_an_error_shuts_down_and_is_raised_in_a_group(phase: str, clock: Clock) -> None:
    """A DaemonError names the daemon and the phase, and keeps the exception as its cause."""
    original = ValueError("boom")
    hook = failing(original)
    probe = {
        "on_start": Probe(on_start=hook),
        "run": Probe(hook),
        "on_stop": Probe(on_stop=hook),
    }[phase]
    with pytest.raises(ExceptionGroup) as caught:
        async with Supervisor(clock=clock) as sup:
            handle = sup.add(probe, name="broken")
    (error,) = caught.value.exceptions
    assert isinstance(error, DaemonError)
    assert (error.daemon, error.phase) == ("broken", phase)
    assert error.__cause__ is original
    assert "broken" in str(error)
    assert phase in str(error)
    assert "boom" in str(error)
    assert handle.health.state == "failed"
    assert handle.health.last_error is original
    assert handle.health.last_error_phase == phase


async def test_shutdown_is_the_default(clock: Clock) -> None:
    """Without a policy, an error is raised."""
    with pytest.RaisesGroup(DaemonError):
        async with Supervisor(clock=clock) as sup:
            sup.add(Probe(fail))


async def test_an_error_stops_the_others_and_interrupts_the_body(clock: Clock) -> None:
    """The body is cancelled where it waits, and the other daemons end with their ``on_stop``."""
    other = Probe(defy)
    reached = False
    with pytest.RaisesGroup(DaemonError):
        async with Supervisor(clock=clock) as sup:
            sup.add(other)
            sup.add(Probe(fail))
            await anyio.Event().wait()
            reached = True
    assert not reached
    assert other.log[-1] == "stopped"


async def test_an_error_interrupts_whoever_drives_the_clock() -> None:
    """Time does not move on after the instant of the error."""
    clock = SimClock()

    async def fail_later(ctx: Context) -> None:
        await ctx.clock.sleep(1)
        raise ValueError("boom")

    with pytest.RaisesGroup(DaemonError):
        async with Supervisor(clock=clock) as sup:
            sup.add(Probe(fail_later))
            await clock.advance(10)
    assert clock.now() == 1


async def test_the_traceback_of_the_original_error_is_kept(clock: Clock) -> None:
    """The report leads to the line that failed."""
    with pytest.raises(ExceptionGroup) as caught:
        async with Supervisor(clock=clock) as sup:
            sup.add(Probe(fail))
    cause = caught.value.exceptions[0].__cause__
    assert cause is not None
    assert traceback.extract_tb(cause.__traceback__)[-1].name == "fail"


async def test_errors_of_several_daemons_are_raised_together(clock: Clock) -> None:
    """A daemon that fails while it is stopped for another's error adds its own."""
    with pytest.raises(ExceptionGroup) as caught:
        async with Supervisor(clock=clock) as sup:
            sup.add(Probe(defy, on_stop=fail), name="second")
            sup.add(Probe(fail), name="first")
    assert [error.daemon for error in caught.value.exceptions] == ["first", "second"]


async def test_an_error_of_the_body_passes_through_as_it_is(clock: Clock) -> None:
    """Where no daemon has failed, the body's exception is not wrapped."""
    original = LookupError("mine")
    with pytest.raises(LookupError) as caught:
        async with Supervisor(clock=clock) as sup:
            sup.add(Probe(defy))
            await sup.wait_all_started()
            raise original
    assert caught.value is original


async def test_an_error_of_the_body_is_raised_with_those_of_daemons(clock: Clock) -> None:
    """Where both have failed, neither hides the other."""
    with pytest.RaisesGroup(LookupError, DaemonError):
        async with Supervisor(clock=clock) as sup:
            sup.add(Probe(defy, on_stop=fail))
            await sup.wait_all_started()
            raise LookupError("mine")


async def test_an_error_after_the_body_has_ended_is_raised(clock: Clock) -> None:
    """The end of the block waits for daemons, and raises what they do."""

    async def fail_later(ctx: Context) -> None:
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        raise ValueError("boom")

    other = Probe(defy)
    with pytest.RaisesGroup(DaemonError):
        async with Supervisor(clock=clock) as sup:
            sup.add(other)
            sup.add(Probe(fail_later))
    assert other.log[-1] == "stopped"


async def test_an_error_keeps_those_behind_from_starting(clock: Clock) -> None:
    """After an error in ``on_start``, the daemons added later do not start."""
    behind = Probe()
    with pytest.RaisesGroup(DaemonError):
        async with Supervisor(clock=clock) as sup:
            sup.add(Probe(on_start=fail))
            sup.add(behind)
    assert behind.log == []


async def test_an_exception_group_of_a_daemon_is_an_error_like_any(clock: Clock) -> None:
    """A group from a daemon's own task group is the cause of its DaemonError."""

    async def fail_in_a_task(ctx: Context) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fail, ctx)

    with pytest.raises(ExceptionGroup) as caught:
        async with Supervisor(clock=clock) as sup:
            sup.add(Probe(fail_in_a_task))
    (error,) = caught.value.exceptions
    assert isinstance(error, DaemonError)
    assert isinstance(error.__cause__, ExceptionGroup)


# ignore


@pytest.mark.parametrize("phase", ["on_start", "run", "on_stop"])
async def test_an_ignored_error_is_logged_and_let_go(
    phase: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Under ``"ignore"``, the daemon ends as stopped, with its error and phase kept."""
    original = ValueError("boom")
    hook = failing(original)
    probe = {
        "on_start": Probe(on_start=hook),
        "run": Probe(hook),
        "on_stop": Probe(on_stop=hook),
    }[phase]
    other = Probe(obey)
    async with Supervisor(clock=clock, on_error="ignore") as sup:
        handle = sup.add(probe, name="broken")
        sup.add(other)
        await handle.wait_stopped()
        await sup.wait_all_started()
        assert other.log == ["start", "run"]
        sup.signal_stop()
    assert handle.health.state == "stopped"
    assert handle.health.last_error is original
    assert handle.health.last_error_phase == phase
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "broken" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is original


# Which policy


async def test_a_daemon_may_have_a_policy_of_its_own(clock: Clock) -> None:
    """``add(on_error=...)`` overrides the supervisor's policy, both ways."""
    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(fail), on_error="ignore")
    with pytest.RaisesGroup(DaemonError):
        async with Supervisor(clock=clock, on_error="ignore") as sup:
            sup.add(Probe(fail), on_error="shutdown")


async def test_a_daemon_may_be_restarted_in_its_own_way(clock: Clock) -> None:
    """``add(on_error="restart", restart=...)`` overrides the supervisor's."""
    with pytest.RaisesGroup(DaemonError):
        async with Supervisor(clock=clock, restart=RestartPolicy(base=3600, cap=3600)) as sup:
            handle = sup.add(Probe(fail), on_error="restart", restart=QUICK)
            await gone(sup, handle)
    assert handle.health.restart_count == 2


@pytest.mark.parametrize("policy", ["shutdwon", "", None, "SHUTDOWN", 3])
def test_a_misspelt_policy_of_a_supervisor_is_refused_at_once(policy: str) -> None:
    """The constructor raises ValueError, and says what there is."""
    with pytest.raises(ValueError, match="shutdown"):
        Supervisor(on_error=policy)


@pytest.mark.parametrize("policy", ["shutdwon", "", "SHUTDOWN", 3])
async def test_a_misspelt_policy_of_a_daemon_is_refused_at_once(policy: str) -> None:
    """``add`` raises ValueError, and hosts nothing."""
    probe = Probe()
    async with Supervisor() as sup:
        with pytest.raises(ValueError, match="shutdown"):
            sup.add(probe, name="a", on_error=policy)
        assert sup.snapshot() == {}
        sup.add(probe, name="a")


@pytest.mark.parametrize("on_exit", ["wiat", "", None, True])
def test_a_misspelt_on_exit_is_refused_at_once(on_exit: str) -> None:
    """The constructor raises ValueError."""
    with pytest.raises(ValueError, match="on_exit"):
        Supervisor(on_exit=on_exit)


def test_a_restart_that_is_no_policy_is_refused_at_once() -> None:
    """A dictionary or a number is no RestartPolicy."""
    with pytest.raises(TypeError, match="RestartPolicy"):
        Supervisor(restart={"base": 1})
    with pytest.raises(TypeError, match="RestartPolicy"):
        Supervisor().add(Probe(), restart=5)


# EndOfStream


async def receive_all(ctx: Context) -> None:
    channel = open_channel[int](name="obs")
    await channel.send.aclose()
    await channel.recv.receive()


async def test_end_of_stream_names_its_channel(clock: Clock) -> None:
    """An EndOfStream that escapes ``run`` says on which channel."""
    with pytest.raises(ExceptionGroup) as caught:
        async with Supervisor(clock=clock) as sup:
            sup.add(Probe(receive_all))
    (error,) = caught.value.exceptions
    assert isinstance(error.__cause__, EndOfStream)
    assert error.__cause__.channel == "obs"
    assert "obs" in str(error)


async def test_end_of_stream_ends_a_daemon_that_would_be_restarted(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Under ``"restart"``, a stream that has ended is no reason to start again."""
    async with Supervisor(clock=clock, on_error="restart") as sup:
        handle = sup.add(Probe(receive_all))
    assert handle.health.state == "stopped"
    assert handle.health.restart_count == 0
    assert isinstance(handle.health.last_error, EndOfStream)
    assert "obs" in caplog.text


# What passes through


@pytest.mark.parametrize("phase", ["on_start", "run", "on_stop"])
@pytest.mark.parametrize("policy", ["shutdown", "restart", "ignore"])
@pytest.mark.parametrize("make", [KeyboardInterrupt, lambda: SystemExit(3)])
async def test_what_ends_the_program_passes_through_every_policy(
    make: Callable[[], BaseException], policy: str, phase: str, clock: Clock
) -> None:
    """``KeyboardInterrupt`` and ``SystemExit`` leave the block alone, as they are."""
    original = make()
    hook = failing(original)
    other = Probe(defy, on_stop=fail)
    probe = {
        "on_start": Probe(on_start=hook),
        "run": Probe(hook),
        "on_stop": Probe(on_stop=hook),
    }[phase]
    with pytest.raises(type(original)) as caught:
        async with Supervisor(clock=clock, on_error=policy) as sup:
            sup.add(other)
            sup.add(probe)
            await anyio.Event().wait()
    assert caught.value is original
    assert other.log == ["start", "run", "stop"]


@pytest.mark.parametrize("make", [KeyboardInterrupt, lambda: SystemExit(3)])
async def test_what_ends_the_program_passes_through_from_the_body(
    make: Callable[[], BaseException], clock: Clock
) -> None:
    """A daemon's error on the way out does not replace a KeyboardInterrupt of the body."""
    original = make()
    with pytest.raises(type(original)) as caught:
        async with Supervisor(clock=clock) as sup:
            sup.add(Probe(defy, on_stop=fail))
            await sup.wait_all_started()
            raise original
    assert caught.value is original


async def test_an_interrupt_reaches_the_outermost_block_alone(clock: Clock) -> None:
    """Two nested blocks in one task do not wrap a KeyboardInterrupt either."""
    outer = Probe(defy)
    with pytest.raises(KeyboardInterrupt):
        async with Supervisor(clock=clock) as outside:
            outside.add(outer)
            await outside.wait_all_started()
            async with Supervisor(clock=clock) as inside:
                inside.add(Probe(failing(KeyboardInterrupt())))
    assert outer.log[-1] == "stopped"


# A daemon's own cancellation


@pytest.mark.parametrize("phase", ["on_start", "run"])
async def test_a_daemon_that_cancels_itself_touches_nobody_else(phase: str, clock: Clock) -> None:
    """The scope of a daemon ends it, not the block, the body or the daemons behind it."""

    async def cancel(ctx: Context) -> None:
        ctx.cancel_scope.cancel()
        await anyio.Event().wait()

    before, behind = Probe(obey), Probe(obey)
    async with Supervisor(clock=clock) as sup:
        sup.add(before)
        handle = sup.add(Probe(cancel) if phase == "run" else Probe(on_start=cancel))
        sup.add(behind)
        await handle.wait_stopped()
        await sup.wait_all_started()
        assert handle.health.state == "stopped"
        assert handle.health.last_error is None
        assert before.log == behind.log == ["start", "run"]
        assert await sup.stop() == []
