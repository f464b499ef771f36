"""A TCP proxy that does to a connection what networks do."""

from __future__ import annotations

import random
import select
import socket
import struct
import threading
import time
from types import TracebackType

# Seconds between two looks at what the test wants.
LOOK = 0.005

CHUNK = 16 * 1024

# With this, closing a socket resets its connection.
RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Passes connections on to a port, as a context manager, until it is told otherwise.

    Attributes:
        reset_every: seconds between two resets of all connections; None for none.
        stalled: nothing moves, and no connection breaks.
        rate: bytes per second that pass each way; None for all there are.
        corrupt: the probability that a byte of a chunk is changed.
        cut: connections are reset, and none is taken any more.
        resets: how often connections were reset.
        corrupted: how many bytes were changed.
    """

    def __init__(self, address: str, *, seed: int = 0) -> None:
        self._target = int(address.rpartition(":")[2])
        self._random = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._peers: dict[socket.socket, socket.socket] = {}
        self._pending: dict[socket.socket, bytes] = {}
        self._budget: dict[socket.socket, float] = {}
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="proxy")
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.reset_every: float | None = None
        self.stalled = False
        self.rate: float | None = None
        self.corrupt = 0.0
        self.cut = False
        self.resets = 0
        self.corrupted = 0

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._stopped = True
        self._thread.join()

    def _run(self) -> None:
        last_reset = last = time.monotonic()
        try:
            while not self._stopped:
                now = time.monotonic()
                every = self.reset_every
                if self.cut or (every is not None and now - last_reset >= every):
                    last_reset = now
                    self._reset()
                for one in self._budget:
                    self._budget[one] = min(CHUNK, self._budget[one] + (now - last) * self._rate())
                last = now
                if self.stalled:
                    time.sleep(LOOK)
                else:
                    self._move()
        finally:
            self._reset()
            self._listener.close()

    def _rate(self) -> float:
        return 1e12 if self.rate is None else self.rate

    def _move(self) -> None:
        """Move what can be moved."""
        readers = [self._listener]
        readers += [one for one, peer in self._peers.items() if not self._pending[peer]]
        writers = [one for one, data in self._pending.items() if data and self._budget[one] >= 1]
        readable, writable, _ = select.select(readers, writers, [], LOOK)
        for one in readable:
            if one is self._listener:
                self._accept()
            elif one in self._peers:
                self._read(one)
        for one in writable:
            if one in self._peers:
                self._write(one)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        if self.cut:
            near.close()
            return
        try:
            far = socket.create_connection(("127.0.0.1", self._target))
        except ConnectionRefusedError:
            near.close()
            return
        for one, other in ((near, far), (far, near)):
            one.setblocking(False)
            self._peers[one] = other
            self._pending[one] = b""
            self._budget[one] = 0.0

    def _read(self, one: socket.socket) -> None:
        try:
            data = one.recv(CHUNK)
        except OSError:
            data = b""
        if not data:
            self._drop(one)
            return
        if self._random.random() < self.corrupt:
            at = self._random.randrange(len(data))
            changed = data[at] ^ self._random.randrange(1, 256)
            data = data[:at] + bytes([changed]) + data[at + 1 :]
            self.corrupted += 1
        self._pending[self._peers[one]] = data

    def _write(self, one: socket.socket) -> None:
        data = self._pending[one]
        try:
            sent = one.send(data[: int(self._budget[one])])
        except BlockingIOError:
            return
        except OSError:
            self._drop(one)
            return
        self._pending[one] = data[sent:]
        self._budget[one] -= sent

    def _drop(self, one: socket.socket, *, reset: bool = False) -> None:
        for end in (one, self._peers[one]):
            if reset:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            end.close()
            del self._peers[end], self._pending[end], self._budget[end]

    def _reset(self) -> None:
        while self._peers:
            self._drop(next(iter(self._peers)), reset=True)
            self.resets += 1
