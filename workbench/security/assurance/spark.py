"""What a Spark Connect server and the driver beside it let a stranger do."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable

from workbench.answering import answers
from workbench.security.assurance.rows import NotProtected

SECONDS = 10.0  #: a busy machine answers late; only a port that says nothing is waited for so long
ANSWER_BYTES = 1 << 12
ANALYZE = "/spark.connect.SparkConnectService/AnalyzePlan"
#: An empty RpcRequest of Spark's network/common: length, type 3, a number, the size of its body.
EMPTY_REQUEST = struct.pack(">qbqi", 21, 3, 7, 0)
#: What stands in the stack trace that a driver with spark.authenticate answers it with.
AUTHENTICATING = (b"AuthRpcHandler", b"SaslRpcHandler")
HTTP_REQUEST = b"GET / HTTP/1.0\r\n\r\n"


def connect_refuses_strangers(host: str, port: int) -> str:
    """A Connect server answers a call without a token, or with another one, with UNAUTHENTICATED.

    Raises:
        NotProtected: when it answers anything else.
    """
    import grpc

    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"{host}:{port}", options=options) as channel:
        call = channel.unary_unary(ANALYZE)
        for metadata in ((), (("authorization", "Bearer of-nobody"),)):
            try:
                call(b"", timeout=SECONDS, metadata=metadata)
            except grpc.RpcError as error:
                code = error.code()
                if code is grpc.StatusCode.UNAUTHENTICATED:
                    continue
                found = code.name
            else:
                found = "OK"
            raise NotProtected(
                f"Spark Connect at {host}:{port} answers {found} to who has no token",
                remedy="Set SPARK_CONNECT_AUTHENTICATE_TOKEN where it runs; it needs Spark 4.0 or later.",
            )
    return "without its token, or with another, a call is UNAUTHENTICATED"


def driver_refuses_strangers(host: str, port: int) -> str:
    """A port of a driver other than that of Connect asks for the secret of the application, or is the UI behind its token.

    Raises:
        NotProtected: when nothing shows that it asks.
    """
    if not answers(port, host, SECONDS):
        return ""  # it has ended meanwhile
    answer = _ask(host, port, EMPTY_REQUEST, lambda said: len(said) >= ANSWER_BYTES or _asks_for_secret(said))
    if _asks_for_secret(answer):
        return f"port {port} asks for the application's secret"
    page = _ask(host, port, HTTP_REQUEST, lambda said: b"\r\n" in said)
    if page.startswith(b"HTTP/"):
        if page[9:12] in {b"401", b"403"}:
            return f"the UI on port {port} answers {page[9:12].decode()} without a token"
        raise NotProtected(
            f"the Spark UI on port {port} answers without a token",
            remedy="Set spark.ui.filters to org.apache.spark.ui.JWSFilter, as the workbench does, or spark.ui.enabled to false.",
        )
    raise NotProtected(
        f"Spark's port {port} reads what anybody on this machine sends, Java objects among it",
        remedy="Set spark.authenticate to true in the profile, as spark_conf/local.conf has it, and start Spark anew.",
    )


def speaks_http2(host: str, port: int) -> bool:
    """Whether a port of a driver is that of Connect: gRPC begins with HTTP/2's frame SETTINGS (RFC 9113 §3.4)."""
    return _ask(host, port, HTTP_REQUEST, lambda said: len(said) > 3)[3:4] == b"\x04"


def python_refuses_strangers(host: str, port: int) -> str:
    """The daemon that forks Python workers asks for the secret of its driver.

    Raises:
        NotProtected: when it takes another one.
    """
    guess = b"of-nobody"
    answer = _ask(host, port, struct.pack(">i", len(guess)) + guess, lambda said: b"ok" in said or b"err" in said)
    if b"ok" in answer:
        raise NotProtected(
            f"Spark's Python daemon on port {port} takes any secret",
            remedy="Use a release of Spark that is maintained.",
        )
    return f"the Python daemon on port {port} refuses another secret"


def _asks_for_secret(answer: bytes) -> bool:
    return any(name in answer for name in AUTHENTICATING)


def _ask(host: str, port: int, request: bytes, is_enough: Callable[[bytes], bool]) -> bytes:
    answer = b""
    with contextlib.suppress(OSError), socket.create_connection((host, port), SECONDS) as connection:
        connection.sendall(request)
        while not is_enough(answer) and (part := connection.recv(4096)):
            answer += part
    return answer
