"""Library code takes time and chance from the clock, or not at all."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from .repository import PACKAGES, ROOT

REAL = {
    "anyio.current_time",
    "anyio.sleep",
    "anyio.sleep_until",
    "asyncio.sleep",
    "datetime.date.today",
    "datetime.datetime.now",
    "datetime.datetime.today",
    "datetime.datetime.utcnow",
    "os.urandom",
    "trio.current_time",
    "trio.sleep",
    "trio.sleep_until",
    "uuid.uuid1",
    "uuid.uuid4",
}
REAL_MODULES = ("random", "secrets", "time")
HARMLESS = {"random.Random", "time.struct_time"}

# Who may, and why. A folder stands for all that is in it.
ALLOWED = {
    "chrono_core/_backends": "waits for what is real: threads, and an idle loop",
    "chrono_core/_clock.py": "WallClock is real time",
    "chrono_zmq/_real.py": "the thread of the links has no loop to ask, and sessions are random",
    "chrono_recipes/_charge.py": "measures what a computation takes",
}


def real_calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every mention of real time or chance: the line, and the full name."""
    meaning: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                meaning[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                meaning[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            name = full_name(node, meaning)
            real_module = any(name.startswith(f"{module}.") for module in REAL_MODULES)
            if name in REAL or (real_module and name not in HARMLESS):
                yield node.lineno, name


def full_name(node: ast.expr, meaning: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{full_name(node.value, meaning)}.{node.attr}"
    if isinstance(node, ast.Name):
        return meaning.get(node.id, "")
    return ""


def may_be_real(module: Path) -> bool:
    path = module.as_posix()
    return any(f"/src/{place}" in path for place in ALLOWED)


def test_library_takes_no_time_but_the_clocks() -> None:
    """No module reads real time, sleeps on it or throws dice, but for the few that are named."""
    found = [
        f"{module.relative_to(ROOT)}:{line}: {name}"
        for package in PACKAGES
        for module in package.modules
        if not may_be_real(module)
        for line, name in real_calls(ast.parse(module.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import anyio\nawait anyio.sleep(1)",
        "import anyio as a\nawait a.sleep(1)",
        "from asyncio import sleep\nawait sleep(1)",
        "from time import monotonic as now\nnow()",
        "import random\nrandom.random()",
        "from datetime import datetime\ndatetime.now()",
        "import time\nread = time.perf_counter_ns",
    ],
)
def test_real_time_is_found_however_it_is_imported(source: str) -> None:
    """The check above would see it."""
    code = compile(source, "sample", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert list(real_calls(code))


@pytest.mark.parametrize(
    "source",
    ["import random\nrandom.Random(7).random()", "clock.sleep(1)", "from ._time import now\nnow()"],
)
def test_simulated_time_is_left_alone(source: str) -> None:
    """The check above has no complaint about a clock or a seeded generator."""
    assert not list(real_calls(ast.parse(source)))
