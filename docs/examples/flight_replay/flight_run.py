"""A flight: which daemons there are, what joins them, and how their time passes."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

import anyio
from chrono_core import DaemonHandle, RestartPolicy, SimClock, Supervisor, open_channel
from chrono_core.testing import Trace
from flight_daemons import (
    Comparison,
    Finding,
    Gap,
    attitude_estimator,
    gap_watchdog,
    health_monitor,
    log_reader,
    scorer,
)
from flight_drill import CrashDrill
from flight_filter import MahonyFilter
from flight_log import FlightLog
from flight_records import Attitude, ImuSample

BUFFER = 64
GAP_LIMIT = 0.012
HEALTH_PERIOD = 0.1
RESTART = RestartPolicy(base=0.1, max_retries=3)

ESTIMATOR = "attitude-estimator"


@dataclass(slots=True, repr=False)  # asyncio puts the result of a run into words, however long
class Flight:
    """What comes out of a flight; the daemons write it."""

    comparisons: list[Comparison] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    trace: Trace = field(default_factory=Trace)
    restarts: int = 0
    duration: float = 0.0


async def fly(log: FlightLog, *, seed: int, rate: float | None = None) -> Flight:
    """Replay a flight in simulated time.

    Args:
        log: what to replay.
        seed: when in the flight the drill strikes.
        rate: simulated seconds for each real one; None is as fast as can be.
    """
    flight = Flight()
    clock = SimClock()
    async with Supervisor(clock=clock) as supervisor:
        last = add_daemons(supervisor, log, flight, seed=seed)
        await pass_time(clock, last, rate)
        flight.duration = clock.now()
        flight.restarts = supervisor.snapshot()[ESTIMATOR].restart_count
        await supervisor.stop()
    return flight


def add_daemons(
    supervisor: Supervisor, log: FlightLog, flight: Flight, *, seed: int
) -> DaemonHandle:
    """Add every daemon, consumers first, and return the one that is the last to end."""
    imu = open_channel[ImuSample](BUFFER, name="imu")
    imu_watch = open_channel[ImuSample](BUFFER, name="imu-watch")
    estimates = open_channel[Attitude](BUFFER, name="attitude")
    ekf = open_channel[Attitude](BUFFER, name="ekf")
    trace = flight.trace

    last = supervisor.add(
        scorer(estimates.recv, ekf.recv, flight.comparisons, trace), name="scorer"
    )
    supervisor.add(
        CrashDrill(
            attitude_estimator(imu.recv, estimates.send, MahonyFilter(), trace),
            after=random.Random(seed).uniform(0.0, log.duration),
            trace=trace,
        ),
        name=ESTIMATOR,
        owns=(estimates.send,),
        on_error="restart",
        restart=RESTART,
    )
    supervisor.add(gap_watchdog(imu_watch.recv, GAP_LIMIT, flight.gaps, trace), name="gap-watchdog")
    supervisor.add(health_monitor(HEALTH_PERIOD, flight.findings, trace), name="health-monitor")
    supervisor.add(
        log_reader(log.imu, (imu.send, imu_watch.send), trace),
        name="imu-reader",
        owns=(imu.send, imu_watch.send),
    )
    supervisor.add(log_reader(log.ekf, (ekf.send,), trace), name="ekf-reader", owns=(ekf.send,))
    return last


async def pass_time(clock: SimClock, last: DaemonHandle, rate: float | None) -> None:
    """Let simulated time pass until a daemon has ended, with all that is due at that instant."""
    if rate is None:
        await clock.run_until(last.wait_stopped(), limit=math.inf)
    else:
        await keep_pace(clock, last, rate)
    await clock.advance(0.0)


async def keep_pace(clock: SimClock, last: DaemonHandle, rate: float) -> None:
    """Move the clock from deadline to deadline, each at its share of real time."""
    began = anyio.current_time() - clock.now() / rate
    await clock.advance(0.0)
    while last.health.state != "stopped":
        if clock.next_deadline is not None:
            await anyio.sleep_until(began + clock.next_deadline / rate)
        await clock.step()
