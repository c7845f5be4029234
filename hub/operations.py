"""What operators have: the status page, off-boarding, and an audit log that knows of every server."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from jupyterhub.utils import maybe_future

from hub import status
from hub.auditing import ServerStarts, record_stop
from hub.offboarding import CUSTOM_SCOPES, ROLE, offboarding_handlers, operator_service
from workbench.security.audit import AuditLog
from workbench.settings import Settings


def set_operations(c: Any, settings: Settings) -> None:
    """Add pages, the service that the commands use, and hooks. Comes after roles and spawner are set."""
    audit = AuditLog.of(settings.home)
    c.WorkbenchAuthenticator.pages = [*status.HANDLERS, *offboarding_handlers(settings)]
    c.JupyterHub.custom_scopes = CUSTOM_SCOPES
    c.JupyterHub.services.append(operator_service(settings.home))
    c.JupyterHub.load_roles.append(ROLE)
    c.EventLogger.handlers = [ServerStarts(audit)]
    before = c.Spawner.post_stop_hook if "post_stop_hook" in c.Spawner else lambda _: None
    c.Spawner.post_stop_hook = partial(stopped, audit, before)


async def stopped(audit: AuditLog, then: Callable[[Any], Any], spawner: Any) -> None:
    """After each stop of a server: what the spawner's own hook does, and a line in the audit log."""
    await maybe_future(then(spawner))
    record_stop(audit, spawner)
