"""Random programs made of anyio alone, as plain data, and what they write down."""

from __future__ import annotations

import random
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

Op = tuple[Any, ...]

LEAVES = ("sleep", "checkpoint", "set", "wait", "send", "receive", "lock", "semaphore", "cancel")
BRANCHES = ("group", "timeout", "shield")


def program(dice: random.Random, depth: int = 1) -> list[Op]:
    """Some operations, of which some contain others."""
    kinds = LEAVES if depth == 3 else LEAVES + BRANCHES
    return [operation(dice, dice.choice(kinds), depth) for _ in range(dice.randint(1, 4))]


def operation(dice: random.Random, kind: str, depth: int) -> Op:
    if kind == "sleep":
        return kind, dice.choice((0, 0.1, 0.2, 0.3, 0.5, 1))
    if kind == "group":
        children = [program(dice, depth + 1) for _ in range(dice.randint(1, 4))]
        return kind, children, dice.random() < 0.3
    if kind == "timeout":
        return kind, dice.choice((0, 0.1, 0.2, 0.25, 1)), program(dice, depth + 1)
    if kind == "shield":
        return kind, program(dice, depth + 1)
    return kind, dice.randrange(3)


def generate(seed: int) -> list[Op]:
    """The program of this number."""
    dice = random.Random(f"plain {seed}")
    return [("group", [program(dice) for _ in range(4)], False)]


class Runner:
    """One run of a program."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.events = [anyio.Event() for _ in range(3)]
        self.streams = [anyio.create_memory_object_stream[str](1) for _ in range(3)]
        self.locks = [anyio.Lock() for _ in range(3)]
        self.semaphores = [anyio.Semaphore(2) for _ in range(3)]

    def close(self) -> None:
        for send, receive in self.streams:
            send.close()
            receive.close()

    def log(self, name: str, event: str) -> None:
        self.lines.append(f"{anyio.current_time():.9f} {name} {event}")

    async def run(self, name: str, operations: list[Op], scope: anyio.CancelScope) -> None:
        for n, (kind, *rest) in enumerate(operations):
            here = f"{name}.{n}"
            self.log(here, kind)
            try:
                await self.do(here, kind, rest, scope)
            except anyio.get_cancelled_exc_class():
                self.log(here, "is cancelled")
                raise
            self.log(here, "is done")

    async def do(self, here: str, kind: str, rest: list[Any], scope: anyio.CancelScope) -> None:
        if kind == "sleep":
            await anyio.sleep(rest[0])
        elif kind == "checkpoint":
            await checkpoint()
        elif kind == "set":
            self.events[rest[0]].set()
            self.events[rest[0]] = anyio.Event()
        elif kind in ("wait", "send", "receive"):
            with anyio.move_on_after(2):
                await self.meet(here, kind, rest[0])
        elif kind in ("lock", "semaphore"):
            async with (self.locks if kind == "lock" else self.semaphores)[rest[0]]:
                await anyio.sleep(0.1)
        elif kind == "cancel":
            scope.cancel()
        elif kind == "group":
            async with anyio.create_task_group() as tasks:
                for n, child in enumerate(rest[0]):
                    tasks.start_soon(self.run, f"{here}/{n}", child, tasks.cancel_scope)
                if rest[1]:
                    await anyio.sleep(0.2)
                    tasks.cancel_scope.cancel()
        elif kind == "timeout":
            with anyio.move_on_after(rest[0]):
                await self.run(here, rest[1], scope)
        else:
            with anyio.CancelScope(shield=True):
                await self.run(here, rest[0], scope)

    async def meet(self, here: str, kind: str, number: int) -> None:
        if kind == "wait":
            await self.events[number].wait()
        elif kind == "send":
            await self.streams[number][0].send(here)
        else:
            self.log(here, "has " + await self.streams[number][1].receive())


async def run(operations: list[Op], lines: list[str]) -> None:
    """Run a program, and write down what happens."""
    runner = Runner(lines)
    try:
        with anyio.move_on_after(50) as scope:
            await runner.run("main", operations, scope)
    finally:
        runner.close()
