"""The daemons. None of them knows whether its time is simulated or its samples come from a log."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from chrono_core import Context, EndOfStream, ReceiveStream, SendStream, daemon
from chrono_core.testing import Trace
from flight_filter import MahonyFilter
from flight_records import Attitude, ImuSample

NANOSECOND = 1e-9

Row = TypeVar("Row", ImuSample, Attitude)


@dataclass(frozen=True, slots=True)
class Gap:
    """A silence on a stream, longer than its limit; all in seconds by the clock.

    Attributes:
        began: when the last item before it came.
        noticed: when the deadline passed.
        ended: when the next item came.
    """

    began: float
    noticed: float
    ended: float

    @property
    def length(self) -> float:
        """Seconds from the one item to the next."""
        return self.ended - self.began


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two opinions on the attitude at one time: the estimator's and the autopilot's."""

    estimate: Attitude
    ekf: Attitude


@dataclass(frozen=True, slots=True)
class Finding:
    """What the health monitor found changed about a daemon."""

    time: float
    daemon: str
    state: str


@daemon
async def log_reader(
    ctx: Context, rows: Iterable[Row], streams: Iterable[SendStream[Row]], trace: Trace
) -> None:
    """Send each row to every stream, at the time at which it was logged."""
    start = ctx.clock.now()
    for row in rows:
        await ctx.clock.wait_until(start + row.time)
        trace.record(ctx, "sends a row")
        for stream in streams:
            await stream.send(row)


@daemon
async def attitude_estimator(
    ctx: Context,
    imu: ReceiveStream[ImuSample],
    estimates: SendStream[Attitude],
    attitude_filter: MahonyFilter,
    trace: Trace,
) -> None:
    """Turn each inertial sample into an estimate; the filter, being lent, survives a restart."""
    async for sample in imu:
        estimate = attitude_filter.update(sample)
        trace.record(ctx, f"estimates {estimate.roll:.9f} {estimate.pitch:.9f}")
        await estimates.send(estimate)


@daemon
async def scorer(
    ctx: Context,
    estimates: ReceiveStream[Attitude],
    ekf: ReceiveStream[Attitude],
    comparisons: list[Comparison],
    trace: Trace,
) -> None:
    """Compare each of the autopilot's attitudes with the estimate for the same time."""
    with suppress(EndOfStream):
        estimate = await estimates.receive()
        async for reference in ekf:
            while estimate.time < reference.time:
                estimate = await estimates.receive()
            if estimate.time == reference.time:
                comparisons.append(Comparison(estimate, reference))
                trace.record(ctx, f"compares {len(comparisons)}")
        while True:
            await estimates.receive()


@daemon
async def gap_watchdog(
    ctx: Context, stream: ReceiveStream[ImuSample], limit: float, gaps: list[Gap], trace: Trace
) -> None:
    """Report every silence longer than ``limit`` seconds, at the instant at which it becomes so.

    What comes exactly at the limit is in time, so the deadline is the nanosecond after it.
    """
    with suppress(EndOfStream):
        await stream.receive()
        while True:
            began = ctx.clock.now()
            with ctx.clock.move_on_at(began + limit + NANOSECOND) as patience:
                await stream.receive()
            if patience.cancelled_caught:
                noticed = ctx.clock.now()
                trace.record(ctx, f"hears nothing for {limit:g} s")
                await stream.receive()
                gaps.append(Gap(began, noticed, ended=ctx.clock.now()))
                trace.record(ctx, f"hears again after {gaps[-1].length:.6f} s")


@daemon
async def health_monitor(
    ctx: Context, period: float, findings: list[Finding], trace: Trace
) -> None:
    """Look at every daemon once a period, and note whose state has changed."""
    known: dict[str, str] = {}
    async for now in ctx.clock.every(period):
        for name, health in ctx.supervisor.snapshot().items():
            if known.get(name) != health.state:
                known[name] = health.state
                findings.append(Finding(now, name, health.state))
                trace.record(ctx, f"finds {name} {health.state}")
