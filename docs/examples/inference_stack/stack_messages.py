"""What flows through the channels: goals, observations, chunks of actions, and actions."""

from __future__ import annotations

import math
from dataclasses import dataclass

Vector = tuple[float, float]

ACTION_PERIOD = 0.05
CHUNK_LENGTH = 6
TOP_SPEED = 1.0
STANDSTILL: Vector = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Goal:
    """Where to be next, in metres."""

    position: Vector


@dataclass(frozen=True, slots=True)
class Observation:
    """Where the vehicle is, in metres."""

    position: Vector


@dataclass(frozen=True, slots=True)
class Chunk:
    """Actions for some time to come, in the manner of action-chunking policies.

    Attributes:
        begins: seconds by the clock at which the first action is due.
        actions: velocities in m/s, ``ACTION_PERIOD`` apart.
    """

    begins: float
    actions: tuple[Vector, ...]

    def action_at(self, time: float) -> Vector | None:
        """The action due at that time; None once the chunk is used up."""
        number = round((time - self.begins) / ACTION_PERIOD)
        return self.actions[number] if number < len(self.actions) else None


def chunk_towards(goal: Goal, observation: Observation, begins: float) -> Chunk:
    """The policy itself: head for the goal at top speed, and stop there."""
    x, y = observation.position
    actions = []
    for _ in range(CHUNK_LENGTH):
        dx, dy = goal.position[0] - x, goal.position[1] - y
        pace = 1.0 / max(ACTION_PERIOD, math.hypot(dx, dy) / TOP_SPEED)
        action = (dx * pace, dy * pace)
        x, y = x + action[0] * ACTION_PERIOD, y + action[1] * ACTION_PERIOD
        actions.append(action)
    return Chunk(begins, tuple(actions))
