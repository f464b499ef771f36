"""Clocks: driven ones inside a simulation, ticks that meet, timeouts, what holds time."""

from __future__ import annotations

import anyio
from anyio import to_thread
from chrono_core import (
    Clock,
    Context,
    SimClock,
    SimulationStalled,
    Supervisor,
    open_channel,
)

from .program import Log, Write, our_program


@our_program
async def a_driver_and_its_graph(trace: Write, clock: Clock) -> None:
    """A clock that is driven by hand, as a test does it, in a program whose own time stands."""
    outer = Log(trace, clock)
    driven = SimClock()
    log = Log(trace, driven)

    async def sensor(ctx: Context, period: float) -> None:
        async for tick in ctx.clock.every(period):
            await channels[ctx.name].send.send(tick)

    async def fuse(ctx: Context) -> None:
        for _ in range(12):
            log("slow", f"{await channels['slow'].recv.receive():.9f}")
            for _ in range(2):
                log("fast", f"{await channels['fast'].recv.receive():.9f}")

    channels = {"fast": open_channel[float](1), "slow": open_channel[float](0)}
    async with Supervisor(clock=driven, on_exit="stop") as supervisor:
        supervisor.spawn(sensor, 0.1, name="fast")
        supervisor.spawn(sensor, 0.2, name="slow")
        fusion = supervisor.spawn(fuse, name="fuse")
        await driven.advance(0.35)
        log("has advanced")
        for _ in range(3):
            log("steps to", await driven.step())
        await driven.run_until(lambda: fusion.health.state == "stopped", limit=10)
        log("ran until the end of", fusion.name)
        try:
            with driven.move_on_after(5):
                await driven.run_until(anyio.Event(), limit=1)
        except (TimeoutError, SimulationStalled) as error:
            log(type(error).__name__)
    outer("is over")


@our_program
async def ticks_that_meet(trace: Write, clock: Clock) -> None:
    """Tickers whose periods divide one another, and busy ones that miss ticks."""
    log = Log(trace, clock)

    async def tick(ctx: Context, period: float, missed: str, busy: float) -> None:
        count = 0
        start = ctx.clock.now()
        async for due in ctx.clock.every(period, missed=missed):  # type: ignore[arg-type]
            log(ctx.name, f"{due - start:.9f}")
            count += 1
            if count == 2 and busy:
                await ctx.clock.sleep(busy)
            if count == 6:
                return

    async with Supervisor(clock=clock) as supervisor:
        for n, period in enumerate((0.1, 0.2, 0.3, 0.6, 0.05, 1 / 3)):
            supervisor.spawn(tick, period, "skip", 0.0, name=f"t{n}")
        for missed in ("skip", "burst", "delay"):
            supervisor.spawn(tick, 0.1, missed, 0.35, name=missed)
    log("is over")


@our_program
async def timeouts_of_two_kinds(trace: Write, clock: Clock) -> None:
    """Limits of the clock in limits of anyio and the other way round, up at one instant."""
    log = Log(trace, clock)

    async def one(number: int, ours: float, theirs: float) -> None:
        caught = []
        try:
            with anyio.move_on_after(theirs) as outer:
                try:
                    with clock.move_on_after(ours) as inner:
                        await clock.sleep(1)
                finally:
                    caught.append(inner.cancelled_caught)
                await clock.sleep(0.1)
            caught.append(outer.cancelled_caught)
            with clock.fail_after(ours), anyio.move_on_after(theirs) as last:
                await anyio.sleep(1)
            caught.append(last.cancelled_caught)
        except TimeoutError:
            caught.append("late")
        log(number, *caught)

    async with anyio.create_task_group() as tasks:
        for number, (ours, theirs) in enumerate(
            [(0.1, 0.3), (0.3, 0.1), (0.2, 0.2), (0.1, 0.2), (0.2, 0.25), (2, 0.2), (0.2, 2)]
        ):
            tasks.start_soon(one, number, ours, theirs)
    log("is over")


@our_program
async def threads_hold_time(trace: Write, clock: Clock) -> None:
    """Daemons that compute in threads, one at a time, while others tick."""
    log = Log(trace, clock)

    def compute(number: int) -> int:
        return sum(n * n for n in range(500 * number)) % 1009

    async def thinks(ctx: Context, seconds: float) -> None:
        for n in range(3):
            await ctx.clock.sleep(seconds)
            log(ctx.name, await to_thread.run_sync(compute, n))
            await results[ctx.name].send.send(n)

    async def ticks(ctx: Context) -> None:
        async for _ in ctx.clock.every(0.05):
            log("tick")

    async def collects(ctx: Context) -> None:
        for _ in range(3):
            for name in ("fast", "slow"):
                log("collected", name, await results[name].recv.receive())
        ctx.supervisor.signal_stop()
        log(*await ctx.supervisor.stop(grace=0))

    results = {name: open_channel[int](0) for name in ("slow", "fast")}
    async with Supervisor(clock=clock) as supervisor:
        supervisor.spawn(ticks)
        supervisor.spawn(thinks, 0.24, name="slow")
        supervisor.spawn(thinks, 0.14, name="fast")
        supervisor.spawn(collects)
    log("is over")
