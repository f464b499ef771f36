"""The cases of every channel, over those between ends of links."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from chrono_core import Channel, ChannelClosed, open_channel
from chrono_core.lowlevel import wait_any
from chrono_recipes import merge, select
from chrono_zmq import open_zmq_channel

from tests.core.channel_cases import *  # noqa: F403
from tests.core.channels import PATIENCE, Kind, Opener, receiver_blocks


def over_zmq(address: str, *, bind_receive: bool) -> Kind:
    def open_one(maxsize: float, name: str) -> Channel[Any]:
        return open_zmq_channel(address, bind_receive=bind_receive, maxsize=maxsize, name=name)

    return Kind(open_one, crosses=True)


KINDS = {
    "ipc": over_zmq("ipc://*", bind_receive=True),
    "ipc, sender binds": over_zmq("ipc://*", bind_receive=False),
    "tcp": over_zmq("tcp://127.0.0.1:*", bind_receive=True),
}


@pytest.fixture(params=KINDS)
async def opener(request: pytest.FixtureRequest) -> AsyncIterator[Opener]:
    """Opens channels of the kind that the test runs on: every test runs on each."""
    opener = Opener(KINDS[request.param])
    yield opener
    await opener.close()


@pytest.mark.parametrize("size", [0, 4])
async def test_select_takes_from_several_channels(opener: Opener, size: int) -> None:
    """The recipe `select` gets every item of every channel, in the order of each."""
    channels = [opener(size), opener(size), open_channel[int](size)]
    received: list[list[int]] = [[] for _ in channels]
    async with anyio.create_task_group() as tasks:

        async def produce(channel: Channel[int]) -> None:
            async with channel.send:
                for n in range(30):
                    await channel.send.send(n)

        for channel in channels:
            tasks.start_soon(produce, channel)
        with anyio.fail_after(PATIENCE):
            async for index, item in select(*(channel.recv for channel in channels)):
                received[index].append(item)
    assert received == [list(range(30))] * 3


@pytest.mark.parametrize("size", [0, 4])
async def test_merge_moves_items_from_channel_to_channel(opener: Opener, size: int) -> None:
    """The recipe `merge` over channels of this kind loses nothing and passes the end on."""
    sources, dest = [opener(size), opener(size)], opener(size)
    received: list[int] = []

    async def produce(channel: Channel[int], first: int) -> None:
        async with channel.send:
            await channel.send.send_many(range(first, first + 30))

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            for number, channel in enumerate(sources):
                tasks.start_soon(produce, channel, 100 * number)
            tasks.start_soon(merge, [channel.recv for channel in sources], dest.send)
            async for item in dest.recv:
                received.append(item)
    assert [item for item in received if item < 100] == list(range(30))
    assert [item for item in received if item >= 100] == list(range(100, 130))


async def test_merge_tells_its_sources_that_the_destination_closed(opener: Opener) -> None:
    """When the destination's receiver closes, the senders of the sources are told."""
    source, dest = await opener.met(2), await opener.met(2)
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(merge, [source.recv], dest.send)
            await receiver_blocks(source)
            await dest.recv.aclose()
            await wait_any(closing=[source.send])
        with pytest.raises(ChannelClosed):
            await source.send.send(1)
