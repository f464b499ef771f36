"""Running until a signal comes: real signals, sent by the process to itself or by another."""

import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest
from chrono_core import Context, SimClock, SimulationStalled, Supervisor
from chrono_recipes import _run_until_signalled
from chrono_recipes._run_until_signalled import run_until_signalled

from tests.core.probes import Hook, Probe, defy, failing, obey

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are different there")

BOOM = ValueError("boom")
SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def handlers_are_put_back() -> Any:
    """Every test ends with the signal handlers that it began with."""
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


def send(*numbers: signal.Signals, then: Hook = obey) -> Hook:
    """A hook that sends these signals to its own process, and goes on."""

    async def hook(ctx: Context) -> None:
        for number in numbers:
            os.kill(os.getpid(), number)
        await then(ctx)

    return hook


async def receive(ctx: Context) -> None:
    """Wait until the supervisor was told to stop, and send SIGTERM; defy it."""
    await ctx.stop_event.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await defy(ctx)


def test_it_ends_with_the_daemons(anyio_backend: str) -> None:
    """Without any signal, it returns None."""
    sup = Supervisor()
    probe = Probe()
    sup.add(probe)
    assert anyio.run(run_until_signalled, sup, backend=anyio_backend) is None
    assert probe.log[-1] == "stopped"


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_stops_gracefully(anyio_backend: str, number: signal.Signals) -> None:
    """A daemon that obeys has its time; the signal is returned."""
    flushed: list[bool] = []

    async def flush(ctx: Context) -> None:
        await ctx.stop_event.wait()
        await anyio.sleep(0.02)
        flushed.append(True)

    sup = Supervisor()
    sup.add(Probe(flush))
    sup.add(Probe(send(number)))
    assert anyio.run(run_until_signalled, sup, backend=anyio_backend) is number
    assert flushed == [True]


def test_a_second_signal_cancels_at_once(anyio_backend: str) -> None:
    """Whoever defies the first is cancelled, with its ``on_stop``; the first is returned."""
    sup = Supervisor()
    defiant = Probe(receive)
    sup.add(defiant)
    sup.add(Probe(send(signal.SIGINT)))

    async def main() -> signal.Signals | None:
        return await run_until_signalled(sup, grace=math.inf)

    assert anyio.run(main, backend=anyio_backend) is signal.SIGINT
    assert defiant.log == ["start", "run", "stop", "stopped"]


def test_the_grace_is_over_at_some_time(anyio_backend: str) -> None:
    """Without a second signal, daemons that defy the first are cancelled then."""
    sup = Supervisor()
    defiant = Probe(send(signal.SIGTERM, then=defy))
    sup.add(defiant)

    async def main() -> signal.Signals | None:
        return await run_until_signalled(sup, grace=0.02)

    assert anyio.run(main, backend=anyio_backend) is signal.SIGTERM
    assert defiant.log[-1] == "stopped"


def test_on_stop_is_cut_short_after_a_second_signal(anyio_backend: str) -> None:
    """It has the ``finalize_timeout``, and that it was cut short is its error."""
    sup = Supervisor()
    sup.add(Probe(receive, on_stop=defy, name="slow"))
    sup.add(Probe(send(signal.SIGINT)))

    async def main() -> None:
        await run_until_signalled(sup, grace=math.inf, finalize_timeout=0.02)

    with pytest.raises(ExceptionGroup, match="'slow'"):
        anyio.run(main, backend=anyio_backend)


def test_a_signal_while_daemons_start_ends_the_start(anyio_backend: str) -> None:
    """Who has come up is stopped, who has not is cancelled, and the others never start."""
    sup = Supervisor()
    up, after = Probe(obey), Probe(obey)
    sup.add(up)
    sup.add(Probe(on_start=send(signal.SIGTERM, then=defy)))
    sup.add(after)

    async def main() -> signal.Signals | None:
        return await run_until_signalled(sup, grace=0.02)

    assert anyio.run(main, backend=anyio_backend) is signal.SIGTERM
    assert up.log[-1] == "stopped"
    assert after.log == []


def test_a_crash_is_raised_as_by_the_supervisor(anyio_backend: str) -> None:
    """Not wrapped in anything else."""
    sup = Supervisor()
    other = Probe(defy)
    sup.add(other)
    sup.add(Probe(failing(BOOM), name="bad"))
    with pytest.raises(ExceptionGroup, match="daemons have failed: 'bad'") as caught:
        anyio.run(run_until_signalled, sup, backend=anyio_backend)
    assert [error.__cause__ for error in caught.value.exceptions] == [BOOM]
    assert other.log[-1] == "stopped"


def test_a_crash_while_stopping_is_raised(anyio_backend: str) -> None:
    """The signal is no excuse; and whoever defies it is cancelled then."""

    async def crash(ctx: Context) -> None:
        await ctx.stop_event.wait()
        raise BOOM

    sup = Supervisor()
    sup.add(Probe(defy))
    sup.add(Probe(crash, name="bad"))
    sup.add(Probe(send(signal.SIGINT)))

    async def main() -> None:
        await run_until_signalled(sup, grace=math.inf)

    with pytest.raises(ExceptionGroup, match="'bad'"):
        anyio.run(main, backend=anyio_backend)


def test_what_ends_the_program_passes_through(anyio_backend: str) -> None:
    """A daemon's ``SystemExit`` is raised alone."""
    sup = Supervisor()
    sup.add(Probe(failing(SystemExit(3))))
    with pytest.raises(SystemExit):
        anyio.run(run_until_signalled, sup, backend=anyio_backend)


def test_cancelling_it_cancels_the_daemons(anyio_backend: str) -> None:
    """As cancelling the block of a supervisor does."""
    sup = Supervisor()
    probe = Probe(defy)
    sup.add(probe)

    async def main() -> bool:
        with anyio.move_on_after(0.02) as scope:
            await run_until_signalled(sup)
        return scope.cancelled_caught

    assert anyio.run(main, backend=anyio_backend)
    assert probe.log[-1] == "stopped"


def test_a_stop_before_the_run_is_remembered(anyio_backend: str) -> None:
    """Nothing starts, and no signal came."""
    sup = Supervisor()
    probe = Probe(obey)
    sup.add(probe)
    sup.signal_stop()
    assert anyio.run(run_until_signalled, sup, backend=anyio_backend) is None
    assert probe.log == []


def test_it_runs_in_simulated_time(anyio_backend: str) -> None:
    """Somebody else drives the clock; a signal comes at some instant of it."""
    clock = SimClock()
    ticks: list[float] = []

    async def tick(ctx: Context) -> None:
        async for due in ctx.clock.every(1.0):
            ticks.append(due)
            if due == 3.0:
                os.kill(os.getpid(), signal.SIGTERM)
            if due == 1000.0:
                raise AssertionError("no signal came")
            await anyio.to_thread.run_sync(time.sleep, 0.001)  # which holds the clock
            if ctx.stopping:
                return

    sup = Supervisor(clock=clock)
    sup.add(Probe(tick))

    async def main() -> signal.Signals | None:
        return await clock.run_until(run_until_signalled(sup, grace=60), limit=2000)

    assert anyio.run(main, backend=anyio_backend) is signal.SIGTERM
    assert ticks[:3] == [1.0, 2.0, 3.0]


def test_simulated_time_that_nobody_moves_is_reported(anyio_backend: str) -> None:
    """Rather than waiting for ever."""

    async def sleep(ctx: Context) -> None:
        await ctx.clock.sleep(1)

    sup = Supervisor(clock=SimClock())
    sup.add(Probe(sleep))
    with pytest.raises(SimulationStalled):
        anyio.run(run_until_signalled, sup, backend=anyio_backend)


def test_both_signals_are_logged(anyio_backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """The first one with what another would do."""
    sup = Supervisor()
    sup.add(Probe(receive))
    sup.add(Probe(send(signal.SIGINT)))
    with caplog.at_level(logging.INFO, "chrono_core"):
        anyio.run(run_until_signalled, sup, backend=anyio_backend)
    assert [record.getMessage() for record in caplog.records] == [
        "SIGINT: stopping; again to cancel the daemons",
        "SIGTERM: cancelling the daemons",
    ]


# What is refused


def test_another_thread_is_refused(anyio_backend: str) -> None:
    """Signals are received in the main thread; the supervisor was not entered."""
    sup = Supervisor()
    raised: list[Exception] = []

    def run() -> None:
        try:
            anyio.run(run_until_signalled, sup, backend=anyio_backend)
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert [type(error) for error in raised] == [RuntimeError]
    assert "main thread only" in str(raised[0])
    assert anyio.run(run_until_signalled, sup, backend=anyio_backend) is None


def test_windows_is_refused(anyio_backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a message that says what to do."""
    monkeypatch.setattr(_run_until_signalled, "HAS_SIGNALS", False)
    with pytest.raises(RuntimeError, match="on Windows: use"):
        anyio.run(run_until_signalled, Supervisor(), backend=anyio_backend)


def test_a_supervisor_that_has_run_is_refused(anyio_backend: str) -> None:
    """A supervisor is entered once."""
    sup = Supervisor()
    anyio.run(run_until_signalled, sup, backend=anyio_backend)
    with pytest.raises(RuntimeError, match="entered once"):
        anyio.run(run_until_signalled, sup, backend=anyio_backend)


def test_bad_arguments_are_refused_at_the_call() -> None:
    """Before anything is awaited."""
    run: Callable[..., Any] = run_until_signalled
    with pytest.raises(TypeError, match="must be a Supervisor, got 7"):
        run(7)
    with pytest.raises(ValueError, match="grace must not be negative"):
        run(Supervisor(), grace=-1)
    with pytest.raises(ValueError, match="finalize_timeout must be a number"):
        run(Supervisor(), finalize_timeout=math.nan)


# A process of its own

PROGRAM = """
import sys
import anyio
from chrono_core import Supervisor
from chrono_recipes._run_until_signalled import run_until_signalled

async def obey(ctx):
    print("running", flush=True)
    await ctx.stop_event.wait()
    print("told", flush=True)
    if sys.argv[2] == "defy":
        await anyio.sleep_forever()

sup = Supervisor()
sup.spawn(obey)
print(repr(anyio.run(run_until_signalled, sup, backend=sys.argv[1])), flush=True)
"""


@pytest.mark.parametrize("defiant", [False, True], ids=["obeys", "defies"])
def test_a_process_ends_well_when_signalled(anyio_backend: str, defiant: bool) -> None:
    """By one signal, or by two."""
    words = [anyio_backend, "defy" if defiant else "obey"]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "told\n"
        if defiant:
            process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "<Signals.SIGTERM: 15>\n"
    assert process.returncode == 0
