"""What a flight comes to, for people to read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from flight_daemons import Comparison
from flight_log import FlightLog
from flight_run import ESTIMATOR, GAP_LIMIT, Flight


def rms_degrees(comparisons: Sequence[Comparison]) -> tuple[float, float]:
    """The root mean square of the estimate's error in roll and in pitch; NaN for none at all."""
    if not comparisons:
        return math.nan, math.nan
    roll = sum((pair.estimate.roll - pair.ekf.roll) ** 2 for pair in comparisons)
    pitch = sum((pair.estimate.pitch - pair.ekf.pitch) ** 2 for pair in comparisons)
    count = len(comparisons)
    return math.degrees(math.sqrt(roll / count)), math.degrees(math.sqrt(pitch / count))


def table(log: FlightLog, flight: Flight, *, wall: float) -> str:
    """A short table of a flight that took ``wall`` real seconds."""
    return "\n".join(
        f"{name:<16}{value:>12}   {note}".rstrip() for name, value, note in _rows(log, flight, wall)
    )


def _rows(log: FlightLog, flight: Flight, wall: float) -> Iterator[tuple[str, str, str]]:
    roll, pitch = rms_degrees(flight.comparisons)
    yield (
        "virtual time",
        f"{flight.duration:.3f} s",
        f"{len(log.imu)} imu rows, {len(log.ekf)} ekf rows",
    )
    yield "wall time", f"{wall:.3f} s", ""
    yield "speed-up", f"{flight.duration / wall:.1f} x", ""
    yield (
        "roll error",
        f"{roll:.3f}°",
        f"RMS against the autopilot's EKF, {len(flight.comparisons)} rows",
    )
    yield "pitch error", f"{pitch:.3f}°", "RMS"
    yield "gaps", str(len(flight.gaps)), f"longer than {GAP_LIMIT * 1e3:g} ms"
    for gap in flight.gaps:
        yield "", f"{gap.length * 1e3:.1f} ms", f"noticed at {gap.noticed:.6f} s"
    yield "restarts", str(flight.restarts), f"of the {ESTIMATOR}, by the drill"
    for finding in flight.findings:
        if finding.daemon == ESTIMATOR:
            yield "", finding.state, f"found at {finding.time:.3f} s by the health monitor"
