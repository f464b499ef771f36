"""The daemons of the stack, each at a rate of its own."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import partial

from chrono_core import Context, ReceiveStream, SendStream, daemon
from chrono_core.testing import Trace
from chrono_recipes import Latest, charge, cooperative_every
from stack_messages import (
    ACTION_PERIOD,
    STANDSTILL,
    Chunk,
    Goal,
    Observation,
    Vector,
    chunk_towards,
)

PLANNER_PERIOD = 1.0
POLICY_PERIOD = 0.1
INFERENCE_TIME = (0.03, 0.14)
SLIP = 0.05


@dataclass(slots=True)
class Tally:
    """What the daemons of one session have done so far."""

    plans: int = 0
    chunks: int = 0
    actions: int = 0
    starved: int = 0
    travelled: float = 0.0


@daemon
async def planner(ctx: Context, goal: Latest[Goal], rng: random.Random, tally: Tally) -> None:
    """Choose another goal every second."""
    async for _ in cooperative_every(ctx, PLANNER_PERIOD, first="now"):
        goal.set(Goal((rng.uniform(-1.0, 1.0), rng.uniform(-1.0, 1.0))))
        tally.plans += 1


@daemon
async def policy(
    ctx: Context,
    goal: Latest[Goal],
    observations: ReceiveStream[Observation],
    chunk: Latest[Chunk],
    rng: random.Random,
    tally: Tally,
) -> None:
    """Ten times a second, infer a chunk of actions; an inference that overruns skips a tick."""
    cost = partial(rng.uniform, *INFERENCE_TIME)
    async for due in cooperative_every(ctx, POLICY_PERIOD, first="now"):
        observation = await observations.receive()
        chunk.set(await charge(ctx, infer, goal.get(), observation, due, cost=cost))
        tally.chunks += 1


async def infer(goal: Goal, observation: Observation, begins: float) -> Chunk:
    """What stands for a model, which would be a plain function: `charge` calls one in a thread."""
    return chunk_towards(goal, observation, begins)


@daemon
async def dispenser(
    ctx: Context, chunk: Latest[Chunk], actions: SendStream[Vector], tally: Tally
) -> None:
    """Twenty times a second, dispense the action that is due; without one, stand still."""
    async for due in cooperative_every(ctx, ACTION_PERIOD):
        action = chunk.get().action_at(due)
        tally.starved += action is None
        await actions.send(action or STANDSTILL)
        tally.actions += 1


@daemon
async def actuator(
    ctx: Context,
    actions: ReceiveStream[Vector],
    observations: SendStream[Observation],
    rng: random.Random,
) -> None:
    """Carry out each action, not quite exactly, and observe where that leads."""
    x, y = 0.0, 0.0
    await observations.send(Observation((x, y)))
    async for vx, vy in actions:
        grip = ACTION_PERIOD * rng.uniform(1.0 - SLIP, 1.0 + SLIP)
        x, y = x + vx * grip, y + vy * grip
        await observations.send(Observation((x, y)))


@daemon
async def recorder(
    ctx: Context,
    observations: ReceiveStream[Observation],
    goal: Latest[Goal],
    chunk: Latest[Chunk],
    tally: Tally,
    trace: Trace,
) -> None:
    """Write down where the vehicle is, and what is wanted of it."""
    position = STANDSTILL
    async for observation in observations:
        tally.travelled += math.dist(position, observation.position)
        position = observation.position
        trace.record(ctx, f"{position} {goal.get().position} {chunk.get().begins}")
