"""The newest value of something, for whoever wants it."""

from __future__ import annotations

from enum import Enum
from typing import Generic, TypeVar, cast, overload

from chrono_core import Clock
from chrono_core.lowlevel import Pulse, checkpoint

from ._common import check_clock

T = TypeVar("T")
D = TypeVar("D")


class _Missing(Enum):
    MISSING = "missing"


MISSING = _Missing.MISSING


class Latest(Generic[T]):
    """Holds the newest value, and wakes whoever waits for a newer one.

    For tasks of one event loop. Nobody takes a value away from anybody. Who is slow sees the newest
    value and not those between: use a channel where each counts.

    Args:
        initial: a value to begin with, which counts as set.
        clock: what ``age`` is measured on.

    Raises:
        TypeError: ``clock`` is not a clock.
    """

    __slots__ = ("_clock", "_pulse", "_since", "_value", "_version")

    def __init__(self, initial: T | _Missing = MISSING, *, clock: Clock | None = None) -> None:
        if clock is not None:
            check_clock(clock)
        self._clock = clock
        self._pulse = Pulse("a newer value")
        self._value: T | _Missing = MISSING
        self._version = 0
        self._since = 0.0
        if not isinstance(initial, _Missing):
            self.set(initial)

    def __repr__(self) -> str:
        if not self._version:
            return "<Latest, never set>"
        return f"<Latest {self._value!r}, version {self._version}>"

    @property
    def version(self) -> int:
        """How many times it was set; 0 as long as there is no value."""
        return self._version

    @overload
    def get(self) -> T: ...

    @overload
    def get(self, default: D) -> T | D: ...

    def get(self, default: D | _Missing = MISSING) -> T | D:
        """The value, or the default where it was never set.

        Raises:
            LookupError: it was never set, and there is no default.
        """
        if self._version:
            return cast(T, self._value)
        if isinstance(default, _Missing):
            raise LookupError(
                "this Latest was never set: give it an initial value, give get() a default, or "
                "await changed()"
            )
        return default

    def set(self, value: T) -> None:
        """Set the value, also to an equal one, and wake whoever waits, in the order they came."""
        if self._clock is not None:
            self._since = self._clock.now()
        self._value = value
        self._version += 1
        self._pulse.beat()

    async def changed(self, since: int | None = None) -> T:
        """Wait until it is set, and return the newest value by then.

        ``version`` right after that is the version of what was returned. To see whatever is set
        while one is busy, hand it in again::

            seen = 0
            while True:
                value = await latest.changed(seen)
                seen = latest.version
                ...

        Between ``get`` and ``changed`` without another ``await``, nothing can be missed. Cancelled,
        it has taken nothing: the next call with the same version returns what this one would have.

        Args:
            since: the version that was seen last; where that is not the newest any more, return
                after one checkpoint. What is the newest at the time of the call where not given.

        Raises:
            ValueError: there has been no such version.
        """
        if since is None:
            since = self._version
        elif not 0 <= since <= self._version:
            raise ValueError(
                f"since must be a version of this Latest, from 0 to {self._version}, got {since!r}"
            )
        if self._version > since:
            await checkpoint()
        else:
            await self._pulse.next()
        return cast(T, self._value)

    def age(self) -> float:
        """For how many seconds on the clock the value has been there.

        Raises:
            LookupError: it was never set.
            RuntimeError: it has no clock.
        """
        if self._clock is None:
            raise RuntimeError("this Latest has no clock: make it with clock=ctx.clock")
        if not self._version:
            raise LookupError("this Latest was never set, so that it has no age")
        return self._clock.now() - self._since
