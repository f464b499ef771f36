"""The trace of a run: one line for everything a daemon did that others can see."""

from __future__ import annotations

import hashlib

from chrono_core import Context


class Trace:
    """Lines of (instant in nanoseconds, daemon, event), in the order in which they happened."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def record(self, ctx: Context, event: str) -> None:
        """Add what the daemon of this context does now, by its own clock."""
        self._lines.append(f"{round(ctx.clock.now() * 1e9)} {ctx.name} {event}\n")

    def text(self) -> str:
        """The whole trace."""
        return "".join(self._lines)

    def digest(self) -> str:
        """The SHA-256 of the trace, in hexadecimal: equal if and only if the runs were."""
        return hashlib.sha256(self.text().encode()).hexdigest()
