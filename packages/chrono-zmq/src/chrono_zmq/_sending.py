"""The sending end."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import islice
from math import inf
from types import TracebackType
from typing import TypeVar

import anyio
from chrono_core import ChannelClosed, ChannelStats, SendStream, WouldBlock
from chrono_core.lowlevel import Waiter, current_loop, finite

from ._config import ZmqConfig
from ._end import End
from ._exceptions import MessageEncodeError, MessageTooLarge, Undelivered
from ._frames import UNLIMITED
from ._link import Link
from ._real import now
from ._sender import Sender
from ._serde import Serde

T = TypeVar("T")

# `send_many` takes no more items than this from its iterable at once.
MANY = 256

# An item that follows another within so many seconds goes out with those that are sent until the
# event loop turns.
TOGETHER = 0.0001


class ZmqSendStream(End, SendStream[T]):
    """The sending end of a channel to another process. Made by `open_zmq_send`.

    It is used like every `SendStream`, by one task at a time, in one event loop.
    """

    _what = "sending end"
    _verb = "send"

    def __init__(self, link: Link, name: str, serde: Serde[T], config: ZmqConfig) -> None:
        super().__init__(link, name)
        assert isinstance(link.machine, Sender)
        self._machine = link.machine
        self._serde = serde
        self._config = config
        self._high_water = 0
        self._gathers = False
        self._sent_at = -inf

    async def send(self, item: T) -> None:
        """Send one item, waiting for room.

        With room, it returns as soon as this process has taken charge of the item; ``drain`` waits
        for more. At a rendezvous it returns when the receiver has taken the item.

        Cancelled, it raises if and only if the item was not sent. At a rendezvous, an item that a
        waiting receiver was promised counts as sent.

        Raises:
            MessageEncodeError: the item cannot travel unchanged. Nothing was sent.
            MessageTooLarge: it is larger than ``max_message``. Nothing was sent.
            ChannelClosed: the receiver has closed; as `PeerLost`, it died or cannot be reached.
            HandshakeError: the other end does not fit.
            EndpointClosed: this end was closed.
            ChannelInUse: another task is using this end, or another process the other one.
        """
        data = self._encode(item)
        await self._enter()
        while not self._accept(data):
            await self._wait()
            self._sent_at = now()  # where there was no room, more is about to follow
        if self._machine.maxsize == 0:
            await self._be_taken()

    def send_nowait(self, item: T) -> None:
        """Send one item without waiting.

        Raises what ``send`` raises, and `WouldBlock` where there is no room, or, at a rendezvous,
        no receiver that waits.
        """
        data = self._encode(item)
        self._bind()
        self._refuse_second_user()
        if not self._accept(data, wait=False):
            raise WouldBlock(f"channel {self._name!r} has no room", channel=self._name)

    async def send_many(self, items: Iterable[T]) -> None:
        """Send items in order, many at a time, waiting for room as needed.

        Cancelled or failing part-way, a prefix was sent; ``statistics().sent`` tells how long it
        is. Raises what ``send`` raises.
        """
        source = iter(items)
        await self._enter()
        if self._machine.maxsize == 0:
            for item in source:
                await self.send(item)
            return
        while True:
            batch: list[bytes] = []
            failure: Exception | None = None
            try:
                batch.extend(self._encode(item) for item in islice(source, MANY))
            except Exception as error:  # those before it are sent
                failure = error
            sent = 0
            while sent < len(batch):
                count = self._accept_some(batch, sent)
                sent += count
                if not count:
                    await self._wait()
            if failure is not None:
                raise failure
            if len(batch) < MANY:
                return
            await self._enter()

    async def drain(self, timeout: float | None = None) -> None:
        """Wait until the receiver has taken everything that was sent.

        Args:
            timeout: at most so many real seconds; None waits for as long as it takes.

        Raises:
            TimeoutError: it took longer.
            ChannelClosed: the receiver closed or was lost before.
            EndpointClosed: this end was closed.
            ChannelInUse: another task is using this end.
            ValueError: the timeout is no number.
        """
        seconds = None if timeout is None else finite(timeout, "timeout")
        await self._enter()
        with anyio.move_on_after(seconds):
            while not self._is_drained():
                await self._wait()
        machine = self._machine
        if machine.taken < machine.accepted:
            raise TimeoutError(
                f"{machine.accepted - machine.taken} items sent on channel {self._name!r} were "
                f"not taken within {timeout} s"
            )

    def ready(self) -> bool:
        """Whether ``send_nowait`` would do anything but raise ``WouldBlock``."""
        self._bind()
        with self._link.lock:
            self._link.use()
            return self._is_ready()

    def watch(self, waiter: Waiter, *, closing: bool = False) -> None:
        """Have the waiter woken whenever ``ready`` may have become true."""
        if not closing:
            self._start_watch(waiter)
            with self._link.lock:
                self._machine.want(now())
                self._link.use()
                if self._is_ready():
                    waiter.wake()
            return
        self._start_keeping(waiter)
        with self._link.lock:
            if self._is_over():
                waiter.wake()

    async def aclose(self) -> None:
        """Close this end: what was sent can still be received, then the stream ends.

        It returns when the receiver's process has everything and knows that this is all, and waits
        at most ``linger`` seconds for that. Closing twice is fine. The close takes effect even
        when the call is cancelled; then it goes on by itself, for ``linger`` seconds at most.

        Raises:
            Undelivered: the receiver's process did not get everything in time, or died before. A
                receiver that closed is not waited for, and no error.
        """
        await self._close()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        try:
            await self._close()
        except Undelivered:
            if exc is None:
                raise
            self._link.told = False  # what ended the block is the error to see
            self._link.report_undelivered()

    def statistics(self) -> ChannelStats:
        """The channel's figures now, of the receiver as far as it has told."""
        machine = self._machine
        with self._link.lock:
            used = 0 if machine.peer_closed else machine.accepted - machine.taken
            unlimited = machine.maxsize == UNLIMITED
            return ChannelStats(
                current_buffer_used=used,
                max_buffer_size=inf if unlimited else machine.maxsize,
                open_send_streams=int(self._open),
                open_receive_streams=_is_open(machine),
                waiters_send=int(self._user is not None and self._user.parked),
                waiters_receive=-1,
                sent=machine.accepted,
                received=machine.taken,
                discarded=machine.accepted - machine.taken - used,
                high_water=self._high_water if machine.maxsize else 0,
            )

    # Sending

    def _encode(self, item: T) -> bytes:
        try:
            data = self._serde.encode(item)
        except Exception as error:
            raise MessageEncodeError(
                f"this {type(item).__name__} cannot be sent on channel {self._name!r}: {error}",
                channel=self._name,
            ) from error
        if len(data) > self._config.max_message:
            raise MessageTooLarge(
                f"this {type(item).__name__} has {len(data)} B, and channel {self._name!r} takes "
                f"at most {self._config.max_message}: raise max_message of both ends, or send less",
                channel=self._name,
            )
        return data

    def _accept(self, data: bytes, *, wait: bool = True) -> bool:
        """Put one item in, where there is room; otherwise say that somebody waits."""
        machine = self._machine
        link = self._link
        gather = False
        with link.lock:
            if not machine.has_room():
                if wait:
                    machine.want(now())
                link.use()
            self._refuse_if_useless()
            accepted = machine.has_room()
            if accepted:
                machine.accept((data,))
                self._note_high_water()
                time = now()
                gather = time < self._sent_at + TOGETHER and machine.unsent < MANY
                self._sent_at = time
                if not gather:
                    machine.push(time)
                    link.use()
            elif wait:
                link.wait_for_news()
        if gather and not self._gathers:
            self._gathers = True
            self._bind().call_soon(self._send_gathered)
        self._review()
        return accepted

    def _send_gathered(self) -> None:
        self._gathers = False
        if self._machine.unsent:
            with self._link.lock:
                self._machine.push(now())
                self._link.use()

    def _accept_some(self, batch: list[bytes], start: int) -> int:
        """Put in as many as there is room for; where there is none, say that somebody waits."""
        machine = self._machine
        link = self._link
        with link.lock:
            if not machine.room():
                machine.want(now())
                link.use()
            self._refuse_if_useless()
            count = min(machine.room(), len(batch) - start)
            if count:
                machine.accept(batch[start : start + count])
                machine.push(now())
                self._note_high_water()
                link.use()
            else:
                link.wait_for_news()
        self._review()
        return count

    def _note_high_water(self) -> None:
        machine = self._machine
        self._high_water = max(self._high_water, machine.accepted - machine.taken)

    async def _be_taken(self) -> None:
        """A rendezvous: wait until the item was taken."""
        mine = self._machine.accepted
        while not self._is_taken(mine):
            try:
                await self._wait()
            except (KeyboardInterrupt, GeneratorExit):
                raise
            except BaseException:  # a cancellation
                if self._machine.failure is not None or self._machine.peer_closed:
                    raise
                assert self._loop is not None
                self._loop.redeliver_cancellation()  # it came too late to take anything back
                return

    def _is_taken(self, mine: int) -> bool:
        machine = self._machine
        with self._link.lock:
            machine.want(now())
            self._link.use()
            if machine.taken >= mine or machine.over:
                return True
            if machine.peer_closed or machine.failure is not None:
                self._refuse_if_useless()
            self._link.wait_for_news()
        return False

    def _is_drained(self) -> bool:
        machine = self._machine
        with self._link.lock:
            machine.want(now(), all_taken=True)
            self._link.use()
            if machine.taken == machine.accepted:
                return True
            self._refuse_if_useless()
            self._link.wait_for_news()
            return False

    def _is_ready(self) -> bool:
        return self._is_over() or self._machine.has_room()

    def _is_over(self) -> bool:
        return super()._is_over() or self._machine.peer_closed

    def _refuse_if_useless(self) -> None:
        """Where nothing can be sent, say why. With the lock held."""
        self._refuse_if_closed()
        machine = self._machine
        if machine.peer_closed:
            raise ChannelClosed(
                f"the receiving end of channel {self._name!r} is closed: nobody would get this",
                channel=self._name,
            )
        if machine.failure is not None:
            self._link.told = True
            raise self._lost(machine.failure)

    # Closing

    async def _close(self) -> None:
        link = self._link
        machine = self._machine
        if not self._open or link.process != os.getpid():
            await current_loop().checkpoint_if_cancelled()
            return
        self._bind()
        self._mark_closed()
        with link.lock:
            machine.close(now())
            nothing = machine.accepted == 0 and not machine.met
            if nothing and link.mate is not None and link.mate.machine.closed:
                link.drop("it was closed before anything was sent")
            told, link.told = link.told, True  # by this call, unless it is cancelled
            link.leave(owes=not nothing or link.mate is not None)
        self._review()
        try:
            while not nothing and self._is_closing():
                await self._wait_for_close()
        except BaseException:
            with link.lock:
                link.told = told
                if link.shut:
                    link.report_undelivered()
            raise
        count = machine.accepted - machine.arrived
        if count and not machine.peer_closed and not told:
            raise Undelivered(
                f"{count} of {machine.accepted} items sent on channel {self._name!r} were never "
                f"received: no receiver took them at {self.address!r} within "
                f"{self._config.linger} s, or it was lost",
                channel=self._name,
                count=count,
            )
        await current_loop().checkpoint_if_cancelled()

    def _is_closing(self) -> bool:
        with self._link.lock:
            self._link.use()
            return not self._link.shut


def _is_open(machine: Sender) -> int:
    """Whether the receiving end is open; -1 where that is not known."""
    if not machine.met:
        return -1
    return int(not machine.peer_closed and machine.failure is None)
