"""The running event loop, as a `Run`."""

from __future__ import annotations

import sys

from ._base import (
    LIVELOCK_AFTER,
    Idle,
    RealWait,
    Run,
    Waiter,
    frames,
    standing,
    user_line,
    waiting_on,
)

__all__ = [
    "LIVELOCK_AFTER",
    "Idle",
    "RealWait",
    "Run",
    "Waiter",
    "current_run",
    "frames",
    "running",
    "standing",
    "user_line",
    "waiting_on",
]


def current_run() -> Run:
    """The run that the caller is in.

    Raises:
        RuntimeError: no event loop runs in this thread.
    """
    run = running()
    if run is None:
        raise RuntimeError("no event loop is running here: call this from async code")
    return run


def running() -> Run | None:
    """The run that the caller is in, or None outside any event loop."""
    # A trio run may be a guest of an asyncio loop, so trio is asked first. Neither is imported
    # before it runs: that takes longer than everything else.
    if (trio := sys.modules.get("trio")) is not None and trio.lowlevel.in_trio_run():
        from ._trio import TrioRun

        return TrioRun.current()
    asyncio = sys.modules.get("asyncio")
    loop = None if asyncio is None else asyncio._get_running_loop()
    if loop is None:
        return None
    from ._asyncio import AsyncioRun

    return AsyncioRun.of(loop)
