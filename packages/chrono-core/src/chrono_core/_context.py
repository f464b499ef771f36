"""What a daemon is given."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from ._clock import Clock
from ._event import StopEvent

if TYPE_CHECKING:
    from ._supervisor import Supervisor


@dataclass(frozen=True, slots=True)
class Context:
    """What a daemon is given of the world.

    Attributes:
        clock: the supervisor's clock; the only time that a daemon should ask for.
        cancel_scope: around this daemon alone; cancelling it ends the daemon and touches nobody
            else.
        logger: stamps every record with ``sim_time`` and ``daemon``, and takes the caller's own
            ``extra``.
        name: the daemon's name.
        supervisor: who hosts it.
        stop_event: set when this daemon is told to stop.
    """

    clock: Clock
    cancel_scope: anyio.CancelScope
    logger: logging.LoggerAdapter[logging.Logger]
    name: str
    supervisor: Supervisor
    stop_event: StopEvent

    @property
    def stopping(self) -> bool:
        """Whether this daemon was told to stop."""
        return self.stop_event.is_set()
