"""What Kafka's brokers let a stranger do, over the wire (kafka.apache.org/protocol)."""

from __future__ import annotations

import ssl
import struct

from workbench.security.assurance.rows import NotProtected
from workbench.security.assurance.tls import Server

METADATA = 3  #: key of the request for topics and brokers
VERSION = 1
CLIENT = b"doctor"
#: Header version 1 (key, version, correlation id, client id) and a null array: all topics.
_BODY = struct.pack(">hhih", METADATA, VERSION, 1, len(CLIENT)) + CLIENT + struct.pack(">i", -1)
METADATA_REQUEST = struct.pack(">i", len(_BODY)) + _BODY


def refuses_strangers(server: Server) -> str:
    """Over TLS but without a login, the broker tells of no topic: it ends the connection.

    Raises:
        NotProtected: when it answers.
        OSError: when there is no TLS to begin with.
    """
    with server.handshake() as secured:
        try:
            secured.sendall(METADATA_REQUEST)
            answer = secured.recv(16)
        except (ConnectionError, TimeoutError, ssl.SSLError):  # the last: a client certificate is asked for
            answer = b""
    if answer:
        raise NotProtected(
            f"the broker {server.host}:{server.port} answers who has not logged in",
            remedy="Have its listener use SASL_SSL, or SSL with ssl.client.auth=required.",
        )
    return "without a login it ends the connection"
