"""Replay a real flight in three processes, and kill one of them in the middle."""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

import anyio
from process_links import HEARTBEAT, Place
from process_parent import PATIENCE, PROGRAMS, Drill, fly
from process_report import Account, Flight
from process_run import log_as

LIMIT = 0.4
# Seconds of a flight in the middle of which every process has work left to do.
SHORTEST = 10.0
FAILED = 1
CANNOT_RUN = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example with these arguments; returns its exit code."""
    options = parse(argv)
    try:
        import_module(options.backend)
    except ModuleNotFoundError:
        return fail(f"{options.backend} is not installed.", CANNOT_RUN)
    log_as("parent")
    drill = Drill(None if options.kill == "none" else options.kill)
    began = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory(prefix="flight-") as folder:
            place = Place(Path(folder), options.peer_timeout)
            run = partial(fly, place, options.backend, options.seconds, drill)
            flight = anyio.run(run, backend=options.backend)
    except TimeoutError:
        return fail(f"the flight did not come to its end within {PATIENCE:g} s.", FAILED)
    except ExceptionGroup as group:
        return fail(f"{group.exceptions[0]}.", FAILED)
    wall = time.perf_counter() - began

    for name, value, note in table(flight, drill, wall):
        print(f"{name:<16}{value:>12}   {note}".rstrip())
    if not flight.estimates.complete or not flight.ekf.complete:
        return fail("not every row is accounted for.", FAILED)
    lost = flight.estimates.lost + flight.ekf.lost
    if not max(flight.rms()) < LIMIT and not lost:
        return fail(f"nothing was lost, and yet an error is over {LIMIT}°.", FAILED)
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; what makes no sense ends the program with exit code 2."""
    parser = argparse.ArgumentParser(prog="flight_processes", description=__doc__)
    option = parser.add_argument
    option("--backend", choices=("asyncio", "trio"), default="asyncio")
    option("--kill", choices=(*PROGRAMS, "none"), default="estimator", help="what to kill")
    option(
        "--seconds",
        metavar="N",
        type=at_least(SHORTEST),
        default=math.inf,
        help=f"replay the first N seconds of the flight only, {SHORTEST:g} at least",
    )
    option(
        "--peer-timeout",
        metavar="N",
        type=at_least(2 * HEARTBEAT),
        default=1.0,
        help="take a process for dead after N seconds without a sign of life",
    )
    return parser.parse_args(argv)


def at_least(least: float) -> Callable[[str], float]:
    """A type of options: finite numbers from ``least`` up."""

    def seconds(text: str) -> float:
        number = float(text)
        if not least <= number < math.inf:
            raise ValueError(text)
        return number

    return seconds


def table(flight: Flight, drill: Drill, wall: float) -> Iterator[tuple[str, str, str]]:
    """The rows of a short table of a flight that took ``wall`` real seconds."""
    roll, pitch = flight.rms()
    yield "rows read", str(flight.estimates.rows), f"imu rows, and {flight.ekf.rows} ekf rows"
    yield "estimates", str(flight.estimates.received), "received, one for an imu row"
    yield from loss("lost", flight.estimates, "estimates")
    yield from loss("", flight.ekf, "ekf rows")
    if drill.row is not None:
        yield "killed", str(drill.victim), f"after row {drill.row - 1}"
    restarted = [name for name, count in flight.restarts.items() if count]
    yield "restarts", str(sum(flight.restarts.values())), ", ".join(restarted)
    compared = f"RMS against the autopilot's EKF, {flight.compared} rows"
    yield "roll error", f"{roll:.3f}°", compared
    yield "pitch error", f"{pitch:.3f}°", "RMS"
    yield "wall time", f"{wall:.3f} s", ""


def loss(name: str, account: Account, what: str) -> Iterator[tuple[str, str, str]]:
    """How many items were lost, exactly, and which."""
    which = ", ".join(f"{gap.first}-{gap.last}" for gap in account.gaps)
    yield name, str(account.lost), f"{what}, exactly: rows {which}" if which else what


def fail(reason: str, code: int) -> int:
    """Say why there is no score; returns the exit code for it."""
    print(f"flight_processes: {reason}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
