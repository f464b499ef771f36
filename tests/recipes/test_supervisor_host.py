"""A supervisor in somebody else's task group: starting, stopping, and what is seen of a crash."""

import anyio
import anyio.abc
import pytest
from chrono_core import (
    Clock,
    Context,
    DaemonError,
    SimClock,
    SimulationStalled,
    Supervisor,
    WallClock,
    open_channel,
)
from chrono_core.lowlevel import Event
from chrono_core.testing import Trace, assert_one_trace, collect, feed
from chrono_recipes._supervisor_host import SupervisorHost

from tests.core.probes import Probe, defy, fail, failing, obey
from tests.core.scheduling import rounds, until

BOOM = ValueError("boom")


@pytest.fixture(params=["wall", "sim"])
def clock(request: pytest.FixtureRequest) -> Clock:
    return WallClock() if request.param == "wall" else SimClock()


def ended(host: SupervisorHost) -> bool:
    """Whether every daemon is gone for good."""
    return all(health.stopped_at is not None for health in host.snapshot().values())


def the_daemon_error(group: BaseExceptionGroup[BaseException]) -> DaemonError:
    """The one error in a group of groups."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        assert len(error.exceptions) == 1
        error = error.exceptions[0]
    assert isinstance(error, DaemonError)
    return error


# Starting


async def test_start_returns_when_all_daemons_have_come_up(clock: Clock) -> None:
    """However long an ``on_start`` takes, it is over when ``start`` returns."""

    async def slowly(ctx: Context) -> None:
        await rounds(30)

    sup = Supervisor(clock=clock)
    probes = [Probe(obey, on_start=slowly) for _ in range(3)]
    for probe in probes:
        sup.add(probe)
    host = SupervisorHost(sup)
    async with anyio.create_task_group() as tasks:
        assert await host.start(tasks) == []
        assert [probe.log[0] for probe in probes] == ["start"] * 3
        await host.stop()


async def test_daemons_can_be_added_after_the_start_and_after_others_have_ended(
    clock: Clock,
) -> None:
    """The supervisor stays open until it is told to stop."""
    host = SupervisorHost(Supervisor(clock=clock))
    async with anyio.create_task_group() as tasks:
        await host.start(tasks)
        await host.supervisor.add(Probe()).wait_stopped()
        late = Probe(obey)
        await host.supervisor.add(late).wait_started()
        await host.stop()
    assert late.log[-1] == "stopped"


async def test_a_failing_on_start_is_raised_by_start_and_nowhere_else(clock: Clock) -> None:
    """The task group goes on, and the daemons that had come up are gone."""
    sup = Supervisor(clock=clock)
    first = Probe(defy, name="first")
    sup.add(first)
    sup.add(Probe(on_start=failing(BOOM), name="bad"))
    host = SupervisorHost(sup)
    async with anyio.create_task_group() as tasks:
        with pytest.raises(DaemonError, match="'bad' failed in on_start") as caught:
            await host.start(tasks)
        assert caught.value.__cause__ is BOOM
        assert first.log[-1] == "stopped"
        assert isinstance(host.error, ExceptionGroup)
        await rounds()
        assert not tasks.cancel_scope.cancel_called
        assert await host.stop() == []


async def test_a_daemon_that_crashes_while_others_start_is_raised_by_start(clock: Clock) -> None:
    """Also an error of ``run``, and also where another ``on_start`` would never return."""
    sup = Supervisor(clock=clock)
    sup.add(Probe(failing(BOOM), name="up"))
    sup.add(Probe(on_start=defy))
    host = SupervisorHost(sup)
    async with anyio.create_task_group() as tasks:
        with pytest.raises(DaemonError, match="'up' failed in run"):
            await host.start(tasks)


async def test_errors_that_come_with_a_failed_start_are_noted(clock: Clock) -> None:
    """Start raises the first error; what failed as the others were stopped is not lost."""
    sup = Supervisor(clock=clock)
    sup.add(Probe(defy, on_stop=fail, name="untidy"))
    sup.add(Probe(on_start=failing(BOOM), name="bad"))
    host = SupervisorHost(sup)
    async with anyio.create_task_group() as tasks:
        with pytest.raises(DaemonError, match="'bad' failed in on_start") as caught:
            await host.start(tasks)
    assert caught.value.__notes__ == ["then: daemon 'untidy' failed in on_stop: ValueError: boom"]
    assert isinstance(host.error, ExceptionGroup)
    assert len(host.error.exceptions) == 2


async def test_a_failed_start_that_the_policy_lets_go_is_named(clock: Clock) -> None:
    """Under "ignore", start succeeds and says who is missing."""
    sup = Supervisor(clock=clock, on_error="ignore")
    sup.add(Probe(on_start=fail, name="bad"))
    sup.add(Probe(obey, name="good"))
    host = SupervisorHost(sup)
    async with anyio.create_task_group() as tasks:
        assert await host.start(tasks) == ["bad"]
        await host.stop()
    assert host.error is None


async def test_what_ends_the_program_is_raised_by_start(clock: Clock) -> None:
    """A daemon's ``SystemExit`` passes through alone."""
    sup = Supervisor(clock=clock)
    sup.add(Probe(on_start=failing(SystemExit(3))))
    host = SupervisorHost(sup)
    async with anyio.create_task_group() as tasks:
        with pytest.raises(SystemExit):
            await host.start(tasks)
    assert isinstance(host.error, SystemExit)


async def test_a_start_that_needs_simulated_time_is_refused() -> None:
    """Nobody drives the clock, so the start fails instead of hanging."""

    async def sleep(ctx: Context) -> None:
        await ctx.clock.sleep(1)

    sup = Supervisor(clock=SimClock())
    sup.add(Probe(on_start=sleep))
    host = SupervisorHost(sup)
    async with anyio.create_task_group() as tasks:
        with pytest.raises(SimulationStalled, match="has not come up"):
            await host.start(tasks)
    assert ended(host)


async def test_a_start_under_a_driven_clock_may_take_simulated_time() -> None:
    """Somebody else drives the clock meanwhile."""
    clock = SimClock()

    async def sleep(ctx: Context) -> None:
        await ctx.clock.sleep(1)

    sup = Supervisor(clock=clock)
    sup.add(Probe(obey, on_start=sleep))
    host = SupervisorHost(sup)
    async with anyio.create_task_group() as tasks:
        await clock.run_until(host.start(tasks), limit=10)
        assert clock.now() == 1
        await host.stop()


async def test_cancelling_start_leaves_nothing_running(clock: Clock) -> None:
    """The daemons are gone when the cancellation comes out of start; the task group goes on."""
    sup = Supervisor(clock=clock)
    first = Probe(defy)
    reached = Event("the test")

    async def hang(ctx: Context) -> None:
        reached.set()
        await anyio.Event().wait()

    sup.add(first)
    sup.add(Probe(on_start=hang))
    host = SupervisorHost(sup)
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:

            async def cancel() -> None:
                await reached.wait()
                scope.cancel()

            tasks.start_soon(cancel)
            await host.start(tasks)
        assert scope.cancelled_caught
        assert first.log[-1] == "stopped"
        assert ended(host)
        assert not tasks.cancel_scope.cancel_called
    assert host.error is None


async def test_a_daemon_that_fails_as_start_is_cancelled_is_raised_by_start() -> None:
    """Instead of the cancellation, so that it is not lost."""
    sup = Supervisor()
    sup.add(Probe(defy, on_stop=failing(BOOM), name="untidy"))
    sup.add(Probe(on_start=defy))
    host = SupervisorHost(sup)
    async with anyio.create_task_group() as tasks:
        with pytest.raises(DaemonError, match="'untidy' failed in on_stop"):
            with anyio.move_on_after(0.01):
                await host.start(tasks)


async def test_start_fails_when_the_task_group_is_cancelled_meanwhile() -> None:
    """Whoever starts it from outside is told, and does not hang."""
    sup = Supervisor()
    sup.add(Probe(on_start=defy))
    host = SupervisorHost(sup)
    async with anyio.create_task_group() as outer:
        raised: list[BaseException] = []
        async with anyio.create_task_group() as tasks:

            async def start() -> None:
                try:
                    await host.start(tasks)
                except RuntimeError as error:
                    raised.append(error)

            outer.start_soon(start)
            await until(lambda: host.snapshot()[next(iter(host.snapshot()))].waiting_on)
            tasks.cancel_scope.cancel()
    assert [str(error)[:28] for error in raised] == ["the task group was cancelled"]


async def test_a_host_is_started_once() -> None:
    """A second start is refused, and does no harm to the first."""
    sup = Supervisor()
    sup.add(Probe(obey))
    host = SupervisorHost(sup)
    async with anyio.create_task_group() as tasks:
        await host.start(tasks)
        with pytest.raises(RuntimeError, match="was started already"):
            await host.start(tasks)
        assert not ended(host)
        await host.stop()
        with pytest.raises(RuntimeError, match="was started already"):
            await host.start(tasks)


async def test_a_supervisor_that_was_entered_is_refused() -> None:
    """The refusal of the supervisor comes out of start."""
    async with Supervisor() as sup:
        host = SupervisorHost(sup)
        async with anyio.create_task_group() as tasks:
            with pytest.raises(RuntimeError, match="entered once"):
                await host.start(tasks)


async def test_what_cannot_be_hosted_or_hosted_in_is_refused() -> None:
    """The messages say what is needed."""
    with pytest.raises(TypeError, match="must be a Supervisor, got 7"):
        SupervisorHost(7)  # type: ignore[arg-type]
    host = SupervisorHost(Supervisor())
    with pytest.raises(TypeError, match="task group of anyio's, got None"):
        await host.start(None)  # type: ignore[arg-type]
    async with anyio.create_task_group() as tasks:
        pass
    with pytest.raises(RuntimeError, match="not active"):
        await host.start(tasks)
    async with anyio.create_task_group() as tasks:
        await host.start(tasks)  # what was refused has not started it
        await host.stop()


# Stopping


async def test_stop_is_graceful_and_waits_for_the_end(clock: Clock) -> None:
    """A daemon that obeys has its time, and all of it is over when stop returns."""

    async def obey_slowly(ctx: Context) -> None:
        await ctx.stop_event.wait()
        await rounds(30)

    sup = Supervisor(clock=clock)
    probe = Probe(obey_slowly)
    sup.add(probe)
    host = SupervisorHost(sup)
    async with anyio.create_task_group() as tasks:
        await host.start(tasks)
        assert await host.stop() == []
        assert probe.log[-1] == "stopped"
        with pytest.raises(RuntimeError, match="ended"):
            sup.add(Probe())


async def test_stop_names_whom_it_had_to_cancel(clock: Clock) -> None:
    """As the supervisor does, and again nobody when it is called again."""
    sup = Supervisor(clock=clock)
    sup.add(Probe(defy, name="a"))
    sup.add(Probe(obey, name="b"))
    sup.add(Probe(defy, name="c"))
    host = SupervisorHost(sup)
    async with anyio.create_task_group() as tasks:
        await host.start(tasks)
        assert await host.stop(grace=0.01) == ["c", "a"]
        assert await host.stop() == []


async def test_stop_before_the_start_is_remembered(clock: Clock) -> None:
    """Nothing starts then, and the start says so."""
    sup = Supervisor(clock=clock)
    probe = Probe(obey, name="daemon")
    sup.add(probe)
    host = SupervisorHost(sup)
    assert await host.stop() == []
    async with anyio.create_task_group() as tasks:
        assert await host.start(tasks) == ["daemon"]
        assert await host.stop() == []
    assert probe.log == []


async def test_stop_from_another_task_ends_a_start_that_hangs(clock: Clock) -> None:
    """Whoever waits in start is told who has not come up."""
    sup = Supervisor(clock=clock)
    reached = Event("the test")

    async def hang(ctx: Context) -> None:
        reached.set()
        await anyio.Event().wait()

    sup.add(Probe(on_start=hang, name="slow"))
    host = SupervisorHost(sup)
    stopped: list[list[str]] = []

    async def stop() -> None:
        await reached.wait()
        stopped.append(await host.stop(grace=0.01))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop)
        assert await host.start(tasks) == ["slow"]
    assert stopped == [["slow"]]


async def test_stop_right_after_start_was_called_waits_for_the_end() -> None:
    """Also where the supervisor was not even entered yet."""
    sup = Supervisor()
    probe = Probe(obey, name="daemon")
    sup.add(probe)
    host = SupervisorHost(sup)
    missing: list[list[str]] = []
    async with anyio.create_task_group() as tasks:

        async def stop() -> None:
            assert await host.stop() == []
            assert ended(host)

        tasks.start_soon(stop)
        missing.append(await host.start(tasks))
    assert missing == [["daemon"]]
    assert probe.log == []


async def test_several_tasks_may_stop_at_once(clock: Clock) -> None:
    """The most impatient one decides, and each returns when all is over."""
    sup = Supervisor(clock=clock)
    sup.add(Probe(defy, name="a"))
    host = SupervisorHost(sup)
    forced: list[list[str]] = []

    async def stop(grace: float) -> None:
        forced.append(await host.stop(grace=grace))
        assert ended(host)

    async with anyio.create_task_group() as tasks:
        await host.start(tasks)
        async with anyio.create_task_group() as stoppers:
            stoppers.start_soon(stop, 3600)
            stoppers.start_soon(stop, 0)
    assert ["a"] in forced
    assert len(forced) == 2


async def test_a_daemon_may_stop_its_host(clock: Clock) -> None:
    """It is not waited for, so that it does not wait for itself."""
    sup = Supervisor(clock=clock)
    after: list[list[str]] = []

    async def stop(ctx: Context) -> None:
        after.append(await host.stop(grace=0.01))

    other = Probe(defy, name="other")
    sup.add(other)
    sup.add(Probe(stop))
    host = SupervisorHost(sup)
    async with anyio.create_task_group() as tasks:
        await host.start(tasks)
    assert after == [["other"]]
    assert host.error is None


async def test_telling_the_supervisor_to_stop_ends_the_host(clock: Clock) -> None:
    """As a signal handler does."""
    sup = Supervisor(clock=clock)
    sup.add(Probe(obey))
    host = SupervisorHost(sup)
    async with anyio.create_task_group() as tasks:
        await host.start(tasks)
        sup.signal_stop()
    assert ended(host)


async def test_a_cancelled_stop_leaves_the_daemons_told() -> None:
    """Another stop, or the daemons themselves, finish it."""
    sup = Supervisor()
    sup.add(Probe(defy, name="a"))
    host = SupervisorHost(sup)
    async with anyio.create_task_group() as tasks:
        await host.start(tasks)
        with anyio.move_on_after(0.01) as scope:
            await host.stop(grace=3600)
        assert scope.cancelled_caught
        assert not ended(host)
        assert await host.stop(grace=0) == ["a"]


def test_bad_times_are_refused_at_the_call() -> None:
    """Before anything is awaited."""
    host = SupervisorHost(Supervisor())
    with pytest.raises(ValueError, match="grace must not be negative"):
        host.stop(grace=-1)  # type: ignore[unused-coroutine]


# Crashes


async def test_a_crash_is_raised_in_the_task_group(clock: Clock) -> None:
    """It ends the task group, and is seen at the host."""
    sup = Supervisor(clock=clock)
    other = Probe(defy)
    go = Event("the test")

    async def crash(ctx: Context) -> None:
        await go.wait()
        raise BOOM

    sup.add(other)
    sup.add(Probe(crash, name="bad"))
    host = SupervisorHost(sup)
    with pytest.raises(BaseExceptionGroup) as caught:
        async with anyio.create_task_group() as tasks:
            await host.start(tasks)
            go.set()
            await anyio.Event().wait()
    assert the_daemon_error(caught.value).daemon == "bad"
    assert isinstance(host.error, ExceptionGroup)
    assert the_daemon_error(host.error) is the_daemon_error(caught.value)
    assert host.snapshot()["bad"].last_error is BOOM
    assert other.log[-1] == "stopped"
    assert await host.stop() == []


async def test_a_crash_right_after_the_start_is_raised_once(clock: Clock) -> None:
    """Start has returned, or raises; never both, and never neither."""
    sup = Supervisor(clock=clock)
    sup.add(Probe(fail, name="bad"))
    host = SupervisorHost(sup)
    times = 0
    try:
        async with anyio.create_task_group() as tasks:
            try:
                await host.start(tasks)
            except DaemonError:
                times += 1
            else:
                await anyio.Event().wait()
    except BaseExceptionGroup:
        times += 1
    assert times == 1


@pytest.mark.parametrize("by_daemon", [False, True], ids=["by a task", "by a daemon"])
async def test_a_crash_while_stopping_leaves_the_others_their_time(
    clock: Clock, by_daemon: bool
) -> None:
    """The stop goes on to its end, and the task group gets the error then."""
    sup = Supervisor(clock=clock)
    flushed = False

    async def flush(ctx: Context) -> None:
        nonlocal flushed
        await ctx.stop_event.wait()
        await rounds(50)
        flushed = True

    async def crash(ctx: Context) -> None:
        await ctx.stop_event.wait()
        raise BOOM

    async def stop(ctx: Context) -> None:
        await host.stop()

    sup.add(Probe(flush))
    sup.add(Probe(crash, name="bad"))
    host = SupervisorHost(sup)
    with pytest.raises(BaseExceptionGroup) as caught:
        async with anyio.create_task_group() as tasks:
            await host.start(tasks)
            if by_daemon:
                sup.add(Probe(stop))
            else:
                assert await host.stop() == []
    assert the_daemon_error(caught.value).daemon == "bad"
    assert flushed


async def test_cancelling_the_task_group_cancels_the_daemons(clock: Clock) -> None:
    """Each with its ``on_stop``, as when the block of a supervisor is cancelled."""
    sup = Supervisor(clock=clock)
    probe = Probe(defy)
    sup.add(probe)
    host = SupervisorHost(sup)
    async with anyio.create_task_group() as tasks:
        await host.start(tasks)
        tasks.cancel_scope.cancel()
    assert probe.log[-1] == "stopped"
    assert host.error is None


async def test_cancelling_the_task_group_cuts_a_stop_short() -> None:
    """Whoever waits in it in there is cancelled, and so is who defies it."""
    sup = Supervisor()
    sup.add(Probe(defy))
    host = SupervisorHost(sup)
    async with anyio.create_task_group() as tasks:
        await host.start(tasks)

        async def stop() -> None:
            await host.stop(grace=3600)

        tasks.start_soon(stop)
        await until(sup.stop_event.is_set)
        tasks.cancel_scope.cancel()
    assert ended(host)


# Simulated time


def test_a_hosted_program_has_one_trace() -> None:
    """Starting, running, crashing and stopping, on both backends."""

    async def program(trace: Trace) -> None:
        await hosted(trace, crash=False)
        await hosted(trace, crash=True)

    async def hosted(trace: Trace, *, crash: bool) -> None:
        clock = SimClock()
        numbers = open_channel[int](2, name="numbers")

        async def count(ctx: Context) -> None:
            async for tick in ctx.clock.every(1.0):
                trace.record(ctx, tick)
                await numbers.send.send(int(tick))
                if crash and tick == 3:
                    raise BOOM
                if ctx.stopping:
                    return

        async def read(ctx: Context) -> None:
            async for number in numbers.recv:
                trace.record(ctx, number)

        async def watch(host: SupervisorHost, tasks: anyio.abc.TaskGroup) -> None:
            trace.write(f"started {await host.start(tasks)}")
            for n in range(5):
                trace.write(f"round {n}")
                await rounds(1)
            await clock.sleep(4.5)
            trace.write(f"stopped {await host.stop()} at {clock.now()}")

        sup = Supervisor(clock=clock)
        sup.spawn(read, name="reader")
        sup.spawn(count, name="counter")
        host = SupervisorHost(sup)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch, host, tasks)
                await clock.advance(10)
        except BaseExceptionGroup as group:
            trace.write(f"raised {the_daemon_error(group)}")
        trace.write(repr(host.snapshot()))

    assert len(assert_one_trace(program).lines) > 20


async def test_channels_flow_through_hosted_daemons(clock: Clock) -> None:
    """The host adds nothing to how daemons and their caller talk."""
    numbers, squares = open_channel[int](1), open_channel[int](1)

    async def square(ctx: Context) -> None:
        async for number in numbers.recv:
            await squares.send.send(number**2)
        await squares.send.aclose()

    sup = Supervisor(clock=clock)
    sup.spawn(square)
    host = SupervisorHost(sup)
    async with anyio.create_task_group() as tasks:
        await host.start(tasks)
        tasks.start_soon(feed, numbers.send, [1, 2, 3])
        assert await collect(squares.recv) == [1, 4, 9]
        await host.stop()
