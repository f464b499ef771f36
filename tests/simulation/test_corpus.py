"""Each program of the corpus has one trace, however the heap lies, on either backend."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chrono_core.testing import available_backends

from .corpus import BACKENDS_DIFFER, PROGRAMS, Program
from .hashes import digest, perturbed_heap, quiet, trace_of

ROOT = Path(__file__).parents[2]
RUNS = 4
SEEDS = (1, 2)

every_program = pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
both_backends = pytest.mark.parametrize("backend", available_backends())


@pytest.fixture(autouse=True)
def no_logging() -> Iterator[None]:
    with quiet():
        yield


def assert_same(lines: list[str], others: list[str]) -> None:
    """Two traces are the same, and in what they differ otherwise."""
    assert "\n".join(lines) == "\n".join(others)


def test_there_are_forty_programs() -> None:
    """The corpus is as large as it says, and of both kinds."""
    kinds = [program.kind for program in PROGRAMS.values()]
    assert len(kinds) >= 40
    assert min(kinds.count("anyio"), kinds.count("ours")) >= 18


@both_backends
@every_program
def test_a_program_has_one_trace(program: Program, backend: str) -> None:
    """Without a seed, every run is the same, byte for byte."""
    with perturbed_heap() as heap:
        first = trace_of(program, backend)
        assert first
        for _ in range(RUNS - 1):
            heap.perturb()
            assert_same(trace_of(program, backend), first)


@pytest.mark.parametrize("seed", SEEDS)
@both_backends
@every_program
def test_a_program_has_one_trace_for_a_seed(program: Program, backend: str, seed: int) -> None:
    """A seed is one order, which every run with it has."""
    with perturbed_heap(seed) as heap:
        first = trace_of(program, backend, seed)
        assert first
        heap.perturb()
        assert_same(trace_of(program, backend, seed), first)


@pytest.mark.skipif(len(available_backends()) < 2, reason="trio is not installed")
@every_program
def test_the_backends_agree(program: Program) -> None:
    """Without a seed, one trace over both backends; what is listed as different, is."""
    traces = [trace_of(program, backend) for backend in available_backends()]
    if program.name in BACKENDS_DIFFER:
        assert traces[0] != traces[1], "this need not be listed any more"
    else:
        assert_same(*traces)


def test_only_plain_programs_may_differ() -> None:
    """What is made of our primitives has one trace everywhere."""
    assert all(PROGRAMS[name].kind == "anyio" for name in BACKENDS_DIFFER)


@both_backends
def test_seeds_make_other_orders(backend: str) -> None:
    """A seed does something: nearly every program has another trace for one of a few."""
    same = []
    for name, program in PROGRAMS.items():
        usual = trace_of(program, backend)
        if all(trace_of(program, backend, seed) == usual for seed in range(4)):
            same.append(name)
    assert len(same) <= len(PROGRAMS) // 5, same


def test_a_fresh_process_agrees() -> None:
    """Another process, with another hash seed, gives the traces of this one."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation.corpus", "--hashes", "--seeds", "1"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "77"},
        check=True,
    )
    there = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(there) == len(PROGRAMS) * len(available_backends()) * 2
    for name, backend, seed, value in there:
        assert value == digest(trace_of(PROGRAMS[name], backend, seed)), (name, backend, seed)
