"""Letting other tasks run, by the rounds of the event loop and never by its time."""

from collections.abc import Callable

from anyio.lowlevel import checkpoint
from chrono_core import SimClock

PATIENCE = 10_000


async def until(test: Callable[[], object]) -> None:
    """Give way to other tasks until something has come true."""
    for _ in range(PATIENCE):
        if test():
            return
        await checkpoint()
    raise AssertionError("it did not come true")


async def rounds(n: int = 20) -> None:
    """Give way to other tasks this often."""
    for _ in range(n):
        await checkpoint()


async def in_order() -> None:
    """From now on, tasks run in the order in which they were woken, as in a simulation."""
    await SimClock().advance(0)
