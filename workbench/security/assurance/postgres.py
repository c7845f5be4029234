"""What a PostgreSQL asks of who connects, over the wire (postgresql.org/docs/current/protocol-message-formats.html)."""

from __future__ import annotations

import socket
import struct

from workbench.security.assurance.rows import NotProtected
from workbench.security.assurance.tls import SECONDS, Server

SSL_REQUEST = struct.pack(">ii", 8, 80877103)
PROTOCOL = 196608  # 3.0
SASL = 10
OPEN, CLEAR, MD5 = 0, 3, 5
WAYS = {OPEN: "nothing", CLEAR: "the password in clear", MD5: "an MD5 of the password"}


def ask_for_tls(raw: socket.socket) -> None:
    """Say SSLRequest, after which TLS begins.

    Raises:
        NotProtected: when the server has no TLS.
    """
    raw.sendall(SSL_REQUEST)
    if raw.recv(1) != b"S":
        raise NotProtected(
            "the server has no TLS: it declined SSLRequest",
            remedy="Set ssl = on there; if it was on, somebody else answers there.",
        )


def asks_for_scram(server: Server, user: str, database: str, *, over_tls: bool) -> str:
    """Who names *user* and nothing else is asked for a proof by SCRAM, in which the password is not sent.

    Raises:
        NotProtected: when something weaker is asked for, or nothing.
        OSError: when the server does not answer.
    """
    fields = b"".join(f"{text}\0".encode() for text in ("user", user, "database", database)) + b"\0"
    startup = struct.pack(">ii", 8 + len(fields), PROTOCOL) + fields
    with server.handshake() if over_tls else server.connect() as connection:
        connection.settimeout(SECONDS)
        connection.sendall(startup)
        answer = _read(connection)
    kind, way = answer[:1], struct.unpack(">i", answer[5:9])[0] if len(answer) >= 9 else -1
    if kind == b"E":
        return "who has no password is refused"
    if kind == b"R" and way == SASL and b"SCRAM-SHA-256" in answer:
        return "asks for a proof by SCRAM-SHA-256, which proves the server too"
    raise NotProtected(
        f"{server.host}:{server.port} lets {user} in for {WAYS.get(way, 'something that is no PostgreSQL')}",
        remedy="Write scram-sha-256 for every line of its pg_hba.conf, and give its roles new passwords.",
    )


def _read(connection: socket.socket) -> bytes:
    """One message: a letter, its length, and what follows."""
    answer = b""
    while len(answer) < 5 or len(answer) < 1 + struct.unpack(">i", answer[1:5])[0]:
        part = connection.recv(4096)
        if not part:
            break
        answer += part
        if len(answer) > 1 << 16:
            break
    return answer
