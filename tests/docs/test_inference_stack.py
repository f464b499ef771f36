import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from chrono_core.testing import available_backends

from . import examples

NAME = "inference_stack"

main, messages, sessions = examples.load(NAME, "stack_messages", "stack_session")


@pytest.mark.parametrize(
    "options", [[], ["--sessions", "5"]], ids=["one session", "nested sessions"]
)
def test_the_trace_is_the_same_on_both_backends_and_on_every_run(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two runs on each backend, each time one hash."""
    traces = set()
    for backend in 2 * available_backends():
        assert main(["--seconds", "10", "--backend", backend, *options]) == 0
        traces.add(examples.trace(capsys.readouterr().out))
    assert len(traces) == 1


def test_each_daemon_keeps_its_own_rate(anyio_backend: str) -> None:
    """In a minute: 61 plans, less than 600 chunks as inference overruns at times, 20 actions/s."""
    session = anyio.run(sessions.run_session, 0, 60.0, backend=anyio_backend)
    assert session.duration == 60.0
    assert session.tally.plans == 61
    assert 300 < session.tally.chunks < 600
    assert session.tally.actions == 1200
    assert 10.0 < session.tally.travelled < 60.0


def test_a_nested_session_does_what_it_does_alone(anyio_backend: str) -> None:
    """Rollouts side by side, each in its own time, leave no mark on one another."""

    def run(*program: Any) -> Any:
        return anyio.run(*program, backend=anyio_backend)

    together = run(sessions.evaluate, 4, 5.0)
    assert together == [run(sessions.run_session, seed, 5.0) for seed in range(4)]
    assert len({session.digest for session in together}) == 4


def test_a_chunk_leads_to_the_goal_and_ends() -> None:
    """The policy's actions stop at a goal within reach, and are no more than they are."""
    start, goal = messages.Observation((0.0, 0.0)), messages.Goal((0.06, 0.08))
    chunk = messages.chunk_towards(goal, start, begins=3.0)
    assert sum(vx for vx, _ in chunk.actions) * messages.ACTION_PERIOD == pytest.approx(0.06)
    assert sum(vy for _, vy in chunk.actions) * messages.ACTION_PERIOD == pytest.approx(0.08)
    assert chunk.action_at(3.0) == chunk.actions[0]
    assert chunk.action_at(3.4) is None


@pytest.mark.parametrize(
    "argv",
    [["--seconds", "inf"], ["--sessions", "0"], ["--sessions", "x"], ["--backend", "curio"]],
)
def test_options_that_make_no_sense_end_with_exit_code_2(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line is checked before anything runs."""
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert argv[0] in capsys.readouterr().err


def test_a_backend_that_is_not_installed_gets_one_sentence_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who asks for trio without having it is told so."""
    monkeypatch.setitem(sys.modules, "trio", None)
    assert main(["--backend", "trio"]) == 2
    assert capsys.readouterr() == ("", "inference_stack: trio is not installed.\n")


def test_the_command_of_the_readme_runs(tmp_path: Path) -> None:
    """``python docs/examples/inference_stack`` prints a table, the hash, and nothing on stderr."""
    output = examples.command(NAME, cwd=tmp_path)
    assert len(output.splitlines()) == 4
    assert examples.trace(output)
