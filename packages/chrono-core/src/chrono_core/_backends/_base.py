"""What chrono needs of an event loop, and nothing else: the contract that every backend keeps.

One `Run` stands for one run of one event loop. Everything that differs between asyncio and
trio is behind it, and on both the same calls take the same number of scheduler rounds: that
is what makes one program give one trace.

A *round* is one pass of the event loop over the tasks that were runnable when it began. A task
woken in one round runs in the next; tasks woken in the same round run in the order in which
they were woken.
"""

from __future__ import annotations

import enum
import os
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any, Protocol

import anyio

# So many rounds without idleness are taken for an endless loop, unless somebody says otherwise.
LIVELOCK_AFTER = 1_000_000


class Waiter(Protocol):
    """One parked task. Made by the task that is going to park, and awaited at once."""

    task: Any
    subject: object  # in words, by `str`: what is waited on

    def __await__(self) -> Generator[Any, Any, Any]: ...

    def wake(self) -> bool:
        """Make the task runnable; False where it was woken or cancelled before."""

    @property
    def parked(self) -> bool:
        """Whether the task still waits: neither woken nor cancelled."""

    @property
    def woken(self) -> bool:
        """Whether the task was woken, even where a cancellation has overtaken that."""


class Idle(enum.Enum):
    """What the watcher of idleness wants next."""

    AGAIN = enum.auto()  # it made something runnable: call again once that has blocked
    NAP = enum.auto()  # something real is under way: look again in a little real time
    REST = enum.auto()  # nothing to do until `kick`


class Watcher(Protocol):
    """Who is told when a run is idle."""

    def on_idle(self) -> Idle:
        """Nothing can run. May make something runnable."""

    def on_livelock(self, runners: list[str]) -> None:
        """`livelock_after` rounds went by without idleness; these tasks keep running."""


@dataclass(frozen=True, slots=True)
class RealWait:
    """Something real that a task waits for: a timer or a descriptor."""

    what: str
    task: str
    filename: str
    lineno: int


class Run(ABC):
    """One run of an event loop."""

    __slots__ = (
        "__weakref__",
        "livelock_after",
        "own_timeouts",
        "simulation",
        "thread",
        "watcher",
    )

    # Whether `real_waits` can see anything at all.
    sees_real_waits: bool = True

    def __init__(self) -> None:
        self.thread: int = threading.get_ident()
        self.own_timeouts: list[anyio.CancelScope] = []
        self.livelock_after: int = LIVELOCK_AFTER
        self.watcher: Any = None
        # The simulation that all of this run is, if it is one.
        self.simulation: Any = None

    # Tasks

    @staticmethod
    @abstractmethod
    def current_task() -> Any:
        """The running task; None or RuntimeError outside of one."""

    @abstractmethod
    def is_current(self) -> bool:
        """Whether the caller is inside this run."""

    @abstractmethod
    def task_name(self, task: Any) -> str: ...

    @abstractmethod
    def coroutine(self, task: Any) -> Any:
        """The coroutine object that the task runs."""

    @abstractmethod
    def alive(self) -> bool:
        """Whether the loop is still running."""

    @abstractmethod
    def call_threadsafe(self, callback: Callable[[], object]) -> None:
        """Run a callback in the loop soon, from any thread or signal handler."""

    @abstractmethod
    def call_soon(self, callback: Callable[[], object]) -> None:
        """Run a callback in the next round; from inside this run only."""

    @abstractmethod
    def in_task(self) -> bool:
        """Whether the caller runs in a task of this run."""

    # Waiting

    @abstractmethod
    def waiter(self, subject: object) -> Waiter:
        """A waiter for the current task; `subject` says in words what it waits on."""

    @abstractmethod
    def reader(self, subject: object, descriptor: int) -> Waiter:
        """A waiter that is also woken as soon as a descriptor can be read from.

        Awaited, it raises NotImplementedError where the loop cannot wait for descriptors.
        """

    @abstractmethod
    def forget_descriptor(self, descriptor: int) -> None:
        """A descriptor that a reader waited for is about to be closed; from inside this run."""

    @abstractmethod
    def checkpoint(self) -> Awaitable[None]:
        """Yield for one round; where that was cancelled, raise in the round after it."""

    @abstractmethod
    def checkpoint_if_cancelled(self) -> Awaitable[None]:
        """Raise the pending cancellation in the next round; return at once without one."""

    @abstractmethod
    def undisturbed(self, task: Any) -> Callable[[], bool]:
        """A cheap test for "this task is running, and no cancellation is pending for it"."""

    @abstractmethod
    def redeliver_cancellation(self) -> None:
        """The current task swallowed a cancellation that came too late: deliver it again."""

    # Idleness

    @contextmanager
    def real_timeout(self, seconds: float) -> Iterator[anyio.CancelScope]:
        """Move on after so many real seconds, without being reported as something real."""
        with anyio.move_on_after(seconds) as scope:
            self.own_timeouts.append(scope)
            try:
                yield scope
            finally:
                self.own_timeouts.remove(scope)

    @abstractmethod
    def watch(self, watcher: Watcher) -> None:
        """Tell the watcher, from the next `kick` on, whenever every task is blocked."""

    @abstractmethod
    def kick(self) -> None:
        """End a REST of the watch. Safe from any thread."""

    @abstractmethod
    def threads_in_flight(self) -> int:
        """Worker threads started through anyio that have not been waited for to the end."""

    @abstractmethod
    def maybe_real_waits(self) -> bool:
        """A fast necessary condition for `real_waits` to find something."""

    @abstractmethod
    def real_waits(self, drivers: list[Any]) -> list[RealWait]:
        """Pending real timers and descriptors, but for `own_timeouts` and around drivers."""


# Reading a suspended task


def frames(coroutine: Any) -> list[FrameType]:
    """The suspended frames of a coroutine, outermost first."""
    found = []
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            found.append(frame)
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return found


_PLUMBING = ("asyncio", "anyio", "trio", __name__.partition(".")[0], "contextlib")


def is_plumbing(code: CodeType) -> bool:
    """Whether this is the event loop's own code, or ours."""
    for name in _PLUMBING:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is None:
            continue
        folder, base = os.path.split(file)
        if base == "__init__.py":
            file = folder + os.sep
        if code.co_filename.startswith(file):
            return True
    return False


def user_line(stack: list[FrameType]) -> tuple[str, int]:
    """Where the innermost frame stands that is neither the event loop's nor ours."""
    for frame in reversed(stack):
        if not is_plumbing(frame.f_code):
            return frame.f_code.co_filename, frame.f_lineno
    if stack:
        return stack[-1].f_code.co_filename, stack[-1].f_lineno
    return "<unknown>", 0


def place(stack: list[FrameType]) -> str:
    """Where the user's code stands: the file, without its folder, and the line."""
    filename, lineno = user_line(stack)
    return f"{os.path.basename(filename)}:{lineno}"


def standing(coroutine: Any) -> str:
    """What a suspended coroutine waits on, in words, with the file and the line."""
    stack = frames(coroutine)
    filename, lineno = user_line(stack)
    for frame in reversed(stack):
        subject = getattr(frame.f_locals.get("waiter"), "subject", None)
        if subject is not None and is_plumbing(frame.f_code):
            return f"{subject} at {filename}:{lineno}"
    # The call that the user has made says more than what that does inside.
    inside = [frame.f_code.co_qualname for frame in stack]
    for n in range(len(stack) - 1, -1, -1):
        if not is_plumbing(stack[n].f_code):
            return f"{(inside[n + 1 :] or ['a bare yield'])[0]} at {filename}:{lineno}"
    inside = [name for name in inside if name not in _MACHINERY]
    return f"{(inside or ['something'])[-1]} at {filename}:{lineno}"


# The functions in which every wait of trio ends.
_MACHINERY = ("wait_task_rescheduled", "_async_yield", "_real_async_yield")


def waiting_on(coroutine: Any) -> str | None:
    """What a suspended coroutine waits on, in words; None where it is not suspended."""
    stack = frames(coroutine)
    if not stack:
        return None
    for frame in reversed(stack):
        waiter = frame.f_locals.get("waiter") if is_plumbing(frame.f_code) else None
        subject = getattr(waiter, "subject", None)
        if subject is not None:
            return str(subject)
    filename, lineno = user_line(stack)
    return f"{stack[-1].f_code.co_qualname} at {filename}:{lineno}"
