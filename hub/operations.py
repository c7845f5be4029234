"""What operators have: the status page, off-boarding, and an audit log that knows of every server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from jupyterhub.spawner import SpawnException
from jupyterhub.utils import maybe_future

from hub import health, spark_operations, status, told, warehouse_roles
from hub.api_auditing import actor_of, audited_handlers
from hub.auditing import ACTOR, AuditTrail, ServerStarts, record_stop, server_resource, tell_failure
from hub.departure import remove_unfinished_archives
from hub.keys import note_in_use
from hub.offboarding import CUSTOM_SCOPES, ROLE, offboarding_handlers, operator_service
from workbench.errors import AuditError
from workbench.observability.metrics import begin_spark
from workbench.observability.operations import KERNEL
from workbench.security.audit import Action, AuditLog, Event, Outcome
from workbench.security.audit.lines import canonical, digest
from workbench.security.audit.proof.anchors import anchors_of
from workbench.security.audit.proof.checkpointer import Checkpointer
from workbench.settings import Settings

log = logging.getLogger(__name__)

Hook = Callable[[Any], Any]
SPAWNERS = ("Spawner", "UnitSpawner", "KubeSpawner")  #: sections of the configuration that may have hooks


def set_operations(c: Any, settings: Settings) -> None:
    """Add pages, the service that the commands use, and hooks. Comes after storage, login, roles and spawner are set."""
    warehouse_roles.check(settings)
    audit = AuditTrail(AuditLog.of(settings.home))
    _tell_configuration(audit, settings)
    remove_unfinished_archives(settings.home)
    if keys := c.CryptKeeper.get("keys"):
        note_in_use(settings.home / "keys" / "hub-auth-state", keys)
    c.WorkbenchAuthenticator.audit = audit
    c.WorkbenchAuthenticator.checkpointer = Checkpointer.of(settings.home, anchors_of(settings.audit))
    begin_spark(KERNEL)
    ours = [
        *health.HANDLERS,
        *status.status_handlers(settings.home),
        *told.HANDLERS,
        *spark_operations.HANDLERS,
        *offboarding_handlers(settings),
    ]
    c.WorkbenchAuthenticator.pages = [*ours, *audited_handlers()]
    c.JupyterHub.custom_scopes = CUSTOM_SCOPES
    c.JupyterHub.services.append(operator_service(settings.home))
    c.JupyterHub.load_roles.append(ROLE)
    c.EventLogger.handlers = [ServerStarts(audit)]
    for name in SPAWNERS:
        section = c[name]
        if name == "Spawner" or "pre_spawn_hook" in section:
            section.pre_spawn_hook = partial(starting, audit, section.get("pre_spawn_hook"), settings)
        if name == "Spawner" or "post_stop_hook" in section:
            section.post_stop_hook = partial(stopped, audit, section.get("post_stop_hook"), settings)


async def starting(audit: AuditTrail, hook: Hook | None, settings: Settings, spawner: Any) -> None:
    """Before each start of a server: the spawner's own hook, the owner's role in the warehouse, and a line in the audit log.

    Without the line the server is not started, and no role is given.

    Raises:
        SpawnException: of the hook, when there is no role to be had, and when the log cannot be written.
    """
    resource = server_resource(spawner.user.name, spawner.name)
    try:
        if hook:
            await maybe_future(hook(spawner))
        if settings.policies.own_roles:
            await _give_role(audit, settings, spawner)
    except SpawnException as error:
        await _tell(audit, Action.SERVER_REFUSED, actor=spawner.user.name, resource=resource, reason=error.reason)
        raise
    await _ensure(audit, Action.SERVER_STARTED, actor=_who(spawner), resource=resource)


async def _give_role(audit: AuditTrail, settings: Settings, spawner: Any) -> None:
    told = {"actor": ACTOR, "resource": spawner.user.name}
    await _ensure(audit, Action.CREDENTIALS_GIVEN, **told)
    try:
        role = await warehouse_roles.set_role(settings, spawner)
    except SpawnException:
        await _tell(audit, Action.CREDENTIALS_GIVEN, **told, outcome=Outcome.FAILED)
        raise
    await _tell(audit, Action.CREDENTIALS_GIVEN, **told, role=role)


async def _ensure(audit: AuditTrail, action: Action, *, actor: str, resource: str) -> None:
    """Record that it begins.

    Raises:
        SpawnException: when that cannot be recorded.
    """
    try:
        await audit.record(action, actor=actor, resource=resource, outcome=Outcome.BEGUN)
    except AuditError as error:
        raise SpawnException(
            "The audit log cannot be written, so no server is started.", status_code=503, reason="audit"
        ) from error


async def _tell(audit: AuditTrail, action: Action, *, actor: str, resource: str, **told: str) -> None:
    """Record how it ended; when that cannot be written, the hub's log says so."""
    try:
        await audit.record(action, actor=actor, resource=resource, **told)
    except AuditError as error:
        log.error("%s: %s", resource, error)  # noqa: TRY400 - it says all


def _who(spawner: Any) -> str:
    """Who asked for the server: its owner, or an administrator."""
    handler = getattr(spawner, "handler", None)
    return actor_of(handler.current_user) if handler is not None else ACTOR


async def stopped(audit: AuditTrail, hook: Hook | None, settings: Settings, spawner: Any) -> None:
    """After each stop of a server: the spawner's own hook, a line in the audit log, and no more way to the warehouse."""
    if hook:
        await maybe_future(hook(spawner))
    recording = asyncio.ensure_future(record_stop(audit, spawner))
    try:
        # What ends access does not wait for the disk of the log.
        await warehouse_roles.close_role(settings, spawner)
    finally:
        await recording


def _tell_configuration(audit: AuditTrail, settings: Settings) -> None:
    """Who may enter and how, as the hub starts with it: names and lists, and no secret."""
    hub, login = settings.hub, settings.login
    lists = {role: ",".join(sorted(names)) for role, names in login.roles.items() if names}
    shown = canonical(settings.model_dump(mode="json", exclude={"home"}))  # secrets are dumped as asterisks
    event = Event.of(
        Action.HUB_CONFIGURED, actor=ACTOR, resource="hub", spawner=hub.spawner, host=hub.host, tls=hub.tls,
        providers=",".join(login.providers), demo=login.is_demo, default_role=login.default_role,
        sha256=digest(shown), **lists,
    )  # fmt: skip
    audit.begin(event).add_done_callback(partial(tell_failure, "hub"))
