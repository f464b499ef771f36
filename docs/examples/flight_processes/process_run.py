"""What the three programs have in common: daemons that are restarted, until their work is done."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import anyio
from chrono_core import Context, DaemonHandle, RestartPolicy, Supervisor, daemon
from process_links import Place

RESTART = RestartPolicy(base=0.1, factor=1.0, max_retries=20)


@dataclass(frozen=True, slots=True)
class Order:
    """What a program is told on its command line.

    Attributes:
        place: where its links are.
        seconds: how much of the flight to replay.
    """

    place: Place
    seconds: float


Add = Callable[[Supervisor, Order], Iterable[DaemonHandle]]


class OneLine(logging.Formatter):
    """Name an error instead of showing its traceback: an error that is restarted is no news."""

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        line = self.formatMessage(record)
        error = record.exc_info and record.exc_info[1]
        return f"{line}: {type(error).__name__}" if error else line


def log_as(program: str) -> None:
    """Have the supervisor of this program, and its daemons, print what they have to say."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(OneLine(f"{program:<12}%(message)s"))
    logger = logging.getLogger("chrono_core")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def main(program: str, add: Add) -> None:
    """Run a program: the daemons that ``add`` adds, until all of these have ended."""
    parser = argparse.ArgumentParser(prog=program)
    parser.add_argument("folder", type=Path)
    parser.add_argument("backend")
    parser.add_argument("peer_timeout", type=float)
    parser.add_argument("seconds", type=float)
    options = parser.parse_args()
    log_as(program)
    order = Order(Place(options.folder, options.peer_timeout), options.seconds)
    anyio.run(host, add, order, backend=options.backend)


async def host(add: Add, order: Order) -> None:
    """Host the daemons of a program."""
    async with Supervisor(on_error="restart", restart=RESTART) as supervisor:
        work = list(add(supervisor, order))
        supervisor.add(parent_watch())
        for handle in work:
            await handle.wait_stopped()
        await supervisor.stop(grace=0.0)


@daemon
async def parent_watch(ctx: Context) -> None:
    """End with the parent, which writes nothing to stdin, but holds it open while it lives."""
    await anyio.wait_readable(sys.stdin)
    await ctx.supervisor.stop(grace=0.0)
