"""What operators have: the status page, off-boarding, and an audit log that knows of every server."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from jupyterhub.spawner import SpawnException
from jupyterhub.utils import maybe_future

from hub import status, warehouse_roles
from hub.auditing import AuditTrail, ServerStarts, record_stop, server_resource
from hub.departure import remove_unfinished_archives
from hub.keys import note_in_use
from hub.offboarding import CUSTOM_SCOPES, ROLE, offboarding_handlers, operator_service
from workbench.security.audit import Action, AuditLog
from workbench.settings import Settings

Hook = Callable[[Any], Any]
SPAWNERS = ("Spawner", "UnitSpawner", "KubeSpawner")  #: sections of the configuration that may have hooks


def set_operations(c: Any, settings: Settings) -> None:
    """Add pages, the service that the commands use, and hooks. Comes after storage, login, roles and spawner are set."""
    warehouse_roles.check(settings)
    audit = AuditTrail(AuditLog.of(settings.home))
    remove_unfinished_archives(settings.home)
    if keys := c.CryptKeeper.get("keys"):
        note_in_use(settings.home / "keys" / "hub-auth-state", keys)
    c.WorkbenchAuthenticator.audit = audit
    c.WorkbenchAuthenticator.pages = [*status.HANDLERS, *offboarding_handlers(settings)]
    c.JupyterHub.custom_scopes = CUSTOM_SCOPES
    c.JupyterHub.services.append(operator_service(settings.home))
    c.JupyterHub.load_roles.append(ROLE)
    c.EventLogger.handlers = [ServerStarts(audit)]
    for name in SPAWNERS:
        section = c[name]
        if hook := section.get("pre_spawn_hook"):
            section.pre_spawn_hook = partial(starting, audit, hook, settings)
        if name == "Spawner" or "post_stop_hook" in section:
            section.post_stop_hook = partial(stopped, audit, section.get("post_stop_hook"), settings)


async def starting(audit: AuditTrail, hook: Hook, settings: Settings, spawner: Any) -> None:
    """Before each start of a server: the spawner's own hook, the owner's role in the warehouse, and a line in the audit log when one says no.

    Raises:
        SpawnException: of the hook, or when there is no role to be had.
    """
    try:
        await maybe_future(hook(spawner))
        if settings.policies.own_roles:
            role = await warehouse_roles.set_role(settings, spawner)
            await audit.record(Action.CREDENTIALS_GIVEN, actor="hub", resource=spawner.user.name, role=role)
    except SpawnException as error:
        resource = server_resource(spawner.user.name, spawner.name)
        await audit.record(Action.SERVER_REFUSED, actor=spawner.user.name, resource=resource, reason=error.reason)
        raise


async def stopped(audit: AuditTrail, hook: Hook | None, settings: Settings, spawner: Any) -> None:
    """After each stop of a server: the spawner's own hook, a line in the audit log, and no more way to the warehouse."""
    if hook:
        await maybe_future(hook(spawner))
    await record_stop(audit, spawner)
    await warehouse_roles.close_role(settings, spawner)
