"""The errors: what is a kind of what, what they carry, and that they can be sent elsewhere."""

import copy
import pickle

import chrono_core
import pytest
from chrono_core import (
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

CHANNEL_ERRORS = [
    ChannelError,
    EndOfStream,
    ChannelClosed,
    EndpointClosed,
    ChannelInUse,
    WouldBlock,
]
SIMULATION_ERRORS = [SimulationError, ClockBusy, SimulationStalled, SimulationLivelock]

EXAMPLES = [
    *(kind("it is over", channel="obs") for kind in CHANNEL_ERRORS),
    DaemonError("it failed", daemon="camera", phase="run"),
    *(kind("it is stuck") for kind in SIMULATION_ERRORS),
    ChronoError("something"),
]


def names(error: Exception) -> str:
    return type(error).__name__


@pytest.mark.parametrize(
    ("kind", "parent"),
    [
        (ChronoError, Exception),
        (ChannelError, ChronoError),
        (EndOfStream, ChannelError),
        (ChannelClosed, ChannelError),
        (EndpointClosed, ChannelError),
        (ChannelInUse, ChannelError),
        (WouldBlock, ChannelError),
        (DaemonError, ChronoError),
        (SimulationError, ChronoError),
        (ClockBusy, SimulationError),
        (SimulationStalled, SimulationError),
        (SimulationLivelock, SimulationError),
        (RealTimeWarning, UserWarning),
    ],
)
def test_the_hierarchy_is_the_documented_one(kind: type, parent: type) -> None:
    """Each error is directly below its parent."""
    assert kind.__bases__ == (parent,)


def test_every_error_is_public() -> None:
    """Every class of errors that is used is in ``__all__``."""
    kinds = {error.__name__ for error in (type(example) for example in EXAMPLES)}
    assert kinds | {"RealTimeWarning"} <= set(chrono_core.__all__)


@pytest.mark.parametrize("kind", CHANNEL_ERRORS)
def test_errors_of_channels_carry_the_channel(kind: type[ChannelError]) -> None:
    """The channel is an attribute, and must be given."""
    assert kind("over", channel="obs").channel == "obs"
    with pytest.raises(TypeError, match="channel"):
        kind("over")


def test_the_error_of_a_daemon_carries_daemon_and_phase() -> None:
    """Daemon and phase are attributes, and must be given."""
    error = DaemonError("it failed", daemon="camera", phase="run")
    assert (error.daemon, error.phase) == ("camera", "run")
    assert str(error) == "it failed"
    with pytest.raises(TypeError, match="daemon"):
        DaemonError("it failed", phase="run")
    with pytest.raises(TypeError, match="phase"):
        DaemonError("it failed", daemon="camera")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("error", EXAMPLES, ids=names)
def test_errors_survive_pickling(error: Exception, protocol: int) -> None:
    """Type, message and attributes arrive in another process."""
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.args == error.args
    assert vars(again) == vars(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=names)
def test_errors_can_be_copied(error: Exception) -> None:
    """A copy has the same message and attributes."""
    for again in (copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert (again.args, vars(again)) == (error.args, vars(error))


@pytest.mark.parametrize("error", EXAMPLES, ids=names)
def test_notes_survive_pickling(error: Exception) -> None:
    """What was added with ``add_note`` arrives too."""
    error = copy.copy(error)
    error.add_note("on the robot")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["on the robot"]


def test_a_group_of_errors_survives_pickling() -> None:
    """What a supervisor raises can be sent on as a whole."""
    group = ExceptionGroup("daemons have failed", EXAMPLES)
    again = pickle.loads(pickle.dumps(group))
    assert [str(error) for error in again.exceptions] == [str(error) for error in EXAMPLES]


def test_a_subclass_with_more_to_carry_survives_pickling() -> None:
    """Attributes that a user's subclass adds are kept."""
    error = Refined("over", channel="obs")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.channel, again.code) == (Refined, "obs", 7)


class Refined(EndOfStream):
    """An error of one's own."""

    def __init__(self, message: str, *, channel: str) -> None:
        super().__init__(message, channel=channel)
        self.code = 7
