"""What can be seen of a daemon from outside."""

import dataclasses

import anyio
import pytest
from chrono_core import (
    Clock,
    Context,
    DaemonHealth,
    RestartPolicy,
    SimClock,
    Supervisor,
    WallClock,
    open_channel,
)

from .probes import Probe, fail, obey


@pytest.fixture(params=["wall", "sim"])
def clock(request: pytest.FixtureRequest) -> Clock:
    return WallClock() if request.param == "wall" else SimClock()


def test_the_fields_are_those_of_the_contract() -> None:
    """DaemonHealth has these fields and no others."""
    assert [field.name for field in dataclasses.fields(DaemonHealth)] == [
        "name",
        "state",
        "restart_count",
        "last_error",
        "last_error_phase",
        "started_at",
        "stopped_at",
        "uptime",
        "waiting_on",
    ]


async def test_health_is_frozen(clock: Clock) -> None:
    """A health is a value of one moment: it neither changes nor can be changed."""
    async with Supervisor(clock=clock) as sup:
        handle = sup.add(Probe(obey))
        before = handle.health
        await sup.wait_all_started()
        assert (before.state, handle.health.state) == ("starting", "running")
        with pytest.raises(dataclasses.FrozenInstanceError):
            before.state = "failed"
        sup.signal_stop()


def test_health_before_entry() -> None:
    """A daemon that waits for its supervisor is starting, and has no past."""
    health = Supervisor().add(Probe(), name="a").health
    assert health == DaemonHealth(
        name="a",
        state="starting",
        restart_count=0,
        last_error=None,
        last_error_phase=None,
        started_at=None,
        stopped_at=None,
        uptime=0.0,
        waiting_on=None,
    )


async def test_health_follows_a_daemon_through_its_life() -> None:
    """States, times and uptime are those of the simulated instants."""
    clock = SimClock(100)
    seen = []

    async def come_up(ctx: Context) -> None:
        await ctx.clock.sleep(1)

    async def run(ctx: Context) -> None:
        await ctx.clock.sleep(10)

    async def release(ctx: Context) -> None:
        await ctx.clock.sleep(2)

    async with Supervisor(clock=clock) as sup:
        handle = sup.add(Probe(run, on_start=come_up, on_stop=release))
        for moment in (100.5, 101, 106, 111, 113):
            await clock.advance_to(moment)
            health = handle.health
            seen.append((health.state, health.started_at, health.stopped_at, health.uptime))
    assert seen == [
        ("starting", None, None, 0),
        ("running", 101, None, 0),
        ("running", 101, None, 5),
        ("running", 101, None, 10),
        ("stopped", 101, 113, 12),
    ]


async def test_uptime_ends_with_the_daemon() -> None:
    """After the end of a daemon, time that passes is not its uptime."""
    clock = SimClock()
    async with Supervisor(clock=clock) as sup:
        handle = sup.add(Probe())
        await clock.advance(10)
        assert handle.health.uptime == 0
        assert handle.health.stopped_at == 0


async def test_health_in_a_restart() -> None:
    """Errors, restarts and the time of the last start are kept apart."""
    clock = SimClock()

    async def run(ctx: Context) -> None:
        await ctx.clock.sleep(1)
        raise ValueError("boom")

    policy = RestartPolicy(base=4, factor=1, cap=4)
    async with Supervisor(clock=clock, on_error="restart", restart=policy) as sup:
        handle = sup.add(Probe(run))
        await clock.advance_to(2)
        assert (handle.health.state, handle.health.restart_count) == ("restarting", 0)
        await clock.advance_to(5.5)
        health = handle.health
        assert (health.state, health.restart_count, health.started_at) == ("running", 1, 5)
        assert isinstance(health.last_error, ValueError)
        assert health.last_error_phase == "run"
        assert health.uptime == 0.5
        await sup.stop()


async def test_a_daemon_that_never_came_up_was_never_up(clock: Clock) -> None:
    """Without a start there is no start time and no uptime."""
    async with Supervisor(clock=clock, on_error="ignore") as sup:
        handle = sup.add(Probe(on_start=fail))
    assert handle.health.started_at is None
    assert handle.health.stopped_at is not None
    assert handle.health.uptime == 0


# waiting_on


async def test_waiting_on_a_channel_names_it() -> None:
    """A blocked receive and a blocked send say so, and on which channel."""
    clock = SimClock()
    empty, full = open_channel[int](name="obs"), open_channel[int](name="cmd")

    async def receive(ctx: Context) -> None:
        await empty.recv.receive()

    async def send(ctx: Context) -> None:
        await full.send.send(1)

    async with Supervisor(clock=clock) as sup:
        receiver, sender = sup.spawn(receive), sup.spawn(send)
        await clock.advance(1)
        assert receiver.health.waiting_on == "receive on channel 'obs'"
        assert sender.health.waiting_on == "send on channel 'cmd'"
        await sup.stop()


async def test_waiting_on_the_clock_tells_until_when() -> None:
    """A sleep says its deadline."""
    clock = SimClock()

    async def sleep(ctx: Context) -> None:
        await ctx.clock.sleep(12.5)

    async with Supervisor(clock=clock) as sup:
        handle = sup.spawn(sleep)
        await clock.advance(1)
        assert handle.health.waiting_on == "clock until 12.5"
        await sup.stop()


async def test_waiting_on_a_tick_tells_until_when() -> None:
    """A periodic daemon waits for the clock like any sleeper."""
    clock = SimClock()

    async def tick(ctx: Context) -> None:
        async for _ in ctx.clock.every(2.5):
            pass

    async with Supervisor(clock=clock) as sup:
        handle = sup.spawn(tick)
        await clock.advance(3)
        assert handle.health.waiting_on == "clock until 5.0"
        await sup.stop()


async def test_waiting_on_anything_else_tells_the_line(clock: Clock) -> None:
    """What is not chrono's own is told by the file of the daemon that waits."""

    async def wait(ctx: Context) -> None:
        await event.wait()

    event = anyio.Event()
    async with Supervisor(clock=clock) as sup:
        handle = sup.spawn(wait)
        await handle.wait_started()
        await anyio.lowlevel.checkpoint()
        assert handle.health.waiting_on is not None
        assert __file__ in handle.health.waiting_on
        event.set()


async def test_who_runs_waits_on_nothing(clock: Clock) -> None:
    """A daemon that looks at itself does not wait; nor does one that has ended."""
    seen = []

    async def look(ctx: Context) -> None:
        seen.append(ctx.supervisor.snapshot()[ctx.name].waiting_on)

    async with Supervisor(clock=clock) as sup:
        handle = sup.spawn(look)
    assert seen == [None]
    assert handle.health.waiting_on is None


# snapshot


async def test_a_snapshot_shows_everybody_by_name(clock: Clock) -> None:
    """The living and those that ended are in it, each under its name."""
    async with Supervisor(clock=clock, on_error="ignore") as sup:
        sup.add(Probe(obey), name="living")
        ended = sup.add(Probe(fail), name="ended")
        await ended.wait_stopped()
        await sup.wait_all_started()
        snapshot = sup.snapshot()
        assert {name: health.state for name, health in snapshot.items()} == {
            "living": "running",
            "ended": "stopped",
        }
        assert all(name == health.name for name, health in snapshot.items())
        sup.signal_stop()
    assert sup.snapshot()["living"].state == "stopped"


async def test_a_snapshot_can_be_taken_before_entry_and_after_the_end(clock: Clock) -> None:
    """It needs no running block."""
    sup = Supervisor(clock=clock)
    assert sup.snapshot() == {}
    sup.add(Probe(), name="a")
    assert sup.snapshot()["a"].state == "starting"
    async with sup:
        pass
    assert sup.snapshot()["a"].state == "stopped"


async def test_a_name_that_is_used_again_shows_the_living(clock: Clock) -> None:
    """Of two daemons that had one name, the snapshot shows the later one."""
    async with Supervisor(clock=clock) as sup:
        first = sup.add(Probe(), name="a")
        await first.wait_stopped()
        sup.add(Probe(obey), name="a")
        await sup.wait_all_started()
        assert sup.snapshot()["a"].state == "running"
        assert first.health.state == "stopped"
        sup.signal_stop()


async def test_the_health_of_short_lived_daemons_does_not_pile_up(clock: Clock) -> None:
    """Of a thousand that have ended, the last 128 are shown, and every one that lives."""
    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(obey), name="living")
        handles = []
        for number in range(1000):
            handle = sup.add(Probe(), name=f"short-{number}")
            await handle.wait_stopped()
            handles.append(handle)
        expected = {"living", *(f"short-{number}" for number in range(1000 - 128, 1000))}
        assert set(sup.snapshot()) == expected
        assert handles[0].health.state == "stopped"
        sup.signal_stop()
