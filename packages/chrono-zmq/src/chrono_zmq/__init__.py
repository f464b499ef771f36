"""chrono-core's channels between processes, over ZeroMQ."""

from ._config import Security, ZmqConfig, generate_keys
from ._exceptions import (
    AddressInUse,
    AuthenticationFailed,
    HandshakeError,
    MessageDecodeError,
    MessageEncodeError,
    MessageTooLarge,
    PeerLost,
    SchemaMismatch,
    Undelivered,
    VersionMismatch,
)
from ._open import open_zmq_channel, open_zmq_receive, open_zmq_send
from ._receiving import ZmqReceiveStream
from ._sending import ZmqSendStream
from ._serde import MsgpackSerde, Serde

__all__ = [
    "AddressInUse",
    "AuthenticationFailed",
    "HandshakeError",
    "MessageDecodeError",
    "MessageEncodeError",
    "MessageTooLarge",
    "MsgpackSerde",
    "PeerLost",
    "SchemaMismatch",
    "Security",
    "Serde",
    "Undelivered",
    "VersionMismatch",
    "ZmqConfig",
    "ZmqReceiveStream",
    "ZmqSendStream",
    "generate_keys",
    "open_zmq_channel",
    "open_zmq_receive",
    "open_zmq_send",
]
