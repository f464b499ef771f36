"""What both ends do alike towards their user."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from chrono_core import ChannelError, ChannelInUse, EndpointClosed
from chrono_core.lowlevel import (
    EventLoop,
    Waiter,
    checkpoint,
    current_loop,
    new_waiter,
)

from . import _frames as frames
from ._exceptions import (
    AuthenticationFailed,
    HandshakeError,
    PeerLost,
    SchemaMismatch,
    VersionMismatch,
)
from ._link import Link
from ._machine import AUTHENTICATION, LOST, Failure
from ._pairs import Hold, settled

# A call yields to the scheduler at least once in so many.
CALLS_PER_YIELD = 16

_HANDSHAKE: dict[int, type[HandshakeError]] = {
    AUTHENTICATION: AuthenticationFailed,
    frames.OTHER_SCHEMA: SchemaMismatch,
    frames.OTHER_VERSION: VersionMismatch,
}


class _Yielding:
    """A task that is inside a call but waits for nothing."""

    parked = False

    def __init__(self, task: Any) -> None:
        self.task = task

    def wake(self) -> bool:
        return False


def _disturbed() -> bool:
    return False


class End:
    """One end of a channel whose other end may lie in another process."""

    _what: str  # "sending end"
    _verb: str

    def __init__(self, link: Link, name: str) -> None:
        self._link = link
        self._name = name
        self._waits_for = f"{self._verb} on channel {name!r}"
        self._hold = Hold()
        self._open = True
        self._loop: EventLoop | None = None
        self._user: Waiter | _Yielding | None = None
        self._keepers: dict[Waiter, None] = {}
        self._calls = CALLS_PER_YIELD
        # The task that called last, and a test that it calls again and is not cancelled.
        self._task: Any = None
        self._undisturbed: Callable[[], bool] = _disturbed
        self._posted = False
        # A copy of the link's: the link may be shut in another thread while the loop looks at it.
        self._descriptor: int | None = None
        link.on_news = _weakly(self._on_news)
        link.on_settled = _weakly(self._on_settled)

    def __repr__(self) -> str:
        return f"<{self._what} of channel {self._name!r}>"

    def __del__(self) -> None:
        link = getattr(self, "_link", None)
        if link is not None and self._open and link.process == os.getpid():
            link.abandon()
            self._close_descriptor_soon()

    @property
    def address(self) -> str:
        """Where it is bound, or what it connects to: as it can be given to the other end."""
        return self._link.address

    @property
    def refused(self) -> int:
        """How many messages came that were no frames, or not for this end."""
        return self._link.machine.refused

    # Who calls

    def _bind(self) -> EventLoop:
        """Make sure that the caller is in the event loop and process of this end."""
        loop = self._loop
        if loop is not None and loop.is_current() and self._link.process == os.getpid():
            return loop
        if self._link.process != os.getpid():
            raise RuntimeError(
                f"{self!r} belongs to the process that this one was forked from: open it here"
            )
        if loop is not None and loop.alive():
            raise RuntimeError(
                f"{self!r} belongs to another event loop or thread: it stays in the one in which "
                "it was used first"
            )
        loop = self._loop = current_loop()
        return loop

    def _refuse_second_user(self) -> None:
        if self._user is not None:
            loop = self._bind()
            task = loop.current_task()
            caller = "a callback" if task is None else f"task {loop.task_name(task)!r}"
            raise ChannelInUse(
                f"the {self._what} of channel {self._name!r} is in use by task "
                f"{loop.task_name(self._user.task)!r}, so {caller} cannot use it: an end of a "
                "channel is for one task at a time",
                channel=self._name,
            )

    def _refuse_if_closed(self) -> None:
        if not self._open:
            raise EndpointClosed(
                f"the {self._what} of channel {self._name!r} was closed on this side: open "
                f"another to {self._verb} more",
                channel=self._name,
            )

    async def _enter(self) -> None:
        """At the start of every call that is awaited."""
        self._calls -= 1
        if (
            self._calls > 0
            and self._undisturbed()
            and self._user is None
            and self._open
            and self._link.process == os.getpid()
        ):
            return
        loop = self._bind()
        self._refuse_second_user()
        self._refuse_if_closed()
        task = loop.current_task()
        if task is not self._task:
            self._task = task
            self._undisturbed = loop.undisturbed(task)
        if self._calls > 0:
            await loop.checkpoint_if_cancelled()
            return
        self._calls = CALLS_PER_YIELD
        self._user = _Yielding(task)
        try:
            await checkpoint()
        finally:
            self._user = None
        self._refuse_if_closed()

    # Waiting. Whoever waits tells the link, under its lock, right after he has found nothing.

    async def _wait(self) -> None:
        link = self._link
        self._calls = CALLS_PER_YIELD
        try:
            if link.reading and self._descriptor is None:
                self._descriptor = os.dup(link.descriptor)
            readable = self._descriptor if link.reading else None
            self._user = waiter = new_waiter(self._waits_for, readable=readable)
            await waiter
        finally:
            self._user = None
            with link.lock:
                link.wait_no_more(waited_for=bool(self._keepers))
            if not self._open:
                self._close_descriptor_soon()

    def _start_watch(self, waiter: Waiter) -> None:
        self._bind()
        self._refuse_second_user()
        self._user = waiter
        with self._link.lock:
            self._link.start_watch()

    def _start_keeping(self, waiter: Waiter) -> None:
        self._bind()
        self._keepers[waiter] = None
        with self._link.lock:
            self._link.start_watch()

    def unwatch(self, waiter: Waiter) -> None:
        """Wake the waiter no more; fine where it was not watching."""
        if self._user is waiter:
            self._user = None
        elif self._keepers.pop(waiter, self) is self:
            return
        with self._link.lock:
            self._link.stop_watch()
            if self._user is None and not self._keepers:
                self._link.wait_no_more(waited_for=False)

    async def _wait_for_close(self) -> None:
        waiter = new_waiter(f"close of the {self._what} of channel {self._name!r}")
        self._start_keeping(waiter)
        try:
            if not self._link.shut:
                await waiter
        finally:
            self.unwatch(waiter)

    def _on_news(self) -> None:
        """Something happened; called in any thread, with the lock held."""
        if not self._posted and self._loop is not None:
            self._posted = True
            try:
                self._loop.call_threadsafe(self._tell)
            except RuntimeError:
                self._posted = False  # the loop has ended, and everybody in it

    def _tell(self) -> None:
        """In the loop: wake whoever waits."""
        self._posted = False
        if self._user is not None:
            self._user.wake()
        if self._keepers and self._is_over():
            for keeper in list(self._keepers):
                keeper.wake()

    def _is_over(self) -> bool:
        """Whether either end was closed."""
        return not self._open or self._link.machine.failure is not None

    # Simulated time

    def _review(self) -> None:
        """After whatever this end does: time stands still while something is on its way."""
        if self._link.mate is not None and self._loop is not None:
            if settled(self._link):
                self._on_settled()
            else:
                self._hold.acquire()

    def _on_settled(self) -> None:
        """It seems that nothing is on its way; called in any thread."""
        if self._loop is not None:
            self._hold.release_soon(self._loop, self._settled)

    def _settled(self) -> bool:
        return settled(self._link)

    # Errors

    def _lost(self, failure: Failure) -> ChannelError:
        """What a failure of the link is to the user."""
        where = f"the other end of channel {self._name!r} at {self.address!r}"
        if failure.reason in (LOST, frames.GONE, frames.UNKNOWN):
            return PeerLost(
                f"{where} is lost: {failure.text}; open the channel again to go on",
                channel=self._name,
            )
        if failure.reason == frames.IN_USE:
            return ChannelInUse(
                f"{where} is in use by another process: a channel has one sender and one receiver",
                channel=self._name,
            )
        kind = _HANDSHAKE.get(failure.reason, HandshakeError)
        return kind(
            f"{where} does not fit: {failure.text}; open both ends alike", channel=self._name
        )

    # Closing

    def _mark_closed(self) -> None:
        """Refuse everything from now on, and wake whoever is inside."""
        self._open = False
        self._close_descriptor_soon()
        if self._loop is not None and self._loop.is_current():
            if self._user is not None:
                self._user.wake()
            for keeper in list(self._keepers):
                keeper.wake()

    def _close_descriptor_soon(self) -> None:
        """In the loop, which has to forget it first. Safe wherever garbage is collected."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        assert self._loop is not None
        try:
            self._loop.call_threadsafe(partial(_close, self._loop, descriptor))
        except RuntimeError:  # the loop has ended
            os.close(descriptor)


def _close(loop: EventLoop, descriptor: int) -> None:
    loop.forget_descriptor(descriptor)
    os.close(descriptor)


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    """The method, of an object that this does not keep alive."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        alive = reference()
        if alive is not None:
            alive()

    return call
