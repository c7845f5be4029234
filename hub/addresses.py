"""Where the hub and its parts listen, for all of its processes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from workbench.settings import Settings


@dataclass(frozen=True, kw_only=True)
class HubPorts:
    """Loopback ports that `workbench up` chose for the hub and its parts."""

    proxy: int
    hub_api: int
    proxy_api: int
    identity: int

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


def public_url(settings: Settings, ports: HubPorts) -> str:
    """How browsers reach the hub: as set, else where the proxy really listens."""
    return settings.hub.public_url.rstrip("/") or f"http://{settings.hub.host}:{ports.proxy}"
