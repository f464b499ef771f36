"""Many callers, each with one request; one function that is faster with many at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence, Set
from copy import copy
from typing import Any, Generic, TypeVar, cast

import anyio
from chrono_core import (
    ChannelClosed,
    ChannelInUse,
    Clock,
    EndOfStream,
    ReceiveStream,
    SendStream,
    WallClock,
    WouldBlock,
)
from chrono_core.lowlevel import Event, Lock, checkpoint, finite, wait_any

from ._common import (
    check_callable,
    check_clock,
    check_count,
    check_receive,
    check_seconds,
    check_send,
)
from ._exceptions import BatcherStopped, RecipeError, WrongBatchSize

Req = TypeVar("Req")
Resp = TypeVar("Resp")
Req_co = TypeVar("Req_co", covariant=True)
Resp_contra = TypeVar("Resp_contra", contravariant=True)

# Who waits to send, by the id of the end; an entry is there only while somebody waits.
_turns: dict[int, Lock] = {}


class Pending(Generic[Req_co, Resp_contra]):
    """A request on its way, and the place for its answer; made by `submit`.

    Whoever receives it answers it, once, by ``answer`` or ``fail``, unless the caller has gone.

    Args:
        request: the request.
    """

    __slots__ = ("_answer", "_cancelled", "_error", "_event", "_request")

    def __init__(self, request: Req_co) -> None:
        self._request = request
        self._event = Event("the answer to a request")
        self._answer: Resp_contra | None = None
        self._error: Exception | None = None
        self._cancelled = False

    def __repr__(self) -> str:
        state = "answered" if self.answered else "cancelled" if self._cancelled else "waiting"
        return f"<Pending {self._request!r}, {state}>"

    @property
    def request(self) -> Req_co:
        """The request."""
        return self._request

    @property
    def answered(self) -> bool:
        """Whether it was answered."""
        return self._event.is_set()

    @property
    def cancelled(self) -> bool:
        """Whether the caller went before the answer came, so that nothing need be computed."""
        return self._cancelled

    def answer(self, value: Resp_contra) -> None:
        """Give the caller its answer; where it has gone, that does nothing.

        Raises:
            RecipeError: it was answered before.
        """
        self._settle()
        self._answer = value

    def fail(self, error: Exception) -> None:
        """Have ``submit`` raise this; where the caller has gone, that does nothing.

        Give each caller an exception of its own: a traceback grows as it is raised.

        Raises:
            RecipeError: it was answered before.
        """
        self._settle()
        self._error = error

    def _settle(self) -> None:
        if self.answered:
            raise RecipeError(f"request {self._request!r} was answered before: answer it once")
        # Whoever waits runs later.
        self._event.set()


class _Asked(Pending[Req, Resp]):
    """The side of the caller."""

    __slots__ = ()

    async def wait(self) -> Resp:
        """Wait for the answer; where that is cancelled, so is the request."""
        try:
            await self._event.wait()
        finally:
            self._cancelled = not self.answered
        if self._error is not None:
            # The error's traceback refers to this frame: neither may refer to the error.
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error
        return cast(Resp, self._answer)


async def submit(out: SendStream[Pending[Req, Resp]], request: Req) -> Resp:
    """Send a request to a batcher, and wait for the answer.

    Any number of tasks may submit to one end at the same time; where there is no room, they send
    in the order in which they came. Nobody else may use the end meanwhile.

    Cancelled before the request was sent, it sends nothing. Cancelled later, it marks the request,
    and a batcher that has not begun to compute leaves it out.

    Where no batcher was ever started at the other end, the request waits for one, for ever: nothing
    here can tell that from a slow one. The same goes for a request that is lost on its way,
    because somebody other than the batcher closed the other end, or because this one drops items.

    Args:
        out: the sending end of the channel that the batcher receives from.
        request: what to compute an answer for.

    Returns:
        What the batch function returned for this request.

    Raises:
        BatcherStopped: the batcher has ended, or ended before it could answer.
        WrongBatchSize: the batch function returned what are not as many answers as requests.
        EndpointClosed: ``out`` was closed.
        ChannelInUse: another task uses ``out``, and not by this function.
        TypeError: ``out`` is not the sending end of a channel.
        Exception: what the batch function raised: a copy for each caller, whose ``__cause__`` is
            the original. Where no true copy can be made, a `RecipeError` stands in for it.
    """
    check_send(out, "out")
    asked = _Asked[Req, Resp](request)
    try:
        await _send_in_turn(out, asked)
    except ChannelClosed as error:
        raise BatcherStopped(
            f"the batcher at the other end of {out!r} has ended: start another one, on a channel "
            "of its own"
        ) from error
    return await asked.wait()


async def _send_in_turn(out: SendStream[Any], pending: Pending[Any, Any]) -> None:
    turn = _turns.get(id(out))
    if turn is None:
        try:
            out.send_nowait(pending)
            return
        except WouldBlock:
            turn = _turns[id(out)] = Lock(f"its turn to submit to {out!r}")
    try:
        async with turn:
            await out.send(pending)
    finally:
        # Whoever comes as long as somebody waits, waits behind: so this is the last.
        if turn.idle:
            del _turns[id(out)]


def batcher_loop(
    incoming: ReceiveStream[Pending[Req, Resp]],
    forward: Callable[[list[Req]], Awaitable[Sequence[Resp]]],
    *,
    max_batch: int = 32,
    max_queue_delay: float = 0.0,
    clock: Clock | None = None,
) -> Coroutine[Any, Any, None]:
    """Answer requests that come by `submit`, several at a time.

    A batch begins with the first request that is there. It is complete when it has ``max_batch``
    requests, when ``max_queue_delay`` has passed since its first was taken, or when the source has
    ended; with no delay, it is what is there at once. The channel holds what comes while a batch
    is computed: a batch can be no larger than its buffer unless there is a delay.

    Requests whose callers have gone are left out, and where all have, nothing is computed. When
    the batch function raises an ``Exception``, or returns what are not as many answers as
    requests, each caller of that batch is told, and the loop goes on.

    When the source ends, what was sent is answered, and the call returns. When it is cancelled, or
    the source fails, or the batch function raises what is no ``Exception``, every caller whose
    request is in hand or in the channel, or who waits to send one, gets `BatcherStopped`, the
    incoming end is closed, and the error goes on; what a source that failed still holds is lost.
    Unlike other recipes, this one leaves nothing to a successor, and cannot be restarted on the
    same channel. Where the error is `ChannelInUse`, the channel is somebody else's, and is left as
    it is.

    The call needs a daemon's clock, and not its context:
    ``supervisor.spawn(lambda ctx: batcher_loop(requests.recv, forward, clock=ctx.clock))``.

    The two limits are those of the dynamic batching of NVIDIA's Triton Inference Server.

    Args:
        incoming: where requests come from.
        forward: an async function of a list of requests, which returns the answers in their order:
            a sequence, or an array whose first axis is the requests.
        max_batch: how many requests it is given at most.
        max_queue_delay: for how many seconds a request may wait for others.
        clock: whose seconds; real ones where not given.

    Raises:
        TypeError: one of these is not what it should be.
        ValueError: ``max_batch`` is below 1, or ``max_queue_delay`` is negative or not finite.
    """
    check_receive(incoming, "incoming")
    check_callable(forward, "forward")
    check_count(max_batch, "max_batch")
    delay = finite(check_seconds(max_queue_delay, "max_queue_delay"), "max_queue_delay")
    if clock is None:
        clock = WallClock()
    else:
        check_clock(clock)
    return _Batcher(incoming, forward, max_batch, delay, clock).run()


class _Batcher(Generic[Req, Resp]):
    """One run of a batcher."""

    def __init__(
        self,
        incoming: ReceiveStream[Pending[Req, Resp]],
        forward: Callable[[list[Req]], Awaitable[Sequence[Resp]]],
        max_batch: int,
        delay: float,
        clock: Clock,
    ) -> None:
        self._incoming = incoming
        self._forward = forward
        self._max_batch = max_batch
        self._delay = delay
        self._clock = clock
        self._batch: list[Pending[Req, Resp]] = []
        self._ended = False

    async def run(self) -> None:
        try:
            while not self._ended:
                await self._collect()
                if self._batch:
                    await self._compute()
                    self._batch = []
                    # Whoever was answered may have another request for the next batch.
                    await checkpoint()
        except BaseException as error:
            self._tell_all(error)
            if not isinstance(error, ChannelInUse):
                with anyio.CancelScope(shield=True):
                    await self._incoming.aclose()
            raise
        await self._incoming.aclose()

    async def _collect(self) -> None:
        """Form a batch; it stays empty where all callers have gone, or the source has ended."""
        while not (self._fill() or self._batch):
            await wait_any(self._incoming)
        if self._delay and not self._fill():
            with self._clock.move_on_after(self._delay):
                while not self._fill():
                    await wait_any(self._incoming)
            self._fill()
        self._batch = _live(self._batch)

    def _fill(self) -> bool:
        """Take what is there; whether the batch is complete."""
        while not self._ended:
            if len(self._batch) >= self._max_batch:
                self._batch = _live(self._batch)
                if len(self._batch) >= self._max_batch:
                    return True
            if not self._incoming.ready():
                return False
            try:
                pending = self._incoming.receive_nowait()
            except EndOfStream:
                self._ended = True
            else:
                if not pending.cancelled:
                    self._batch.append(pending)
        return True

    async def _compute(self) -> None:
        batch = self._batch
        try:
            returned: Any = await self._forward([pending.request for pending in batch])
            answers = _listed(returned)
        except Exception as error:
            for pending in batch:
                pending.fail(_copied(error))
            return
        if answers is None:
            self._complain(f"a {type(returned).__name__}, which is no sequence of answers,")
        elif len(answers) != len(batch):
            self._complain(f"{len(answers)} answers")
        else:
            for pending, answer in zip(batch, answers, strict=True):
                pending.answer(answer)

    def _complain(self, what: str) -> None:
        """Tell every caller of the batch what came instead of answers."""
        # Its repr would have an address in it, which is another one in each run.
        name = getattr(self._forward, "__qualname__", type(self._forward).__name__)
        for pending in self._batch:
            pending.fail(
                WrongBatchSize(
                    f"the batch function {name!r} returned {what} to a batch of "
                    f"{len(self._batch)}: it must return one answer to each request, in order"
                )
            )

    def _tell_all(self, error: BaseException) -> None:
        """Tell every caller that there will be no answer."""
        pending: Pending[Req, Resp] | None
        for pending in self._batch:
            self._tell(pending, error)
        while not isinstance(error, ChannelInUse):
            try:
                pending = self._incoming.receive_nowait()
            except Exception:
                return  # it is empty, or it is what has failed
            self._tell(pending, error)

    def _tell(self, pending: Pending[Req, Resp], error: BaseException) -> None:
        if not pending.answered:
            stopped = BatcherStopped(
                f"the batcher at {self._incoming!r} has ended before it answered: "
                "start another one, on a channel of its own, and submit again"
            )
            stopped.__cause__ = error if isinstance(error, Exception) else None
            pending.fail(stopped)


def _live(batch: Iterable[Pending[Req, Resp]]) -> list[Pending[Req, Resp]]:
    return [pending for pending in batch if not pending.cancelled]


def _listed(returned: Any) -> list[Any] | None:
    """The answers that a batch function returned, or None where these are none."""
    if isinstance(returned, str | bytes | Mapping | Set):
        return None
    if not (hasattr(returned, "__len__") and hasattr(returned, "__getitem__")):
        return None
    return list(returned)


def _copied(error: Exception) -> Exception:
    """An exception for one of several who are told of this one."""
    try:
        twin = copy(error)
        if twin is error or type(twin) is not type(error) or str(twin) != str(error):
            raise TypeError("not a true copy")
        if hasattr(error, "__notes__"):
            twin.__notes__ = list(error.__notes__)
    except Exception:
        twin = RecipeError(f"the batch function raised {type(error).__name__}: {error}")
    twin.__cause__ = error
    return twin
