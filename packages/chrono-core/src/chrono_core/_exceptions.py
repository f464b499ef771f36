"""Every error of chrono-core.

ChronoError
├── ChannelError                 has .channel
│   ├── EndOfStream              the sender closed and everything was received
│   ├── ChannelClosed            the receiver has gone
│   ├── EndpointClosed           this endpoint was closed by its own user
│   ├── ChannelInUse             two tasks at one endpoint
│   └── WouldBlock               a *_nowait call that would have to wait
├── DaemonError                  has .daemon, .phase; the cause is __cause__
├── SimulationError
│   ├── ClockBusy                a second driver, or a driver inside the simulation it drives
│   ├── SimulationStalled        nothing can run and nothing sleeps
│   ├── SimulationLivelock       something runs for ever at one instant
│   ├── NondeterminismError      one program ran in two ways
│   └── ReplayMismatch           a run cannot be played again, since the program is another
├── ExplorationFailure           has .seed, .choices, .replay; the cause is __cause__
└── InjectedFault                a daemon crashed because the simulation wanted it to

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


class NondeterminismError(SimulationError):
    """One program, run twice in the same way, did not do the same."""


class ReplayMismatch(SimulationError):
    """The choices of a replay do not fit the program: it is not the one that made them."""


class ExplorationFailure(ChronoError):
    """A run of `explore` has failed; the program's own exception is ``__cause__``.

    Attributes:
        seed: the seed of the run that failed first.
        choices: what was chosen in the simplest run that fails alike, as (label, value, bound).
        replay: one line that plays that run again: ``explore(program, replay=...)``.
    """

    def __init__(
        self,
        message: str,
        *,
        seed: int,
        choices: tuple[tuple[str, int, int], ...],
        replay: str,
    ) -> None:
        super().__init__(message)
        self.seed = seed
        self.choices = choices
        self.replay = replay


class InjectedFault(ChronoError):
    """A daemon was made to crash by the `Faults` of a simulation."""


class RealTimeWarning(UserWarning):
    """A real timer or socket was pending while simulated time moved."""


def _rebuild(
    cls: type[ChronoError], args: tuple[object, ...], state: dict[str, object]
) -> ChronoError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error
