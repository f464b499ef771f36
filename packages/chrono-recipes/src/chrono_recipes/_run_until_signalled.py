"""Running a supervisor until the process is told to end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import Any

import anyio
import anyio.abc
from chrono_core import Supervisor

from ._common import check_seconds
from ._supervisor_host import check_supervisor

HAS_SIGNALS = os.name != "nt"


def run_until_signalled(
    supervisor: Supervisor, *, grace: float = 5.0, finalize_timeout: float = 2.0
) -> Coroutine[Any, Any, signal.Signals | None]:
    """Enter a supervisor, and run it until its daemons end or SIGINT or SIGTERM comes.

    The first signal stops the daemons gracefully, as `Supervisor.stop` does. A second one cancels
    them at once, each with its ``on_stop``. Meanwhile the signals do nothing else: SIGINT raises no
    ``KeyboardInterrupt``. Afterwards they do what they did before.

    ::

        anyio.run(run_until_signalled, supervisor)

    Args:
        supervisor: one that was not entered yet, with its daemons. It must have the ``on_exit``
            that it has by default, ``"wait"``; with ``"stop"``, it is stopped as soon as it runs.
        grace: real seconds to wait before daemons are cancelled. Under `SimClock`, wait instead
            until nothing can run without time moving.
        finalize_timeout: seconds that the ``on_stop`` of a cancelled daemon may take before it is
            cut short.

    Returns:
        The first signal that came; None where the daemons have ended by themselves.

    Raises:
        ExceptionGroup: daemons have failed, as from the block of a supervisor.
        RuntimeError: signals cannot be received here: this is not the main thread, or Windows. Or
            the supervisor was entered before.
        ValueError: a time is negative or NaN.
        TypeError: it is no `Supervisor`.
    """
    check_supervisor(supervisor)
    check_seconds(grace, "grace")
    check_seconds(finalize_timeout, "finalize_timeout")
    return _run(supervisor, grace, finalize_timeout)


async def _run(
    supervisor: Supervisor, grace: float, finalize_timeout: float
) -> signal.Signals | None:
    if not HAS_SIGNALS:
        raise RuntimeError(
            "signals cannot be received on Windows: use `async with supervisor`, and call its "
            "signal_stop() in a handler of your own"
        )
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            "signals are received in the main thread only: run the event loop there, or use "
            "`async with supervisor`, and call its signal_stop() when the signal comes"
        )
    received: list[signal.Signals] = []
    error: BaseException | None = None
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        # The task group would wrap what is raised inside of it.
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_obey, signals, received, supervisor, tasks, grace, finalize_timeout)
            try:
                async with supervisor:
                    pass
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as raised:
                error = raised
            tasks.cancel_scope.cancel()
    if error is not None:
        raise error
    return received[0] if received else None


async def _obey(
    signals: AsyncIterator[signal.Signals],
    received: list[signal.Signals],
    supervisor: Supervisor,
    tasks: anyio.abc.TaskGroup,
    grace: float,
    finalize_timeout: float,
) -> None:
    async for came in signals:
        if received:
            supervisor.logger.warning("%s: cancelling the daemons", came.name)
        else:
            supervisor.logger.info("%s: stopping; again to cancel the daemons", came.name)
        stop = partial(supervisor.stop, 0 if received else grace, finalize_timeout)
        received.append(came)
        tasks.start_soon(stop, name="stop")
