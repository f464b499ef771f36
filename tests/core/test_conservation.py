"""No cancellation, whoever sends it and whenever, loses an item or gives it twice."""

import asyncio
import random
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import pytest
from chrono_core import Channel, SimClock, open_channel

from .fast import run_fast

ITEMS = 10_000


@pytest.mark.parametrize("maxsize", [0, 1, 7, 64])
def test_scopes_cancelled_at_random_lose_nothing(maxsize: int, anyio_backend: str) -> None:
    """Both ends are cancelled again and again by scopes; a send that raised is sent again."""
    run_fast(partial(disturbed_by_scopes, maxsize), anyio_backend)


async def disturbed_by_scopes(maxsize: int) -> None:
    rng = random.Random(maxsize)
    channel = open_channel[int](maxsize)
    scopes: dict[str, anyio.CancelScope] = {}
    got: list[int] = []
    counts = {"send": 0, "receive": 0}

    async def produce() -> None:
        for item in range(ITEMS):
            while True:
                with anyio.CancelScope() as scopes["send"]:
                    await channel.send.send(item)
                    break
                counts["send"] += 1
        await channel.send.aclose()

    async def consume() -> None:
        while True:
            with anyio.CancelScope() as scopes["receive"]:
                try:
                    got.append(await channel.recv.receive())
                except Exception:
                    return
                continue
            counts["receive"] += 1

    async def disturb() -> None:
        while len(got) < ITEMS:
            for _ in range(rng.randrange(4)):
                await anyio.lowlevel.checkpoint()
            side = rng.choice(("send", "receive"))
            if side in scopes:
                scopes[side].cancel()
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        for task in (produce, consume, disturb):
            tasks.start_soon(task)
    assert got == list(range(ITEMS))
    assert min(counts.values()) > 10
    assert channel.recv.statistics().sent == channel.recv.statistics().received == ITEMS


def run_on_asyncio(maxsize: int, seed: int, disturbance: str, loop: Any = None) -> None:
    """Both ends live in tasks of asyncio's own, which are cancelled natively."""

    async def main() -> None:
        rng = random.Random(seed)
        channel = open_channel[int](maxsize)
        got: list[int] = []
        state = {"next": 0, "cancelled": 0}

        async def produce() -> None:
            while state["next"] < ITEMS:
                await channel.send.send(state["next"])
                state["next"] += 1
            await channel.send.aclose()

        async def consume() -> None:
            async for item in channel.recv:
                got.append(item)

        async def keep(work: Any) -> None:
            """Do the work again whenever it was cancelled."""
            while True:
                if disturbance == "timeout":
                    with suppress(TimeoutError):
                        async with asyncio.timeout(rng.random() * 1e-4):
                            await work()
                            return
                    state["cancelled"] += 1
                    continue
                task = asyncio.create_task(work())
                tasks[work] = task
                with suppress(asyncio.CancelledError):
                    await task
                    return
                state["cancelled"] += 1

        tasks: dict[Any, asyncio.Task[None]] = {}

        async def disturb() -> None:
            while len(got) < ITEMS:
                for _ in range(rng.randrange(5)):
                    await asyncio.sleep(0)
                if tasks:
                    rng.choice(list(tasks.values())).cancel()
                await asyncio.sleep(0)

        works = [keep(produce), keep(consume)]
        if disturbance == "cancel":
            works.append(disturb())
        await asyncio.gather(*works)
        assert got == list(range(ITEMS))
        assert state["cancelled"] > 50

    with asyncio.Runner(debug=False, loop_factory=loop) as runner:
        runner.run(main())


@pytest.mark.parametrize("maxsize", [0, 1, 7, 64])
@pytest.mark.parametrize("disturbance", ["cancel", "timeout"])
def test_native_cancellation_at_random_loses_nothing(maxsize: int, disturbance: str) -> None:
    """`task.cancel` and `asyncio.timeout`, at any moment, the wake-up's own round included.

    A send that was cancelled natively is taken at its word: it raised, so it is sent again.
    """
    run_on_asyncio(maxsize, seed=maxsize, disturbance=disturbance)


@pytest.mark.parametrize("maxsize", [0, 1, 64])
def test_native_cancellation_loses_nothing_on_uvloop(maxsize: int) -> None:
    """The same on uvloop."""
    uvloop = pytest.importorskip("uvloop")
    run_on_asyncio(maxsize, seed=maxsize, disturbance="cancel", loop=uvloop.new_event_loop)


async def test_timeouts_of_the_clock_lose_nothing() -> None:
    """Receives that time out on a simulated clock leave the item for the next."""
    clock = SimClock()
    channel: Channel[int] = open_channel(0)
    got: list[int] = []
    timeouts = 0

    async def produce() -> None:
        for item in range(1000):
            await clock.sleep(0.001)
            await channel.send.send(item)
        await channel.send.aclose()

    async def consume() -> None:
        nonlocal timeouts
        while len(got) < 1000:
            with clock.move_on_after(0.001):
                got.append(await channel.recv.receive())
                continue
            timeouts += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        tasks.start_soon(produce)
        await clock.run_until(lambda: len(got) == 1000, limit=10.0)
    assert got == list(range(1000))
    assert timeouts > 100
