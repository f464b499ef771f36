"""What can be seen of a daemon from outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DaemonState = Literal["starting", "running", "restarting", "stopped", "failed"]
"""The states of a daemon; ``DaemonHealth`` says what each means."""


@dataclass(frozen=True, slots=True)
class DaemonHealth:
    """How a daemon is doing, at one moment. Times are seconds of the supervisor's clock.

    Attributes:
        name: the daemon's name.
        state: ``"starting"`` until ``on_start`` has returned; ``"running"``; ``"restarting"``
            while it waits to be started again; ``"stopped"`` when it has ended, or was let go;
            ``"failed"`` when its end is an error.
        restart_count: how often it was started again.
        last_error: the last exception that ended it; None without one.
        last_error_phase: ``"on_start"``, ``"run"`` or ``"on_stop"``; None without an error.
        started_at: when ``on_start`` last returned; None if it never did.
        stopped_at: when it ended for good; None while it lives.
        uptime: seconds since ``started_at``, or from that to ``stopped_at``; 0 if it never ran.
        waiting_on: what it waits on now, in words; None where it does not wait.
    """

    name: str
    state: DaemonState
    restart_count: int
    last_error: BaseException | None
    last_error_phase: str | None
    started_at: float | None
    stopped_at: float | None
    uptime: float
    waiting_on: str | None
