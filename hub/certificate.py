"""The certificate that the proxy shows: made anew before it ends, and read again when its files were replaced."""

from __future__ import annotations

import hashlib
import logging
import ssl
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger(__name__)


class CertificateWatch:
    """Says when a certificate and its key have become others, and fit together.

    Args:
        certificate: PEM file of the certificate and those that signed it.
        key: PEM file of its private key; the same file will do.
        renew: makes the files anew when they are near their end; nothing for files that somebody else renews.
    """

    def __init__(self, certificate: Path, key: Path, renew: Callable[[], object] = lambda: None) -> None:
        self._certificate, self._key, self._renew = certificate, key, renew
        self._shown = b""
        self._told = ""

    def look(self) -> bool:
        """Whether there is another pair than at the last look that said so; the first always is one.

        A pair that cannot be used, such as one that somebody is about to replace, is told once and is none.
        """
        try:
            self._renew()
            found = hashlib.sha256(self._certificate.read_bytes() + b"\0" + self._key.read_bytes()).digest()
            if found == self._shown:
                return False
            # Traefik would show a certificate of its own instead of a pair that does not fit.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._certificate, self._key)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            self._tell(f"{self._certificate} and {self._key} are no pair that can be shown, and are not taken: {error}")
            return False
        self._shown, self._told = found, ""
        return True

    def _tell(self, problem: str) -> None:
        if problem != self._told:
            logger.error("%s", problem)
        self._told = problem
