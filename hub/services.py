"""The page of pipelines as a service of the hub: where it listens, and which of the hub's groups may do what there.

The process is started by `workbench up` and not by JupyterHub, so that its guard ends it with the
workbench. All that it has to know of the hub is in one file, which the hub writes when it starts.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from jupyterhub.utils import subdomain_hook_idna

from hub.addresses import HubPorts, public_url, subdomain_host
from hub.roles import GROUPS
from workbench.security.secrets import ensure_token, private_folder, write_private
from workbench.settings import Settings

SERVICE = "pipelines"
PREFIX = f"/services/{SERVICE}/"
#: What a role of the hub may do with every pipeline, in the words of `pipelines.service.rights`.
RIGHTS = {"viewer": "viewer", "analyst": "runner", "engineer": "editor", "admin": "owner"}


def set_services(c: Any, settings: Settings, ports: HubPorts) -> None:
    """Add the service, and write what its process reads. Without a PostgreSQL for its store there is none."""
    if not has_pipelines(settings):
        return
    token = ensure_token(settings.home / "keys" / "hub-pipelines-token")
    c.JupyterHub.services.append(
        {
            "name": SERVICE,
            "url": f"http://127.0.0.1:{ports.services}",
            "api_token": token,
            "oauth_redirect_uri": f"{_host(settings, ports)}{PREFIX}oauth_callback",
            # The hub is started first, and shall not wait.
            "timeout": 1,
            # It is part of the workbench: nobody has to be asked whether it may know who they are.
            "oauth_no_confirm": True,
        }
    )
    told = {
        "port": ports.services,
        "prefix": PREFIX,
        "hub_prefix": "/hub/",
        "host": _host(settings, ports),
        "hub_host": public_url(settings, ports) if subdomain_host(settings, ports) else "",
        "api_url": f"http://127.0.0.1:{ports.hub_api}/hub/api",
        "rights": {GROUPS[role]: right for role, right in RIGHTS.items()},
        "token": token,
    }
    write_private(private_folder(settings.home / "run") / "hub-pipelines.json", json.dumps(told))


def _host(settings: Settings, ports: HubPorts) -> str:
    """The origin of the service, when it has one of its own; else empty."""
    parent = urlsplit(subdomain_host(settings, ports))
    if not parent.hostname:
        return ""
    port = f":{parent.port}" if parent.port else ""
    return f"{parent.scheme}://{subdomain_hook_idna(SERVICE, parent.hostname, kind='service')}{port}"


def has_pipelines(settings: Settings) -> bool:
    """Whether there is a store for runs of pipelines; the same rule by which `workbench up` starts their processes."""
    return settings.has_store
