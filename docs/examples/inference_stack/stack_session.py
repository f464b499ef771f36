"""One session of the stack in its own simulated time, and an evaluation made of many sessions."""

from __future__ import annotations

import random
from dataclasses import dataclass

from chrono_core import Context, SimClock, Supervisor, daemon, open_channel
from chrono_core.testing import Trace
from stack_daemons import Tally, actuator, dispenser, planner, policy
from stack_messages import Chunk, Goal, Observation, Vector


@dataclass(frozen=True, slots=True)
class Session:
    """What one session did.

    Attributes:
        seed: which goals there were, and how long each inference took.
        duration: how long it lasted, in seconds of its own clock.
        tally: what its daemons did.
        digest: the hash of its trace.
    """

    seed: int
    duration: float
    tally: Tally
    digest: str


async def run_session(seed: int, seconds: float) -> Session:
    """Run the whole stack for some simulated seconds."""
    tally, trace = Tally(), Trace()
    clock = SimClock()
    async with Supervisor(clock=clock) as supervisor:
        add_stack(supervisor, seed, tally, trace)
        await clock.advance_to(seconds)
        await supervisor.stop()
    return Session(seed, clock.now(), tally, trace.digest())


def add_stack(supervisor: Supervisor, seed: int, tally: Tally, trace: Trace) -> None:
    """Add the four daemons, joined by channels."""
    goals = open_channel[Goal](1, name="goals")
    observations = open_channel[Observation](8, name="observations")
    chunks = open_channel[Chunk](2, name="chunks")
    actions = open_channel[Vector](1, name="actions")
    supervisor.add(planner(goals.send, random.Random(f"{seed} planner"), tally, trace))
    supervisor.add(
        policy(
            goals.recv,
            observations.recv,
            chunks.send,
            random.Random(f"{seed} policy"),
            tally,
            trace,
        )
    )
    supervisor.add(dispenser(chunks.recv, actions.send, tally, trace))
    supervisor.add(
        actuator(actions.recv, observations.send, random.Random(f"{seed} actuator"), tally, trace)
    )


@daemon
async def rollout(ctx: Context, seed: int, seconds: float, sessions: dict[int, Session]) -> None:
    """Run one session, within a supervisor and a clock of its own."""
    sessions[seed] = await run_session(seed, seconds)


async def evaluate(count: int, seconds: float) -> list[Session]:
    """Run sessions with the seeds from 0 to ``count - 1`` side by side."""
    sessions: dict[int, Session] = {}
    async with Supervisor() as supervisor:
        for seed in range(count):
            supervisor.add(rollout(seed, seconds, sessions), name=f"rollout-{seed}")
    return [sessions[seed] for seed in range(count)]
