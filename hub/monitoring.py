"""Lets the monitor read JupyterHub's metrics: a service that may do that alone, the file that says where, and counts of ours."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from jupyterhub.handlers.base import SQLAlchemyError
from jupyterhub.handlers.metrics import MetricsHandler
from jupyterhub.log import log_request

from hub.addresses import HubPorts
from workbench.observability.metrics import TOKENS_USED, begin_authorizations, begin_tokens, count_authorization
from workbench.observability.monitor.targets import HUB
from workbench.runtime.metrics import metrics_token, publish_target
from workbench.settings import Settings

log = logging.getLogger(__name__)

SERVICE = "monitor"
PATH = "/hub/metrics"
HUB_SERVICE = "hub"  #: as the metric of attempts names it
API_CLIENT = "jupyterhub"  #: whose client made a token, unless a login to a server or a service did


def set_monitoring(c: Any, settings: Settings, ports: HubPorts) -> None:
    """Add the service, its role and the counts. A file that cannot be written is only logged: the hub does not depend on it."""
    begin_authorizations(HUB_SERVICE)
    begin_tokens()
    c.JupyterHub.tornado_settings["log_function"] = log_counted
    c.JupyterHub.services.append({"name": SERVICE, "api_token": metrics_token(settings.home).get_secret_value()})
    c.JupyterHub.load_roles.append({"name": SERVICE, "services": [SERVICE], "scopes": ["read:metrics"]})
    try:
        publish_target(settings.home, HUB, f"127.0.0.1:{ports.hub_api}", path=PATH)
    except OSError as error:
        log.warning("nobody can read the metrics of the hub: %s", error)


def log_counted(handler: Any) -> None:
    """For tornado's `log_function`: log a request as JupyterHub does, and count rights and tokens."""
    log_request(handler)
    # The monitor's own, four a minute.
    if not isinstance(handler, MetricsHandler):
        count_right(handler)
        count_token(handler)


def count_right(handler: Any) -> None:
    """Count a request that was refused, or that somebody who is known was let do. What is open to everybody is no attempt."""
    status, who = handler.get_status(), getattr(handler, "_jupyterhub_user", None)
    is_refused = status == HTTPStatus.FORBIDDEN
    if is_refused or (who is not None and status < HTTPStatus.BAD_REQUEST):
        count_authorization(HUB_SERVICE, is_allowed=not is_refused)


def count_token(handler: Any) -> None:
    """Count a request by its token, when JupyterHub knew that."""
    # JupyterHub's own sign: there is no hook where it has looked the token up.
    if getattr(handler, "_token_authenticated", False):
        TOKENS_USED.labels(_kind_of_token(handler)).inc()


def _kind_of_token(handler: Any) -> str:
    try:
        # What other requests are about to change is not for this one to write.
        with handler.db.no_autoflush:
            token = handler.get_token()
    except SQLAlchemyError:
        handler.db.rollback()
        return "other"
    if token is None:  # the request has revoked it
        return "other"
    if token.service_id is not None:
        return "service"
    if token.client_id != API_CLIENT:
        return "session"
    return "server" if (token.note or "").startswith("Server at ") else "user"
