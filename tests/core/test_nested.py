"""Supervisors inside of daemons, with clocks of their own or without."""

import anyio
import pytest
from chrono_core import (
    Clock,
    ClockBusy,
    Context,
    DaemonError,
    RestartPolicy,
    SimClock,
    Supervisor,
    WallClock,
)

from .probes import Probe, defy, fail, failing, obey


@pytest.fixture(params=["wall", "sim"])
def clock(request: pytest.FixtureRequest) -> Clock:
    return WallClock() if request.param == "wall" else SimClock()


async def test_a_daemon_may_host_daemons_on_its_clock() -> None:
    """Daemons of an inner supervisor live in the same simulated time."""
    clock = SimClock()
    times = []

    async def sleep(ctx: Context) -> None:
        await ctx.clock.sleep(2)
        times.append(ctx.clock.now())

    async def host(ctx: Context) -> None:
        await ctx.clock.sleep(1)
        async with Supervisor(clock=ctx.clock) as inner:
            inner.spawn(sleep)
        times.append(ctx.clock.now())

    async with Supervisor(clock=clock) as sup:
        sup.spawn(host)
        await clock.advance(10)
    assert times == [3, 3]


async def test_a_daemon_may_run_a_simulation_of_its_own(clock: Clock) -> None:
    """An inner clock is driven from the outer daemon, whatever the outer clock is."""
    seen = []

    async def sleep(ctx: Context) -> None:
        await ctx.clock.sleep(3600)
        seen.append(ctx.clock.now())

    async def predict(ctx: Context) -> None:
        inner_clock = SimClock()
        async with Supervisor(clock=inner_clock) as inner:
            inner.spawn(sleep)
            await inner_clock.advance(7200)
        seen.append(inner_clock.now())

    async with Supervisor(clock=clock) as sup:
        sup.spawn(predict)
    assert seen == [3600, 7200]


async def test_an_inner_simulation_takes_no_time_of_the_outer_one() -> None:
    """What happens inside happens at one instant outside, while the outer clock is driven."""
    clock = SimClock()
    lines = []

    async def tick(ctx: Context) -> None:
        async for _ in ctx.clock.every(1):
            lines.append(f"{clock.now()} {ctx.clock.now()}")

    async def predict(ctx: Context) -> None:
        await ctx.clock.sleep(1)
        for _ in range(2):
            inner_clock = SimClock(100)
            async with Supervisor(clock=inner_clock, on_exit="stop") as inner:
                inner.spawn(tick)
                await inner_clock.advance(3)
            await ctx.clock.sleep(1)

    async with Supervisor(clock=clock) as sup:
        sup.spawn(predict)
        await clock.advance(5)
    assert lines == [f"{outer} {100.0 + n}" for outer in (1.0, 2.0) for n in (1, 2, 3)]


async def test_an_inner_daemon_may_drive_a_clock_of_its_own_but_not_the_outer_one() -> None:
    """Whoever lives in a clock's time, at any depth, cannot move it."""
    clock = SimClock()
    errors = []

    async def meddle(ctx: Context) -> None:
        with pytest.raises(ClockBusy) as caught:
            await clock.advance(1)
        errors.append(caught.value)

    async def host(ctx: Context) -> None:
        async with Supervisor(clock=SimClock()) as inner:
            inner.spawn(meddle)

    async with Supervisor(clock=clock) as sup:
        sup.spawn(host)
    assert len(errors) == 1


async def test_a_real_supervisor_may_live_in_a_simulated_one() -> None:
    """An inner supervisor on real time starts and stops its daemons."""
    probe = Probe(obey)

    async def host(ctx: Context) -> None:
        async with Supervisor() as inner:
            inner.add(probe)
            await inner.wait_all_started()
            await inner.stop()

    async with Supervisor(clock=SimClock()) as sup:
        sup.spawn(host)
    assert probe.log == ["start", "run", "stop", "stopped"]


async def test_an_inner_error_is_an_error_of_the_outer_daemon(clock: Clock) -> None:
    """What an inner block raises is the cause of the outer daemon's failure."""

    async def host(ctx: Context) -> None:
        async with Supervisor(clock=clock) as inner:
            inner.add(Probe(fail), name="inner")

    with pytest.raises(ExceptionGroup) as caught:
        async with Supervisor(clock=clock) as sup:
            sup.spawn(host, name="outer")
    (error,) = caught.value.exceptions
    assert isinstance(error, DaemonError)
    assert error.daemon == "outer"
    assert isinstance(error.__cause__, ExceptionGroup)
    assert error.__cause__.exceptions[0].daemon == "inner"


async def test_an_inner_supervisor_is_restarted_with_its_daemon() -> None:
    """Each restart of the outer daemon hosts anew."""
    clock = SimClock()
    left = [ValueError("one"), ValueError("two")]
    probes = []

    async def fail_twice(ctx: Context) -> None:
        if left:
            raise left.pop()

    async def host(ctx: Context) -> None:
        probes.append(Probe(fail_twice))
        async with Supervisor(clock=ctx.clock) as inner:
            inner.add(probes[-1])

    policy = RestartPolicy(base=1, factor=1)
    async with Supervisor(clock=clock, on_error="restart", restart=policy) as sup:
        handle = sup.add(Probe(host))
        await clock.advance(10)
    assert handle.health.restart_count == 2
    assert [probe.log for probe in probes] == [["start", "run", "stop", "stopped"]] * 3


async def test_a_forced_outer_daemon_takes_its_own_down_in_reverse(clock: Clock) -> None:
    """Inner daemons end, with their ``on_stop``, before the outer ``on_stop`` runs."""
    log: list[str] = []

    async def host(ctx: Context) -> None:
        async with Supervisor(clock=clock) as inner:
            inner.add(Probe(defy, name="a", log=log))
            inner.add(Probe(defy, name="b", log=log))
            await inner.wait_all_started()
            up.set()
            await anyio.Event().wait()

    up = anyio.Event()
    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(host, name="outer", log=log))
        await up.wait()
        log.clear()
        assert await sup.stop(grace=0.01) == ["outer"]
    assert log == ["b stop", "b stopped", "a stop", "a stopped", "outer stop", "outer stopped"]


async def test_a_clock_sleep_in_an_inner_on_stop_does_not_hang_the_outer_stop() -> None:
    """A forced stop moves the clocks of nested supervisors too."""

    async def sleep(ctx: Context) -> None:
        await ctx.clock.sleep(1)

    inner_probe = Probe(defy, on_stop=sleep)

    async def host(ctx: Context) -> None:
        async with Supervisor(clock=SimClock()) as inner:
            inner.add(inner_probe)
            await inner.wait_all_started()
            up.set()
            await anyio.Event().wait()

    up = anyio.Event()
    async with Supervisor(clock=SimClock()) as sup:
        sup.spawn(host)
        await up.wait()
        await sup.stop()
    assert inner_probe.log[-1] == "stopped"


async def test_an_inner_daemon_may_stop_its_own_supervisor_alone(clock: Clock) -> None:
    """``ctx.supervisor`` is the innermost; the outer one runs on."""
    states = []

    async def stop(ctx: Context) -> None:
        await ctx.supervisor.stop()

    async def host(ctx: Context) -> None:
        async with Supervisor(clock=clock) as inner:
            inner.add(Probe(obey))
            inner.spawn(stop)
        states.append(ctx.stopping)

    async with Supervisor(clock=clock) as sup:
        handle = sup.spawn(host)
        await handle.wait_stopped()
        assert not sup.stop_event.is_set()
    assert states == [False]


async def test_an_inner_daemon_may_stop_the_outer_supervisor(clock: Clock) -> None:
    """The outer daemon that the inner one belongs to is not waited for."""
    log = []

    async def stop_outer(ctx: Context) -> None:
        log.append(await sup.stop())

    async def host(ctx: Context) -> None:
        async with Supervisor(clock=clock) as inner:
            inner.spawn(stop_outer)
        log.append("after")

    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(obey))
        await sup.wait_all_started()
        sup.spawn(host)
    assert log == [[], "after"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(2)], ids=["interrupt", "exit"])
async def test_what_ends_the_program_passes_through_all_supervisors(
    error: BaseException, clock: Clock
) -> None:
    """An interrupt of an inner daemon leaves the outermost block alone, everybody stopped."""
    inner_probe, outer_probe = Probe(defy), Probe(defy)

    async def host(ctx: Context) -> None:
        async with Supervisor(clock=clock) as inner:
            inner.add(inner_probe)
            inner.add(Probe(failing(error)))

    with pytest.raises(type(error)) as caught:
        async with Supervisor(clock=clock) as sup:
            sup.add(outer_probe)
            sup.spawn(host)
    assert caught.value is error
    assert inner_probe.log[-1] == outer_probe.log[-1] == "stopped"


async def test_names_need_be_unique_only_within_one_supervisor(clock: Clock) -> None:
    """An inner daemon may have the name of an outer one, and stops are not confused by it."""
    forced = []

    async def host(ctx: Context) -> None:
        async with Supervisor(clock=clock) as inner:
            inner.add(Probe(defy), name="a")
            await inner.wait_all_started()
            forced.append(await inner.stop(grace=0.01))

    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(host), name="a")
    assert forced == [["a"]]


async def test_two_supervisors_side_by_side_do_not_mix(clock: Clock) -> None:
    """Stopping one in a task leaves the other one running."""
    async with Supervisor(clock=clock) as one:
        left = one.add(Probe(obey), name="a")
        async with Supervisor(clock=clock) as other:
            right = other.add(Probe(obey), name="a")
            await one.wait_all_started()
            await other.wait_all_started()
            await other.stop()
            assert (left.health.state, right.health.state) == ("running", "stopped")
        one.signal_stop()
