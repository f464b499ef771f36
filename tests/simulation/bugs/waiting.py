"""Waiting for one another: wake-ups that are missed, locks that are mistaken."""

from __future__ import annotations

import math

import anyio
from anyio.lowlevel import checkpoint

from .bug import Wrong, bug


class Bell:
    """Wakes those who wait at that moment, and nobody later."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def ring(self) -> None:
        self._event.set()
        self._event = anyio.Event()

    async def wait(self) -> None:
        await self._event.wait()


@bug
async def missed_wakeup() -> None:
    """A consumer sees that there is nothing, says so, and only then begins to wait."""
    bell = Bell()
    shelf: list[int] = []

    async def produce() -> None:
        for n in range(3):
            shelf.append(n)
            bell.ring()
            await checkpoint()

    async def consume() -> None:
        for _ in range(3):
            while not shelf:
                await checkpoint()  # it is logged that there is nothing
                await bell.wait()
            shelf.pop(0)
            await checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        tasks.start_soon(consume)


@bug
async def abba() -> None:
    """Two transfers lock both accounts, each its own first."""
    checking, savings = anyio.Lock(), anyio.Lock()

    async def transfer(mine: anyio.Lock, other: anyio.Lock, before: int) -> None:
        for _ in range(before):
            await checkpoint()
        async with mine, other:
            await checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(transfer, checking, savings, 0)
        tasks.start_soon(transfer, savings, checking, 1)


@bug
async def cycle_of_three() -> None:
    """Three take one lock each and then the next one's: two things must go wrong, in a crowd."""
    locks = [anyio.Lock() for _ in range(3)]

    async def hold_two(number: int) -> None:
        for _ in range(number):
            await checkpoint()
        async with locks[number], locks[(number + 1) % 3]:
            await checkpoint()

    async def pass_by() -> None:
        for _ in range(6):
            await checkpoint()

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(hold_two, number)
        tasks.start_soon(pass_by)


class Latch:
    """A lock that does not ask who lets it go."""

    def __init__(self) -> None:
        self._taken = False
        self._freed = Bell()

    async def acquire(self) -> None:
        while self._taken:
            await self._freed.wait()
        self._taken = True

    def release(self) -> None:
        self._taken = False
        self._freed.ring()


@bug
async def released_by_another() -> None:
    """Who has lost patience lets a lock go that it never had."""
    latch = Latch()
    inside: list[str] = []

    async def use(name: str, seconds: float, patience: float) -> None:
        try:
            with anyio.move_on_after(patience) as limit:
                await latch.acquire()
                limit.deadline = math.inf
                if inside:
                    raise Wrong(f"{name} got in while {inside} were inside")
                inside.append(name)
                await anyio.sleep(seconds)
                inside.remove(name)
        finally:
            latch.release()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(use, "quick", 1.0, 1.5)
        tasks.start_soon(use, "slow", 2.0, math.inf)
        tasks.start_soon(use, "patient", 1.0, math.inf)
