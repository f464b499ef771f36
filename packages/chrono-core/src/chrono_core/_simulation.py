"""One simulated run: the clock, who decides, and what has gone wrong."""

from __future__ import annotations

import math
import warnings
from typing import Any

import anyio

from . import _faulty
from ._agenda import NOBODY, Agenda, Drive, Step
from ._backends import Idle, Run, standing
from ._choices import Recorder
from ._exceptions import (
    ClockBusy,
    RealTimeWarning,
    SimulationError,
    SimulationLivelock,
    SimulationStalled,
)
from ._faults import Faults
from ._faulty import Fate, faulty_clock
from ._simclock import SimClock
from ._time import to_ns
from ._timeline import Timeline

# After a failure, tasks may clean up for so many simulated seconds.
CLEANUP = to_ns(3600)


class Simulation:
    """One simulated run.

    Args:
        clock: the clock of everything in it.
        seed: what random generators are made of; None for those of seed 0.
        limit: so many simulated seconds it may last.
        recorder: decides what is left open, and writes it down.
        explores: whether the order of tasks is left open, too.
        faults: what goes wrong on purpose.
        observer: writes down what runs.
    """

    def __init__(
        self,
        clock: SimClock,
        *,
        seed: int | None,
        limit: float | None,
        recorder: Recorder,
        explores: bool,
        faults: Faults | None = None,
        observer: Any = None,
    ) -> None:
        self.clock = clock
        self.seed = 0 if seed is None else seed
        self.limit = limit
        self.recorder = recorder
        self.faults = faults
        self.scheduler = recorder if explores else None
        self.observer = observer
        self.timeline: Timeline = clock._timeline
        # Around the program, where it is known.
        self.scope: anyio.CancelScope | None = None
        self.error: BaseException | None = None
        self.last: int | None = None
        self._shields_broken = False
        self._run: Any = None

    # Told by the event loop

    def begin(self) -> None:
        """An event loop is made for it."""
        occupy(self.clock, self)
        if self.faults is not None:
            _faulty.begin()

    def start(self, run: Run) -> None:
        """The event loop runs."""
        self._run = run
        run.simulation = self
        run.livelock_after = self.clock._livelock_after
        timeline = self.timeline
        timeline.forget_all()
        timeline.choose = None if self.scheduler is None else self.scheduler.choose
        if self.limit is not None and self.limit != math.inf:
            self.last = timeline.now + to_ns(self.limit)
        agenda = VirtualAgenda(run, self)
        run.watch(agenda)
        self.clock._run = run
        self.clock._agenda = agenda

    def end(self) -> None:
        """The event loop is gone."""
        if self.faults is not None:
            _faulty.end()
        self.timeline.choose = None
        self.timeline.forget_all()
        leave(self.clock, self)

    def held_up(self) -> None:
        """Simulated time has been waiting for what is real, for long."""
        threads = self._run.threads_in_flight()
        what = f"{threads} worker threads" if threads else "hold() of the clock"
        if not threads and not self.timeline.holds:
            what = "a descriptor, for which a task waits"
        self._warn(
            f"simulated time has been standing at {self.clock.now()} for long, held by {what}",
            "<simulation>",
            0,
        )

    def _warn(self, message: str, filename: str, lineno: int) -> None:
        try:
            warnings.warn_explicit(message, RealTimeWarning, filename, lineno)
        except RealTimeWarning as error:
            self.fail(error)

    def clear(self) -> None:
        """The program is over: cancel what it has left running, in order."""
        self._run.cancel_leftovers()

    def meets(self, unit: Any) -> Any:
        """A daemon is about to start: its clock."""
        if self.faults is None:
            return unit.clock
        unit.fate = Fate(self, unit.name)
        return faulty_clock(self, unit.clock)

    # What goes wrong

    def fail(self, error: BaseException) -> None:
        """End the run by an error."""
        if self.error is None:
            self.error = error
            self.last = self.timeline.now + CLEANUP
            if self.scope is None:
                self._run.interrupt(error)
            else:
                self.scope.cancel()
        elif not self._shields_broken:
            # Somebody cleans up, and it does not end.
            self._shields_broken = True
            self.last = self.timeline.now + CLEANUP
            self._run.break_shields()
        else:
            raise error

    def stalled(self) -> None:
        """Nothing can ever happen again."""
        self.fail(
            SimulationStalled(
                f"at {self.clock.now()}, nothing can run and nothing sleeps, so nothing can ever "
                f"happen again{self.describe()}"
            )
        )

    def overran(self) -> None:
        """The limit has come."""
        if self.error is None:
            self.fail(
                TimeoutError(
                    f"the simulation has reached its limit of {self.limit} virtual seconds, at "
                    f"{self.clock.now()} on its clock{self.describe()}"
                )
            )
        else:
            self.fail(SimulationError(f"cleaning up after {self.error!r} does not end"))

    def describe(self) -> str:
        """What every task waits on, a line each."""
        run = self._run
        lines = []
        for task in run.tasks():
            where = standing(run.coroutine(task))
            lines.append(f"\n  task {run.task_name(task)!r} waits on {where}")
        return "".join(lines)


class VirtualAgenda(Agenda):
    """The agenda of a run in virtual time: without a driver, the clock moves by itself."""

    __slots__ = ("_jump", "_simulation")

    def __init__(self, run: Run, simulation: Simulation) -> None:
        super().__init__(run)
        self._simulation = simulation
        self._jump = _Jump(simulation)
        self._drives.append(self._jump)

    def on_idle(self) -> Idle:
        simulation = self._simulation
        timeline = simulation.timeline
        if simulation.last is not None and timeline.now > simulation.last:
            simulation.overran()
            return Idle.AGAIN
        return super().on_idle()

    def jump(self) -> bool:
        """What mostly happens when nothing can run, without the detour; whether it did.

        Asked only where nothing real is under way.
        """
        simulation = self._simulation
        timeline = simulation.timeline
        if len(self._drives) > 1 or self._settling or timeline.holds:
            return False
        if simulation.last is not None and timeline.now > simulation.last:
            return False
        return timeline.wake_next(simulation.last)


class _Jump(Drive):
    """Moves the clock to whatever is next, while nobody else does."""

    __slots__ = ("_simulation",)

    def __init__(self, simulation: Simulation) -> None:
        super().__init__()
        self._simulation = simulation
        self.depth = NOBODY + 1  # further out than everybody else

    def step(self) -> Step:
        simulation = self._simulation
        timeline = simulation.timeline
        if timeline.holds:
            return Step.HELD
        if timeline.driver is not None:
            return Step.STUCK
        last = simulation.last
        if timeline.wake_next(last):
            return Step.MOVED
        if last is None or timeline.next_deadline() is None:
            return Step.STUCK
        timeline.move_to(last)
        simulation.overran()
        return Step.MOVED

    def fail(self, error: BaseException) -> None:
        self._simulation.fail(error)

    def stall(self) -> None:
        self._simulation.stalled()

    def notify(self) -> None:
        for wait in self.notices:
            self._simulation._warn(
                f"task {wait.task!r} waits for {wait.what}, which is real, in a simulation: what "
                "it brings comes at a time that differs from run to run",
                wait.filename,
                wait.lineno,
            )
        self.notices.clear()

    def livelock(self, runners: list[str]) -> None:
        names = ", ".join(repr(name) for name in runners) or "something"
        simulation = self._simulation
        simulation.fail(
            SimulationLivelock(
                f"{names} kept running at {simulation.clock.now()} for "
                f"{simulation.clock._livelock_after} rounds of the event loop, so that time cannot "
                "move: let it wait for something, or raise livelock_after of the SimClock"
            )
        )


# Which clock is in use by which simulation

_occupied: dict[int, Simulation] = {}


def occupy(clock: SimClock, simulation: Simulation) -> None:
    """A simulation begins to use a clock."""
    run = clock._run
    other = _occupied.setdefault(id(clock), simulation)
    if other is not simulation or (run is not None and run.alive()):
        if other is simulation:
            del _occupied[id(clock)]
        raise ClockBusy(
            f"{clock!r} is in use by another simulation: each that runs needs a clock of its own"
        )


def leave(clock: SimClock, simulation: Simulation) -> None:
    """A simulation uses a clock no more."""
    if _occupied.get(id(clock)) is simulation:
        del _occupied[id(clock)]


def is_occupied(clock: SimClock) -> bool:
    """Whether a simulation uses this clock."""
    return id(clock) in _occupied
