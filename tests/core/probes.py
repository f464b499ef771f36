"""What the tests of the supervisor share."""

from collections.abc import Awaitable, Callable

import anyio
from chrono_core import Context, Daemon, DaemonHandle, SimClock, Supervisor

Hook = Callable[[Context], Awaitable[object]]


class Probe(Daemon):
    """A daemon made of functions, which writes down how far it came.

    The log gets "start" when ``on_start`` has returned, "run" and "stop" when these are entered,
    and "stopped" when ``on_stop`` has returned; after the name of the daemon where the log is
    shared.
    """

    def __init__(
        self,
        run: Hook | None = None,
        *,
        on_start: Hook | None = None,
        on_stop: Hook | None = None,
        name: str = "",
        log: list[str] | None = None,
    ) -> None:
        self.name = name
        self.log: list[str] = [] if log is None else log
        self._prefix = "" if log is None else f"{name} "
        self._run = run
        self._on_start = on_start
        self._on_stop = on_stop

    def note(self, event: str) -> None:
        self.log.append(self._prefix + event)

    async def on_start(self, ctx: Context) -> None:
        if self._on_start is not None:
            await self._on_start(ctx)
        self.note("start")

    async def run(self, ctx: Context) -> None:
        self.note("run")
        if self._run is not None:
            await self._run(ctx)

    async def on_stop(self, ctx: Context) -> None:
        self.note("stop")
        if self._on_stop is not None:
            await self._on_stop(ctx)
        self.note("stopped")


async def obey(ctx: Context) -> None:
    """Run until told to stop."""
    await ctx.stop_event.wait()


async def defy(ctx: Context) -> None:
    """Run until cancelled."""
    await anyio.Event().wait()


async def fail(ctx: Context) -> None:
    """Fail at once."""
    raise ValueError("boom")


def failing(error: BaseException) -> Hook:
    """Make a hook that raises this error."""

    async def hook(ctx: Context) -> None:
        raise error

    return hook


async def gone(supervisor: Supervisor, handle: DaemonHandle) -> None:
    """Wait until a daemon is gone, moving simulated time."""
    if isinstance(supervisor.clock, SimClock):
        await supervisor.clock.run_until(handle.wait_stopped(), limit=1000)
    else:
        await handle.wait_stopped()
