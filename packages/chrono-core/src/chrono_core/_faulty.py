"""How faults get into channels, clocks and daemons.

Nothing of this is in the way outside of a simulation with faults: the ends of a channel are of
other classes where it is opened inside of one, and a daemon gets another clock.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import anyio

from . import _channel
from ._ambient import ambient
from ._backends import running
from ._channel import Channel, _Receive, _Send, _State, _Yielding
from ._clock import Every, First, Missed
from ._exceptions import ChannelClosed, EndOfStream, InjectedFault
from ._simclock import SimClock
from ._time import number, to_ns, to_seconds

T = TypeVar("T")


class Link:
    """The faults of one channel."""

    __slots__ = ("cut", "simulation")

    def __init__(self, simulation: Any) -> None:
        self.simulation = simulation
        self.cut = False

    async def disturb(self, end: Any) -> None:
        """Before a call does what it should, let go wrong what is to go wrong."""
        meet_fate()
        await hang_if_fated()
        faults, recorder = self.simulation.faults, self.simulation.recorder
        if not self.cut and recorder.chance("close", faults.close):
            self.cut = True
            state = end._state
            state.bind()
            state.take_back()
            state.sender.open = False
            state.sender.calls = state.receiver.calls = 0
            state.sender.wake()
            state.receiver.wake()
        end._refuse_if_closed()
        if recorder.chance("stall", faults.stall):
            await self._wait(end, math.inf)
        elif recorder.chance("delay", faults.delay):
            await self._wait(end, recorder.amount("delay", faults.max_delay))

    async def _wait(self, end: Any, seconds: float) -> None:
        end._refuse_second_user()
        side = end._side
        side.user = _Yielding(end._state.bind().current_task())
        side.calls = 0
        try:
            await self.simulation.clock.sleep(seconds)
        finally:
            side.user = None


class FaultySend(_Send[T]):
    """The sending end of a channel on which something may go wrong."""

    __slots__ = ("_link",)

    def __init__(self, state: _State[T], link: Link) -> None:
        super().__init__(state)
        self._link = link

    async def send(self, item: T) -> None:
        await self._link.disturb(self)
        await super().send(item)

    async def _send_many(self, iterator: Iterator[T]) -> None:
        await self._link.disturb(self)
        await super()._send_many(iterator)

    def send_many(self, items: Iterable[T]) -> Coroutine[Any, Any, None]:
        return self._send_many(iter(items))

    def _refuse_if_closed(self) -> None:
        if self._link.cut:
            raise ChannelClosed(
                f"the link of channel {self._state.name!r} was cut by a fault of the simulation",
                channel=self._state.name,
            )
        super()._refuse_if_closed()


class FaultyReceive(_Receive[T]):
    """The receiving end of a channel on which something may go wrong."""

    __slots__ = ("_link",)

    def __init__(self, state: _State[T], link: Link) -> None:
        super().__init__(state)
        self._link = link

    async def receive(self) -> T:
        await self._link.disturb(self)
        return await super().receive()

    async def __anext__(self) -> T:
        try:
            return await self.receive()
        except EndOfStream:
            raise StopAsyncIteration from None


def _open(state: _State[Any]) -> Channel[Any] | None:
    """A channel with faults, where the caller is in a simulation that has them."""
    run = running()
    simulation = None if run is None else run.simulation
    if simulation is None or simulation.faults is None:
        return None
    link = Link(simulation)
    return Channel(FaultySend(state, link), FaultyReceive(state, link), state.name)


# How many simulations with faults there are, in all threads.
_users = 0


def begin() -> None:
    """A simulation with faults begins."""
    global _users
    with _channel.lock:
        _users += 1
        _channel.interpose = _open


def end() -> None:
    """A simulation with faults has ended."""
    global _users
    with _channel.lock:
        _users -= 1
        if not _users:
            _channel.interpose = None


# Daemons


class Fate:
    """What is to become of one attempt of a daemon."""

    __slots__ = ("at", "clock", "hangs", "name")

    def __init__(self, simulation: Any, name: str) -> None:
        faults, recorder = simulation.faults, simulation.recorder
        self.clock: SimClock = simulation.clock
        self.name = name
        self.at = math.inf
        self.hangs = False
        crashes = recorder.chance("crash", faults.crash)
        self.hangs = not crashes and recorder.chance("hang", faults.hang)
        if crashes or self.hangs:
            self.at = self.clock.now() + recorder.amount("moment", faults.within)

    @property
    def has_come(self) -> bool:
        return self.clock.now() >= self.at


def _fate() -> Fate | None:
    node = ambient()
    return None if node is None else node.unit.fate


def meet_fate() -> None:
    """Crash, where the daemon that the caller belongs to is to crash by now."""
    fate = _fate()
    if fate is not None and fate.has_come and not fate.hangs:
        fate.at = math.inf
        raise InjectedFault(f"daemon {fate.name!r} was made to crash by a fault of the simulation")


async def hang_if_fated() -> None:
    """Hang, where the daemon that the caller belongs to is to hang by now."""
    fate = _fate()
    if fate is not None and fate.has_come and fate.hangs:
        await fate.clock.sleep(math.inf)


class FaultyClock:
    """A daemon's clock that may be ahead or behind, and where the daemon meets its fate."""

    __slots__ = ("_clock", "_skew")

    def __init__(self, clock: Any, skew: float) -> None:
        self._clock = clock
        self._skew = skew

    def now(self) -> float:
        return float(self._clock.now()) + self._skew

    def now_ns(self) -> int:
        return to_ns(self.now())

    def sleep(self, seconds: float) -> Coroutine[Any, Any, None]:
        return self._wait(self._clock.sleep(seconds))

    def wait_until(self, deadline: float) -> Coroutine[Any, Any, None]:
        return self._wait(self._clock.wait_until(number(deadline, "deadline") - self._skew))

    async def _wait(self, sleeping: Coroutine[Any, Any, None]) -> None:
        try:
            meet_fate()
            await hang_if_fated()
        except BaseException:
            sleeping.close()
            raise
        await sleeping
        meet_fate()
        await hang_if_fated()

    def every(
        self, period: float, *, first: First = "after", missed: Missed = "skip"
    ) -> AsyncIterator[float]:
        return Every(
            lambda due: self.wait_until(to_seconds(due)), self.now_ns, period, first, missed
        )

    def move_on_after(self, seconds: float) -> AbstractContextManager[anyio.CancelScope, bool]:
        scope: AbstractContextManager[anyio.CancelScope, bool] = self._clock.move_on_after(seconds)
        return scope

    def move_on_at(self, deadline: float) -> AbstractContextManager[anyio.CancelScope, bool]:
        return self.move_on_after(number(deadline, "deadline") - self.now())

    def fail_after(self, seconds: float) -> AbstractContextManager[anyio.CancelScope]:
        scope: AbstractContextManager[anyio.CancelScope] = self._clock.fail_after(seconds)
        return scope

    def fail_at(self, deadline: float) -> AbstractContextManager[anyio.CancelScope]:
        return self.fail_after(number(deadline, "deadline") - self.now())


def faulty_clock(simulation: Any, clock: Any) -> Any:
    """The clock that a daemon gets, in a simulation with faults."""
    most = simulation.faults.skew
    skew = simulation.recorder.amount("skew", 2 * most) - most if most else 0.0
    return FaultyClock(clock, skew)
