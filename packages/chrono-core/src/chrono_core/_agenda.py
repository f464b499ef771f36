"""Who wants simulated time to move, in one run of an event loop.

The backend calls the agenda whenever nothing can run. It then lets one thing happen, and is called
again when that has come to rest:

1. Worker threads and holds go first: while they last, nothing here happens.
2. Whoever waits for the program to settle is woken, in order.
3. A drive moves its clock to the next deadline and wakes one sleeper. Of several clocks that are
   driven at once, the innermost moves first, since for the clock around it everything that happens
   inside takes no time; clocks side by side take turns.
4. Where no drive can move, what is waited for inside can never happen: the innermost is told.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from ._ambient import depth
from ._backends import Idle, RealWait, Run, Waiter

# Further out than anything that drives.
NOBODY = -2


class Step(enum.Enum):
    """What became of a drive's attempt to let time pass."""

    MOVED = enum.auto()
    HELD = enum.auto()  # something real is under way, for which time must wait
    STUCK = enum.auto()  # nothing sleeps on this clock


class Drive(ABC):
    """One request to move one clock."""

    __slots__ = ("checked", "checks", "depth", "notices", "seen", "task", "turn")

    def __init__(self) -> None:
        self.depth = depth()
        self.turn = 0
        self.task: Any = None
        # Real waits are looked for at the first idle moment, the second, the fourth, and so on.
        self.checked = 0
        self.checks = 1
        self.seen: set[RealWait] = set()
        self.notices: list[RealWait] = []

    # Whether to tell the driver of what is real.
    reports = True

    @abstractmethod
    def step(self) -> Step:
        """Nothing can run: let one thing happen."""

    @abstractmethod
    def fail(self, error: BaseException) -> None:
        """End the drive with an error."""

    @abstractmethod
    def stall(self) -> None:
        """Nothing can ever happen again."""

    @abstractmethod
    def notify(self) -> None:
        """Wake the driver, for it to look at `notices`."""

    @abstractmethod
    def livelock(self, runners: list[str]) -> None:
        """These run for ever at one instant."""


class StallWatch:
    """Somebody who wants to know when nothing can ever happen again."""

    __slots__ = ("callback", "depth", "is_held")

    def __init__(self, callback: Callable[[], None], is_held: Callable[[], bool]) -> None:
        self.callback = callback
        self.is_held = is_held
        self.depth = depth()

    def stall(self) -> None:
        self.callback()


class Agenda:
    """The agenda of one run."""

    __slots__ = ("_drives", "_run", "_settling", "_stalls", "_turns", "describers")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._drives: list[Drive] = []
        self._settling: list[tuple[int, Waiter]] = []
        self._stalls: list[StallWatch] = []
        self._turns = 0
        # Each names what lives in this run, and what it waits on.
        self.describers: list[Callable[[], list[str]]] = []

    @staticmethod
    def of(run: Run) -> Agenda:
        """The agenda of a run, which is made simulated by this."""
        if run.watcher is None:
            run.watch(Agenda(run))
        agenda = run.watcher
        assert isinstance(agenda, Agenda)
        return agenda

    def add(self, drive: Drive) -> None:
        """Let a clock be moved."""
        self._drives.append(drive)
        self._run.kick()

    def remove(self, drive: Drive) -> None:
        """A clock is moved no longer."""
        self._drives.remove(drive)

    async def settle(self) -> None:
        """Wait until nothing can run without time moving."""
        waiter = self._run.waiter("the program to settle")
        # Whoever is inside is first: what he does then is part of settling for who is outside.
        self._settling.append((depth(), waiter))
        self._settling.sort(key=lambda entry: -entry[0])
        self._run.kick()
        await waiter

    def watch_stall(self, callback: Callable[[], None], is_held: Callable[[], bool]) -> StallWatch:
        """Call back, once, when nothing can ever happen again, unless the clock is held."""
        watch = StallWatch(callback, is_held)
        self._stalls.append(watch)
        self._run.kick()
        return watch

    def unwatch_stall(self, watch: StallWatch) -> None:
        """Do not call back any more."""
        if watch in self._stalls:
            self._stalls.remove(watch)

    def describe(self) -> str:
        """What everybody waits on, a line each."""
        lines = [line for describer in self.describers for line in describer()]
        return "".join(f"\n  {line}" for line in lines)

    # Called by the backend

    def on_idle(self) -> Idle:
        if self._run.threads_in_flight():
            return Idle.NAP
        while self._settling:
            if self._settling.pop(0)[1].wake():
                return Idle.AGAIN
        drives = self._drives
        if len(drives) > 1:
            drives = sorted(drives, key=lambda drive: (-drive.depth, drive.turn))
        held = NOBODY
        for drive in drives:
            if drive.depth < held:
                break
            if self._report_real_waits(drive):
                return Idle.AGAIN
            step = drive.step()
            if step is Step.MOVED:
                self._turns += 1
                drive.turn = self._turns
                return Idle.AGAIN
            if step is Step.HELD:
                held = drive.depth
        if held > NOBODY or not (drives or self._stalls):
            return Idle.REST
        if any(watch.is_held() for watch in self._stalls):
            return Idle.REST
        if self._run.own_timeouts or not self._run.sees_real_waits:
            return Idle.NAP  # something real may be on its way
        if self._run.maybe_real_waits():
            waits = self._run.real_waits([drive.task for drive in drives])
            if waits:
                told = any(self._report(drive, waits) for drive in drives if drive.reports)
                return Idle.AGAIN if told else Idle.NAP
        stuck: list[Drive | StallWatch] = [*drives, *self._stalls]
        last = max(reversed(stuck), key=lambda one: one.depth)
        if isinstance(last, StallWatch):
            self._stalls.remove(last)
        last.stall()
        return Idle.AGAIN

    def on_livelock(self, runners: list[str]) -> None:
        if self._drives:
            max(self._drives, key=lambda drive: drive.depth).livelock(runners)
        else:
            while self._settling:
                self._settling.pop(0)[1].wake()

    def _report_real_waits(self, drive: Drive) -> bool:
        drive.checked += 1
        if not drive.reports or drive.checked < drive.checks or not self._run.maybe_real_waits():
            return False
        drive.checks *= 2
        return self._report(drive, self._run.real_waits([drive.task for drive in self._drives]))

    def _report(self, drive: Drive, waits: list[RealWait]) -> bool:
        """Tell the driver of what is real; whether there is any news."""
        news = [wait for wait in waits if wait not in drive.seen]
        drive.seen.update(news)
        drive.notices += news
        if news:
            drive.notify()
        return bool(news)
