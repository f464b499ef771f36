"""Small programs that do what unordered event loops get wrong.

Run as `python -m tests.simulation.corpus`, it runs each very often and counts its traces.
"""

from . import (
    channels,
    clocks,
    graphs,
    memory_streams,
    supervisors,
    synchronization,
    task_groups,
    threads,
    timeouts,
)
from .program import PROGRAMS, Kind, Program

__all__ = [
    "BACKENDS_DIFFER",
    "PROGRAMS",
    "Kind",
    "Program",
    "channels",
    "clocks",
    "graphs",
    "memory_streams",
    "supervisors",
    "synchronization",
    "task_groups",
    "threads",
    "timeouts",
]

# Plain anyio programs in which the backends differ with no seed, and why.
BACKENDS_DIFFER = {
    "deadlines_that_have_passed": "a deadline set to now cancels in trio's next round, in asyncio "
    "at once",
    "errors_beside_cancellation": "what leaves a task group on trio holds cancellations beside the "
    "errors, and on asyncio it does not",
}
