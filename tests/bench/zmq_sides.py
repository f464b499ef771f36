"""Each side's way to carry items from one process to another, and the program of the other process.

The process that measures receives. The other one is this module, started with what it has to do.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import anyio.to_thread
import chrono_core
import chrono_daemon.transports.zmq
import chrono_zmq
import zmq
import zmq.asyncio

from .harness import check, run_on

ROOT = Path(__file__).parents[2]
BATCH = 64
READY = b"ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the two processes do.

    Attributes:
        carrier: who carries the items: a name in `CARRIERS`.
        echo: whether each item is sent back before the next; otherwise all go one way.
        work: how many items.
        size: bytes of one.
        batched: whether `BATCH` of them are sent and received by one call.
        keys: the pairs of CURVE keys of the end that binds and of the one that connects.
    """

    carrier: str
    backend: str
    echo: bool
    work: int
    maxsize: int
    size: int
    batched: bool
    keys: tuple[str, str, str, str] | None
    there: str = ""
    back: str = ""

    @property
    def item(self) -> bytes:
        return b"x" * self.size


def measure(job: Job) -> float:
    """The seconds that the job takes: all items, or the median round trip times their number."""
    with tempfile.TemporaryDirectory() as folder:
        job = Job(**{**asdict(job), "there": f"ipc://{folder}/t", "back": f"ipc://{folder}/b"})
        return CARRIERS[job.carrier](job, True)


@contextmanager
def other_process(job: Job) -> Iterator[None]:
    """The other process, while it is needed."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.bench.zmq_sides"]
    process = subprocess.Popen([*command, json.dumps(asdict(job))], cwd=ROOT, stdin=subprocess.PIPE)
    try:
        yield
        process.communicate(timeout=30)
        check(process.returncode, 0, "exit code of the other process")
    finally:
        process.kill()
        process.wait()


def p50(times: list[float]) -> float:
    """The median, for all of them."""
    return median(times) * len(times)


def until_all_was_received() -> None:
    """The other process stays until then: some would lose what lies unread when it goes."""
    sys.stdin.read()


# Ends of channels: ours and chrono-daemon's


def ends(job: Job, here: bool) -> float:
    return run_on(job.backend, partial(_ends_here if here else _ends_there, job))


def _open(job: Job, what: str, address: str, *, bind: bool) -> Any:
    if job.carrier == "chrono-daemon":
        open_end = getattr(chrono_daemon.transports.zmq, f"open_zmq_{what}")
        return open_end(address, bind=bind, maxsize=job.maxsize)
    options: dict[str, Any] = {"maxsize": job.maxsize} if what == "send" else {}
    if job.keys is not None:
        public, secret, other_public, other_secret = job.keys
        options["security"] = (
            chrono_zmq.Security(public_key=public, secret_key=secret, allowed_keys=[other_public])
            if bind
            else chrono_zmq.Security(
                public_key=other_public, secret_key=other_secret, server_key=public
            )
        )
    return getattr(chrono_zmq, f"open_zmq_{what}")(address, bind=bind, **options)


async def _ends_here(job: Job) -> float:
    receive = _open(job, "receive", job.there, bind=True)
    send = _open(job, "send", job.back, bind=True) if job.echo else None
    with other_process(job):
        check(await receive.receive(), READY, "the first item")
        if send is not None:
            times = []
            for _ in range(job.work):
                started = perf_counter()
                await send.send(job.item)
                check(len(await receive.receive()), job.size, "size of an item")
                times.append(perf_counter() - started)
            await send.aclose()
            seconds = p50(times)
        else:
            started = perf_counter()
            count = 0
            while count < job.work:
                items = await _some(receive, job)
                count += len(items)
            seconds = perf_counter() - started
            check(len(items[-1]), job.size, "size of the last item")
        await receive.aclose()
    return seconds


async def _some(receive: Any, job: Job) -> list[bytes]:
    if job.batched:
        many: list[bytes] = await receive.receive_many(BATCH)
        return many
    return [await receive.receive()]


async def _ends_there(job: Job) -> float:
    send = _open(job, "send", job.there, bind=False)
    receive = _open(job, "receive", job.back, bind=False) if job.echo else None
    await send.send(READY)
    item = job.item
    try:
        if receive is not None:
            for _ in range(job.work):
                await send.send(await receive.receive())
            await receive.aclose()
        elif job.batched:
            for _ in range(0, job.work, BATCH):
                await send.send_many([item] * BATCH)
        else:
            for _ in range(job.work):
                await send.send(item)
        await anyio.to_thread.run_sync(until_all_was_received)
        await send.aclose()
    except (chrono_core.ChannelClosed, chrono_daemon.ChannelClosed):
        pass  # it has had enough
    return 0.0


# Bare sockets, with what they need so that nothing is lost or piled up


def blocking(job: Job, here: bool) -> float:
    with zmq.Context() as context, context.socket(zmq.PAIR) as socket:
        if not here:
            _blocking_there(job, socket)
            return 0.0
        _set_up(socket, job, bind=True)
        with other_process(job):
            check(socket.recv(), READY, "the first item")
            if job.echo:
                times = []
                for _ in range(job.work):
                    started = perf_counter()
                    socket.send(job.item)
                    check(len(socket.recv()), job.size, "size of an item")
                    times.append(perf_counter() - started)
                return p50(times)
            started = perf_counter()
            for _ in range(0, job.work, BATCH if job.batched else 1):
                last = socket.recv()
            seconds = perf_counter() - started
            check(len(last), job.size * (BATCH if job.batched else 1), "size of the last item")
            return seconds


def _blocking_there(job: Job, socket: Any) -> None:
    _set_up(socket, job, bind=False)
    socket.send(READY)
    item = job.item * (BATCH if job.batched else 1)
    for _ in range(0, job.work, BATCH if job.batched else 1):
        socket.send(socket.recv() if job.echo else item)
    until_all_was_received()


async def _asyncio_here(job: Job) -> float:
    with zmq.asyncio.Context() as context, context.socket(zmq.PAIR) as socket:
        _set_up(socket, job, bind=True)
        with other_process(job):
            check(await socket.recv(), READY, "the first item")
            if job.echo:
                times = []
                for _ in range(job.work):
                    started = perf_counter()
                    await socket.send(job.item)
                    check(len(await socket.recv()), job.size, "size of an item")
                    times.append(perf_counter() - started)
                return p50(times)
            started = perf_counter()
            for _ in range(job.work):
                last = await socket.recv()
            seconds = perf_counter() - started
            check(len(last), job.size, "size of the last item")
            return seconds


async def _asyncio_there(job: Job) -> None:
    with zmq.asyncio.Context() as context, context.socket(zmq.PAIR) as socket:
        _set_up(socket, job, bind=False)
        await socket.send(READY)
        for _ in range(job.work):
            await socket.send(await socket.recv() if job.echo else job.item)
        await asyncio.to_thread(until_all_was_received)


def zmq_asyncio(job: Job, here: bool) -> float:
    if here:
        return asyncio.run(_asyncio_here(job))
    asyncio.run(_asyncio_there(job))
    return 0.0


def _set_up(socket: Any, job: Job, *, bind: bool) -> None:
    socket.set(zmq.LINGER, 10_000)
    socket.set_hwm(max(1, job.maxsize // 2))
    if job.keys is not None:
        public, secret, other_public, other_secret = (key.encode() for key in job.keys)
        socket.set(zmq.CURVE_PUBLICKEY, public if bind else other_public)
        socket.set(zmq.CURVE_SECRETKEY, secret if bind else other_secret)
        if bind:
            socket.set(zmq.CURVE_SERVER, 1)
        else:
            socket.set(zmq.CURVE_SERVERKEY, public)
    (socket.bind if bind else socket.connect)(job.there)


CARRIERS: dict[str, Callable[[Job, bool], float]] = {
    "chrono-zmq": ends,
    "chrono-daemon": ends,
    "pyzmq": blocking,
    "zmq.asyncio": zmq_asyncio,
}

if __name__ == "__main__":
    described = json.loads(sys.argv[1])
    described["keys"] = described["keys"] and tuple(described["keys"])
    CARRIERS[described["carrier"]](Job(**described), False)
