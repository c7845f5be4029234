"""Whether a port speaks TLS with a certificate that is good, and nothing but TLS."""

from __future__ import annotations

import datetime as dt
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from workbench.security.assurance.rows import NotProtected

SECONDS = 10.0
LEAST_DAYS = 7
#: A TLS alert has type 21 (RFC 8446 §6). Web servers say in clear that they want https, traefik that nothing is there.
REFUSALS = re.compile(rb"\x15\x03|HTTP/1\.[01] 4(?:00|04|21|26) ")
HTTP_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, kw_only=True)
class Server:
    """Where TLS is expected."""

    host: str
    port: int
    name: str  #: that the certificate has to have
    authority: Path | None = None  #: PEM file; None trusts the system's authorities
    authority_is_server: bool = False  #: the file has the server's own certificate, which need not be an authority's
    upgrade: Callable[[socket.socket], None] | None = None  #: what is said in clear before TLS begins

    def connect(self) -> socket.socket:
        """A connection, after the upgrade. Raises OSError, NotProtected as *upgrade*."""
        raw = socket.create_connection((self.host, self.port), SECONDS)
        try:
            if self.upgrade:
                self.upgrade(raw)
        except BaseException:
            raw.close()
            raise
        return raw

    def handshake(self) -> ssl.SSLSocket:
        """A connection over TLS whose certificate and name were checked.

        Raises:
            OSError: when there is none; `ssl.SSLError` when TLS does not come about.
        """
        context = ssl.create_default_context(cafile=None if self.authority is None else str(self.authority))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.authority_is_server:
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        raw = self.connect()
        try:
            return context.wrap_socket(raw, server_hostname=self.name)
        except BaseException:
            raw.close()
            raise


def has_tls(server: Server) -> str:
    """The handshake, with the version, the name and the days that the certificate is good for.

    Raises:
        NotProtected: when it does not come about, or the certificate ends within a week.
    """
    where = f"{server.host}:{server.port}"
    try:
        with server.handshake() as secured:
            certificate = x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")
            version = secured.version()
    except ssl.SSLCertVerificationError as error:
        raise NotProtected(
            f"the certificate at {where} is not good for {server.name}: {error.verify_message}",
            remedy="Renew it, or name its authority; if you did not change it, somebody else answers there.",
        ) from None
    except ssl.SSLError as error:
        raise NotProtected(
            f"there is no TLS at {where}: {error.reason or error}",
            remedy="Switch TLS on there; if it was on, somebody else answers there.",
        ) from None
    except OSError as error:
        raise NotProtected(
            f"{where} does not answer: {error}", remedy="Start it, or correct its address; then look again."
        ) from None
    days = (certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)).days
    if days < LEAST_DAYS:
        raise NotProtected(
            f"the certificate at {where} ends in {days} days",
            remedy="Renew it. What the workbench made itself is renewed within a minute of the last 30 days: look into its log for what hinders it.",
        )
    return f"{version}, certificate for {server.name}, good for {days} days"


def refuses_plaintext(server: Server, request: bytes = HTTP_REQUEST) -> str:
    """What is said without TLS gets no answer but a refusal.

    Args:
        server: where.
        request: what a client without TLS would begin with.

    Raises:
        NotProtected: when it is answered.
    """
    try:
        with socket.create_connection((server.host, server.port), SECONDS) as raw:
            raw.sendall(request)
            answer = raw.recv(256)
    except (ConnectionError, TimeoutError):
        answer = b""
    if answer and not REFUSALS.match(answer):
        raise NotProtected(
            f"{server.host}:{server.port} answers what is sent in clear", remedy="Switch off its listener without TLS."
        )
    return "plaintext is refused"
