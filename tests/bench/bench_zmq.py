"""Channels between two processes, over ipc.

The peers are bare sockets, which promise none of what a channel does, and chrono-daemon's ends. A
bare socket has a high-water mark of half the channel's size at each end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import chrono_zmq

from .harness import Case, Goal, Peer, Side, Unit
from .zmq_sides import BATCH, Job, measure

ITEMS = Unit("µs per item", 1e6, rate="items/s")
ROUND_TRIPS = Unit("µs per round trip, p50", 1e6)

SIZES = {64: "64 B", 1024: "1 KiB", 1024 * 1024: "1 MiB"}
WORK = {64: 6400, 1024: 6400, 1024 * 1024: 192}
UNBUFFERED_WORK = 640
MAXSIZE = 1024


def cases(backends: tuple[str, ...]) -> Iterator[Case]:
    for backend in backends:
        for size in SIZES:
            yield one_way(backend, size, MAXSIZE)
            yield one_way(backend, size, MAXSIZE, batched=True)
        for maxsize in (0, 1, 64):
            yield one_way(backend, 64, maxsize)
        yield one_way(backend, 64, MAXSIZE, curve=True)
        yield one_way(backend, 64, MAXSIZE, batched=True, curve=True)
        yield round_trip(backend)


def one_way(
    backend: str, size: int, maxsize: int, *, batched: bool = False, curve: bool = False
) -> Case:
    name = f"{SIZES[size]}, channel of {maxsize}"
    if batched:
        name += f", {BATCH} at once"
    if curve:
        name += ", CURVE"
    job = Job(
        carrier="chrono-zmq",
        backend=backend,
        echo=False,
        work=0,
        maxsize=maxsize,
        size=size,
        batched=batched,
        keys=new_keys() if curve else None,
    )
    goals = {"chrono-daemon": 10.0, "pyzmq": 1 / 3} if batched else {"chrono-daemon": 3.0}
    plain = size == 64 and maxsize == MAXSIZE and not curve
    carriers = ["pyzmq"]
    if backend == "asyncio":  # where these two work
        carriers += ["zmq.asyncio"] if curve else ["zmq.asyncio", "chrono-daemon"]
    peers = [
        Peer(carry(job, carrier), (Goal("ratio", goals[carrier]),) if goal else ())
        for carrier in carriers
        for goal in (plain and carrier in goals,)
    ]
    if batched:
        peers.append(Peer(Side(f"pyzmq, {BATCH} in a message", partial(run, job, "pyzmq", True))))
    return Case(
        name=name,
        backend=backend,
        unit=ITEMS,
        work=WORK[size] if maxsize > 1 else UNBUFFERED_WORK,
        ours=carry(job, "chrono-zmq", batched=batched),
        peers=tuple(peers),
        grows=size == 64,
    )


def round_trip(backend: str) -> Case:
    job = Job(
        carrier="chrono-zmq",
        backend=backend,
        echo=True,
        work=0,
        maxsize=64,
        size=64,
        batched=False,
        keys=None,
    )
    peers = [Peer(carry(job, "pyzmq"), (Goal("ratio", 1 / 2),))]
    if backend == "asyncio":
        peers += [Peer(carry(job, "zmq.asyncio")), Peer(carry(job, "chrono-daemon"))]
    return Case(
        name="round trip of 64 B",
        backend=backend,
        unit=ROUND_TRIPS,
        work=500,
        ours=carry(job, "chrono-zmq"),
        peers=tuple(peers),
        grows=False,
    )


def carry(job: Job, carrier: str, *, batched: bool = False) -> Side:
    return Side(carrier, partial(run, job, carrier, batched))


def run(job: Job, carrier: str, batched: bool, work: int) -> float:
    work = max(BATCH, work - work % BATCH)
    return measure(replace(job, carrier=carrier, batched=batched, work=work))


def new_keys() -> tuple[str, str, str, str]:
    return (*chrono_zmq.generate_keys(), *chrono_zmq.generate_keys())
