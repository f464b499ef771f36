"""Random programs made of anyio alone."""

import gc
from typing import Any

import pytest
from chrono_core import simulate
from chrono_core.testing import available_backends

from . import plain

both = pytest.mark.parametrize("backend", available_backends())

PROGRAMS = 150


def trace(number: int, backend: Any, seed: int | None = None) -> list[str]:
    lines: list[str] = []
    simulate(plain.run, plain.generate(number), lines, backend=backend, seed=seed, limit=100)
    return lines


@both
@pytest.mark.parametrize("seed", [None, 1])
def test_each_has_one_trace(backend: Any, seed: int | None) -> None:
    """However the heap lies, with and without a seed."""
    ballast: list[object] = []
    for number in range(PROGRAMS):
        first = trace(number, backend, seed)
        assert first
        ballast.append([bytearray(97 * k % 512) for k in range(50 + 37 * (number % 7))])
        if not number % 10:
            gc.collect()
        assert trace(number, backend, seed) == first, number


@pytest.mark.skipif("trio" not in available_backends(), reason="trio is not installed")
def test_nearly_all_have_one_trace_over_both_backends() -> None:
    """Where they differ, anyio does: see the page on simulation."""
    differ = [n for n in range(PROGRAMS) if trace(n, "asyncio") != trace(n, "trio")]
    assert len(differ) <= PROGRAMS * 0.05, differ
