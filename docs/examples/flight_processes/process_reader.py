"""The first program: reads the log of a flight, and sends its two topics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import flight_log
from chrono_core import Context, DaemonHandle, Supervisor, daemon
from process_items import EKF, IMU, AttitudeRow, ImuRow
from process_links import Link, Place, Row, sending
from process_run import Order, main

DATA = Path(flight_log.__file__).parent / "data"


@daemon
async def log_reader(ctx: Context, link: Link[Row], place: Place, rows: list[Row]) -> None:
    """Send what is left of the rows, as fast as they are taken."""
    async with sending(ctx, link, place) as end:
        try:
            await end.send_many(rows)
        finally:
            del rows[: end.statistics().sent]


def add(supervisor: Supervisor, order: Order) -> Iterator[DaemonHandle]:
    """Add a reader for each topic."""
    log = flight_log.read_flight(DATA).first(order.seconds)
    imu = [ImuRow(n, len(log.imu), sample) for n, sample in enumerate(log.imu)]
    ekf = [AttitudeRow(n, len(log.ekf), attitude) for n, attitude in enumerate(log.ekf)]
    yield supervisor.add(log_reader(IMU, order.place, imu), name="imu-reader")
    yield supervisor.add(log_reader(EKF, order.place, ekf), name="ekf-reader")


if __name__ == "__main__":
    main("reader", add)
