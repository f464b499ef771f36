"""The third program: compares the estimates with the autopilot's own, and reports the score."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from chrono_core import Context, DaemonHandle, ReceiveStream, Supervisor, daemon, open_channel
from flight_daemons import Comparison
from flight_report import rms_degrees
from process_items import EKF, ESTIMATES, AttitudeRow
from process_links import BUFFER, Place, Progress, receiving, sending
from process_report import REPORTS, Report, Span, add_to
from process_run import Order, main

REPORT_EVERY = 64


@dataclass(slots=True)
class Sheet:
    """What was scored since the last report."""

    estimates: list[Span] = field(default_factory=list)
    ekf: list[Span] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)

    def report(self) -> Report:
        """A report of it."""
        roll, pitch = rms_degrees(self.comparisons)
        return Report(self.estimates, self.ekf, len(self.comparisons), roll, pitch)


@daemon
async def scorer(
    ctx: Context, estimates: ReceiveStream[AttitudeRow], ekf: ReceiveStream[AttitudeRow], to: Place
) -> None:
    """Compare each estimate with the autopilot's attitude for the same time, and report."""
    async with sending(ctx, REPORTS, to) as reports:
        sheet = Sheet()
        reference = await anext(ekf, None)
        async for estimate in estimates:
            add_to(sheet.estimates, estimate)
            while reference is not None and reference.attitude.time <= estimate.attitude.time:
                add_to(sheet.ekf, reference)
                if reference.attitude.time == estimate.attitude.time:
                    sheet.comparisons.append(Comparison(estimate.attitude, reference.attitude))
                reference = await anext(ekf, None)
            if sum(map(len, sheet.estimates)) >= REPORT_EVERY:
                await reports.send(sheet.report())
                sheet = Sheet()
        while reference is not None:
            add_to(sheet.ekf, reference)
            reference = await anext(ekf, None)
        await reports.send(sheet.report())


def add(supervisor: Supervisor, order: Order) -> Iterator[DaemonHandle]:
    """Add a daemon for each link, so that the loss of one leaves the others alone."""
    estimates = open_channel[AttitudeRow](BUFFER, name="estimates")
    ekf = open_channel[AttitudeRow](BUFFER, name="ekf")
    yield supervisor.add(scorer(estimates.recv, ekf.recv, order.place), name="scorer")
    for link, channel in ((ESTIMATES, estimates), (EKF, ekf)):
        yield supervisor.add(
            receiving(link, order.place, channel.send, Progress()),
            name=f"{link.name}-receiver",
            owns=[channel.send],
        )


if __name__ == "__main__":
    main("scorer", add)
