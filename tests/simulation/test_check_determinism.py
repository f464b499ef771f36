"""Finding out what makes one run differ from the next."""

import asyncio
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from chrono_core import NondeterminismError, check_determinism
from chrono_core.testing import Trace, available_backends

both = pytest.mark.parametrize("backend", available_backends())
seeds = pytest.mark.parametrize("seed", [None, 3])


async def orderly() -> str:
    async def work(n: int) -> None:
        for _ in range(3):
            await anyio.sleep(n)
            await checkpoint()

    async with anyio.create_task_group() as tasks:
        for n in range(5):
            tasks.start_soon(work, n)
    return "done"


@both
@seeds
def test_an_orderly_program_has_one_trace(backend: Any, seed: int | None) -> None:
    """The trace is returned: a line for each step of each task, and the same every time."""
    trace = check_determinism(orderly, backend=backend, seed=seed, runs=3)
    assert isinstance(trace, Trace)
    assert trace.digest() == check_determinism(orderly, backend=backend, seed=seed).digest()
    assert any("orderly.<locals>.work: test_check_determinism.py:" in line for line in trace.lines)
    assert trace.lines[-1] == "returned 'done'"


@both
@seeds
def test_an_order_that_hangs_on_addresses_is_shown(backend: Any, seed: int | None) -> None:
    """Both sides are shown, with what came before them."""

    async def main() -> None:
        await anyio.sleep(1)
        places = {object() for _ in range(50)}
        for place in places:
            await anyio.sleep(1 + id(place) % 4096)

    with pytest.raises(NondeterminismError, match=r"(?s)differ from line.*\n  - .*\n  \+ "):
        check_determinism(main, backend=backend, seed=seed, runs=10)


@both
def test_a_result_that_differs_is_shown(backend: Any) -> None:
    """What the program returns is part of what it does."""
    results = iter(range(10))

    async def main() -> int:
        return next(results)

    with pytest.raises(NondeterminismError, match="returned 0"):
        check_determinism(main, backend=backend)


@both
def test_an_error_that_always_comes_is_raised(backend: Any) -> None:
    """A program that fails in one way is deterministic."""

    async def main() -> None:
        await anyio.sleep(1)
        raise ValueError("always")

    with pytest.raises(ValueError, match="always"):
        check_determinism(main, backend=backend)


def test_tasks_without_a_name_have_no_number() -> None:
    """asyncio counts them through the whole process, which means nothing."""

    async def main() -> None:
        await asyncio.gather(*(asyncio.create_task(asyncio.sleep(n)) for n in range(5)))

    digests = {check_determinism(main).digest() for _ in range(3)}
    assert len(digests) == 1


def test_one_run_is_not_enough() -> None:
    """There is nothing to compare it with."""
    with pytest.raises(ValueError, match="at least 2"):
        check_determinism(orderly, runs=1)
