"""One program, one trace: on every run, in every process, on both backends."""

import hashlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chrono_core.testing import assert_one_trace, available_backends
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from . import graphs

ROOT = Path(__file__).parents[2]
RUNS = 20


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """Daemons that fail on purpose need not be heard of."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(graph=graphs.graphs())
def test_a_graph_has_one_trace_in_twenty_runs_on_each_backend(graph: graphs.Graph) -> None:
    """Whatever daemons do, and however the heap lies, the trace is the same byte for byte."""

    async def program(trace: graphs.Trace) -> None:
        await graphs.trace_of(graph, trace)

    assert_one_trace(program, times=RUNS)


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(graph=graphs.graphs())
def test_both_backends_agree(graph: graphs.Graph) -> None:
    """Many graphs, once on each backend."""

    async def program(trace: graphs.Trace) -> None:
        await graphs.trace_of(graph, trace)

    assert_one_trace(program, times=1)


@settings(max_examples=2, suppress_health_check=list(HealthCheck))
@given(drawn=st.lists(graphs.graphs(), min_size=8, max_size=8))
def test_fresh_processes_agree(drawn: list[graphs.Graph]) -> None:
    """Another process, with another hash seed, gives the traces of this one."""
    here = [
        hashlib.sha256(graphs.run(graph, "asyncio").text().encode()).hexdigest() for graph in drawn
    ]
    for backend in available_backends():
        for hash_seed in ("1", "77"):
            done = subprocess.run(
                [sys.executable, "-m", "tests.core.graphs", backend],
                input="".join(graph.dump() + "\n" for graph in drawn),
                capture_output=True,
                text=True,
                cwd=ROOT,
                env=os.environ | {"PYTHONHASHSEED": hash_seed},
                check=True,
            )
            assert done.stdout.split() == here


def test_a_difference_would_be_found() -> None:
    """A program that depends on addresses does not pass."""

    class Thing:
        pass

    async def program(trace: graphs.Trace) -> None:
        for address in [id(Thing()), id(trace), id(program)]:
            trace.write(str(address))

    with pytest.raises(AssertionError, match="differ from line"):
        assert_one_trace(program, times=5)
