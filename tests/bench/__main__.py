"""`python -m tests.bench NAME`: measure our side beside its peers.

A benchmark prints what it finds, whether we are ahead or not. It never fails for being slow.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

from . import (
    bench_channel,
    bench_clock,
    bench_import_time,
    bench_recipes,
    bench_simulation,
    bench_supervisor,
    bench_zmq,
)
from .harness import BACKENDS, Case, Row, available_backends, measure
from .report import block, heading, write_json

CASES: dict[str, Callable[[tuple[str, ...]], Iterable[Case]]] = {
    "clock": bench_clock.cases,
    "channel": bench_channel.cases,
    "recipes": bench_recipes.cases,
    "supervisor": bench_supervisor.cases,
    "simulation": bench_simulation.cases,
    "zmq": bench_zmq.cases,
    "import_time": bench_import_time.cases,
}
FEWEST_ROUNDS = 5
USUAL_ROUNDS = 9


def main() -> None:
    options = _arguments()
    warnings.simplefilter("error")  # a side that warns does not do what it should
    backends = (options.backend,) if options.backend else available_backends()
    names = list(CASES) if options.name == "all" else [options.name]
    print(heading(), flush=True)
    measured: dict[str, list[Row]] = {}
    for name in names:
        measured[name] = []
        for case in CASES[name](backends):
            if options.only not in case.name:
                continue
            if options.profile:
                _profile(case)
                continue
            rows = measure(case, rounds=options.rounds, growth=not options.quick)
            print(f"\n{name}: {block(rows)}", flush=True)
            measured[name] += rows
            if options.json:
                write_json(options.json, measured)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("name", choices=[*CASES, "all"])
    parser.add_argument("--backend", choices=BACKENDS, help="this one alone")
    parser.add_argument("--only", metavar="TEXT", default="", help="cases named like this")
    parser.add_argument("--rounds", type=_rounds, default=USUAL_ROUNDS)
    parser.add_argument("--quick", action="store_true", help="leave growth out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    parser.add_argument("--profile", action="store_true", help="profile our side, and no more")
    return parser.parse_args()


def _rounds(text: str) -> int:
    rounds = int(text)
    if rounds < FEWEST_ROUNDS:
        raise argparse.ArgumentTypeError(f"fewer than {FEWEST_ROUNDS} rounds say little")
    return rounds


def _profile(case: Case) -> None:
    """Where our side spends its time."""
    case.ours.run(case.work)
    profile = cProfile.Profile()
    profile.runcall(case.ours.run, case.work)
    print(f"\n{case.name} [{case.backend}], {case.work:,} units of work")
    pstats.Stats(profile).strip_dirs().sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
