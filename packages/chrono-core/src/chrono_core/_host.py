"""What the daemons of one supervisor share: who lives, what failed, and whether to stop."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any

import anyio

from ._agenda import Agenda
from ._ambient import ambient
from ._backends import Run
from ._clock import Clock
from ._event import Event, Pulse
from ._exceptions import DaemonError
from ._health import DaemonHealth
from ._simclock import SimClock, bind
from ._unit import Unit

if TYPE_CHECKING:
    import random

# How many daemons that have ended are still shown.
REMEMBERED = 128


class Host:
    """The state of one supervisor."""

    def __init__(self, supervisor: Any, clock: Clock, logger: logging.Logger) -> None:
        self.supervisor = supervisor
        self.clock = clock
        self.logger = logger
        self._run: Run | None = None
        self.body: anyio.CancelScope | None = None
        self.body_ended = False
        self.units: dict[str, Unit] = {}
        self.instances: set[int] = set()
        self.last_added: Unit | None = None
        self.ended: deque[DaemonHealth] = deque(maxlen=REMEMBERED)
        self.never_up: deque[str] = deque(maxlen=REMEMBERED)
        self.stop_event = Event("the supervisor to be told to stop")
        self.changed = Pulse("the daemons of the supervisor")
        # How many calls of `stop` the block is inside of, and which daemons are inside of one.
        self.body_task: Any = None
        self.body_stops = 0
        self.stoppers: list[Unit] = []
        self.errors: list[DaemonError] = []
        self.fatal_error: BaseException | None = None

    def begin(self, run: Run) -> None:
        """The block begins."""
        if isinstance(self.clock, SimClock):
            bind(self.clock)
        self._run = run
        self.body_task = run.current_task()
        self.body = anyio.CancelScope()
        if self.simulated:
            self.agenda.describers.append(self.describe)

    def end(self) -> None:
        """The block has ended, and every daemon is gone."""
        if self.simulated:
            self.agenda.describers.remove(self.describe)

    @property
    def run(self) -> Run:
        if self._run is None:
            raise RuntimeError("the supervisor was not entered: use it in `async with`")
        return self._run

    @property
    def simulated(self) -> bool:
        return isinstance(self.clock, SimClock)

    @property
    def agenda(self) -> Agenda:
        return Agenda.of(self.run)

    def new_rng(self, name: str) -> random.Random:
        """A random generator for the daemon of this name."""
        # Few daemons throw dice, and those who do not should not wait for this import.
        import random

        if not self.simulated and self.run.simulation is None:
            return random.Random()
        seed = 0 if self.run.simulation is None else self.run.simulation.seed
        return random.Random(f"{seed} {name}")

    @property
    def broken(self) -> bool:
        """Whether something went wrong that ends everything."""
        return bool(self.errors) or self.fatal_error is not None

    @property
    def stopping(self) -> bool:
        """Whether no daemon is to be started any more."""
        return self.stop_event.is_set() or self.broken

    def add(self, unit: Unit) -> None:
        """A daemon was added."""
        self.units[unit.name] = unit
        self.instances.add(id(unit.daemon))
        if unit.name in self.never_up:
            self.never_up.remove(unit.name)
        self.last_added = unit

    def caller(self) -> Unit | None:
        """The daemon of this supervisor that the running code is inside of."""
        node = ambient()
        while node is not None:
            unit: Unit = node.unit
            if self.units.get(unit.name) is unit:
                return unit
            node = node.outer
        return None

    def waited_for(self, *, by_daemon: bool) -> list[Unit]:
        """Whom a stop is about: daemons that stop everything do not wait for each other."""
        units = list(self.units.values())
        return [unit for unit in units if not (by_daemon and unit in self.stoppers)]

    def snapshot(self) -> dict[str, DaemonHealth]:
        """How the daemons are doing, by name."""
        ended = {health.name: health for health in self.ended}
        return ended | {unit.name: unit.health() for unit in self.units.values()}

    def describe(self) -> list[str]:
        """What every daemon waits on, in words."""
        return [
            f"daemon {unit.name!r} ({unit.state}) waits on {unit.waiting_on() or 'nothing'}"
            for unit in self.units.values()
        ]

    # Told by the units

    def failed(self, error: DaemonError) -> None:
        """A daemon has failed, and its policy does not let that go."""
        self.errors.append(error)
        self._break()

    def fatal(self, error: BaseException) -> None:
        """A daemon has raised what ends the program."""
        self.fatal_error = error
        self._break()

    def _break(self) -> None:
        # A stop that the block has called goes on to its end, and so does the code after it.
        if not self.body_stops and not self.body_ended and self.body is not None:
            self.body.cancel()
        self.changed.beat()

    def gone(self, unit: Unit, instance: object) -> None:
        """A daemon is gone for good."""
        del self.units[unit.name]
        self.instances.discard(id(instance))
        if self.last_added is unit:
            self.last_added = None
        if unit.started_at is None:
            self.never_up.append(unit.name)
        self.ended.append(unit.health())
        self.changed.beat()
