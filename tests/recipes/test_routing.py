"""What all routing recipes do alike."""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest
from chrono_core import (
    Channel,
    ChannelClosed,
    Context,
    EndOfStream,
    SimClock,
    Supervisor,
    WouldBlock,
    open_channel,
)
from chrono_core.lowlevel import checkpoint
from chrono_core.testing import feed
from chrono_recipes import load_balance, merge, route, select, tee, worker_pool

from tests.core.scheduling import rounds

from .ends import Broken, ProbeReceive, ProbeSend
from .routing import STARTS, drain, echo

EACH = pytest.mark.parametrize("recipe", STARTS)
SIZES = pytest.mark.parametrize("size", [0, 1, 3, math.inf])
HOUR = 3600


def channels(number: int, size: float = 1) -> list[Channel[Any]]:
    return [open_channel(size) for _ in range(number)]


def run(recipe: str, sources: list[Channel[Any]], dests: list[Channel[Any]]) -> Any:
    return STARTS[recipe]([source.recv for source in sources], [dest.send for dest in dests])


def used(recipe: str, ends: list[Any]) -> list[Any]:
    """Those of the destinations that the recipe gets."""
    return ends[:1] if recipe in ("merge", "worker_pool") else ends


def taken(recipe: str, ends: list[Any]) -> list[Any]:
    """Those of the sources that the recipe gets."""
    return ends if recipe == "merge" else ends[:1]


def is_open(channel: Channel[Any]) -> bool:
    stats = channel.send.statistics()
    return bool(stats.open_send_streams and stats.open_receive_streams)


@EACH
@SIZES
@pytest.mark.parametrize("when", ["before", "at once", "one by one"])
async def test_destinations_that_go_are_passed_on_while_the_source_is_silent(
    recipe: str, size: float, when: str
) -> None:
    """When all destinations have closed, the call returns and every sender is told at once."""
    sources, dests = channels(2, size), channels(3, size)
    async with anyio.create_task_group() as tasks:
        if when != "before":
            tasks.start_soon(run, recipe, sources, dests)
            await rounds()
        for dest in dests:
            assert all(is_open(source) for source in sources)
            await dest.recv.aclose()
            if when == "one by one" and len(used(recipe, dests)) > 1:
                await rounds()
        if when == "before":
            tasks.start_soon(run, recipe, sources, dests)
    for source in taken(recipe, sources):
        with pytest.raises(ChannelClosed):
            await source.send.send(1)


@EACH
@SIZES
async def test_destinations_that_go_are_passed_on_to_a_blocked_sender(
    recipe: str, size: float
) -> None:
    """A sender that is blocked because nobody receives is told when the destinations close."""
    sources, dests = channels(1, size), channels(2, 1)
    told = False

    async def produce() -> None:
        nonlocal told
        try:
            for n in range(100):
                await sources[0].send.send(n)
        except ChannelClosed:
            told = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, recipe, sources, dests)
        tasks.start_soon(produce)
        await rounds(30)
        for dest in dests:
            await dest.recv.aclose()
    assert told == (size < math.inf)
    assert not sources[0].recv.statistics().open_receive_streams


@EACH
@SIZES
async def test_end_of_the_source_ends_the_destinations(recipe: str, size: float) -> None:
    """What was sent arrives, then every destination ends and the call returns."""
    sources, dests = channels(2, size), channels(2, size)
    got: list[Any] = []

    async def consume(dest: Channel[Any]) -> None:
        async for item in dest.recv:
            got.append(item)

    async with anyio.create_task_group() as tasks:
        for source in taken(recipe, sources):
            tasks.start_soon(feed, source.send, range(20))
        for dest in used(recipe, dests):
            tasks.start_soon(consume, dest)
        await run(recipe, sources, dests)
    expected = sorted([*range(20)] * (2 if recipe in ("tee", "merge") else 1))
    assert sorted(getattr(item, "request", item) for item in got) == expected
    for dest in used(recipe, dests):
        with pytest.raises(EndOfStream):
            dest.recv.receive_nowait()


@EACH
@pytest.mark.parametrize("when", ["before", "while it waits"])
async def test_failing_source_raises_its_own_error_and_leaves_all_open(
    recipe: str, when: str
) -> None:
    """The error comes as it is, not in a group; nothing is closed; a second call goes on."""
    sources, dests = channels(2, 4), channels(2, 10)
    probes = [ProbeReceive(source.recv) for source in sources]
    recvs: list[Any] = list(probes)
    sends = [dest.send for dest in dests]
    broken = Broken()
    errors = []

    async def call() -> None:
        try:
            await STARTS[recipe](recvs, sends)
        except Broken as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        if when == "before":
            probes[0].fail(broken)
        tasks.start_soon(call)
        await rounds()
        probes[0].fail(broken)
    assert errors == [broken]
    assert all(is_open(channel) for channel in (*sources, *dests))
    probes[0].mend()
    sources[0].send.send_nowait(1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await rounds()
        for source in sources:
            await source.send.aclose()
    assert any(drain(dest.recv) for dest in dests)
    assert errors == [broken]


@EACH
@pytest.mark.parametrize("state", ["silent", "one gone", "blocked", "blocked on a rendezvous"])
async def test_waiting_looks_at_nothing(recipe: str, state: str) -> None:
    """However long a recipe waits, and whatever others do, it does not run meanwhile."""
    clock = SimClock()
    sources, dests = channels(2, 5), channels(3, 0 if "rendezvous" in state else 1)
    probes = [ProbeReceive(source.recv) for source in sources]
    ends = [ProbeSend(dest.send) for dest in dests]
    both: list[Any] = [*probes, *ends]

    async def tick() -> None:
        while True:
            await clock.sleep(20)

    async with anyio.create_task_group() as tasks:
        recvs: list[Any] = list(probes)
        tasks.start_soon(STARTS[recipe], recvs, ends)
        tasks.start_soon(tick)
        await clock.advance(0)
        if state == "one gone" and len(used(recipe, dests)) > 1:
            await dests[1].recv.aclose()
        if "blocked" in state:
            for n in range(5):
                for source in taken(recipe, sources):
                    source.send.send_nowait(n)
                    await clock.advance(0)
        await clock.advance(1)
        before = sum(end.looks for end in both)
        await clock.advance(HOUR)
        assert sum(end.looks for end in both) == before
        tasks.cancel_scope.cancel()
    assert before < 200


@EACH
async def test_other_tasks_run_while_items_pass_without_a_wait(recipe: str) -> None:
    """Where there is always an item and always room, others run at least once in 16 items.

    Of a pool, each worker counts for itself.
    """
    sources, dests = channels(1, math.inf), channels(2, math.inf)
    for n in range(1600):
        sources[0].send.send_nowait(n)
    await sources[0].send.aclose()
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await checkpoint()
            turns += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        await rounds(2)
        await run(recipe, sources, dests)
        tasks.cancel_scope.cancel()
    workers = 3 if recipe == "worker_pool" else 1
    assert turns >= 1600 / 16 / workers - 1


@EACH
@SIZES
async def test_cancelled_call_closes_nothing_and_another_goes_on(recipe: str, size: float) -> None:
    """After a cancellation at any round, a second call passes on what the first has left."""
    for after in range(12):
        sources, dests = channels(1, size), channels(1, size)
        got: list[Any] = []

        async def consume(dest: Channel[Any] = dests[0], got: list[Any] = got) -> None:
            async for item in dest.recv:
                got.append(getattr(item, "request", item))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(feed, sources[0].send, range(6))
            tasks.start_soon(consume)
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as inner:
                    inner.start_soon(run, recipe, sources, dests)
                    await rounds(after)
                    scope.cancel()
            if dests[0].send.statistics().open_send_streams:
                assert sources[0].recv.statistics().open_receive_streams
            await run(recipe, sources, dests)
        if recipe == "worker_pool":
            assert got == sorted(set(got))
        else:
            assert got == list(range(6))


@EACH
async def test_recipe_is_a_daemon_like_any_other(recipe: str) -> None:
    """Under a supervisor on simulated time, it is restarted on the same channels when it fails."""
    clock = SimClock()
    sources, dests = channels(1, 3), channels(1, 0)
    probe = ProbeReceive(sources[0].recv)
    got: list[Any] = []

    async def live(ctx: Context) -> None:
        await STARTS[recipe]([probe], [dests[0].send])

    async def produce(ctx: Context) -> None:
        for n in range(9):
            await ctx.clock.sleep(1)
            await sources[0].send.send(n)
            if n == 4:
                probe.fail(Broken())
                await ctx.clock.sleep(0.05)
                probe.mend()
        await sources[0].send.aclose()

    async def consume(ctx: Context) -> None:
        async for item in dests[0].recv:
            got.append(getattr(item, "request", item))

    async with Supervisor(clock=clock, on_error="restart") as supervisor:
        handle = supervisor.spawn(live, name="recipe")
        supervisor.spawn(consume)
        supervisor.spawn(produce)
        await clock.advance(60)
    assert handle.health.restart_count == 1
    assert got == list(range(9))


a, b, c = channels(3)

BAD: dict[str, tuple[type[Exception], str, Callable[[], object]]] = {
    "merge: no list": (TypeError, "sources must be several", lambda: merge(a.recv, b.send)),  # type: ignore[arg-type]
    "merge: none": (ValueError, "sources .* at least one", lambda: merge([], b.send)),
    "merge: twice": (ValueError, "sources .* twice", lambda: merge([a.recv, a.recv], b.send)),
    "merge: wrong end": (TypeError, "each source .* receiving", lambda: merge([a.send], b.send)),  # type: ignore[list-item]
    "merge: dest": (TypeError, "dest must be the sending", lambda: merge([a.recv], b)),  # type: ignore[arg-type]
    "tee: channel": (TypeError, "source must be the receiving", lambda: tee(a, b.send)),  # type: ignore[arg-type]
    "tee: none": (ValueError, "destinations .* at least one", lambda: tee(a.recv)),
    "tee: twice": (ValueError, "destinations .* twice", lambda: tee(a.recv, b.send, b.send)),
    "tee: list": (TypeError, "each destination", lambda: tee(a.recv, [b.send])),  # type: ignore[arg-type]
    "tee: on_drop": (TypeError, "on_drop", lambda: tee(a.recv, b.send, on_drop=5)),  # type: ignore[arg-type]
    "load_balance: no list": (
        TypeError,
        "dests must be several",
        lambda: load_balance(a.recv, b.send),  # type: ignore[arg-type]
    ),
    "load_balance: none": (ValueError, "at least one", lambda: load_balance(a.recv, [])),
    "load_balance: twice": (ValueError, "twice", lambda: load_balance(a.recv, [b.send] * 2)),
    "load_balance: source": (TypeError, "source", lambda: load_balance(a.send, [b.send])),  # type: ignore[arg-type]
    "route: key": (TypeError, "key must be", lambda: route(a.recv, "key", {1: b.send})),  # type: ignore[arg-type]
    "route: no mapping": (TypeError, "dests must map", lambda: route(a.recv, len, [b.send])),  # type: ignore[arg-type]
    "route: none": (ValueError, "at least one", lambda: route(a.recv, len, {})),
    "route: twice": (ValueError, "twice", lambda: route(a.recv, len, {1: b.send, 2: b.send})),
    "route: wrong end": (TypeError, "destination of 1", lambda: route(a.recv, len, {1: b.recv})),  # type: ignore[dict-item]
    "route: default": (ValueError, "default", lambda: route(a.recv, len, {1: b.send}, default=2)),
    "route: on_drop": (
        TypeError,
        "on_drop",
        lambda: route(a.recv, len, {1: b.send}, on_drop="x"),  # type: ignore[arg-type]
    ),
    "pool: workers": (
        ValueError,
        "workers must be .* got 0",
        lambda: worker_pool(a.recv, b.send, echo, workers=0),
    ),
    "pool: half a worker": (
        ValueError,
        "workers must be .* got 1.5",
        lambda: worker_pool(a.recv, b.send, echo, workers=1.5),  # type: ignore[call-overload]
    ),
    "pool: incoming": (
        TypeError,
        "incoming must be",
        lambda: worker_pool(a.send, b.send, echo, workers=1),  # type: ignore[call-overload]
    ),
    "pool: results": (
        TypeError,
        "results must be",
        lambda: worker_pool(a.recv, b.recv, echo, workers=1),  # type: ignore[call-overload]
    ),
    "pool: handle": (
        TypeError,
        "handle must be",
        lambda: worker_pool(a.recv, b.send, 5, workers=1),  # type: ignore[call-overload]
    ),
    "pool: executor": (
        TypeError,
        "executor must be",
        lambda: worker_pool(a.recv, b.send, len, workers=1, executor=5),  # type: ignore[call-overload]
    ),
    "pool: on_drop": (
        TypeError,
        "on_drop must be",
        lambda: worker_pool(a.recv, b.send, echo, workers=1, on_drop=5),  # type: ignore[call-overload]
    ),
    "select: none": (ValueError, "at least one", lambda: select()),
    "select: twice": (ValueError, "twice", lambda: select(a.recv, a.recv)),
    "select: wrong end": (TypeError, "each receiver", lambda: select(a.recv, b.send)),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_at_the_call(case: str) -> None:
    """The error comes before anything is awaited, and names what is wrong."""
    kind, message, call = BAD[case]
    with pytest.raises(kind, match=message):
        call()


@EACH
async def test_consumer_that_polls_gets_nothing_at_a_rendezvous(recipe: str) -> None:
    """Where nobody waits to receive there is no room: the item stays in its source meanwhile."""
    sources, dests = channels(1, 3), channels(1, 0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, recipe, sources, dests)
        sources[0].send.send_nowait(1)
        for _ in range(20):
            with suppress(WouldBlock):
                raise AssertionError(dests[0].recv.receive_nowait())
            await rounds(1)
        item = await dests[0].recv.receive()
        assert getattr(item, "request", item) == 1
        tasks.cancel_scope.cancel()
