"""Whether a Spark Connect server answers: one request of gRPC, by the few frames of HTTP/2 that it takes.

It is written here because each JupyterLab asks its Spark: gRPC's own library would take 21 MB of each. The request
is `AnalyzePlan` for the version, always in the same session. It runs no job and no thread of an operation, so a server
that does nothing else stays idle for whoever looks.

Sources: RFC 9113 (HTTP/2), RFC 7541 (HPACK), grpc.io "gRPC over HTTP/2", spark/connect/base.proto.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from socket import create_connection, socket
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

ANSWER_SECONDS = 5.0
PORT = 15002  #: of Spark Connect, when an address has none
METHOD = "/spark.connect.SparkConnectService/AnalyzePlan"
SESSION, USER = "00000000-0000-4000-8000-00000000feed", "workbench-readiness"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0x0, 0x1, 0x3, 0x4, 0x7
END_STREAM, END_HEADERS = 0x1, 0x4
STREAM = 1
MOST_FRAMES = 100
LOCAL = ("localhost", "127.0.0.1")


class Frame(NamedTuple):
    """A frame of HTTP/2."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def spark_obstacle(remote: str, token: str, seconds: float = ANSWER_SECONDS) -> str:
    """What keeps the server at *remote* from answering; empty when it has told its version.

    Args:
        remote: `sc://host:port`, perhaps with parameters.
        token: that lets us in; empty is none.
        seconds: that it may take.
    """
    address = urlsplit(remote)
    parameters = dict(each.partition("=")[::2] for each in address.path.strip("/;").split(";"))
    try:
        return _ask(address, token or parameters.get("token", ""), parameters, time.monotonic() + seconds)
    except TimeoutError:
        return f"it does not answer within {seconds:g} s"
    except (OSError, ValueError) as error:
        return f"nobody can ask it: {error}"


def request(token: str, authority: str, scheme: str = "http") -> bytes:
    """All that is sent: the preface, our settings, and the one request."""
    fields = {
        ":method": "POST", ":scheme": scheme, ":path": METHOD, ":authority": authority,
        "te": "trailers", "content-type": "application/grpc",
        **({"authorization": f"Bearer {token}"} if token else {}),
    }  # fmt: skip
    head = b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields.items())
    body = message()
    return b"".join(
        (
            PREFACE,
            _frame(SETTINGS, 0, 0, b""),
            _frame(HEADERS, END_HEADERS, STREAM, head),
            # Not compressed, and how long it is.
            _frame(DATA, END_STREAM, STREAM, b"\x00" + len(body).to_bytes(4, "big") + body),
        )
    )


def message() -> bytes:
    """`AnalyzePlanRequest(session_id, user_context.user_id, spark_version)`, as Protocol Buffers have it."""
    user = b"\x0a" + _bytes(USER.encode())
    return b"\x0a" + _bytes(SESSION.encode()) + b"\x12" + _bytes(user) + b"\x52\x00"


def _ask(address: SplitResult, token: str, parameters: Mapping[str, str], deadline: float) -> str:
    host = "127.0.0.1" if address.hostname in LOCAL else str(address.hostname)
    port = address.port or PORT
    # As PySpark has it: a token goes in clear to this machine alone.
    is_secret = parameters.get("use_ssl") == "true" or (token != "" and address.hostname not in LOCAL)
    with create_connection((host, port), _left(deadline)) as raw:
        connection = raw
        if is_secret:
            context = ssl.create_default_context()
            context.set_alpn_protocols(["h2"])
            connection = context.wrap_socket(raw, server_hostname=host)
        with connection:
            scheme = "https" if is_secret else "http"
            connection.sendall(request(token, f"{address.hostname}:{port}", scheme))
            return _verdict(connection, deadline)


def _verdict(connection: socket, deadline: float) -> str:
    for _ in range(MOST_FRAMES):
        frame = _read_frame(connection, deadline)
        if frame.kind == GOAWAY or (frame.kind == RST_STREAM and frame.stream == STREAM):
            return "it breaks off the conversation"
        if frame.stream == STREAM and frame.kind == DATA:
            return ""
        if frame.stream == STREAM and frame.kind == HEADERS and frame.flags & END_STREAM:
            return "it refuses to tell its version, such as to who has another token"
    return "it answers something else than its version"


def _read_frame(connection: socket, deadline: float) -> Frame:
    head = _read(connection, 9, deadline)
    length = int.from_bytes(head[:3], "big")
    return Frame(head[3], head[4], int.from_bytes(head[5:], "big") & 0x7FFFFFFF, _read(connection, length, deadline))


def _read(connection: socket, count: int, deadline: float) -> bytes:
    found = b""
    while len(found) < count:
        connection.settimeout(_left(deadline))
        piece = connection.recv(count - len(found))
        if not piece:
            raise ValueError("it ends the connection")
        found += piece
    return found


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _text(text: str) -> bytes:
    """A literal of HPACK without Huffman's code; its length has a prefix of seven bits."""
    return _length(len(text), 7) + text.encode("ascii")


def _bytes(content: bytes) -> bytes:
    return bytes((len(content),)) + content


def _length(number: int, bits: int) -> bytes:
    most = (1 << bits) - 1
    if number < most:
        return bytes((number,))
    found, number = bytearray((most,)), number - most
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*found, number))
