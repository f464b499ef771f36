"""What others do meanwhile misleads neither the clock nor the supervisor."""

import asyncio
import contextvars
import gc
import threading
import warnings

import anyio
import anyio.to_thread
import pytest
from chrono_core import (
    Context,
    Daemon,
    DaemonError,
    RestartPolicy,
    SimClock,
    SimulationLivelock,
    Supervisor,
)

from .fast import run_fast


def test_thousands_of_advances_in_a_row_are_fine(anyio_backend: str) -> None:
    """A driver that goes on at once does not pile up anything in the event loop."""

    async def main() -> None:
        clock = SimClock()
        for _ in range(5000):
            await clock.advance(1)
        assert clock.now() == 5000

    run_fast(main, anyio_backend)


def test_real_callbacks_are_not_starved_by_simulated_time() -> None:
    """While time runs at full speed on asyncio, timers and other threads get their turn."""

    async def main() -> None:
        clock = SimClock()
        loop = asyncio.get_running_loop()
        seen = []

        async def tick() -> None:
            async for _ in clock.every(1.0):
                pass

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tick)
            await clock.advance(1)
            thread = threading.Thread(
                target=lambda: loop.call_soon_threadsafe(seen.append, "from a thread")
            )
            loop.call_later(0.001, seen.append, "timer")
            thread.start()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                await clock.run_until(lambda: len(seen) == 2, limit=1e9)
            thread.join()
            tasks.cancel_scope.cancel()
        assert sorted(seen) == ["from a thread", "timer"]

    run_fast(main, "asyncio")


def test_stopping_the_loop_in_the_middle_loses_no_callback() -> None:
    """`loop.stop` inside a simulated wake-up ends the run there, and another run goes on."""
    loop = asyncio.new_event_loop()
    clock = SimClock()
    ticks = []

    async def tick() -> None:
        async for now in clock.every(1.0):
            ticks.append(now)
            if now == 50.0:
                loop.stop()
            if now == 100.0:
                return

    ticking = loop.create_task(tick())
    driving = loop.create_task(clock.advance(100))
    loop.run_forever()
    assert 50.0 in ticks
    assert not driving.done()
    loop.run_until_complete(asyncio.gather(ticking, driving))
    loop.close()
    assert ticks == [float(n) for n in range(1, 101)]


async def test_who_waits_for_everybody_to_block_is_woken_while_time_runs() -> None:
    """A daemon may use `wait_all_tasks_blocked` itself, though others tick."""
    clock = SimClock()
    seen: list[float] = []

    async def watch(ctx: Context) -> None:
        await anyio.wait_all_tasks_blocked()
        seen.append(ctx.clock.now())

    async def tick(ctx: Context) -> None:
        async for _ in ctx.clock.every(0.5):
            pass

    async with Supervisor(clock=clock, on_exit="stop") as supervisor:
        supervisor.spawn(watch)
        supervisor.spawn(tick)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # asyncio's way of waiting takes real naps
            await clock.run_until(lambda: bool(seen), limit=1e9)
    assert seen


async def test_what_the_block_raises_while_it_is_cancelled_does_not_free_the_daemons() -> None:
    """A daemon fails, and a child task of the block fails in its clean-up: everybody is stopped."""
    stopped = []

    class Careful(Daemon):
        async def run(self, ctx: Context) -> None:
            await anyio.sleep_forever()

        async def on_stop(self, ctx: Context) -> None:
            stopped.append(ctx.name)

    async def fail(ctx: Context) -> None:
        raise RuntimeError("daemon")

    async def fail_in_cleanup() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError("clean-up")

    with pytest.raises(ExceptionGroup) as raised:
        async with Supervisor() as supervisor:
            supervisor.add(Careful(), name="careful")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(fail_in_cleanup)
                await supervisor.wait_all_started()
                supervisor.spawn(fail)
                await anyio.sleep_forever()
    assert stopped == ["careful"]
    assert raised.value.subgroup(DaemonError) is not None
    assert raised.value.subgroup(ValueError) is not None


async def test_something_real_beside_a_forced_stop_does_not_break_it() -> None:
    """While `stop` moves the clock for an `on_stop`, nobody is warned of real timers."""
    stopped = []

    class Slow(Daemon):
        async def run(self, ctx: Context) -> None:
            await anyio.sleep_forever()

        async def on_stop(self, ctx: Context) -> None:
            await ctx.clock.sleep(1.0)
            stopped.append(ctx.name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.sleep, 60)
        with pytest.raises(KeyError):
            async with Supervisor(clock=SimClock()) as supervisor:
                for name in ("a", "b", "c"):
                    supervisor.add(Slow(), name=name)
                await supervisor.wait_all_started()
                raise KeyError
        tasks.cancel_scope.cancel()
    assert stopped == ["c", "b", "a"]


async def test_native_cancellation_while_owned_things_close_is_no_hang(anyio_backend: str) -> None:
    """The end of a daemon is told even where its task is cancelled at the last moment."""
    if anyio_backend != "asyncio":
        pytest.skip("trio has no native cancellation")
    tasks: list[asyncio.Task[None] | None] = []

    class Owned:
        async def aclose(self) -> None:
            tasks.append(asyncio.current_task())
            await asyncio.sleep(3600)

    async def run(ctx: Context) -> None:
        pass

    async with Supervisor() as supervisor:
        supervisor.add(_spawned(run), owns=[Owned()])
        while not tasks:
            await asyncio.sleep(0)
        assert tasks[0] is not None
        tasks[0].cancel()


def _spawned(function: object) -> Daemon:
    class Plain(Daemon):
        async def run(self, ctx: Context) -> None:
            await function(ctx)  # type: ignore[operator]

    return Plain()


async def test_adding_from_another_thread_is_refused_and_leaves_nothing() -> None:
    """The error says how to do it, and the supervisor can be stopped."""
    errors = []

    async def run(ctx: Context) -> None:
        raise AssertionError

    def add(supervisor: Supervisor) -> None:
        try:
            supervisor.spawn(run)
        except RuntimeError as error:
            errors.append(str(error))

    async with Supervisor() as supervisor:
        await anyio.to_thread.run_sync(add, supervisor)
        assert await supervisor.stop() == []
    assert "from another thread" in errors[0]


async def test_a_daemon_in_a_worker_thread_does_not_hang_a_simulated_stop() -> None:
    """For a thread that waits to be cancelled, the grace is in real seconds."""
    clock = SimClock()

    async def compute(ctx: Context) -> None:
        release = threading.Event()
        try:
            await anyio.to_thread.run_sync(release.wait, abandon_on_cancel=True)
        finally:
            release.set()

    async with Supervisor(clock=clock) as supervisor:
        supervisor.spawn(compute, name="compute")
        await supervisor.wait_all_started()
        while not anyio.to_thread.current_default_thread_limiter().borrowed_tokens:
            await anyio.lowlevel.checkpoint()
        assert await supervisor.stop(grace=0.02) == ["compute"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
async def test_a_condition_that_raises_ends_the_drive(error: type[BaseException]) -> None:
    """Whatever a condition raises is raised by `run_until`."""

    def condition() -> bool:
        raise error

    with pytest.raises(error):
        await SimClock().run_until(condition, limit=1.0)


async def test_a_condition_sees_the_context_of_its_caller() -> None:
    """Context variables that were set before `run_until` hold in its condition."""
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
    variable.set(1)
    await SimClock().run_until(lambda: variable.get() == 1, limit=1.0)


async def test_who_holds_the_clock_for_ever_is_found_to_spin() -> None:
    """Holding and letting go at one instant is no progress."""
    clock = SimClock(livelock_after=1000)

    async def spin(ctx: Context) -> None:
        while True:
            with clock.hold():
                await anyio.lowlevel.checkpoint()

    async with Supervisor(clock=clock, on_exit="stop") as supervisor:
        supervisor.spawn(spin, name="spinner")
        with pytest.raises(SimulationLivelock, match="spinner"):
            await clock.advance(1)
        await supervisor.stop(grace=0)


def test_a_restart_in_less_than_a_nanosecond_needs_a_limit() -> None:
    """What rounds to no wait at all could spin."""
    with pytest.raises(ValueError, match="max_retries"):
        RestartPolicy(base=1e-10, factor=1.0)


async def test_a_timeout_on_the_clock_of_another_loop_leaves_no_scope_behind() -> None:
    """It is refused by its own error, inside of any other scope."""
    clock = SimClock()
    ready, done = threading.Event(), threading.Event()

    async def elsewhere() -> None:
        await clock.advance(0)
        ready.set()
        await anyio.to_thread.run_sync(done.wait)

    thread = threading.Thread(target=anyio.run, args=(elsewhere,))
    thread.start()
    ready.wait()
    try:
        with anyio.CancelScope():
            with pytest.raises(RuntimeError, match="another event loop"):
                with clock.move_on_after(1.0):
                    raise AssertionError
    finally:
        done.set()
        thread.join()


def test_uvloop_sees_callbacks_sent_to_itself() -> None:
    """A chain of `call_soon_threadsafe` in the loop's own thread holds time there, too."""
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        clock = SimClock()
        loop = asyncio.get_running_loop()
        seen = []

        def hop(left: int) -> None:
            seen.append(clock.now())
            if left:
                loop.call_soon_threadsafe(hop, left - 1)

        async with anyio.create_task_group() as tasks:
            for n in range(1, 30):
                tasks.start_soon(clock.sleep, float(n))
            hop(20)
            await clock.advance(30)
        assert seen == [0.0] * 21

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    gc.collect()
