"""The channel within one process.

Which task is inside a call that has to wait is written down on its side of the channel, from
before it parks until it runs again, so that nobody can slip in between a wake-up and its task. A
waker hands nothing over; it only says "look again". So what a cancelled task had not taken, or
not put in, is where it was.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, Generic, TypeVar

from ._backends import Run, Waiter, current_run, running
from ._exceptions import ChannelClosed, ChannelInUse, EndOfStream, EndpointClosed, WouldBlock
from ._streams import ChannelStats, ReceiveStream, SendStream, check_max_items

T = TypeVar("T")

# A call yields to the scheduler at least once in so many.
CALLS_PER_YIELD = 16

# `send_many` takes no more items than this from its iterable without a yield.
ITEMS_PER_YIELD = 1024

_unnamed = count(1)

# Opens other channels, while a simulation runs that wants something to go wrong on them.
interpose: Callable[[_State[Any]], Channel[Any] | None] | None = None
lock = threading.Lock()


@dataclass(frozen=True)  # with slots, Python 3.11 cannot make one through open_channel[int]
class Channel(Generic[T]):
    """Two ends of one stream of items: bounded, in order, one producer, one consumer.

    Attributes:
        send: the sending end.
        recv: the receiving end.
        name: what errors and reports call it.
    """

    send: SendStream[T]
    recv: ReceiveStream[T]
    name: str


class open_channel(Generic[T]):
    """Open a channel between two tasks of one event loop.

    ``open_channel[int](4)`` fixes the type of the items where no annotation does.

    A call gives way to other tasks at least once in 16, and otherwise only where it has to wait.
    Every awaited call is a cancellation point, and none loses or repeats an item when it is
    cancelled, be it by anyio or natively. Both ends stay in the event loop in which the channel
    was used first; any other thread is refused with a ``RuntimeError``.
    """

    def __new__(cls, maxsize: float = 0, *, name: str | None = None) -> Channel[T]:  # type: ignore[misc]
        """Open a channel.

        Args:
            maxsize: how many items may be under way. 0 is a rendezvous: ``send`` returns when the
                receiver has taken the item. ``math.inf`` is unbounded.
            name: what errors and reports call it; made up where not given.

        Raises:
            ValueError: ``maxsize`` is negative, fractional or not a number.
        """
        whole = isinstance(maxsize, int) and not isinstance(maxsize, bool)
        if maxsize != math.inf and not (whole and maxsize >= 0):
            raise ValueError(
                f"maxsize must be a whole number from 0 up, or math.inf, got {maxsize!r}"
            )
        state = _State[T](maxsize, f"channel-{next(_unnamed)}" if name is None else name)
        if interpose is not None and (channel := interpose(state)) is not None:
            return channel
        return Channel(_Send(state), _Receive(state), state.name)


class _State(Generic[T]):
    """What the two ends of a channel share."""

    __slots__ = (
        "buffer",
        "discarded",
        "high_water",
        "maxsize",
        "name",
        "offered",
        "received",
        "receiver",
        "run",
        "sender",
    )

    def __init__(self, maxsize: float, name: str) -> None:
        self.name = name
        self.maxsize = maxsize
        self.run: Run | None = None
        self.buffer: deque[T] = deque()
        # A rendezvous: the item in the buffer still belongs to the sender, who waits.
        self.offered = False
        self.sender = _Side("sending end")
        self.receiver = _Side("receiving end")
        self.received = 0
        self.discarded = 0
        self.high_water = 0

    def bind(self) -> Run:
        """Make sure that the caller is in the event loop of this channel."""
        run = self.run
        if run is None or not run.is_current():
            if run is not None and run.alive():
                raise RuntimeError(
                    f"channel {self.name!r} belongs to another event loop or thread: both ends "
                    "stay in the one in which the channel was used first"
                )
            run = self.run = current_run()
        return run

    def bind_nowait(self) -> None:
        """Like `bind`, but where no event loop runs there is nobody to disturb."""
        run = self.run
        if run is not None and run.is_current():
            return
        if running() is not None or (run is not None and run.alive()):
            self.bind()

    def take_back(self) -> None:
        """The sender keeps the item that it offered."""
        if self.offered:
            self.offered = False
            self.buffer.clear()

    def is_empty(self) -> bool:
        """Whether there is nothing to take: an offer ends when its sender is cancelled."""
        if self.offered and not self.sender.waits:
            self.take_back()
        return not self.buffer

    def put(self, item: T) -> None:
        buffer = self.buffer
        buffer.append(item)
        if len(buffer) > self.high_water:
            self.high_water = len(buffer)
        if self.receiver.user is not None:
            self.receiver.user.wake()

    def take(self) -> T:
        item = self.buffer.popleft()
        self.received += 1
        self.offered = False
        if self.sender.user is not None:
            self.sender.user.wake()
        return item

    def statistics(self) -> ChannelStats:
        buffered = len(self.buffer) - self.offered
        return ChannelStats(
            current_buffer_used=buffered,
            max_buffer_size=self.maxsize,
            open_send_streams=int(self.sender.open),
            open_receive_streams=int(self.receiver.open),
            waiters_send=int(self.sender.waits),
            waiters_receive=int(self.receiver.waits),
            sent=self.received + buffered + self.discarded,
            received=self.received,
            discarded=self.discarded,
            high_water=self.high_water if self.maxsize else 0,
        )


class _Side:
    """One side of a channel: whether it is open, and who is inside a call that waits.

    `calls` is how many more calls may take the fast path. It is 0 while that must not be taken at
    all: while somebody is inside, and once nothing can be sent or this side is closed.
    """

    __slots__ = ("calls", "keepers", "name", "open", "user")

    def __init__(self, name: str) -> None:
        self.name = name
        self.open = True
        self.user: Waiter | _Yielding | None = None
        # Who wants to know of the close, and of nothing else. Made when somebody does: few do.
        self.keepers: dict[Waiter, None] | None = None
        self.calls = CALLS_PER_YIELD - 1

    @property
    def waits(self) -> bool:
        return self.user is not None and self.user.parked

    def wake(self) -> None:
        if self.user is not None:
            self.user.wake()


class _Yielding:
    """A task that is inside a call but waits for nothing."""

    __slots__ = ("task",)

    parked = False

    def __init__(self, task: Any) -> None:
        self.task = task

    def wake(self) -> bool:
        return False


def _disturbed() -> bool:
    return False


class _Endpoint(Generic[T]):
    """What both ends do alike."""

    __slots__ = ("_side", "_state", "_task", "_undisturbed", "_waits_for")

    def __init__(self, state: _State[T], side: _Side, verb: str) -> None:
        self._state = state
        self._side = side
        self._waits_for = f"{verb} on channel {state.name!r}"
        # The task that called last, and a test that it calls again and is not cancelled.
        self._task: Any = None
        self._undisturbed: Callable[[], bool] = _disturbed

    def __repr__(self) -> str:
        return f"<{self._side.name} of channel {self._state.name!r}>"

    def statistics(self) -> ChannelStats:
        return self._state.statistics()

    def _refuse_if_closed(self) -> None:
        raise NotImplementedError

    def _refuse_second_user(self) -> None:
        user = self._side.user
        if user is not None:
            run = self._state.bind()
            task = run.current_task()
            caller = "a callback" if task is None else f"task {run.task_name(task)!r}"
            raise ChannelInUse(
                f"the {self._side.name} of channel {self._state.name!r} is in use by task "
                f"{run.task_name(user.task)!r}, so {caller} cannot use it: an end of a channel is "
                "for one task at a time",
                channel=self._state.name,
            )

    async def _enter(self) -> None:
        """Leave the fast path: see who calls and whether he may, and give way to other tasks."""
        side = self._side
        disturbed = not self._undisturbed()
        run = self._state.bind() if disturbed else self._state.run
        assert run is not None
        if disturbed:
            task = run.current_task()
            if task is not self._task:
                self._task = task
                self._undisturbed = run.undisturbed(task)
        if side.user is not None:
            self._refuse_second_user()
        self._refuse_if_closed()
        if disturbed:
            await run.checkpoint_if_cancelled()
        if side.calls <= 0:
            side.user = _Yielding(self._task)
            try:
                await run.checkpoint()
            finally:
                side.user = None
                side.calls = CALLS_PER_YIELD - 1
            self._refuse_if_closed()

    async def _wait(self) -> None:
        """Wait for the other side; raises nothing but a cancellation."""
        assert self._state.run is not None
        side = self._side
        side.calls = 0
        waiter = side.user = self._state.run.waiter(self._waits_for)
        try:
            await waiter
        finally:
            side.user = None
            side.calls = CALLS_PER_YIELD - 1

    def _watch(self, waiter: Waiter) -> None:
        self._state.bind()
        self._refuse_second_user()
        self._side.user = waiter
        self._side.calls = 0

    def unwatch(self, waiter: Waiter) -> None:
        side = self._side
        if side.user is waiter:
            side.user = None
            side.calls = CALLS_PER_YIELD - 1
        elif side.keepers:
            side.keepers.pop(waiter, None)

    async def _close(self) -> None:
        state = self._state
        if self._side.open:
            self._side.open = False
            state.take_back()
            state.sender.wake()
            state.receiver.wake()
            for keeper in state.sender.keepers or ():
                keeper.wake()
        if state.run is not None:
            await state.run.checkpoint_if_cancelled()


class _Send(_Endpoint[T], SendStream[T]):
    __slots__ = ()

    def __init__(self, state: _State[T]) -> None:
        super().__init__(state, state.sender, "send")

    async def send(self, item: T) -> None:
        state = self._state
        side = self._side
        side.calls -= 1
        if side.calls < 0 or not self._undisturbed():
            await self._enter()
        if not (side.open and state.receiver.open):
            self._refuse_if_closed()
        buffer = state.buffer
        if state.maxsize == 0:
            await self._meet(item)
            return
        while len(buffer) >= state.maxsize:
            await self._wait()
            self._refuse_if_closed()
        # As in `put`: this is the hot path.
        buffer.append(item)
        if len(buffer) > state.high_water:
            state.high_water = len(buffer)
        if state.receiver.user is not None:
            state.receiver.user.wake()

    def send_nowait(self, item: T) -> None:
        state = self._state
        run = state.run
        if run is None or not run.is_current():
            state.bind_nowait()
        side = self._side
        if side.user is not None:
            self._refuse_second_user()
        if not (side.open and state.receiver.open):
            self._refuse_if_closed()
        if state.maxsize == 0:
            if state.buffer or not state.receiver.waits:
                raise WouldBlock(
                    f"nobody waits to receive on channel {state.name!r}, which is a rendezvous",
                    channel=state.name,
                )
        elif len(state.buffer) >= state.maxsize:
            raise WouldBlock(
                f"channel {state.name!r} is full: {len(state.buffer)} items wait to be received",
                channel=state.name,
            )
        state.put(item)

    def send_many(self, items: Iterable[T]) -> Coroutine[Any, Any, None]:
        return self._send_many(iter(items))

    async def _send_many(self, iterator: Iterator[T]) -> None:
        state = self._state
        buffer = state.buffer
        self._side.calls -= 1
        await self._enter()
        for item in iterator:
            if state.maxsize == 0:
                await self.send(item)
                continue
            while len(buffer) >= state.maxsize:
                await self._wait()
                self._refuse_if_closed()
            before = len(buffer)
            more = min(state.maxsize - before, ITEMS_PER_YIELD) - 1
            buffer.append(item)
            try:
                buffer.extend(islice(iterator, int(more)))
            finally:
                state.high_water = max(state.high_water, len(buffer))
                state.receiver.wake()
            if len(buffer) - before == ITEMS_PER_YIELD:
                self._side.calls = 0
                await self._enter()

    def ready(self) -> bool:
        state = self._state
        state.bind_nowait()
        if not (state.sender.open and state.receiver.open):
            return True
        if state.maxsize == 0:
            return not state.buffer and state.receiver.waits
        return len(state.buffer) < state.maxsize

    def watch(self, waiter: Waiter, *, closing: bool = False) -> None:
        if not closing:
            self._watch(waiter)
            return
        self._state.bind()
        if self._side.keepers is None:
            self._side.keepers = {}
        self._side.keepers[waiter] = None
        if not (self._state.sender.open and self._state.receiver.open):
            waiter.wake()

    def evict_nowait(self) -> T:
        state = self._state
        state.bind_nowait()
        self._refuse_second_user()
        self._refuse_if_closed()
        if not state.buffer:
            raise WouldBlock(f"channel {state.name!r} has no item to take back", channel=state.name)
        state.discarded += 1
        return state.buffer.popleft()

    async def aclose(self) -> None:
        self._state.bind_nowait()
        await self._close()

    async def _meet(self, item: T) -> None:
        """Offer an item, and wait until it was taken."""
        state = self._state
        while state.buffer:  # what `send_nowait` handed to a receiver that was cancelled
            await self._wait()
            self._refuse_if_closed()
        taken = state.received + 1
        state.buffer.append(item)
        state.offered = True
        state.receiver.wake()
        try:
            await self._wait()
        except BaseException:
            if state.received != taken:
                state.take_back()
                raise
            assert state.run is not None
            state.run.redeliver_cancellation()  # it came too late to take anything back
        if state.received != taken:
            self._refuse_if_closed()

    def _refuse_if_closed(self) -> None:
        state = self._state
        if not state.sender.open:
            raise EndpointClosed(
                f"the sending end of channel {state.name!r} was closed on this side, by who used "
                "it or by a daemon that owned it: open another channel to send more",
                channel=state.name,
            )
        if not state.receiver.open:
            raise ChannelClosed(
                f"the receiving end of channel {state.name!r} is closed: nobody would get this",
                channel=state.name,
            )


class _Receive(_Endpoint[T], ReceiveStream[T]):
    __slots__ = ()

    def __init__(self, state: _State[T]) -> None:
        super().__init__(state, state.receiver, "receive")

    async def receive(self) -> T:
        state = self._state
        side = self._side
        side.calls -= 1
        if side.calls < 0 or not self._undisturbed():
            await self._enter()
        while not state.buffer or (state.offered and state.is_empty()):
            self._refuse_if_closed()
            self._refuse_if_ended()
            if state.maxsize == 0:
                state.sender.wake()  # one who watches may send now
            await self._wait()
        # As in `take`: this is the hot path.
        state.received += 1
        state.offered = False
        if state.sender.user is not None:
            state.sender.user.wake()
        return state.buffer.popleft()

    async def __anext__(self) -> T:
        state = self._state
        side = self._side
        if side.calls > 0 and state.buffer and not state.offered and self._undisturbed():
            side.calls -= 1
            return state.take()
        try:
            return await self.receive()
        except EndOfStream:
            raise StopAsyncIteration from None

    def receive_nowait(self) -> T:
        self._look()
        return self._state.take()

    def peek_nowait(self) -> T:
        self._look()
        return self._state.buffer[0]

    def _look(self) -> None:
        """See whether there is something to take."""
        state = self._state
        run = state.run
        usual = state.buffer and not state.offered and self._side.user is None
        if usual and run is not None and run.is_current():
            return  # a receiver that is closed has no buffer
        state.bind_nowait()
        self._refuse_second_user()
        self._refuse_if_closed()
        if state.is_empty():
            self._refuse_if_ended()
            raise WouldBlock(f"channel {state.name!r} has no item", channel=state.name)

    def ready(self) -> bool:
        state = self._state
        state.bind_nowait()
        return not (state.is_empty() and state.sender.open and state.receiver.open)

    def watch(self, waiter: Waiter) -> None:
        state = self._state
        self._watch(waiter)
        if state.maxsize == 0 and not state.buffer:
            state.sender.wake()  # one who watches may send now

    def receive_many(self, max_items: int) -> Coroutine[Any, Any, list[T]]:
        check_max_items(max_items)
        return self._receive_many(max_items)

    async def _receive_many(self, max_items: int) -> list[T]:
        items = [await self.receive()]
        state = self._state
        more = min(max_items - 1, len(state.buffer))
        if more:
            items += [state.buffer.popleft() for _ in range(more)]
            state.received += more
        return items

    async def aclose(self) -> None:
        state = self._state
        state.bind_nowait()
        if state.receiver.open:
            state.take_back()
            state.discarded += len(state.buffer)
            state.buffer.clear()
        await self._close()

    def _refuse_if_closed(self) -> None:
        name = self._state.name
        if not self._side.open:
            raise EndpointClosed(
                f"the receiving end of channel {name!r} was closed on this side, by who used it or "
                "by a daemon that owned it: nothing can be received from it any more",
                channel=name,
            )

    def _refuse_if_ended(self) -> None:
        name = self._state.name
        if not self._state.sender.open:
            raise EndOfStream(
                f"channel {name!r} has ended: its sending end is closed, and every item was "
                "received",
                channel=name,
            )
