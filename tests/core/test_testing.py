import hashlib
import math
from collections.abc import Iterator

import anyio
import pytest
from chrono_core import (
    ChannelClosed,
    Context,
    Daemon,
    DaemonError,
    EndOfStream,
    EndpointClosed,
    RestartPolicy,
    SimClock,
    Supervisor,
    open_channel,
    testing,
)
from chrono_core.testing import (
    ScriptedDaemon,
    Trace,
    assert_one_trace,
    available_backends,
    collect,
    feed,
)

from .scheduling import until


def test_public_names_are_documented() -> None:
    """The helpers are these, and each has a docstring."""
    assert sorted(testing.__all__) == [
        "ScriptedDaemon",
        "Step",
        "Trace",
        "assert_one_trace",
        "available_backends",
        "collect",
        "feed",
    ]
    for helper in (ScriptedDaemon, Trace, assert_one_trace, available_backends, collect, feed):
        assert helper.__doc__


# Channels


@pytest.mark.parametrize("size", [0, 2, math.inf])
async def test_feed_and_collect_move_a_list(size: float) -> None:
    """`feed` sends every item and closes; `collect` receives every item until then."""
    channel = open_channel[int](size)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed, channel.send, range(20))
        assert await collect(channel.recv) == list(range(20))
    assert channel.recv.statistics().open_send_streams == 0


async def test_collect_of_an_ended_stream_is_empty() -> None:
    """At the end of the stream, there is nothing to collect."""
    channel = open_channel[int](1)
    await channel.send.aclose()
    assert await collect(channel.recv) == []


async def test_collect_raises_what_receive_raises() -> None:
    """Collecting from an end that was closed is an error."""
    channel = open_channel[int](1)
    await channel.recv.aclose()
    with pytest.raises(EndpointClosed):
        await collect(channel.recv)


async def test_feed_leaves_the_stream_open_where_told_to() -> None:
    """With `close=False`, more can be sent afterwards."""
    channel = open_channel[int](8)
    await feed(channel.send, [1, 2], close=False)
    assert channel.send.statistics().open_send_streams == 1
    await feed(channel.send, [3])
    assert await collect(channel.recv) == [1, 2, 3]


@pytest.mark.parametrize("close", [True, False])
async def test_feed_that_fails_closes_the_stream(close: bool) -> None:
    """Where the items raise, that comes out, and the consumer sees the end if it was asked for."""
    channel = open_channel[int](8)

    def items() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await feed(channel.send, items(), close=close)
    assert channel.recv.receive_nowait() == 1
    assert channel.recv.statistics().open_send_streams == int(not close)
    if close:
        with pytest.raises(EndOfStream):
            channel.recv.receive_nowait()


async def test_feed_raises_where_the_receiver_has_gone() -> None:
    """Feeding nobody is an error."""
    channel = open_channel[int](8)
    await channel.recv.aclose()
    with pytest.raises(ChannelClosed):
        await feed(channel.send, [1])


# The scripted daemon


async def test_scripted_daemon_follows_its_scripts() -> None:
    """Each hook sleeps, calls and awaits as its script says, and is noted."""
    clock = SimClock()
    events: list[object] = []

    def note(ctx: Context) -> None:
        events.append((clock.now(), ctx.name))

    async def wait(ctx: Context) -> None:
        await ctx.clock.sleep(0.5)
        events.append((clock.now(), "waited"))

    scripted = ScriptedDaemon(
        [1, note, wait, 2.5, note], on_start=[1, note], on_stop=[note], name="robot"
    )
    assert isinstance(scripted, Daemon)
    async with Supervisor(clock=clock) as sup:
        handle = sup.add(scripted)
        assert scripted.calls == []
        await clock.advance(4)
        assert scripted.calls == ["on_start", "run"]
        await clock.advance(6)
        await handle.wait_stopped()
    assert scripted.calls == ["on_start", "run", "on_stop"]
    assert events == [
        (1.0, "robot"),
        (2.0, "robot"),
        (2.5, "waited"),
        (5.0, "robot"),
        (5.0, "robot"),
    ]


async def test_scripted_daemon_raises_its_errors() -> None:
    """An error in a script is raised in its hook."""
    error = ZeroDivisionError("scripted")
    with pytest.raises(ExceptionGroup) as caught:
        async with Supervisor(clock=SimClock()) as sup:
            sup.add(ScriptedDaemon([error], name="robot"))
            await anyio.Event().wait()
    (failure,) = caught.value.exceptions
    assert isinstance(failure, DaemonError)
    assert (failure.daemon, failure.phase) == ("robot", "run")
    assert failure.__cause__ is error


async def test_restarted_scripted_daemon_goes_on_in_its_script() -> None:
    """After a restart, the script is not begun again."""
    clock = SimClock()
    events: list[float] = []

    def note(ctx: Context) -> None:
        events.append(clock.now())

    scripted = ScriptedDaemon([1, note, ZeroDivisionError(), 1, note])
    policy = RestartPolicy(base=1.0, cap=1.0)
    async with Supervisor(clock=clock) as sup:
        sup.add(scripted, name="robot", on_error="restart", restart=policy)
        await clock.advance(10)
    assert events == [1.0, 3.0]
    assert scripted.calls.count("run") == 2


# Traces


async def test_trace_records_when_who_and_what() -> None:
    """An event is a line of nanoseconds, name and event."""
    clock = SimClock()
    trace = Trace()
    script = [0.1, lambda ctx: trace.record(ctx, "tick"), 0.2, lambda ctx: trace.record(ctx, 7)]
    async with Supervisor(clock=clock) as sup:
        sup.add(ScriptedDaemon(script, name="robot"))
        await clock.advance(1)
    assert list(trace.lines) == ["100000000 robot tick", "300000000 robot 7"]


def written(*lines: str) -> Trace:
    trace = Trace()
    for line in lines:
        trace.write(line)
    return trace


def test_trace_has_a_text_and_a_digest() -> None:
    """The text is every line ended, and the digest its SHA-256."""
    trace = written("a", "ü")
    assert trace.text() == "a\nü\n"
    assert trace.digest() == hashlib.sha256("a\nü\n".encode()).hexdigest()
    assert Trace().text() == ""
    assert written("a", "b").digest() != written("b", "a").digest()
    assert written("a", "b").digest() == written("a", "b").digest()


def test_equal_traces_do_not_differ() -> None:
    """Two traces with the same lines have no difference."""
    assert written("a", "b").difference(written("a", "b")) is None
    assert Trace().difference(Trace()) is None


def test_difference_shows_the_first_line_that_differs_and_what_comes_before() -> None:
    """The difference gives the number of the line, both versions and some context."""
    one = written("1", "2", "3", "4", "mine", "6")
    two = written("1", "2", "3", "4", "theirs", "other")
    difference = one.difference(two)
    assert difference is not None
    assert difference.splitlines() == [
        "line 5:",
        "    2",
        "    3",
        "    4",
        "  - mine",
        "  + theirs",
    ]


def test_difference_shows_where_one_trace_ends() -> None:
    """A trace that goes on differs from one that has ended."""
    assert written("a").difference(written("a", "b")) == "line 2:\n    a\n  - (the end)\n  + b"
    assert written("a").difference(Trace()) == "line 1:\n  - a\n  + (the end)"


# Comparing runs


def test_backends_that_are_available() -> None:
    """asyncio is always there; trio where it is installed."""
    assert available_backends()[0] == "asyncio"
    assert set(available_backends()) <= {"asyncio", "trio"}


def test_program_is_run_so_often_on_every_backend() -> None:
    """The program is run with a fresh trace each time, and the trace is returned."""
    runs: list[Trace] = []

    async def program(trace: Trace) -> None:
        assert not trace.lines
        runs.append(trace)
        clock = SimClock()
        async with anyio.create_task_group() as tasks:
            for n in range(3):
                tasks.start_soon(clock.sleep, n)
            await clock.advance(5)
        trace.write(f"ended at {clock.now()}")

    trace = assert_one_trace(program, times=4)
    assert list(trace.lines) == ["ended at 5.0"]
    assert len(runs) == 4 * len(available_backends())
    assert len({id(run) for run in runs}) == len(runs)


def test_runs_that_differ_are_shown() -> None:
    """Where a run differs, the error names both runs and the first line that differs."""
    runs = 0

    async def program(trace: Trace) -> None:
        nonlocal runs
        runs += 1
        trace.write("same")
        trace.write(f"run {1 if runs < 3 else 2}")

    with pytest.raises(AssertionError) as caught:
        assert_one_trace(program, times=5, backends=["asyncio"])
    message = str(caught.value)
    assert "run 1 on asyncio (-)" in message
    assert "run 3 on asyncio (+)" in message
    assert message.endswith("line 2:\n    same\n  - run 1\n  + run 2")
    assert runs == 3


def test_error_of_a_program_comes_out() -> None:
    """A program that fails is not compared."""

    async def program(trace: Trace) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        assert_one_trace(program)


@pytest.mark.parametrize("options", [{"times": 0}, {"times": -1}, {"backends": []}])
def test_comparing_nothing_is_refused(options: dict[str, object]) -> None:
    """No run at all would prove nothing."""

    async def program(trace: Trace) -> None:
        pass

    with pytest.raises(ValueError, match="at least one run"):
        assert_one_trace(program, **options)  # type: ignore[arg-type]


async def test_collect_that_is_cancelled_leaves_what_it_had_not_received() -> None:
    """A cancelled `collect` has taken what was there, and no more."""
    channel = open_channel[int](4)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(collect, channel.recv)
            await channel.send.send_many([1, 2])
            await until(lambda: channel.recv.statistics().waiters_receive)
            scope.cancel()
    await channel.send.send(3)
    assert channel.recv.receive_nowait() == 3
