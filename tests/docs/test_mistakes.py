"""The likely mistakes of docs/mistakes.md, each with all that it says."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from chrono_core.testing import available_backends

from .programs import ROOT, SECONDS, Program, programs

MISTAKES = programs(ROOT / "docs" / "mistakes.md")
TOLD = Path(__file__).with_name("told.py")

# Where the page has sockets lie.
FOLDER = "/run/user/1000/chrono-1000"


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.where)
def test_mistake_says_what_its_page_shows(mistake: Program) -> None:
    """The whole message, on every backend, and nothing else."""
    if os.name == "nt" and "ipc:" in mistake.source:
        pytest.skip("paths look otherwise there")
    with tempfile.TemporaryDirectory() as folder:  # the paths of sockets must be short
        file = Path(folder, "program.py")
        file.write_text(mistake.source, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-X", "utf8", TOLD, file.name, *available_backends()],
            cwd=folder,
            env={**os.environ, "PYTHONDEVMODE": "", "XDG_RUNTIME_DIR": folder},
            capture_output=True,
            encoding="utf-8",
            timeout=SECONDS,
            check=False,
        )
        assert done.stderr == ""
        sockets = next((str(path) for path in Path(folder).glob("chrono-*")), FOLDER)
        for told in json.loads(done.stdout).values():
            assert told.replace(sockets, FOLDER) == mistake.error


def test_there_are_mistakes_enough() -> None:
    """Every program of the page is one that says something."""
    assert len(MISTAKES) >= 20
    assert all(mistake.error for mistake in MISTAKES)
