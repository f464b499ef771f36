"""The links between the processes: how each end is opened, and what is said when one is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from chrono_core import ChannelError, Context, EndOfStream, SendStream, daemon
from chrono_zmq import (
    MsgpackSerde,
    ZmqConfig,
    ZmqReceiveStream,
    ZmqSendStream,
    open_zmq_receive,
    open_zmq_send,
)

BUFFER = 32
HEARTBEAT = 0.2


@dataclass(frozen=True, slots=True)
class Place:
    """Where the links of a run are.

    Attributes:
        folder: of their sockets.
        peer_timeout: after so many seconds without a sign of life, the other end is lost.
    """

    folder: Path
    peer_timeout: float

    def address(self, name: str) -> str:
        """Of the link of this name."""
        return f"ipc://{self.folder / name}"

    def config(self) -> ZmqConfig:
        """How the ends of every link behave."""
        return ZmqConfig(heartbeat=HEARTBEAT, peer_timeout=self.peer_timeout)


class Numbered(Protocol):
    """An item that says which row of the log it comes from, counted from 0, and of how many."""

    @property
    def number(self) -> int: ...

    @property
    def of(self) -> int: ...


T = TypeVar("T")
Row = TypeVar("Row", bound=Numbered)


@dataclass(frozen=True, slots=True)
class Link(Generic[T]):
    """A channel from one process to another; both open their end of it by this.

    Attributes:
        name: of its socket.
        item: the type of what it carries.
        maxsize: how many items may be under way.
    """

    name: str
    item: type[T]
    maxsize: int = BUFFER

    def open_send(self, place: Place) -> ZmqSendStream[T]:
        """Open the sending end."""
        return open_zmq_send(
            place.address(self.name),
            maxsize=self.maxsize,
            serde=MsgpackSerde(self.item),
            name=self.name,
            config=place.config(),
        )

    def open_receive(self, place: Place) -> ZmqReceiveStream[T]:
        """Open the receiving end, which binds to the socket."""
        return open_zmq_receive(
            place.address(self.name),
            serde=MsgpackSerde(self.item),
            name=self.name,
            config=place.config(),
        )


@asynccontextmanager
async def sending(ctx: Context, link: Link[T], place: Place) -> AsyncIterator[SendStream[T]]:
    """The sending end of a link. Where the other process is lost, say how much with it."""
    end = link.open_send(place)
    try:
        async with end:
            yield end
    except ChannelError:
        figures = end.statistics()
        ctx.logger.warning(
            "%s: of %d items sent, %d are known to be taken, %d may be lost",
            link.name,
            figures.sent,
            figures.received,
            figures.sent - figures.received,
        )
        raise


@dataclass(slots=True)
class Progress:
    """How far a receiver is. It is lent to the daemon, and so survives its restart.

    Attributes:
        next: the row to come next; None before the first.
    """

    next: int | None = None


@daemon
async def receiving(
    ctx: Context, link: Link[Row], place: Place, onward: SendStream[Row], progress: Progress
) -> None:
    """Pass on what comes over a link, once each, and say which rows never came."""
    async with link.open_receive(place) as rows:
        with suppress(EndOfStream):
            while True:
                batch = await rows.receive_many(BUFFER)
                await onward.send_many([row for row in batch if is_new(ctx, link, row, progress)])


def is_new(ctx: Context, link: Link[Row], row: Row, progress: Progress) -> bool:
    """Note a row, and say so if others are missing before it.

    Rows that were here before come again from a sender that was started again.
    """
    expected = row.number if progress.next is None else progress.next
    if progress.next is None:
        ctx.logger.info("%s: begins with row %d of %d", link.name, row.number, row.of)
    elif row.number > expected:
        ctx.logger.warning("%s: %d missing from row %d", link.name, row.number - expected, expected)
    progress.next = max(expected, row.number + 1)
    return row.number >= expected
