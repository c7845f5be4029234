"""The provider as a process: whether it may run at all, its routes, and its start."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tornado.web import Application

from hub.addresses import HubPorts, exposed_by, public_url
from hub.auditing import AuditTrail
from hub.demo_identity import github, google
from hub.demo_identity.issuer import Issuer
from hub.demo_identity.pages import Health
from workbench.errors import SettingsError
from workbench.security.audit import AuditLog
from workbench.security.secrets import ensure_code, ensure_token
from workbench.settings import Settings

TEMPLATES = Path(__file__).parents[1] / "templates"


def make_application(issuer: Issuer, audit: AuditTrail) -> Application:
    """The two protocols on one port; their paths do not meet."""
    given = {"issuer": issuer, "audit": audit}
    routes = [
        (path, handler, {**given, "protocol": protocol})
        for protocol, module in (("github", github), ("google", google))
        for path, handler in module.ROUTES
    ]
    return Application([*routes, (r"/health", Health, given)], template_path=str(TEMPLATES))


def check_allowed_to_run(settings: Settings) -> None:
    """Refuse to stand in for real providers.

    Raises:
        SettingsError: when the hub can be reached from elsewhere, or a real client is configured.
    """
    problems = []
    if exposed := exposed_by(settings):
        problems.append(
            f"{exposed}: the demo identity provider runs on loopback only. Set a real client, or an address of loopback."
        )
    if not settings.login.is_demo:
        problems.append("A real OAuth client is configured: the demo identity provider does not run beside it.")
    if problems:
        raise SettingsError(problems)


async def serve(settings: Settings) -> None:
    """Listen on the loopback port that `workbench up` chose, until killed."""
    check_allowed_to_run(settings)
    ports, keys = HubPorts.read(settings.home), settings.home / "keys"
    url = public_url(settings, ports)
    issuer = Issuer(
        url=f"http://127.0.0.1:{ports.identity}",
        sign_in_code=ensure_code(keys / "sign-in-code"),
        client_secret=ensure_token(keys / "demo-identity-client"),
        callbacks=frozenset(f"{url}/hub/{name}/callback" for name in settings.login.providers),
    )
    audit = AuditTrail(AuditLog.of(settings.home))
    make_application(issuer, audit).listen(ports.identity, address="127.0.0.1")
    await asyncio.Event().wait()
