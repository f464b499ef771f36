"""Other processes, each with one end of a channel, and what they and a test say to each other."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from zlib import crc32

import anyio
from anyio.to_thread import run_sync
from chrono_core import ChronoError, ReceiveStream, SendStream
from chrono_zmq import ZmqConfig

ROOT = Path(__file__).parents[2]

# Seconds after which something that must come will never come.
PATIENCE = 40.0

# Seconds after which a death is noticed, where one is to be noticed; and where none is.
DEAD = 1.0
NEVER = 30.0

# Seconds that a busy machine may add to them.
SLACK = 5.0


def config(peer_timeout: float = NEVER) -> ZmqConfig:
    """Short times, so that tests are; the same at both ends."""
    return ZmqConfig(
        heartbeat=0.2, peer_timeout=peer_timeout, linger=PATIENCE, max_message=256 * 1024
    )


# Items

Item = list[Any]


def make(number: int, size: int = 8) -> Item:
    """An item that shows whether it is whole."""
    payload = number.to_bytes(8, "big") * (size // 8)
    return [number, payload, crc32(payload, number)]


def check(item: Item) -> int:
    """The number of an item that is whole."""
    number, payload, checksum = item
    assert isinstance(number, int) and crc32(payload, number) == checksum, item
    assert payload == number.to_bytes(8, "big") * (len(payload) // 8), item
    return number


async def collect(end: ReceiveStream[Item]) -> tuple[list[int], type[ChronoError]]:
    """Receive until an error ends it: the numbers, and which error."""
    numbers: list[int] = []
    try:
        while True:
            numbers.append(check(await end.receive()))
    except ChronoError as error:
        return numbers, type(error)


async def send_impatiently(
    end: SendStream[Item], item: Item, rng: random.Random, how: str = "scope"
) -> None:
    """Send, cancelling at random until it is sent."""
    while True:
        async with _impatience(rng, how):
            await end.send(item)
            return


async def receive_impatiently(
    end: ReceiveStream[Item], rng: random.Random, how: str = "scope"
) -> Item:
    """Receive, cancelling at random until there is an item."""
    while True:
        async with _impatience(rng, how):
            return await end.receive()


@asynccontextmanager
async def _impatience(rng: random.Random, how: str) -> AsyncIterator[None]:
    """Cancel what is inside at a random moment, by anyio, a timeout of asyncio, or its task."""
    seconds = rng.choice((0.0, 0.0002, 0.001, 0.005, 1.0, 1.0))
    if how == "scope":
        with anyio.move_on_after(seconds):
            yield
    elif how == "timeout":
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                yield
    else:
        task = asyncio.current_task()
        assert task is not None
        timer = asyncio.get_running_loop().call_later(seconds, task.cancel)
        with suppress(asyncio.CancelledError):
            yield
        timer.cancel()
        if task.cancelling():  # also where it came too late, and is about to come again
            task.uncancel()


# Time


class Stopwatch:
    """Real seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start


async def until(test: Callable[[], object]) -> None:
    """Wait until another process or thread has made something true."""
    with anyio.fail_after(PATIENCE):
        while not test():
            await anyio.sleep(0.005)


# Processes


class Process:
    """A process that runs `worker.py`, as a context manager that leaves none behind.

    Args:
        role: "send" or "receive".
        address: where its end binds, or what it connects to.
        backend: its event loop; that of the test may be another.
        options: those of `worker.Options` that are not as usual.
    """

    def __init__(self, role: str, address: str, backend: str = "asyncio", **options: Any) -> None:
        arguments = (role, address, backend, json.dumps(options))
        self._popen = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.wire.worker", *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONDEVMODE": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._popen.kill()
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            assert pipe is not None
            pipe.close()

    async def line(self) -> list[str]:
        """The words of the next line that it prints; none where it has ended."""
        assert self._popen.stdout is not None
        with anyio.fail_after(PATIENCE):
            return (await run_sync(self._popen.stdout.readline, abandon_on_cancel=True)).split()

    async def says(self, *words: object) -> None:
        """See that it prints this next."""
        assert await self.line() == [str(word) for word in words]

    async def until(self, word: str) -> list[str]:
        """Wait for a line that begins with a word: its other words."""
        others: list[str] = []
        while words := await self.line():
            if words[0] == word:
                return words[1:]
            others.append(" ".join(words))
        raise AssertionError(f"it ended before it said {word!r}; it said {others[-3:]}")

    async def address(self) -> str:
        """Where its end is. It is the first that it prints."""
        (address,) = await self.until("address")
        return address

    async def received(self) -> tuple[list[int], str]:
        """What it has received in all, and the error that ended it. It prints that last."""
        words = await self.until("received")
        return [int(word) for word in words[1:]], words[0]

    async def ended(self) -> int:
        """Wait until it has ended: its exit status."""
        with anyio.fail_after(PATIENCE):
            return await run_sync(self._popen.wait, abandon_on_cancel=True)

    def die(self, death: str = "SIGKILL") -> None:
        """Have it end without a word, by SIGKILL or os._exit, and wait until it has."""
        if death == "_exit":
            assert self._popen.stdin is not None
            print("exit", file=self._popen.stdin, flush=True)
        else:
            self._popen.kill()
        self._popen.wait(PATIENCE)

    def stop(self) -> None:
        """Have it stand still."""
        self._popen.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Have it go on."""
        self._popen.send_signal(signal.SIGCONT)
