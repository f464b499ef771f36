"""Helpers for testing daemons."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Iterable, Iterator
from importlib.util import find_spec
from inspect import isawaitable
from typing import TypeVar

import anyio

from ._context import Context
from ._daemon import Daemon
from ._streams import ReceiveStream, SendStream
from ._trace import Trace

__all__ = [
    "ScriptedDaemon",
    "Step",
    "Trace",
    "assert_one_trace",
    "available_backends",
    "collect",
    "feed",
]

T = TypeVar("T")

Step = float | Exception | Callable[[Context], object]
"""One step of a script: seconds to sleep, an error to raise, or a function to call."""


def available_backends() -> list[str]:
    """The event loops that anyio can run on here: asyncio, and trio where it is installed."""
    return ["asyncio", *(["trio"] if find_spec("trio") else [])]


def assert_one_trace(
    program: Callable[[Trace], Awaitable[object]],
    *,
    times: int = 3,
    backends: Iterable[str] | None = None,
) -> Trace:
    """Run a program several times on every backend, and check that its trace is always the same.

    Between the runs, the heap is disturbed, so that an order that hangs on addresses shows.

    Args:
        program: ``async def program(trace)``, which writes down what happens.
        times: how often to run it on each backend.
        backends: which to run it on; all that are available, unless told.

    Returns:
        The trace.

    Raises:
        AssertionError: two traces differ; the message shows where they begin to.
        ValueError: ``times`` is below 1, or there is no backend.
    """
    names = available_backends() if backends is None else list(backends)
    if times < 1 or not names:
        raise ValueError("there must be at least one run on one backend")
    first: tuple[str, Trace] | None = None
    ballast: list[object] = []
    for number in range(times):
        for backend in names:
            ballast.append([bytearray(97 * n % 512) for n in range(50 + 37 * number)])
            gc.collect()
            trace = Trace()
            # Under `python -X dev`, asyncio would take ten times as long.
            options = {"debug": False} if backend == "asyncio" else {}
            anyio.run(program, trace, backend=backend, backend_options=options)
            run = f"run {number + 1} on {backend}"
            if first is None:
                first = (run, trace)
                continue
            difference = first[1].difference(trace)
            if difference is not None:
                raise AssertionError(f"{first[0]} (-) and {run} (+) differ from {difference}")
    assert first is not None
    return first[1]


async def collect(stream: ReceiveStream[T]) -> list[T]:
    """Receive everything until the stream ends.

    Cancelled, what was received is lost with the list. Raises what ``receive`` raises, but for
    ``EndOfStream``.
    """
    return [item async for item in stream]


async def feed(stream: SendStream[T], items: Iterable[T], *, close: bool = True) -> None:
    """Send everything, then close the stream unless told not to. Raises what ``send`` raises."""
    try:
        for item in items:
            await stream.send(item)
    finally:
        if close:
            await stream.aclose()


class ScriptedDaemon(Daemon):
    """A daemon that follows a script, and notes which of its hooks were called.

    A restarted daemon goes on in its script where it failed.

    Args:
        script: what ``run`` does, step by step: sleep for so many seconds of the clock, raise an
            error, or call a function with the context, and await what it returns if need be.
        on_start: the same for ``on_start``.
        on_stop: the same for ``on_stop``.
        name: the daemon's name.

    Attributes:
        calls: ``"on_start"``, ``"run"`` and ``"on_stop"``, each as often as it was called.
    """

    def __init__(
        self,
        script: Iterable[Step] = (),
        *,
        on_start: Iterable[Step] = (),
        on_stop: Iterable[Step] = (),
        name: str = "",
    ) -> None:
        self.name = name
        self.calls: list[str] = []
        self._scripts = {"on_start": iter(on_start), "run": iter(script), "on_stop": iter(on_stop)}

    async def on_start(self, ctx: Context) -> None:
        """Follow the script for ``on_start``."""
        await self._follow("on_start", ctx)

    async def run(self, ctx: Context) -> None:
        """Follow the script."""
        await self._follow("run", ctx)

    async def on_stop(self, ctx: Context) -> None:
        """Follow the script for ``on_stop``."""
        await self._follow("on_stop", ctx)

    async def _follow(self, hook: str, ctx: Context) -> None:
        self.calls.append(hook)
        script: Iterator[Step] = self._scripts[hook]
        for step in script:
            if isinstance(step, Exception):
                raise step
            if callable(step):
                result = step(ctx)
                if isawaitable(result):
                    await result
            else:
                await ctx.clock.sleep(step)
