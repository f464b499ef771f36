"""Stopping: who is told, who is forced, in which order, and from where one may ask for it."""

import math
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import anyio
import anyio.to_thread
import chrono_core
import pytest
from chrono_core import (
    Clock,
    Context,
    DaemonError,
    RestartPolicy,
    SimClock,
    Supervisor,
    WallClock,
)

from .probes import Probe, defy, fail, obey

LONG = RestartPolicy(base=3600, factor=1, cap=3600)


@pytest.fixture(params=["wall", "sim"])
def clock(request: pytest.FixtureRequest) -> Clock:
    return WallClock() if request.param == "wall" else SimClock()


@contextmanager
def handler(supervisor: Supervisor) -> Iterator[None]:
    """Tell the supervisor to stop when SIGTERM comes."""
    before = signal.signal(signal.SIGTERM, lambda *_: supervisor.signal_stop())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


async def stop(ctx: Context) -> None:
    """Stop everything."""
    await ctx.supervisor.stop()


# Whom, and in which order


async def test_stop_returns_the_names_of_those_it_forced(clock: Clock) -> None:
    """Daemons that obey are not named; those that had to be cancelled are, last one first."""
    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(defy, name="a"))
        sup.add(Probe(obey, name="b"))
        sup.add(Probe(defy, name="c"))
        await sup.wait_all_started()
        assert await sup.stop(grace=0.01) == ["c", "a"]


async def test_stop_without_daemons_forces_nobody(clock: Clock) -> None:
    """A supervisor that hosts nothing stops at once."""
    async with Supervisor(clock=clock) as sup:
        assert await sup.stop() == []


async def test_a_forced_stop_is_in_reverse_one_after_another(clock: Clock) -> None:
    """Each daemon is gone, its ``on_stop`` over, before the one started before it is cancelled."""
    log: list[str] = []

    async def linger(ctx: Context) -> None:
        for _ in range(5):
            await anyio.lowlevel.checkpoint()

    async with Supervisor(clock=clock) as sup:
        for name in "abc":
            sup.add(Probe(defy, on_stop=linger, name=name, log=log))
        await sup.wait_all_started()
        log.clear()
        await sup.stop(grace=0)
    assert log == [f"{name} {event}" for name in "cba" for event in ("stop", "stopped")]


@pytest.mark.parametrize("ending", ["error", "cancellation", "daemon"])
async def test_a_broken_block_stops_in_reverse_one_after_another(ending: str, clock: Clock) -> None:
    """However the block breaks, its daemons go in the reverse order of their start."""
    log: list[str] = []
    trigger = anyio.Event()

    async def linger(ctx: Context) -> None:
        for _ in range(5):
            await anyio.lowlevel.checkpoint()

    async def fail_later(ctx: Context) -> None:
        await trigger.wait()
        raise ValueError("boom")

    async def host() -> None:
        async with Supervisor(clock=clock) as sup:
            for name in "abc":
                sup.add(Probe(defy, on_stop=linger, name=name, log=log))
            sup.add(Probe(fail_later))
            await sup.wait_all_started()
            log.clear()
            if ending == "error":
                raise LookupError
            if ending == "cancellation":
                scope.cancel()
            trigger.set()
            await anyio.Event().wait()

    with anyio.CancelScope() as scope:
        try:
            await host()
        except (LookupError, ExceptionGroup):
            pass
    assert log == [f"{name} {event}" for name in "cba" for event in ("stop", "stopped")]


async def test_every_daemon_is_told_before_any_is_forced(clock: Clock) -> None:
    """A daemon that obeys is not waited for behind one that does not."""
    log: list[str] = []
    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(obey, name="a", log=log))
        sup.add(Probe(defy, name="b", log=log))
        await sup.wait_all_started()
        await sup.stop(grace=0.01)
    assert log.index("a stopped") < log.index("b stop")


async def test_grace_under_a_simulated_clock_is_whatever_needs_no_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A daemon that takes many rounds to end, but no time, is not forced, nor complained of."""

    async def end_slowly(ctx: Context) -> None:
        await ctx.stop_event.wait()
        for _ in range(1000):
            await anyio.lowlevel.checkpoint()

    clock = SimClock()
    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(end_slowly))
        await sup.wait_all_started()
        assert await sup.stop() == []
        assert clock.now() == 0
    assert caplog.records == []


async def test_grace_under_a_simulated_clock_does_not_wait_for_time() -> None:
    """A daemon that needs time to pass is forced, and time stays where it is."""

    async def end_later(ctx: Context) -> None:
        await ctx.stop_event.wait()
        await ctx.clock.sleep(1)

    clock = SimClock()
    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(end_later, name="late"))
        await sup.wait_all_started()
        assert await sup.stop(grace=3600) == ["late"]
        assert clock.now() == 0


async def test_a_grace_that_is_long_enough_is_not_used_up() -> None:
    """``stop`` returns as soon as the last daemon is gone, even of an endless grace."""
    async with Supervisor() as sup:
        sup.add(Probe(obey))
        await sup.wait_all_started()
        assert await sup.stop(grace=math.inf) == []


async def test_stop_in_on_start_forces_the_daemon(clock: Clock) -> None:
    """A daemon that hangs in ``on_start`` is cancelled; who waits for its turn needs no force."""
    entered = anyio.Event()

    async def hang(ctx: Context) -> None:
        entered.set()
        await anyio.Event().wait()

    behind = Probe()
    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(on_start=hang, name="hanging"))
        sup.add(behind)
        await entered.wait()
        assert await sup.stop(grace=0.01) == ["hanging"]
    assert behind.log == []


# From where


async def test_code_after_stop_in_the_block_runs(clock: Clock) -> None:
    """Every daemon is gone when ``stop`` returns, and the body goes on."""
    async with Supervisor(clock=clock) as sup:
        handles = [sup.add(Probe(obey)), sup.add(Probe(defy))]
        await sup.wait_all_started()
        await sup.stop(grace=0.01)
        assert [handle.health.state for handle in handles] == ["stopped", "stopped"]
        await anyio.lowlevel.checkpoint()
        reached = True
    assert reached


async def test_code_after_stop_runs_where_a_daemon_fails_meanwhile(clock: Clock) -> None:
    """An error during a stop is raised at the end of the block, not in its midst."""

    async def fail_at_the_end(ctx: Context) -> None:
        await ctx.stop_event.wait()
        raise ValueError("boom")

    reached = False
    with pytest.RaisesGroup(DaemonError):
        async with Supervisor(clock=clock) as sup:
            sup.add(Probe(fail_at_the_end))
            await sup.wait_all_started()
            await sup.stop()
            await anyio.lowlevel.checkpoint()
            reached = True
    assert reached


async def test_stop_works_from_inside_a_daemon(clock: Clock) -> None:
    """A daemon that stops everything is not waited for, and goes on after it."""
    log: list[str] = []

    async def stop_all(ctx: Context) -> None:
        log.append(str(await ctx.supervisor.stop(grace=0.01)))
        log.append("stopping" if ctx.stopping else "running")

    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(defy, name="a", log=log))
        sup.add(Probe(obey, name="c", log=log))
        sup.add(Probe(stop_all, name="b", log=log))
    assert log[-4:] == ["['a']", "stopping", "b stop", "b stopped"]
    assert "c stopped" in log


async def test_stop_works_from_a_task_of_a_daemon(clock: Clock) -> None:
    """The daemon that a task belongs to is not waited for either."""
    log: list[str] = []

    async def stop_in_a_task(ctx: Context) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ctx.supervisor.stop)
        log.append("after")

    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(obey))
        sup.add(Probe(stop_in_a_task))
    assert log == ["after"]


async def test_stop_works_from_on_stop(clock: Clock) -> None:
    """A daemon may take everything down with it in its ``on_stop``."""
    other = Probe(obey)
    async with Supervisor(clock=clock) as sup:
        sup.add(other)
        sup.add(Probe(on_stop=stop))
    assert other.log[-1] == "stopped"


async def test_stop_works_from_on_start(clock: Clock) -> None:
    """A daemon may take everything down while it comes up; nobody behind it holds that up."""
    forced = []

    async def stop_all(ctx: Context) -> None:
        forced.append(await ctx.supervisor.stop(grace=0.05))

    other = Probe(obey)
    async with Supervisor(clock=clock) as sup:
        sup.add(other)
        sup.add(Probe(obey, on_start=stop_all))
        handle = sup.add(Probe())
    assert forced == [[]]
    assert other.log[-1] == "stopped"
    assert handle.health.started_at is None


async def test_two_daemons_may_stop_everything_at_once(clock: Clock) -> None:
    """Daemons that stop everything at the same time do not wait for each other."""
    forced = []
    trigger = anyio.Event()

    async def stop_all(ctx: Context) -> None:
        await trigger.wait()
        forced.append(await ctx.supervisor.stop())

    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(obey))
        sup.add(Probe(stop_all))
        sup.add(Probe(stop_all))
        await sup.wait_all_started()
        trigger.set()
    assert forced == [[], []]


async def test_the_body_and_a_daemon_may_stop_everything_at_once(clock: Clock) -> None:
    """A daemon that is only waiting for its own stop to be over is not forced by the body's."""
    reached = []

    async def stop_when_told(ctx: Context) -> None:
        await ctx.stop_event.wait()
        await ctx.supervisor.stop()
        reached.append("daemon")

    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(obey))
        sup.add(Probe(stop_when_told))
        await sup.wait_all_started()
        assert await sup.stop() == []
        reached.append("body")
    assert reached == ["daemon", "body"]


async def test_a_daemon_may_stop_everything_just_before_the_body_does(clock: Clock) -> None:
    """It does not matter who of the two asked first."""
    reached = []

    async def stop_all(ctx: Context) -> None:
        await ctx.supervisor.stop()
        reached.append("daemon")

    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(obey))
        handle = sup.add(Probe(stop_all))
        await handle.wait_started()
        assert await sup.stop() == []
    assert reached == ["daemon"]


async def test_a_stop_by_two_tasks_of_one_daemon_leaves_the_others_their_grace() -> None:
    """Calling ``stop`` twice at once in one daemon takes nothing away from the others."""
    forced = []

    async def call(supervisor: Supervisor) -> None:
        forced.append(await supervisor.stop())

    async def stop_twice(ctx: Context) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, ctx.supervisor)
            tasks.start_soon(call, ctx.supervisor)

    async def end_slowly(ctx: Context) -> None:
        await ctx.stop_event.wait()
        for _ in range(20):
            await anyio.lowlevel.checkpoint()

    async with Supervisor() as sup:
        sup.add(Probe(end_slowly))
        sup.add(Probe(stop_twice))
    assert forced == [[], []]


async def test_a_stop_of_everything_includes_who_is_busy_stopping_another(clock: Clock) -> None:
    """A daemon that stops one other daemon is itself stopped by a daemon that stops all."""
    forced = []
    busy_state = []

    async def stop_one(ctx: Context) -> None:
        await stubborn.stop(grace=1000)
        await anyio.Event().wait()

    async def stop_all(ctx: Context) -> None:
        forced.extend(await ctx.supervisor.stop(grace=0.01))
        busy_state.append(busy.health.state)

    async with Supervisor(clock=clock) as sup:
        stubborn = sup.add(Probe(defy, name="stubborn"))
        busy = sup.add(Probe(stop_one, name="busy"))
        await sup.wait_all_started()
        await anyio.lowlevel.checkpoint()
        last = sup.add(Probe(stop_all, name="last"))
        await last.wait_stopped()
        await busy.stop(grace=0)
    assert busy_state == ["stopped"]
    assert "busy" in forced


async def test_stopping_twice_is_fine(clock: Clock) -> None:
    """A second stop finds nothing left to do."""
    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(defy, name="a"))
        await sup.wait_all_started()
        assert await sup.stop(grace=0) == ["a"]
        assert await sup.stop() == []


async def test_two_tasks_may_stop_at_once(clock: Clock) -> None:
    """Both return when everything is gone, and each daemon is stopped once."""
    probe = Probe(defy)

    async with Supervisor(clock=clock) as sup:
        handle = sup.add(probe)
        await sup.wait_all_started()

        async def stop_and_look() -> None:
            await sup.stop(grace=0.01)
            assert handle.health.stopped_at is not None

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stop_and_look)
            tasks.start_soon(stop_and_look)
    assert probe.log.count("stop") == 1


async def test_a_stop_before_entry_is_remembered(clock: Clock) -> None:
    """Nothing starts, and the block ends at once."""
    probe = Probe(defy)
    sup = Supervisor(clock=clock)
    sup.add(probe)
    assert await sup.stop() == []
    async with sup:
        assert sup.stop_event.is_set()
    assert probe.log == []


def test_a_signal_before_any_event_loop_runs_is_remembered() -> None:
    """``signal_stop`` may come before there is an event loop."""
    probe = Probe(defy)
    sup = Supervisor()
    sup.add(probe)
    sup.signal_stop()

    async def main() -> None:
        async with sup:
            pass

    anyio.run(main)
    assert probe.log == []


async def test_stopping_after_the_block_is_fine(clock: Clock) -> None:
    """After the block has ended there is nothing to do, and no error."""
    async with Supervisor(clock=clock) as sup:
        sup.add(Probe())
    assert await sup.stop() == []
    sup.signal_stop()


async def test_stop_works_after_the_body_has_ended(clock: Clock) -> None:
    """Another task may stop the daemons that the end of the block waits for."""
    probe = Probe(obey)
    sup = Supervisor(clock=clock)

    async def stop_later() -> None:
        await started.wait()
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        await sup.stop()

    started = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop_later)
        async with sup:
            sup.add(probe)
            await sup.wait_all_started()
            started.set()
    assert probe.log[-1] == "stopped"


async def test_a_daemon_may_stop_everything_after_the_body_has_ended(clock: Clock) -> None:
    """The block ends when one of its daemons says so."""
    probe = Probe(obey)
    async with Supervisor(clock=clock) as sup:
        sup.add(probe)
        sup.add(Probe(stop))
    assert probe.log[-1] == "stopped"


async def test_a_stop_that_is_cancelled_can_be_repeated(clock: Clock) -> None:
    """Cancelling ``stop`` loses no daemon: the next one finishes the work."""
    probe = Probe(defy, name="a")
    async with Supervisor(clock=clock) as sup:
        sup.add(probe)
        await sup.wait_all_started()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await sup.stop()
        assert scope.cancelled_caught
        await sup.stop(grace=0)
        assert probe.log[-1] == "stopped"


# One daemon


async def test_a_handle_stops_its_daemon_alone(clock: Clock) -> None:
    """``handle.stop`` returns when that daemon is gone; the others run on."""
    async with Supervisor(clock=clock) as sup:
        one, other = sup.add(Probe(obey)), sup.add(Probe(obey))
        await sup.wait_all_started()
        await one.stop()
        assert (one.health.state, other.health.state) == ("stopped", "running")
        assert not sup.stop_event.is_set()
        await sup.stop()


async def test_a_handle_forces_its_daemon(clock: Clock) -> None:
    """A daemon that defies ``handle.stop`` is cancelled after the grace."""
    probe = Probe(defy)
    async with Supervisor(clock=clock) as sup:
        handle = sup.add(probe)
        await sup.wait_all_started()
        await handle.stop(grace=0.01)
        assert probe.log[-1] == "stopped"


async def test_a_daemon_may_stop_itself_by_its_handle(clock: Clock) -> None:
    """Called inside the daemon, ``handle.stop`` only tells it to stop."""
    seen = []

    async def stop_myself(ctx: Context) -> None:
        await handle.stop()
        seen.append(ctx.stopping)

    async with Supervisor(clock=clock) as sup:
        handle = sup.add(Probe(stop_myself))
    assert seen == [True]


async def test_a_daemon_may_stop_another(clock: Clock) -> None:
    """``handle.stop`` works from inside another daemon."""
    states = []

    async def stop_other(ctx: Context) -> None:
        await other.stop()
        states.append(other.health.state)

    async with Supervisor(clock=clock) as sup:
        other = sup.add(Probe(obey))
        await sup.wait_all_started()
        sup.add(Probe(stop_other))
    assert states == ["stopped"]


async def test_stopping_a_daemon_that_is_gone_is_fine(clock: Clock) -> None:
    """``handle.stop`` of a daemon that has ended returns at once."""
    async with Supervisor(clock=clock) as sup:
        handle = sup.add(Probe())
        await handle.wait_stopped()
        await handle.stop()
    await handle.stop()


async def test_the_context_says_that_it_is_stopping(clock: Clock) -> None:
    """``stopping`` and ``stop_event`` of the context turn with the signal, not before."""
    seen = []

    async def watch(ctx: Context) -> None:
        seen.append((ctx.stopping, ctx.stop_event.is_set()))
        await ctx.stop_event.wait()
        seen.append((ctx.stopping, ctx.stop_event.is_set()))

    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(watch))
        await sup.wait_all_started()
        sup.signal_stop()
    assert seen == [(False, False), (True, True)]


# Signals and threads


async def test_signal_stop_wakes_who_waits_for_the_event_of_the_supervisor(clock: Clock) -> None:
    """The supervisor's own ``stop_event`` can be waited for."""
    woken = []
    async with Supervisor(clock=clock) as sup:

        async def wait() -> None:
            await sup.stop_event.wait()
            woken.append(True)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.lowlevel.checkpoint()
            assert not sup.stop_event.is_set()
            sup.signal_stop()
    assert woken == [True]


async def test_signal_stop_ends_a_backoff(clock: Clock) -> None:
    """A daemon that waits to be restarted ends instead, without a restart."""
    async with Supervisor(clock=clock, on_error="restart", restart=LONG) as sup:
        handle = sup.add(Probe(fail))
        while handle.health.state != "restarting":
            await anyio.lowlevel.checkpoint()
        sup.signal_stop()
        await handle.wait_stopped()
        assert handle.health.restart_count == 0
        assert isinstance(handle.health.last_error, ValueError)


async def test_stop_ends_a_backoff_without_force(clock: Clock) -> None:
    """Who waits to be restarted need not be cancelled."""
    async with Supervisor(clock=clock, on_error="restart", restart=LONG) as sup:
        handle = sup.add(Probe(fail))
        while handle.health.state != "restarting":
            await anyio.lowlevel.checkpoint()
        assert await sup.stop() == []


async def test_a_handle_ends_a_backoff(clock: Clock) -> None:
    """``handle.stop`` ends the wait of its daemon for a restart."""
    async with Supervisor(clock=clock, on_error="restart", restart=LONG) as sup:
        handle = sup.add(Probe(fail))
        while handle.health.state != "restarting":
            await anyio.lowlevel.checkpoint()
        await handle.stop()
        assert handle.health.restart_count == 0
        assert handle.health.stopped_at is not None


async def test_signal_stop_works_from_another_thread(clock: Clock) -> None:
    """A worker thread may tell the supervisor to stop."""
    probe = Probe(obey)
    async with Supervisor(clock=clock) as sup:
        sup.add(probe)
        await sup.wait_all_started()
        await anyio.to_thread.run_sync(sup.signal_stop)
    assert probe.log[-1] == "stopped"


async def test_signal_stop_works_from_a_thread_that_knows_no_event_loop() -> None:
    """So may a thread that has nothing to do with the event loop, while the loop sleeps."""
    probe = Probe(obey)
    async with Supervisor() as sup:
        sup.add(probe)
        await sup.wait_all_started()
        thread = threading.Thread(target=sup.signal_stop)
        thread.start()
    thread.join()
    assert probe.log[-1] == "stopped"


async def test_signal_stop_from_another_thread_ends_a_backoff() -> None:
    """The wait for a restart ends for a thread's signal too."""
    async with Supervisor(on_error="restart", restart=LONG) as sup:
        handle = sup.add(Probe(fail))
        while handle.health.state != "restarting":
            await anyio.lowlevel.checkpoint()
        await anyio.to_thread.run_sync(sup.signal_stop)
    assert handle.health.restart_count == 0


async def test_signal_stop_works_from_a_signal_handler(clock: Clock) -> None:
    """A handler that runs in the midst of a task may tell the supervisor to stop."""
    probe = Probe(obey)
    async with Supervisor(clock=clock) as sup:
        sup.add(probe)
        await sup.wait_all_started()
        with handler(sup):
            signal.raise_signal(signal.SIGTERM)
    assert probe.log[-1] == "stopped"


async def test_signal_stop_works_from_a_signal_handler_in_a_backoff(clock: Clock) -> None:
    """A handler ends the wait for a restart."""
    async with Supervisor(clock=clock, on_error="restart", restart=LONG) as sup:
        handle = sup.add(Probe(fail))
        while handle.health.state != "restarting":
            await anyio.lowlevel.checkpoint()
        with handler(sup):
            signal.raise_signal(signal.SIGTERM)
            await handle.wait_stopped()
    assert handle.health.restart_count == 0


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs pthread_kill")
async def test_signal_stop_works_from_a_signal_handler_while_the_loop_sleeps() -> None:
    """A signal that comes while nothing runs wakes the daemons."""
    probe = Probe(obey)
    main = threading.main_thread().ident
    assert main is not None
    async with Supervisor() as sup:
        sup.add(probe)
        await sup.wait_all_started()
        with handler(sup):
            await anyio.to_thread.run_sync(signal.pthread_kill, main, signal.SIGTERM)
            await sup.stop_event.wait()
    assert probe.log[-1] == "stopped"


async def test_a_signal_at_any_line_reaches_a_daemon_that_is_about_to_wait() -> None:
    """Whenever the handler interrupts the way into ``stop_event.wait()``, the wait ends."""
    package = chrono_core.__name__
    line = 0
    while True:
        line += 1
        interrupted = False
        countdown = line

        def trace(frame: FrameType, event: str, arg: object) -> object:
            nonlocal countdown, interrupted
            if not frame.f_globals.get("__name__", "").startswith(package):
                return None
            if event == "line":
                countdown -= 1
                if countdown == 0:
                    interrupted = True
                    sys.settrace(None)
                    signal.raise_signal(signal.SIGTERM)
            return trace

        async def wait(ctx: Context) -> None:
            before = sys.gettrace()
            waiting = ctx.stop_event.wait()
            sys.settrace(trace)
            try:
                await waiting
            finally:
                sys.settrace(before)

        async def end_the_trace() -> None:
            for _ in range(3):
                await anyio.lowlevel.checkpoint()
            sys.settrace(None)

        async with Supervisor() as sup:
            with handler(sup):
                sup.add(Probe(wait))
                await end_the_trace()
                for _ in range(3):
                    await anyio.lowlevel.checkpoint()
                if interrupted:
                    forced = await sup.stop(grace=0.01)
                    assert forced == [], f"lost at line {line}"
                else:
                    await sup.stop()
        if not interrupted:
            break
    assert line > 3


# Arguments


@pytest.mark.parametrize("value", [-1, math.nan, -math.inf])
@pytest.mark.parametrize("name", ["grace", "finalize_timeout"])
async def test_stop_refuses_a_time_that_makes_no_sense(
    name: str, value: float, clock: Clock
) -> None:
    """A negative time and NaN are refused by the call itself, and nothing is stopped."""
    async with Supervisor(clock=clock) as sup:
        handle = sup.add(Probe(obey))
        await sup.wait_all_started()
        with pytest.raises(ValueError, match=name):
            sup.stop(**{name: value})
        with pytest.raises(ValueError, match=name):
            handle.stop(**{name: value})
        assert not sup.stop_event.is_set()
        assert handle.health.state == "running"
        await sup.stop()


# The end of the block


async def test_the_end_of_the_block_waits_for_its_daemons(clock: Clock) -> None:
    """With ``on_exit="wait"``, nobody is told to stop at the end of the block."""
    seen = []

    async def work(ctx: Context) -> None:
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        seen.append(ctx.stopping)

    async with Supervisor(clock=clock, on_exit="wait") as sup:
        sup.add(Probe(work))
    assert seen == [False]


async def test_the_end_of_the_block_stops_its_daemons_where_it_is_told_to(clock: Clock) -> None:
    """With ``on_exit="stop"``, the end of the block stops everybody, with grace."""
    probe = Probe(obey)
    async with Supervisor(clock=clock, on_exit="stop") as sup:
        handle = sup.add(probe)
        await sup.wait_all_started()
    assert sup.stop_event.is_set()
    assert handle.health.state == "stopped"


async def test_waiting_is_what_the_end_of_the_block_does_by_default(clock: Clock) -> None:
    """Without ``on_exit``, the end of the block waits."""
    seen = []

    async def work(ctx: Context) -> None:
        await anyio.lowlevel.checkpoint()
        seen.append(ctx.stopping)

    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(work))
    assert seen == [False]


async def test_an_error_ends_a_block_whose_daemon_is_stopping_everything(clock: Clock) -> None:
    """A daemon's error is raised, though the body waits and the stop came from another daemon."""

    async def fail_at_the_end(ctx: Context) -> None:
        await ctx.stop_event.wait()
        raise ValueError("boom")

    with anyio.CancelScope() as scope:
        with pytest.RaisesGroup(DaemonError):
            async with Supervisor(clock=clock) as sup:
                sup.add(Probe(fail_at_the_end))
                sup.add(Probe(stop))

                async def give_up() -> None:
                    await last.wait_stopped()
                    for _ in range(20):
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()

                last = sup.add(Probe(obey))
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(give_up)
                    await anyio.Event().wait()
    assert not scope.cancel_called
