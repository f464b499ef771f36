"""Adding daemons, how they come up, and what a supervisor refuses."""

import functools
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest
from chrono_core import (
    Clock,
    Context,
    DaemonError,
    EndOfStream,
    RestartPolicy,
    SimClock,
    SimulationStalled,
    Supervisor,
    WallClock,
    daemon,
    open_channel,
)

from .probes import Hook, Probe, defy, fail, obey

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


@pytest.fixture(params=["wall", "sim"])
def clock(request: pytest.FixtureRequest) -> Clock:
    return WallClock() if request.param == "wall" else SimClock()


@daemon
async def ticker(ctx: Context, period: float) -> None:
    """Do nothing."""


# Order


async def test_daemons_start_one_at_a_time_in_the_order_added(clock: Clock) -> None:
    """No ``on_start`` is entered before the one added before it has returned."""
    log: list[str] = []

    def slow(name: str) -> Probe:
        async def come_up(ctx: Context) -> None:
            log.append(f"{name} enter")
            for _ in range(3):
                await anyio.lowlevel.checkpoint()

        return Probe(defy, on_start=come_up, name=name, log=log)

    sup = Supervisor(clock=clock)
    sup.add(slow("a"))
    sup.add(slow("b"))
    async with sup:
        sup.add(slow("c"))
        await sup.wait_all_started()
        starts = [line for line in log if not line.endswith("run")]
        assert starts == [f"{name} {event}" for name in "abc" for event in ("enter", "start")]
        await sup.stop(grace=0)


async def test_daemons_start_on_entry_and_not_before(clock: Clock) -> None:
    """What is added before entry waits for it; what is added later starts without being asked."""
    early, late = Probe(defy), Probe(defy)
    sup = Supervisor(clock=clock)
    sup.add(early)
    await anyio.lowlevel.checkpoint()
    assert early.log == []
    async with sup as entered:
        assert entered is sup
        sup.add(late)
        await sup.wait_all_started()
        assert early.log == late.log == ["start", "run"]
        await sup.stop(grace=0)


async def test_a_daemon_that_fails_to_start_lets_the_next_one_start(clock: Clock) -> None:
    """Where the policy lets a failed start go, those behind come up."""
    behind = Probe()
    async with Supervisor(clock=clock, on_error="ignore") as sup:
        sup.add(Probe(on_start=fail))
        sup.add(behind)
    assert behind.log == ["start", "run", "stop", "stopped"]


async def test_a_daemon_may_add_another(clock: Clock) -> None:
    """What a daemon adds is hosted by the same supervisor, and outlives it."""
    child = Probe()

    async def add(ctx: Context) -> None:
        ctx.supervisor.add(child)

    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(add))
    assert child.log == ["start", "run", "stop", "stopped"]


async def test_a_daemon_added_after_the_body_has_ended_runs(clock: Clock) -> None:
    """While the end of the block waits for one daemon, that one may add others."""
    children = [Probe() for _ in range(3)]

    async def add_later(ctx: Context) -> None:
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        for child in children:
            handle = ctx.supervisor.add(child)
            await handle.wait_started()

    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(add_later))
    assert all(child.log[-1] == "stopped" for child in children)


async def test_the_context_describes_the_daemon_and_its_world(clock: Clock) -> None:
    """Every hook gets the clock, the supervisor and the name."""
    contexts = []

    async def note(ctx: Context) -> None:
        contexts.append(ctx)

    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(note, on_start=note, on_stop=note), name="a")
    assert len(contexts) == 3
    for ctx in contexts:
        assert ctx.clock is clock
        assert ctx.supervisor is sup
        assert ctx.name == "a"


async def test_a_supervisor_is_on_real_time_by_default() -> None:
    """Without a clock, daemons get the wall clock."""
    sup = Supervisor()
    assert isinstance(sup.clock, WallClock)
    async with sup:
        pass


# Names


async def test_the_name_is_the_callers_else_the_daemons_own(clock: Clock) -> None:
    """``add(name=...)`` wins over the name of the daemon."""
    async with Supervisor(clock=clock) as sup:
        assert sup.add(Probe(name="own")).name == "own"
        assert sup.add(Probe(name="own"), name="given").name == "given"


async def test_names_are_unique_among_the_living(clock: Clock) -> None:
    """A taken name is refused while its daemon lives, and free when it is gone."""
    async with Supervisor(clock=clock) as sup:
        handle = sup.add(Probe(obey), name="a")
        with pytest.raises(ValueError, match="'a'"):
            sup.add(Probe(), name="a")
        with pytest.raises(ValueError, match="'a'"):
            sup.add(Probe(name="a"))
        await handle.stop()
        sup.add(Probe(), name="a")


def test_names_are_unique_before_entry() -> None:
    """A daemon that has yet to start holds its name."""
    sup = Supervisor()
    sup.add(Probe(), name="a")
    with pytest.raises(ValueError, match="'a'"):
        sup.add(Probe(), name="a")


async def test_generated_names_never_clash(clock: Clock) -> None:
    """Names that are made up avoid each other and those that were given."""
    async with Supervisor(clock=clock) as sup:
        first = sup.add(Probe(obey)).name
        second = sup.add(Probe(obey)).name
        taken = second.replace("2", "3")
        sup.add(Probe(obey), name=taken)
        names = {first, second, taken, *(sup.add(Probe(obey)).name for _ in range(10))}
        assert len(names) == 13
        assert set(sup.snapshot()) == names
        await sup.stop()


async def test_generated_names_tell_what_runs(clock: Clock) -> None:
    """A made-up name contains that of the class or function."""
    async with Supervisor(clock=clock) as sup:
        assert "Probe" in sup.add(Probe()).name
        assert "ticker" in sup.add(ticker(1)).name
        assert "obey" in sup.spawn(obey).name
        assert "obey" in sup.spawn(functools.partial(obey)).name
        sup.signal_stop()


# What is refused


class Plain:
    """No daemon at all."""


async def test_adding_a_factory_explains_itself() -> None:
    """``add(factory)`` without the call says to call it."""
    with pytest.raises(TypeError, match=r"ticker.*call it"):
        Supervisor().add(ticker)


async def test_adding_a_class_explains_itself() -> None:
    """``add(Class)`` says to make an instance."""
    with pytest.raises(TypeError, match=r"Probe.*instance"):
        Supervisor().add(Probe)


async def test_adding_a_function_explains_itself() -> None:
    """``add(function)`` points at the decorator and at ``spawn``."""
    with pytest.raises(TypeError, match=r"obey.*@daemon.*spawn"):
        Supervisor().add(obey)


@pytest.mark.parametrize("thing", [None, 3, "name", Plain()])
async def test_adding_what_is_no_daemon_is_refused(thing: object) -> None:
    """Anything else is a TypeError at once."""
    with pytest.raises(TypeError, match="Daemon"):
        Supervisor().add(thing)


async def test_adding_a_coroutine_is_refused() -> None:
    """A coroutine, called too early, is no daemon."""
    coroutine = anyio.lowlevel.checkpoint()
    with pytest.raises(TypeError):
        Supervisor().add(coroutine)
    with pytest.raises(TypeError):
        Supervisor().spawn(coroutine)
    coroutine.close()


async def test_one_instance_is_hosted_once_at_a_time(clock: Clock) -> None:
    """Adding an instance twice is a ValueError; when it is gone it may be added again."""
    probe = Probe(obey)
    async with Supervisor(clock=clock) as sup:
        handle = sup.add(probe, name="a")
        with pytest.raises(ValueError, match="instance"):
            sup.add(probe, name="b")
        await handle.stop()
        sup.add(probe, name="b")
        sup.signal_stop()


async def test_a_supervisor_is_entered_once(clock: Clock) -> None:
    """Entering it again, inside or afterwards, is a RuntimeError."""
    sup = Supervisor(clock=clock)
    async with sup:
        with pytest.raises(RuntimeError, match="once"):
            await sup.__aenter__()
    with pytest.raises(RuntimeError, match="once"):
        async with sup:
            pass


async def test_adding_after_the_block_is_refused(clock: Clock) -> None:
    """``add`` and ``spawn`` after exit are a RuntimeError, not a silent no-op."""
    async with Supervisor(clock=clock) as sup:
        pass
    with pytest.raises(RuntimeError, match="ended"):
        sup.add(Probe())
    with pytest.raises(RuntimeError, match="ended"):
        sup.spawn(obey)


async def test_adding_while_stopping_is_refused(clock: Clock) -> None:
    """``add`` after the signal is a RuntimeError, before entry too."""
    early = Supervisor(clock=clock)
    early.signal_stop()
    with pytest.raises(RuntimeError, match="stopping"):
        early.add(Probe())
    async with Supervisor(clock=clock) as sup:
        sup.signal_stop()
        with pytest.raises(RuntimeError, match="stopping"):
            sup.add(Probe())


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_start_timeout_that_makes_no_sense_is_refused(timeout: float) -> None:
    """Zero, a negative time and NaN are a ValueError at once."""
    with pytest.raises(ValueError, match="start_timeout"):
        Supervisor().add(Probe(), start_timeout=timeout)


def test_owning_what_cannot_be_closed_is_refused() -> None:
    """``owns`` takes endpoints; a whole channel or a number is a TypeError at once."""
    with pytest.raises(TypeError, match="aclose"):
        Supervisor().add(Probe(), owns=[open_channel[int]()])
    with pytest.raises(TypeError, match="aclose"):
        Supervisor().add(Probe(), owns=[3])


# spawn


class Greeter:
    """Has a method to spawn, and can be called."""

    def __init__(self) -> None:
        self.greeted: list[object] = []

    async def greet(self, ctx: Context, whom: str) -> None:
        self.greeted.append((ctx.name, whom))

    async def __call__(self, ctx: Context, whom: str) -> None:
        self.greeted.append((ctx.name, whom))


@pytest.mark.parametrize("kind", ["method", "lambda", "partial", "object", "keyword"])
async def test_spawn_takes_any_callable(kind: str, clock: Clock) -> None:
    """Bound methods, lambdas, partials and callable objects run, with the arguments given."""
    greeter = Greeter()
    async with Supervisor(clock=clock) as sup:
        if kind == "method":
            sup.spawn(greeter.greet, "world", name="a")
        elif kind == "lambda":
            sup.spawn(lambda ctx: greeter.greet(ctx, "world"), name="a")
        elif kind == "partial":
            sup.spawn(functools.partial(greeter.greet, whom="world"), name="a")
        elif kind == "object":
            sup.spawn(greeter, "world", name="a")
        else:
            sup.spawn(greeter.greet, whom="world", name="a")
    assert greeter.greeted == [("a", "world")]


async def test_spawn_makes_up_names(clock: Clock) -> None:
    """Spawning one function, or several lambdas, needs no names."""
    async with Supervisor(clock=clock) as sup:
        handles = [sup.spawn(obey), sup.spawn(obey)]
        handles += [sup.spawn(lambda ctx: obey(ctx)) for _ in range(2)]
        assert len({handle.name for handle in handles}) == 4
        sup.signal_stop()


async def test_spawning_a_plain_function_says_that_it_must_be_async(clock: Clock) -> None:
    """A function that returns nothing to await fails with a TypeError that explains it."""
    with pytest.raises(ExceptionGroup) as caught:
        async with Supervisor(clock=clock) as sup:
            sup.spawn(lambda ctx: 42)
    cause = caught.value.exceptions[0].__cause__
    assert isinstance(cause, TypeError)
    assert "async" in str(cause)


async def test_spawning_an_async_generator_says_that_it_cannot_be_awaited(clock: Clock) -> None:
    """An async function with a ``yield`` in it is not run silently as nothing."""

    async def generate(ctx: Context) -> AsyncIterator[int]:
        yield 1

    with pytest.raises(ExceptionGroup) as caught:
        async with Supervisor(clock=clock) as sup:
            sup.spawn(generate)
    assert isinstance(caught.value.exceptions[0].__cause__, TypeError)


async def test_spawning_a_factory_or_what_cannot_be_called_is_refused() -> None:
    """A factory of daemons is for ``add``, and a number for nobody."""
    with pytest.raises(TypeError, match="ticker"):
        Supervisor().spawn(ticker, 1)
    with pytest.raises(TypeError):
        Supervisor().spawn(3)


async def test_an_error_of_what_was_spawned_is_a_daemons_error(clock: Clock) -> None:
    """The supervisor's policy holds for spawned functions."""
    with pytest.raises(ExceptionGroup) as caught:
        async with Supervisor(clock=clock) as sup:
            sup.spawn(fail, name="spawned")
    assert caught.value.exceptions[0].daemon == "spawned"


# Waiting for the start


async def test_wait_all_started_waits_for_every_on_start(clock: Clock) -> None:
    """On return, every daemon known at the call has come up."""

    async def slowly(ctx: Context) -> None:
        for _ in range(10):
            await anyio.lowlevel.checkpoint()

    async with Supervisor(clock=clock) as sup:
        handles = [sup.add(Probe(obey, on_start=slowly)) for _ in range(3)]
        assert await sup.wait_all_started() == []
        assert [handle.health.state for handle in handles] == ["running"] * 3
        sup.signal_stop()


async def test_wait_all_started_without_daemons_returns(clock: Clock) -> None:
    """Nobody to wait for is nothing to wait for."""
    async with Supervisor(clock=clock) as sup:
        assert await sup.wait_all_started() == []


async def test_wait_all_started_is_about_those_known_at_the_call(clock: Clock) -> None:
    """A daemon that is added meanwhile, and hangs, is not waited for."""

    async def add(ctx: Context) -> None:
        ctx.supervisor.add(Probe(on_start=defy))

    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(obey, on_start=add))
        assert await sup.wait_all_started() == []
        await sup.stop(grace=0)


async def test_wait_all_started_returns_the_names_of_those_let_go(clock: Clock) -> None:
    """A failed start that the policy lets go is in the result; those that came up are not."""
    async with Supervisor(clock=clock, on_error="ignore") as sup:
        sup.add(Probe(obey), name="a")
        sup.add(Probe(on_start=fail), name="b")
        sup.add(Probe(fail), name="c")
        assert await sup.wait_all_started() == ["b"]
        sup.signal_stop()


async def test_wait_all_started_does_not_name_who_has_come_up_since(clock: Clock) -> None:
    """A daemon that came up under the name of one that failed earlier is not missing."""
    async with Supervisor(clock=clock, on_error="ignore") as sup:
        failed = sup.add(Probe(on_start=fail), name="a")
        await failed.wait_stopped()
        sup.add(Probe(obey), name="a")
        assert await sup.wait_all_started() == []
        sup.signal_stop()


async def test_wait_all_started_raises_a_failure_that_is_not_let_go(clock: Clock) -> None:
    """Whoever waits outside the block gets the DaemonError."""
    sup = Supervisor(clock=clock)
    trigger = anyio.Event()
    errors = []

    async def fail_when_told(ctx: Context) -> None:
        await trigger.wait()
        raise ValueError("boom")

    async def wait() -> None:
        with pytest.raises(DaemonError) as caught:
            trigger.set()
            await sup.wait_all_started()
        errors.append(caught.value)

    with pytest.raises(ExceptionGroup) as group:
        async with anyio.create_task_group() as tasks:
            async with sup:
                sup.add(Probe(on_start=fail_when_told), name="broken")
                tasks.start_soon(wait)
                await anyio.Event().wait()
    (error,) = errors
    assert (error.daemon, error.phase) == ("broken", "on_start")
    assert group.group_contains(DaemonError)


async def test_wait_all_started_in_the_block_ends_the_block_with_the_failure(
    clock: Clock,
) -> None:
    """In the block itself, code after the wait does not run where a start has failed."""
    reached = False
    with pytest.raises(ExceptionGroup) as caught:
        async with Supervisor(clock=clock) as sup:
            sup.add(Probe(on_start=fail))
            await sup.wait_all_started()
            reached = True
    assert not reached
    assert caught.value.exceptions[0].phase == "on_start"


async def test_wait_all_started_needs_no_advance() -> None:
    """Under a simulated clock daemons come up at once, though nobody moves time."""
    clock = SimClock(5)

    async def sleep(ctx: Context) -> None:
        await ctx.clock.sleep(1)

    async with Supervisor(clock=clock) as sup:
        handle = sup.add(Probe(sleep))
        await sup.wait_all_started()
        assert handle.health.started_at == 5
        await sup.stop()


async def test_wait_all_started_says_so_when_on_start_sleeps_on_the_clock() -> None:
    """A start that needs time to move is named, with what it waits for, instead of a hang."""

    async def sleep(ctx: Context) -> None:
        await ctx.clock.sleep(12.5)

    async with Supervisor(clock=SimClock()) as sup:
        handle = sup.add(Probe(on_start=sleep), name="slow")
        with pytest.raises(SimulationStalled, match=r"slow.*clock until 12\.5"):
            await sup.wait_all_started()
        with pytest.raises(SimulationStalled, match=r"slow.*clock until 12\.5"):
            await handle.wait_started()
        await sup.stop()


async def test_wait_all_started_works_while_another_task_drives() -> None:
    """A start that sleeps on the clock comes up when somebody else moves time."""
    clock = SimClock()

    async def sleep(ctx: Context) -> None:
        await ctx.clock.sleep(12.5)

    async with Supervisor(clock=clock) as sup:
        handle = sup.add(Probe(obey, on_start=sleep))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(clock.advance, 20)
            assert await sup.wait_all_started() == []
            assert clock.now() == 12.5
            assert handle.health.started_at == 12.5
        sup.signal_stop()


@asynccontextmanager
async def device(clock: SimClock) -> AsyncIterator[Hook]:
    """Yield a hook that waits for a device outside the event loop, which holds the clock."""
    token = anyio.lowlevel.current_token()
    ready = anyio.Event()
    held, asked = threading.Event(), threading.Event()

    def work() -> None:
        with clock.hold():
            held.set()
            asked.wait()
            time.sleep(0.02)  # the device takes its time
            anyio.from_thread.run_sync(ready.set, token=token)

    async def ask(ctx: Context) -> None:
        asked.set()
        await ready.wait()

    thread = threading.Thread(target=work)
    thread.start()
    held.wait()
    try:
        yield ask
    finally:
        asked.set()
        await anyio.to_thread.run_sync(thread.join)


async def test_wait_all_started_waits_while_the_clock_is_held() -> None:
    """What a thread is about to do, under ``hold``, keeps a start from being called hopeless."""
    clock = SimClock()
    async with device(clock) as ask:
        async with Supervisor(clock=clock) as sup:
            sup.add(Probe(obey, on_start=ask))
            assert await sup.wait_all_started() == []
            sup.signal_stop()


async def test_a_restart_that_comes_up_counts_as_started() -> None:
    """``wait_all_started`` waits for a daemon whose first attempts fail."""
    left = [ValueError(), ValueError()]

    async def come_up(ctx: Context) -> None:
        if left:
            raise left.pop()

    policy = RestartPolicy(base=0.001)
    async with Supervisor(on_error="restart", restart=policy) as sup:
        handle = sup.add(Probe(obey, on_start=come_up))
        assert await sup.wait_all_started() == []
        assert handle.health.restart_count == 2
        sup.signal_stop()


async def test_wait_started_returns_when_the_daemon_is_up(clock: Clock) -> None:
    """A handle waits for its own daemon, and returns at once when that was up long ago."""
    async with Supervisor(clock=clock) as sup:
        handle = sup.add(Probe(obey))
        await handle.wait_started()
        assert handle.health.state == "running"
        await handle.stop()
        await handle.wait_started()


async def test_wait_started_raises_where_the_daemon_has_not_come_up(clock: Clock) -> None:
    """Whoever waits for one daemon is told that it failed, also where that was let go."""
    async with Supervisor(clock=clock, on_error="ignore") as sup:
        handle = sup.add(Probe(on_start=fail), name="broken")
        with pytest.raises(DaemonError, match="broken") as caught:
            await handle.wait_started()
    assert (caught.value.daemon, caught.value.phase) == ("broken", "on_start")


@pytest.mark.parametrize("policy", ["shutdown", "ignore"])
async def test_a_start_that_hangs_is_named_after_its_timeout(policy: str, clock: Clock) -> None:
    """``start_timeout`` counts real seconds, and makes a start that hangs an error like any."""
    sup = Supervisor(clock=clock, on_error=policy)
    behind = Probe()
    missing = None
    try:
        async with sup:
            handle = sup.add(Probe(on_start=defy), name="hanging", start_timeout=0.01)
            sup.add(behind)
            missing = await sup.wait_all_started()
    except ExceptionGroup as group:
        (error,) = group.exceptions
        assert policy == "shutdown"
        assert (error.daemon, error.phase) == ("hanging", "on_start")
        assert behind.log == []
    else:
        assert policy == "ignore"
        assert missing == ["hanging"]
        assert behind.log[-1] == "stopped"
    assert isinstance(handle.health.last_error, TimeoutError)
    assert handle.health.last_error_phase == "on_start"


async def test_the_end_of_the_block_waits_for_a_start_timeout(clock: Clock) -> None:
    """A start that hangs ends the block by its timeout, where nobody waits for it."""
    with pytest.raises(ExceptionGroup) as caught:
        async with Supervisor(clock=clock) as sup:
            sup.add(Probe(on_start=defy), name="hanging", start_timeout=0.01)
    assert caught.value.exceptions[0].daemon == "hanging"


async def test_a_start_within_its_timeout_is_left_alone(clock: Clock) -> None:
    """The timeout is over with ``on_start``: it does not reach into ``run``."""

    async def outlast(ctx: Context) -> None:
        with anyio.CancelScope():
            await release.wait()

    release = anyio.Event()
    async with Supervisor() as sup:
        handle = sup.add(Probe(outlast), start_timeout=0.01)
        await handle.wait_started()
        await anyio.sleep(0.02)
        assert handle.health.state == "running"
        release.set()


async def test_wait_stopped_waits_for_on_stop_and_for_what_is_owned(clock: Clock) -> None:
    """A daemon is gone when its ``on_stop`` has run and its endpoints are closed."""
    channel = open_channel[int]()
    probe = Probe()
    async with Supervisor(clock=clock) as sup:
        handle = sup.add(probe, owns=[channel.send])
        await handle.wait_stopped()
        assert probe.log[-1] == "stopped"
        with pytest.raises(EndOfStream):
            await channel.recv.receive()
        await handle.wait_stopped()


# owns


async def test_what_a_daemon_owns_is_closed_when_it_ends(clock: Clock) -> None:
    """A consumer sees the end of the stream, and ends by itself."""
    channel = open_channel[int]()
    received = []

    async def produce(ctx: Context) -> None:
        for number in range(3):
            await channel.send.send(number)

    async def consume(ctx: Context) -> None:
        async for item in channel.recv:
            received.append(item)

    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(produce), owns=[channel.send])
        sup.add(Probe(consume), owns=[channel.recv])
    assert received == [0, 1, 2]


async def test_what_a_daemon_owns_stays_open_between_restarts() -> None:
    """A consumer does not notice that its producer was restarted."""
    clock = SimClock()
    channel = open_channel[int]()
    received = []
    attempts = iter(range(3))

    async def produce(ctx: Context) -> None:
        attempt = next(attempts)
        await channel.send.send(attempt)
        if attempt < 2:
            raise ValueError("boom")

    async def consume(ctx: Context) -> None:
        async for item in channel.recv:
            received.append((item, ctx.clock.now()))

    async with Supervisor(clock=clock, on_error="restart") as sup:
        sup.add(Probe(produce), owns=[channel.send])
        sup.add(Probe(consume))
        await clock.advance(1)
    assert [item for item, _ in received] == [0, 1, 2]
    assert [time for _, time in received] == pytest.approx([0, 0.1, 0.3])


@pytest.mark.parametrize("reason", ["start fails", "stopped first", "error first", "given up"])
async def test_what_a_daemon_owns_is_closed_where_it_never_came_up(
    reason: str, clock: Clock
) -> None:
    """Consumers see the end though their producer did not even start."""
    channel = open_channel[int]()
    sup = Supervisor(clock=clock)
    try:
        if reason == "start fails":
            sup.add(Probe(on_start=fail), on_error="ignore", owns=[channel.send])
        elif reason == "stopped first":
            sup.add(Probe(), owns=[channel.send])
            sup.signal_stop()
        elif reason == "error first":
            sup.add(Probe(on_start=fail))
            sup.add(Probe(), owns=[channel.send])
        else:
            policy = RestartPolicy(base=0, max_retries=1)
            sup.add(Probe(on_start=fail), on_error="restart", restart=policy, owns=[channel.send])
        async with sup:
            pass
    except ExceptionGroup:
        pass
    with pytest.raises(EndOfStream):
        await channel.recv.receive()


async def test_what_a_forced_daemon_owns_is_closed(clock: Clock) -> None:
    """Being cancelled does not keep a daemon's endpoints open."""
    channel = open_channel[int]()
    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(defy), owns=[channel.send])
        await sup.wait_all_started()
        await sup.stop(grace=0)
        with pytest.raises(EndOfStream):
            await channel.recv.receive()


async def test_on_stop_can_still_send_on_what_is_owned(clock: Clock) -> None:
    """Endpoints close after ``on_stop``, which may say a last word."""
    channel = open_channel[str](1)

    async def say(ctx: Context) -> None:
        await channel.send.send("goodbye")

    async with Supervisor(clock=clock) as sup:
        sup.add(Probe(on_stop=say), owns=[channel.send])
    assert [item async for item in channel.recv] == ["goodbye"]


class Stuck:
    """Cannot be closed."""

    async def aclose(self) -> None:
        raise OSError("stuck")


async def test_an_error_in_closing_is_reported_and_the_rest_is_closed(clock: Clock) -> None:
    """One endpoint that cannot be closed does not keep the others open."""
    channel = open_channel[int]()
    with pytest.raises(ExceptionGroup) as caught:
        async with Supervisor(clock=clock) as sup:
            sup.add(Probe(), owns=[Stuck(), channel.send], name="a")
    assert caught.value.exceptions[0].daemon == "a"
    assert isinstance(caught.value.exceptions[0].__cause__, OSError)
    with pytest.raises(EndOfStream):
        await channel.recv.receive()


# The caller's context


async def test_a_daemon_sees_the_context_variables_of_who_added_it(clock: Clock) -> None:
    """The values are those at the call of ``add``, in every hook."""
    seen = []

    async def look(ctx: Context) -> None:
        seen.append((ctx.name, tenant.get()))

    sup = Supervisor(clock=clock)
    token = tenant.set("early")
    sup.add(Probe(look, on_start=look, on_stop=look), name="a")
    tenant.reset(token)
    async with sup:
        token = tenant.set("late")
        sup.spawn(look, name="b")
        tenant.reset(token)
    assert sorted(seen) == [("a", "early")] * 3 + [("b", "late")]
    assert tenant.get() == "nobody"


async def test_what_a_daemon_sets_stays_its_own(clock: Clock) -> None:
    """A context variable that a daemon sets is seen by nobody else."""
    seen = []

    async def take(ctx: Context) -> None:
        seen.append(tenant.get())
        tenant.set(ctx.name)

    async with Supervisor(clock=clock) as sup:
        sup.spawn(take, name="a")
        sup.spawn(take, name="b")
    assert seen == ["nobody", "nobody"]


def test_daemons_may_be_added_before_an_event_loop_runs() -> None:
    """A supervisor can be set up in plain code, and run later."""
    seen = []

    async def look(ctx: Context) -> None:
        seen.append(tenant.get())

    sup = Supervisor()
    token = tenant.set("setup")
    sup.spawn(look)
    tenant.reset(token)

    async def main() -> None:
        async with sup:
            pass

    anyio.run(main)
    assert seen == ["setup"]


# Clocks


async def test_a_forgotten_clock_is_reported_at_the_end_of_the_block() -> None:
    """Daemons that nobody moves time for are named, with what they wait on, and stopped."""
    channel = open_channel[int](name="obs")

    async def sleep(ctx: Context) -> None:
        await ctx.clock.sleep(12.5)

    async def receive(ctx: Context) -> None:
        await channel.recv.receive()

    sleeper = Probe(sleep, name="sleeper")
    with pytest.raises(SimulationStalled) as caught:
        async with Supervisor(clock=SimClock()) as sup:
            sup.add(sleeper)
            sup.add(Probe(receive, name="receiver"))
    message = str(caught.value)
    assert "'sleeper'" in message
    assert "clock until 12.5" in message
    assert "'receiver'" in message
    assert "receive on channel 'obs'" in message
    assert sleeper.log[-1] == "stopped"


async def test_the_end_of_the_block_waits_while_the_clock_is_held() -> None:
    """What a thread is about to do, under ``hold``, is not a forgotten clock."""
    clock = SimClock()
    async with device(clock) as ask:
        probe = Probe(ask)
        async with Supervisor(clock=clock) as sup:
            sup.add(probe)
    assert probe.log[-1] == "stopped"


async def test_the_end_of_the_block_waits_while_another_task_drives() -> None:
    """Time that is moved from elsewhere is not a forgotten clock."""
    clock = SimClock()

    async def sleep(ctx: Context) -> None:
        await ctx.clock.sleep(5)

    probe = Probe(sleep)
    async with anyio.create_task_group() as tasks:
        async with Supervisor(clock=clock) as sup:
            sup.add(probe)
            tasks.start_soon(clock.advance, 10)
    assert probe.log[-1] == "stopped"


class Ticks:
    """A clock of one's own, with the four methods that it needs."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += max(0.0, seconds)
        await anyio.lowlevel.checkpoint()

    async def wait_until(self, deadline: float) -> None:
        await self.sleep(deadline - self.time)

    async def every(
        self, period: float, *, first: str = "after", missed: str = "skip"
    ) -> AsyncIterator[float]:
        while True:
            await self.sleep(period)
            yield self.time


async def test_a_clock_of_ones_own_works() -> None:
    """Daemons run, fail, back off and stop on a clock that has only four methods."""
    clock = Ticks()
    left = [ValueError("once")]
    seen = []

    async def run(ctx: Context) -> None:
        await ctx.clock.sleep(1)
        if left:
            raise left.pop()
        await ctx.clock.wait_until(5)
        seen.append(ctx.clock.now())

    policy = RestartPolicy(base=2)
    async with Supervisor(clock=clock, on_error="restart", restart=policy) as sup:
        handle = sup.add(Probe(run), start_timeout=60)
        stubborn = sup.add(Probe(defy), name="stubborn")
        await sup.wait_all_started()
        await handle.wait_stopped()
        assert await sup.stop(grace=0.01) == ["stubborn"]
    assert seen == [5]
    assert handle.health.restart_count == 1
    assert handle.health.stopped_at == 5
    assert stubborn.health.state == "stopped"
