"""Playing stories about recipes on simulated time. Times are tenths of a second, as floats hate."""

import math
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import anyio
import pytest
from chrono_core import (
    ChannelClosed,
    Context,
    EndOfStream,
    ReceiveStream,
    SendStream,
    SimClock,
    Supervisor,
    WouldBlock,
    open_channel,
)
from chrono_core.testing import Trace, assert_one_trace
from hypothesis import strategies as st

from tests.core.fast import run_fast
from tests.core.scheduling import rounds

SETTLED = 12  # rounds after which a recipe waits again
SIZES = st.sampled_from([0, 1, 2, 5, math.inf])
END = object()

Start = Callable[
    [Any, list[ReceiveStream[Any]], SendStream[Any], Callable[[Any, str], object]],
    Coroutine[Any, Any, None],
]
"""Starts a recipe: its clock, its sources, its destination, its ``on_drop``."""


@dataclass(frozen=True)
class Story:
    """What happens around a recipe."""

    scripts: tuple[tuple[tuple[int, Any], ...], ...]  # of each source: wait so long, send that
    sizes: tuple[float, ...]  # of the sources
    dest_size: float = 0
    pauses: tuple[int, ...] = (0,)  # of the consumer, before each item, over and over
    leaves: int | None = None  # after so many items, the consumer closes
    cancels: tuple[tuple[int, int], ...] = ()  # wait so long, and so many rounds, and cancel


@dataclass
class Outcome:
    """What came of a story."""

    story: Story
    taken: list[list[Any]] = field(default_factory=list)  # from each source
    out: list[Any] = field(default_factory=list)
    dropped: list[tuple[Any, str]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    ended: bool = False  # the consumer saw the end
    told: list[int] = field(default_factory=list)  # sources whose senders saw that all is over

    @property
    def reasons(self) -> set[str]:
        return {reason for _, reason in self.dropped}

    def balance(self, out: Iterable[Any] | None = None) -> None:
        """Check that of what was taken all has gone on or was dropped, and nothing else has."""
        taken = Counter(item for items in self.taken for item in items)
        gone = Counter(self.out if out is None else out)
        gone.update(item for item, _ in self.dropped)
        assert gone == taken


def stories(sources: int = 1, items: int = 12) -> st.SearchStrategy[Story]:
    """Stories whose items are (source, number, key), with keys that are a little out of order."""
    waits = st.integers(0, 6)
    script = st.lists(st.tuples(waits, st.integers(0, 6)), max_size=items)
    return st.builds(
        lambda scripts, sizes, dest_size, pauses, leaves, cancels: Story(
            tuple(
                tuple((wait, (source, n, n + key)) for n, (wait, key) in enumerate(script))
                for source, script in enumerate(scripts)
            ),
            tuple(sizes),
            dest_size,
            tuple(pauses),
            leaves,
            tuple(cancels),
        ),
        st.lists(script, min_size=sources, max_size=sources),
        st.lists(SIZES, min_size=sources, max_size=sources),
        SIZES,
        st.lists(waits, min_size=1, max_size=4),
        st.none() | st.integers(0, 4),
        st.lists(st.tuples(waits, st.integers(0, 12)), max_size=4),
    )


async def play_async(story: Story, start: Start) -> Outcome:
    clock = SimClock()
    outcome = Outcome(story)
    sources = [open_channel[Any](size, name=f"source-{n}") for n, size in enumerate(story.sizes)]
    dest = open_channel[Any](story.dest_size, name="dest")
    scope = anyio.CancelScope()

    def note(event: str) -> None:
        outcome.events.append(f"{clock.now_ns()} {event}")

    def drop(item: Any, reason: str) -> None:
        note(f"dropped {item} {reason}")
        outcome.dropped.append((item, reason))

    async def produce(ctx: Context, source: int) -> None:
        send = sources[source].send
        try:
            for wait, item in story.scripts[source]:
                if wait:
                    await clock.sleep(wait / 10)
                await send.send(item)
                note(f"sent {item}")
        except ChannelClosed:
            note(f"{source} was told")
            outcome.told.append(source)
        await send.aclose()

    async def host(ctx: Context) -> None:
        nonlocal scope
        while True:
            with anyio.CancelScope() as scope:
                await start(ctx, [source.recv for source in sources], dest.send, drop)
                break
            note("cancelled")
        note("returned")

    async def consume(ctx: Context) -> None:
        pauses = cycle(story.pauses)
        try:
            while story.leaves is None or len(outcome.out) < story.leaves:
                if pause := next(pauses):
                    await clock.sleep(pause / 10)
                outcome.out.append(await dest.recv.receive())
                note(f"got {outcome.out[-1]}")
        except EndOfStream:
            outcome.ended = True
        with suppress(WouldBlock, EndOfStream):
            while True:
                outcome.out.append(dest.recv.receive_nowait())
        note("the consumer leaves")
        await dest.recv.aclose()

    async def disturb(ctx: Context) -> None:
        for wait, n in story.cancels:
            if wait:
                await clock.sleep(wait / 10)
            await rounds(n)
            scope.cancel()

    async with Supervisor(clock=clock) as supervisor:
        handles = [supervisor.spawn(host), supervisor.spawn(consume)]
        for n in range(len(sources)):
            handles.append(supervisor.spawn(produce, n, name=f"produce-{n}"))
        handles.append(supervisor.spawn(disturb))
        for handle in handles:
            await clock.run_until(handle.wait_stopped(), limit=10_000)
    for source, script in zip(sources, story.scripts, strict=True):
        stats = source.recv.statistics()
        assert stats.received == len(script) or not stats.open_receive_streams
        outcome.taken.append([item for _, item in script[: stats.received]])
    assert not dest.recv.statistics().discarded
    assert outcome.ended or story.leaves is not None
    return outcome


def play(story: Story, start: Start, backend: str) -> Outcome:
    """Play a story to its end. A deadlock, or an end that does not arrive, raises."""
    outcomes: list[Outcome] = []

    async def program() -> None:
        outcomes.append(await play_async(story, start))

    run_fast(program, backend)
    return outcomes[0]


def check_one_trace(story: Story, start: Start) -> None:
    """Check that a story goes the same way every time and everywhere."""

    async def program(trace: Trace) -> None:
        for event in (await play_async(story, start)).events:
            trace.write(event)

    assert len(assert_one_trace(program).lines) > 20


@dataclass
class Log:
    """What came out of a recipe, and when."""

    out: list[tuple[int, Any]] = field(default_factory=list)
    dropped: list[tuple[int, Any, str]] = field(default_factory=list)
    error: Exception | None = None
    at: float = 0.0


async def feed_async(
    events: list[tuple[int, int, Any]], start: Start, sources: int, settle: bool, first: bool
) -> Log:
    """Play events; where two things happen at one instant, these come first or the recipe does."""
    clock = SimClock()
    log = Log()
    channels = [open_channel[Any](math.inf) for _ in range(sources)]
    dest = open_channel[Any](math.inf)
    last = events[-1][0] if events else 0
    dues = sorted({0, last, *(at for at, _, _ in events)})

    def tenths() -> int:
        assert clock.now_ns() % 100_000_000 == 0
        return clock.now_ns() // 100_000_000

    async def feed(ctx: Context, due: int) -> None:
        await clock.wait_until(due / 10)
        for at, source, item in events:
            if at != due:
                continue
            if item is END:
                await channels[source].send.aclose()
            else:
                channels[source].send.send_nowait(item)
            if settle:
                await rounds(SETTLED)
        if due == last:
            for channel in channels:
                await channel.send.aclose()

    async def consume(ctx: Context) -> None:
        async for item in dest.recv:
            log.out.append((tenths(), item))

    async def recipe(ctx: Context) -> None:
        try:
            await start(
                ctx.clock,
                [channel.recv for channel in channels],
                dest.send,
                lambda item, reason: log.dropped.append((tenths(), item, reason)),
            )
        except Exception as error:
            log.error = error
            log.at = clock.now()
            await dest.send.aclose()

    async def feed_in_turn(ctx: Context) -> None:
        for due in dues:
            await feed(ctx, due)

    async with Supervisor(clock=clock) as supervisor:
        handles = []
        if first:  # their sleep begins before any of the recipe's
            for due in dues[1:]:
                handles.append(supervisor.spawn(feed, due, name=f"feed-{due}"))
            await clock.advance(0)
            dues = dues[:1]
        handles += [supervisor.spawn(recipe), supervisor.spawn(consume)]
        handles.append(supervisor.spawn(feed_in_turn))
        for handle in handles:
            await clock.run_until(handle.wait_stopped(), limit=10_000)
    return log


def fed(
    events: list[tuple[int, int, Any]],
    start: Start,
    backend: str,
    *,
    sources: int = 1,
    settle: bool = True,
) -> Log:
    """Send items at given tenths, to sources by their numbers, where nobody ever has to wait.

    The recipe sees them one by one where they are to settle, else all of one instant at once.
    ``END`` closes a source; those that are not closed by then are closed after the last event. An
    item that comes at the instant of a deadline makes no difference to which is first.
    """
    logs: list[Log] = []

    async def program() -> None:
        for first in (False, True):
            logs.append(await feed_async(events, start, sources, settle, first))

    run_fast(program, backend)
    assert logs[0].out == logs[1].out
    assert logs[0].dropped == logs[1].dropped
    return logs[0]


async def check_gone_reaches_silent_sources(start: Start, *, sources: int = 1) -> None:
    """Check that a destination that closes, before or meanwhile, is passed on to all senders."""
    for early in (True, False):
        for size in (0, 3):
            channels = [open_channel[Any](size) for _ in range(sources)]
            dest = open_channel[Any](size)
            clock = SimClock()
            if early:
                await dest.recv.aclose()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(
                    start,
                    clock,
                    [channel.recv for channel in channels],
                    dest.send,
                    lambda item, reason: None,
                )
                await rounds()
                await dest.recv.aclose()
            for channel in channels:
                with pytest.raises(ChannelClosed):
                    await channel.send.send(1)


def steady(items: int, *, gap: int = 1, source: int = 0) -> tuple[tuple[int, Any], ...]:
    """A script that sends (source, number, key) at a steady rate."""
    return tuple((gap, (source, n, n)) for n in range(items))
