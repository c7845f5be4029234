"""Where the hub and its parts listen, for all of its processes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from workbench.sections import is_loopback
from workbench.settings import Settings

DEFAULT_PORTS = {"http": 80, "https": 443}
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - nothing listens here


@dataclass(frozen=True, kw_only=True)
class HubPorts:
    """Loopback ports that `workbench up` chose for the hub and its parts."""

    proxy: int
    hub_api: int
    proxy_api: int
    identity: int
    services: int = 8097  #: of the page of pipelines

    @classmethod
    def read(cls, home: Path) -> HubPorts:
        """What `workbench up` wrote, else JupyterHub's usual ports."""
        path = home / "run" / "hub.json"
        if not path.exists():
            return cls(proxy=8000, hub_api=8081, proxy_api=8099, identity=8098)
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def as_json(self) -> str:
        """The ports as `read` expects them."""
        return json.dumps(asdict(self))


def bind_url(settings: Settings, ports: HubPorts) -> str:
    """Where the proxy listens."""
    return _address(settings, settings.hub.host, ports)


def local_url(settings: Settings, ports: HubPorts) -> str:
    """How this machine reaches the proxy."""
    return _address(settings, ANY_ADDRESS.get(settings.hub.host, settings.hub.host), ports)


def public_url(settings: Settings, ports: HubPorts) -> str:
    """How browsers reach the hub: as set, else where the proxy really listens.

    It is the hub's origin as a browser writes it: lower case, and without the port that goes without saying.
    """
    url = urlsplit(settings.hub.public_url or bind_url(settings, ports))
    port = "" if url.port in {None, DEFAULT_PORTS[url.scheme]} else f":{url.port}"
    return f"{url.scheme}://{_bracketed(url.hostname or '')}{port}"


def public_host(settings: Settings, ports: HubPorts) -> str:
    """The name or address in `public_url`."""
    return urlsplit(public_url(settings, ports)).hostname or ""


def exposed_by(settings: Settings) -> str:
    """The variable by which others than this machine reach the hub, with its value; empty when none says so."""
    if not is_loopback(settings.hub.host):
        return f"WORKBENCH_HUB_HOST is {settings.hub.host}"
    name = urlsplit(settings.hub.public_url).hostname or ""
    # Every name below localhost is this machine (RFC 6761 §6.3).
    if name and not is_loopback(name) and not name.endswith(".localhost"):
        return f"WORKBENCH_HUB_PUBLIC_URL is {settings.hub.public_url}"
    return ""


def subdomain_host(settings: Settings, ports: HubPorts) -> str:
    """The address whose subdomains are the users' origins; empty when everybody shares the hub's."""
    return public_url(settings, ports) if settings.hub.subdomains else ""


def _address(settings: Settings, host: str, ports: HubPorts) -> str:
    scheme = "http" if settings.hub.tls == "off" else "https"
    return f"{scheme}://{_bracketed(host)}:{ports.proxy}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
