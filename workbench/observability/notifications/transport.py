"""How a channel's messages travel: to which host, and whether over TLS."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import SecretStr

from workbench.errors import WorkbenchError
from workbench.observability.notifications.sending import read_service

HTTPS, HTTP, SMTPS = 443, 80, 465


@dataclass(frozen=True, kw_only=True)
class Transport:
    """Where messages go; nothing of it is secret."""

    host: str
    port: int
    is_encrypted: bool


def transport_of(address: SecretStr) -> Transport:
    """How messages to *address*, an Apprise URL, travel.

    Raises:
        WorkbenchError: when it is none.
    """
    service = read_service(address.get_secret_value())
    if service is None:
        raise WorkbenchError("it is no Apprise URL", remedy="Correct it; docs/alerts.md has examples.")
    if hasattr(service, "smtp_host"):
        is_encrypted = str(getattr(service, "secure_mode", "")) != "insecure"
        return Transport(host=str(service.smtp_host), port=int(service.port or SMTPS), is_encrypted=is_encrypted)
    fixed = urlsplit(str(getattr(service, "notify_url", "") or ""))
    if fixed.hostname:
        return Transport(host=fixed.hostname, port=fixed.port or HTTPS, is_encrypted=fixed.scheme == "https")
    port = service.port or (HTTPS if service.secure else HTTP)
    return Transport(host=str(service.host), port=int(port), is_encrypted=bool(service.secure))
