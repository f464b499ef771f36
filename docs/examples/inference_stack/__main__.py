"""Run a three-rate inference stack, planner, policy and dispenser, in simulated time."""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from importlib import import_module

import anyio
from stack_session import Session, evaluate, run_session

CANNOT_RUN = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example with these arguments; returns its exit code."""
    options = parse(argv)
    try:
        import_module(options.backend)  # here, lest its import count as time of the sessions
    except ModuleNotFoundError:
        print(f"inference_stack: {options.backend} is not installed.", file=sys.stderr)
        return CANNOT_RUN
    began = time.perf_counter()
    if options.sessions is None:
        sessions = [anyio.run(run_session, 0, options.seconds, backend=options.backend)]
    else:
        sessions = anyio.run(evaluate, options.sessions, options.seconds, backend=options.backend)
    wall = time.perf_counter() - began

    print("\n".join(table(sessions, wall)))
    digests = "".join(session.digest for session in sessions)
    print(f"trace {hashlib.sha256(digests.encode()).hexdigest()}")
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; what makes no sense ends the program with exit code 2."""
    parser = argparse.ArgumentParser(prog="inference_stack", description=__doc__)
    option = partial(parser.add_argument, metavar="N")
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio")
    option("--seconds", type=positive, default=60.0, help="how long a session lasts, simulated")
    option("--sessions", type=count, help="run N sessions side by side, each in its own time")
    return parser.parse_args(argv)


def positive(text: str) -> float:
    """A finite number above zero."""
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError(text)
    return number


def count(text: str) -> int:
    """A whole number above zero."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def table(sessions: Sequence[Session], wall: float) -> Iterator[str]:
    """The lines of a short table of sessions that took ``wall`` real seconds together."""
    yield "session  virtual s  plans  chunks  actions  starved  travelled m"
    for session in sessions:
        tally = session.tally
        yield (
            f"{session.seed:>7}{session.duration:>11.1f}{tally.plans:>7}{tally.chunks:>8}"
            f"{tally.actions:>9}{tally.starved:>9}{tally.travelled:>13.3f}"
        )
    virtual = sum(session.duration for session in sessions)
    yield f"{virtual:.1f} virtual seconds in {wall:.3f} real ones, {virtual / wall:.0f} x"


if __name__ == "__main__":
    sys.exit(main())
