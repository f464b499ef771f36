"""Replay a real flight through supervised daemons, in simulated time."""

from __future__ import annotations

import argparse
import logging
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path

import anyio
from flight_log import LogError, read_flight
from flight_picture import picture
from flight_report import table
from flight_run import fly

DATA = Path(__file__).parent / "data"
SEED = 49
LOG_FORMAT = "%(sim_time).6f s %(levelname)s %(daemon)s: %(message)s"
CANNOT_RUN = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example with these arguments; returns its exit code."""
    options = parse(argv)
    try:
        import_module(options.backend)  # here, lest its import count as time of the flight
    except ModuleNotFoundError:
        return fail(f"{options.backend} is not installed.")
    try:
        log = read_flight(options.data)
        if options.seconds is not None:
            log = log.first(options.seconds)
    except LogError as error:
        return fail(str(error))
    out: Path = options.out
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(out / "flight.log", mode="w", encoding="utf-8")
    except OSError as error:
        return fail(f"{out} is no directory to write into: {error.strerror}.")

    with logging_to(file):
        began = time.perf_counter()
        run = partial(fly, log, seed=options.seed, rate=options.realtime)
        flight = anyio.run(run, backend=options.backend)
        wall = time.perf_counter() - began
    if not flight.comparisons:
        return fail("no estimate has the time of any EKF row, so there is nothing to compare.")

    (out / "flight.svg").write_text(picture(flight), "utf-8")
    (out / "trace.txt").write_text(flight.trace.text(), "utf-8")
    print(table(log, flight, wall=wall))
    print(f"wrote flight.svg, flight.log and trace.txt into {out}")
    print(f"trace {flight.trace.digest()}")
    return 0


@contextmanager
def logging_to(handler: logging.Handler) -> Iterator[None]:
    """Hand what the supervisor logs to a handler, each record with its simulated time."""
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    logger = logging.getLogger("chrono_core")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


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
