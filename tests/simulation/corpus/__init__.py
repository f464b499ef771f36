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
