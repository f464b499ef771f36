"""The receiving end."""

from __future__ import annotations

import os
from itertools import islice
from math import inf
from typing import TypeVar

from chrono_core import ChannelStats, EndOfStream, ReceiveStream, WouldBlock
from chrono_core.lowlevel import Waiter, current_loop

from ._end import End
from ._exceptions import MessageDecodeError
from ._frames import UNLIMITED
from ._link import Link
from ._real import now
from ._receiver import Receiver
from ._serde import Serde

T = TypeVar("T")


class ZmqReceiveStream(End, ReceiveStream[T]):
    """The receiving end of a channel from another process. Made by `open_zmq_receive`.

    It is used like every `ReceiveStream`, by one task at a time, in one event loop.
    """

    _what = "receiving end"
    _verb = "receive"

    def __init__(self, link: Link, name: str, serde: Serde[T]) -> None:
        super().__init__(link, name)
        assert isinstance(link.machine, Receiver)
        self._machine = link.machine
        self._serde = serde
        self._high_water = 0

    async def receive(self) -> T:
        """Receive the next item, waiting for one.

        Cancelled, it has taken nothing: the item is there for the next call.

        Raises:
            EndOfStream: the sender closed and everything was received.
            PeerLost: the sender died or cannot be reached; what had arrived was received.
            MessageDecodeError: what came is no item of this channel. It is gone; the next call
                goes on after it.
            HandshakeError: the other end does not fit.
            EndpointClosed: this end was closed.
            ChannelInUse: another task is using this end, or another process the other one.
        """
        await self._enter()
        while not (data := self._take(1)):
            await self._wait()
        return self._decode(data[0])

    def receive_nowait(self) -> T:
        """Receive the next item without waiting.

        Raises what ``receive`` raises, and `WouldBlock` where there is no item.
        """
        self._bind()
        self._refuse_second_user()
        data = self._take(1, wait=False)
        if not data:
            raise WouldBlock(f"channel {self._name!r} has no item", channel=self._name)
        return self._decode(data[0])

    async def receive_many(self, max_items: int) -> list[T]:
        """Wait for one item, then take what else is there, up to ``max_items`` in all.

        Cancelled, it has taken nothing. Where one of several is no item of this channel, it returns
        those before that one, and the next call raises.

        Raises what ``receive`` raises, and ``ValueError`` where ``max_items`` is below 1.
        """
        most: object = max_items
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise ValueError(f"max_items must be a whole number from 1 up, got {most!r}")
        await self._enter()
        while not self._look():
            await self._wait()
        # Nobody else takes any, so that these are the first until they are taken here.
        with self._link.lock:
            data = list(islice(self._machine.inbox, max_items))
        items: list[T] = []
        failure: Exception | None = None
        try:
            for one in data:
                items.append(self._serde.decode(one))
        except Exception as error:
            failure = error
        self._take(max(1, len(items)))
        if failure is not None and not items:
            raise self._bad(failure) from failure
        return items

    def ready(self) -> bool:
        """Whether ``receive_nowait`` would do anything but raise ``WouldBlock``."""
        self._bind()
        with self._link.lock:
            self._link.use()
            return self._is_ready()

    def peek_nowait(self) -> T:
        """Return the item that ``receive_nowait`` would, and leave it there.

        Raises what ``receive_nowait`` raises; what is no item stays as well.
        """
        self._bind()
        self._refuse_second_user()
        with self._link.lock:
            self._link.use()
            self._refuse_if_useless()
            if not self._machine.inbox:
                raise WouldBlock(f"channel {self._name!r} has no item", channel=self._name)
            data = self._machine.inbox[0]
        return self._decode(data)

    def watch(self, waiter: Waiter) -> None:
        """Have the waiter woken whenever ``ready`` may have become true, until ``unwatch``."""
        self._start_watch(waiter)
        with self._link.lock:
            self._machine.want(now())
            self._link.use()
            if self._is_ready():
                waiter.wake()
        self._review()

    async def aclose(self) -> None:
        """Close this end: what was sent and not received is discarded, and the sender told.

        Closing twice is fine. The close takes effect even when the call is cancelled.
        """
        link = self._link
        if self._open and link.process == os.getpid():
            self._bind()
            self._mark_closed()
            with link.lock:
                self._machine.close(now())
                link.leave()
            self._review()
        await current_loop().checkpoint_if_cancelled()

    def statistics(self) -> ChannelStats:
        """The channel's figures now, of the sender as far as it has told."""
        machine = self._machine
        with self._link.lock:
            unlimited = machine.maxsize == UNLIMITED
            used = len(machine.inbox)
            return ChannelStats(
                current_buffer_used=used,
                max_buffer_size=inf if unlimited else machine.maxsize,
                open_send_streams=_is_open(machine),
                open_receive_streams=int(self._open),
                waiters_send=-1,
                waiters_receive=int(self._user is not None and self._user.parked),
                sent=machine.arrived if machine.total is None else machine.total,
                received=machine.taken,
                discarded=machine.arrived - machine.taken - used,
                high_water=machine.high_water if machine.maxsize else 0,
            )

    # Receiving

    def _look(self) -> bool:
        """Whether something is there; where nothing is, say that somebody waits."""
        with self._link.lock:
            found = self._find(wait=True)
        self._review()
        return found

    def _take(self, most: int, *, wait: bool = True) -> list[bytes]:
        """Take what is there; where nothing is, say that somebody waits."""
        machine = self._machine
        data: list[bytes] = []
        with self._link.lock:
            if self._find(wait=wait):
                data = machine.take(now(), min(most, len(machine.inbox)))
                if machine.stirred:
                    self._link.use()
        self._review()
        return data

    def _find(self, *, wait: bool) -> bool:
        """Whether something is there; where nothing is, he may wait. With the lock held."""
        machine = self._machine
        link = self._link
        if not machine.inbox:
            if wait:
                machine.want(now())
            link.use()
        self._refuse_if_useless()
        if not machine.inbox and wait:
            link.wait_for_news()
        return bool(machine.inbox)

    def _decode(self, data: bytes) -> T:
        try:
            return self._serde.decode(data)
        except Exception as error:
            raise self._bad(error) from error

    def _bad(self, error: Exception) -> MessageDecodeError:
        return MessageDecodeError(
            f"what came on channel {self._name!r} is no item of it: {error}; a receive leaves it "
            "out, and the next goes on after it",
            channel=self._name,
        )

    def _is_ready(self) -> bool:
        machine = self._machine
        return bool(machine.inbox) or machine.ended or machine.broken or not self._open

    def _refuse_if_useless(self) -> None:
        """Where nothing will ever come, say why. With the lock held."""
        self._refuse_if_closed()
        machine = self._machine
        if machine.ended:
            raise EndOfStream(
                f"channel {self._name!r} has ended: its sending end is closed, and every item was "
                "received",
                channel=self._name,
            )
        if machine.broken:
            assert machine.failure is not None
            raise self._lost(machine.failure)


def _is_open(machine: Receiver) -> int:
    """Whether the sending end is open; -1 where that is not known."""
    if not machine.met:
        return -1
    return int(machine.total is None and machine.failure is None)
