"""Running the examples that stand in the documentation, each a directory of plain modules."""

import importlib
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .programs import ROOT

EXAMPLES = ROOT / "docs" / "examples"

Main = Callable[[Sequence[str]], int]


def load(name: str, *modules: str) -> tuple[Any, ...]:
    """The function behind an example's command line, and modules of it.

    They are found as the example itself finds them. Afterwards none can be imported by its name,
    so that an example sees no module of another.
    """
    directory = str(EXAMPLES / name)
    known = set(sys.modules)
    sys.path.insert(0, directory)
    try:
        main: Main = runpy.run_path(directory, run_name=name)["main"]
        return main, *map(importlib.import_module, modules)
    finally:
        sys.path.remove(directory)
        for module in set(sys.modules) - known:
            if Path(getattr(sys.modules[module], "__file__", None) or "").parent == Path(directory):
                del sys.modules[module]


def command(name: str, *options: str, cwd: Path) -> str:
    """What an example prints, run as its page says; it may print nothing on stderr.

    Not in Python's development mode, in which asyncio takes ten times as long.
    """
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-W", "error", EXAMPLES / name, *options],
        cwd=cwd,
        env={**os.environ, "PYTHONDEVMODE": ""},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def trace(output: str) -> str:
    """The hash in the last line of an example's output."""
    last = output.splitlines()[-1]
    found = re.fullmatch(r"trace ([0-9a-f]{64})", last)
    assert found is not None, last
    return found[1]
