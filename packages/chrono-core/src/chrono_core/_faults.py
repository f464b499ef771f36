"""What goes wrong on purpose in a simulation, and when."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ._time import number


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What goes wrong on purpose in a simulation; the seed decides when.

    Probabilities are from 0, never, to 1, always. Each fault is a choice of the run, so it is
    played again with it, and left out where a failure does not need it.

    Faults happen where the program meets the library: in ``send``, ``send_many``, ``receive`` and
    ``receive_many`` of channels that are opened inside the simulation, and, for crashes, hangs and
    skew, in these and in what daemons wait for on ``ctx.clock``. A daemon that uses neither is
    spared.

    Attributes:
        delay: how likely a call of a channel is to take longer, by up to ``max_delay`` seconds.
        max_delay: see ``delay``.
        stall: how likely a call of a channel is never to return.
        close: how likely a call of a channel is to find that the other end has gone: the link is
            cut for good, so the sender gets `ChannelClosed` and the receiver, when it has received
            what was sent before, `EndOfStream`.
        crash: how likely a daemon is to raise `InjectedFault`, at a random moment of the first
            ``within`` seconds after each start; what becomes of it then is its policy's affair.
        hang: how likely a daemon is to stop going on, at such a moment, until it is cancelled.
        within: see ``crash``.
        skew: by how many seconds at most a daemon's ``ctx.clock`` is ahead or behind.

    Raises:
        ValueError: a probability is not from 0 to 1, or a time is negative or NaN.
    """

    delay: float = 0.0
    max_delay: float = 1.0
    stall: float = 0.0
    close: float = 0.0
    crash: float = 0.0
    hang: float = 0.0
    within: float = 60.0
    skew: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = number(getattr(self, field.name), field.name)
            most = 1e9 if field.name in ("max_delay", "within", "skew") else 1.0
            if not 0 <= value <= most:
                raise ValueError(f"{field.name} must be from 0 to {most:g}, got {value!r}")
