"""Lets the monitor read JupyterHub's own metrics: a service that may do that alone, and the file that says where they are."""

from __future__ import annotations

import logging
from typing import Any

from hub.addresses import HubPorts
from workbench.observability.monitor.targets import HUB
from workbench.runtime.metrics import metrics_token, publish_target
from workbench.settings import Settings

log = logging.getLogger(__name__)

SERVICE = "monitor"
PATH = "/hub/metrics"


def set_monitoring(c: Any, settings: Settings, ports: HubPorts) -> None:
    """Add the service and its role. A file that cannot be written is only logged: the hub does not depend on it."""
    c.JupyterHub.services.append({"name": SERVICE, "api_token": metrics_token(settings.home).get_secret_value()})
    c.JupyterHub.load_roles.append({"name": SERVICE, "services": [SERVICE], "scopes": ["read:metrics"]})
    try:
        publish_target(settings.home, HUB, f"127.0.0.1:{ports.hub_api}", path=PATH)
    except OSError as error:
        log.warning("nobody can read the metrics of the hub: %s", error)
