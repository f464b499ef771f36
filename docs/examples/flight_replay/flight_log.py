"""Reading the log of a flight: gzipped CSV, one file for each topic."""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flight_records import Attitude, ImuSample

IMU_FILE = "imu.csv.gz"
IMU_COLUMNS = (
    "timestamp_us",
    "gyro_x_rad_s",
    "gyro_y_rad_s",
    "gyro_z_rad_s",
    "accel_x_m_s2",
    "accel_y_m_s2",
    "accel_z_m_s2",
)
EKF_FILE = "attitude.csv.gz"
EKF_COLUMNS = ("timestamp_us", "q_w", "q_x", "q_y", "q_z")

LARGEST_READING = 1e4
LONGEST_SILENCE_US = 10_000_000
QUATERNION_TOLERANCE = 1e-3


class LogError(Exception):
    """A file of the log is missing, damaged or something else; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class FlightLog:
    """Two topics of one flight, each in order of time.

    Attributes:
        imu: what the inertial sensors measured.
        ekf: what the autopilot made of it, with its extended Kalman filter.
    """

    imu: tuple[ImuSample, ...]
    ekf: tuple[Attitude, ...]

    @property
    def duration(self) -> float:
        """Seconds from the first row of the log to the last."""
        return max(self.imu[-1].time, self.ekf[-1].time)

    def first(self, seconds: float) -> FlightLog:
        """The log up to and including that time.

        Raises:
            LogError: a topic has no row as early as that.
        """
        part = FlightLog(
            imu=tuple(sample for sample in self.imu if sample.time <= seconds),
            ekf=tuple(attitude for attitude in self.ekf if attitude.time <= seconds),
        )
        if not part.imu or not part.ekf:
            starts = max(self.imu[0].time, self.ekf[0].time)
            raise LogError(
                f"the log has both topics from {starts:g} s on, not within {seconds:g} s."
            )
        return part


def read_flight(directory: Path) -> FlightLog:
    """Read a flight; its time 0 is the earliest row of any topic.

    Raises:
        LogError: a file is missing, truncated, of another kind, or holds what no sensor reports.
    """
    imu = read_topic(directory / IMU_FILE, IMU_COLUMNS)
    ekf = read_topic(directory / EKF_FILE, EKF_COLUMNS)
    for stamp, quaternion in ekf:
        if abs(math.hypot(*quaternion) - 1.0) > QUATERNION_TOLERANCE:
            raise LogError(f"{EKF_FILE} has no unit quaternion at {stamp} µs: {quaternion}.")
    for end in (0, -1):
        if abs(imu[end][0] - ekf[end][0]) > LONGEST_SILENCE_US:
            raise LogError(f"{IMU_FILE} and {EKF_FILE} in {directory} cover different times.")
    start = min(imu[0][0], ekf[0][0])
    return FlightLog(
        imu=tuple(
            ImuSample((stamp - start) / 1e6, (gx, gy, gz), (ax, ay, az))
            for stamp, (gx, gy, gz, ax, ay, az) in imu
        ),
        ekf=tuple(
            Attitude.from_quaternion((stamp - start) / 1e6, *quaternion)
            for stamp, quaternion in ekf
        ),
    )


def read_topic(path: Path, columns: tuple[str, ...]) -> list[tuple[int, tuple[float, ...]]]:
    """Read one topic: of each row its timestamp in microseconds, and its other values.

    Raises:
        LogError: the file is missing, truncated, of another kind, or has a row that cannot be.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            rows = list(_rows(file, path, columns))
    except FileNotFoundError:
        raise LogError(f"{path} does not exist.") from None
    except EOFError:
        raise LogError(f"{path} is truncated: its compressed data stops before its end.") from None
    except (gzip.BadGzipFile, zlib.error):
        raise LogError(f"{path} is not a gzip file, or is damaged.") from None
    except (UnicodeDecodeError, csv.Error):
        raise LogError(f"{path} does not hold CSV text.") from None
    except OSError as error:
        raise LogError(f"{path} cannot be read: {error.strerror}.") from None
    if not rows:
        raise LogError(f"{path} has a header and no rows.")
    return rows


def _rows(
    file: Iterator[str], path: Path, columns: tuple[str, ...]
) -> Iterator[tuple[int, tuple[float, ...]]]:
    reader = csv.reader(file)
    header = next(reader, None)
    if header is None:
        raise LogError(f"{path} is empty.")
    if tuple(header) != columns:
        found = ",".join(header)[:80]
        raise LogError(f"{path} is another kind of file: its first line is {found!r}.")

    def wrong(what: str) -> LogError:
        return LogError(f"{path}, line {reader.line_num}: {what}.")

    previous = None
    for row in reader:
        try:
            stamp, values = int(row[0]), tuple(map(float, row[1:]))
        except (ValueError, IndexError):
            raise wrong(f"{','.join(row)[:80]!r} is not a row of numbers") from None
        if len(row) != len(columns):
            raise wrong(f"{len(row)} values where {len(columns)} belong")
        if not math.hypot(*values) < LARGEST_READING:  # NaN compares false
            raise wrong(f"{','.join(row)[:80]!r} is nothing that a sensor reports")
        if previous is not None and not 0 < stamp - previous <= LONGEST_SILENCE_US:
            raise wrong(f"time goes from {previous} to {stamp} µs, which no log does")
        previous = stamp
        yield stamp, values
