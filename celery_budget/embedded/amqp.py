"""One AMQP 0-9-1 handshake: proof that a RabbitMQ node serves clients, and which node it is.

Only what `rabbitmq.py` needs to know that a node is ready; tasks use kombu.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
from dataclasses import dataclass
from io import BufferedRWPair
from urllib.parse import SplitResult, unquote

_TIMEOUT_S = 5.0
_METHOD_FRAME = 1
_FRAME_END = b"\xce"

# Class and method numbers of AMQP 0-9-1, section "connection".
_START, _START_OK = (10, 10), (10, 11)
_TUNE, _TUNE_OK = (10, 30), (10, 31)
_OPEN, _OPEN_OK = (10, 40), (10, 41)
_CLOSE, _CLOSE_OK = (10, 50), (10, 51)


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a node says of itself.

    Attributes:
        version: e.g. `"3.10.8"`.
        cluster: Cluster name; unless changed, the node's name, then "@" and a host name.
    """

    version: str
    cluster: str


class NotServing(Exception):  # noqa: N818 - says what is the case
    """The node does not serve this user and virtual host now; the text says why."""


def greet(address: SplitResult) -> Greeting:
    """Open and close a connection to the URL's virtual host.

    Raises:
        NotServing: Nothing answers, or the user or the virtual host is refused.
    """
    host = address.hostname or "127.0.0.1"
    port = address.port or (5671 if address.scheme == "amqps" else 5672)
    try:
        with socket.create_connection((host, port), _TIMEOUT_S) as plain:
            plain.settimeout(_TIMEOUT_S)
            connection = plain
            if address.scheme == "amqps":
                context = ssl.create_default_context()
                connection = context.wrap_socket(plain, server_hostname=host)
            with connection.makefile("rwb") as stream:
                return _shake_hands(stream, address)
    except (OSError, struct.error) as error:
        raise NotServing(f"{host}:{port}: {error or type(error).__name__}") from error


def virtual_host(address: SplitResult) -> str:
    """Tell the virtual host of a broker URL as kombu reads it: no path means "/"."""
    return unquote(address.path[1:]) or "/"


def _shake_hands(stream: BufferedRWPair, address: SplitResult) -> Greeting:
    stream.write(b"AMQP\x00\x00\x09\x01")
    stream.flush()
    start = _read(stream, _START)
    user, password = (
        unquote(address.username or "guest"),
        unquote(address.password or "guest"),
    )
    login = f"\0{user}\0{password}".encode()
    # Without this capability a refused user only sees its connection cut.
    close_capability = _short("authentication_failure_close") + b"t\x01"
    properties = _short("capabilities") + b"F" + _long(close_capability)
    _write(
        stream,
        _START_OK,
        _long(properties) + _short("PLAIN") + _long(login) + _short("en_US"),
    )
    limits = _read(stream, _TUNE)
    # The node's own limits, and no heartbeat: the connection ends at once.
    _write(stream, _TUNE_OK, limits[:6] + struct.pack(">H", 0))
    _write(stream, _OPEN, _short(virtual_host(address)) + _short("") + b"\0")
    _read(stream, _OPEN_OK)
    _write(stream, _CLOSE, struct.pack(">H", 200) + _short("") + struct.pack(">HH", 0, 0))
    _read(stream, _CLOSE_OK)
    return Greeting(_property(start, b"version"), _property(start, b"cluster_name"))


def _read(stream: BufferedRWPair, wanted: tuple[int, int]) -> bytes:
    """Read one method frame and return its arguments."""
    kind, _, size = struct.unpack(">BHI", stream.read(7))
    payload = stream.read(size + 1)[:-1]
    method = struct.unpack(">HH", payload[:4])
    if kind == _METHOD_FRAME and method == _CLOSE:
        raise NotServing(payload[7 : 7 + payload[6]].decode(errors="replace"))
    if kind != _METHOD_FRAME or method != wanted:
        raise NotServing(f"not AMQP 0-9-1 as expected: frame {kind}, method {method}")
    return payload[4:]


def _write(stream: BufferedRWPair, method: tuple[int, int], arguments: bytes) -> None:
    payload = struct.pack(">HH", *method) + arguments
    stream.write(struct.pack(">BHI", _METHOD_FRAME, 0, len(payload)) + payload + _FRAME_END)
    stream.flush()


def _short(text: str) -> bytes:
    data = text.encode()
    return bytes([len(data)]) + data


def _long(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _property(table: bytes, key: bytes) -> str:
    """Find one string in the table of server properties, which may nest other tables."""
    found = re.search(re.escape(bytes([len(key)]) + key + b"S") + b"(?s:(....))", table)
    if found is None:
        return ""
    (size,) = struct.unpack(">I", found[1])
    return table[found.end() : found.end() + size].decode(errors="replace")
