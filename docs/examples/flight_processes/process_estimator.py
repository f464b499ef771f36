"""The second program: makes attitudes of inertial samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from chrono_core import (
    Context,
    DaemonHandle,
    EndOfStream,
    ReceiveStream,
    Supervisor,
    daemon,
    open_channel,
)
from flight_filter import MahonyFilter
from process_items import ESTIMATES, IMU, AttitudeRow, ImuRow
from process_links import BUFFER, Place, Progress, receiving, sending
from process_run import Order, main


@daemon
async def attitude_estimator(
    ctx: Context, imu: ReceiveStream[ImuRow], place: Place, attitude_filter: MahonyFilter
) -> None:
    """Turn each inertial sample into an estimate; the filter, being lent, survives a restart."""
    async with sending(ctx, ESTIMATES, place) as estimates:
        with suppress(EndOfStream):
            while True:
                rows = await imu.receive_many(BUFFER)
                await estimates.send_many(
                    AttitudeRow(row.number, row.of, attitude_filter.update(row.sample))
                    for row in rows
                )


def add(supervisor: Supervisor, order: Order) -> Iterator[DaemonHandle]:
    """Add a daemon for each link, so that the loss of one leaves the other alone."""
    imu = open_channel[ImuRow](BUFFER, name="imu")
    yield supervisor.add(
        attitude_estimator(imu.recv, order.place, MahonyFilter()), name="attitude-estimator"
    )
    yield supervisor.add(
        receiving(IMU, order.place, imu.send, Progress()), name="imu-receiver", owns=[imu.send]
    )


if __name__ == "__main__":
    main("estimator", add)
