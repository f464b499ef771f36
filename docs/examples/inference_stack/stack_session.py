"""One session of the stack in its own simulated time, and an evaluation made of many sessions."""

from __future__ import annotations

import random
from dataclasses import dataclass

from chrono_core import Context, SimClock, Supervisor, daemon, open_channel
from chrono_core.testing import Trace
from chrono_recipes import CoalesceSend, Latest, tee
from stack_daemons import Tally, actuator, dispenser, planner, policy, recorder
from stack_messages import STANDSTILL, Chunk, Goal, Observation, Vector


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
    """Add the daemons, and what joins them: the newest of each message, or a channel."""
    goal, chunk = Latest(Goal(STANDSTILL)), Latest(Chunk(0.0, ()))
    actions = open_channel[Vector](1, name="actions")
    observations = open_channel[Observation](1, name="observations")
    newest = open_channel[Observation](1, name="newest")
    recorded = open_channel[Observation](1, name="recorded")
    rngs = {name: random.Random(f"{seed} {name}") for name in ("planner", "policy", "actuator")}
    supervisor.add(planner(goal, rngs["planner"], tally))
    supervisor.add(policy(goal, newest.recv, chunk, rngs["policy"], tally))
    supervisor.add(dispenser(chunk, actions.send, tally))
    supervisor.add(actuator(actions.recv, observations.send, rngs["actuator"]))
    dests = CoalesceSend(newest.send), recorded.send
    supervisor.spawn(lambda ctx: tee(observations.recv, *dests), name="tee")
    supervisor.add(recorder(recorded.recv, goal, chunk, tally, trace))


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
