"""`python -m tests.simulation.corpus --runs 200`: how many traces each program has.

Every program runs so often on each backend in this process, while the heap is laid out anew between
the runs, then with some seeds, then in fresh processes with other hash seeds. The exit code is 1
unless each has one trace, and the backends agree but where they are known not to.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from chrono_core.testing import available_backends

from tests.simulation.hashes import Heap, digest, perturbed_heap, quiet, trace_of

from . import BACKENDS_DIFFER, PROGRAMS, Program

ROOT = Path(__file__).parents[3]
HASH_SEEDS = ("0", "1", "77", "4242")

Found = dict[tuple[str, str, int | None], set[str]]  # hashes by program, backend and seed


def main() -> None:
    options = _arguments()
    programs = [program for name, program in PROGRAMS.items() if options.only in name]
    seeds: list[int | None] = [None, *options.seeds]
    with quiet(), perturbed_heap(options.heap) as heap:
        if options.hashes:
            for key, found in _run(programs, seeds, 1, heap):
                print(json.dumps([*key, found]), flush=True)
            return
        sys.exit(_report(options, programs, seeds, heap))


def _report(
    options: argparse.Namespace, programs: list[Program], seeds: list[int | None], heap: Heap
) -> int:
    backends = available_backends()
    print(f"{len(programs)} programs, {options.runs} runs, seeds {options.seeds}", flush=True)
    started = perf_counter()
    found: Found = defaultdict(set)
    fresh: Found = defaultdict(set)
    for key, value in _fresh(options):
        fresh[key].add(value)
    columns = [(backend, seed) for backend in backends for seed in seeds]
    heads = [backend if seed is None else f"{backend}/{seed}" for backend, seed in columns]
    heads += ["fresh", "agree", "seeded"]
    print(f"{'program':28} {'kind':6} {' '.join(f'{head:>9}' for head in heads)}")
    wrong = 0
    differing = []
    for program in programs:
        for seed in seeds:
            runs = options.runs if seed is None else options.seeded_runs
            for key, value in _run([program], [seed], runs, heap):
                found[key].add(value)
        keys = [(program.name, backend, seed) for backend, seed in columns]
        counts = [_shown(found[key]) for key in keys]
        afresh = max(len(found[key] | fresh[key]) for key in keys) if fresh else "-"
        agrees = [
            len(set().union(*(found[program.name, backend, seed] for backend in backends))) == 1
            for seed in seeds
        ]
        known = program.name in BACKENDS_DIFFER
        agree = "yes" if agrees[0] else "no" if known else "NO"
        words = [*counts, f"{afresh}", agree, f"{sum(agrees[1:])} of {len(seeds) - 1}"]
        if not agrees[0]:
            differing.append(program.name)
        if set(counts) != {"1"} or afresh not in (1, "-") or agree == "NO":
            wrong += 1
        print(
            f"{program.name:28} {program.kind:6} {' '.join(f'{word:>9}' for word in words)}",
            flush=True,
        )
    print(f"{perf_counter() - started:.0f} s; the backends differ in {len(differing)} programs")
    for name in differing:
        print(f"  {name}: {BACKENDS_DIFFER.get(name, 'NOT LISTED')}")
    print(f"{wrong} programs have more than one trace, or differ and are not listed")
    return 1 if wrong else 0


def _run(
    programs: list[Program], seeds: list[int | None], runs: int, heap: Heap
) -> Iterator[tuple[tuple[str, str, int | None], str]]:
    """The hash of every run, the backends in turns."""
    for program in programs:
        for seed in seeds:
            for _ in range(runs):
                for backend in available_backends():
                    heap.perturb()
                    yield (program.name, backend, seed), _hash(program, backend, seed)


def _hash(program: Program, backend: str, seed: int | None) -> str:
    try:
        return digest(trace_of(program, backend, seed))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _fresh(options: argparse.Namespace) -> Iterator[tuple[tuple[str, str, int | None], str]]:
    """What other processes find, each with another seed of hashes and another heap."""
    for number, hash_seed in enumerate(HASH_SEEDS[: options.processes]):
        command = [sys.executable, "-m", "tests.simulation.corpus", "--hashes"]
        command += ["--only", options.only, "--heap", str(number + 1)]
        command += ["--seeds", *map(str, options.seeds)]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            check=True,
        )
        for line in done.stdout.splitlines():
            name, backend, seed, value = json.loads(line)
            yield (name, backend, seed), value


def _shown(found: set[str]) -> str:
    """How many traces; or that there was none, because the program failed."""
    failed = any(":" in value for value in found)
    return f"{len(found)}, FAILED" if failed else str(len(found))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.corpus", description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="on each backend")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--seeded-runs", type=int, default=20, help="with each seed")
    parser.add_argument("--processes", type=int, default=len(HASH_SEEDS))
    parser.add_argument("--only", metavar="TEXT", default="", help="programs named like this")
    parser.add_argument("--heap", type=int, default=0, help="another layout of the heap")
    parser.add_argument("--hashes", action="store_true", help="only print the hash of each")
    return parser.parse_args()


if __name__ == "__main__":
    main()
