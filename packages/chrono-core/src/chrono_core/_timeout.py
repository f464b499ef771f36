"""Blocks that are cancelled at an instant of simulated time."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import TracebackType
from typing import Any

import anyio

from ._time import NANOSECONDS
from ._timeline import Timeline


class Timeout:
    """A block that is cancelled at a deadline; on the timeline, it stands where a sleeper would."""

    __slots__ = (
        "_deadline",
        "_fail",
        "_get_task",
        "_scope",
        "_timeline",
        "fired",
        "parked",
        "task",
    )

    def __init__(
        self, timeline: Timeline, deadline: float, get_task: Callable[[], Any], *, fail: bool
    ) -> None:
        self._timeline = timeline
        self._deadline = deadline  # nanoseconds; infinite for none, or for one that has passed
        self._get_task = get_task
        self._fail = fail
        self._scope = anyio.CancelScope()
        self.fired = False
        self.parked = False
        self.task: Any = None

    def __enter__(self) -> anyio.CancelScope:
        self.task = self._get_task()
        self._scope.__enter__()
        if self._deadline <= self._timeline.now:
            self.fired = True
            self._scope.cancel()
        elif self._deadline != math.inf:
            self.parked = True
            self._timeline.add(int(self._deadline), self._timeline.number(), self)
        return self._scope

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> bool:
        if self.parked:
            self.parked = False
            self._timeline.forget_one()
        swallow = self._scope.__exit__(exc_type, exc, tb)
        if self._fail and self.fired and self._scope.cancelled_caught:
            raise TimeoutError(f"the time was up at {self._deadline / NANOSECONDS} on the clock")
        return bool(swallow)

    def wake(self) -> bool:
        """The deadline has come."""
        if not self.parked:
            return False
        self.parked = False
        self.fired = True
        self._scope.cancel()
        return True
