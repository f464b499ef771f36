"""State that is shared across an ``await``."""

from __future__ import annotations

import anyio
from anyio.lowlevel import checkpoint

from .bug import bug, expect


@bug
async def lost_update() -> None:
    """Three deposits read the balance, ask somebody, and write what they have computed."""
    balance = 100

    async def deposit(amount: int, before: int) -> None:
        nonlocal balance
        for _ in range(before):
            await checkpoint()  # the form is checked
        seen = balance
        await checkpoint()  # the auditor is told
        balance = seen + amount

    async with anyio.create_task_group() as tasks:
        for number, amount in enumerate((1, 20, 300)):
            tasks.start_soon(deposit, amount, number)
    expect(balance, 421, "the balance")


@bug
async def check_then_act() -> None:
    """A request finds its session, is authorised, and uses the session, which may have expired."""
    sessions = {"alice": 0, "bob": 0}

    async def request(user: str) -> None:
        if user in sessions:
            await checkpoint()  # it is authorised
            sessions[user] += 1

    async def expire(user: str) -> None:
        await checkpoint()  # the time of the last request is looked up
        del sessions[user]

    async with anyio.create_task_group() as tasks:
        for user in ("alice", "bob"):
            tasks.start_soon(request, user)
        tasks.start_soon(expire, "bob")
    expect(sessions, {"alice": 1}, "the sessions")


@bug
async def half_written_pair() -> None:
    """A position is written one coordinate after the other, and read in between."""
    x = y = 0

    async def write() -> None:
        nonlocal x, y
        for n in range(1, 4):
            x = n
            await checkpoint()  # the second register is slow
            y = n
            await checkpoint()

    async def read() -> None:
        for _ in range(3):
            await checkpoint()
            expect(y, x, "the second coordinate")
            await checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        tasks.start_soon(read)


@bug
async def initialised_twice() -> None:
    """A connection is made when it is first asked for, by whoever finds that there is none."""
    opened: list[int] = []
    connection: int | None = None

    async def connect() -> int:
        nonlocal connection
        if connection is None:
            await anyio.sleep(0.5)  # the other side answers
            opened.append(len(opened))
            connection = opened[-1]
        return connection

    async def use(after: float) -> None:
        if after:
            await anyio.sleep(after)
        await connect()

    async with anyio.create_task_group() as tasks:
        for after in (0.0, 0.5, 0.5, 1.0):
            tasks.start_soon(use, after)
    expect(opened, [0], "connections")
