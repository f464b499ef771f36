"""The inference-stack example: three rates, one session or many nested ones."""

from __future__ import annotations

import importlib
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "docs" / "examples" / "inference_stack"
BACKENDS = ("asyncio", "trio")


@pytest.fixture(scope="module")
def example() -> Any:
    """Gives the example's modules by name, as the example itself imports them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE)
        yield importlib.import_module


@pytest.fixture(scope="module")
def main() -> Callable[[list[str]], int]:
    """The example's ``main``, without a process of its own."""
    function: Callable[[list[str]], int] = runpy.run_path(str(EXAMPLE), run_name="stack")["main"]
    return function


def trace_of(output: str) -> str:
    """The digest on the last line of the example's output."""
    found = re.fullmatch(r"trace ([0-9a-f]{64})", output.splitlines()[-1])
    assert found, output
    return found[1]


@pytest.mark.parametrize(
    "options", [[], ["--sessions", "5"]], ids=["one session", "nested sessions"]
)
def test_the_trace_is_the_same_on_both_backends_and_on_every_run(
    main: Any, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two runs on each backend, four times one hash."""
    traces = set()
    for backend in (*BACKENDS, *BACKENDS):
        assert main(["--seconds", "10", "--backend", backend, *options]) == 0
        traces.add(trace_of(capsys.readouterr().out))
    assert len(traces) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_daemon_keeps_its_own_rate(example: Any, backend: str) -> None:
    """In a minute: 61 plans, less than 600 chunks as inference overruns at times, 20 actions/s."""
    session = anyio.run(example("stack_session").run_session, 0, 60.0, backend=backend)
    assert session.duration == 60.0
    assert session.tally.plans == 61
    assert 300 < session.tally.chunks < 600
    assert 1190 <= session.tally.actions <= 1200
    assert 10.0 < session.tally.travelled < 60.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_nested_session_does_what_it_does_alone(example: Any, backend: str) -> None:
    """Rollouts side by side, each in its own time, leave no mark on one another."""
    stack_session = example("stack_session")
    together = anyio.run(stack_session.evaluate, 4, 5.0, backend=backend)
    alone = [anyio.run(stack_session.run_session, seed, 5.0, backend=backend) for seed in range(4)]
    assert together == alone
    assert len({session.digest for session in together}) == 4


def test_a_chunk_leads_to_the_goal_and_ends(example: Any) -> None:
    """The policy's actions stop at a goal within reach, and are no more than they are."""
    messages = example("stack_messages")
    start, goal = messages.Observation((0.0, 0.0)), messages.Goal((0.06, 0.08))
    chunk = messages.chunk_towards(goal, start, begins=3.0)
    assert sum(vx for vx, _ in chunk.actions) * messages.ACTION_PERIOD == pytest.approx(0.06)
    assert sum(vy for _, vy in chunk.actions) * messages.ACTION_PERIOD == pytest.approx(0.08)
    assert chunk.action_at(3.0) == chunk.actions[0]
    assert chunk.action_at(3.4) is None


@pytest.mark.parametrize("argv", [["--seconds", "inf"], ["--sessions", "0"], ["--sessions", "x"]])
def test_options_that_make_no_sense_end_with_exit_code_2(
    main: Any, argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line is checked before anything runs."""
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert argv[0] in capsys.readouterr().err


def test_the_command_of_the_readme_runs(tmp_path: Path) -> None:
    """``python docs/examples/inference_stack`` prints its table and the hash, and no warning."""
    command = [sys.executable, "-W", "error", str(EXAMPLE), "--sessions", "20"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert trace_of(done.stdout)
