"""What happened in a run, written down."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ._context import Context
from ._simclock import SimClock
from ._time import to_ns

CONTEXT_LINES = 3


class Trace:
    """What happened in a run, a line for each event, and the hash of it all."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def record(self, ctx: Context, event: object) -> None:
        """Add an event of this daemon, at its clock's time: ``<nanoseconds> <name> <event>``."""
        clock = ctx.clock
        now = clock.now_ns() if isinstance(clock, SimClock) else to_ns(clock.now())
        self._lines.append(f"{now} {ctx.name} {event}")

    def write(self, line: str) -> None:
        """Add any line."""
        self._lines.append(line)

    @property
    def lines(self) -> Sequence[str]:
        """The events so far."""
        return self._lines

    def text(self) -> str:
        """The whole trace, each line ended."""
        return "".join(f"{line}\n" for line in self._lines)

    def digest(self) -> str:
        """The SHA-256 of the text, in hexadecimal: equal if the runs were."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    def difference(self, other: Trace) -> str | None:
        """Where two traces differ first, with what comes before; None where they are equal."""
        mine, theirs = self._lines, other._lines
        if mine == theirs:
            return None
        n = next(
            (n for n, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b),
            min(len(mine), len(theirs)),
        )
        before = [f"    {line}" for line in mine[max(0, n - CONTEXT_LINES) : n]]
        one, two = (lines[n] if n < len(lines) else "(the end)" for lines in (mine, theirs))
        return "\n".join([f"line {n + 1}:", *before, f"  - {one}", f"  + {two}"])
