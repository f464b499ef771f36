"""How long `import chrono_core` takes where anyio is imported already."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from tempfile import TemporaryDirectory

from .harness import Case, Goal, Peer, Side, Unit

MILLISECONDS = Unit("ms", 1e3)
BEYOND_ANYIO = Goal("ours", 15.0)

PROGRAM = """
import sys, time, {before}
assert {module!r} not in sys.modules
started = time.perf_counter()
import {module}
print(time.perf_counter() - started)
"""


def cases(backends: tuple[str, ...]) -> Iterator[Case]:
    # Whether bytecode is kept is the machine's affair: here it is, from the warm-up on.
    with TemporaryDirectory() as bytecode:
        yield Case(
            name="import, anyio being imported",
            backend="none",
            unit=MILLISECONDS,
            work=5,
            ours=Side("chrono-core", partial(import_time, bytecode, "chrono_core", "anyio")),
            peers=(
                Peer(
                    Side("chrono-daemon", partial(import_time, bytecode, "chrono_daemon", "anyio")),
                    (BEYOND_ANYIO,),
                ),
                Peer(Side("anyio itself", partial(import_time, bytecode, "anyio", "time"))),
            ),
            grows=False,
        )


def import_time(bytecode: str, module: str, before: str, work: int) -> float:
    """The seconds that so many imports take, each in an interpreter of its own."""
    program = PROGRAM.format(module=module, before=before)
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": bytecode}
    command = [sys.executable, "-c", program]
    return sum(float(subprocess.check_output(command, env=environment)) for _ in range(work))
