"""Every error of chrono-core.

ChronoError
├── ChannelError                 has .channel
│   ├── EndOfStream              the sender closed and everything was received
│   ├── ChannelClosed            the receiver has gone
│   ├── EndpointClosed           this endpoint was closed by its own user
│   ├── ChannelInUse             two tasks at one endpoint
│   └── WouldBlock               a *_nowait call that would have to wait
├── DaemonError                  has .daemon, .phase; the cause is __cause__
└── SimulationError
    ├── ClockBusy                a second driver, or a driver inside the simulation it drives
    ├── SimulationStalled        nothing can run and nothing sleeps
    └── SimulationLivelock       something runs for ever at one instant

RealTimeWarning (a UserWarning)  something real was pending while simulated time moved
"""

from __future__ import annotations


class ChronoError(Exception):
    """Root of every error that chrono raises on purpose."""

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.args, self.__dict__))


class ChannelError(ChronoError):
    """Something about one channel.

    Attributes:
        channel: the channel's name.
    """

    def __init__(self, message: str, *, channel: str) -> None:
        super().__init__(message)
        self.channel = channel


class EndOfStream(ChannelError):
    """The sending side closed, and every item it had sent was received."""


class ChannelClosed(ChannelError):
    """The receiving side has gone; nothing sent from now on would be received."""


class EndpointClosed(ChannelError):
    """This endpoint was closed by its own user and then used again."""


class ChannelInUse(ChannelError):
    """Two tasks used one endpoint at the same time."""


class WouldBlock(ChannelError):
    """A ``*_nowait`` call found no room, or no item."""


class DaemonError(ChronoError):
    """A daemon failed; the original exception is ``__cause__``.

    Attributes:
        daemon: the daemon's name.
        phase: ``"on_start"``, ``"run"`` or ``"on_stop"``.
    """

    def __init__(self, message: str, *, daemon: str, phase: str) -> None:
        super().__init__(message)
        self.daemon = daemon
        self.phase = phase


class SimulationError(ChronoError):
    """Something about simulated time."""


class ClockBusy(SimulationError):
    """The clock is being driven already, or by somebody inside its own simulation."""


class SimulationStalled(SimulationError):
    """What was waited for can never happen: nothing runs, nothing sleeps, nothing is held."""


class SimulationLivelock(SimulationError):
    """Something keeps running at one instant, so that time can never move."""


class RealTimeWarning(UserWarning):
    """A real timer or socket was pending while simulated time moved."""


def _rebuild(
    cls: type[ChronoError], args: tuple[object, ...], state: dict[str, object]
) -> ChronoError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error
