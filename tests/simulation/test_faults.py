"""What goes wrong on purpose."""

import logging
import math
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from chrono_core import (
    ChannelClosed,
    Context,
    DaemonError,
    EndOfStream,
    ExplorationFailure,
    Faults,
    InjectedFault,
    SimulationStalled,
    Supervisor,
    explore,
    open_channel,
    simulate,
)
from chrono_core.testing import available_backends, collect, feed

both = pytest.mark.parametrize("backend", available_backends())


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Daemons that fail on purpose need not be heard of."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


async def pipe() -> tuple[list[int], float]:
    """Ten items through a channel: what arrived, and when that was done."""
    channel = open_channel[int](2)
    received: list[int] = []

    async def receive() -> None:
        received.extend(await collect(channel.recv))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receive)
        await feed(channel.send, range(10))
    return received, anyio.current_time()


@both
def test_without_faults_nothing_goes_wrong(backend: Any) -> None:
    """Faults of probability zero, and no faults, are the same."""
    for faults in (None, Faults()):
        assert simulate(pipe, faults=faults, seed=1, backend=backend) == (list(range(10)), 0.0)


@both
def test_delays_take_time_and_nothing_else(backend: Any) -> None:
    """Every item arrives, in order, later."""
    ends = set()
    for seed in (None, *range(1, 7)):
        faults = Faults(delay=0.5, max_delay=2.0)
        runs = [simulate(pipe, faults=faults, seed=seed, backend=backend) for _ in range(2)]
        assert runs[0] == runs[1]
        items, end = runs[0]
        assert items == list(range(10))
        assert 0 < end <= 2.0 * 21
        ends.add(end)
    assert len(ends) > 4


@both
def test_a_delayed_call_can_be_cancelled(backend: Any) -> None:
    """Then nothing was sent, and the end is free again."""

    async def main() -> None:
        channel = open_channel[int](2)
        for _ in range(3):
            with anyio.move_on_after(0) as scope:
                await channel.send.send(1)
            assert scope.cancelled_caught
        assert channel.recv.statistics().sent == 0
        assert channel.recv.statistics().waiters_send == 0

    simulate(main, faults=Faults(delay=1.0), seed=1, backend=backend)


@both
def test_a_stalled_call_never_returns(backend: Any) -> None:
    """Who waits for it without a limit waits for ever."""
    with pytest.raises(SimulationStalled):
        simulate(pipe, faults=Faults(stall=1.0), seed=1, backend=backend)

    async def patient() -> bool:
        with anyio.move_on_after(10) as scope:
            await pipe()
        return scope.cancelled_caught

    assert simulate(patient, faults=Faults(stall=1.0), seed=1, backend=backend)


@both
def test_a_cut_link_ends_for_both_sides(backend: Any) -> None:
    """The sender finds nobody; the receiver gets what was sent before, and then the end."""

    async def main() -> tuple[int, list[int]]:
        channel = open_channel[int](math.inf)
        sent = 0
        try:
            while True:
                await channel.send.send(sent)
                sent += 1
        except ChannelClosed as error:
            assert "fault" in str(error)
        received = []
        try:
            while True:
                received.append(await channel.recv.receive())
        except EndOfStream:
            return sent, received

    lengths = set()
    for seed in range(10):
        sent, received = simulate(main, faults=Faults(close=0.1), seed=seed, backend=backend)
        assert received == list(range(sent))
        lengths.add(sent)
    assert len(lengths) > 3


async def ticking(policy: Any, seconds: float) -> tuple[list[float], int]:
    """A daemon that ticks each second: when it did, and how often it was started again."""
    ticks = []

    async def tick(ctx: Context) -> None:
        async for due in ctx.clock.every(1):
            ticks.append(due)

    async with Supervisor(on_error=policy, on_exit="stop") as supervisor:
        handle = supervisor.spawn(tick, name="ticker")
        await anyio.sleep(seconds)
        restarts = handle.health.restart_count
    return ticks, restarts


@both
def test_a_daemon_is_made_to_crash(backend: Any) -> None:
    """It is its policy's affair what becomes of it, as with any other error."""
    faults = Faults(crash=1.0, within=10)
    with pytest.raises(ExceptionGroup) as raised:
        simulate(ticking, "shutdown", 100.0, faults=faults, seed=1, backend=backend)
    (error,) = raised.value.exceptions
    assert isinstance(error, DaemonError)
    assert isinstance(error.__cause__, InjectedFault)
    ticks, restarts = simulate(ticking, "restart", 100.0, faults=faults, seed=1, backend=backend)
    assert restarts > 5
    assert len(ticks) < 100


@both
def test_a_daemon_is_made_to_hang(backend: Any) -> None:
    """It goes on no more, and can be stopped."""
    faults = Faults(hang=1.0, within=10)
    ticks, restarts = simulate(ticking, "restart", 100.0, faults=faults, seed=1, backend=backend)
    assert restarts == 0
    assert len(ticks) <= 10


@both
def test_clocks_are_ahead_or_behind(backend: Any) -> None:
    """Each daemon sees its own time; what it waits for takes as long as ever."""

    async def main() -> list[float]:
        offsets = []

        async def look(ctx: Context) -> None:
            before = ctx.clock.now()
            await ctx.clock.sleep(1)
            assert ctx.clock.now() == pytest.approx(before + 1)
            await ctx.clock.wait_until(before + 3)
            assert anyio.current_time() == pytest.approx(3)
            with ctx.clock.move_on_at(before + 4):
                await anyio.sleep_forever()
            assert anyio.current_time() == pytest.approx(4)
            with pytest.raises(TimeoutError), ctx.clock.fail_after(1):
                await anyio.sleep_forever()
            with ctx.clock.move_on_after(1):
                await anyio.sleep_forever()
            assert anyio.current_time() == pytest.approx(6)
            offsets.append(before)

        async with Supervisor() as supervisor:
            for n in range(5):
                supervisor.spawn(look, name=f"d{n}")
        return offsets

    offsets = simulate(main, faults=Faults(skew=0.5), seed=3, backend=backend)
    assert len(set(offsets)) == 5
    assert all(-0.5 <= offset <= 0.5 for offset in offsets)
    assert offsets == simulate(main, faults=Faults(skew=0.5), seed=3, backend=backend)


@both
def test_a_fault_that_breaks_a_program_is_found_and_kept(backend: Any) -> None:
    """The simplest failing run has the one fault that it needs."""

    async def main() -> None:
        received, _ = await pipe()
        assert received == list(range(10))

    def faults() -> Faults:
        return Faults(close=0.01, delay=0.2)

    with pytest.raises(ExplorationFailure) as raised:
        explore(main, faults=faults(), backend=backend)
    chosen = [choice[0] for choice in raised.value.choices if choice[1]]
    assert chosen == ["close"]
    with pytest.raises(ExplorationFailure, match="failed again"):
        explore(main, faults=faults(), replay=raised.value.replay)


async def test_outside_of_a_simulation_channels_are_what_they_were() -> None:
    """Nothing is left of the faults of a simulation that has ended."""
    from chrono_core import _channel

    assert _channel.interpose is None
    assert type(open_channel[int]().send) is _channel._Send


@pytest.mark.parametrize(
    "options",
    [{"delay": -0.1}, {"crash": 1.1}, {"skew": -1}, {"within": math.nan}, {"close": math.inf}],
)
def test_what_is_no_probability_is_refused(options: dict[str, float]) -> None:
    """At once, and by name."""
    with pytest.raises(ValueError, match=next(iter(options))):
        Faults(**options)
