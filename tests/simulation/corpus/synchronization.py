"""Locks, events, conditions, semaphores and limiters of anyio."""

from __future__ import annotations

import anyio
from anyio.lowlevel import checkpoint

from .program import Log, Write, anyio_program


@anyio_program
async def lock_in_turns(trace: Write) -> None:
    """Ten tasks want one lock; some lose patience while they wait, some while they hold it."""
    log = Log(trace)
    lock = anyio.Lock()

    async def want(number: int) -> None:
        for turn in range(2):
            with anyio.move_on_after(0.35 if number % 3 == 2 else 5) as limit:
                async with lock:
                    log(number, "has the lock", turn)
                    try:
                        await anyio.sleep(0.1)
                    finally:
                        log(number, "lets go")
            if limit.cancelled_caught:
                log(number, "lost patience", turn)

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(want, number)
    log("nobody waits", lock.statistics().tasks_waiting)


@anyio_program
async def conditions(trace: Write) -> None:
    """A bounded buffer with a condition: notified one by one, and all, and given up on."""
    log = Log(trace)
    condition = anyio.Condition()
    shelf: list[str] = []
    closed = False

    async def consume(number: int) -> None:
        while True:
            with anyio.move_on_after(0.4):
                async with condition:
                    while not shelf and not closed:
                        await condition.wait()
                    if not shelf:
                        log(number, "finds the end")
                        return
                    log(number, "takes", shelf.pop(0))
                    condition.notify()
                await anyio.sleep(0.1 * number)
                continue
            log(number, "waits no longer")
            await anyio.sleep(0.05)

    async def produce(name: str, period: float) -> None:
        for n in range(5):
            await anyio.sleep(period)
            async with condition:
                while len(shelf) >= 2:
                    await condition.wait()
                shelf.append(f"{name}{n}")
                log(name, "puts", n)
                condition.notify(1 + n % 2)

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(consume, number)
        async with anyio.create_task_group() as producers:
            producers.start_soon(produce, "x", 0.1)
            producers.start_soon(produce, "y", 0.2)
            producers.start_soon(produce, "z", 0.3)
        async with condition:
            closed = True
            condition.notify_all()
    log("all are done", shelf)


@anyio_program
async def semaphores_and_limiters(trace: Write) -> None:
    """Who gets in where three fit, when those inside are cancelled, and when the limit changes."""
    log = Log(trace)
    semaphore = anyio.Semaphore(3)
    limiter = anyio.CapacityLimiter(2)
    scopes: list[anyio.CancelScope] = []

    async def enter(number: int) -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            async with semaphore:
                log(number, "is past the semaphore")
                async with limiter:
                    log(number, "is past the limiter")
                    try:
                        await anyio.sleep(0.1 * (1 + number % 3))
                    finally:
                        log(number, "goes out")

    async with anyio.create_task_group() as tasks:
        for number in range(14):
            tasks.start_soon(enter, number)
        await anyio.sleep(0.2)
        for number in (9, 2, 3, 10):
            scopes[number].cancel()
        log("cancels some")
        await anyio.sleep(0.2)
        limiter.total_tokens = 4
        log("there is more room")
        await anyio.sleep(0.1)
        limiter.total_tokens = 1
    log("all are out", semaphore.value, limiter.borrowed_tokens)


@anyio_program
async def philosophers(trace: Write) -> None:
    """Five at one table: who eats when, with forks in order and events when a plate is empty."""
    log = Log(trace)
    forks = [anyio.Lock() for _ in range(5)]
    full = [anyio.Event() for _ in range(5)]

    async def dine(seat: int) -> None:
        first, second = sorted((seat, (seat + 1) % 5))
        for course in range(3):
            await anyio.sleep(0.05 * (seat % 2))
            async with forks[first], forks[second]:
                log(seat, "eats course", course)
                await anyio.sleep(0.1)
            await checkpoint()
        full[seat].set()
        await full[(seat + 2) % 5].wait()
        log(seat, "leaves")

    async with anyio.create_task_group() as tasks:
        for seat in range(5):
            tasks.start_soon(dine, seat)
    log("the table is empty")


@anyio_program
async def events_in_cascade(trace: Write) -> None:
    """An event that many wait for, each of whom sets the next; and one that comes too late."""
    log = Log(trace)
    events = [anyio.Event() for _ in range(6)]

    async def wait(number: int, copy: int) -> None:
        name = f"{number}.{copy}"
        try:
            with anyio.fail_after(0.5):
                await events[number].wait()
            log(name, "was told")
        except TimeoutError:
            log(name, "was not told")
        if number + 1 < len(events) and copy == 1:
            if number == 3:
                await anyio.sleep(0.5)
            events[number + 1].set()
            log(name, "tells the next")

    async with anyio.create_task_group() as tasks:
        for copy in range(3):
            for number in range(6):
                tasks.start_soon(wait, number, copy)
        await anyio.sleep(0.25)
        events[0].set()
        log("tells the first")
    log("all are done")
