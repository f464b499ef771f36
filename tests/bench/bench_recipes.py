"""Recipes, beside chrono-daemon's and beside the bare hops through channels that they make.

Where a recipe joins or splits streams, the bare side has a plain loop of ``receive`` and ``send``
in its place, which moves as many items over as many channels.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import anyio
import chrono_core
import chrono_daemon
import chrono_recipes
from chrono_daemon.recipes.batcher import batcher_loop, submit
from chrono_daemon.recipes.fanout import tee
from chrono_daemon.recipes.load_balance import load_balance
from chrono_daemon.recipes.merge import merge
from chrono_daemon.recipes.select import select
from chrono_daemon.recipes.worker_pool import worker_pool

from .harness import Case, Goal, Peer, Side, Unit, check, side

ITEMS = Unit("µs per item", 1e6, rate="items/s")
WORK = 4_000
WAYS = 8
MAXSIZE = 16

BESIDE_BARE_HOPS = (Goal("ratio", 0.5),)
BESIDE_CHRONO_DAEMON = (Goal("ratio", 3.0),)


@dataclass(frozen=True, slots=True)
class Library:
    """Where channels and recipes come from."""

    open_channel: Callable[[int], Any]
    tee: Callable[..., Awaitable[None]]
    merge: Callable[..., Awaitable[None]]
    load_balance: Callable[..., Awaitable[None]]
    worker_pool: Callable[..., Awaitable[None]]
    receive_from: Callable[[Sequence[Any], int, Callable[[Any], None]], Awaitable[None]]
    batcher_loop: Callable[..., Awaitable[None]]
    submit: Callable[..., Awaitable[Any]]
    result: Callable[[Any], Any]


async def our_select(receivers: Sequence[Any], work: int, keep: Callable[[Any], None]) -> None:
    async for _, item in chrono_recipes.select(*receivers):
        keep(item)


async def their_select(receivers: Sequence[Any], work: int, keep: Callable[[Any], None]) -> None:
    for _ in range(work):
        _, item = await select(*receivers)
        keep(item)


async def in_turns(receivers: Sequence[Any], work: int, keep: Callable[[Any], None]) -> None:
    for number in range(work):
        keep(await receivers[number % len(receivers)].receive())


async def bare_tee(source: Any, *dests: Any) -> None:
    async for item in source:
        for dest in dests:
            await dest.send(item)
    for dest in dests:
        await dest.aclose()


async def bare_merge(sources: Sequence[Any], dest: Any) -> None:
    """Knows that every source has as many items."""
    live = list(sources)
    while live:
        for source in list(live):
            try:
                await dest.send(await source.receive())
            except chrono_core.EndOfStream:
                live.remove(source)
    await dest.aclose()


async def bare_load_balance(source: Any, dests: Sequence[Any]) -> None:
    number = 0
    async for item in source:
        await dests[number % len(dests)].send(item)
        number += 1
    for dest in dests:
        await dest.aclose()


async def bare_worker(incoming: Any, results: Any, handle: Any, *, workers: int) -> None:
    """One worker suffices where handling takes no time."""
    async for request in incoming:
        await results.send(await handle(request))
    await results.aclose()


async def bare_loop(incoming: Any, forward: Any, *, max_batch: int, clock: Any) -> None:
    async for request, answers in incoming:
        await answers.send((await forward([request]))[0])


async def bare_submit(out: tuple[Any, Any, Any], request: Any) -> Any:
    send, answers, answered = out
    send.send_nowait((request, answers))  # there is room for all callers
    return await answered.receive()


OURS = Library(
    chrono_core.open_channel,
    chrono_recipes.tee,
    chrono_recipes.merge,
    chrono_recipes.load_balance,
    chrono_recipes.worker_pool,
    our_select,
    chrono_recipes.batcher_loop,
    chrono_recipes.submit,
    lambda done: done.value,
)
THEIRS = Library(
    chrono_daemon.open_channel,
    tee,
    merge,
    load_balance,
    worker_pool,
    their_select,
    batcher_loop,
    submit,
    lambda value: value,
)
BARE = Library(
    chrono_core.open_channel,
    bare_tee,
    bare_merge,
    bare_load_balance,
    bare_worker,
    in_turns,
    bare_loop,
    bare_submit,
    lambda value: value,
)
LIBRARIES = {"chrono-recipes": OURS, "bare hops": BARE, "chrono-daemon": THEIRS}


def cases(backends: tuple[str, ...]) -> Iterator[Case]:
    programs: tuple[tuple[str, Callable[..., Awaitable[float]], bool], ...] = (
        (f"tee to {WAYS}", run_tee, True),
        (f"merge of {WAYS}", run_merge, True),
        (f"load_balance to {WAYS}", run_load_balance, False),
        (f"worker_pool of {WAYS}", run_worker_pool, True),
        (f"select from {WAYS}", run_select, False),
        (f"batcher, {WAYS} callers", run_batcher, False),
    )
    for backend in backends:
        if backend == "uvloop":
            continue
        for name, program, has_goal in programs:
            sides: dict[str, Side] = {
                library: side(library, backend, partial(program, LIBRARIES[library]))
                for library in LIBRARIES
            }
            yield Case(
                name=name,
                backend=backend,
                unit=ITEMS,
                work=WORK,
                ours=sides["chrono-recipes"],
                peers=(
                    Peer(sides["bare hops"], BESIDE_BARE_HOPS if has_goal else ()),
                    Peer(sides["chrono-daemon"], BESIDE_CHRONO_DAEMON),
                ),
            )


def split(work: int) -> list[range]:
    return [range(n, work, WAYS) for n in range(WAYS)]


async def feed(send: Any, items: range) -> None:
    for item in items:
        await send.send(item)
    await send.aclose()


async def drain(receive: Any, keep: Callable[[Any], None]) -> None:
    async for item in receive:
        keep(item)


async def timed(*programs: Callable[[], Awaitable[object]]) -> float:
    started = perf_counter()
    async with anyio.create_task_group() as tasks:
        for program in programs:
            tasks.start_soon(program)
    return perf_counter() - started


async def run_tee(library: Library, work: int) -> float:
    source = library.open_channel(MAXSIZE)
    outs = [library.open_channel(MAXSIZE) for _ in range(WAYS)]
    received: list[list[int]] = [[] for _ in outs]
    seconds = await timed(
        partial(feed, source.send, range(work)),
        partial(library.tee, source.recv, *(out.send for out in outs)),
        *(partial(drain, out.recv, kept.append) for out, kept in zip(outs, received, strict=True)),
    )
    check(received, [list(range(work))] * WAYS, "items received")
    return seconds


async def run_merge(library: Library, work: int) -> float:
    sources = [library.open_channel(MAXSIZE) for _ in range(WAYS)]
    out = library.open_channel(MAXSIZE)
    received: list[int] = []
    seconds = await timed(
        *(partial(feed, one.send, part) for one, part in zip(sources, split(work), strict=True)),
        partial(library.merge, [source.recv for source in sources], out.send),
        partial(drain, out.recv, received.append),
    )
    check(sorted(received), list(range(work)), "items received")
    return seconds


async def run_load_balance(library: Library, work: int) -> float:
    source = library.open_channel(MAXSIZE)
    outs = [library.open_channel(MAXSIZE) for _ in range(WAYS)]
    received: list[int] = []
    seconds = await timed(
        partial(feed, source.send, range(work)),
        partial(library.load_balance, source.recv, [out.send for out in outs]),
        *(partial(drain, out.recv, received.append) for out in outs),
    )
    check(sorted(received), list(range(work)), "items received")
    return seconds


async def run_worker_pool(library: Library, work: int) -> float:
    incoming = library.open_channel(MAXSIZE)
    results = library.open_channel(MAXSIZE)
    received: list[int] = []

    async def handle(request: int) -> int:
        return -request

    seconds = await timed(
        partial(feed, incoming.send, range(work)),
        partial(library.worker_pool, incoming.recv, results.send, handle, workers=WAYS),
        partial(drain, results.recv, lambda one: received.append(-library.result(one))),
    )
    check(sorted(received), list(range(work)), "results received")
    return seconds


async def run_select(library: Library, work: int) -> float:
    sources = [library.open_channel(MAXSIZE) for _ in range(WAYS)]
    received: list[int] = []

    async def feed_only(send: Any, items: range) -> None:
        for item in items:
            await send.send(item)
        if library is OURS:
            await send.aclose()

    seconds = await timed(
        *(
            partial(feed_only, one.send, part)
            for one, part in zip(sources, split(work), strict=True)
        ),
        partial(library.receive_from, [source.recv for source in sources], work, received.append),
    )
    check(sorted(received), list(range(work)), "items received")
    return seconds


async def run_batcher(library: Library, work: int) -> float:
    """Each caller has a batcher's channel to itself; their answers come back one by one."""
    requests = library.open_channel(MAXSIZE)
    received: list[int] = []
    clock: Any = None
    left = WAYS

    async def forward(batch: list[int]) -> list[int]:
        return [-request for request in batch]

    async def call(part: range) -> None:
        nonlocal left
        out: Any = requests.send
        if library is BARE:
            answers = library.open_channel(1)
            out = (requests.send, answers.send, answers.recv)
        for request in part:
            received.append(-await library.submit(out, request))
        left -= 1
        if not left:
            await requests.send.aclose()

    seconds = await timed(
        *(partial(call, part) for part in split(work)),
        partial(library.batcher_loop, requests.recv, forward, max_batch=WAYS, clock=clock),
    )
    check(sorted(received), list(range(work)), "answers")
    return seconds
