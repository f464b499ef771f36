"""The parent: one daemon for each of the three processes, and one that hears of the score."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio.abc import Process
from chrono_core import Context, RestartPolicy, Supervisor, daemon
from process_links import Place
from process_report import REPORTS, Account, Flight

HERE = Path(__file__).parent
REPLAY = HERE.parent / "flight_replay"
PROGRAMS = ("scorer", "estimator", "reader")

RESTART = RestartPolicy(base=0.1, factor=1.0, max_retries=5)
PATIENCE = 120.0


class ProcessDied(Exception):
    """A process has ended, and not because its work was done."""


@dataclass(slots=True)
class Drill:
    """Kills a process in the middle of the flight, once.

    Attributes:
        victim: which; None is none.
        processes: those that run.
        row: at which row it struck.
    """

    victim: str | None
    processes: dict[str, Process] = field(default_factory=dict)
    row: int | None = None

    def consider(self, estimates: Account) -> None:
        """Strike, if it is time."""
        if self.victim is None or self.row is not None or estimates.next < estimates.rows // 2:
            return
        self.row = estimates.next
        self.processes[self.victim].kill()


@daemon
async def program(
    ctx: Context, command: list[str], environment: Mapping[str, str], drill: Drill
) -> None:
    """Start a process, and wait until it ends; a restart of the daemon is one of the process.

    Raises:
        ProcessDied: it ended with an error, or was killed.
    """
    process = await anyio.open_process(
        command, stdout=None, stderr=None, env=environment, start_new_session=True
    )
    async with process:
        drill.processes[ctx.name] = process
        code = await process.wait()
    if code:
        how = f"exit code {code}" if code > 0 else signal.Signals(-code).name
        ctx.logger.warning("the %s died: %s", ctx.name, how)
        raise ProcessDied(f"the {ctx.name} died: {how}")


@daemon
async def collector(ctx: Context, place: Place, flight: Flight, drill: Drill) -> None:
    """Keep account of what the scorer reports."""
    async with REPORTS.open_receive(place) as reports:
        async for report in reports:
            flight.add(report)
            drill.consider(flight.estimates)


async def fly(place: Place, backend: str, seconds: float, drill: Drill) -> Flight:
    """Run the three processes until the last has ended.

    Raises:
        TimeoutError: they do not come to an end.
        ExceptionGroup: one of them died too often.
    """
    flight = Flight()
    path = os.pathsep.join(filter(None, [str(REPLAY), os.environ.get("PYTHONPATH")]))
    options = [str(place.folder), backend, str(place.peer_timeout), str(seconds)]
    with anyio.fail_after(PATIENCE):
        async with Supervisor(on_error="restart", restart=RESTART) as supervisor:
            supervisor.add(collector(place, flight, drill), name="collector")
            for name in PROGRAMS:
                command = [sys.executable, str(HERE / f"process_{name}.py"), *options]
                supervisor.add(
                    program(command, {**os.environ, "PYTHONPATH": path}, drill), name=name
                )
    flight.close()
    health = supervisor.snapshot()
    flight.restarts = {name: health[name].restart_count for name in PROGRAMS}
    return flight
