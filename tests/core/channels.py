"""Ways to have a channel, and waiting for what its other end knows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio
from chrono_core import Channel, open_channel

# Seconds after which something that must come will never come.
PATIENCE = 30.0

# Seconds for which something that must not come is waited for.
QUIET = 0.03


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to have a channel.

    Attributes:
        open: makes one, of a size and with a name.
        crosses: whether its ends know of each other only what came over a socket.
    """

    open: Callable[[float, str], Channel[Any]]
    crosses: bool


IN_PROCESS = Kind(lambda maxsize, name: open_channel(maxsize, name=name), crosses=False)


class Opener:
    """Opens channels of one kind, and closes them all in the end."""

    def __init__(self, kind: Kind) -> None:
        self.crosses = kind.crosses
        self._open = kind.open
        self._channels: list[Channel[Any]] = []

    def __call__(self, maxsize: float = 0, name: str = "obs") -> Channel[Any]:
        """Open a channel whose ends may not have met yet."""
        channel = self._open(maxsize, name)
        self._channels.append(channel)
        return channel

    async def met(self, maxsize: float = 0, name: str = "obs") -> Channel[Any]:
        """Open a channel, and wait until each of its ends knows of the other."""
        channel = self(maxsize, name)
        await meet(channel)
        return channel

    async def close(self) -> None:
        for channel in self._channels:
            for end in (channel.recv, channel.send):
                with anyio.CancelScope() as scope:
                    scope.cancel()  # a close takes effect all the same, and this waits for nothing
                    await end.aclose()


async def until(test: Callable[[], object]) -> None:
    """Wait until something has come true."""
    with anyio.fail_after(PATIENCE):
        while not test():
            await anyio.sleep(0.001)


async def stays(test: Callable[[], object]) -> None:
    """See that something stays true for a while."""
    with anyio.move_on_after(QUIET):
        while True:
            assert test()
            await anyio.sleep(0.001)


async def meet(channel: Channel[Any]) -> None:
    """Wait until each end knows of the other."""
    await until(lambda: channel.send.statistics().open_receive_streams >= 0)
    await until(lambda: channel.recv.statistics().open_send_streams >= 0)


async def sender_blocks(channel: Channel[Any]) -> None:
    await until(lambda: channel.send.statistics().waiters_send)


async def receiver_blocks(channel: Channel[Any]) -> None:
    await until(lambda: channel.recv.statistics().waiters_receive)


async def arrived(channel: Channel[Any], count: int) -> None:
    """Wait until so many items are there to be received."""
    await until(lambda: channel.recv.statistics().current_buffer_used == count)


async def receiver_gone(channel: Channel[Any]) -> None:
    """Wait until the sender knows that the receiver closed."""
    await until(lambda: channel.send.statistics().open_receive_streams == 0)
