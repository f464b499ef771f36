"""Attitude from inertial measurements alone: the explicit complementary filter of Mahony.

R. Mahony, T. Hamel, J.-M. Pflimlin, "Nonlinear Complementary Filters on the Special Orthogonal
Group", IEEE Transactions on Automatic Control 53(5), 2008, section V, followed here for the one
direction that roll and pitch need: which way is down.
"""

from __future__ import annotations

import math

from flight_records import Attitude, ImuSample, Vector

FREE_FALL = 0.5
"""Specific force, in m/s², below which the accelerometer does not tell which way is down."""


class MahonyFilter:
    """Turns the gyroscope's rates into an attitude, and lets the accelerometer correct it slowly.

    Args:
        proportional_gain: rad/s of correction for each rad of error; its inverse is the time
            constant in seconds.
        integral_gain: how fast the gyroscope's bias is learned, rad/s² for each rad of error.
    """

    def __init__(self, *, proportional_gain: float = 0.5, integral_gain: float = 0.1) -> None:
        self._proportional_gain = proportional_gain
        self._integral_gain = integral_gain
        self._time: float | None = None
        self._down: Vector = (0.0, 0.0, 1.0)
        self._bias: Vector = (0.0, 0.0, 0.0)

    def update(self, sample: ImuSample) -> Attitude:
        """Take in the next sample and return the attitude at its time."""
        force = math.hypot(*sample.accel)
        measured = _scaled(sample.accel, -1.0 / force) if force > FREE_FALL else self._down
        if self._time is None:
            self._down = measured
        else:
            self._integrate(sample.gyro, measured, sample.time - self._time)
        self._time = sample.time
        return Attitude.from_down(sample.time, self._down)

    def _integrate(self, gyro: Vector, measured: Vector, dt: float) -> None:
        error = _cross(measured, self._down)
        self._bias = _sum(self._bias, _scaled(error, -self._integral_gain * dt))
        rate = _sum(gyro, _scaled(self._bias, -1.0), _scaled(error, self._proportional_gain))
        down = _sum(self._down, _scaled(_cross(self._down, rate), dt))
        self._down = _scaled(down, 1.0 / math.hypot(*down))


def _cross(a: Vector, b: Vector) -> Vector:
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


def _scaled(a: Vector, factor: float) -> Vector:
    return (a[0] * factor, a[1] * factor, a[2] * factor)


def _sum(a: Vector, b: Vector, c: Vector = (0.0, 0.0, 0.0)) -> Vector:
    return (a[0] + b[0] + c[0], a[1] + b[1] + c[1], a[2] + b[2] + c[2])
