"""What is over leaves nothing behind."""

import gc
import sys

import anyio
from chrono_core import Context, SimClock, Supervisor

from .fast import run_fast

SLEEPERS = 1_000_000
DAEMONS = 100_000

# Blocks of memory; a single object kept for each thing that is over would be far more.
FEW = 2_000


def blocks() -> int:
    """How many blocks of memory are in use."""
    gc.collect()
    return sys.getallocatedblocks()


def test_a_million_cancelled_timeouts_leave_memory_flat(anyio_backend: str) -> None:
    """Whoever no longer waits for the clock is forgotten, not kept until the deadline."""

    async def main() -> None:
        clock = SimClock()

        def cancel(count: int) -> None:
            for _ in range(count):
                with clock.move_on_after(1e6):
                    pass

        cancel(1000)
        before = blocks()
        cancel(SLEEPERS)
        assert blocks() - before < FEW
        assert clock.pending == []

    run_fast(main, anyio_backend)


def test_sleepers_cancelled_in_their_sleep_leave_memory_flat(anyio_backend: str) -> None:
    """So is a task that was asleep, again and again."""

    async def main() -> None:
        clock = SimClock()

        async def cancel(count: int) -> None:
            for _ in range(count // 100):
                async with anyio.create_task_group() as tasks:
                    for _ in range(100):
                        tasks.start_soon(clock.sleep, 1e6)
                    await clock.advance(0)
                    assert len(clock.pending) == 100
                    tasks.cancel_scope.cancel()

        await cancel(1000)
        before = blocks()
        await cancel(20_000)
        assert blocks() - before < FEW
        assert clock.pending == []

    run_fast(main, anyio_backend)


def test_a_hundred_thousand_finished_daemons_leave_memory_flat(anyio_backend: str) -> None:
    """Short-lived daemons come and go, and their supervisor does not grow."""

    async def main() -> None:
        async def brief(ctx: Context) -> None:
            pass

        async with Supervisor(clock=SimClock()) as supervisor:

            async def churn(count: int) -> None:
                for _ in range(count // 100):
                    handles = [supervisor.spawn(brief) for _ in range(100)]
                    for handle in handles:
                        await handle.wait_stopped()

            await churn(1000)
            before = blocks()
            await churn(DAEMONS)
            assert blocks() - before < FEW
            assert len(supervisor.snapshot()) < 200

    run_fast(main, anyio_backend)
