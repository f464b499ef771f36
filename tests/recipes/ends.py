"""Ends of channels that count how often they are looked at, and fail when told to."""

from typing import Any, TypeVar

from chrono_core import ChannelStats, ReceiveStream, SendStream
from chrono_core.lowlevel import Waiter

T = TypeVar("T")


class Broken(Exception):
    """What a source on purpose fails with."""


class ProbeReceive(ReceiveStream[T]):
    """A receiving end around another.

    Attributes:
        looks: how often somebody has looked at it, or begun to wait.
    """

    def __init__(self, inner: ReceiveStream[T]) -> None:
        self.inner = inner
        self.looks = 0
        self._error: Exception | None = None
        self._waiters: list[Waiter] = []

    def __repr__(self) -> str:
        return repr(self.inner)

    def fail(self, error: Exception) -> None:
        """From now on, raise this wherever an item would be taken."""
        self._error = error
        for waiter in list(self._waiters):
            waiter.wake()

    def mend(self) -> None:
        self._error = None

    def _look(self) -> None:
        self.looks += 1
        if self._error is not None:
            raise self._error

    async def receive(self) -> T:
        self._look()
        return await self.inner.receive()

    def receive_nowait(self) -> T:
        self._look()
        return self.inner.receive_nowait()

    def peek_nowait(self) -> T:
        self._look()
        return self.inner.peek_nowait()

    def ready(self) -> bool:
        self.looks += 1
        return self._error is not None or self.inner.ready()

    def watch(self, waiter: Waiter) -> None:
        self.looks += 1
        self._waiters.append(waiter)
        self.inner.watch(waiter)

    def unwatch(self, waiter: Waiter) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        self.inner.unwatch(waiter)

    async def aclose(self) -> None:
        await self.inner.aclose()

    def statistics(self) -> ChannelStats:
        return self.inner.statistics()


class ProbeSend(SendStream[Any]):
    """A sending end around another, which counts likewise."""

    def __init__(self, inner: SendStream[Any]) -> None:
        self.inner = inner
        self.looks = 0

    def __repr__(self) -> str:
        return repr(self.inner)

    async def send(self, item: Any) -> None:
        self.looks += 1
        await self.inner.send(item)

    def send_nowait(self, item: Any) -> None:
        self.looks += 1
        self.inner.send_nowait(item)

    def ready(self) -> bool:
        self.looks += 1
        return self.inner.ready()

    def watch(self, waiter: Waiter, *, closing: bool = False) -> None:
        self.looks += 1
        self.inner.watch(waiter, closing=closing)

    def unwatch(self, waiter: Waiter) -> None:
        self.inner.unwatch(waiter)

    async def aclose(self) -> None:
        await self.inner.aclose()

    def statistics(self) -> ChannelStats:
        return self.inner.statistics()
