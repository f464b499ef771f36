"""What the scorer reports to the parent, and the account that the parent keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from msgspec import Struct
from process_links import Link, Numbered


class Span(Struct):
    """Rows ``first`` to ``last``, none missing, of ``of`` in the log."""

    first: int
    last: int
    of: int

    def __len__(self) -> int:
        return self.last - self.first + 1


class Report(Struct):
    """What the scorer has done since the last report.

    Attributes:
        estimates: the rows for which it had an estimate.
        ekf: the rows of the autopilot that it is done with.
        compared: how many of them it could compare with an estimate.
        roll: root mean square of these, in degrees; NaN for none.
        pitch: the same for pitch.
    """

    estimates: list[Span]
    ekf: list[Span]
    compared: int
    roll: float
    pitch: float


# A rendezvous: the scorer does not run ahead of the parent, which strikes in the middle.
REPORTS = Link("reports", Report, maxsize=0)


def add_to(spans: list[Span], row: Numbered) -> None:
    """Let the last span grow by a row, or begin another after a gap."""
    if spans and spans[-1].last + 1 == row.number:
        spans[-1].last = row.number
    else:
        spans.append(Span(row.number, row.number, row.of))


@dataclass(slots=True)
class Account:
    """Which rows of a log have come through to the parent, and which have not.

    Attributes:
        rows: how many the log has; 0 before anything came.
        received: how many came.
        next: the row to come next.
        gaps: those that did not come, though later ones did.
    """

    rows: int = 0
    received: int = 0
    next: int = 0
    gaps: list[Span] = field(default_factory=list)

    def add(self, spans: list[Span]) -> None:
        """Enter what came."""
        for span in spans:
            self.rows = span.of
            self.received += len(span)
            self._expect(span.first)
            self.next = span.last + 1

    def close(self) -> None:
        """Nothing more comes: what is left of the log did not."""
        self._expect(self.rows)

    def _expect(self, row: int) -> None:
        if row > self.next:
            self.gaps.append(Span(self.next, row - 1, self.rows))

    @property
    def lost(self) -> int:
        """How many did not come."""
        return sum(map(len, self.gaps))

    @property
    def complete(self) -> bool:
        """Whether every row has come exactly once, or is in a gap."""
        return self.rows > 0 and self.received + self.lost == self.rows


@dataclass(slots=True)
class Flight:
    """What comes out of a flight, from one report after another."""

    estimates: Account = field(default_factory=Account)
    ekf: Account = field(default_factory=Account)
    compared: int = 0
    restarts: dict[str, int] = field(default_factory=dict)
    _roll: float = 0.0
    _pitch: float = 0.0

    def add(self, report: Report) -> None:
        """Enter a report."""
        self.estimates.add(report.estimates)
        self.ekf.add(report.ekf)
        if report.compared:
            self.compared += report.compared
            self._roll += report.compared * report.roll**2
            self._pitch += report.compared * report.pitch**2

    def close(self) -> None:
        """Nothing more comes."""
        self.estimates.close()
        self.ekf.close()

    def rms(self) -> tuple[float, float]:
        """The root mean square of the error in roll and in pitch, in degrees; NaN for none."""
        if not self.compared:
            return math.nan, math.nan
        return math.sqrt(self._roll / self.compared), math.sqrt(self._pitch / self.compared)
