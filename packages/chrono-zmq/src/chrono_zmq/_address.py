"""Addresses, and what is safe to bind or connect to."""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ._config import Security
from ._exceptions import AddressInUse
from ._real import random_bytes

# What the operating system allows for the path of a local socket.
MAX_PATH = 103


@dataclass(frozen=True, slots=True)
class Address:
    """An address that was understood.

    Attributes:
        text: as ZeroMQ wants it.
        path: of ``ipc``: where the socket lies.
        local: whether only processes of this machine can reach it.
    """

    text: str
    path: Path | None
    local: bool


def parse(address: object, *, bind: bool, security: Security | None) -> Address:
    """Understand an address, and refuse what is not safe.

    Raises:
        TypeError: it is no text.
        ValueError: it is no address, or not a safe one.
    """
    if not isinstance(address, str):
        raise TypeError(f"an address must be text such as 'tcp://127.0.0.1:5555', got {address!r}")
    scheme, mark, rest = address.partition("://")
    if not mark or scheme not in ("ipc", "tcp") or not rest or "\0" in rest:
        raise ValueError(
            f"{address!r} is no address: use 'ipc://NAME', 'ipc:///a/path' or 'tcp://HOST:PORT'"
        )
    found = _ipc(address, rest, bind) if scheme == "ipc" else _tcp(address, rest, bind)
    if security is not None and not security.insecure:
        if bind and security.allowed_keys is None:
            raise ValueError(f"{address!r} binds, so its Security needs allowed_keys")
        if not bind and security.server_key is None:
            raise ValueError(f"{address!r} connects, so its Security needs server_key")
    if not found.local and security is None:
        raise ValueError(
            f"{address!r} can be reached from other machines: give a Security with CURVE keys, or "
            "Security(insecure=True)"
        )
    if found.path is not None:
        _check_folder(found.path.parent, security)
    return found


def _tcp(address: str, rest: str, bind: bool) -> Address:
    host, mark, port = rest.rpartition(":")
    wild = bind and port in ("*", "0")
    if not mark or not host or not (wild or (port.isascii() and port.isdigit())):
        raise ValueError(f"{address!r} is no address: a tcp address is 'tcp://HOST:PORT'")
    if not wild and not 1 <= int(port) <= 65535:
        raise ValueError(f"{address!r} is no address: a port lies between 1 and 65535")
    if host == "*" and not bind:
        raise ValueError(f"{address!r} cannot be connected to: name the host")
    if host == "localhost":
        host = "127.0.0.1"  # of the two addresses that it may stand for, the one that always is
    try:
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        local = ipaddress.ip_address(bare).is_loopback
    except ValueError:
        local = False
    return Address(f"tcp://{host}:{'*' if wild else int(port)}", None, local)


def _ipc(address: str, rest: str, bind: bool) -> Address:
    if rest == "*":
        if not bind:
            raise ValueError(f"{address!r} cannot be connected to: name the socket")
        path = own_folder() / f"{os.getpid()}-{random_bytes(4).hex()}"
    elif os.path.isabs(rest):
        path = Path(rest)
    elif "/" in rest:
        raise ValueError(f"{address!r} is no address: give a name without '/', or a whole path")
    else:
        path = own_folder() / rest
    if len(os.fsencode(path)) > MAX_PATH:
        raise ValueError(
            f"{address!r} is too long: the path of a local socket may have {MAX_PATH} bytes, and "
            f"{str(path)!r} has {len(os.fsencode(path))}"
        )
    return Address(f"ipc://{path}", path, True)


def own_folder() -> Path:
    """The folder of this user in which sockets without a path lie."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    return Path(base or tempfile.gettempdir()) / f"chrono-{_user()}"


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else "user"


def _check_folder(folder: Path, security: Security | None) -> None:
    """See that nobody else can get at the folder; make it where it is ours to make."""
    if folder == own_folder():
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"the folder {str(folder)!r} for sockets cannot be made ({error.strerror}): let "
                "XDG_RUNTIME_DIR name a folder of yours, or give a whole path"
            ) from None
    if not folder.is_dir():
        raise ValueError(f"there is no folder {str(folder)!r} for a socket: make it, for you alone")
    if security is not None or not hasattr(os, "getuid"):
        return
    found = folder.stat()
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise ValueError(
            f"others can get at the folder {str(folder)!r}: use one that only you may enter "
            "(mode 700), 'ipc://NAME', a Security with CURVE keys, or Security(insecure=True)"
        )


def check_free(path: Path, channel: str) -> None:
    """See that nobody listens there; ZeroMQ would take the path away from him.

    Raises:
        AddressInUse: somebody does, or something lies there that is no socket.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise AddressInUse(
            f"{str(path)!r} is there and is no socket: choose another address, or remove it",
            channel=channel,
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return  # what a process that died has left behind
        except OSError:
            pass
    raise AddressInUse(
        f"something listens at 'ipc://{path}' already: choose another address, or close it",
        channel=channel,
    )
