"""Supervisors: restarts, ordered stops, failures, latecomers, nesting."""

from __future__ import annotations

import anyio
import anyio.lowlevel
from chrono_core import (
    Clock,
    Context,
    Daemon,
    RestartPolicy,
    SimClock,
    Supervisor,
)

from .program import Log, Write, our_program, outline


class Crash(Exception):
    """A failure on purpose."""


class Witness(Daemon):
    """Says when each of its hooks begins and ends."""

    def __init__(
        self,
        name: str,
        log: Log,
        *,
        start: float = 0.0,
        run: float = 10.0,
        stop: float = 0.0,
        crashes: int = 0,
    ) -> None:
        self.name = name
        self._log = log
        self._start = start
        self._run = run
        self._stop = stop
        self._crashes = crashes

    async def on_start(self, ctx: Context) -> None:
        await ctx.clock.sleep(self._start)
        self._log(self.name, "is up")

    async def run(self, ctx: Context) -> None:
        try:
            await ctx.clock.sleep(self._run)
            if self._crashes:
                self._crashes -= 1
                raise Crash(self.name)
            self._log(self.name, "returns")
        except anyio.get_cancelled_exc_class():
            self._log(self.name, "is cancelled")
            raise

    async def on_stop(self, ctx: Context) -> None:
        await ctx.clock.sleep(self._stop)
        self._log(self.name, "is down")


def report(log: Log, supervisor: Supervisor) -> None:
    for name, health in supervisor.snapshot().items():
        log(name, health.state, health.restart_count)


@our_program
async def restarts(trace: Write, clock: Clock) -> None:
    """Five daemons that crash a few times each, and come back later and later."""
    log = Log(trace, clock)
    policy = RestartPolicy(base=0.1, factor=2.0, cap=0.4)
    async with Supervisor(
        clock=clock, on_error="restart", restart=policy, on_exit="stop"
    ) as supervisor:
        for n in range(5):
            supervisor.add(
                Witness(f"d{n}", log, start=0.05 * (n % 2), run=0.1, stop=0.05, crashes=n)
            )
        async for _ in clock.every(0.5):
            report(log, supervisor)
            if all(health.state == "stopped" for health in supervisor.snapshot().values()):
                break
    log("is over")


@our_program
async def ordered_stop(trace: Write, clock: Clock) -> None:
    """Eight daemons, of which some go when told to and some are forced, in reverse."""
    log = Log(trace, clock)

    async def listens(ctx: Context) -> None:
        await ctx.stop_event.wait()
        log(ctx.name, "was told")
        await anyio.lowlevel.checkpoint()
        log(ctx.name, "goes")

    async with Supervisor(clock=clock) as supervisor:
        for n in range(8):
            if n % 3 == 1:
                supervisor.spawn(listens, name=f"d{n}")
            else:
                supervisor.add(Witness(f"d{n}", log, stop=0.1 * (n % 2)))
        await supervisor.wait_all_started()
        log("all are up")
        await clock.sleep(1)
        log("forced", *await supervisor.stop(grace=0, finalize_timeout=0.5))
        report(log, supervisor)
    log("is over")


@our_program
async def one_fails_and_all_go(trace: Write, clock: Clock) -> None:
    """An error ends the supervisor; what it was ignored for in another was nothing."""
    log = Log(trace, clock)
    try:
        async with Supervisor(clock=clock) as supervisor:
            supervisor.add(Witness("a", log, stop=0.1))
            supervisor.add(Witness("b", log, run=0.2, crashes=1), on_error="ignore")
            supervisor.add(Witness("c", log, run=0.5, crashes=1))
            supervisor.add(Witness("d", log, run=0.5, crashes=1))
            supervisor.add(Witness("e", log, start=0.7))
            supervisor.add(Witness("f", log, run=0.3))
            await clock.sleep(0.4)
            report(log, supervisor)
            await clock.sleep(0.4)
            log("the body goes on")
    except* Exception as group:
        log(outline(group))
    log("is over")


@our_program
async def too_many_restarts(trace: Write, clock: Clock) -> None:
    """A daemon that crashes for ever is given up, beside one that heals."""
    log = Log(trace, clock)
    policy = RestartPolicy(base=0.1, max_retries=3, reset_after=0.5)
    try:
        async with Supervisor(clock=clock, on_error="restart", restart=policy) as supervisor:
            supervisor.add(Witness("hopeless", log, run=0.1, crashes=100))
            supervisor.add(Witness("healing", log, run=0.6, crashes=5, stop=0.1))
            supervisor.add(Witness("bystander", log))
            async for _ in clock.every(0.25):
                report(log, supervisor)
    except* Exception as group:
        log(outline(group))
    log("is over")


@our_program
async def comings_and_goings(trace: Write, clock: Clock) -> None:
    """Daemons added and stopped by others while they run, several at one instant."""
    log = Log(trace, clock)

    async def hires(ctx: Context, number: int) -> None:
        handles = []
        for n in range(3):
            await ctx.clock.sleep(0.1)
            handles.append(ctx.supervisor.add(Witness(f"{number}.{n}", log, stop=0.05)))
            log(ctx.name, "hires", n)
        await handles[-1].wait_started()
        for n, handle in enumerate(handles):
            log(ctx.name, "fires", n)
            await handle.stop(grace=0)
            log(ctx.name, "has fired", n)

    async with Supervisor(clock=clock, on_exit="stop") as supervisor:
        bosses = [supervisor.spawn(hires, n, name=f"boss-{n}") for n in range(3)]
        for boss in bosses:
            await boss.wait_stopped()
        report(log, supervisor)
    log("is over")


@our_program
async def nested_supervisors(trace: Write, clock: Clock) -> None:
    """Daemons that host supervisors: in the same time, and in one of their own."""
    log = Log(trace, clock)

    async def same_time(ctx: Context) -> None:
        async with Supervisor(clock=ctx.clock, on_exit="stop") as inner:
            for n in range(3):
                inner.add(Witness(f"{ctx.name}/{n}", log, run=0.2 + 0.2 * n, stop=0.05))
            await ctx.clock.sleep(0.5)
            log(ctx.name, "has slept")

    async def own_time(ctx: Context) -> None:
        own = SimClock(100.0)
        inside = Log(trace, own)
        async with Supervisor(clock=own, on_exit="stop") as inner:
            for n in range(3):
                inner.add(Witness(f"{ctx.name}/{n}", inside, run=1.0 + n, stop=0.5))
            await own.advance(2.5)
            log(ctx.name, "is at", own.now())
            await ctx.clock.sleep(0.1)
            await own.advance(0.25)
        log(ctx.name, "ends at", own.now())

    async with Supervisor(clock=clock) as supervisor:
        supervisor.spawn(same_time, name="s0")
        supervisor.spawn(own_time, name="o0")
        supervisor.spawn(same_time, name="s1")
        supervisor.spawn(own_time, name="o1")
    log("is over")
