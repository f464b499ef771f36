"""A drill: a daemon that works, but for failing once."""

from __future__ import annotations

from chrono_core import Context, Daemon
from chrono_core.testing import Trace


class DrillError(Exception):
    """The failure that a drill causes."""


class CrashDrill(Daemon):
    """Runs another daemon in its name, and makes it fail once.

    Args:
        victim: the daemon to run.
        after: seconds of running, by the clock, after which it fails.
        trace: where the failure is recorded.
    """

    def __init__(self, victim: Daemon, *, after: float, trace: Trace) -> None:
        self.name = victim.name
        self._victim = victim
        self._after = after
        self._trace = trace
        self._failed = False

    async def on_start(self, ctx: Context) -> None:
        """Start the victim."""
        await self._victim.on_start(ctx)

    async def run(self, ctx: Context) -> None:
        """Run the victim; the first time, no longer than until its failure."""
        if self._failed:
            await self._victim.run(ctx)
            return
        with ctx.clock.move_on_after(self._after):
            await self._victim.run(ctx)
            return
        self._failed = True
        self._trace.record(ctx, "fails in a drill")
        raise DrillError(f"{ctx.name} was made to fail after {self._after:.6f} s")

    async def on_stop(self, ctx: Context) -> None:
        """Stop the victim."""
        await self._victim.on_stop(ctx)
