"""What users' servers say of what is done in them, in the audit log."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from jupyterhub.apihandlers.base import APIHandler
from tornado import web

from hub.auditing import server_resource
from workbench.security.audit import Action, Event, Outcome
from workbench.security.audit.commands import audits_itself
from workbench.security.throttle import Throttle

PER_MINUTE = 60  #: of one action and one person


@dataclass(frozen=True)
class Kind:
    """What servers may say of one kind of thing.

    Args:
        actions: by the word that they use.
        details: names of what the event has of it.
    """

    actions: Mapping[str, Action]
    details: tuple[str, ...]

    def read(self, user: str, body: object) -> Event:
        """The event of what a server of *user* says. It is of that user, whatever it says.

        Raises:
            web.HTTPError: when it is no action of this kind.
        """
        said = body if isinstance(body, dict) else {}
        action = self.actions.get(str(said.get("action")))
        if action is None:
            raise web.HTTPError(400, f"The action is one of {', '.join(self.actions)}.")
        details = {name: str(said[name]) for name in self.details if said.get(name) not in (None, "")}
        resource = server_resource(user, str(said.get("server", "")))
        return Event(user, action, resource, Outcome.SUCCESS, details)


KERNELS = Kind(
    {"start": Action.KERNEL_STARTED, "restart": Action.KERNEL_STARTED, "shutdown": Action.KERNEL_STOPPED},
    ("action", "kernel", "name", "by"),
)
CONTENTS = Kind(
    {
        "get": Action.CONTENTS_READ,
        "save": Action.CONTENTS_WRITTEN,
        "rename": Action.CONTENTS_RENAMED,
        "delete": Action.CONTENTS_DELETED,
    },
    ("path", "from", "by"),
)

STATEMENTS = Kind({"query": Action.DATA_QUERIED, "write": Action.DATA_WRITTEN}, ("sha256", "verb", "tables", "rows"))
MOST_LEFT_OUT = 10**9

_by_user: defaultdict[tuple[str, str], Throttle] = defaultdict(lambda: Throttle(PER_MINUTE))


class _Told(APIHandler):  # type: ignore[misc]
    async def record(self, kind: Kind) -> None:
        user = self.current_user
        if user is None or getattr(user, "kind", "user") != "user":
            raise web.HTTPError(403, "This takes the token of a user's server.")
        body = self.get_json_body()
        event = kind.read(user.name, body)
        # A server could say so a thousand times a second.
        throttle, left_out_there = _by_user[event.action, user.name], read_left_out(body)
        if (left_out := throttle.admit()) is None:
            throttle.leave_out(left_out_there)
        else:
            details = {**event.details, "left_out": str(left_out + left_out_there)}
            await self.authenticator.audit.append(replace(event, details=details))
        self.set_status(204)


class Kernels(_Told):
    """POST /hub/api/workbench/kernels, with the token of a user's server."""

    @audits_itself(Action.KERNEL_STARTED)
    async def post(self) -> None:
        """Record that a kernel was started or ended. Whoever has a token of a user says so of that user only."""
        await self.record(KERNELS)


class Contents(_Told):
    """POST /hub/api/workbench/contents, with the token of a user's server."""

    @audits_itself(Action.CONTENTS_READ)
    async def post(self) -> None:
        """Record what was done to a file in a user's server, with its path."""
        await self.record(CONTENTS)


class Statements(_Told):
    """POST /hub/api/workbench/statements, with the token of a user's server."""

    @audits_itself(Action.DATA_QUERIED)
    async def post(self) -> None:
        """Record that a kernel has read or changed something in the warehouse; nobody is told the statement."""
        await self.record(STATEMENTS)


def read_left_out(body: dict[str, object]) -> int:
    """How many a server says that it has not told."""
    said = body.get("left_out")
    return said if isinstance(said, int) and not isinstance(said, bool) and 0 <= said <= MOST_LEFT_OUT else 0


HANDLERS = [
    (r"/api/workbench/kernels", Kernels),
    (r"/api/workbench/contents", Contents),
    (r"/api/workbench/statements", Statements),
]
