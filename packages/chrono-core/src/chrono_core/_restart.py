"""When to start a failed daemon again, and when to give up: functions of time alone."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ._time import finite, number, to_ns


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Exponential backoff, and a limit of intensity as Erlang's supervisors have it.

    Restart *n*, counted from 0, comes ``min(cap, base * factor ** n)`` seconds of the clock after
    the failure.

    Attributes:
        base: seconds before the first restart.
        factor: by how much each wait is longer than the one before.
        cap: the longest wait, in seconds.
        max_retries: after so many restarts the next failure is final; None is no limit.
        reset_after: a daemon that ran for so many seconds before it failed counts as healthy:
            backoff and count start over. None is never.
        window: count only the restarts of the last so many seconds; None counts all.

    Raises:
        ValueError: a value makes no sense, the policy could spin (no wait and no limit), or the
            waits alone are longer than the window, so that the limit could never be reached.
    """

    base: float = 0.1
    factor: float = 2.0
    cap: float = 5.0
    max_retries: int | None = None
    reset_after: float | None = None
    window: float | None = None

    def __post_init__(self) -> None:
        if finite(self.base, "base") < 0:
            raise ValueError(f"base must not be negative, got {self.base!r}")
        if finite(self.factor, "factor") < 1:
            raise ValueError(f"factor must be at least 1, got {self.factor!r}")
        if number(self.cap, "cap") < self.base:
            raise ValueError(f"cap must be at least base, {self.base!r}, got {self.cap!r}")
        if self.max_retries is not None and self.max_retries < 0:
            raise ValueError(f"max_retries must not be negative, got {self.max_retries!r}")
        for name in ("reset_after", "window"):
            value = getattr(self, name)
            if value is not None and number(value, name) <= 0:
                raise ValueError(f"{name} must be positive, got {value!r}")
        if to_ns(self.base) == 0 and self.max_retries is None:
            raise ValueError(
                f"a base of {self.base!r} would restart a failing daemon without end at one "
                "instant: give max_retries, or a base of a nanosecond or more"
            )
        if self.window is not None:
            self._check_window(self.window)

    def _check_window(self, window: float) -> None:
        if self.max_retries is None:
            raise ValueError("window says which restarts max_retries counts: give max_retries too")
        shortest = 0.0
        for attempt in range(self.max_retries):
            delay = self.delay(attempt)
            if delay == self.delay(attempt + 1):
                shortest += (self.max_retries - attempt) * delay
                break
            shortest += delay
        if shortest > window:
            raise ValueError(
                f"max_retries={self.max_retries} can never be reached: the waits before so many "
                f"restarts take longer than the window of {window!r} s"
            )

    def delay(self, attempt: int) -> float:
        """Seconds before a restart, where ``attempt`` counts from 0."""
        try:
            return min(self.cap, self.base * self.factor**attempt)
        except OverflowError:
            return self.cap if self.base else 0.0


class Retries:
    """How often one daemon was started again, and what the policy says to the next time."""

    __slots__ = ("_attempt", "_policy", "_times")

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._attempt = 0
        self._times: deque[float] = deque()

    def after_failure(self, now: float, ran_for: float) -> float | None:
        """Seconds to wait before the next restart; None to give up."""
        policy = self._policy
        if policy.reset_after is not None and ran_for >= policy.reset_after:
            self._attempt = 0
            self._times.clear()
        if policy.max_retries is not None:
            while (
                policy.window is not None and self._times and self._times[0] < now - policy.window
            ):
                self._times.popleft()
            if len(self._times) >= policy.max_retries:
                return None
            self._times.append(now)
        self._attempt += 1
        return policy.delay(self._attempt - 1)
