"""What a type checker knows of chrono-core's users. Checked by `hatch check types`, never run.

A line that must be refused carries the code of its error, and an ignore without use is an error.
"""

from typing import assert_type

from chrono_core import (
    Channel,
    ChannelStats,
    Clock,
    Context,
    Daemon,
    DaemonHandle,
    DaemonHealth,
    ReceiveStream,
    SendStream,
    SimClock,
    Supervisor,
    WallClock,
    daemon,
    open_channel,
)
from chrono_core.lowlevel import Event, Lock, Pulse, wait_any


async def channels_carry_the_type_of_their_items() -> None:
    channel = open_channel[int](4)
    assert_type(channel, Channel[int])
    assert_type(channel.send, SendStream[int])
    assert_type(channel.recv, ReceiveStream[int])
    await channel.send.send(1)
    await channel.send.send("one")  # type: ignore[arg-type]
    await channel.send.send_many([1, 2])
    await channel.send.send_many(["one"])  # type: ignore[list-item]
    assert_type(await channel.recv.receive(), int)
    assert_type(channel.recv.receive_nowait(), int)
    assert_type(await channel.recv.receive_many(8), list[int])
    assert_type(channel.recv.statistics(), ChannelStats)
    async for item in channel.recv:
        assert_type(item, int)


async def ends_of_any_items_can_be_waited_for() -> None:
    numbers, words = open_channel[int](4), open_channel[str](4)
    assert_type(numbers.send.ready(), bool)
    assert_type(numbers.recv.ready(), bool)
    assert_type(numbers.recv.peek_nowait(), int)
    await wait_any(numbers.recv, words.send, Event("go"), Pulse("beat"), closing=(numbers.send,))
    await wait_any(numbers.recv, closing=[numbers.send, words.send], subject="work")
    await wait_any(numbers)  # type: ignore[arg-type]
    await wait_any(closing=(words.recv,))  # type: ignore[arg-type]
    async with Lock("the lock"):
        pass


def channels_take_their_type_from_an_annotation() -> None:
    channel: Channel[str] = open_channel(name="words")
    assert_type(channel.recv, ReceiveStream[str])


def streams_vary_as_they_should(
    anything: SendStream[object], truths: ReceiveStream[bool]
) -> tuple[SendStream[int], ReceiveStream[int]]:
    return anything, truths


@daemon
async def copier(ctx: Context, source: ReceiveStream[int], *, times: int = 1) -> None:
    raise NotImplementedError


def factories_keep_their_parameters(
    numbers: ReceiveStream[int], words: ReceiveStream[str]
) -> Daemon:
    copier(words)  # type: ignore[arg-type]
    copier(numbers, 2)  # type: ignore[call-arg]
    copier()  # type: ignore[call-arg]
    return copier(numbers, times=2)


def clocks_are_clocks() -> list[Clock]:
    return [SimClock(), WallClock()]


async def supervisors_say_what_they_give(numbers: ReceiveStream[int]) -> None:
    async with Supervisor(clock=SimClock()) as supervisor:
        assert_type(supervisor.add(copier(numbers)), DaemonHandle)
        assert_type(supervisor.snapshot(), dict[str, DaemonHealth])
