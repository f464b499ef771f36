"""A whole program in virtual time."""

import asyncio
import functools
import threading
import time

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint
from chrono_core import Context, SimClock, Supervisor, WallClock, open_channel, simulate
from chrono_core.testing import available_backends

both = pytest.mark.parametrize("backend", available_backends())

EPOCH = 1_800_000_000.0


@both
def test_it_returns_what_the_program_returns(backend: str) -> None:
    """Arguments go in, and the result comes out."""

    async def add(a: int, b: int) -> int:
        await anyio.sleep(3600)
        return a + b

    assert simulate(add, 2, 3, backend=backend) == 5
    assert simulate(functools.partial(add, 2), 3, backend=backend) == 5
    assert simulate(lambda: add(2, 3), backend=backend) == 5


@both
def test_every_kind_of_sleep_is_on_the_clock(backend: str) -> None:
    """anyio, the event loop, WallClock and the clock of the simulation share one time."""

    async def main() -> None:
        wall = WallClock()
        start = clock.now()
        await anyio.sleep(1)
        await wall.sleep(1)
        await clock.sleep(1)
        if backend == "trio":
            import trio

            await trio.sleep(1)
            with trio.move_on_after(1):
                await trio.sleep_forever()
        else:
            await asyncio.sleep(1)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await asyncio.Event().wait()
        with anyio.move_on_after(1):
            await anyio.sleep_forever()
        with pytest.raises(TimeoutError), anyio.fail_after(1):
            await anyio.sleep_forever()
        with wall.move_on_after(1):
            await anyio.sleep_forever()
        with clock.move_on_after(1):
            await anyio.sleep_forever()
        assert clock.now() - start == 9
        assert anyio.current_time() == wall.now() == clock.now()

    clock = SimClock(7.0)
    simulate(main, clock=clock, backend=backend)
    assert clock.now() == 16


@both
def test_a_year_takes_no_time(backend: str) -> None:
    """Time jumps; nobody waits for real."""
    before = time.monotonic()
    simulate(anyio.sleep, 365 * 86400, backend=backend)
    assert time.monotonic() - before < 5


@both
def test_equal_deadlines_go_off_in_the_order_of_registration(backend: str) -> None:
    """Sleepers of anyio and of the clock are one queue, and each wake settles before the next."""
    woken = []

    async def sleep(n: int) -> None:
        await (clock.sleep(1) if n % 2 else anyio.sleep(1))
        woken.append(n)
        await checkpoint()
        woken.append(n)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for n in range(20):
                tasks.start_soon(sleep, n)

    clock = SimClock()
    simulate(main, clock=clock, backend=backend)
    assert woken == [n for n in range(20) for _ in range(2)]


@both
def test_epoch_sized_times_do_not_spin(backend: str) -> None:
    """Where a float cannot express the next nanosecond, sleeping still ends."""

    async def main() -> list[float]:
        wall = WallClock()
        for seconds in (1e-9, 1e-7, 0.1, 1 / 3):
            await anyio.sleep(seconds)
            await wall.sleep(seconds)
            with anyio.move_on_after(seconds):
                await anyio.sleep_forever()
            await clock.sleep(seconds)
        return [clock.now(), anyio.current_time()]

    clock = SimClock(EPOCH, livelock_after=1000)
    ours, loops = simulate(main, clock=clock, backend=backend)
    assert ours == pytest.approx(EPOCH + 4 * (0.1 + 1 / 3), abs=1e-5)
    assert loops == pytest.approx(ours, abs=1e-6)


@both
def test_thirds_of_a_second_end_together(backend: str) -> None:
    """What two floats round to one nanosecond is one instant, and no timer fires early."""

    async def main() -> None:
        for _ in range(3):
            await anyio.sleep(0.1)
        deadline = anyio.current_time() + 0.1
        with anyio.CancelScope(deadline=deadline):
            await anyio.sleep_forever()
        assert anyio.current_time() >= deadline

    simulate(main, backend=backend, clock=SimClock(livelock_after=1000))


@both
def test_a_deadline_that_has_passed_cancels_at_once(backend: str) -> None:
    """Others may be busy meanwhile: it does not wait for idleness."""

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(spin)
            with anyio.move_on_after(0) as scope:
                for _ in range(10):
                    await checkpoint()
            assert scope.cancelled_caught
            tasks.cancel_scope.cancel()

    async def spin() -> None:
        while True:
            await checkpoint()

    simulate(main, backend=backend, clock=SimClock(livelock_after=1000))


@both
def test_the_clock_may_be_driven_inside(backend: str) -> None:
    """While a task drives, time goes no further than it says; otherwise it goes by itself."""
    seen = []

    async def tick() -> None:
        while True:
            await anyio.sleep(1)
            seen.append(clock.now())

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tick)
            await clock.advance(2.5)
            assert seen == [1.0, 2.0]
            assert clock.now() == 2.5
            assert await clock.step() == 3.0
            await clock.run_until(lambda: len(seen) == 5, limit=60)
            assert clock.now() == 5.0
            await anyio.sleep(2)
            assert clock.now() == 7.0
            tasks.cancel_scope.cancel()

    clock = SimClock()
    simulate(main, clock=clock, backend=backend)


@both
def test_supervisors_live_in_it_on_either_clock(backend: str) -> None:
    """On a WallClock, which is virtual here, and on the clock of the simulation."""

    async def tick(ctx: Context) -> None:
        async for due in ctx.clock.every(10):
            ticks.append((ctx.name, due))

    async def main() -> None:
        async with (
            Supervisor(on_exit="stop") as wall,
            Supervisor(clock=clock, on_exit="stop") as simulated,
        ):
            wall.spawn(tick, name="wall")
            simulated.spawn(tick, name="simulated")
            await anyio.sleep(25)

    ticks: list[tuple[str, float]] = []
    clock = SimClock()
    simulate(main, clock=clock, backend=backend)
    # On the one clock, a stop gives 5 s of grace; on the other, until nothing can run.
    assert ticks[:4] == [(name, due) for due in (10.0, 20.0) for name in ("wall", "simulated")]
    assert clock.now() == 30


@both
def test_another_clock_inside_is_another_time(backend: str) -> None:
    """For the simulation, what a nested clock drives takes no time."""

    async def main() -> None:
        inner = SimClock()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(inner.sleep, 50)
            await inner.advance(100)
        assert (inner.now(), clock.now()) == (100, 0)

    clock = SimClock()
    simulate(main, clock=clock, backend=backend)


@both
@pytest.mark.parametrize("limiter", [None, 1, 5])
def test_worker_threads_hold_time(backend: str, limiter: int | None) -> None:
    """With anyio's limiter and with one of one's own, as often as it takes."""

    async def main() -> None:
        tokens = None if limiter is None else anyio.CapacityLimiter(limiter)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep, 3600)
            for _ in range(3):
                await anyio.to_thread.run_sync(time.sleep, 0.01, limiter=tokens)
                assert clock.now() == 0
        assert clock.now() == 3600

    clock = SimClock()
    simulate(main, clock=clock, backend=backend)


@both
def test_a_thread_may_call_back(backend: str) -> None:
    """What a worker thread runs in the event loop happens at the instant at which it began."""

    async def note() -> float:
        await checkpoint()
        return clock.now()

    def work() -> tuple[float, float]:
        return anyio.from_thread.run(note), anyio.from_thread.run_sync(clock.now)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep, 9)
            await anyio.sleep(5)
            assert await anyio.to_thread.run_sync(work) == (5.0, 5.0)

    clock = SimClock()
    simulate(main, clock=clock, backend=backend)


def test_executors_of_asyncio_hold_time() -> None:
    """`run_in_executor` and `asyncio.to_thread` as well."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        sleeper = loop.create_task(asyncio.sleep(3600))
        await loop.run_in_executor(None, time.sleep, 0.01)
        await asyncio.to_thread(time.sleep, 0.01)
        assert loop.time() == 0
        await sleeper
        assert loop.time() == 3600

    simulate(main)


@both
def test_hold_keeps_time_for_a_thread_of_ones_own(backend: str) -> None:
    """Time waits inside the block, however long what is outside takes."""

    async def main() -> None:
        token = anyio.lowlevel.current_token()
        done = anyio.Event()

        def device() -> None:
            time.sleep(0.05)
            anyio.from_thread.run_sync(done.set, token=token)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep, 3600)
            thread = threading.Thread(target=device)
            with clock.hold():
                thread.start()
                await done.wait()
                assert clock.now() == 0
        assert clock.now() == 3600
        thread.join()

    clock = SimClock()
    simulate(main, clock=clock, backend=backend)


@both
def test_waiting_for_everybody_to_block_takes_no_time(backend: str) -> None:
    """`wait_all_tasks_blocked` is exact here on both backends, and is not starved by timers."""
    seen = []

    async def relay(n: int) -> None:
        for _ in range(n):
            await checkpoint()
        seen.append(clock.now())

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(relay, 50)
            tasks.start_soon(anyio.sleep, 1)
            await anyio.wait_all_tasks_blocked()
            assert seen == [0.0]
            assert clock.now() == 0.0

    clock = SimClock()
    simulate(main, clock=clock, backend=backend)


@both
def test_sockets_work_and_are_warned_of(backend: str) -> None:
    """What is real works; that it is real is said, with the line."""

    async def main() -> bytes:
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            port = listener.extra(anyio.abc.SocketAttribute.local_port)

            async def serve(stream: anyio.abc.SocketStream) -> None:
                async with stream:
                    await anyio.sleep(1)
                    await stream.send(await stream.receive())

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listener.serve, serve)
                async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                    await stream.send(b"x")
                    received = await stream.receive()
                tasks.cancel_scope.cancel()
        return received

    with pytest.warns(UserWarning, match="which is real"):
        assert simulate(main, backend=backend) == b"x"


@both
def test_clocks_can_be_used_again(backend: str) -> None:
    """One simulation after another goes on where the clock stood."""
    clock = SimClock()
    for n in (1, 2, 3):
        simulate(anyio.sleep, 10, clock=clock, backend=backend)
        assert clock.now() == 10 * n
    assert clock.pending == []


@both
def test_simulations_in_several_threads_do_not_meet(backend: str) -> None:
    """Each has its own clock, and the shims hold until the last has ended."""

    def work(n: int) -> None:
        async def main() -> list[tuple[int, float]]:
            seen = []

            async def tick(k: int) -> None:
                for _ in range(50):
                    await anyio.sleep(k)
                    seen.append((k, anyio.current_time()))

            async with anyio.create_task_group() as tasks:
                for k in range(1, 5):
                    tasks.start_soon(tick, k)
            return seen

        results.append([simulate(main, backend=backend) for _ in range(3)])

    results: list[list[list[tuple[int, float]]]] = []
    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = results[0][0]
    assert results == [[first] * 3] * 4


@both
def test_exceptions_of_the_program_pass(backend: str) -> None:
    """As they are, whatever they are."""

    async def fail(error: BaseException) -> None:
        await anyio.sleep(1)
        raise error

    for kind in (ValueError, KeyboardInterrupt, SystemExit):
        with pytest.raises(kind, match="now"):
            simulate(fail, kind("now"), backend=backend)


def test_native_tasks_that_are_left_end_in_order() -> None:
    """Tasks that asyncio has to cancel at the end are cancelled in the order of their start."""
    ended = []

    async def linger(n: int) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(n)

    async def main() -> None:
        tasks.extend(asyncio.create_task(linger(n)) for n in range(20))
        await asyncio.sleep(1)

    tasks: list[asyncio.Task[None]] = []
    simulate(main)
    assert ended == list(range(20))


def test_native_task_groups_are_cancelled_in_order() -> None:
    """As are those of `asyncio.TaskGroup`, and what `asyncio.wait` returns is in order, too."""
    ended = []

    async def linger(n: int) -> None:
        try:
            await asyncio.sleep(n)
        finally:
            ended.append(n)

    async def fail() -> None:
        raise ValueError

    async def main() -> None:
        tasks = [asyncio.create_task(asyncio.sleep(0, n)) for n in range(20)]
        done, pending = await asyncio.wait(tasks)
        assert isinstance(done, set)
        assert [task.result() for task in done] == list(range(20))
        assert not pending
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                for n in range(20, 40):
                    group.create_task(linger(n))
                await asyncio.sleep(1)
                group.create_task(fail())

    simulate(main)
    assert ended == list(range(20, 40))


@both
def test_channels_work_as_ever(backend: str) -> None:
    """A channel of one simulation is used in the next, since the first is over."""
    channel = open_channel[int](1)

    async def main(n: int) -> int:
        await channel.send.send(n)
        return await channel.recv.receive()

    assert [simulate(main, n, backend=backend) for n in (1, 2)] == [1, 2]
