"""Long-running async components that run for real, and unchanged in simulated time."""

import importlib
import typing

from ._channel import Channel, open_channel
from ._clock import Clock, WallClock
from ._context import Context
from ._daemon import Daemon, daemon
from ._event import StopEvent
from ._exceptions import (
    ChannelClosed,
    ChannelError,
    ChannelInUse,
    ChronoError,
    ClockBusy,
    DaemonError,
    EndOfStream,
    EndpointClosed,
    ExplorationFailure,
    InjectedFault,
    NondeterminismError,
    RealTimeWarning,
    ReplayMismatch,
    SimulationError,
    SimulationLivelock,
    SimulationStalled,
    WouldBlock,
)
from ._health import DaemonHealth, DaemonState
from ._restart import RestartPolicy
from ._simclock import SimClock, Sleeper
from ._streams import ChannelStats, ReceiveStream, SendStream
from ._supervisor import DaemonHandle, Supervisor

if typing.TYPE_CHECKING:
    from ._choices import Choice
    from ._determinism import check_determinism
    from ._explore import Exploration, explore
    from ._faults import Faults
    from ._simulate import simulate, simulation_backend

__all__ = [
    "Channel",
    "ChannelClosed",
    "ChannelError",
    "ChannelInUse",
    "ChannelStats",
    "Choice",
    "ChronoError",
    "Clock",
    "ClockBusy",
    "Context",
    "Daemon",
    "DaemonError",
    "DaemonHandle",
    "DaemonHealth",
    "DaemonState",
    "EndOfStream",
    "EndpointClosed",
    "Exploration",
    "ExplorationFailure",
    "Faults",
    "InjectedFault",
    "NondeterminismError",
    "RealTimeWarning",
    "ReceiveStream",
    "ReplayMismatch",
    "RestartPolicy",
    "SendStream",
    "SimClock",
    "SimulationError",
    "SimulationLivelock",
    "SimulationStalled",
    "Sleeper",
    "StopEvent",
    "Supervisor",
    "WallClock",
    "WouldBlock",
    "check_determinism",
    "daemon",
    "explore",
    "open_channel",
    "simulate",
    "simulation_backend",
]

# What simulates whole programs is imported when it is first asked for: programs that run for real
# do not pay for it.
_LATER = {
    "Choice": "._choices",
    "Exploration": "._explore",
    "Faults": "._faults",
    "check_determinism": "._determinism",
    "explore": "._explore",
    "simulate": "._simulate",
    "simulation_backend": "._simulate",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_LATER[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
