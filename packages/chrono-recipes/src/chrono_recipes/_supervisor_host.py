"""A supervisor in a task group that somebody else owns."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import anyio
import anyio.abc
from chrono_core import DaemonError, DaemonHealth, Supervisor
from chrono_core.lowlevel import Event, Pulse, checkpoint


class SupervisorHost:
    """Runs a supervisor in a caller's task group, for whoever starts and stops in two places.

    Where one block will do, ``async with supervisor:`` is simpler.

    Once started, the supervisor stays open until it is told to stop, also where its daemons have
    all ended: others can be added. The task group waits for that, so call `stop` before leaving
    it. When the task group is cancelled, the daemons are cancelled, each with its ``on_stop``.

    What the supervisor's block raises, an ``ExceptionGroup`` when a daemon has crashed, is raised
    in the task group, and ends that. Before `start` has returned, it is raised by `start` instead.

    Under `SimClock`, somebody else drives the clock; not so that daemons come up or go.

    Args:
        supervisor: one that was not entered yet. Daemons may be added before the start and after.

    Attributes:
        supervisor: the supervisor.
        error: what its block has raised, wherever that was raised then; None while it runs, and
            after a clean end.

    Raises:
        TypeError: it is no `Supervisor`.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        check_supervisor(supervisor)
        self.supervisor = supervisor
        self.error: BaseException | None = None
        self._scope: anyio.CancelScope | None = None
        self._entered = False
        self._missing: list[str] | None = None
        self._start_error: BaseException | None = None
        self._start_over = Event("the supervisor to come up")
        self._ended = Event("the end of the supervisor")
        self._stops = 0
        self._stop_over = Pulse("the supervisor to be stopped")

    def __repr__(self) -> str:
        return f"<SupervisorHost of {self.supervisor!r}>"

    async def start(self, task_group: anyio.abc.TaskGroup) -> list[str]:
        """Enter the supervisor, and wait until every daemon that was added has come up.

        When this raises, the supervisor has ended and every daemon is gone; the task group knows
        nothing of the error. That is so when it is cancelled, too; where a daemon fails then, its
        error is raised instead of the cancellation.

        A supervisor that was told to stop before starts nothing, and ends at once.

        Args:
            task_group: where the supervisor and its daemons run.

        Returns:
            The names of those that have not come up, and were let go: by their policy, or since
            the supervisor was told to stop meanwhile.

        Raises:
            DaemonError: a daemon has failed, in ``on_start`` or later; the first one, with a note
                for every other error that came with it.
            SimulationStalled: an ``on_start`` cannot go on unless simulated time moves.
            RuntimeError: it was started before; the supervisor was entered by somebody else; the
                task group is not active, or was cancelled meanwhile.
            TypeError: this is no task group of anyio's.
        """
        if not isinstance(task_group, anyio.abc.TaskGroup):
            raise TypeError(f"start() takes a task group of anyio's, got {task_group!r}")
        if self._scope is not None:
            raise RuntimeError(
                f"{self!r} was started already: make another one, with another supervisor"
            )
        scope = anyio.CancelScope()
        task_group.start_soon(self._main, scope, name="supervisor")
        self._scope = scope
        try:
            await self._start_over.wait()
        except BaseException:
            scope.cancel()
            with anyio.CancelScope(shield=True):
                await self._ended.wait()
            if self._start_error is None:
                raise
        if self._start_error is not None:
            raise self._start_error
        if self._missing is None:
            raise RuntimeError(
                "the task group was cancelled before the daemons had come up: see what has "
                "cancelled it"
            )
        return list(self._missing)

    def stop(
        self, *, grace: float = 5.0, finalize_timeout: float = 2.0
    ) -> Coroutine[Any, Any, list[str]]:
        """Stop every daemon as `Supervisor.stop` does, and wait until the supervisor has ended.

        It raises nothing that daemons have done. A daemon that fails while it stops does not take
        from the others the time that they have. Calling it twice, or in several tasks, is fine; so
        is calling it after the end, and before the start, which is remembered: nothing will start
        then. Called from inside a daemon, it waits neither for that daemon nor for the end.

        Cancelled, it leaves the daemons told to stop, and cancels none.

        Args:
            grace: real seconds to wait before daemons are cancelled. Under `SimClock`, wait
                instead until nothing can run without time moving.
            finalize_timeout: seconds that the ``on_stop`` of a cancelled daemon may take before
                it is cut short.

        Returns:
            The names of the daemons that this call had to cancel.

        Raises:
            ValueError: a time is negative or NaN.
        """
        return self._stop(self.supervisor.stop(grace, finalize_timeout))

    def snapshot(self) -> dict[str, DaemonHealth]:
        """How every daemon is doing, by name; see `Supervisor.snapshot`."""
        return self.supervisor.snapshot()

    async def _stop(self, stopping: Coroutine[Any, Any, list[str]]) -> list[str]:
        self._stops += 1
        try:
            forced = await stopping
        finally:
            self._stops -= 1
            self._stop_over.beat()
        if self._scope is not None and not self._called_by_daemon():
            await self._ended.wait()
        return forced

    def _called_by_daemon(self) -> bool:
        """Whether who has just stopped the supervisor is a daemon of it: nobody else is left."""
        healths = self.supervisor.snapshot().values()
        return self._entered and any(health.stopped_at is None for health in healths)

    async def _main(self, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                async with self.supervisor:
                    self._entered = True
                    missing = await self.supervisor.wait_all_started()
                    # One that has come up and crashed at once has cancelled this.
                    await checkpoint()
                    self._missing = missing
                    self._start_over.set()
                    await self._wait_for_stop()
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:
            self.error = error
            if self._start_over.is_set():
                raise
            self._start_error = first_error(error)
        finally:
            self._ended.set()
            self._start_over.set()

    async def _wait_for_stop(self) -> None:
        try:
            await self.supervisor.stop_event.wait()
            while self._stops:
                await self._stop_over.next()
        except anyio.get_cancelled_exc_class():
            if any(health.state == "failed" for health in self.snapshot().values()):
                # It was cancelled by that failure. A stop that is under way goes on to its end.
                with anyio.CancelScope(shield=True):
                    while self._stops:
                        await self._stop_over.next()
            raise


def check_supervisor(supervisor: object) -> None:
    """Refuse what is no supervisor."""
    if not isinstance(supervisor, Supervisor):
        raise TypeError(f"supervisor must be a Supervisor, got {supervisor!r}")


def first_error(error: BaseException) -> BaseException:
    """The error that came first of those that a supervisor raises together; it notes the others."""
    if not isinstance(error, ExceptionGroup):
        return error
    first, *others = error.exceptions
    if not all(isinstance(one, DaemonError) for one in others or [first]):
        return error  # somebody else's group
    for one in others:
        first.add_note(f"then: {one}")
    return first
