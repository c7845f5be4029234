"""How a channel's messages travel: to which host, and whether over TLS."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import SecretStr

from workbench.errors import WorkbenchError
from workbench.observability.notifications.sending import read_service

HTTPS, HTTP, SMTPS = 443, 80, 465
PLACES = {"NotifyPagerDuty": "https://events.pagerduty.com/v2/enqueue"}  #: of classes that have no attribute for it


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
    if "host" in service.template_tokens:
        port = service.port or (HTTPS if service.secure else HTTP)
        return Transport(host=str(service.host), port=int(port), is_encrypted=bool(service.secure))
    # What would be the host of such an address is a part of its token.
    fixed = urlsplit(PLACES.get(type(service).__name__) or _first_of(service, "notify_url", "webhook_url"))
    if not fixed.hostname:
        raise WorkbenchError(
            f"Apprise does not tell where {type(service).__name__} sends messages to",
            remedy="Send to an address of your own, such as jsons://host/path, if you have to know.",
        )
    return Transport(host=fixed.hostname, port=fixed.port or HTTPS, is_encrypted=fixed.scheme == "https")


def _first_of(service: object, *names: str) -> str:
    found = (getattr(service, name, None) for name in names)
    return next((each for each in found if isinstance(each, str) and each), "")
