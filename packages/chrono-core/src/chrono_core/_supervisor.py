"""Hosts daemons: starts them in order, watches over them, and stops them in reverse."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import anyio

from ._backends import current_run
from ._clock import Clock, WallClock
from ._daemon import CallableDaemon, Daemon, Factory, default_name
from ._event import StopEvent
from ._exceptions import DaemonError, SimulationStalled
from ._health import DaemonHealth
from ._host import Host
from ._logging import DEFAULT, ClockLogger
from ._restart import RestartPolicy
from ._simclock import SimClock, is_held
from ._time import number
from ._unit import Closeable, OnError, Unit

if TYPE_CHECKING:
    import random

# Seconds.
GRACE = 5.0
FINALIZE_TIMEOUT = 2.0

POLICIES = ("shutdown", "restart", "ignore")


class DaemonHandle:
    """One daemon, for whoever added it."""

    __slots__ = ("_supervisor", "_unit")

    def __init__(self, supervisor: Supervisor, unit: Unit) -> None:
        self._supervisor = supervisor
        self._unit = unit

    def __repr__(self) -> str:
        return f"<daemon {self._unit.name!r}, {self._unit.state}>"

    @property
    def name(self) -> str:
        """The daemon's name."""
        return self._unit.name

    @property
    def health(self) -> DaemonHealth:
        """How the daemon is doing now."""
        return self._unit.health()

    def stop(
        self, grace: float = GRACE, finalize_timeout: float = FINALIZE_TIMEOUT
    ) -> Coroutine[Any, Any, None]:
        """Stop this daemon alone, and wait until it is gone; see `Supervisor.stop`.

        Called from inside the daemon itself, only tell it to stop.

        Raises:
            ValueError: a time is negative or NaN.
        """
        _check_times(grace, finalize_timeout)
        return self._supervisor._stop_one(self._unit, grace, finalize_timeout)

    async def wait_started(self) -> None:
        """Wait until the daemon has come up.

        Raises:
            DaemonError: it ended without ever having come up.
            SimulationStalled: it cannot come up unless simulated time moves.
        """
        unit = self._unit
        await self._supervisor._wait_up(unit)
        if unit.started_at is None:
            raise unit.start_error or DaemonError(
                f"daemon {unit.name!r} ended before it had come up",
                daemon=unit.name,
                phase="on_start",
            )

    async def wait_stopped(self) -> None:
        """Wait until the daemon is gone for good, its ``on_stop`` and ``owns`` included."""
        await self._unit.gone.wait()


class Supervisor:
    """Hosts daemons on one clock; use it as ``async with Supervisor(...) as supervisor:``.

    Daemons that were added before it is entered start on entry, later ones at once; one at a time,
    in the order in which they were added. They stop in reverse.

    The end of the block waits until every daemon is gone. When the block raises or is cancelled,
    every daemon is cancelled, in reverse order, one after another, each with its ``on_stop``. An
    exception of the block itself passes through as it is, unless daemons have failed too: those
    errors are raised together in an ``ExceptionGroup``. ``KeyboardInterrupt`` and ``SystemExit`` of
    a daemon pass through alone.

    Args:
        clock: the daemons' time; real where not given.
        on_error: what an exception of a daemon does: ``"shutdown"`` stops everything and raises
            `DaemonError` in an ``ExceptionGroup`` from the block; ``"restart"`` starts the daemon
            again, as ``restart`` says; ``"ignore"`` logs it and lets the daemon go.
        restart: how to start again; `RestartPolicy` with its defaults where not given.
        logger: where to log; the logger named ``chrono_core`` where not given.
        on_exit: what the end of the block does while daemons run: ``"wait"`` for them, or
            ``"stop"`` them.

    Attributes:
        clock: the daemons' time.
        logger: stamps every record with ``sim_time``.

    Raises:
        ValueError: a policy is misspelt.
        TypeError: ``restart`` is no `RestartPolicy`, or ``clock`` no clock.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        on_error: OnError = "shutdown",
        restart: RestartPolicy | None = None,
        logger: logging.Logger | None = None,
        on_exit: Literal["wait", "stop"] = "wait",
    ) -> None:
        if on_exit not in ("wait", "stop"):
            raise ValueError(f'on_exit must be "wait" or "stop", got {on_exit!r}')
        self.clock: Clock = WallClock() if clock is None else _clock(clock)
        raw = logging.getLogger(DEFAULT) if logger is None else logger
        self.logger: logging.LoggerAdapter[logging.Logger] = ClockLogger(raw, self.clock)
        self._on_error = _policy(on_error)
        self._restart = RestartPolicy() if restart is None else _restart(restart)
        self._on_exit = on_exit
        self._state: Literal["new", "open", "closed"] = "new"
        self._host = Host(self, self.clock, raw)
        self._tasks: Any = None
        self._generated: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Supervisor, {self._state}, {len(self._host.units)} daemons>"

    @property
    def stop_event(self) -> StopEvent:
        """Set when the supervisor is told to stop."""
        return self._host.stop_event

    # Adding

    def add(
        self,
        daemon: Daemon,
        *,
        name: str | None = None,
        on_error: OnError | None = None,
        restart: RestartPolicy | None = None,
        owns: Iterable[Closeable] = (),
        start_timeout: float | None = None,
    ) -> DaemonHandle:
        """Host a daemon, which sees the context variables of the caller.

        Args:
            daemon: the daemon; each instance is hosted once at a time.
            name: its name, else the daemon's own, else one that is made up.
            on_error: its own policy, in the place of the supervisor's.
            restart: its own way to be started again, in the place of the supervisor's.
            owns: what to close, by ``aclose``, when the daemon is gone for good, but not between
                restarts: so those who receive from it see the end.
            start_timeout: after so many real seconds, ``on_start`` has failed.

        Raises:
            TypeError: that is no daemon.
            ValueError: the name is taken by a living daemon, the instance is hosted already, or a
                policy is misspelt.
            RuntimeError: the supervisor is stopping, or has ended.
        """
        _check_daemon(daemon)
        host = self._host
        if self._state == "closed" or host.stopping:
            closed = "has ended: add daemons before its block ends"
            state = closed if self._state == "closed" else "is stopping"
            raise RuntimeError(
                f"daemon {daemon.name or default_name(daemon)!r} cannot be added: the supervisor "
                f"{state}"
            )
        if self._state == "open" and not host.run.is_current():
            raise RuntimeError(
                f"daemon {daemon.name or default_name(daemon)!r} cannot be added from another "
                "thread: call add() in the event loop, by anyio.from_thread.run_sync"
            )
        if id(daemon) in host.instances:
            name = daemon.name or default_name(daemon)
            raise ValueError(f"daemon {name!r} is hosted already: add another instance")
        if start_timeout is not None and number(start_timeout, "start_timeout") <= 0:
            raise ValueError(f"start_timeout must be positive, got {start_timeout!r}")
        if not isinstance(owns, Iterable):
            raise TypeError(f"owns takes a list of ends, such as [channel.send], got {owns!r}")
        owned = tuple(owns)
        for endpoint in owned:
            if not callable(getattr(endpoint, "aclose", None)):
                raise TypeError(
                    "owns takes ends of channels, and what else can be closed by aclose(), got "
                    f"{endpoint!r}"
                )
        unit = Unit(
            host,
            daemon,
            self._name(daemon, name),
            on_error=self._on_error if on_error is None else _policy(on_error),
            restart=self._restart if restart is None else _restart(restart),
            owns=owned,
            start_timeout=start_timeout,
            previous=host.last_added,
        )
        host.add(unit)
        if self._state == "open":
            self._start(unit)
        return DaemonHandle(self, unit)

    def spawn(
        self,
        fn: Callable[..., Awaitable[object]],
        *args: object,
        name: str | None = None,
        **kw: object,
    ) -> DaemonHandle:
        """Host ``fn(ctx, *args, **kw)`` as a daemon; any callable that returns an awaitable.

        Raises:
            TypeError: ``fn`` cannot be called.
            ValueError: the name is taken by a living daemon.
            RuntimeError: the supervisor is stopping, or has ended.
        """
        if isinstance(fn, Factory):
            raise TypeError(f"{fn!r} makes daemons: call it and pass the result to add()")
        if isinstance(fn, Daemon):
            raise TypeError(f"{fn!r} is a daemon already: pass it to add()")
        _check_no_coroutine(fn, "spawn")
        if not callable(fn):
            raise TypeError(f"spawn() takes what can be called with a Context, got {fn!r}")
        return self.add(CallableDaemon(fn, args, kw), name=name)

    def _name(self, daemon: Daemon, name: str | None) -> str:
        wanted = daemon.name if name is None else name
        if not isinstance(wanted, str):
            raise TypeError(f"the name of a daemon must be a string, got {wanted!r}")
        if wanted:
            if wanted in self._host.units:
                raise ValueError(
                    f"a living daemon is named {wanted!r} already: give this one another name, by "
                    "add(..., name=...)"
                )
            return wanted
        base = wanted = default_name(daemon)
        while wanted in self._host.units:
            number = self._generated[base] = self._generated.get(base, 1) + 1
            wanted = f"{base}-{number}"
        return wanted

    def _start(self, unit: Unit) -> None:
        unit.context.run(partial(self._tasks.start_soon, unit.main, name=unit.name))

    # Stopping

    def signal_stop(self) -> None:
        """Tell every daemon to stop, and return at once.

        Safe from a signal handler and from another thread. Before entry it is remembered: nothing
        will start. A daemon that waits to be restarted ends.
        """
        run = self._host.run if self._state != "new" else None
        if run is None or run.in_task():
            self._signal_stop()
        if run is not None and run.alive():
            # A signal handler may have interrupted a task just as that was about to park.
            run.call_threadsafe(self._signal_stop)

    def _signal_stop(self) -> None:
        host = self._host
        host.stop_event.set()
        for unit in reversed(list(host.units.values())):
            unit.signal_stop()

    def stop(
        self, grace: float = GRACE, finalize_timeout: float = FINALIZE_TIMEOUT
    ) -> Coroutine[Any, Any, list[str]]:
        """Tell every daemon to stop, wait, cancel those that have not, and wait until all are gone.

        They are cancelled in the reverse order of their start, one after another. Called from
        inside a daemon, that daemon is not waited for. Calling it twice, or in several tasks, is
        fine; so is calling it before entry, which is remembered, and after the block has ended.

        Args:
            grace: real seconds to wait before daemons are cancelled. Under `SimClock`, wait
                instead until nothing can run without time moving; for worker threads, so many
                real seconds at most.
            finalize_timeout: seconds that the ``on_stop`` of a cancelled daemon may take before
                it is cut short, which is an error of that daemon: real ones; under `SimClock`,
                simulated ones, for which the clock is moved where nobody else drives it.

        Returns:
            The names of the daemons that had to be cancelled.

        Raises:
            ValueError: a time is negative or NaN.
        """
        _check_times(grace, finalize_timeout)
        return self._stop_all(grace, finalize_timeout)

    async def _stop_all(self, grace: float, finalize_timeout: float) -> list[str]:
        self.signal_stop()
        if self._state != "open":
            return []
        host = self._host
        me = host.caller()
        in_body = host.run.current_task() is host.body_task
        host.body_stops += in_body
        if me is not None:
            host.stoppers.append(me)
        try:
            if grace > 0:
                await self._wait_in_grace(grace, by_daemon=me is not None)
            return await _force(host.waited_for(by_daemon=me is not None), finalize_timeout)
        finally:
            host.body_stops -= in_body
            if me is not None:
                host.stoppers.remove(me)

    async def _wait_in_grace(self, grace: float, *, by_daemon: bool) -> None:
        host = self._host
        if host.simulated:
            await self._settle(grace)
            return
        with host.run.real_timeout(grace):
            while len(host.units) > (len(set(host.stoppers)) if by_daemon else 0):
                await host.changed.next()

    async def _settle(self, grace: float) -> None:
        """Wait until nothing can run; for worker threads, which are real, no longer than grace."""
        run = self._host.run
        with run.real_timeout(grace if run.threads_in_flight() else math.inf):
            await self._host.agenda.settle()

    async def _stop_one(self, unit: Unit, grace: float, finalize_timeout: float) -> None:
        host = self._host
        unit.signal_stop()
        if self._state != "open" or host.caller() is unit:
            return
        if grace > 0 and host.simulated:
            await self._settle(grace)
        elif grace > 0:
            with host.run.real_timeout(grace):
                await unit.gone.wait()
        await _force([unit], finalize_timeout)

    # Watching

    async def wait_all_started(self) -> list[str]:
        """Wait until every daemon that is known now has come up, or was let go.

        Returns:
            The names of those that have not come up, and were let go; of those that ended before
            the call, the last 128.

        Raises:
            DaemonError: one has failed to come up, and its policy does not let that go.
            SimulationStalled: an ``on_start`` cannot go on unless simulated time moves.
        """
        host = self._host
        units = list(host.units.values())
        missing = dict.fromkeys(host.never_up)
        for unit in units:
            await self._wait_up(unit)
            if unit.start_error is not None:
                raise unit.start_error
            if unit.started_at is None:
                missing[unit.name] = None
        return list(missing)

    async def _wait_up(self, unit: Unit) -> None:
        host = self._host
        if unit.came_up.is_set():
            return
        host.run  # noqa: B018 - refuses who has not entered the supervisor
        if not host.simulated:
            await unit.came_up.wait()
            return
        with _UnlessStalled(self._host) as scope:
            await unit.came_up.wait()
        if scope.cancelled_caught and not unit.came_up.is_set():
            raise SimulationStalled(
                f"daemon {unit.name!r} has not come up, and cannot unless simulated time moves: "
                f"it waits on {unit.waiting_on()}; drive the clock from another task meanwhile"
            )

    def snapshot(self) -> dict[str, DaemonHealth]:
        """How every daemon is doing, by name: the last 128 that have ended, and all that live."""
        return self._host.snapshot()

    def _rng_of(self, name: str) -> random.Random:
        return self._host.units[name].rng()

    # The block

    async def __aenter__(self) -> Supervisor:
        if self._state != "new":
            raise RuntimeError("a supervisor is entered once: make another one")
        host = self._host
        host.begin(current_run())
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        assert host.body is not None
        host.body.__enter__()
        self._state = "open"
        for unit in host.units.values():
            self._start(unit)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> bool | None:
        host = self._host
        assert host.body is not None
        ending = exc
        try:
            if host.body.__exit__(exc_type, exc, tb):
                ending = None
        except BaseException as error:  # on trio: what is left of a group, less its cancellations
            ending = error
        host.body_ended = True
        if ending is None and not host.broken:
            try:
                await self._wait_for_the_end()
            except BaseException as error:
                ending = error
        await self._clear()
        self._state = "closed"
        host.end()
        await self._leave_task_group()
        self._raise_errors(ending)
        if ending is not None and ending is not exc:
            raise ending
        return ending is None

    async def _wait_for_the_end(self) -> None:
        """The block has ended well: wait until every daemon is gone, or one has failed."""
        host = self._host
        if self._on_exit == "stop":
            await self.stop()
        while host.units and not host.broken:
            if not host.simulated:
                await host.changed.next()
                continue
            with _UnlessStalled(host) as scope:
                await host.changed.next()
            if scope.cancelled_caught and host.units and not host.broken:
                raise SimulationStalled(f"{_why_stalled(host.clock)}{host.agenda.describe()}")

    async def _clear(self) -> None:
        """Cancel whoever is left, in reverse order, one after another."""
        units = self._host.units
        while units:
            unit = next(reversed(units.values()))
            try:
                with anyio.CancelScope(shield=True):
                    await unit.force(FINALIZE_TIMEOUT)
            except anyio.get_cancelled_exc_class():
                # Not by a scope: somebody cancels this very task once more, and is in a hurry.
                for unit in reversed(list(units.values())):
                    unit.cancel()

    async def _leave_task_group(self) -> None:
        # Every daemon is gone. In one more round their tasks end, so that the task group has
        # nothing to wait for, and takes as long on one backend as on the other.
        with anyio.CancelScope(shield=True):
            with suppress(anyio.get_cancelled_exc_class()):
                await self._host.run.checkpoint()
        await self._tasks.__aexit__(None, None, None)

    def _raise_errors(self, ending: BaseException | None) -> None:
        """Raise what the daemons have done, and with it what the block has."""
        host = self._host
        if host.fatal_error is not None:
            raise host.fatal_error
        if isinstance(ending, (KeyboardInterrupt, SystemExit)):
            for error in host.errors:
                self.logger.error("%s", error, exc_info=error)
        elif host.errors:
            errors: list[Exception] = list(host.errors)
            if isinstance(ending, Exception) and ending not in errors:
                errors.insert(0, ending)
            names = ", ".join(repr(error.daemon) for error in host.errors)
            raise ExceptionGroup(f"daemons have failed: {names}", errors) from None


class _UnlessStalled:
    """A block that is cancelled when nothing can ever happen again."""

    __slots__ = ("_agenda", "_clock", "_scope", "_watch")

    def __init__(self, host: Host) -> None:
        assert isinstance(host.clock, SimClock)
        self._clock = host.clock
        self._agenda = host.agenda
        self._scope = anyio.CancelScope()

    def __enter__(self) -> anyio.CancelScope:
        self._scope.__enter__()
        self._watch = self._agenda.watch_stall(self._scope.cancel, partial(is_held, self._clock))
        return self._scope

    def __exit__(self, *raised: Any) -> bool | None:
        self._agenda.unwatch_stall(self._watch)
        return self._scope.__exit__(*raised)


async def _force(units: list[Unit], finalize_timeout: float) -> list[str]:
    """Cancel who is left, in reverse order, one after another; the names of those."""
    forced = []
    for unit in reversed(units):
        if not unit.gone.is_set():
            forced.append(unit.name)
            await unit.force(finalize_timeout)
    return forced


def _check_times(grace: float, finalize_timeout: float) -> None:
    for name, value in (("grace", grace), ("finalize_timeout", finalize_timeout)):
        if number(value, name) < 0:
            raise ValueError(f"{name} must not be negative, got {value!r}")


def _why_stalled(clock: Clock) -> str:
    ended = "the block of the supervisor has ended, and its daemons"
    if isinstance(clock, SimClock) and clock.next_deadline is None:
        return (
            f"{ended} wait for what nobody can bring any more: close the channels from which they "
            'receive (see owns), or stop the daemons, by on_exit="stop"'
        )
    return (
        f"{ended} cannot go on unless simulated time moves: drive the clock inside the block, or "
        'stop the daemons, by on_exit="stop"'
    )


def _clock(clock: Clock) -> Clock:
    if isinstance(clock, type):
        raise TypeError(f"clock must be a Clock, not a class: make one, {clock.__name__}()")
    if not hasattr(clock, "now"):
        raise TypeError(f"clock must be a Clock, such as SimClock(), got {clock!r}")
    return clock


def _check_no_coroutine(function: object, call: str) -> None:
    if inspect.iscoroutine(function):
        name = function.__qualname__
        function.close()
        raise TypeError(
            f"{call}() got a coroutine of {name}: pass the function and its arguments to spawn(), "
            "uncalled, or call it there, as in spawn(lambda ctx: ...)"
        )


def _check_daemon(daemon: object) -> None:
    if isinstance(daemon, Daemon):
        return
    _check_no_coroutine(daemon, "add")
    if isinstance(daemon, Factory):
        raise TypeError(f"{daemon!r} makes daemons: call it with its arguments, and add the result")
    if isinstance(daemon, type):
        raise TypeError(f"{daemon.__qualname__} is a class: add an instance of it")
    if callable(daemon):
        name = getattr(daemon, "__qualname__", repr(daemon))
        raise TypeError(f"{name} is no daemon: decorate it with @daemon, or use spawn()")
    raise TypeError(f"add() takes a Daemon, got {daemon!r}")


def _policy(on_error: OnError) -> OnError:
    if on_error not in POLICIES:
        raise ValueError(f'on_error must be "shutdown", "restart" or "ignore", got {on_error!r}')
    return on_error


def _restart(restart: RestartPolicy) -> RestartPolicy:
    if not isinstance(restart, RestartPolicy):
        raise TypeError(f"restart must be a RestartPolicy, got {restart!r}")
    return restart
