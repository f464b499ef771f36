"""Worker threads of anyio: time stands still while one works."""

from __future__ import annotations

import anyio
from anyio import from_thread, to_thread

from .program import Log, Write, anyio_program


@anyio_program
async def threads_between_sleeps(trace: Write) -> None:
    """Work in threads, one at a time, among tasks that sleep: it takes no time."""
    log = Log(trace)
    turn = anyio.Lock()

    def work(number: int) -> int:
        return sum(range(1000 * number)) % 97

    async def worker(number: int) -> None:
        for _ in range(3):
            await anyio.sleep(0.1 * number + 0.05)
            async with turn:
                result = await to_thread.run_sync(work, number)
                log(number, "got", result)

    async def ticker() -> None:
        for n in range(6):
            await anyio.sleep(0.13)
            log("tick", n)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ticker)
        for number in (1, 2, 4):
            tasks.start_soon(worker, number)
    log("all are done")


@anyio_program
async def threads_that_call_back(trace: Write) -> None:
    """A thread that runs things in the event loop, some of which sleep, some of which fail."""
    log = Log(trace)

    async def nap(seconds: float) -> str:
        await anyio.sleep(seconds)
        log("napped", seconds)
        return f"after {seconds}"

    async def fail() -> None:
        raise ValueError("on purpose")

    def work() -> list[str]:
        from_thread.run_sync(log, "the thread begins")
        results = [from_thread.run(nap, seconds) for seconds in (0.2, 0.1)]
        try:
            from_thread.run(fail)
        except ValueError as error:
            results.append(str(error))
        from_thread.run_sync(log, "the thread ends")
        return results

    async def ticker() -> None:
        for n in range(4):
            await anyio.sleep(0.07)
            log("tick", n)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ticker)
        log(await to_thread.run_sync(work))
    log("all are done")
