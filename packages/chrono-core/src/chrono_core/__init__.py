"""Long-running async components that run for real, and unchanged in simulated time."""

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
    RealTimeWarning,
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

__all__ = [
    "Channel",
    "ChannelClosed",
    "ChannelError",
    "ChannelInUse",
    "ChannelStats",
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
    "RealTimeWarning",
    "ReceiveStream",
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
    "daemon",
    "open_channel",
]
