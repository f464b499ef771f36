"""Random pipelines of recipes, as plain data and as programs that write a trace.

Run as `python -m tests.recipes.graphs BACKEND`, it reads graphs from stdin and prints a hash for
each.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from typing import Any

import anyio
from chrono_core import (
    Channel,
    ChannelClosed,
    Context,
    EndOfStream,
    EndpointClosed,
    ReceiveStream,
    RestartPolicy,
    SendStream,
    SimClock,
    Supervisor,
    WouldBlock,
    open_channel,
)
from chrono_core.lowlevel import wait_any
from chrono_core.testing import Trace
from chrono_recipes import (
    Aligned,
    BatcherStopped,
    Done,
    ReceiverEnded,
    align,
    batcher_loop,
    debounce,
    latest_within,
    load_balance,
    merge,
    rate_limit,
    reorder,
    route,
    select,
    submit,
    tee,
    throttle,
    timeout_items,
    window,
    worker_pool,
)
from hypothesis import strategies as st

from tests.core.scheduling import rounds

from .ends import Broken, ProbeReceive

TIMES = (0.05, 0.1, 0.1, 0.15, 0.25, 0.5, 1 / 3)
SIZES = (0, 0, 1, 2, 7, math.inf)

ONE_TO_MANY = ("tee", "load_balance", "route")
MANY_TO_ONE = ("merge", "select", "align")
ONE_TO_ONE = (
    "worker_pool",
    "throttle",
    "debounce",
    "window",
    "rate_limit",
    "timeout_items",
    "reorder",
)
KINDS = (*ONE_TO_MANY, *MANY_TO_ONE, *ONE_TO_ONE, "latest_within", "batcher")


@dataclass(frozen=True, slots=True)
class Source:
    """A producer.

    Attributes:
        period: seconds between its bursts; 0 is as fast as it can.
        burst: how many items it sends at one instant.
        items: how many it sends in all.
        size: of its channel.
        closes: whether it closes the channel in the end.
    """

    period: float
    burst: int
    items: int
    size: float
    closes: bool


@dataclass(frozen=True, slots=True)
class Stage:
    """A recipe.

    Attributes:
        kind: which.
        ins: which of the channels that nobody receives from yet; more of them than it takes.
        sizes: of the channels that it sends to; more of them than it needs.
        number: a count that the recipe is given.
        seconds: a time that the recipe is given.
        cancels: at these times, and so many rounds later, it is cancelled, and begins anew.
        breaks_at: when its first source fails; 0 is never.
        fails_at: the call of its user's function that fails; 0 is never.
        stopped_at: when it is stopped; 0 is never.
        grace: how long that waits.
    """

    kind: str
    ins: tuple[int, ...]
    sizes: tuple[float, ...]
    number: int
    seconds: float
    cancels: tuple[tuple[float, int], ...]
    breaks_at: float
    fails_at: int
    stopped_at: float
    grace: float


@dataclass(frozen=True, slots=True)
class Sink:
    """A consumer.

    Attributes:
        way: how it receives.
        work: seconds that each item takes.
        leaves: close after so many items; 0 is never.
        leaves_at: close at this time; 0 is never.
    """

    way: str
    work: float
    leaves: int
    leaves_at: float


@dataclass(frozen=True, slots=True)
class Graph:
    sources: tuple[Source, ...]
    stages: tuple[Stage, ...]
    sinks: tuple[Sink, ...]
    advances: tuple[float, ...]

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def load(text: str) -> Graph:
        data = json.loads(text)

        def stage(raw: dict[str, Any]) -> Stage:
            for name in ("ins", "sizes", "cancels"):
                raw[name] = tuple(raw[name])
            return Stage(**raw)

        return Graph(
            tuple(Source(**raw) for raw in data["sources"]),
            tuple(stage(raw) for raw in data["stages"]),
            tuple(Sink(**raw) for raw in data["sinks"]),
            tuple(data["advances"]),
        )


def rarely(values: st.SearchStrategy[Any], otherwise: object) -> st.SearchStrategy[Any]:
    return st.one_of(st.just(otherwise), st.just(otherwise), values)


times = st.sampled_from(TIMES)
instants = st.sampled_from((0.1, 0.25, 0.3, 0.5, 1.0, 2 / 3))

SOURCES = st.builds(
    Source,
    period=rarely(st.just(0.0), 0.1) | times,
    burst=st.integers(1, 3),
    items=st.integers(0, 30),
    size=st.sampled_from(SIZES),
    closes=st.sampled_from((True, True, False)),
)
STAGES = st.builds(
    Stage,
    kind=st.sampled_from(KINDS),
    ins=st.lists(st.integers(0, 99), min_size=3, max_size=3).map(tuple),
    sizes=st.lists(st.sampled_from(SIZES), min_size=3, max_size=3).map(tuple),
    number=st.integers(1, 3),
    seconds=times,
    cancels=rarely(st.lists(st.tuples(instants, st.integers(0, 6)), max_size=3).map(tuple), ()),
    breaks_at=rarely(instants, 0.0),
    fails_at=rarely(st.integers(1, 12), 0),
    stopped_at=rarely(instants, 0.0),
    grace=st.sampled_from((0.0, 0.2)),
)
SINKS = st.builds(
    Sink,
    way=st.sampled_from(("receive", "receive", "iterate", "many", "wait_any", "poll")),
    work=rarely(times, 0.0),
    leaves=rarely(st.integers(1, 12), 0),
    leaves_at=rarely(instants, 0.0),
)
GRAPHS = st.builds(
    Graph,
    sources=st.lists(SOURCES, min_size=1, max_size=4).map(tuple),
    stages=st.lists(STAGES, min_size=1, max_size=6).map(tuple),
    sinks=st.lists(SINKS, min_size=8, max_size=8).map(tuple),
    advances=st.lists(st.sampled_from((0.0, 0.3, 1.0, 7.0)), min_size=1, max_size=3).map(tuple),
)


@dataclass(frozen=True, slots=True)
class Item:
    """What sources send."""

    stamp: float
    name: str


def first(thing: Any) -> Item:
    """The first item within what recipes make of items."""
    while not isinstance(thing, Item):
        if isinstance(thing, Aligned):
            thing = thing.primary
        elif isinstance(thing, Done):
            thing = thing.request
        else:
            thing = thing[0]
    return thing


def words(thing: Any) -> str:
    match thing:
        case Item():
            return thing.name
        case Aligned():
            return f"<{words(thing.primary)}|{' '.join(words(one) for one in thing.others)}>"
        case Done():
            return f"{words(thing.request)}{'!' if thing.error is None else '?'}"
    return f"[{' '.join(words(one) for one in thing)}]"


class Refusal(Exception):
    """A user's function that fails on purpose."""


class Runner:
    """One run of a graph."""

    def __init__(self, graph: Graph, trace: Trace) -> None:
        self.graph = graph
        self.trace = trace
        self.clock = SimClock()
        self.channels: list[Channel[Any]] = []
        self.loose: list[Channel[Any]] = []  # from which nobody receives yet
        self.handles: dict[str, Any] = {}
        self.scopes: dict[str, anyio.CancelScope] = {}

    async def run(self) -> None:
        try:
            async with Supervisor(
                clock=self.clock,
                on_exit="stop",
                on_error="restart",
                restart=RestartPolicy(base=0.1, max_retries=3),
            ) as supervisor:
                self.spawn_all(supervisor)
                for seconds in self.graph.advances:
                    await self.clock.advance(seconds)
                    self.trace.write(f"advanced to {self.clock.now()}")
                    for name, health in supervisor.snapshot().items():
                        self.trace.write(f"{name} {health.state} {health.restart_count}")
                forced = await supervisor.stop(grace=0.5, finalize_timeout=0.2)
                self.trace.write(f"forced {forced}")
        except* Exception as group:
            self.trace.write(f"raised {[str(error) for error in group.exceptions]}")
        self.trace.write(f"ended at {self.clock.now()}")
        for channel in self.channels:
            self.trace.write(f"{channel.name} {channel.recv.statistics()}")

    def open(self, size: float) -> Channel[Any]:
        channel: Channel[Any] = open_channel(size, name=f"c{len(self.channels)}")
        self.channels.append(channel)
        self.loose.append(channel)
        return channel

    def spawn_all(self, supervisor: Supervisor) -> None:
        for number, source in enumerate(self.graph.sources):
            channel = self.open(source.size)
            supervisor.spawn(self.produce, number, source, channel.send, name=f"source-{number}")
        for number, stage in enumerate(self.graph.stages):
            self.spawn_stage(supervisor, f"{stage.kind}-{number}", stage)
        for number, channel in enumerate(list(self.loose)):
            sink = self.graph.sinks[number % len(self.graph.sinks)]
            supervisor.spawn(self.consume, sink, channel.recv, name=f"sink-{channel.name}")

    def spawn_stage(self, supervisor: Supervisor, name: str, stage: Stage) -> None:
        many = stage.kind in (*MANY_TO_ONE, "batcher")
        count = stage.number if many else 2 if stage.kind == "latest_within" else 1
        if stage.kind == "align":
            count = max(2, count)
        if count > len(self.loose):
            return
        ins = [self.loose.pop(pick % len(self.loose)) for pick in stage.ins[:count]]
        probe = ProbeReceive(ins[0].recv)
        recvs: list[Any] = [probe, *(channel.recv for channel in ins[1:])]
        outs = stage.number if stage.kind in ONE_TO_MANY else 1
        if stage.kind == "batcher":
            self.spawn_batcher(supervisor, name, stage, recvs)
        else:
            sends = [self.open(size).send for size in stage.sizes[:outs]]
            call = Call(self, name, stage, recvs, sends)
            self.handles[name] = supervisor.spawn(self.live, call, name=name)
        supervisor.spawn(self.disturb, name, stage, probe, name=f"disturb-{name}")

    def spawn_batcher(
        self, supervisor: Supervisor, name: str, stage: Stage, recvs: list[Any]
    ) -> None:
        """A batcher, and for each source one who submits its items and sends on the answers."""
        requests: Channel[Any] = open_channel(stage.sizes[-1], name=f"requests-{name}")
        self.channels.append(requests)
        call = Call(self, name, stage, [requests.recv], [])
        self.handles[name] = supervisor.spawn(self.live, call, name=name)
        for number, recv in enumerate(recvs):
            send = self.open(stage.sizes[number]).send
            supervisor.spawn(
                self.submit_all, requests.send, recv, send, name=f"submit-{number}-{name}"
            )

    # Daemons

    async def produce(
        self, ctx: Context, number: int, source: Source, send: SendStream[Any]
    ) -> None:
        try:
            for n in range(source.items):
                if source.period and not n % source.burst:
                    await ctx.clock.sleep(source.period)
                # Somewhat out of order.
                stamp = ctx.clock.now() - 0.1 * (n * 7 % 3)
                await send.send(Item(stamp, f"{number}.{n}"))
                self.trace.record(ctx, f"sent {n}")
            if source.closes:
                await send.aclose()
        except ChannelClosed:
            self.trace.record(ctx, "was told")
            await send.aclose()

    async def live(self, ctx: Context, call: Call) -> None:
        """Run a recipe; begin anew where it was cancelled by itself."""
        try:
            while True:
                with anyio.CancelScope() as self.scopes[call.name]:
                    try:
                        await call.recipe(ctx)
                    except EndpointClosed:
                        # The one before was cancelled when it was over.
                        self.trace.record(ctx, "finds itself over")
                    break
                self.trace.record(ctx, "was cancelled")
            self.trace.record(ctx, "returns")
        except anyio.get_cancelled_exc_class():
            self.trace.record(ctx, "is stopped")
            raise
        except Exception as error:
            self.trace.record(ctx, f"fails: {type(error).__name__}")
            for recv in call.recvs:
                if isinstance(recv, ProbeReceive):
                    recv.mend()
            raise

    async def disturb(
        self, ctx: Context, name: str, stage: Stage, probe: ProbeReceive[Any]
    ) -> None:
        events: list[tuple[float, int, Callable[[], object]]] = []
        for at, n in stage.cancels:
            events.append((at, n, lambda: self.scopes[name].cancel()))
        if stage.breaks_at:
            events.append((stage.breaks_at, 0, lambda: probe.fail(Broken())))
        for at, n, action in sorted(events, key=lambda event: event[:2]):
            await ctx.clock.wait_until(at)
            await rounds(n)
            action()
            self.trace.record(ctx, "disturbs")
        if stage.stopped_at:
            await ctx.clock.wait_until(stage.stopped_at)
            await self.handles[name].stop(grace=stage.grace, finalize_timeout=0.2)
            self.trace.record(ctx, "has stopped it")

    async def submit_all(
        self,
        ctx: Context,
        requests: SendStream[Any],
        recv: ReceiveStream[Any],
        send: SendStream[Any],
    ) -> None:
        try:
            async for item in recv:
                try:
                    answer = await submit(requests, item)
                except Refusal:
                    self.trace.record(ctx, f"failed for {words(item)}")
                    continue
                await send.send(answer)
                self.trace.record(ctx, f"answer {words(answer)[:40]}")
        except (BatcherStopped, ChannelClosed) as error:
            self.trace.record(ctx, f"ends by {type(error).__name__}")
            await recv.aclose()
        await send.aclose()

    async def consume(self, ctx: Context, sink: Sink, recv: ReceiveStream[Any]) -> None:
        seen = 0
        with ctx.clock.move_on_at(sink.leaves_at or math.inf):
            while not sink.leaves or seen < sink.leaves:
                try:
                    items = await self.receive(ctx, recv, sink.way)
                except EndOfStream:
                    self.trace.record(ctx, "sees the end")
                    break
                for item in items:
                    seen += 1
                    self.trace.record(ctx, f"got {words(item)[:60]}")
                if sink.work:
                    await ctx.clock.sleep(sink.work)
        await recv.aclose()
        self.trace.record(ctx, "leaves")

    async def receive(self, ctx: Context, recv: ReceiveStream[Any], way: str) -> list[Any]:
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
                await (wait_any(recv) if way == "wait_any" else ctx.clock.sleep(0.1))
        return [await recv.receive()]


class Call:
    """One recipe and its ends, to be called again and again."""

    def __init__(
        self,
        runner: Runner,
        name: str,
        stage: Stage,
        recvs: list[Any],
        sends: list[SendStream[Any]],
    ) -> None:
        self.name = name
        self.recvs = recvs
        self._runner = runner
        self._stage = stage
        self._sends = sends
        self._calls = 0

    def recipe(self, ctx: Context) -> Coroutine[Any, Any, None]:
        stage, recvs, sends, drop = self._stage, self.recvs, self._sends, self._drop
        number, seconds = stage.number, stage.seconds
        match stage.kind:
            case "tee":
                return tee(recvs[0], *sends, on_drop=drop)
            case "load_balance":
                return load_balance(recvs[0], sends)
            case "route":
                return route(
                    recvs[0], self._name_key, dict(enumerate(sends)), default=0, on_drop=drop
                )
            case "merge":
                return merge(recvs, sends[0])
            case "select":
                return self._select()
            case "worker_pool":

                async def handle(thing: Any) -> Any:
                    await ctx.clock.sleep(seconds * (len(first(thing).name) % 2))
                    return self._key(thing)

                return worker_pool(recvs[0], sends[0], handle, workers=number, on_drop=drop)
            case "throttle":
                return throttle(ctx, recvs[0], sends[0], interval=seconds, on_drop=drop)
            case "debounce":
                return debounce(ctx, recvs[0], sends[0], quiet=seconds, on_drop=drop)
            case "window":
                count = number if number > 1 else None
                return window(ctx, recvs[0], sends[0], count=count, seconds=seconds, on_drop=drop)
            case "rate_limit":
                return rate_limit(ctx, recvs[0], sends[0], rate=1 / seconds, burst=number)
            case "timeout_items":
                spare = None if number == 1 else lambda: Item(ctx.clock.now(), "spare")
                return timeout_items(ctx, recvs[0], sends[0], seconds=2 * seconds, on_timeout=spare)
            case "reorder":
                return reorder(
                    ctx,
                    recvs[0],
                    sends[0],
                    key=self._key,
                    max_delay=seconds,
                    limit=4 * number,
                    on_drop=drop,
                )
            case "latest_within":
                return latest_within(
                    ctx, recvs[0], recvs[1], sends[0], max_age=seconds, on_drop=drop
                )
            case "align":
                return align(
                    ctx,
                    recvs[0],
                    recvs[1:],
                    sends[0],
                    tolerance=seconds / 2,
                    max_wait=seconds,
                    key=self._key,
                    limit=4 * number,
                    on_drop=drop,
                )

        async def forward(things: list[Any]) -> list[Any]:
            await ctx.clock.sleep(seconds / 2)
            for thing in things:
                self._key(thing)
            return things

        return batcher_loop(
            recvs[0], forward, max_batch=number, max_queue_delay=seconds, clock=ctx.clock
        )

    async def _select(self) -> None:
        """A loop of one's own that passes on what it gets."""
        send = self._sends[0]
        selecting = select(*self.recvs)
        try:
            while True:
                try:
                    index, item = await selecting
                except ReceiverEnded as end:
                    self._note(f"end of {end.index}")
                    continue
                self._note(f"from {index}")
                await send.send(item)
        except EndOfStream:
            await send.aclose()
        except ChannelClosed:
            for recv in self.recvs:
                await recv.aclose()

    def _key(self, thing: Any) -> float:
        self._calls += 1
        if self._calls == self._stage.fails_at:
            raise Refusal("on purpose")
        return first(thing).stamp

    def _name_key(self, thing: Any) -> int:
        self._key(thing)
        return len(words(thing)) % (len(self._sends) + 1)

    def _note(self, event: str) -> None:
        self._runner.trace.write(f"{self._runner.clock.now_ns()} {self.name} {event}")

    def _drop(self, thing: Any, reason: str) -> None:
        self._note(f"drops {words(thing)[:60]}: {reason}")


async def trace_of(graph: Graph, trace: Trace) -> None:
    """Run a graph, and write down what happens."""
    await Runner(graph, trace).run()


def run(graph: Graph, backend: str) -> Trace:
    trace = Trace()
    options = {"debug": False} if backend == "asyncio" else {}
    anyio.run(trace_of, graph, trace, backend=backend, backend_options=options)
    return trace


def main(backend: str) -> None:
    for line in sys.stdin:
        print(run(Graph.load(line), backend).digest())


if __name__ == "__main__":
    import logging

    logging.disable(logging.CRITICAL)
    main(sys.argv[1])
