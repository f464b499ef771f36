"""What flows through the channels: inertial samples and attitudes."""

from __future__ import annotations

import math
from dataclasses import dataclass

Vector = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class ImuSample:
    """One reading of the inertial sensors, in the body frame (forward, right, down).

    Attributes:
        time: seconds since the log began.
        gyro: angular rate, rad/s.
        accel: specific force, m/s².
    """

    time: float
    gyro: Vector
    accel: Vector


@dataclass(frozen=True, slots=True)
class Attitude:
    """How far the body is tilted, from whatever source.

    Attributes:
        time: seconds since the log began.
        roll: rad, positive with the right side down.
        pitch: rad, positive with the nose up.
    """

    time: float
    roll: float
    pitch: float

    @classmethod
    def from_down(cls, time: float, down: Vector) -> Attitude:
        """The attitude in which gravity points along the unit vector ``down`` of the body."""
        x, y, z = down
        return cls(time, roll=math.atan2(y, z), pitch=math.asin(max(-1.0, min(1.0, -x))))

    @classmethod
    def from_quaternion(cls, time: float, w: float, x: float, y: float, z: float) -> Attitude:
        """The attitude of a unit quaternion that turns the body frame into north-east-down."""
        down = (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y))
        return cls.from_down(time, down)
