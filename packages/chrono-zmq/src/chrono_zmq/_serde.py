"""What items are made into, and made of again."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Generic, Protocol, TypeVar

import msgspec

T = TypeVar("T")

_PLAIN = frozenset({type(None), bool, int, float, str, bytes})


class Serde(Protocol[T]):
    """Makes bytes of items, and items of bytes.

    It may have an attribute ``schema``, a text of at most 1,024 bytes that names the type of the
    items: two ends that name different ones refuse each other. Whatever ``encode`` raises comes
    out of ``send`` as `MessageEncodeError`; whatever ``decode`` raises, out of ``receive`` as
    `MessageDecodeError`.
    """

    def encode(self, item: T, /) -> bytes:
        """The bytes of an item."""
        ...

    def decode(self, data: bytes, /) -> T:
        """The item of bytes."""
        ...


class MsgpackSerde(Generic[T]):
    """MessagePack, by msgspec.

    With a type, every item must be of it: it is checked before it is sent by reading back what
    was written. Without one, only None, bool, int, float, str, bytes, list and dict pass: what
    MessagePack would change without a word (a tuple into a list) is refused.

    Args:
        message_type: the type of the items, as msgspec understands it.

    Raises:
        TypeError: msgspec cannot handle the type.
    """

    __slots__ = ("_decoder", "_encoder", "_typed", "schema")

    def __init__(self, message_type: type[T] | Any = Any) -> None:
        self._typed = message_type is not Any
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(message_type)
        #: The name of the type and a digest of its shape; empty without a type.
        self.schema: str = _schema(message_type) if self._typed else ""

    def encode(self, item: T, /) -> bytes:
        """The bytes of an item.

        Raises:
            TypeError: it is not of the type, or cannot travel unchanged.
        """
        if not self._typed:
            _check_plain(item)
            return self._encoder.encode(item)
        data = self._encoder.encode(item)
        try:
            again = self._decoder.decode(data)
        except msgspec.ValidationError as error:
            raise TypeError(f"it is no {self.schema.rpartition(' ')[0]}: {error}") from error
        if not (again == item or repr(again) == repr(item)):  # NaN equals nothing
            raise TypeError(f"it would arrive as {again!r}")
        return data

    def decode(self, data: bytes, /) -> T:
        """The item of bytes.

        Raises:
            msgspec.MsgspecError, RecursionError, UnicodeDecodeError: these bytes are none.
        """
        item: T = self._decoder.decode(data)
        return item


def _check_plain(item: object) -> None:
    kind = type(item)
    if kind in _PLAIN:
        return
    if isinstance(item, list) and kind is list:
        for one in item:
            _check_plain(one)
    elif isinstance(item, dict) and kind is dict:
        for key, value in item.items():
            if type(key) not in _PLAIN:
                raise TypeError(f"a key of type {type(key).__name__} does not travel unchanged")
            _check_plain(value)
    else:
        raise TypeError(
            f"a {kind.__name__} does not travel unchanged without a type: give "
            f"serde=MsgpackSerde({kind.__name__}), or send None, bool, int, float, str, bytes, "
            "list or dict"
        )


def _schema(message_type: Any) -> str:
    name = getattr(message_type, "__name__", None) or str(message_type)
    try:
        shape = json.dumps(msgspec.json.schema(message_type), sort_keys=True)
    except TypeError:  # not everything that MessagePack carries has a schema in JSON
        shape = str(message_type)
    digest = hashlib.sha256(shape.encode()).hexdigest()[:16]
    return f"{name[:200]} {digest}"
