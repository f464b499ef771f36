"""Plans of what happens around a routing recipe, and runs of them on simulated time."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import anyio
from chrono_core import (
    Channel,
    ChannelClosed,
    EndOfStream,
    EndpointClosed,
    ReceiveStream,
    SimClock,
    WouldBlock,
    open_channel,
)
from chrono_core.lowlevel import wait_any
from chrono_recipes import (
    Done,
    ReceiverEnded,
    load_balance,
    merge,
    route,
    select,
    tee,
    worker_pool,
)
from hypothesis import strategies as st

from tests.core.fast import run_fast
from tests.core.scheduling import rounds

Item = tuple[int, int]
"""The number of the source, and that of the item."""

SIZES = (0, 1, 3, math.inf)
ONE_SOURCE = ("tee", "load_balance", "route", "worker_pool")
ONE_DEST = ("merge", "worker_pool", "select")
LONG = 1000.0


@dataclass(frozen=True)
class Source:
    """One producer. Times are tenths of a second.

    Attributes:
        size: of its channel.
        items: how many it sends.
        gaps: how long it waits before each, over and over.
        end: whether it then closes; leaves the channel open; or is cancelled at its last item.
    """

    size: float
    items: int
    gaps: tuple[int, ...]
    end: str


@dataclass(frozen=True)
class Dest:
    """One consumer.

    Attributes:
        size: of its channel.
        way: how it receives.
        pauses: how long it is busy with each item, over and over.
        leaves: after so many items it closes; None is never.
    """

    size: float
    way: str
    pauses: tuple[int, ...]
    leaves: int | None


@dataclass(frozen=True)
class Plan:
    """All that happens around one recipe.

    Attributes:
        cancels: wait so long, and so many rounds, then cancel the recipe, which begins anew.
        native: whether by `asyncio.Task.cancel`, where there is that.
        workers: of a pool.
        work: how long a pool's handler takes, over and over.
        fails: every so many requests, the handler fails; 0 is never.
    """

    recipe: str
    sources: tuple[Source, ...]
    dests: tuple[Dest, ...]
    cancels: tuple[tuple[int, int], ...]
    native: bool
    workers: int
    work: tuple[int, ...]
    fails: int


@st.composite
def plans(draw: st.DrawFn, recipe: str) -> Plan:
    few = st.integers(0, 4)
    times = st.lists(st.one_of(st.just(0), few), min_size=1, max_size=3).map(tuple)
    source = st.builds(
        Source,
        st.sampled_from(SIZES),
        st.integers(0, 20),
        times,
        st.sampled_from(("close", "close", "open", "cancelled")),
    )
    dest = st.builds(
        Dest,
        st.sampled_from(SIZES),
        st.sampled_from(("receive", "receive", "iterate", "many", "wait_any", "poll")),
        times,
        st.one_of(st.none(), st.integers(0, 8)),
    )
    sources = 1 if recipe in ONE_SOURCE else 4
    dests = 1 if recipe in ONE_DEST else 4
    return Plan(
        recipe,
        tuple(draw(st.lists(source, min_size=1, max_size=sources))),
        tuple(draw(st.lists(dest, min_size=1, max_size=dests))),
        tuple(draw(st.lists(st.tuples(few, st.integers(0, 8)), max_size=6))),
        draw(st.booleans()),
        draw(st.integers(1, 4)),
        draw(times),
        draw(st.integers(0, 3)),
    )


class Refusal(Exception):
    """A handler that fails on purpose."""


class Run:
    """One run of a plan, and what came of it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.clock = SimClock()
        self.sources: list[Channel[Any]] = [open_channel(source.size) for source in plan.sources]
        self.dests: list[Channel[Any]] = [open_channel(dest.size) for dest in plan.dests]
        self.sent: list[list[Item]] = [[] for _ in plan.sources]
        self.told: list[bool] = [False for _ in plan.sources]
        self.got: list[list[Any]] = [[] for _ in plan.dests]
        self.saw_end: list[bool] = [False for _ in plan.dests]
        self.left: list[bool] = [False for _ in plan.dests]
        self.drops: list[tuple[Item, str]] = []
        self.handled: list[Item] = []
        self.at_work = self.most_at_work = 0
        self.returned = False
        self.cancelled = 0
        self.left_over: list[list[Item]] = []
        self.scope = anyio.CancelScope()
        self.task: Any = None

    async def play(self) -> None:
        await self.clock.advance(0)  # from now on, there is one order on every backend
        async with anyio.create_task_group() as tasks:
            for number in range(len(self.sources)):
                tasks.start_soon(self.produce, number)
            if self.plan.recipe != "select":
                for number in range(len(self.dests)):
                    tasks.start_soon(self.consume, number)
            tasks.start_soon(self.host)
            tasks.start_soon(self.disturb)
            await self.clock.advance(LONG)
            tasks.cancel_scope.cancel()
        for got, dest in zip(self.got, self.dests, strict=True):
            got += drain(dest.recv)
        self.left_over = [drain(source.recv) for source in self.sources]
        self.check()

    # Around the recipe

    async def produce(self, number: int) -> None:
        source = self.plan.sources[number]
        send = self.sources[number].send
        gaps = cycle(source.gaps)
        try:
            for n in range(source.items):
                if gap := next(gaps):
                    await self.clock.sleep(gap / 10)
                if source.end == "cancelled" and n == source.items - 1:
                    with self.clock.move_on_after(0.1):
                        await send.send((number, n))
                        self.sent[number].append((number, n))
                    break
                await send.send((number, n))
                self.sent[number].append((number, n))
        except ChannelClosed:
            self.told[number] = True
        if source.end != "open":
            await send.aclose()
        elif not self.told[number]:
            await wait_any(closing=(send,))
            self.told[number] = True

    async def consume(self, number: int) -> None:
        dest = self.plan.dests[number]
        recv = self.dests[number].recv
        got = self.got[number]
        pauses = cycle(dest.pauses)
        try:
            while dest.leaves is None or len(got) < dest.leaves:
                got += await self.receive(recv, dest.way)
                if pause := next(pauses):
                    await self.clock.sleep(pause / 10)
        except EndOfStream:
            self.saw_end[number] = True
        else:
            self.left[number] = True
            await recv.aclose()

    async def receive(self, recv: ReceiveStream[Any], way: str) -> list[Any]:
        if way == "many":
            return await recv.receive_many(3)
        if way == "iterate":
            async for item in recv:
                return [item]
            raise EndOfStream("over", channel="")
        while way != "receive":
            try:
                return [recv.receive_nowait()]
            except WouldBlock:
                await (wait_any(recv) if way == "wait_any" else self.clock.sleep(0.1))
        return [await recv.receive()]

    async def disturb(self) -> None:
        for tenths, n in self.plan.cancels:
            if tenths:
                await self.clock.sleep(tenths / 10)
            await rounds(n)
            self.cancelled += 1
            if self.task is not None:
                self.task.cancel()
            else:
                self.scope.cancel()

    async def host(self) -> None:
        while not self.returned:
            with anyio.CancelScope() as self.scope:
                try:
                    await self.once()
                except EndpointClosed:
                    # The one before was cancelled as it closed the source for good.
                    assert self.cancelled
                    assert all(self.left)
                self.returned = True

    async def once(self) -> None:
        if not self.plan.native or asyncio_loop() is None:
            await self.recipe()
            return
        self.task = asyncio.create_task(self.recipe())
        try:
            await asyncio.wait([self.task])
        finally:
            task, self.task = self.task, None
            if not task.done():  # this one is cancelled itself
                task.cancel()
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([task])
        if task.cancelled():
            self.scope.cancel()
            await rounds(1)
        task.result()

    # The recipes

    def recipe(self) -> Coroutine[Any, Any, None]:
        sources = [source.recv for source in self.sources]
        dests = [dest.send for dest in self.dests]
        match self.plan.recipe:
            case "tee":
                return tee(sources[0], *dests, on_drop=self.drop)
            case "merge":
                return merge(sources, dests[0])
            case "load_balance":
                return load_balance(sources[0], dests)
            case "route":
                return route(
                    sources[0], self.key, dict(enumerate(dests)), default=0, on_drop=self.drop
                )
            case "worker_pool":
                workers = self.plan.workers
                return worker_pool(
                    sources[0], dests[0], self.handle, workers=workers, on_drop=self.drop
                )
        return self.select()

    def drop(self, item: Item, reason: str) -> None:
        self.drops.append((item, reason))

    def key(self, item: Item) -> int:
        """One more than there are destinations, so that some go to the default."""
        return item[1] % (len(self.dests) + 1)

    async def handle(self, request: Item) -> int:
        self.handled.append(request)
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        try:
            work = self.plan.work[request[1] % len(self.plan.work)]
            if work:
                await self.clock.sleep(work / 10)
            if self.plan.fails and not request[1] % self.plan.fails:
                raise Refusal(request)
        finally:
            self.at_work -= 1
        return request[1]

    async def select(self) -> None:
        """Receive by a fresh one each time it is cancelled."""
        dest = self.plan.dests[0]
        pauses = cycle(dest.pauses)
        selecting = select(*(source.recv for source in self.sources))
        while True:
            try:
                index, item = await selecting
            except ReceiverEnded:
                continue
            except EndOfStream:
                return
            assert index == item[0]
            self.got[0].append(item)
            if pause := next(pauses):
                await self.clock.sleep(pause / 10)

    # What must be so

    def check(self) -> None:
        self.taken = []
        for number, source in enumerate(self.sources):
            stats = source.recv.statistics()
            sent = self.sent[number]
            assert stats.sent == len(sent)
            # What the drain took was left over.
            before = stats.received - len(self.left_over[number])
            assert sent[before : stats.received] == self.left_over[number]
            assert stats.received + stats.discarded == len(sent)
            assert stats.open_receive_streams or not self.left_over[number]
            self.taken.append(sent[:before])
        getattr(self, f"check_{self.plan.recipe}")()
        self.check_liveness()

    def discarded(self) -> int:
        return sum(dest.recv.statistics().discarded for dest in self.dests)

    def check_merge(self) -> None:
        assert not self.drops
        for number, taken in enumerate(self.taken):
            mine = [item for item in self.got[0] if item[0] == number]
            assert mine == taken[: len(mine)]
        assert len(self.got[0]) + self.discarded() == sum(map(len, self.taken))

    def check_select(self) -> None:
        for number, taken in enumerate(self.taken):
            assert [item for item in self.got[0] if item[0] == number] == taken

    def check_load_balance(self) -> None:
        assert not self.drops
        everything = [item for got in self.got for item in got]
        assert len(set(everything)) == len(everything)
        assert set(everything) <= set(self.taken[0])
        assert len(everything) + self.discarded() == len(self.taken[0])
        for got in self.got:
            assert got == sorted(got)
        if not self.cancelled and not any(self.left):
            for number, got in enumerate(self.got):
                assert got == self.taken[0][number :: len(self.dests)]

    def check_route(self) -> None:
        dropped = [item for item, reason in self.drops if reason == "destination gone"]
        assert len(dropped) == len(self.drops)
        for number, got in enumerate(self.got):
            keys = (number, len(self.dests)) if number == 0 else (number,)
            mine = [item for item in self.taken[0] if self.key(item) in keys]
            lost = [item for item in dropped if self.key(item) in keys]
            discarded = self.dests[number].recv.statistics().discarded
            assert got == mine[: len(got)]
            assert lost == (mine[-len(lost) :] if lost else [])
            assert len(got) + discarded + len(lost) == len(mine)
            assert self.left[number] or not lost

    def check_tee(self) -> None:
        assert all(reason == "cancelled" for _, reason in self.drops)
        dropped = Counter(item for item, _ in self.drops)
        missed_by_open: Counter[Item] = Counter()
        missed: Counter[Item] = Counter()
        for number, got in enumerate(self.got):
            assert got == [item for item in self.taken[0] if item in set(got)]
            mine = Counter(set(self.taken[0]) - set(got))
            missed += mine
            if not self.left[number]:
                missed_by_open += mine
        assert missed_by_open <= dropped <= missed

    def check_worker_pool(self) -> None:
        results = self.got[0]
        assert self.handled == self.taken[0]
        assert self.most_at_work <= self.plan.workers
        requests = [done.request for done in results]
        dropped = [item for item, _ in self.drops]
        assert {reason for _, reason in self.drops} <= {"cancelled", "results gone"}
        assert len(set(requests + dropped)) == len(requests + dropped)
        assert set(requests + dropped) <= set(self.taken[0])
        assert len(requests + dropped) + self.discarded() == len(self.taken[0])
        for done in results:
            fails = bool(self.plan.fails) and not done.request[1] % self.plan.fails
            assert isinstance(done, Done)
            assert isinstance(done.error, Refusal) == fails
            assert done.value == (None if fails else done.request[1])

    def check_liveness(self) -> None:
        """Nobody waits for what can never come."""
        if any(dest.way == "poll" and not dest.size for dest in self.plan.dests):
            return  # at a rendezvous, nobody can send to one who does not wait
        all_end = all(source.end != "open" for source in self.plan.sources)
        assert self.returned == (all_end or all(self.left))
        if not self.returned:
            # All that was sent went through.
            assert not any(self.left_over)
        elif self.plan.recipe != "select" and all(self.left):
            closed = [not s.recv.statistics().open_receive_streams for s in self.sources]
            for number, source in enumerate(self.plan.sources):
                if closed[number] and source.end == "open":
                    assert self.told[number]
            assert all_end or all(closed)
        elif self.plan.recipe != "select":
            assert not any(self.left_over)
            assert all(ended or left for ended, left in zip(self.saw_end, self.left, strict=True))


def drain(recv: ReceiveStream[Any]) -> list[Any]:
    """What can still be received without waiting."""
    items: list[Any] = []
    if recv.statistics().open_receive_streams:
        try:
            while True:
                items.append(recv.receive_nowait())
        except (WouldBlock, EndOfStream):
            pass
    return items


def asyncio_loop() -> Any:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def play(plan: Plan, backend: str) -> Run:
    """Run a plan to its end, and check what must be so of any."""
    run: list[Run] = []

    async def program() -> None:
        run.append(Run(plan))
        await run[0].play()

    run_fast(program, backend)
    return run[0]


Start = Callable[[list[ReceiveStream[Any]], list[Any]], Coroutine[Any, Any, None]]
"""Starts a recipe: its sources, its destinations."""


async def echo(request: Any) -> Any:
    return request


STARTS: dict[str, Start] = {
    "tee": lambda sources, dests: tee(sources[0], *dests),
    "merge": lambda sources, dests: merge(sources, dests[0]),
    "load_balance": lambda sources, dests: load_balance(sources[0], dests),
    "route": lambda sources, dests: route(
        sources[0], lambda item: int(item) % len(dests), dict(enumerate(dests))
    ),
    "worker_pool": lambda sources, dests: worker_pool(sources[0], dests[0], echo, workers=3),
}
"""Each recipe with as many ends as it takes of those that are given."""
