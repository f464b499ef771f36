"""Timeouts of anyio: nested, tied, shielded, and met by what they limit."""

from __future__ import annotations

import math

import anyio
from anyio.lowlevel import checkpoint

from .program import Log, Write, anyio_program


@anyio_program
async def nested_timeouts(trace: Write) -> None:
    """Inner deadlines before, at and after the outer one, in tasks that begin together."""
    log = Log(trace)

    async def one(number: int, outer: float, inner: float) -> None:
        try:
            with anyio.move_on_after(outer) as outside:
                try:
                    with anyio.move_on_after(inner) as inside:
                        await anyio.sleep_forever()
                finally:
                    log(number, "leaves the inner block", inside.cancelled_caught)
                await anyio.sleep(0.1)
                log(number, "has slept outside")
        finally:
            log(number, "leaves the outer block", outside.cancelled_caught)

    async with anyio.create_task_group() as tasks:
        for number, (outer, inner) in enumerate(
            [(0.3, 0.2), (0.2, 0.3), (0.2, 0.2), (0.3, 0.1), (0.1, math.inf), (0.4, 0.3)]
        ):
            tasks.start_soon(one, number, outer, inner)
    log("all are done")


@anyio_program
async def work_as_long_as_its_limit(trace: Write) -> None:
    """What ends at the instant at which its time is up, by several ways to get there."""
    log = Log(trace)

    async def work(name: str, limit: float, naps: list[float]) -> None:
        try:
            with anyio.fail_after(limit):
                for nap in naps:
                    await anyio.sleep(nap)
            log(name, "is in time")
        except TimeoutError:
            log(name, "is late")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work, "exactly", 0.3, [0.3])
        tasks.start_soon(work, "in thirds", 0.3, [0.1, 0.1, 0.1])
        tasks.start_soon(work, "early", 0.3, [0.1, 0.1])
        tasks.start_soon(work, "late", 0.3, [0.2, 0.2])
        tasks.start_soon(work, "with pauses", 0.3, [0.0, 0.15, 0.0, 0.15, 0.0])
        tasks.start_soon(work, "by a nanosecond", 0.300000001, [0.3])
    log("all are done")


@anyio_program
async def storm_of_timeouts(trace: Write) -> None:
    """Thirty tasks in limits of which many are up at one instant, each with something to clean."""
    log = Log(trace)

    async def limited(number: int) -> None:
        with anyio.move_on_after(0.1 * (number % 4 + 1)):
            try:
                await anyio.sleep(0.25 if number % 5 else 10)
                log(number, "slept")
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.05 * (number % 3))
                log(number, "is clean")

    async with anyio.create_task_group() as tasks:
        for number in range(30):
            tasks.start_soon(limited, number)
    log("all are done")


@anyio_program
async def one_instant_by_many_ways(trace: Write) -> None:
    """Sleepers that meet at one instant, having slept once, often, until, or in a timeout."""
    log = Log(trace)
    start = anyio.current_time()

    async def once(number: int) -> None:
        await anyio.sleep(0.75)
        log(number, "slept once")

    async def often(number: int) -> None:
        for _ in range(6):
            await anyio.sleep(0.125)
        log(number, "slept often")

    async def until(number: int) -> None:
        await anyio.sleep(0.25)
        await anyio.sleep_until(start + 0.75)
        log(number, "slept until")

    async def in_vain(number: int) -> None:
        with anyio.move_on_after(0.75):
            await anyio.sleep_forever()
        log(number, "slept in vain")

    async def moved(number: int) -> None:
        with anyio.CancelScope(deadline=start + 0.5) as scope:
            await anyio.sleep(0.25)
            scope.deadline = start + 0.75
            await anyio.sleep_forever()
        log(number, "slept until a limit that moved")

    async with anyio.create_task_group() as tasks:
        for number in range(15):
            tasks.start_soon([once, often, until, in_vain, moved][number % 5], number)
    log("all are done")


@anyio_program
async def rounds_of_checkpoints(trace: Write) -> None:
    """Tasks that never block take turns; new ones come in behind."""
    log = Log(trace)

    async def turn(name: str, times: int) -> None:
        for n in range(times):
            log(name, n)
            await checkpoint()
        log(name, "is done")

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(turn, f"first-{number}", number + 2)
        await checkpoint()
        log("the parent")
        tasks.start_soon(turn, "second-0", 3)
        await anyio.sleep(0)
        log("the parent again")
        tasks.start_soon(turn, "second-1", 1)
        with anyio.move_on_after(0):
            await anyio.sleep(0)
            log("a limit of no time lets this through")
    log("all are done")


@anyio_program
async def deadlines_that_have_passed(trace: Write) -> None:
    """Scopes whose deadline is set to now, or to before, by their own task and by another."""
    log = Log(trace)
    scopes: dict[int, anyio.CancelScope] = {}

    async def own(number: int) -> None:
        with anyio.CancelScope() as scope:
            await anyio.sleep(0.1)
            scope.deadline = anyio.current_time() - 0.05 * number
            log(number, "goes on")
            await checkpoint()
            log(number, "got away")
        log(number, "is out", scope.cancelled_caught)

    async def foreign(number: int) -> None:
        with anyio.CancelScope() as scopes[number]:
            await anyio.sleep_forever()
        log(number, "is out", scopes[number].cancelled_caught)

    async with anyio.create_task_group() as tasks:
        for number in range(2):
            tasks.start_soon(own, number)
        for number in range(2, 5):
            tasks.start_soon(foreign, number)
        await anyio.sleep(0.2)
        for number in (3, 2, 4):
            scopes[number].deadline = anyio.current_time()
            log("has ended", number)
            await checkpoint()
    log("all are done")
