"""What is refused: addresses, items, settings, and others who knock."""

import ast
import math
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing as closed_after
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import chrono_zmq
import msgspec
import pytest
from chrono_core import ChannelError, ChannelInUse, ReceiveStream, SendStream, WouldBlock
from chrono_zmq import (
    AddressInUse,
    AuthenticationFailed,
    HandshakeError,
    MessageDecodeError,
    MessageEncodeError,
    MessageTooLarge,
    MsgpackSerde,
    SchemaMismatch,
    Security,
    VersionMismatch,
    ZmqConfig,
    generate_keys,
    open_zmq_channel,
    open_zmq_receive,
    open_zmq_send,
)
from chrono_zmq._driver import driver

from tests.core.channels import PATIENCE, QUIET, until

POSIX = pytest.mark.skipif(os.name == "nt", reason="there are no such rights here")

# A pair whose other end stays silent tells it late: what is refused here is refused by word.
SLOW = ZmqConfig(heartbeat=1.0, peer_timeout=10 * PATIENCE)

INSECURE = Security(insecure=True)


def open_end(role: str, address: Any, **options: Any) -> Any:
    return (open_zmq_send if role == "send" else open_zmq_receive)(address, **options)


ROLES = pytest.mark.parametrize("role", ["send", "receive"])


async def works(send: SendStream[Any], recv: ReceiveStream[Any], *items: Any) -> None:
    """See that items go from one end to the other."""
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:

            async def produce() -> None:
                for item in items:
                    await send.send(item)

            tasks.start_soon(produce)
            assert [await recv.receive() for _ in items] == list(items)


# Addresses


@ROLES
@pytest.mark.parametrize("bind", [False, True])
@pytest.mark.parametrize(
    "address",
    [
        "",
        "no-scheme",
        "127.0.0.1:5555",
        "udp://127.0.0.1:5555",
        "inproc://x",
        "TCP://127.0.0.1:5555",
        "tcp:127.0.0.1:5555",
        "tcp://",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:",
        "tcp://:5555",
        "tcp://127.0.0.1:port",
        "tcp://127.0.0.1:-1",
        "tcp://127.0.0.1:65536",
        "tcp://127.0.0.1:99999999",
        "tcp://127.0.0.1:٣",
        "ipc://",
        "ipc://a/b",
        "ipc://../a",
        "ipc://a\0b",
        "ipc://" + 200 * "x",
        "ipc:///" + 200 * "x",
        "ipc:///no/such/folder/x",
    ],
    ids=lambda address: repr(ascii(address)[:40]),
)
def test_address_that_is_none_is_refused(address: str, role: str, bind: bool) -> None:
    """What is no address is refused at once, in one sentence that shows it."""
    with pytest.raises(ValueError) as caught:
        open_end(role, address, bind=bind)
    shown = "/no/such/folder" if "folder" in address else repr(address)
    assert shown in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@ROLES
@pytest.mark.parametrize("address", [None, 5555, b"tcp://127.0.0.1:5555", Path("/a")], ids=repr)
def test_address_that_is_no_text_is_refused(address: Any, role: str) -> None:
    """An address is text, and nothing else."""
    with pytest.raises(TypeError, match="text"):
        open_end(role, address)


@ROLES
@pytest.mark.parametrize(
    "address", ["tcp://*:5555", "tcp://127.0.0.1:*", "tcp://127.0.0.1:0", "ipc://*"]
)
def test_wildcard_to_connect_to_is_refused(address: str, role: str) -> None:
    """Only an end that binds may leave the choice of the address open."""
    with pytest.raises(ValueError) as caught:
        open_end(role, address, bind=False, security=INSECURE)
    assert repr(address) in str(caught.value)


@ROLES
@pytest.mark.parametrize(
    ("address", "bind"),
    [
        ("tcp://*:*", True),
        ("tcp://0.0.0.0:*", True),
        ("tcp://192.0.2.1:5555", True),
        ("tcp://192.0.2.1:5555", False),
        ("tcp://example.invalid:5555", False),
        ("tcp://[2001:db8::1]:5555", False),
    ],
)
def test_other_machines_need_security(address: str, bind: bool, role: str) -> None:
    """What can be reached from other machines is refused without keys or the word for it."""
    with pytest.raises(ValueError, match="insecure=True") as caught:
        open_end(role, address, bind=bind)
    assert repr(address) in str(caught.value)


@pytest.mark.parametrize("address", ["tcp://*:*", "tcp://0.0.0.0:*"])
async def test_insecure_in_so_many_words_is_allowed(address: str) -> None:
    """With `Security(insecure=True)`, an end binds to every interface."""
    recv = open_zmq_receive(address, security=INSECURE)
    port = recv.address.rpartition(":")[2]
    send = open_zmq_send(f"tcp://127.0.0.1:{port}")
    await works(send, recv, 1, 2)
    await send.aclose()
    await recv.aclose()


@pytest.mark.parametrize("address", ["tcp://localhost:*", "tcp://127.0.0.1:0", "tcp://127.9.9.9:*"])
async def test_address_of_an_end_is_the_real_one(address: str) -> None:
    """After binding to a port that is left open, `address` is what the other end connects to."""
    recv = open_zmq_receive(address)
    assert not recv.address.endswith((":*", ":0"))
    send = open_zmq_send(recv.address)
    assert send.address == recv.address
    await works(send, recv, 1)
    await send.aclose()
    await recv.aclose()


async def test_ip_of_version_6_is_an_address() -> None:
    """The loopback of IPv6 is as good as that of IPv4."""
    try:
        with closed_after(socket.socket(socket.AF_INET6)) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("there is no IPv6 here")
    recv = open_zmq_receive("tcp://[::1]:*")
    send = open_zmq_send(recv.address)
    await works(send, recv, 1)
    await send.aclose()
    await recv.aclose()


def test_address_that_is_not_of_this_machine_cannot_be_bound() -> None:
    """An address that the operating system refuses is shown, with the reason."""
    with pytest.raises(ValueError, match=r"'tcp://192\.0\.2\.1:5555' cannot be used"):
        open_zmq_receive("tcp://192.0.2.1:5555", security=INSECURE)


@POSIX
@ROLES
@pytest.mark.parametrize("rights", [0o710, 0o701, 0o755, 0o777])
def test_folder_that_others_can_enter_is_refused(tmp_path: Path, rights: int, role: str) -> None:
    """A socket lies in a folder for its owner alone, unless it is said that this is not needed."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(rights)
    for bind in (False, True):
        with pytest.raises(ValueError, match="700") as caught:
            open_end(role, f"ipc://{folder}/x", bind=bind)
        assert str(folder) in str(caught.value)
    open_end(role, f"ipc://{folder}/x", bind=True, security=INSECURE)


@POSIX
def test_own_folder_is_made_for_the_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name without a folder lies in one that nobody else can enter."""
    tmp_path.chmod(0o755)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    recv = open_zmq_receive("ipc://obs")
    path = Path(recv.address.removeprefix("ipc://"))
    assert path.parent.parent == tmp_path
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.parent.chmod(0o755)  # and somebody opened it meanwhile
    with pytest.raises(ValueError, match="700"):
        open_zmq_send("ipc://obs")


@POSIX
@pytest.mark.parametrize("kind", ["nothing", "file"])
def test_own_folder_that_cannot_be_made_is_named(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no place for the folder of a name, the error says which and what to do."""
    base = tmp_path / "base"
    if kind == "file":
        base.write_text("")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
    with pytest.raises(ValueError, match="XDG_RUNTIME_DIR") as caught:
        open_zmq_receive("ipc://obs")
    assert str(base) in str(caught.value)


@pytest.mark.parametrize(
    "size", [-1, -0.5, 0.5, 2.5, math.nan, -math.inf, "4", [4], True], ids=repr
)
@ROLES
def test_size_that_is_no_count_is_refused(size: Any, role: str) -> None:
    """A size that is negative, fractional or not a number is refused with its value."""
    with pytest.raises(ValueError, match="maxsize") as caught:
        open_end(role, "ipc://*", bind=True, maxsize=size)
    assert repr(size) in str(caught.value)


# What is taken already


@pytest.mark.parametrize("address", ["ipc://*", "tcp://127.0.0.1:*"])
@ROLES
async def test_address_of_another_end_is_in_use(address: str, role: str) -> None:
    """A second end cannot bind where one is, and the first is undisturbed."""
    recv = open_zmq_receive(address)
    with pytest.raises(AddressInUse, match="already") as caught:
        open_end(role, recv.address, bind=True, name="obs")
    assert caught.value.channel == "obs"
    assert recv.address.removeprefix("ipc://") in str(caught.value)
    send = open_zmq_send(recv.address)
    await works(send, recv, 1, 2)
    await send.aclose()
    await recv.aclose()


@POSIX
async def test_path_of_a_foreign_socket_is_in_use(tmp_path: Path) -> None:
    """Where another program listens, the path is not taken away from it."""
    path = tmp_path / "x"
    with closed_after(socket.socket(socket.AF_UNIX)) as foreign:
        foreign.bind(str(path))
        foreign.listen()
        for _ in range(3):
            with pytest.raises(AddressInUse) as caught:
                open_zmq_receive(f"ipc://{path}")
            assert str(path) in str(caught.value)
        with closed_after(socket.socket(socket.AF_UNIX)) as probe:
            probe.connect(str(path))


async def test_port_of_a_foreign_socket_is_in_use() -> None:
    """Where another program listens, the port is not to be had."""
    with closed_after(socket.socket()) as foreign:
        foreign.bind(("127.0.0.1", 0))
        foreign.listen()
        address = f"tcp://127.0.0.1:{foreign.getsockname()[1]}"
        with pytest.raises(AddressInUse) as caught:
            open_zmq_receive(address)
        assert repr(address) in str(caught.value)


@POSIX
@pytest.mark.parametrize("kind", ["file", "folder"])
async def test_path_of_something_else_is_in_use(tmp_path: Path, kind: str) -> None:
    """What is no socket is not removed."""
    path = tmp_path / "x"
    if kind == "file":
        path.write_text("precious")
    else:
        path.mkdir()
    with pytest.raises(AddressInUse) as caught:
        open_zmq_receive(f"ipc://{path}")
    assert str(path) in str(caught.value)
    assert path.is_dir() if kind == "folder" else path.read_text() == "precious"


BINDS = """
import sys, time
from chrono_zmq import open_zmq_receive
recv = open_zmq_receive(sys.argv[1])
print("bound", flush=True)
time.sleep(600)
"""


@POSIX
async def test_path_that_a_killed_process_left_behind_is_used_again(tmp_path: Path) -> None:
    """A socket at which nobody listens any more is in nobody's way."""
    path = tmp_path / "x"
    with subprocess.Popen(
        [sys.executable, "-c", BINDS, f"ipc://{path}"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "bound\n"
        with pytest.raises(AddressInUse):
            open_zmq_receive(f"ipc://{path}")
        process.send_signal(signal.SIGKILL)
    assert path.is_socket()
    recv = open_zmq_receive(f"ipc://{path}")
    send = open_zmq_send(recv.address)
    await works(send, recv, 1)
    await send.aclose()
    await recv.aclose()
    await until(lambda: not path.exists())


# Items


class Number(int):
    """A number of another type."""


class Pair(NamedTuple):
    left: int
    right: int


class Hostile:
    """What pickle would run."""

    def __reduce__(self) -> Any:
        return os._exit, (3,)


def recursive() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


def deep() -> list[Any]:
    items: list[Any] = []
    for _ in range(100_000):
        items = [items]
    return items


UNFIT: dict[str, Callable[[], object]] = {
    "tuple": lambda: (1, 2),
    "tuple in a list": lambda: [1, (2,)],
    "tuple as a key": lambda: {(1, 2): 3},
    "named tuple": lambda: Pair(1, 2),
    "set": lambda: {1},
    "frozen set": lambda: frozenset({1}),
    "object": object,
    "hostile": Hostile,
    "function": lambda: print,
    "complex": lambda: 1j,
    "bytearray": lambda: bytearray(b"x"),
    "date": lambda: datetime.now(UTC),
    "decimal": lambda: Decimal(1),
    "subclass": lambda: Number(1),
    "more than 64 bits": lambda: 2**64,
    "less than 64 bits": lambda: -(2**63) - 1,
    "half a character": lambda: "\ud800",
    "recursion": recursive,
    "depth": deep,
}


@pytest.mark.parametrize("way", ["send", "send_nowait", "send_many"])
@pytest.mark.parametrize("what", UNFIT)
async def test_item_that_cannot_travel_unchanged_is_refused(what: str, way: str) -> None:
    """It is not sent, the error names the channel, and the stream goes on."""
    channel = open_zmq_channel(maxsize=8, name="obs")
    item = UNFIT[what]()
    with pytest.raises(MessageEncodeError, match="'obs'") as caught:
        match way:
            case "send":
                await channel.send.send(item)
            case "send_nowait":
                channel.send.send_nowait(item)
            case "send_many":
                await channel.send.send_many([item])
    assert caught.value.channel == "obs"
    assert type(item).__name__ in str(caught.value)
    assert channel.send.statistics().sent == 0
    await works(channel.send, channel.recv, 1, None)
    await channel.send.aclose()
    await channel.recv.aclose()


@pytest.mark.parametrize("size", [0, 2, 8])
async def test_bad_item_among_many_is_a_prefix_sent(size: int) -> None:
    """`send_many` sends what came before what cannot be sent, and says so by `sent`."""
    channel = open_zmq_channel(maxsize=size)
    received: list[int] = []

    async def consume() -> None:
        async for item in channel.recv:
            received.append(item)

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consume)
            with pytest.raises(MessageEncodeError):
                await channel.send.send_many([0, 1, 2, {3}, 4])
            assert channel.send.statistics().sent == 3
            await channel.send.send(9)
            await channel.send.aclose()
    assert received == [0, 1, 2, 9]
    await channel.recv.aclose()


class Reading(msgspec.Struct):
    sensor: str
    values: list[float] = []


@dataclass
class Point:
    x: float
    y: int = 0


TYPED: list[tuple[Any, Any, list[Any]]] = [
    (Reading, Reading("a", [1.5]), [Point(1.0), {"sensor": "a"}, None, Reading(1)]),  # type: ignore[arg-type]
    (Point, Point(1.5, 2), [Reading("a"), {"x": 1.5}, Point("a")]),  # type: ignore[arg-type]
    (int, 5, ["5", True, 1.5, None, 2**70]),
    (tuple[int, ...], (1, 2), [[1, 2], ("1",), 1]),
    (list[int], [1, 2], [(1, 2), ["1"], {1}]),
    (dict[str, int], {"a": 1}, [{1: 1}, {"a": "1"}, []]),
    (int | None, None, ["x", 1.5]),
    (datetime, datetime(2020, 1, 2, tzinfo=UTC), ["x", 1]),
]


@pytest.mark.parametrize(
    ("message_type", "item", "unfit"), TYPED, ids=[str(one[0]) for one in TYPED]
)
async def test_items_of_a_type_are_checked_at_the_sender(
    message_type: Any, item: Any, unfit: list[Any]
) -> None:
    """What is of the type arrives as it was; what is not is refused, and harms nothing."""
    channel = open_zmq_channel(maxsize=4, serde=MsgpackSerde(message_type), name="obs")
    for one in unfit:
        with pytest.raises(MessageEncodeError, match="'obs'"):
            channel.send.send_nowait(one)
    assert channel.send.statistics().sent == 0
    await channel.send.send(item)
    with anyio.fail_after(PATIENCE):
        received = await channel.recv.receive()
    assert received == item
    assert type(received) is type(item)
    await channel.send.aclose()
    await channel.recv.aclose()


@pytest.mark.parametrize("message_type", [None, float, Point, list[float]], ids=str)
async def test_not_a_number_passes(message_type: Any) -> None:
    """NaN, which equals nothing, travels with and without a type."""
    serde = MsgpackSerde() if message_type is None else MsgpackSerde(message_type)
    channel = open_zmq_channel(maxsize=4, serde=serde)
    item = {Point: Point(math.nan), list[float]: [math.nan]}.get(message_type, math.nan)
    await channel.send.send(item)
    with anyio.fail_after(PATIENCE):
        assert repr(await channel.recv.receive()) == repr(item)
    await channel.send.aclose()
    await channel.recv.aclose()


def test_item_of_another_type_is_named_with_the_type() -> None:
    """What msgspec says of it comes after the name of the type, which it does not say."""
    serde = MsgpackSerde(Point)
    with pytest.raises(TypeError, match=r"^it is no Point: Expected `\w+`, got `str`$"):
        serde.encode("a")  # type: ignore[arg-type]


def test_type_that_cannot_be_sent_is_refused_when_it_is_given() -> None:
    """Types that could not be told apart when they are read are refused at once."""

    class Other(msgspec.Struct):
        number: int

    with pytest.raises(TypeError):
        MsgpackSerde(Reading | Other)


async def test_item_that_is_none_is_one_error_between_two_items() -> None:
    """What the receiver cannot read is `MessageDecodeError`, once, and the stream goes on."""
    recv = open_zmq_receive("ipc://*", serde=MsgpackSerde(int), name="obs")
    send = open_zmq_send(recv.address, maxsize=20)  # without a type
    with anyio.fail_after(PATIENCE):
        await send.send_many([1, "bad", 2, None, 3, 4, "bad", 5])
        await until(lambda: recv.statistics().current_buffer_used == 8)
        assert await recv.receive() == 1
        for _ in range(2):
            with pytest.raises(MessageDecodeError, match="'obs'"):
                recv.peek_nowait()
        with pytest.raises(MessageDecodeError, match="'obs'"):
            await recv.receive()
        assert recv.receive_nowait() == 2
        with pytest.raises(MessageDecodeError):
            recv.receive_nowait()
        assert await recv.receive_many(10) == [3, 4]
        with pytest.raises(MessageDecodeError):
            await recv.receive_many(10)
        assert await recv.receive_many(10) == [5]
        await send.aclose()
    assert [item async for item in recv] == []
    await recv.aclose()


class Failing:
    """A serde that fails as no serde should."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def encode(self, item: object) -> bytes:
        if item == "bad":
            raise self.error("no")
        return b"x"

    def decode(self, data: bytes) -> object:
        raise self.error("no")


@pytest.mark.parametrize("error", [RecursionError, UnicodeError, KeyError, ZeroDivisionError])
async def test_whatever_a_serde_raises_is_an_error_of_that_item(
    error: type[BaseException],
) -> None:
    """Errors of a serde of one's own are errors of the item, with their cause."""
    channel = open_zmq_channel(maxsize=4, serde=Failing(error))
    with pytest.raises(MessageEncodeError) as caught:
        await channel.send.send("bad")
    assert isinstance(caught.value.__cause__, error)
    await channel.send.send("good")
    with anyio.fail_after(PATIENCE):
        with pytest.raises(MessageDecodeError) as read:
            await channel.recv.receive()
        assert isinstance(read.value.__cause__, error)
        await channel.send.aclose()
    assert [item async for item in channel.recv] == []
    await channel.recv.aclose()


@pytest.mark.parametrize("serde", [Point, "json", MsgpackSerde], ids=str)
def test_serde_that_is_none_is_refused(serde: Any) -> None:
    """A type in the place of its serde is refused where it is given, not when an item is sent."""
    with pytest.raises(TypeError, match=r"serde must have encode\(\) and decode\(\)"):
        open_zmq_receive("ipc://*", serde=serde)


@pytest.mark.parametrize("schema", [5, 2000 * "x"], ids=["no text", "too long"])
def test_schema_that_is_none_is_refused(schema: Any) -> None:
    """The schema of a serde is a text of some length."""
    serde = Failing(ValueError)
    serde.schema = schema  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="schema"):
        open_zmq_receive("ipc://*", serde=serde)


@pytest.mark.parametrize("way", ["send", "send_nowait", "send_many"])
async def test_item_that_is_too_large_is_refused_at_the_sender(way: str) -> None:
    """It is not sent, the error tells both sizes, and what just fits is sent."""
    channel = open_zmq_channel(maxsize=4, name="obs", config=ZmqConfig(max_message=1000))
    head = 3  # of bytes, in MessagePack
    with pytest.raises(MessageTooLarge, match=r"1001 B.*'obs'.*1000"):
        item = bytes(1001 - head)
        match way:
            case "send":
                await channel.send.send(item)
            case "send_nowait":
                channel.send.send_nowait(item)
            case "send_many":
                await channel.send.send_many([item])
    assert channel.send.statistics().sent == 0
    await works(channel.send, channel.recv, bytes(1000 - head), b"")
    await channel.send.aclose()
    await channel.recv.aclose()


# Pickle


def test_nothing_in_the_package_reads_code() -> None:
    """No module of the package uses pickle, or anything like it."""
    root = Path(chrono_zmq.__file__).parent
    modules = sorted(root.rglob("*.py"))
    assert len(modules) > 10
    for module in modules:
        for node in ast.walk(ast.parse(module.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [one.name for one in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Name):
                names = [node.id]
            elif isinstance(node, ast.Attribute):
                names = [node.attr]
            forbidden = {"pickle", "marshal", "shelve", "cloudpickle", "dill", "eval", "exec"}
            forbidden |= {"send_pyobj", "recv_pyobj"}
            assert not forbidden.intersection(names), (module, names)


async def test_bytes_of_a_pickle_are_bytes() -> None:
    """What would run code if it were unpickled arrives as the bytes that were sent."""
    channel = open_zmq_channel(maxsize=4)
    await works(channel.send, channel.recv, pickle.dumps(Hostile()))
    await channel.send.aclose()
    await channel.recv.aclose()


# Who does not fit


async def fails(end: Any, error: type[ChannelError], item: object = 1) -> None:
    """See that an end says what is wrong, again and again."""
    sends = isinstance(end, SendStream)
    with anyio.fail_after(PATIENCE):
        for _ in range(2):
            with pytest.raises(error) as caught:
                # More than any window takes before the other end is known.
                await (end.send_many([item] * 100) if sends else end.receive())
            assert type(caught.value) is error
            assert caught.value.channel in str(caught.value)
            assert end.address in str(caught.value)
            with pytest.raises(error):
                end.send_nowait(item) if sends else end.receive_nowait()
            assert end.ready()


@ROLES
async def test_other_type_of_items_is_refused(role: str) -> None:
    """The end that connects with another type is told; one that fits is served after it."""
    other = "send" if role == "receive" else "receive"
    serde: Any = MsgpackSerde
    binder = open_end(role, "ipc://*", bind=True, serde=serde(Point), config=SLOW)
    wrong = open_end(
        other, binder.address, bind=False, serde=serde(Reading), name="wrong", config=SLOW
    )
    await fails(wrong, SchemaMismatch, Reading("a"))
    right = open_end(other, binder.address, bind=False, serde=serde(Point), config=SLOW)
    ends = (binder, right) if role == "send" else (right, binder)
    await works(*ends, Point(1.0), Point(2.0))
    await wrong.aclose()
    await ends[0].aclose()
    await ends[1].aclose()


@ROLES
async def test_same_role_is_refused(role: str) -> None:
    """Two senders, or two receivers, do not make a channel; the one that connects is told."""
    binder = open_end(role, "ipc://*", bind=True, config=SLOW)
    wrong = open_end(role, binder.address, bind=False, name="wrong", config=SLOW)
    await fails(wrong, HandshakeError)
    other = "send" if role == "receive" else "receive"
    right = open_end(other, binder.address, bind=False, config=SLOW)
    ends = (binder, right) if role == "send" else (right, binder)
    await works(*ends, 1, 2)
    await wrong.aclose()
    await ends[0].aclose()
    await ends[1].aclose()


@ROLES
async def test_receiver_that_takes_less_at_once_than_is_sent_is_refused(role: str) -> None:
    """Where the receiver's `max_message` is below the sender's, no item could be too large."""
    sizes = {"send": 2000, "receive": 1000}
    other = "send" if role == "receive" else "receive"
    small = ZmqConfig(max_message=sizes[role])
    binder = open_end(role, "ipc://*", bind=True, config=small)
    wrong = open_end(
        other,
        binder.address,
        bind=False,
        name="wrong",
        config=ZmqConfig(max_message=sizes[other]),
    )
    await fails(wrong, HandshakeError)
    right = open_end(other, binder.address, bind=False, config=small)
    ends = (binder, right) if role == "send" else (right, binder)
    await works(*ends, 1)
    await wrong.aclose()
    await ends[0].aclose()
    await ends[1].aclose()


@ROLES
@pytest.mark.parametrize("address", ["ipc://*", "tcp://127.0.0.1:*"])
async def test_second_peer_is_told_that_the_channel_is_in_use(role: str, address: str) -> None:
    """The second that connects gets `ChannelInUse`, and the first is undisturbed."""
    other = "send" if role == "receive" else "receive"
    binder = open_end(role, address, bind=True, config=SLOW)
    first = open_end(other, binder.address, bind=False, config=SLOW)
    ends = (binder, first) if role == "send" else (first, binder)
    await works(*ends, 1)
    stop = False
    moved: list[int] = []

    async def produce() -> None:
        n = 0
        while not stop:
            await ends[0].send(n)
            n += 1
        await ends[0].aclose()

    async def consume() -> None:
        async for item in ends[1]:
            moved.append(item)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        tasks.start_soon(consume)
        for number in range(3):
            second = open_end(
                other, binder.address, bind=False, name=f"second {number}", config=SLOW
            )
            await fails(second, ChannelInUse)
            await second.aclose()
        count = len(moved)
        await until(lambda: len(moved) > count)
        stop = True
    assert moved == list(range(len(moved)))
    await ends[1].aclose()


async def test_second_peer_of_an_idle_channel_is_told_as_well() -> None:
    """Where nothing moves, the first is asked whether it lives, and the second is told."""
    recv = open_zmq_receive("ipc://*", config=SLOW)
    first = open_zmq_send(recv.address, config=SLOW)
    await works(first, recv, 1)
    second = open_zmq_send(recv.address, name="second", config=SLOW)
    await fails(second, ChannelInUse)
    await works(first, recv, 2)
    for end in (second, first, recv):
        await end.aclose()


# Keys


SERVER = generate_keys()
CLIENT = generate_keys()
STRANGER = generate_keys()


def at_server(*allowed: str) -> Security:
    return Security(public_key=SERVER[0], secret_key=SERVER[1], allowed_keys=allowed)


def at_client(keys: tuple[str, str] = CLIENT, server: str = SERVER[0]) -> Security:
    return Security(public_key=keys[0], secret_key=keys[1], server_key=server)


@ROLES
@pytest.mark.parametrize("address", ["ipc://*", "tcp://127.0.0.1:*", "tcp://0.0.0.0:*"])
async def test_right_keys_are_let_in(role: str, address: str) -> None:
    """With keys that both ends expect, items go across, also beyond this machine."""
    other = "send" if role == "receive" else "receive"
    binder = open_end(
        role, address, bind=True, security=at_server(STRANGER[0], CLIENT[0]), config=SLOW
    )
    where = binder.address.replace("0.0.0.0", "127.0.0.1")
    client = open_end(other, where, bind=False, security=at_client(), config=SLOW)
    ends = (binder, client) if role == "send" else (client, binder)
    await works(*ends, 1, "two")
    await ends[0].aclose()
    await ends[1].aclose()


@ROLES
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (at_server(CLIENT[0]), at_client(server=STRANGER[0])),
        (at_server(CLIENT[0]), at_client(STRANGER)),
        (at_server(), at_client()),
        (at_server(CLIENT[0]), None),
        (at_server(CLIENT[0]), INSECURE),
        (None, at_client()),
        (INSECURE, at_client()),
    ],
    ids=[
        "wrong server key",
        "key not on the list",
        "empty list",
        "no key",
        "insecure to a server with keys",
        "key to a server without any",
        "key to a server that is insecure",
    ],
)
async def test_wrong_keys_are_told(
    ours: Security | None, theirs: Security | None, role: str
) -> None:
    """The end that connects gets `AuthenticationFailed`; the other waits for one that fits."""
    other = "send" if role == "receive" else "receive"
    binder = open_end(role, "tcp://127.0.0.1:*", bind=True, security=ours)
    wrong = open_end(other, binder.address, bind=False, security=theirs, name="wrong")
    await fails(wrong, AuthenticationFailed)
    await wrong.aclose()
    with anyio.move_on_after(QUIET) as scope:
        await (binder.send(0) if role == "send" else binder.receive())
    assert scope.cancelled_caught
    fits = ours
    if ours is not None and not ours.insecure:
        if not ours.allowed_keys:
            await binder.aclose()
            return
        fits = at_client()
    right = open_end(other, binder.address, bind=False, security=fits)
    ends = (binder, right) if role == "send" else (right, binder)
    await works(*ends, 1, 2)
    await ends[0].aclose()
    await ends[1].aclose()


def test_list_of_keys_is_forgotten_where_the_address_is_taken() -> None:
    """An end that could not be opened leaves nothing at the gate."""
    taken = open_zmq_receive("tcp://127.0.0.1:*", security=at_server(CLIENT[0]))
    gate = driver()._gate
    assert gate is not None
    lists = len(gate._allowed)
    with pytest.raises(AddressInUse):
        open_zmq_receive(taken.address, security=at_server(CLIENT[0]))
    assert len(gate._allowed) == lists


async def test_servers_of_one_process_have_their_own_lists() -> None:
    """A key that is on the list of one end does not open another end of the same process."""
    first = open_zmq_receive("ipc://*", security=at_server(CLIENT[0]))
    second = open_zmq_receive("ipc://*", security=at_server(STRANGER[0]))
    wrong = open_zmq_send(second.address, security=at_client(), name="wrong")
    await fails(wrong, AuthenticationFailed)
    right = open_zmq_send(first.address, security=at_client())
    await works(right, first, 1)
    for end in (wrong, right, first, second):
        await end.aclose()


@pytest.mark.parametrize("first", ["plain", "keys"])
async def test_plain_ends_and_ends_with_keys_live_side_by_side(first: str) -> None:
    """A list of keys at one end of a process is nothing to the other ends of that process."""
    plain = open_zmq_receive("ipc://*") if first == "plain" else None
    guarded = open_zmq_receive("ipc://*", security=at_server(CLIENT[0]))
    if plain is None:
        plain = open_zmq_receive("ipc://*")
    guarded_send = open_zmq_send(guarded.address, security=at_client())
    plain_send = open_zmq_send(plain.address)
    for n in range(3):
        await works(plain_send, plain, n)
        await works(guarded_send, guarded, n)
    for end in (plain_send, guarded_send, plain, guarded):
        await end.aclose()


@ROLES
def test_keys_for_the_wrong_side_are_refused(role: str) -> None:
    """An end that binds needs a list, and one that connects the key of the other."""
    with pytest.raises(ValueError, match="allowed_keys"):
        open_end(role, "ipc://*", bind=True, security=at_client())
    with pytest.raises(ValueError, match="server_key"):
        open_end(role, "ipc://nobody-is-here", bind=False, security=at_server(CLIENT[0]))


# Settings


@pytest.mark.parametrize("name", ["linger", "heartbeat", "peer_timeout"])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, 2_147_484, "1", None, [1]], ids=repr)
def test_time_that_is_none_is_refused(name: str, value: Any) -> None:
    """A time is a number of seconds, and the error names the setting."""
    with pytest.raises((ValueError, TypeError), match=name):
        ZmqConfig(**{name: value})


def test_times_of_no_length_are_refused() -> None:
    """Only `linger` may be 0, and a peer must be heard twice before it is lost."""
    assert ZmqConfig(linger=0).linger == 0
    for name in ("heartbeat", "peer_timeout"):
        with pytest.raises(ValueError, match=name):
            ZmqConfig(**{name: 0})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="twice"):
        ZmqConfig(heartbeat=1.0, peer_timeout=1.9)


@pytest.mark.parametrize("value", [0, -1, 1.5, "1", None, True, 2**31 + 1, math.inf], ids=repr)
def test_size_of_messages_that_is_none_is_refused(value: Any) -> None:
    """`max_message` is a whole number of bytes."""
    with pytest.raises(ValueError, match="max_message") as caught:
        ZmqConfig(max_message=value)
    assert repr(value) in str(caught.value)


KEY = CLIENT[0]


@pytest.mark.parametrize("name", ["public_key", "secret_key", "server_key"])
@pytest.mark.parametrize(
    "value",
    ["", "x", 40 * "\N{SNOWMAN}", 39 * "x", 40 * " ", KEY.encode(), 5],
    ids=["empty", "short", "no ASCII", "39 long", "blank", "bytes", "number"],
)
def test_key_that_is_none_is_refused(name: str, value: Any) -> None:
    """A key is text of 40 characters, and the error names it without showing it."""
    keys = {"public_key": CLIENT[0], "secret_key": CLIENT[1], "server_key": SERVER[0], name: value}
    with pytest.raises(ValueError, match=name) as caught:
        Security(**keys)
    assert CLIENT[1] not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({}, "insecure=True"),
        ({"insecure": True, "public_key": KEY}, "exclude"),
        ({"insecure": True, "allowed_keys": []}, "exclude"),
        ({"public_key": CLIENT[0], "secret_key": CLIENT[1]}, "server_key"),
        ({"public_key": CLIENT[0], "server_key": KEY}, "secret_key"),
        ({"secret_key": CLIENT[1], "server_key": KEY}, "public_key"),
        ({"allowed_keys": [KEY]}, "public_key"),
        (
            {
                "public_key": CLIENT[0],
                "secret_key": CLIENT[1],
                "server_key": KEY,
                "allowed_keys": [KEY],
            },
            "not both",
        ),
        ({"public_key": CLIENT[0], "secret_key": CLIENT[1], "allowed_keys": KEY}, "allowed_keys"),
        ({"public_key": CLIENT[0], "secret_key": CLIENT[1], "allowed_keys": ["x"]}, "allowed_keys"),
        ({"public_key": STRANGER[0], "secret_key": CLIENT[1], "server_key": KEY}, "pair"),
    ],
    ids=[
        "nothing",
        "insecure and a key",
        "insecure and a list",
        "no other side",
        "no secret key",
        "no public key",
        "a list alone",
        "both sides",
        "one text for a list",
        "a list with no key",
        "two keys of two pairs",
    ],
)
def test_security_that_makes_no_sense_is_refused(given: dict[str, Any], word: str) -> None:
    """Settings that exclude each other or are not enough are refused when they are made."""
    with pytest.raises(ValueError, match=word) as caught:
        Security(**given)
    assert CLIENT[1] not in str(caught.value)


def test_secret_key_is_never_shown() -> None:
    """The text of a `Security` shows no secret."""
    security = at_client()
    for text in (repr(security), str(security), f"{security}"):
        assert CLIENT[1] not in text
    assert CLIENT[0] in repr(security)
    assert "insecure" in repr(INSECURE)


# Errors


def test_errors_are_one_family() -> None:
    """Every error is a `ChannelError`, and those of the handshake are one family."""
    for name in chrono_zmq.__all__:
        one = getattr(chrono_zmq, name)
        if isinstance(one, type) and issubclass(one, Exception):
            assert issubclass(one, ChannelError)
    for error in (AuthenticationFailed, SchemaMismatch, VersionMismatch):
        assert error.__bases__ == (HandshakeError,)


async def test_errors_survive_pickling() -> None:
    """An error keeps its type, message and figures in another process."""
    send = open_zmq_send("ipc://nobody-is-here", maxsize=2, name="obs", config=ZmqConfig(linger=0))
    await send.send_many(range(2))
    with pytest.raises(WouldBlock):
        send.send_nowait(9)
    with pytest.raises(chrono_zmq.Undelivered) as caught:
        await send.aclose()
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is chrono_zmq.Undelivered
    assert (str(copy), copy.channel, copy.count) == (str(caught.value), "obs", 2)
