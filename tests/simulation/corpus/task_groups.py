"""Task groups of anyio: trees of them cancelled, failing, starting."""

from __future__ import annotations

import anyio
from anyio.abc import TaskStatus
from anyio.lowlevel import checkpoint

from .program import Log, Write, anyio_program, outline


@anyio_program
async def tree_cancelled_at_the_root(trace: Write) -> None:
    """Six tasks and four nested groups, two deep, in the order in which they clean up."""
    log = Log(trace)

    async def leaf(name: str) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log(name, "cleans up")

    async def branch(name: str, depth: int) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                for number in range(3):
                    tasks.start_soon(leaf, f"{name}.{number}")
                if depth:
                    tasks.start_soon(branch, f"{name}.b", depth - 1)
                try:
                    await anyio.sleep_forever()
                finally:
                    log(name, "cleans up its body")
        finally:
            log(name, "is gone")

    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(leaf, f"leaf-{number}")
        for number in range(4):
            tasks.start_soon(branch, f"branch-{number}", 1)
        await anyio.sleep(1)
        log("cancels")
        tasks.cancel_scope.cancel()
    log("all are gone")


@anyio_program
async def child_that_fails(trace: Write) -> None:
    """An error takes its siblings along, each of which takes its time; another joins it."""
    log = Log(trace)

    async def fails(after: float, what: str) -> None:
        await anyio.sleep(after)
        log("raises", what)
        raise ValueError(what)

    async def lingers(name: str, seconds: float) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(seconds)
            log(name, "has cleaned up")

    async def fails_when_cancelled(what: str) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log("raises", what, "instead")
            raise KeyError(what)

    async def nested(name: str) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lingers, f"{name}.0", 0.2)
            tasks.start_soon(fails_when_cancelled, f"{name}.1")
            tasks.start_soon(lingers, f"{name}.2", 0.1)

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lingers, "a", 0.3)
            tasks.start_soon(nested, "b")
            tasks.start_soon(fails, 0.5, "first")
            tasks.start_soon(fails, 0.5, "second")
            tasks.start_soon(lingers, "c", 0.1)
            tasks.start_soon(nested, "d")
    except BaseExceptionGroup as group:
        log(outline(group))


@anyio_program
async def start_and_report(trace: Write) -> None:
    """Children that report when they are ready, too late, never, or by failing."""
    log = Log(trace)

    async def child(
        name: str, before: float, after: float, *, task_status: TaskStatus[str]
    ) -> None:
        try:
            await anyio.sleep(before)
            task_status.started(name.upper())
            log(name, "has started")
            await anyio.sleep(after)
        finally:
            log(name, "ends")

    async def fails(*, task_status: TaskStatus[str]) -> None:
        await anyio.sleep(0.1)
        raise ValueError("no start")

    async def forgets(*, task_status: TaskStatus[str]) -> None:
        await anyio.sleep(0.1)

    async def starter(number: int) -> None:
        log(number, await tasks.start(child, f"late-{number}", 0.2, 0.1))

    async with anyio.create_task_group() as tasks:
        log(await tasks.start(child, "a", 0.1, 0.5))
        log(await tasks.start(child, "b", 0.0, 0.6))
        for bad in (fails, forgets):
            try:
                await tasks.start(bad)
            except (ValueError, RuntimeError) as error:
                log(type(error).__name__)
        with anyio.move_on_after(0.1) as limit:
            await tasks.start(child, "slow", 1.0, 0.0)
        log("gave up", limit.cancelled_caught)
        for number in range(4):
            tasks.start_soon(starter, number)
    log("all are done")


@anyio_program
async def cancellation_storm(trace: Write) -> None:
    """Tasks that cancel each other's scopes at one instant, their own among them."""
    log = Log(trace)
    scopes: dict[int, anyio.CancelScope] = {}

    async def one(number: int) -> None:
        with anyio.CancelScope() as scopes[number]:
            try:
                await anyio.sleep(0.1 * (number % 2 + 1))
                for other in (number + 3, number, number * 2):
                    scopes[other % 8].cancel()
                log(number, "has cancelled")
                await checkpoint()
                log(number, "got away")
                await anyio.sleep(0.1)
                log(number, "survives")
            except anyio.get_cancelled_exc_class():
                log(number, "is cancelled")
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.05)
                    log(number, "cleans up")
                raise
        log(number, "goes on", scopes[number].cancelled_caught)

    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(one, number)
        await anyio.sleep(0.25)
        log("the parent cancels the rest")
        tasks.cancel_scope.cancel()
    log("all are gone")


@anyio_program
async def cancelled_again_and_again(trace: Write) -> None:
    """A cancelled scope lets nothing wait inside; only a shield does, and its own limit ends it."""
    log = Log(trace)

    async def stubborn(name: str, tries: int) -> None:
        for n in range(tries):
            try:
                await anyio.sleep(1)
                log(name, "slept")
            except anyio.get_cancelled_exc_class():
                log(name, "is cancelled for the", n, "time")
                if n == tries - 1:
                    raise

    async def shielded(name: str) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.move_on_after(0.2, shield=True) as inner:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(stubborn, f"{name}.0", 2)
                    tasks.start_soon(stubborn, f"{name}.1", 3)
            log(name, "cut its cleaning short", inner.cancelled_caught)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stubborn, "a", 3)
        tasks.start_soon(shielded, "b")
        tasks.start_soon(stubborn, "c", 2)
        tasks.start_soon(shielded, "d")
        await anyio.sleep(0.5)
        tasks.cancel_scope.cancel()
        log("cancels")
    log("all are gone")


@anyio_program
async def errors_beside_cancellation(trace: Write) -> None:
    """What the groups hold that leave nested task groups of which one child has failed."""
    log = Log(trace)

    async def fails(what: str) -> None:
        raise ValueError(what)

    async def group(name: str, depth: int) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.sleep_forever)
                if depth:
                    tasks.start_soon(group, f"{name}.{depth}", depth - 1)
                else:
                    tasks.start_soon(fails, name)
                await anyio.sleep(1)
        except BaseExceptionGroup as error:
            log(name, "is left by", outline(error))
            raise

    for depth in range(3):
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(group, "a", depth)
                tasks.start_soon(group, "b", depth)
        except BaseExceptionGroup as error:
            log("all are left by", outline(error))
