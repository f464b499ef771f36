"""What is over leaves nothing behind."""

import gc
import tracemalloc

import anyio
from chrono_core import Context, SimClock, Supervisor

from .fast import run_fast

MANY = 20_000


def growth(before: int) -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0] - before


def test_a_million_cancelled_sleepers_leave_memory_flat(anyio_backend: str) -> None:
    """Sleepers that are cancelled are forgotten, not kept until their deadline."""

    async def main() -> None:
        clock = SimClock()

        async def cancel_many(count: int) -> None:
            for _ in range(count):
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    await clock.sleep(1e6)

        async def race(count: int) -> None:
            # Each sleeps, and is cancelled while it does.
            for _ in range(count):
                with clock.move_on_after(1e6) as scope:
                    scope.cancel()
                    await anyio.lowlevel.checkpoint()

        await cancel_many(1000)
        await race(1000)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            await race(MANY)
            assert growth(before) < 200_000
            assert len(clock.pending) == 0
        finally:
            tracemalloc.stop()

    run_fast(main, anyio_backend)


def test_finished_daemons_leave_memory_flat(anyio_backend: str) -> None:
    """Short-lived daemons come and go, and their supervisor does not grow."""

    async def main() -> None:
        async def brief(ctx: Context) -> None:
            await ctx.clock.sleep(0)

        async with Supervisor(clock=SimClock()) as supervisor:

            async def churn(count: int) -> None:
                for _ in range(count):
                    await supervisor.spawn(brief).wait_stopped()

            await churn(300)
            tracemalloc.start()
            try:
                before = tracemalloc.get_traced_memory()[0]
                await churn(2000)
                assert growth(before) < 100_000
                assert len(supervisor.snapshot()) < 200
            finally:
                tracemalloc.stop()

    run_fast(main, anyio_backend)
