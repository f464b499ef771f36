"""Replay a real flight through supervised daemons, in simulated time."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import anyio
from flight_log import LogError, read_flight
from flight_picture import picture
from flight_report import table
from flight_run import fly

DATA = Path(__file__).parent / "data"
SEED = 49
CANNOT_RUN = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example with these arguments; returns its exit code."""
    options = parse(argv)
    if find_spec(options.backend) is None:
        return fail(f"{options.backend} is not installed.")
    try:
        log = read_flight(options.data)
        if options.seconds is not None:
            log = log.first(options.seconds)
        options.out.mkdir(parents=True, exist_ok=True)
    except LogError as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{options.out} cannot be made: {error.strerror}.")

    began = time.perf_counter()
    run = partial(fly, log, seed=options.seed, rate=options.realtime)
    flight = anyio.run(run, backend=options.backend)
    wall = time.perf_counter() - began
    if not flight.comparisons:
        return fail("no estimate has the time of any EKF row, so there is nothing to compare.")

    svg = options.out / "flight.svg"
    svg.write_text(picture(flight.comparisons, flight.gaps, duration=flight.duration), "utf-8")
    lines = options.out / "trace.txt"
    lines.write_text(flight.trace.text(), "utf-8")
    print(table(log, flight, wall=wall))
    print(f"wrote {svg} and {lines}")
    print(f"trace {flight.trace.digest()}")
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; what makes no sense ends the program with exit code 2."""
    parser = argparse.ArgumentParser(prog="flight_replay", description=__doc__)
    option = partial(parser.add_argument, metavar="N")
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio")
    option("--realtime", metavar="RATE", type=positive, help="simulated seconds in a real one")
    option("--seconds", type=positive, help="replay the first N seconds of the flight only")
    option("--seed", type=int, default=SEED, help="decides when the drill strikes")
    option("--data", metavar="DIR", type=Path, default=DATA, help="where the log is")
    option("--out", metavar="DIR", type=Path, default=Path("flight-out"), help="where files go")
    return parser.parse_args(argv)


def positive(text: str) -> float:
    """A finite number above zero."""
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError(text)
    return number


def fail(reason: str) -> int:
    """Say why the flight cannot be replayed; returns the exit code for it."""
    print(f"flight_replay: {reason}", file=sys.stderr)
    return CANNOT_RUN


if __name__ == "__main__":
    sys.exit(main())
