"""One hosted daemon: its life from the first start until it is gone for good."""

from __future__ import annotations

import contextvars
import logging
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, Protocol

import anyio

from ._ambient import enter
from ._backends import Run, waiting_on
from ._clock import Clock
from ._context import Context
from ._daemon import Daemon, awaitable
from ._event import Event, Pulse
from ._exceptions import DaemonError, EndOfStream, SimulationError
from ._health import DaemonHealth, DaemonState
from ._logging import ClockLogger
from ._restart import RestartPolicy, Retries
from ._simclock import SimClock, drive_until

if TYPE_CHECKING:
    import random

OnError = Literal["shutdown", "restart", "ignore"]
Failure = tuple[str, Exception]  # the phase, and what it raised


class Closeable(Protocol):
    """What a daemon may own."""

    async def aclose(self) -> object:
        """Close it."""
        ...


class Host(Protocol):
    """What a unit needs of its host."""

    supervisor: Any
    clock: Clock
    logger: logging.Logger

    @property
    def run(self) -> Run: ...

    @property
    def stopping(self) -> bool: ...

    def failed(self, error: DaemonError) -> None: ...

    def fatal(self, error: BaseException) -> None: ...

    def gone(self, unit: Unit, instance: object) -> None: ...

    def new_rng(self, name: str) -> random.Random: ...


class Unit:
    """One hosted daemon."""

    __slots__ = (
        "_changed",
        "_failures",
        "_finalize_scope",
        "_host",
        "_idle_scope",
        "_owns",
        "_phase",
        "_previous",
        "_restart",
        "_retries",
        "_rng",
        "_scope",
        "_start_timeout",
        "_task",
        "came_up",
        "context",
        "daemon",
        "fate",
        "first_attempt_over",
        "forced",
        "gone",
        "last_failure",
        "name",
        "on_error",
        "restart_count",
        "start_error",
        "started_at",
        "state",
        "stop_event",
        "stopped_at",
    )

    def __init__(
        self,
        host: Host,
        daemon: Daemon,
        name: str,
        *,
        on_error: OnError,
        restart: RestartPolicy,
        owns: Iterable[Closeable],
        start_timeout: float | None,
        previous: Unit | None,
    ) -> None:
        self._host = host
        self.daemon: Daemon | None = daemon
        self.name: str = name
        self.on_error: OnError = on_error
        self._restart = restart
        self._retries: Retries | None = None
        self._owns = tuple(owns)
        self._start_timeout = start_timeout
        # Daemons start one at a time, in the order in which they were added.
        self._previous = previous
        self.context: contextvars.Context = contextvars.copy_context()
        self.state: DaemonState = "starting"
        self.restart_count: int = 0
        self.last_failure: Failure | None = None
        self.start_error: DaemonError | None = None
        self.started_at: float | None = None
        self.stopped_at: float | None = None
        self.stop_event: Event = Event("to be told to stop")
        self.first_attempt_over: Event = Event(f"the start of daemon {name!r}")
        self.came_up: Event = Event(f"daemon {name!r} to come up")
        self.gone: Event = Event(f"the end of daemon {name!r}")
        self.forced: bool = False
        self._changed = Pulse(f"daemon {name!r} to stop")
        self._failures: list[Failure] = []
        self._scope: anyio.CancelScope | None = None
        self._phase = "on_start"
        # Around a wait that ends when the daemon is told to stop.
        self._idle_scope: anyio.CancelScope | None = None
        self._finalize_scope: anyio.CancelScope | None = None
        self._task: Any = None
        # What a simulation has in store for this attempt.
        self.fate: Any = None
        # Made when it is asked for.
        self._rng: random.Random | None = None

    # Seen from outside

    def health(self) -> DaemonHealth:
        phase, error = self.last_failure if self.last_failure is not None else (None, None)
        uptime = 0.0
        if self.started_at is not None:
            end = self._host.clock.now() if self.stopped_at is None else self.stopped_at
            uptime = end - self.started_at
        return DaemonHealth(
            name=self.name,
            state=self.state,
            restart_count=self.restart_count,
            last_error=error,
            last_error_phase=phase,
            started_at=self.started_at,
            stopped_at=self.stopped_at,
            uptime=uptime,
            waiting_on=self.waiting_on(),
        )

    @property
    def clock(self) -> Clock:
        """The supervisor's clock."""
        return self._host.clock

    def rng(self) -> random.Random:
        """The daemon's random generator."""
        if self._rng is None:
            self._rng = self._host.new_rng(self.name)
        return self._rng

    def waiting_on(self) -> str | None:
        """What the daemon's task waits on, in words."""
        if self._task is None or self.gone.is_set():
            return None
        coroutine = self._host.run.coroutine(self._task)
        return None if coroutine.cr_running else waiting_on(coroutine)

    def signal_stop(self) -> None:
        """Tell the daemon to stop; again, wake whoever has slept through the first time."""
        self.stop_event.set()
        if self._idle_scope is not None:
            self._idle_scope.cancel()

    def cancel(self) -> None:
        """Cancel the daemon; its ``on_stop`` still runs."""
        self.forced = True
        if self._scope is not None:
            self._scope.cancel()

    async def force(self, finalize_timeout: float) -> None:
        """Cancel the daemon and wait until it is gone, giving ``on_stop`` so much time."""
        self.cancel()
        # What it does before it gets to `on_stop` is its own affair.
        await self._wait_until(self._is_finalizing, math.inf)
        await self._wait_until(self.gone.is_set, finalize_timeout)
        if self._finalize_scope is not None:
            self._finalize_scope.cancel()
        await self._wait_until(self.gone.is_set, math.inf)

    def _is_finalizing(self) -> bool:
        return self._finalize_scope is not None or self.gone.is_set()

    async def _wait_until(self, test: Callable[[], bool], timeout: float) -> None:
        """Wait for this daemon for so many seconds: simulated ones under `SimClock`."""
        clock = self._host.clock
        if test():
            return
        if isinstance(clock, SimClock):
            # It may sleep on the clock, which perhaps nobody else moves while it is waited for.
            try:
                await drive_until(clock, test, timeout)
            except SimulationError:
                if timeout == math.inf:
                    await self._wait_for(test)
            return
        with self._host.run.real_timeout(timeout):
            await self._wait_for(test)

    async def _wait_for(self, test: Callable[[], bool]) -> None:
        while not test():
            await self._changed.next()

    # The daemon's own task

    async def main(self) -> None:
        """Everything that the task of this daemon does."""
        self._task = self._host.run.current_task()
        self._scope = anyio.CancelScope(shield=True)
        if self.forced:
            self._scope.cancel()
        enter(self, self._host.clock)
        try:
            with self._scope:
                await self._wait_for_turn()
                await self._live(self._scope)
        except anyio.get_cancelled_exc_class():
            # The scope is not the cause: somebody cancelled this very task. It ends here.
            pass
        except GeneratorExit:
            raise
        except Exception as error:
            self._failures.append((self._phase, error))
        except BaseException as error:
            self._host.fatal(error)
        self._judge()
        await self._end()

    async def _wait_for_turn(self) -> None:
        previous = self._previous
        self._previous = None
        if previous is None or previous.first_attempt_over.is_set() or self.stop_event.is_set():
            return
        with anyio.CancelScope() as self._idle_scope:
            await previous.first_attempt_over.wait()
        self._idle_scope = None

    async def _live(self, scope: anyio.CancelScope) -> None:
        while not self._is_stopping():
            await self._attempt(scope)
            self.first_attempt_over.set()
            delay = self._judge()
            if delay is None:
                return
            self.state = "restarting"
            with anyio.CancelScope() as self._idle_scope:
                await self._host.clock.sleep(delay)
            self._idle_scope = None
            if not self.stop_event.is_set():
                self.restart_count += 1
                self.state = "starting"

    async def _attempt(self, scope: anyio.CancelScope) -> None:
        """Start, run and stop the daemon once; what goes wrong is put into `_failures`."""
        daemon = self.daemon
        assert daemon is not None
        host = self._host
        clock = host.clock
        if host.run.simulation is not None:
            clock = host.run.simulation.meets(self)
        ctx = Context(
            clock=clock,
            cancel_scope=scope,
            logger=self._logger(),
            name=self.name,
            supervisor=host.supervisor,
            stop_event=self.stop_event,
        )
        self._phase = "on_start"
        try:
            await self._start(daemon, ctx)
        except Exception as error:
            self._failures.append(("on_start", error))
            return
        self._phase = "run"
        self.state = "running"
        self.started_at = host.clock.now()
        self.came_up.set()
        self.first_attempt_over.set()
        try:
            await self._run(daemon, ctx)
        except Exception as error:
            self._failures.append(("run", error))
        finally:
            await self._finalize(daemon, ctx)

    async def _run(self, daemon: Daemon, ctx: Context) -> None:
        simulation = self._host.run.simulation
        scheduler = None if simulation is None else simulation.scheduler
        if scheduler is not None and scheduler.choose("start", 2):
            # Those that start after this one may get ahead of it.
            await self._host.run.checkpoint()
        await awaitable(daemon.run(ctx), f"{type(daemon).__name__}.run()")

    async def _start(self, daemon: Daemon, ctx: Context) -> None:
        call = f"{type(daemon).__name__}.on_start()"
        if self._start_timeout is None:
            await awaitable(daemon.on_start(ctx), call)
            return
        with self._host.run.real_timeout(self._start_timeout) as scope:
            await awaitable(daemon.on_start(ctx), call)
        if scope.cancelled_caught:
            raise TimeoutError(
                f"on_start has not returned within {self._start_timeout} real seconds"
            )

    async def _finalize(self, daemon: Daemon, ctx: Context) -> None:
        with anyio.CancelScope(shield=True) as scope:
            self._finalize_scope = scope
            self._phase = "on_stop"
            self._changed.beat()
            try:
                await awaitable(daemon.on_stop(ctx), f"{type(daemon).__name__}.on_stop()")
            except Exception as error:
                self._failures.append(("on_stop", error))
        self._finalize_scope = None
        if scope.cancel_called:
            self._failures.append(
                ("on_stop", TimeoutError("on_stop was cut short: its finalize_timeout was over"))
            )

    def _logger(self) -> ClockLogger:
        return ClockLogger(self._host.logger, self._host.clock, self.name)

    def _judge(self) -> float | None:
        """Apply the policy to what went wrong; seconds until the restart, or None for no more."""
        failures, self._failures = self._failures, []
        delay = None
        for phase, error in failures:
            self.last_failure = (phase, error)
            if self.on_error == "shutdown":
                self._fail(phase, error, f"daemon {self.name!r} failed in {phase}")
                continue
            self._logger().error("daemon %r failed in %s", self.name, phase, exc_info=error)
            if self.on_error == "ignore" or (phase == "run" and _is_end_of_stream(error)):
                self.state = "stopped"
            elif phase == "on_stop" or self._is_stopping():
                self.state = "failed"
            else:
                now = self._host.clock.now()
                ran_for = 0.0
                if phase == "run" and self.started_at is not None:
                    ran_for = now - self.started_at
                if self._retries is None:
                    self._retries = Retries(self._restart)
                delay = self._retries.after_failure(now, ran_for)
                if delay is None:
                    reason = f"daemon {self.name!r} failed in {phase} and is not restarted again"
                    self._fail(phase, error, f"{reason}, after {self.restart_count} restarts")
        return delay

    def _is_stopping(self) -> bool:
        return self._host.stopping or self.stop_event.is_set() or self.forced

    def _fail(self, phase: str, error: Exception, what: str) -> None:
        self.state = "failed"
        failure = DaemonError(
            f"{what}: {type(error).__name__}: {error}", daemon=self.name, phase=phase
        )
        failure.__cause__ = error
        if phase == "on_start":
            self.start_error = failure
        self._host.failed(failure)

    async def _close_owned(self) -> None:
        with anyio.CancelScope(shield=True):
            for endpoint in self._owns:
                try:
                    await endpoint.aclose()
                except anyio.get_cancelled_exc_class():
                    pass  # as in `main`; whoever waits for the end must still be told
                except Exception as error:
                    self._failures.append(("on_stop", error))

    async def _end(self) -> None:
        if self._owns:
            await self._close_owned()
        self._judge()
        if self.state != "failed":
            self.state = "stopped"
        daemon, self.daemon, self._owns, self._task = self.daemon, None, (), None
        self.stopped_at = self._host.clock.now()
        self.first_attempt_over.set()
        self._host.gone(self, daemon)
        self.gone.set()
        self.came_up.set()
        self._changed.beat()


def _is_end_of_stream(error: BaseException) -> bool:
    """Whether that is the end of a stream, also where a task group has wrapped it."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_end_of_stream(inner) for inner in error.exceptions)
    return isinstance(error, EndOfStream)
