"""Random graphs of daemons, as plain data and as programs that write a trace.

Run as `python -m tests.core.graphs BACKEND`, it reads graphs from stdin and prints a hash for each.
"""

from __future__ import annotations

import hashlib
import json
import sys
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import anyio
from chrono_core import (
    Channel,
    ChannelClosed,
    Clock,
    Context,
    EndOfStream,
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
from hypothesis import strategies as st

TIMES = (0.0, 0.05, 0.1, 0.15, 0.25, 0.5, 1 / 3)


@dataclass(frozen=True, slots=True)
class Node:
    """One daemon.

    Attributes:
        period: of a source: seconds between items, or 0 for as fast as it can.
        periodic: of a source: whether it ticks or sleeps.
        items: of a source: how many it makes.
        work: seconds that each item takes.
        patience: seconds that a receive may take; 0 is for ever.
        polls: take what is there, and else sleep.
        watches_ins: wait for all inputs at once, and take what is there.
        watches_outs: wait for room, and send without waiting.
        crash_at: fail, once, at this item; 0 is never.
        policy: what becomes of it when it fails.
        leaves_at: close its inputs after so many items; 0 is never.
        cancels_itself_at: cancel its own scope at this item; 0 is never.
        stopped_at: when another daemon stops it; 0 is never.
        grace: how long that waits.
        last_words: seconds that its on_stop sleeps.
        nested: whether it hosts a simulation of its own on start.
    """

    period: float
    periodic: bool
    items: int
    work: float
    patience: float
    polls: bool
    watches_ins: bool
    watches_outs: bool
    crash_at: int
    policy: str
    leaves_at: int
    cancels_itself_at: int
    stopped_at: float
    grace: float
    last_words: float
    nested: bool


@dataclass(frozen=True, slots=True)
class Graph:
    """Daemons, and channels (from, to, maxsize) between them."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[int, int, int], ...]
    advances: tuple[float, ...]
    on_exit: str

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def load(text: str) -> Graph:
        data = json.loads(text)
        return Graph(
            tuple(Node(**node) for node in data["nodes"]),
            tuple((a, b, size) for a, b, size in data["edges"]),
            tuple(data["advances"]),
            data["on_exit"],
        )


def rarely(values: st.SearchStrategy[Any], otherwise: object) -> st.SearchStrategy[Any]:
    return st.one_of(st.just(otherwise), st.just(otherwise), values)


NODES = st.builds(
    Node,
    period=st.sampled_from(TIMES),
    periodic=st.booleans(),
    items=st.integers(0, 40),
    work=rarely(st.sampled_from(TIMES), 0.0),
    patience=rarely(st.sampled_from(TIMES), 0.0),
    polls=rarely(st.just(True), False),
    watches_ins=st.booleans(),
    watches_outs=st.booleans(),
    crash_at=rarely(st.integers(1, 8), 0),
    policy=st.sampled_from(("restart", "restart", "ignore", "shutdown")),
    leaves_at=rarely(st.integers(1, 20), 0),
    cancels_itself_at=rarely(st.integers(1, 20), 0),
    stopped_at=rarely(st.sampled_from((0.1, 0.5, 1.0)), 0.0),
    grace=st.sampled_from((0.0, 5.0)),
    last_words=rarely(st.sampled_from((0.1, 0.25)), 0.0),
    nested=rarely(st.just(True), False),
)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    nodes = draw(st.lists(NODES, min_size=2, max_size=7))
    pairs = [(a, b) for b in range(len(nodes)) for a in range(b)]
    chosen = draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=12))
    sizes = st.one_of(st.integers(0, 2), st.integers(0, 64))
    edges = [(a, b, draw(sizes)) for a, b in chosen]
    advances = draw(st.lists(st.sampled_from((0.0, 0.3, 1.0, 7.0)), min_size=1, max_size=3))
    return Graph(
        tuple(nodes), tuple(edges), tuple(advances), draw(st.sampled_from(("stop", "body")))
    )


class Crash(Exception):
    """A failure on purpose."""


class Runner:
    """One run of a graph."""

    def __init__(self, graph: Graph, trace: Trace) -> None:
        self.graph = graph
        self.trace = trace
        self.clock = SimClock()
        self.seen = [0] * len(graph.nodes)
        self.channels: list[Channel[str]] = [
            open_channel(size, name=f"{a}-{b}#{n}") for n, (a, b, size) in enumerate(graph.edges)
        ]

    async def run(self) -> None:
        try:
            async with Supervisor(
                clock=self.clock,
                on_exit="stop",
                restart=RestartPolicy(base=0.1, max_retries=3),
            ) as supervisor:
                self.add_all(supervisor)
                for seconds in self.graph.advances:
                    await self.clock.advance(seconds)
                    self.trace.write(f"advanced to {self.clock.now()}")
                    for name, health in supervisor.snapshot().items():
                        self.trace.write(f"{name} {health.state} {health.restart_count}")
                if self.graph.on_exit == "body":
                    forced = await supervisor.stop(finalize_timeout=0.2)
                    self.trace.write(f"forced {forced}")
        except* Exception as group:
            self.trace.write(f"raised {[str(error) for error in group.exceptions]}")
        self.trace.write(f"ended at {self.clock.now()}")
        for channel in self.channels:
            self.trace.write(f"{channel.name} {channel.recv.statistics()}")

    def add_all(self, supervisor: Supervisor) -> None:
        handles = []
        for number, node in enumerate(self.graph.nodes):
            edges = list(enumerate(self.graph.edges))
            ins = [self.channels[n].recv for n, (_, b, _) in edges if b == number]
            outs = [self.channels[n].send for n, (a, _, _) in edges if a == number]
            handle = supervisor.spawn(self.live, number, node, ins, outs, name=f"d{number}")
            handles.append(handle)
        for number, node in enumerate(self.graph.nodes):
            if node.stopped_at:

                async def stop(ctx: Context, number: int = number, node: Node = node) -> None:
                    await ctx.clock.wait_until(node.stopped_at)
                    self.trace.record(ctx, f"stops d{number}")
                    await handles[number].stop(grace=node.grace, finalize_timeout=0.2)
                    self.trace.record(ctx, f"has stopped d{number}")

                supervisor.spawn(stop, name=f"stopper-{number}")

    async def live(
        self,
        ctx: Context,
        number: int,
        node: Node,
        ins: list[ReceiveStream[str]],
        outs: list[SendStream[str]],
    ) -> None:
        try:
            if node.nested:
                await self.simulate_inside(ctx)
            if not ins:
                await self.produce(ctx, number, node, outs)
            elif node.watches_ins:
                await self.watch(ctx, number, node, ins, outs)
            else:
                await self.consume(ctx, number, node, ins, outs)
            self.trace.record(ctx, "returns")
        except anyio.get_cancelled_exc_class():
            self.trace.record(ctx, "is cancelled")
            raise
        except Exception as error:
            self.trace.record(ctx, f"leaves by {type(error).__name__}")
            raise
        finally:
            if node.last_words:
                with anyio.CancelScope(shield=True):
                    await ctx.clock.sleep(node.last_words)
                    self.trace.record(ctx, "last words")
            if not node.crash_at:
                for stream in (*ins, *outs):
                    with anyio.CancelScope(shield=True):
                        await stream.aclose()

    async def simulate_inside(self, ctx: Context) -> None:
        clock = SimClock(5.0)
        async with Supervisor(clock=clock, on_exit="stop") as inner:

            async def tick(inner_ctx: Context) -> None:
                async for now in inner_ctx.clock.every(0.25):
                    self.trace.record(ctx, f"inside {now}")

            inner.spawn(tick)
            await clock.advance(0.6)

    async def produce(
        self, ctx: Context, number: int, node: Node, outs: list[SendStream[str]]
    ) -> None:
        ticks = ctx.clock.every(node.period) if node.periodic and node.period else None
        for _ in range(node.items):
            if ticks is not None:
                await anext(ticks)
            elif node.period:
                await ctx.clock.sleep(node.period)
            await self.handle(ctx, number, node, f"{number}", outs)

    async def consume(
        self,
        ctx: Context,
        number: int,
        node: Node,
        ins: list[ReceiveStream[str]],
        outs: list[SendStream[str]],
    ) -> None:
        ins = list(ins)
        turn = 0
        while ins:
            stream = ins[turn % len(ins)]
            turn += 1
            try:
                item = await self.next(ctx.clock, node, stream)
            except EndOfStream:
                self.trace.record(ctx, "sees an end")
                ins.remove(stream)
                continue
            if item is None:
                self.trace.record(ctx, "got nothing")
                if node.polls:
                    await ctx.clock.sleep(0.1)
                continue
            await self.handle(ctx, number, node, item, outs)
            if node.leaves_at and self.seen[number] >= node.leaves_at:
                for left in ins:
                    await left.aclose()
                return

    async def watch(
        self,
        ctx: Context,
        number: int,
        node: Node,
        ins: list[ReceiveStream[str]],
        outs: list[SendStream[str]],
    ) -> None:
        ins = list(ins)
        while ins:
            if not any(stream.ready() for stream in ins):
                patience = ctx.clock.move_on_after(node.patience) if node.patience else None
                with patience or nullcontext():
                    await wait_any(*ins, closing=outs)
                    self.trace.record(ctx, "looks again")
                for out in list(outs):
                    if not out.statistics().open_receive_streams:
                        self.trace.record(ctx, "sees nobody")
                        outs.remove(out)
            for stream in list(ins):
                try:
                    item = stream.receive_nowait()
                except WouldBlock:
                    continue
                except EndOfStream:
                    self.trace.record(ctx, "sees an end")
                    ins.remove(stream)
                    continue
                await self.handle(ctx, number, node, item, outs)
                if node.leaves_at and self.seen[number] >= node.leaves_at:
                    for left in ins:
                        await left.aclose()
                    return

    async def next(self, clock: Clock, node: Node, stream: ReceiveStream[str]) -> str | None:
        if node.polls:
            try:
                return stream.receive_nowait()
            except WouldBlock:
                return None
        patience = clock.move_on_after(node.patience) if node.patience else nullcontext()
        with patience:
            return await stream.receive()
        return None

    async def handle(
        self, ctx: Context, number: int, node: Node, item: str, outs: list[SendStream[str]]
    ) -> None:
        self.seen[number] += 1
        seen = self.seen[number]
        self.trace.record(ctx, f"item {seen}: {item[-20:]}")
        if seen == node.crash_at:
            raise Crash(f"d{number} at {seen}")
        if seen == node.cancels_itself_at:
            ctx.cancel_scope.cancel()
        if node.work:
            await ctx.clock.sleep(node.work)
        for stream in list(outs):
            try:
                await self.send(node, stream, f"{item}.{number}")
                self.trace.record(ctx, f"sent {seen}")
            except ChannelClosed:
                self.trace.record(ctx, "found nobody")
                outs.remove(stream)

    async def send(self, node: Node, stream: SendStream[str], item: str) -> None:
        if not node.watches_outs:
            await stream.send(item)
            return
        while not stream.ready():
            await wait_any(stream)
        stream.send_nowait(item)


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
        text = run(Graph.load(line), backend).text()
        print(hashlib.sha256(text.encode()).hexdigest())


if __name__ == "__main__":
    import logging

    logging.disable(logging.CRITICAL)
    main(sys.argv[1])
