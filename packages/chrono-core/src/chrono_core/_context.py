"""What a daemon is given."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from ._clock import Clock
from ._event import StopEvent

if TYPE_CHECKING:
    import random

    from ._supervisor import Supervisor


@dataclass(frozen=True, slots=True, repr=False)
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

    def __repr__(self) -> str:
        return f"<context of daemon {self.name!r}>"

    @property
    def rng(self) -> random.Random:
        """The daemon's own random generator, which goes on where it was after a restart.

        In a simulation, it is made of the seed and the daemon's name, so that another daemon more
        or less changes nothing for this one; without a seed, of 0. On a `SimClock` outside of
        `simulate`, it is that of seed 0, too. In real time, it has no seed. It is there for as long
        as the daemon is.
        """
        return self.supervisor._rng_of(self.name)

    @property
    def stopping(self) -> bool:
        """Whether this daemon was told to stop."""
        return self.stop_event.is_set()
