"""Every error of chrono-zmq.

ChronoError
└── ChannelError                     has .channel
    ├── ChannelClosed
    │   └── PeerLost                 the process at the other end died, or cannot be reached
    ├── AddressInUse                 something else is bound there
    ├── HandshakeError               the two ends do not fit together
    │   ├── AuthenticationFailed     a key is missing, wrong, or not on the list
    │   ├── SchemaMismatch           the ends were given different types of items
    │   └── VersionMismatch          the ends speak different versions of the wire format
    ├── MessageDecodeError           one item was not what it should be; it is consumed
    ├── MessageEncodeError           an item cannot travel unchanged; it was not sent
    ├── MessageTooLarge              an item is larger than allowed; it was not sent
    └── Undelivered                  has .count: items that nobody received
"""

from __future__ import annotations

from chrono_core import ChannelClosed, ChannelError


class PeerLost(ChannelClosed):
    """The process at the other end died, was replaced, or could not be reached for too long.

    A receiver gets what had arrived first. It never stands for a proper end of the stream.
    """


class AddressInUse(ChannelError):
    """Something else is bound to the address."""


class HandshakeError(ChannelError):
    """The two ends do not fit together, so that they were not connected."""


class AuthenticationFailed(HandshakeError):
    """A CURVE key is missing, wrong, or not on the other end's list."""


class SchemaMismatch(HandshakeError):
    """The two ends were given different types of items."""


class VersionMismatch(HandshakeError):
    """The two ends speak different versions of the wire format."""


class MessageDecodeError(ChannelError):
    """What arrived is not an item of this channel's type. It is consumed; the stream goes on."""


class MessageEncodeError(ChannelError):
    """The item cannot travel unchanged. It was not sent; the stream goes on."""


class MessageTooLarge(ChannelError):
    """The item is larger than ``ZmqConfig.max_message``. It was not sent; the stream goes on."""


class Undelivered(ChannelError):
    """Items were sent that the other end never had.

    Attributes:
        count: how many.
    """

    def __init__(self, message: str, *, channel: str, count: int) -> None:
        super().__init__(message, channel=channel)
        self.count = count
