"""Seconds outside, integer nanoseconds inside: rounded once, at the edge."""

from __future__ import annotations

import math

NANOSECONDS = 1_000_000_000


def number(value: float, what: str) -> float:
    """A number that is one, or a clear error.

    Args:
        value: the number; infinity is one.
        what: what errors call it.

    Raises:
        TypeError: it is no number.
        ValueError: it is NaN.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        try:
            value = float(value.__float__())
        except AttributeError:
            raise TypeError(f"{what} must be a number of seconds, got {value!r}") from None
    if value != value:
        raise ValueError(f"{what} must be a number of seconds, got NaN")
    return value


def finite(value: float, what: str) -> float:
    """A number that is neither NaN nor infinite, or a clear error, as of `number`.

    Raises:
        TypeError: it is no number.
        ValueError: it is NaN or infinite.
    """
    value = number(value, what)
    if value in (math.inf, -math.inf):
        raise ValueError(f"{what} must be finite, got {value!r}")
    return value


def to_ns(seconds: float) -> int:
    """Nanoseconds, exact for what a float can express, rounded to the nearest.

    Raises:
        OverflowError: it is infinite.
        ValueError: it is NaN.
    """
    if isinstance(seconds, int):
        return seconds * NANOSECONDS
    nanoseconds = seconds * 1e9
    if -9e15 < nanoseconds < 9e15:
        return round(nanoseconds)
    numerator, denominator = seconds.as_integer_ratio()
    return (2 * numerator * NANOSECONDS + denominator) // (2 * denominator)


def to_seconds(nanoseconds: int) -> float:
    """The float nearest to so many nanoseconds."""
    return nanoseconds / NANOSECONDS


class Ticks:
    """The instants of a periodic timer: tick n is at start + n periods, computed each time.

    Args:
        start: the instant of tick 0, in nanoseconds.
        period: seconds between ticks; finite, and more than 0.

    Attributes:
        start: the instant of tick 0, in nanoseconds.
    """

    __slots__ = ("_numerator", "_shift", "start")

    def __init__(self, start: int, period: float) -> None:
        self.start: int = start
        # A float is a fraction whose denominator is a power of two.
        numerator, denominator = period.as_integer_ratio()
        self._numerator = numerator * NANOSECONDS
        self._shift = denominator.bit_length() - 1

    def at(self, n: int) -> int:
        """The instant of tick n, in nanoseconds."""
        product = n * self._numerator
        if not self._shift:
            return self.start + product
        return self.start + ((product + (1 << (self._shift - 1))) >> self._shift)

    def first_from(self, now: int, n: int) -> int:
        """The number of the first tick from n on that is not before now; takes no loop."""
        n = max(n, ((now - self.start) << self._shift) // self._numerator)
        while self.at(n) < now:
            n += 1
        return n
