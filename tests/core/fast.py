"""Running a program without asyncio's debug mode, which `python -X dev` turns on."""

from collections.abc import Awaitable, Callable

import anyio


def run_fast(program: Callable[[], Awaitable[None]], backend: str) -> None:
    """Run it. In the debug mode, asyncio takes ten times as long."""
    options = {"debug": False} if backend == "asyncio" else {}
    anyio.run(program, backend=backend, backend_options=options)
