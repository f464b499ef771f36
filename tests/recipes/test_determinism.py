"""Pipelines of recipes under simulated time have one trace: on every run, on both backends."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chrono_core.testing import Trace, assert_one_trace, available_backends
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from . import graphs

ROOT = Path(__file__).parents[2]
RUNS = 20


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """Recipes that fail on purpose need not be heard of."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@settings(max_examples=4, suppress_health_check=[HealthCheck.too_slow])
@given(graph=graphs.GRAPHS)
def test_a_pipeline_has_one_trace_in_twenty_runs_on_each_backend(graph: graphs.Graph) -> None:
    """Whatever is cancelled, fails, leaves or is stopped, the trace is the same byte for byte."""

    async def program(trace: Trace) -> None:
        await graphs.trace_of(graph, trace)

    assert_one_trace(program, times=RUNS)


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(graph=graphs.GRAPHS)
def test_both_backends_agree(graph: graphs.Graph) -> None:
    """Many pipelines, once on each backend."""

    async def program(trace: Trace) -> None:
        await graphs.trace_of(graph, trace)

    assert_one_trace(program, times=1)


@settings(max_examples=1, suppress_health_check=list(HealthCheck))
@given(drawn=st.lists(graphs.GRAPHS, min_size=5, max_size=5))
def test_fresh_processes_agree(drawn: list[graphs.Graph]) -> None:
    """Another process, with another hash seed, gives the traces of this one."""
    here = [graphs.run(graph, "asyncio").digest() for graph in drawn]
    for backend in available_backends():
        for hash_seed in ("1", "77"):
            done = subprocess.run(
                [sys.executable, "-m", "tests.recipes.graphs", backend],
                input="".join(graph.dump() + "\n" for graph in drawn),
                capture_output=True,
                text=True,
                cwd=ROOT,
                env=os.environ | {"PYTHONHASHSEED": hash_seed},
                check=True,
            )
            assert done.stdout.split() == here


def test_every_kind_of_recipe_is_drawn_and_does_something() -> None:
    """Each recipe alone, between two sources and a consumer, passes on some of the items."""
    for kind in graphs.KINDS:
        graph = graphs.Graph(
            sources=tuple(graphs.Source(0.1, 1, 9, 1, True) for _ in range(2)),
            stages=(graphs.Stage(kind, (0, 0, 0), (1, 1, 1), 2, 0.25, (), 0, 0, 0, 0),),
            sinks=(graphs.Sink("receive", 0.0, 0, 0.0),),
            advances=(7.0,),
        )
        lines = graphs.run(graph, "asyncio").lines
        assert sum(" sink-" in line and " got " in line for line in lines) >= 3, kind
        # Nobody closes the requests of the batcher.
        assert any(f"{kind}-0 returns" in line for line in lines) == (kind != "batcher"), kind
        assert not any("raised" in line for line in lines), kind
