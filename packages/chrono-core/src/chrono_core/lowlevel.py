"""For those who build on the core: waiting for several things at once, in one order.

Nothing here is needed to write daemons. Everything wakes tasks in the order in which they came,
in the same scheduler round on asyncio and trio, as events and locks of other libraries do not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Protocol

from ._backends import Waiter, current_run
from ._event import Event, Pulse
from ._streams import SendStream
from ._time import Ticks, finite, number, to_ns, to_seconds

__all__ = [
    "Event",
    "EventLoop",
    "Lock",
    "Pulse",
    "Ticks",
    "Waiter",
    "Watchable",
    "checkpoint",
    "current_loop",
    "finite",
    "new_waiter",
    "number",
    "to_ns",
    "to_seconds",
    "wait_any",
]


class Watchable(Protocol):
    """What can wake a waiter: an end of a channel, an `Event`, a `Pulse`."""

    def watch(self, waiter: Waiter) -> None:
        """Have the waiter woken whenever something may have changed, until ``unwatch``."""
        ...

    def unwatch(self, waiter: Waiter) -> None:
        """Wake the waiter no more; fine where it was not watching."""
        ...


class _AnyOf:
    """Several things, in words when somebody asks."""

    __slots__ = ("_closing", "_watched")

    def __init__(
        self, watched: tuple[Watchable, ...], closing: tuple[SendStream[Any], ...]
    ) -> None:
        self._watched = watched
        self._closing = closing

    def __str__(self) -> str:
        words = [repr(one) for one in self._watched]
        words += [f"the close of {end!r}" for end in self._closing]
        return " or ".join(words) or "nothing"


class EventLoop(Protocol):
    """One run of an event loop, for those who wake its tasks from outside of it."""

    def is_current(self) -> bool:
        """Whether the caller is inside this run."""
        ...

    def alive(self) -> bool:
        """Whether it is still running."""
        ...

    def current_task(self) -> Any:
        """The running task; None or RuntimeError outside of one."""
        ...

    def task_name(self, task: Any) -> str:
        """What errors and reports call a task."""
        ...

    def call_threadsafe(self, callback: Callable[[], object]) -> None:
        """Run a callback in the loop soon, from any thread or signal handler.

        Callbacks run in the order in which they were given.

        Raises:
            RuntimeError: the loop has ended.
        """
        ...

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Run a callback soon, once whoever runs now has stopped; from inside the loop only."""
        ...

    def forget_descriptor(self, descriptor: int) -> None:
        """Look no more at a descriptor that somebody waited for; from inside the loop only.

        A loop may go on looking at it after the wait, which makes the next one cheap.
        """
        ...

    def checkpoint_if_cancelled(self) -> Awaitable[None]:
        """Be cancelled if asked to, also by ``asyncio.Task.cancel``, and go on at once if not."""
        ...

    def undisturbed(self, task: Any) -> Callable[[], bool]:
        """A test, for hot paths, that this task of the loop is running and was not cancelled."""
        ...

    def redeliver_cancellation(self) -> None:
        """Deliver to the current task once more a cancellation that it has caught.

        For one that came too late to undo what was done: return as if it had not come, so that
        what was done is not lost, and have it raised at the next point of cancellation.
        """
        ...


def current_loop() -> EventLoop:
    """The run of an event loop that the caller is in.

    Raises:
        RuntimeError: no event loop runs in this thread.
    """
    return current_run()


def new_waiter(subject: object, *, readable: int | None = None) -> Waiter:
    """A waiter for the running task, to be awaited at once.

    Args:
        subject: in words, what is waited for.
        readable: a descriptor; the waiter is also woken as soon as it can be read from. Nobody
            else may wait for it meanwhile, and the loop is to forget it before it is closed: see
            `EventLoop.forget_descriptor`. To simulated time, that is something real.

    Raises:
        RuntimeError: no event loop runs in this thread.
        NotImplementedError: awaited, where the loop cannot wait for descriptors.
    """
    run = current_run()
    return run.waiter(subject) if readable is None else run.reader(subject, readable)


async def checkpoint() -> None:
    """Let every other task run that can, and be cancelled if asked to."""
    await current_run().checkpoint()


async def wait_any(
    *watched: Watchable, closing: Iterable[SendStream[Any]] = (), subject: object = None
) -> None:
    """Wait until something may have changed at one of several things.

    It does not look at them before it waits: call it right after a look at each, with ``ready`` or
    a ``*_nowait`` call, that has found nothing to do. Until the next ``await``, no other task runs.
    Afterwards, look again: it may return although nothing has changed. Cancelled or not, it takes
    nothing and leaves nothing behind. It always lets other tasks run. Of nothing at all, it waits
    until it is cancelled.

    Args:
        watched: what to wait for. An end is in use by the calling task meanwhile.
        closing: sending ends of which only the close of either end matters, and which others may
            use meanwhile. Where one is closed already, it returns after one checkpoint.
        subject: in words, what is waited for; the things themselves where not given.

    Raises:
        ChannelInUse: another task is using one of the ends, or one of them is given twice.
        NotImplementedError: one of the ends cannot be watched.
    """
    closing = tuple(closing)
    run = current_run()
    waiter = run.waiter(_AnyOf(watched, closing) if subject is None else subject)
    try:
        for one in watched:
            one.watch(waiter)
        for end in closing:
            end.watch(waiter, closing=True)
        woken_at_once = waiter.woken
        if not woken_at_once:
            await waiter
    finally:
        for one in watched:
            one.unwatch(waiter)
        for end in closing:
            end.unwatch(waiter)
    if woken_at_once:
        await run.checkpoint()


class Lock:
    """Held by one task at a time, and handed on in the order in which they came.

    ``async with lock:`` holds it. A task that waits and is cancelled does not get it. Where nobody
    holds it or waits for it, taking it costs no scheduler round and is no cancellation point. A
    task that takes it twice waits for itself.

    Args:
        subject: in words, what is waited for.
    """

    __slots__ = ("_queue", "_subject", "_taken")

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._taken = False
        self._queue: dict[Waiter, None] = {}

    def __repr__(self) -> str:
        return f"<lock: {self._subject}>"

    @property
    def idle(self) -> bool:
        """Whether nobody holds it or waits for it."""
        return not (self._taken or self._queue)

    async def __aenter__(self) -> None:
        if self.idle:
            self._taken = True
            return
        waiter = current_run().waiter(self._subject)
        self._queue[waiter] = None
        try:
            await waiter
        except BaseException:
            del self._queue[waiter]
            # It may have been woken; and newcomers wait behind it even where it was not.
            self._hand_on()
            raise
        # Newcomers saw this one in the queue, so that nobody has taken it meanwhile.
        del self._queue[waiter]
        self._taken = True

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._taken = False
        self._hand_on()

    def _hand_on(self) -> None:
        """Wake the next, unless somebody holds it or is about to."""
        if not self._taken:
            for waiter in self._queue:
                if waiter.woken or waiter.wake():
                    return
