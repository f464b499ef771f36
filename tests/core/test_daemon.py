"""What a daemon is: a class with three hooks, or a function with a decorator."""

import dataclasses
import inspect
from collections.abc import AsyncIterator

import anyio
import pytest
from chrono_core import (
    Clock,
    Context,
    Daemon,
    SimClock,
    Supervisor,
    WallClock,
    daemon,
    open_channel,
)
from chrono_core.testing import ScriptedDaemon, Trace, collect, feed

from .probes import Probe


@pytest.fixture(params=["wall", "sim"])
def clock(request: pytest.FixtureRequest) -> Clock:
    return WallClock() if request.param == "wall" else SimClock()


# The class


class Minimal(Daemon):
    """Writes only the hook that must be written."""

    ran = False

    async def run(self, ctx: Context) -> None:
        self.ran = True


def test_a_daemon_has_exactly_three_hooks_and_a_name() -> None:
    """There is nothing else to override, and nothing to pause or resume."""
    public = {name for name in vars(Daemon) if not name.startswith("_")}
    assert public == {"name", "on_start", "run", "on_stop"}
    assert Daemon.name == ""


def test_run_is_the_one_hook_that_must_be_written() -> None:
    """Without ``run`` there is no instance."""
    with pytest.raises(TypeError):
        Daemon()


async def test_the_other_hooks_need_not_be_written(clock: Clock) -> None:
    """A daemon with nothing but ``run`` runs."""
    minimal = Minimal()
    async with Supervisor(clock=clock) as sup:
        sup.add(minimal)
    assert minimal.ran


async def test_the_hooks_are_called_in_order_by_one_task(clock: Clock) -> None:
    """``on_start``, ``run`` and ``on_stop`` follow each other in the same task."""
    tasks = []

    async def note(ctx: Context) -> None:
        tasks.append(anyio.get_current_task().id)

    probe = Probe(note, on_start=note, on_stop=note)
    async with Supervisor(clock=clock) as sup:
        sup.add(probe)
    assert probe.log == ["start", "run", "stop", "stopped"]
    assert len(tasks) == 3
    assert len(set(tasks)) == 1


# The decorator


@daemon
async def camera(ctx: Context, device: str, *, rate: float = 30) -> None:
    """Grab frames."""
    seen.append((ctx.name, device, rate))


@daemon(name="front-camera")
async def front_camera(ctx: Context) -> None:
    """Grab frames in front."""
    seen.append((ctx.name, "front", 0))


seen: list[tuple[str, str, float]] = []


async def test_calling_a_factory_makes_a_daemon(clock: Clock) -> None:
    """The function runs with the context and the arguments of the call."""
    seen.clear()
    made = camera("usb0", rate=15)
    assert isinstance(made, Daemon)
    async with Supervisor(clock=clock) as sup:
        sup.add(made, name="a")
    assert seen == [("a", "usb0", 15)]


async def test_a_factory_makes_a_new_daemon_each_time(clock: Clock) -> None:
    """Daemons of one factory run side by side, under names of their own."""
    seen.clear()
    async with Supervisor(clock=clock) as sup:
        first, second = sup.add(camera("usb0")), sup.add(camera("usb1"))
    assert first.name != second.name
    assert seen == [(first.name, "usb0", 30), (second.name, "usb1", 30)]


async def test_the_decorator_may_give_a_name(clock: Clock) -> None:
    """``@daemon(name=...)`` names every daemon of the factory, unless ``add`` does."""
    seen.clear()
    async with Supervisor(clock=clock) as sup:
        assert sup.add(front_camera()).name == "front-camera"
        assert sup.add(front_camera(), name="rear-camera").name == "rear-camera"
    assert [name for name, *_ in seen] == ["front-camera", "rear-camera"]


def test_a_factory_keeps_what_describes_the_function() -> None:
    """Name and docstring are the function's own."""
    assert camera.__name__ == "camera"
    assert inspect.getdoc(camera) == "Grab frames."


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        (("usb0", 15), {}),
        (("usb0",), {"rat": 15}),
        (("usb0",), {"device": "usb1"}),
    ],
)
def test_wrong_arguments_fail_when_the_factory_is_called(
    args: tuple[object, ...], kwargs: dict[str, object]
) -> None:
    """Missing, surplus, misspelt and doubled arguments are a TypeError that names the daemon."""
    with pytest.raises(TypeError, match="camera"):
        camera(*args, **kwargs)


def plain(ctx: Context) -> None:
    """Is not async."""


async def generator(ctx: Context) -> AsyncIterator[int]:
    """Is async, but a generator."""
    yield 1


@pytest.mark.parametrize("thing", [plain, generator, lambda ctx: None, Minimal, Minimal(), 3])
def test_decorating_what_is_not_async_fails_at_once(thing: object) -> None:
    """With and without a name, anything but an async function is a TypeError."""
    with pytest.raises(TypeError, match="async"):
        daemon(thing)
    with pytest.raises(TypeError, match="async"):
        daemon(name="a")(thing)


# The context


def test_the_context_has_the_fields_of_the_contract() -> None:
    """Six fields, and a property that tells whether to stop."""
    assert [field.name for field in dataclasses.fields(Context)] == [
        "clock",
        "cancel_scope",
        "logger",
        "name",
        "supervisor",
        "stop_event",
    ]
    assert isinstance(Context.stopping, property)


async def test_the_context_is_frozen(clock: Clock) -> None:
    """A daemon cannot change what it was given."""
    errors = []

    async def change(ctx: Context) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError) as caught:
            ctx.clock = SimClock()
        errors.append(caught.value)

    async with Supervisor(clock=clock) as sup:
        sup.spawn(change)
    assert len(errors) == 1


async def test_a_supervisor_stops_each_daemon_by_an_event_of_its_own(clock: Clock) -> None:
    """The event of one daemon is set when that one is stopped, and those of others are not."""
    events = []

    async def wait(ctx: Context) -> None:
        events.append(ctx.stop_event)
        await ctx.stop_event.wait()

    async with Supervisor(clock=clock) as sup:
        first, _ = sup.spawn(wait), sup.spawn(wait)
        await sup.wait_all_started()
        await first.stop()
        assert [event.is_set() for event in events] == [True, False]
        sup.signal_stop()
        assert [event.is_set() for event in events] == [True, True]


async def test_waiting_for_an_event_that_is_set_returns(clock: Clock) -> None:
    """After the signal, ``stop_event.wait()`` is over at once, as often as it is called."""
    waits = []

    async def wait(ctx: Context) -> None:
        for _ in range(3):
            await ctx.stop_event.wait()
            waits.append(True)

    async with Supervisor(clock=clock) as sup:
        sup.spawn(wait)
        await sup.wait_all_started()
        sup.signal_stop()
    assert len(waits) == 3


# The helpers for tests of daemons


async def test_a_scripted_daemon_follows_its_script() -> None:
    """Numbers are sleeps on the clock, functions are called with the context, and awaited."""
    clock = SimClock()
    calls = []

    async def wait(ctx: Context) -> None:
        await ctx.clock.sleep(1)
        calls.append(("async", ctx.clock.now()))

    scripted = ScriptedDaemon(
        [2.5, lambda ctx: calls.append(("plain", ctx.clock.now())), wait], name="scripted"
    )
    async with Supervisor(clock=clock) as sup:
        assert sup.add(scripted).name == "scripted"
        await clock.advance(10)
    assert calls == [("plain", 2.5), ("async", 3.5)]
    assert scripted.calls == ["on_start", "run", "on_stop"]


async def test_a_scripted_daemon_goes_on_where_it_failed() -> None:
    """A restart does not begin the script anew, and each hook has a script of its own."""
    clock = SimClock()
    scripted = ScriptedDaemon([ValueError("boom"), 1.0], on_start=[OSError("no")], on_stop=[0.5])
    async with Supervisor(clock=clock, on_error="restart") as sup:
        handle = sup.add(scripted)
        await clock.advance(10)
    assert scripted.calls == [
        "on_start",
        "on_start",
        "run",
        "on_stop",
        "on_start",
        "run",
        "on_stop",
    ]
    assert handle.health.state == "stopped"
    assert handle.health.restart_count == 2


async def test_feeding_and_collecting_go_through_a_channel(clock: Clock) -> None:
    """A list goes in, the stream is closed, and the same list comes out."""
    channel = open_channel[int]()
    collected = []

    async def produce(ctx: Context) -> None:
        await feed(channel.send, range(5))

    async def consume(ctx: Context) -> None:
        collected.extend(await collect(channel.recv))

    async with Supervisor(clock=clock) as sup:
        sup.spawn(produce)
        sup.spawn(consume)
    assert collected == [0, 1, 2, 3, 4]


async def test_feeding_may_leave_the_stream_open() -> None:
    """With ``close=False``, more can be sent afterwards."""
    channel = open_channel[int](8)
    await feed(channel.send, [1, 2], close=False)
    await feed(channel.send, [3])
    assert await collect(channel.recv) == [1, 2, 3]


async def test_a_trace_records_instant_daemon_and_event() -> None:
    """Each line begins with nanoseconds and the name; equal traces have equal digests."""
    traces = [Trace(), Trace(), Trace()]
    for number, trace in enumerate(traces):
        clock = SimClock()

        async def run(ctx: Context, trace: Trace = trace, last: int = number // 2) -> None:
            trace.record(ctx, "begin")
            await ctx.clock.sleep(0.5)
            trace.record(ctx, f"end {last}")

        async with Supervisor(clock=clock) as sup:
            sup.spawn(run, name="a")
            await clock.advance(1)
    one, same, other = traces
    assert one.lines == ["0 a begin", "500000000 a end 0"]
    assert one.text() == "0 a begin\n500000000 a end 0\n"
    assert one.digest() == same.digest() != other.digest()
    assert one.difference(same) is None
    difference = one.difference(other)
    assert difference is not None
    assert "end 0" in difference
    assert "end 1" in difference
