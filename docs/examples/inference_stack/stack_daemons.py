"""The daemons of the stack, each at a rate of its own."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TypeVar

from chrono_core import Context, ReceiveStream, SendStream, WouldBlock, daemon
from chrono_core.testing import Trace
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

T = TypeVar("T")


@dataclass(slots=True)
class Tally:
    """What the daemons of one session have done so far."""

    plans: int = 0
    chunks: int = 0
    actions: int = 0
    starved: int = 0
    travelled: float = 0.0


def newest(stream: ReceiveStream[T], default: T) -> T:
    """The last item that waits in a stream, or the default; what came before it is dropped."""
    try:
        while True:
            default = stream.receive_nowait()
    except WouldBlock:
        return default


@daemon
async def planner(
    ctx: Context, goals: SendStream[Goal], rng: random.Random, tally: Tally, trace: Trace
) -> None:
    """Choose another goal every second."""
    async for _ in ctx.clock.every(PLANNER_PERIOD, first="now"):
        goal = Goal((rng.uniform(-1.0, 1.0), rng.uniform(-1.0, 1.0)))
        tally.plans += 1
        trace.record(ctx, f"plans {goal.position}")
        await goals.send(goal)


@daemon
async def policy(
    ctx: Context,
    goals: ReceiveStream[Goal],
    observations: ReceiveStream[Observation],
    chunks: SendStream[Chunk],
    rng: random.Random,
    tally: Tally,
    trace: Trace,
) -> None:
    """Ten times a second, infer a chunk of actions; an inference that overruns skips a tick."""
    goal, observation = await goals.receive(), await observations.receive()
    async for tick in ctx.clock.every(POLICY_PERIOD, first="now"):
        goal, observation = newest(goals, goal), newest(observations, observation)
        await ctx.clock.sleep(rng.uniform(*INFERENCE_TIME))
        chunk = chunk_towards(goal, observation, begins=tick)
        tally.chunks += 1
        trace.record(ctx, f"infers {chunk.actions[0]}")
        await chunks.send(chunk)


@daemon
async def dispenser(
    ctx: Context,
    chunks: ReceiveStream[Chunk],
    actions: SendStream[Vector],
    tally: Tally,
    trace: Trace,
) -> None:
    """Twenty times a second, dispense the action that is due; without one, stand still."""
    chunk = await chunks.receive()
    async for now in ctx.clock.every(ACTION_PERIOD):
        chunk = newest(chunks, chunk)
        action = chunk.action_at(now)
        if action is None:
            action = STANDSTILL
            tally.starved += 1
        trace.record(ctx, f"dispenses {action}")
        await actions.send(action)


@daemon
async def actuator(
    ctx: Context,
    actions: ReceiveStream[Vector],
    observations: SendStream[Observation],
    rng: random.Random,
    tally: Tally,
    trace: Trace,
) -> None:
    """Carry out each action, not quite exactly, and observe where that leads."""
    x, y = 0.0, 0.0
    await observations.send(Observation((x, y)))
    async for vx, vy in actions:
        grip = ACTION_PERIOD * rng.uniform(1.0 - SLIP, 1.0 + SLIP)
        x, y = x + vx * grip, y + vy * grip
        tally.actions += 1
        tally.travelled += math.hypot(vx, vy) * grip
        trace.record(ctx, f"is at {x:.9f} {y:.9f}")
        await observations.send(Observation((x, y)))
