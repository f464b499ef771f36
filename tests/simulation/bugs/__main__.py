"""`python -m tests.simulation.bugs`: look for every bug, by every strategy, on every backend.

Prints in how many runs each was found, how many choices of its simplest run are not the usual ones,
and the line that replays that run, which is tried. The exit code is 1 if one is not found, if its
replay does not fail, or if the program fails in the usual order.
"""

from __future__ import annotations

import argparse
import sys
from time import perf_counter

from chrono_core import ExplorationFailure, explore, simulate
from chrono_core.testing import available_backends

from tests.simulation.hashes import quiet

from . import BUGS, Bug

STRATEGIES = ("random", "pct", "delay-bounded")


def main() -> None:
    options = _arguments()
    wrong = 0
    with quiet():
        for name, bug in BUGS.items():
            if options.only not in name:
                continue
            for backend in available_backends():
                simulate(bug.function, backend=backend)  # raises where the usual order fails
                for strategy in options.strategies:
                    wrong += not _find(bug, backend, strategy, options)
    print(f"{wrong} were not found" if wrong else "all were found")
    sys.exit(1 if wrong else 0)


def _find(bug: Bug, backend: str, strategy: str, options: argparse.Namespace) -> bool:
    started = perf_counter()
    head = f"{bug.name:26} {backend:8} {strategy:14}"
    try:
        explore(
            bug.function,
            runs=options.runs,
            strategy=strategy,
            backend=backend,
            seed=options.seed,
        )
    except ExplorationFailure as failure:
        seconds = perf_counter() - started
        replays = _replays(bug, backend, failure)
        runs = failure.seed - options.seed + 1
        left = sum(1 for _, value, _ in failure.choices if value)
        print(
            f"{head} {runs:4} runs  {left} of {len(failure.choices):2} choices  {seconds:5.2f} s  "
            f"{'replays' if replays else 'DOES NOT REPLAY'}  {failure.replay}",
            flush=True,
        )
        return replays
    print(f"{head} NOT FOUND in {options.runs} runs", flush=True)
    return False


def _replays(bug: Bug, backend: str, failure: ExplorationFailure) -> bool:
    """Whether the shrunken choices make the program fail again, in the same way."""
    try:
        explore(bug.function, backend=backend, replay=failure.replay)
    except ExplorationFailure as again:
        return type(again.__cause__) is type(failure.__cause__)
    return False


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.bugs", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--strategies", nargs="*", choices=STRATEGIES, default=STRATEGIES)
    parser.add_argument("--only", metavar="TEXT", default="", help="bugs named like this")
    return parser.parse_args()


if __name__ == "__main__":
    main()
