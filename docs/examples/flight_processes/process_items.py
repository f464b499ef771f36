"""What flows between the three processes. Every item says which row of the log it comes from."""

from __future__ import annotations

from flight_records import Attitude, ImuSample
from msgspec import Struct
from process_links import Link


class ImuRow(Struct, frozen=True):
    """One inertial sample, row ``number`` of ``of``."""

    number: int
    of: int
    sample: ImuSample


class AttitudeRow(Struct, frozen=True):
    """The autopilot's attitude in one row of its log, or the estimate for one inertial sample."""

    number: int
    of: int
    attitude: Attitude


IMU = Link("imu", ImuRow)
EKF = Link("ekf", AttitudeRow)
ESTIMATES = Link("estimates", AttitudeRow)
