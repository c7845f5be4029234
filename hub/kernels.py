"""What users' servers say of their kernels, in the audit log."""

from __future__ import annotations

from collections import defaultdict

from jupyterhub.apihandlers.base import APIHandler
from tornado import web

from hub.auditing import server_resource
from workbench.security.audit import Action, Event, Outcome
from workbench.security.audit.commands import audits_itself
from workbench.security.throttle import Throttle

ACTIONS = {"start": Action.KERNEL_STARTED, "restart": Action.KERNEL_STARTED, "shutdown": Action.KERNEL_STOPPED}
PER_MINUTE = 60

_by_user: defaultdict[str, Throttle] = defaultdict(lambda: Throttle(PER_MINUTE))


class Kernels(APIHandler):  # type: ignore[misc]
    """POST /hub/api/workbench/kernels, with the token of a user's server."""

    @audits_itself(Action.KERNEL_STARTED)
    async def post(self) -> None:
        """Record that a kernel was started or ended. Whoever has a token of a user says so of that user only."""
        user, body = self.current_user, self.get_json_body()
        if user is None or getattr(user, "kind", "user") != "user":
            raise web.HTTPError(403, "This takes the token of a user's server.")
        said = body if isinstance(body, dict) else {}
        action = ACTIONS.get(str(said.get("action")))
        if action is None:
            raise web.HTTPError(400, f"The action is one of {', '.join(ACTIONS)}.")
        # A server could say so a thousand times a second.
        if (left_out := _by_user[user.name].admit()) is not None:
            details = {name: str(said.get(name, "")) for name in ("action", "kernel", "name")}
            resource = server_resource(user.name, str(said.get("server", "")))
            event = Event(user.name, action, resource, Outcome.SUCCESS, {**details, "left_out": str(left_out)})
            await self.authenticator.audit.append(event)
        self.set_status(204)


HANDLERS = [(r"/api/workbench/kernels", Kernels)]
