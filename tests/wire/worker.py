"""A process with one end of a channel: `python -m tests.wire.worker ROLE ADDRESS BACKEND OPTIONS`.

It prints what happens to it, line by line:

    address ADDRESS          its end is open
    item NUMBER              it received this (every `tell`-th)
    sent COUNT               its `send`s have returned
    received ERROR NUMBER... it received these in all, and this ended it
    error ERROR              this ended its sending, or its close
    closed                   `aclose` returned

A line on its standard input ends it at once, wherever it is.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
from dataclasses import dataclass
from typing import Any

import anyio
import chrono_zmq._frames
from chrono_core import ChronoError, ReceiveStream, SendStream
from chrono_zmq import open_zmq_receive, open_zmq_send

from .processes import NEVER, check, config, make, receive_impatiently, send_impatiently

# The exit status of a process that ends without a word.
ABRUPT = 9

# Ends that nobody drops before the process ends.
kept: list[object] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a process does.

    Attributes:
        bind: whether its end binds.
        maxsize: of its end.
        peer_timeout: of its end.
        count: how many items it sends, or receives before it stops; None for no end.
        size: of an item, in bytes.
        raw: send these bytes, in hex, instead of items.
        tell: print every so-manieth item that was received.
        every: pause after so many items, for `pause` seconds.
        pause: seconds.
        seed: of random cancellation; None for none.
        how: by which it cancels: "scope", or of asyncio: "timeout", "task".
        then: what it does after the last item. "close": close its end. "stay": nothing, for ever.
            "leave": end as programs do, without a close.
        version: of the wire format that it speaks.
    """

    bind: bool = False
    maxsize: float | None = None
    peer_timeout: float = NEVER
    count: int | None = None
    size: int = 8
    raw: tuple[str, ...] = ()
    tell: int = 1
    every: int = 0
    pause: float = 0.0
    seed: int | None = None
    how: str = "scope"
    then: str = "close"
    version: int = 1


class Raw:
    """Sends bytes as they are."""

    def encode(self, item: bytes, /) -> bytes:
        return item

    def decode(self, data: bytes, /) -> bytes:
        return data


def say(*words: object) -> None:
    print(*words, flush=True)


async def send(address: str, options: Options) -> None:
    maxsize = 0 if options.maxsize is None else options.maxsize
    end: SendStream[Any] = open_zmq_send(
        address,
        bind=options.bind,
        maxsize=maxsize,
        serde=Raw() if options.raw else None,
        config=config(options.peer_timeout),
    )
    say("address", end.address)
    rng = None if options.seed is None else random.Random(options.seed)
    number = 0
    try:
        while options.count is None or number < options.count:
            item = bytes.fromhex(options.raw[number]) if options.raw else None
            item = make(number, options.size) if item is None else item
            if rng is None:
                await end.send(item)
            else:
                await send_impatiently(end, item, rng, options.how)
            number += 1
            if options.every and number % options.every == 0:
                await anyio.sleep(options.pause)
        say("sent", number)
    except ChronoError as error:
        say("error", type(error).__name__)
        print(repr(end), error, file=sys.stderr)
    await finish(end, options)


async def receive(address: str, options: Options) -> None:
    end: ReceiveStream[Any] = open_zmq_receive(
        address,
        bind=options.bind,
        maxsize=options.maxsize,
        config=config(options.peer_timeout),
    )
    say("address", end.address)
    rng = None if options.seed is None else random.Random(options.seed)
    numbers: list[int] = []
    try:
        while options.count is None or len(numbers) < options.count:
            if rng is None:
                item = await end.receive()
            else:
                item = await receive_impatiently(end, rng, options.how)
            numbers.append(check(item))
            if numbers[-1] % options.tell == 0:
                say("item", numbers[-1])
            if options.every and len(numbers) % options.every == 0:
                await anyio.sleep(options.pause)
        say("received", "nothing", *numbers)
    except ChronoError as error:
        say("received", type(error).__name__, *numbers)
        print(repr(end), error, file=sys.stderr)
    await finish(end, options)


async def finish(end: SendStream[Any] | ReceiveStream[Any], options: Options) -> None:
    if options.then == "stay":
        await anyio.sleep_forever()
    if options.then == "leave":
        kept.append(end)
    if options.then == "close":
        try:
            await end.aclose()
            say("closed")
        except ChronoError as error:
            say("error", type(error).__name__)


def end_when_told() -> None:
    if sys.stdin.readline():
        os._exit(ABRUPT)


def main(role: str, address: str, backend: str, options: str) -> None:
    threading.Thread(target=end_when_told, daemon=True).start()
    chosen = Options(**json.loads(options))
    chrono_zmq._frames.VERSION = chosen.version
    chosen_loop = {"use_uvloop": True} if backend == "uvloop" else {}
    anyio.run(
        {"send": send, "receive": receive}[role],
        address,
        chosen,
        backend="asyncio" if backend == "uvloop" else backend,
        backend_options=chosen_loop,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
