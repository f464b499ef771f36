"""Daemons called from synchronous code: how that begins, how it ends, and what is left behind."""

import concurrent.futures
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures import wait as wait_for
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from chrono_core import (
    Context,
    DaemonError,
    SendStream,
    SimClock,
    SimulationStalled,
    Supervisor,
    open_channel,
)
from chrono_core.lowlevel import Event
from chrono_recipes._dispatcher import host_async_dispatcher

from tests.core.probes import Probe, defy, fail, failing, obey

BOOM = ValueError("boom")
PATIENCE = 30.0


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Every test ends with the threads that it began with, but for idle ones of a pool."""
    before = set(threading.enumerate())
    yield
    pools = ("AnyIO worker thread", "Trio thread")
    left = {thread for thread in threading.enumerate() if not thread.name.startswith(pools)}
    assert left <= before


class Adder:
    """Adds numbers in a daemon."""

    def __init__(self, requests: SendStream[tuple[int, "Future[int]"]]) -> None:
        self._requests = requests

    async def add(self, number: int) -> int:
        """The sum so far."""
        answer: Future[int] = Future()
        answered = Event("an answer")
        answer.add_done_callback(lambda _: answered.set())
        await self._requests.send((number, answer))
        await answered.wait()
        return answer.result()


async def set_up_adder(supervisor: Supervisor) -> Adder:
    """A daemon that adds, and crashes on a negative number."""
    requests = open_channel[tuple[int, "Future[int]"]](0, name="requests")

    async def add(ctx: Context) -> None:
        total = 0
        async for number, answer in requests.recv:
            if number < 0:
                raise BOOM
            total += number
            answer.set_result(total)

    async def close(ctx: Context) -> None:
        await ctx.stop_event.wait()
        await requests.send.aclose()

    supervisor.spawn(add, name="adder")
    supervisor.spawn(close, name="closer")
    return Adder(requests.send)


def hosting(*probes: Probe) -> Callable[[Supervisor], Any]:
    """A setup that adds daemons, and returns the supervisor."""

    async def setup(supervisor: Supervisor) -> Supervisor:
        for probe in probes:
            supervisor.add(probe)
        return supervisor

    return setup


async def for_ever() -> None:
    """Wait until cancelled."""
    await anyio.Event().wait()


# Calling


def test_calls_reach_the_daemons(anyio_backend: str) -> None:
    """The dispatcher is what setup has returned; it lives in another thread."""
    with host_async_dispatcher(set_up_adder, backend=anyio_backend) as (portal, adder):
        assert [portal.call(adder.add, n) for n in (1, 2, 3)] == [1, 3, 6]
        assert portal.call(threading.get_ident) != threading.get_ident()


def test_an_error_of_a_call_is_raised_by_the_call(anyio_backend: str) -> None:
    """It ends nothing else."""

    async def raise_it() -> None:
        raise BOOM

    with host_async_dispatcher(set_up_adder, backend=anyio_backend) as (portal, adder):
        with pytest.raises(ValueError) as caught:
            portal.call(raise_it)
        assert caught.value is BOOM
        assert portal.call(adder.add, 1) == 1


def test_daemons_are_up_before_the_block_begins(anyio_backend: str) -> None:
    """However long their ``on_start`` takes."""

    async def slowly(ctx: Context) -> None:
        await anyio.sleep(0.02)

    probes = [Probe(obey, on_start=slowly) for _ in range(3)]
    with host_async_dispatcher(hosting(*probes), backend=anyio_backend):
        assert [probe.log[0] for probe in probes] == ["start"] * 3


def test_many_threads_may_call(anyio_backend: str) -> None:
    """Each gets its own answer."""
    answers: list[int] = []
    with host_async_dispatcher(set_up_adder, backend=anyio_backend) as (portal, adder):
        # One at a time at the channel, as its end belongs to one task.
        lock = threading.Lock()

        def add() -> None:
            for _ in range(20):
                with lock:
                    answers.append(portal.call(adder.add, 1))

        threads = [threading.Thread(target=add) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert sorted(answers) == list(range(1, 81))


def test_the_caller_moves_simulated_time(anyio_backend: str) -> None:
    """Between calls, time stands still, and nothing is taken for stalled."""
    clock = SimClock()
    ticks: list[float] = []

    async def tick(ctx: Context) -> None:
        async for due in ctx.clock.every(1.0):
            ticks.append(due)

    setup = hosting(Probe(tick))
    with host_async_dispatcher(setup, clock=clock, backend=anyio_backend) as (portal, _):
        portal.call(clock.advance, 2.5)
        time.sleep(0.02)  # the event loop has nothing to do meanwhile
        portal.call(clock.advance, 1.0)
        assert ticks == [1.0, 2.0, 3.0]


def test_it_can_be_used_where_an_event_loop_runs_already(anyio_backend: str) -> None:
    """As synchronous code in a notebook is."""

    async def main() -> int:
        with host_async_dispatcher(set_up_adder, backend=anyio_backend) as (portal, adder):
            return portal.call(adder.add, 7)

    assert anyio.run(main) == 7


def test_trio_is_refused_where_trio_runs() -> None:
    """One trio cannot wait for another, and would hang."""
    pytest.importorskip("trio")

    async def main(backend: str) -> int:
        with host_async_dispatcher(set_up_adder, backend=backend) as (portal, adder):
            return portal.call(adder.add, 7)

    with pytest.raises(RuntimeError, match="cannot run trio"):
        anyio.run(main, "trio", backend="trio")
    assert anyio.run(main, "asyncio", backend="trio") == 7


# Starting


def test_an_error_of_setup_is_raised(anyio_backend: str) -> None:
    """As it is, after the daemons that setup had added are gone."""
    probe = Probe(defy)

    async def setup(supervisor: Supervisor) -> None:
        await supervisor.add(probe).wait_started()
        raise BOOM

    with pytest.raises(ValueError) as caught:
        with host_async_dispatcher(setup, backend=anyio_backend):
            raise AssertionError("the block began")
    assert caught.value is BOOM
    assert probe.log[-1] == "stopped"


def test_a_failing_on_start_is_raised(anyio_backend: str) -> None:
    """As a DaemonError, after the other daemons are gone."""
    first = Probe(defy)
    setup = hosting(first, Probe(on_start=failing(BOOM), name="bad"))
    with pytest.raises(DaemonError, match="'bad' failed in on_start") as caught:
        with host_async_dispatcher(setup, backend=anyio_backend):
            raise AssertionError("the block began")
    assert caught.value.__cause__ is BOOM
    assert first.log[-1] == "stopped"


def test_a_daemon_that_crashes_during_setup_is_raised(anyio_backend: str) -> None:
    """Setup is cancelled then."""

    async def setup(supervisor: Supervisor) -> None:
        supervisor.add(Probe(fail, name="bad"))
        await for_ever()

    with pytest.raises(DaemonError, match="'bad' failed in run"):
        with host_async_dispatcher(setup, backend=anyio_backend):
            raise AssertionError("the block began")


@pytest.mark.parametrize("ending", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_what_ends_the_program_reaches_the_caller(
    anyio_backend: str, ending: BaseException
) -> None:
    """From a daemon, at the start or later."""
    with pytest.raises(type(ending)):
        with host_async_dispatcher(hosting(Probe(on_start=failing(ending))), backend=anyio_backend):
            raise AssertionError("the block began")
    with pytest.raises(type(ending)):
        with host_async_dispatcher(hosting(Probe(obey)), backend=anyio_backend) as (portal, sup):
            with pytest.raises(CancelledError):
                portal.call(crash_and_wait, sup, ending)


async def crash_and_wait(supervisor: Supervisor, error: BaseException) -> None:
    """Make a daemon raise this, and wait for ever."""
    supervisor.add(Probe(failing(error), name="bad"))
    await for_ever()


def test_the_ready_timeout_names_who_was_not_ready(anyio_backend: str) -> None:
    """A daemon that does not come up is named, and cancelled."""
    setup = hosting(Probe(obey, name="fast"), Probe(on_start=defy, name="slow"))
    with pytest.raises(TimeoutError, match=r"within 0.02 real seconds.*\n.*'slow'") as caught:
        with host_async_dispatcher(setup, backend=anyio_backend, ready_timeout=0.02):
            raise AssertionError("the block began")
    assert "'fast'" not in str(caught.value)
    assert "setup" not in str(caught.value)


def test_the_ready_timeout_covers_setup(anyio_backend: str) -> None:
    """A setup that does not return is cancelled."""
    cancelled = []

    async def setup(supervisor: Supervisor) -> None:
        try:
            await for_ever()
        except anyio.get_cancelled_exc_class():
            cancelled.append(True)
            raise

    with pytest.raises(TimeoutError, match="setup has not returned"):
        with host_async_dispatcher(setup, backend=anyio_backend, ready_timeout=0.02):
            raise AssertionError("the block began")
    assert cancelled == [True]


def test_errors_after_the_ready_timeout_are_logged(
    anyio_backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The TimeoutError is raised, and the others are not lost."""
    setup = hosting(Probe(defy, on_stop=fail, name="untidy"), Probe(on_start=defy))
    with pytest.raises(TimeoutError, match="not ready"):
        with host_async_dispatcher(setup, backend=anyio_backend, ready_timeout=0.02):
            raise AssertionError("the block began")
    assert "daemons have failed: 'untidy'" in caplog.text


def test_a_timeout_of_setups_own_is_raised_as_it_is(anyio_backend: str) -> None:
    """It is not taken for the ready_timeout."""

    async def setup(supervisor: Supervisor) -> None:
        raise TimeoutError("my own")

    with pytest.raises(TimeoutError, match=r"^my own$"):
        with host_async_dispatcher(setup, backend=anyio_backend):
            raise AssertionError("the block began")


def test_a_start_that_needs_simulated_time_is_refused(anyio_backend: str) -> None:
    """Nobody could move it before the block begins."""

    async def sleep(ctx: Context) -> None:
        await ctx.clock.sleep(1)

    setup = hosting(Probe(on_start=sleep))
    with pytest.raises(SimulationStalled):
        with host_async_dispatcher(setup, clock=SimClock(), backend=anyio_backend):
            raise AssertionError("the block began")


def test_an_interrupt_during_the_start_leaves_nothing(
    anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What had started is cancelled before the ``KeyboardInterrupt`` gets out."""
    probe = Probe(defy)
    running = threading.Event()

    async def setup(supervisor: Supervisor) -> None:
        await supervisor.add(probe).wait_started()
        running.set()
        await for_ever()

    def interrupted(*_: object) -> None:
        assert running.wait(PATIENCE)
        raise KeyboardInterrupt

    monkeypatch.setattr(concurrent.futures, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        with host_async_dispatcher(setup, backend=anyio_backend):
            raise AssertionError("the block began")
    assert probe.log[-1] == "stopped"


def test_bad_arguments_are_refused() -> None:
    """Before a thread is started, or else by what runs in it."""

    def setup(supervisor: Supervisor) -> Any:
        return 7

    def refused(error: type[Exception], match: str, *args: Any, **options: Any) -> None:
        with pytest.raises(error, match=match):
            with host_async_dispatcher(*args, **options):
                raise AssertionError("the block began")

    refused(TypeError, "setup must be an async function of a supervisor, got 7", 7)
    refused(TypeError, "setup must be an async function, but returned 7", setup)
    for timeout in (0, -1.0):
        refused(ValueError, "must be positive", set_up_adder, ready_timeout=timeout)
    refused(ValueError, "ready_timeout", set_up_adder, ready_timeout=float("nan"))
    refused(LookupError, "nonesuch", set_up_adder, backend="nonesuch")


def test_ready_timeout_may_be_infinite(anyio_backend: str) -> None:
    """Then it waits as long as it takes."""
    with host_async_dispatcher(set_up_adder, backend=anyio_backend, ready_timeout=float("inf")) as (
        portal,
        adder,
    ):
        assert portal.call(adder.add, 1) == 1


# Ending


def test_the_end_stops_daemons_gracefully(anyio_backend: str) -> None:
    """A daemon that obeys finishes what it does."""

    async def flush(ctx: Context) -> None:
        await ctx.stop_event.wait()
        await anyio.sleep(0.02)
        flushed.append(True)

    flushed: list[bool] = []
    with host_async_dispatcher(hosting(Probe(flush)), backend=anyio_backend):
        pass
    assert flushed == [True]


def test_an_error_of_the_block_passes_through(anyio_backend: str) -> None:
    """The daemons are stopped gracefully all the same."""
    probe = Probe(obey)
    with pytest.raises(ValueError) as caught:
        with host_async_dispatcher(hosting(probe), backend=anyio_backend):
            raise BOOM
    assert caught.value is BOOM
    assert probe.log == ["start", "run", "stop", "stopped"]


def test_calls_that_wait_at_the_end_may_finish_while_daemons_stop(anyio_backend: str) -> None:
    """What is still waiting when the daemons are gone is cancelled."""
    finishing, hanging = [], []

    async def setup(supervisor: Supervisor) -> Event:
        finished = Event("the daemon to finish")

        async def finish(ctx: Context) -> None:
            await ctx.stop_event.wait()
            finished.set()
            await anyio.sleep(0.02)

        supervisor.spawn(finish)
        return finished

    with host_async_dispatcher(setup, backend=anyio_backend) as (portal, finished):
        finishing.append(portal.start_task_soon(finished.wait))
        hanging.append(portal.start_task_soon(for_ever))
    assert finishing[0].result(PATIENCE) is None
    with pytest.raises(CancelledError):
        hanging[0].result(PATIENCE)
    with pytest.raises(RuntimeError, match="not running"):
        portal.call(for_ever)


def test_a_failing_on_stop_is_raised_at_the_end(anyio_backend: str) -> None:
    """As the block of a supervisor does."""
    with pytest.raises(ExceptionGroup, match="'untidy'"):
        with host_async_dispatcher(
            hosting(Probe(obey, on_stop=fail, name="untidy")), backend=anyio_backend
        ):
            pass


def test_an_interrupt_in_the_block_passes_through_alone(
    anyio_backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What daemons have done besides is logged."""
    setup = hosting(Probe(obey, on_stop=fail, name="untidy"))
    with pytest.raises(KeyboardInterrupt):
        with host_async_dispatcher(setup, backend=anyio_backend):
            raise KeyboardInterrupt
    assert "daemons have failed: 'untidy'" in caplog.text


# Crashes


def test_a_waiting_call_ends_when_a_daemon_crashes(anyio_backend: str) -> None:
    """It is cancelled, and the end of the block raises the error."""
    with pytest.raises(ExceptionGroup) as caught:
        with host_async_dispatcher(set_up_adder, backend=anyio_backend) as (portal, adder):
            portal.call(adder.add, -1)  # which is never answered
    (error,) = caught.value.exceptions
    assert isinstance(error, DaemonError)
    assert error.__cause__ is BOOM


def test_calls_after_a_crash_fail_at_once(anyio_backend: str) -> None:
    """And the end of the block raises the error, though nothing in the block has raised."""
    with pytest.raises(ExceptionGroup, match="'adder'"):
        with host_async_dispatcher(set_up_adder, backend=anyio_backend) as (portal, adder):
            waiting = portal.start_task_soon(for_ever)
            with pytest.raises(CancelledError):
                portal.call(adder.add, -1)
            assert wait_for([waiting], PATIENCE).done
            # The portal closes as soon as every call is gone.
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline:
                try:
                    portal.call(len, "")
                except (RuntimeError, CancelledError):
                    break
            else:
                raise AssertionError("it goes on")


def test_a_crash_nobody_calls_about_is_raised_at_the_end(anyio_backend: str) -> None:
    """Synchronous code that does something else learns of it when it leaves the block."""
    crashed = threading.Event()

    async def crash(ctx: Context) -> None:
        crashed.set()
        raise BOOM

    async def setup(supervisor: Supervisor) -> Supervisor:
        return supervisor

    with pytest.raises(ExceptionGroup, match="'bad'"):
        with host_async_dispatcher(setup, backend=anyio_backend) as (portal, sup):
            portal.start_task_soon(sup.add, Probe(crash, name="bad"))
            assert crashed.wait(PATIENCE)


def test_an_error_of_the_block_and_a_crash_are_raised_together(anyio_backend: str) -> None:
    """What the daemons have done comes first."""
    mine = KeyError("mine")
    with pytest.raises(ExceptionGroup, match="'adder'") as caught:
        with host_async_dispatcher(set_up_adder, backend=anyio_backend) as (portal, adder):
            with pytest.raises(CancelledError):
                portal.call(adder.add, -1)
            raise mine
    first, second = caught.value.exceptions
    assert isinstance(first, DaemonError)
    assert second is mine


def test_a_crash_while_stopping_is_raised_and_leaves_the_others_their_time(
    anyio_backend: str,
) -> None:
    """As in the block of a supervisor."""

    async def flush(ctx: Context) -> None:
        await ctx.stop_event.wait()
        await anyio.sleep(0.02)
        flushed.append(True)

    async def crash(ctx: Context) -> None:
        await ctx.stop_event.wait()
        raise BOOM

    flushed: list[bool] = []
    setup = hosting(Probe(flush), Probe(crash, name="bad"))
    with pytest.raises(ExceptionGroup, match="'bad'"):
        with host_async_dispatcher(setup, backend=anyio_backend):
            pass
    assert flushed == [True]


def test_a_daemon_may_stop_everything(anyio_backend: str) -> None:
    """Calls that wait are cancelled once the daemons are gone; nothing has failed."""

    async def stop(ctx: Context) -> None:
        await ctx.supervisor.stop()

    with host_async_dispatcher(hosting(), backend=anyio_backend) as (portal, sup):
        waiting = portal.start_task_soon(for_ever)
        portal.call(sup.add, Probe(stop))
        with pytest.raises(CancelledError):
            waiting.result(PATIENCE)


def test_a_daemons_worker_thread_may_call(anyio_backend: str) -> None:
    """A call from a thread that a daemon waits for ends when another daemon crashes."""
    portals: list[Any] = []
    called = threading.Event()

    def call() -> None:
        called.set()
        portals[0].call(for_ever)

    async def work(ctx: Context) -> None:
        try:
            await anyio.to_thread.run_sync(call)
        except (CancelledError, RuntimeError):  # it waits, or comes too late
            log.append("ended")

    log: list[str] = []
    with pytest.raises(ExceptionGroup, match="'bad'"):
        with host_async_dispatcher(hosting(), backend=anyio_backend) as (portal, sup):
            portals.append(portal)
            portal.call(sup.spawn, work)
            assert called.wait(PATIENCE)
            with pytest.raises(CancelledError):
                portal.call(crash_and_wait, sup, BOOM)
    assert log == ["ended"]


def test_an_interrupt_while_it_stops_cancels_the_daemons(
    anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is in a hurry need not wait for the grace to be over."""
    interrupts = [KeyboardInterrupt()]
    result = Future.result

    def interrupted(future: "Future[Any]", timeout: float | None = None) -> Any:
        if stopping and interrupts:
            raise interrupts.pop()
        return result(future, timeout)

    probe = Probe(defy)
    stopping: list[bool] = []
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        with host_async_dispatcher(hosting(probe), backend=anyio_backend) as (_, _):
            monkeypatch.setattr(Future, "result", interrupted)
            stopping.append(True)
    assert probe.log[-1] == "stopped"
    assert time.monotonic() - began < 4
