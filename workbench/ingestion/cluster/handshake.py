"""A TLS handshake of our own with a broker, to learn what the drivers do not tell.

librdkafka says "certificate verify failed" of a certificate that has expired, is not trusted or
names another host; kafka-python says that it timed out. Python's `ssl` has the verify code of
X.509 (RFC 5280), and the alerts of TLS (RFC 8446, section 6).
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from workbench.ingestion.cluster.connection import KafkaConnection

ATTEMPT_SECONDS = 3.0
# The two requests that every broker answers before a login: ApiVersions 0 (KIP-35) says that it is
# one, SaslHandshake 1 (KIP-43, of no mechanism) which logins it takes.
CLIENT = struct.pack(">h9s", 9, b"workbench")
API_VERSIONS = struct.pack(">hhi", 18, 0, 1) + CLIENT
SASL_HANDSHAKE = struct.pack(">hhi", 17, 1, 2) + CLIENT + struct.pack(">h", 0)
NO_LOGIN_HERE = 34  # ILLEGAL_SASL_STATE: the listener has no SASL
LONGEST_ANSWER_BYTES = 100_000
TLS_RECORDS = (b"\x15\x03", b"\x16\x03")  # an alert, a handshake

# OpenSSL's X509_V_ERR_… (openssl-verification-options(1))
NOT_YET_VALID, EXPIRED = 9, 10
OTHER_NAME = (62, 64)  # of a host, of an address
CERTIFICATE_ALERTS = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE", "ACCESS_DENIED")


class Finding(Enum):
    """What came of a handshake."""

    ANSWERED = auto()  #: a broker answered
    LOGIN_WANTED = auto()  #: a broker answered that wants SASL; the detail is how
    SILENT = auto()  #: nobody listens, or nobody says anything
    NO_TLS = auto()  #: something listens that does not speak TLS
    TLS_ONLY = auto()  #: it speaks TLS, and we do not
    EXPIRED = auto()
    NOT_YET_VALID = auto()
    OTHER_NAME = auto()
    UNTRUSTED = auto()
    CLIENT_REFUSED = auto()  #: it wants another certificate of ours, or one at all
    FAILED = auto()


@dataclass(frozen=True)
class Verdict:
    """What a broker did, in OpenSSL's words when it was TLS that failed."""

    address: str
    finding: Finding
    detail: str = ""


def probe(connection: KafkaConnection, host: str, port: int) -> Verdict:
    """Connect as the drivers do, and send two requests that need no login."""
    address = f"{host}:{port}"
    try:
        with socket.create_connection((host, port), ATTEMPT_SECONDS) as raw:
            if not connection.is_encrypted:
                return _ask_plainly(address, host, port, raw)
            with _context(connection).wrap_socket(raw, server_hostname=host) as tls:
                # With TLS 1.3 a broker refuses our certificate after the handshake has ended for us.
                return _ask(address, tls)
    except ssl.SSLCertVerificationError as error:
        findings = {EXPIRED: Finding.EXPIRED, NOT_YET_VALID: Finding.NOT_YET_VALID}
        findings |= dict.fromkeys(OTHER_NAME, Finding.OTHER_NAME)
        return Verdict(address, findings.get(error.verify_code, Finding.UNTRUSTED), error.verify_message)
    except ssl.SSLError as error:
        if (finding := _finding(error.reason or "")) is Finding.FAILED and _answers_plainly(host, port):
            finding = Finding.NO_TLS
        return Verdict(address, finding, _words(error))
    except ConnectionError as error:
        finding = Finding.NO_TLS if connection.is_encrypted and _answers_plainly(host, port) else Finding.SILENT
        return Verdict(address, finding, error.strerror or str(error))
    except OSError as error:
        return Verdict(address, Finding.SILENT, error.strerror or str(error))


def peer_certificate(host: str, port: int) -> Certificate | None:
    """The certificate that a server shows, whatever it is worth: nothing is sent to it."""
    from cryptography.x509 import load_der_x509_certificate

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        contextlib.suppress(OSError, ValueError),
        socket.create_connection((host, port), ATTEMPT_SECONDS) as raw,
        context.wrap_socket(raw, server_hostname=host) as tls,
    ):
        shown = tls.getpeercert(binary_form=True)
        return load_der_x509_certificate(shown) if shown else None
    return None


def _context(connection: KafkaConnection) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=connection.ca_file or None)
    # Python 3.13 demands more of certificates than the drivers do.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if connection.certificate_file:
        password = connection.key_password.get_secret_value()
        # A password of nothing, rather than none: OpenSSL would ask for one at the terminal.
        context.load_cert_chain(connection.certificate_file, connection.key_file, lambda: password)
    return context


def _ask(address: str, peer: socket.socket) -> Verdict:
    if not _answer(peer, API_VERSIONS):
        return Verdict(address, Finding.SILENT, "the connection was closed")
    offered = mechanisms(_answer(peer, SASL_HANDSHAKE))
    return Verdict(address, Finding.LOGIN_WANTED if offered else Finding.ANSWERED, offered)


def _ask_plainly(address: str, host: str, port: int, peer: socket.socket) -> Verdict:
    peer.sendall(_framed(API_VERSIONS))
    start = peer.recv(2, socket.MSG_PEEK)
    # Some servers close the connection without an alert.
    if start in TLS_RECORDS or (not start and peer_certificate(host, port)):
        return Verdict(address, Finding.TLS_ONLY)
    return _ask(address, peer) if start and _read(peer) else Verdict(address, Finding.SILENT)


def _answers_plainly(host: str, port: int) -> bool:
    """Whether a broker answers without TLS; one that is given TLS closes the connection."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), ATTEMPT_SECONDS) as peer:
        return bool(_answer(peer, API_VERSIONS))
    return False


def _answer(peer: socket.socket, request: bytes) -> bytes:
    """The broker's answer without its length; empty when the connection was closed."""
    peer.sendall(_framed(request))
    return _read(peer)


def _framed(request: bytes) -> bytes:
    return struct.pack(">i", len(request)) + request


def _read(peer: socket.socket) -> bytes:
    head = _read_bytes(peer, 4)
    length = struct.unpack(">i", head)[0] if len(head) == 4 else 0
    return _read_bytes(peer, length) if 0 < length < LONGEST_ANSWER_BYTES else b""


def _read_bytes(peer: socket.socket, count: int) -> bytes:
    """That many bytes, or fewer when the connection is closed before."""
    read = b""
    while len(read) < count and (more := peer.recv(count - len(read))):
        read += more
    return read


def mechanisms(answer: bytes) -> str:
    """The SASL mechanisms in an answer to SaslHandshake 1; empty when there are none, or no such answer."""
    names = []
    try:
        _, error, count = struct.unpack_from(">ihi", answer)
        place = 10
        for _ in range(0 if error == NO_LOGIN_HERE else min(count, LONGEST_ANSWER_BYTES)):
            (length,) = struct.unpack_from(">H", answer, place)
            names.append(answer[place + 2 : place + 2 + length].decode(errors="replace"))
            place += 2 + length
    except struct.error:  # cut short
        return ""
    return ", ".join(names)


def _finding(reason: str) -> Finding:
    if "ALERT" in reason and any(name in reason for name in CERTIFICATE_ALERTS):
        return Finding.CLIENT_REFUSED
    # What OpenSSL makes of bytes that are no TLS record differs between its versions.
    if reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"}:
        return Finding.NO_TLS
    return Finding.FAILED


def _words(error: ssl.SSLError) -> str:
    """OpenSSL's reason as words: SSLV3_ALERT_BAD_CERTIFICATE is `bad certificate`."""
    return (error.reason or str(error)).rpartition("ALERT_")[2].replace("_", " ").lower()
