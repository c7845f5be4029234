"""JupyterHub's own requests that change something, in the audit log: who asked, and what came of it.

For each such handler of JupyterHub a subclass takes its address. Before its method runs the log has
a line, without which it does not run, and another when it has answered.
"""

from __future__ import annotations

import re
from typing import Any

from jupyterhub import apihandlers, handlers
from jupyterhub.apihandlers.users import UserAPIHandler
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.handlers.pages import SpawnHandler
from tornado import web

from hub.auditing import tell_failure
from hub.spawning.opening import PatientSpawnHandler
from workbench.errors import AuditError
from workbench.security.audit import MEANINGS, Action, Event, Outcome
from workbench.security.throttle import Throttle

TOKEN_IN_PATH = re.compile(r"^(api/authorizations/token)/.*", re.DOTALL)
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
#: Handlers of JupyterHub that change something, by name.
AUDITED = {
    "AcceptShareHandler": Action.SHARE_CHANGED,
    "GroupAPIHandler": Action.GROUP_CHANGED,
    "GroupListAPIHandler": Action.GROUP_CHANGED,
    "GroupPropertiesAPIHandler": Action.GROUP_CHANGED,
    "GroupShareAPIHandler": Action.SHARE_CHANGED,
    "GroupUsersAPIHandler": Action.GROUP_CHANGED,
    "ProxyAPIHandler": Action.HUB_CHANGED,
    "ServerShareAPIHandler": Action.SHARE_CHANGED,
    "ServerShareCodeAPIHandler": Action.SHARE_CHANGED,
    "ServiceAPIHandler": Action.HUB_CHANGED,
    "ShutdownAPIHandler": Action.HUB_CHANGED,
    "SpawnHandler": Action.SERVER_REQUESTED,
    "TokenAPIHandler": Action.TOKEN_CHANGED,
    "UserAPIHandler": Action.USER_CHANGED,
    "UserAdminAccessAPIHandler": Action.SERVER_REQUESTED,
    "UserListAPIHandler": Action.USER_CHANGED,
    "UserServerAPIHandler": Action.SERVER_REQUESTED,
    "UserShareAPIHandler": Action.SHARE_CHANGED,
    "UserTokenAPIHandler": Action.TOKEN_CHANGED,
    "UserTokenListAPIHandler": Action.TOKEN_CHANGED,
}


class NameKeepingHandler(UserAPIHandler):  # type: ignore[misc]
    """JupyterHub's, but a name stays its person's: homes, OS users, roles and accounts go by it."""

    async def patch(self, user_name: str) -> None:
        """Change what may be changed of somebody."""
        body = self.get_json_body()
        if isinstance(body, dict) and "name" in body:
            raise web.HTTPError(403, "A name is given at the first login and stays: nobody is renamed.")
        await super().patch(user_name)

    def get_json_body(self) -> Any:
        """The body of the request, without a name that is the one in the address."""
        body = super().get_json_body()
        # The page Admin sends it each time, and JupyterHub 6.1 writes NULL for a name that does not change.
        if isinstance(body, dict) and body.get("name") == self.path_args[0]:
            del body["name"]
        return body


#: Handlers of ours that do what JupyterHub's do, and more.
OURS: dict[type, type] = {SpawnHandler: PatientSpawnHandler, UserAPIHandler: NameKeepingHandler}
#: The others that answer more than GET, and why nothing is recorded.
NOT_AUDITED = {
    "ActivityAPIHandler": "A sign of life of a server, every few minutes.",
    "CSPReportHandler": "A browser's report, from anybody; JupyterHub logs it.",
    "LoginHandler": "A form, which lets nobody in; logins have pages of their own.",
    "OAuthAuthorizeHandler": "A visit to one's own server or a service by who is logged in; the login is recorded.",
    "OAuthTokenHandler": "The same visit, seen from the server or service.",
    "UserUrlHandler": "It answers that a server does not run.",
}


class AuditedRequest(BaseHandler):  # type: ignore[misc]
    """Comes before a handler of JupyterHub."""

    auditing: Action
    strangers = Throttle()  #: shared by all: who is not known must not fill the disk
    _is_begun = False

    async def prepare(self) -> None:
        """Called before the method; JupyterHub finds out here who asks."""
        await super().prepare()
        if self.request.method in SAFE or self.current_user is None:
            return
        try:
            await self.authenticator.audit.append(self._event(Outcome.BEGUN))
            self._is_begun = True
        except AuditError as error:
            self.log.error("%s", error)  # noqa: TRY400 - it says all
            # What takes something away is done all the same.
            if MEANINGS[self.auditing].fails_closed and self.request.method != "DELETE":
                raise web.HTTPError(503, "The audit log cannot be written, so nothing is changed.") from error

    def on_finish(self) -> None:
        """Called once the answer is sent; nobody waits for it any more."""
        super().on_finish()
        if self.request.method in SAFE:
            return
        details = {"status": str(self.get_status())}
        if not self._is_begun:
            if self.get_status() == 503 or (left_out := self.strangers.admit()) is None:
                return
            details["left_out"] = str(left_out)
        event = self._event(outcome_of(self.get_status()), **details)
        self.authenticator.audit.begin(event).add_done_callback(lambda done: tell_failure(event.resource, done))

    def _event(self, outcome: Outcome, **details: str) -> Event:
        # Old clients put a token there.
        path = TOKEN_IN_PATH.sub(r"\1", self.request.path.partition("/hub/")[2])
        told = {"method": str(self.request.method), "address": str(self.request.remote_ip), **details}
        # What is refused before anybody asked who it is has no user at all.
        who = actor_of(getattr(self, "_jupyterhub_user", None))
        return Event(who, self.auditing, f"hub:{path}", outcome, told)


def audited_handlers() -> list[tuple[Any, ...]]:
    """Routes that take the place of JupyterHub's; they have to come before."""
    made: dict[type, type] = {}
    routes = []
    for pattern, handler, *rest in (*apihandlers.default_handlers, *handlers.default_handlers):
        if action := AUDITED.get(handler.__name__):
            namespace = {"auditing": action, "__doc__": handler.__doc__}
            base = OURS.get(handler, handler)
            made.setdefault(handler, type(f"Audited{handler.__name__}", (AuditedRequest, base), namespace))
            routes.append((pattern, made[handler], *rest))
    return routes


def actor_of(user: Any) -> str:
    """Who asks, as the audit log names them; empty for a stranger."""
    if user is None:
        return ""
    return f"service:{user.name}" if getattr(user, "kind", "user") == "service" else str(user.name)


def outcome_of(status: int) -> Outcome:
    """What came of a request that was answered so."""
    if status < 400:
        return Outcome.SUCCESS
    return Outcome.REFUSED if status in {401, 403, 404, 405} else Outcome.FAILED
