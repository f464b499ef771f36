"""A supervisor on an event loop of its own, for synchronous code."""

from __future__ import annotations

import concurrent.futures
import inspect
import math
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal
from chrono_core import Clock, Supervisor
from chrono_core.lowlevel import Event, wait_any

from ._common import check_seconds
from ._supervisor_host import first_error

D = TypeVar("D")


@contextmanager
def host_async_dispatcher(
    setup: Callable[[Supervisor], Awaitable[D]],
    *,
    clock: Clock | None = None,
    backend: str = "asyncio",
    ready_timeout: float = 10.0,
) -> Iterator[tuple[BlockingPortal, D]]:
    """Run a supervisor on an event loop in a thread of its own, and call it from synchronous code.

    ::

        async def setup(supervisor):
            requests = open_channel(8)
            supervisor.spawn(serve, requests.recv)
            return requests.send


        with host_async_dispatcher(setup) as (portal, requests):
            portal.call(submit, requests, "question")

    An exception of what is called is raised by ``portal.call``, which any thread may use.

    The end of the block takes no more calls, stops the daemons gracefully, as `Supervisor.stop`
    does by default, then cancels the calls that still wait, and joins the thread. That is so
    whether the block raises or not. A second ``KeyboardInterrupt``, while it stops, cancels the
    daemons. So nothing is left behind, unless some code blocks the event loop, which nothing can
    end: then it is waited for.

    When a daemon crashes, or a daemon stops the supervisor, calls that wait are cancelled, and end
    with ``concurrent.futures.CancelledError``; calls made later raise ``RuntimeError``. After a
    crash, the end of the block raises the supervisor's error. An exception of the block comes last
    in the same ``ExceptionGroup``, unless it is the ``CancelledError``; ``KeyboardInterrupt`` and
    ``SystemExit`` of the block pass through alone, and the error is logged.

    Under `SimClock`, nobody moves time but the caller: ``portal.call(clock.advance, 1.0)``.

    Args:
        setup: ``async def setup(supervisor)``, called on that event loop, inside the supervisor's
            block. It adds the daemons, which start at once, and returns what the caller uses.
        clock: the daemons' time; real where not given.
        backend: the event loop to use, ``"asyncio"`` or ``"trio"``.
        ready_timeout: real seconds that ``setup`` and the start of the daemons may take in all.

    Yields:
        The portal to that event loop, and what ``setup`` has returned.

    Raises:
        Exception: what ``setup`` has raised, as it is.
        DaemonError: a daemon has failed before all had come up; the first one, with a note for
            every other error that came with it.
        TimeoutError: the ``ready_timeout`` was over; the message says what was waited for.
        SimulationStalled: an ``on_start`` cannot go on unless simulated time moves.
        ExceptionGroup: daemons have failed later.
        ValueError: ``ready_timeout`` is not positive, or NaN.
        TypeError: ``setup`` is no async function.
        LookupError: there is no such backend.
        RuntimeError: the backend is trio, and trio runs in the calling thread: that cannot wait
            for another trio.
    """
    if not callable(setup):
        raise TypeError(f"setup must be an async function of a supervisor, got {setup!r}")
    ready_timeout = check_seconds(ready_timeout, "ready_timeout", positive=True)
    if backend == "trio" and _in_trio():
        raise RuntimeError(
            "host_async_dispatcher() cannot run trio for a thread that runs trio itself: use "
            '`async with Supervisor()` there, or another thread, or backend="asyncio"'
        )
    session = _Session(setup, clock)
    ending: BaseException | None = None
    try:
        with start_blocking_portal(backend) as loop:
            serving = loop.start_task_soon(session.serve, name="supervisor")
            ready = session.ready
            concurrent.futures.wait(
                [ready], None if ready_timeout == math.inf else float(ready_timeout)
            )
            if not ready.done():
                loop.call(session.give_up, ready_timeout)
            # An exception here, and below, cancels what is left on that event loop.
            portal, dispatcher = ready.result()
            try:
                yield portal, dispatcher
            finally:
                loop.call(session.leaving.set)
                serving.result()
    except BaseException as error:
        ending = error
    session.finish(ending)


def _in_trio() -> bool:
    """Whether the calling thread runs trio."""
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_run())


class _Session(Generic[D]):
    """What the caller's thread and the event loop know of each other."""

    def __init__(self, setup: Callable[[Supervisor], Awaitable[D]], clock: Clock | None) -> None:
        self._setup = setup
        self._set_up = False
        self._gave_up = False
        self._error: BaseException | None = None
        self.supervisor = Supervisor(clock=clock)
        self.leaving = Event("the caller's block to end")
        # Done by the event loop alone, and by that in any case.
        self.ready: concurrent.futures.Future[tuple[BlockingPortal, D]] = (
            concurrent.futures.Future()
        )

    async def serve(self) -> None:
        """Everything that happens on the event loop."""
        try:
            async with self.supervisor as supervisor:
                dispatcher = await self._call_setup()
                await supervisor.wait_all_started()
                # Its calls are cancelled when a daemon crashes, as they run inside the block.
                async with BlockingPortal() as portal:
                    if not self.ready.done():
                        self.ready.set_result((portal, dispatcher))
                    await self._wait_for_the_end()
                    await portal.stop()
                    # Called in the block, it goes on to its end even where a daemon crashes.
                    await supervisor.stop()
                    await portal.stop(cancel_remaining=True)
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:
            if self.ready.done():
                self._error = error
            else:
                self.ready.set_exception(first_error(error))
        finally:
            if not self.ready.done():
                self.ready.cancel()

    async def _wait_for_the_end(self) -> None:
        """Wait until the caller leaves its block, or a daemon has stopped the supervisor."""
        stop, leaving = self.supervisor.stop_event, self.leaving
        while not (stop.is_set() or leaving.is_set()):
            await wait_any(stop, leaving)

    async def _call_setup(self) -> D:
        setting_up = self._setup(self.supervisor)
        if not inspect.isawaitable(setting_up):
            raise TypeError(f"setup must be an async function, but returned {setting_up!r}")
        dispatcher = await setting_up
        self._set_up = True
        return dispatcher

    def give_up(self, ready_timeout: float) -> None:
        """The time to get ready is over."""
        if self.ready.done():
            return
        missing = [
            f"daemon {health.name!r} has not come up: it waits on {health.waiting_on}"
            for health in self.supervisor.snapshot().values()
            if health.started_at is None and health.stopped_at is None
        ]
        if not self._set_up:
            missing.insert(0, "setup has not returned")
        reasons = "".join(f"\n  {reason}" for reason in missing)
        self._gave_up = True
        self.ready.set_exception(
            TimeoutError(f"not ready within {ready_timeout} real seconds (ready_timeout):{reasons}")
        )

    def finish(self, ending: BaseException | None) -> None:
        """Raise what the block has, and what the daemons have."""
        error = self._error
        if error is None:
            if ending is not None:
                raise ending
        elif ending is None or isinstance(ending, concurrent.futures.CancelledError):
            raise error
        elif self._gave_up or not isinstance(ending, Exception):
            self.supervisor.logger.error("%s", error, exc_info=error)
            raise ending
        elif isinstance(error, ExceptionGroup):
            raise ExceptionGroup(error.message, [*error.exceptions, ending]) from None
        else:
            raise error
