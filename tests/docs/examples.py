"""Running the examples that stand in the documentation, each a directory of plain modules."""

import importlib
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


def modules(name: str, *wanted: str) -> list[Any]:
    """Modules of an example, found as the example itself finds them."""
    sys.path.insert(0, str(EXAMPLES / name))
    try:
        return [importlib.import_module(module) for module in wanted]
    finally:
        sys.path.remove(str(EXAMPLES / name))


def main(name: str) -> Main:
    """The function behind an example's command line."""
    function: Main = runpy.run_path(str(EXAMPLES / name), run_name=name)["main"]
    return function


def command(name: str, *options: str, cwd: Path) -> str:
    """What an example prints, run as its page says; it may print nothing on stderr."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-X", "utf8", "-W", "error", EXAMPLES / name, *options],
        cwd=cwd,
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
