"""What runs and who is here, for administrators: a page, and the same content as JSON."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from jupyterhub import orm
from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.handlers.static import CacheControlStaticFilesHandler
from jupyterhub.scopes import needs_scope
from tornado import web

from hub.processes import Process, Processes
from hub.roles import role_of
from workbench.runtime.state import read_status as read_components
from workbench.security.audit import Action, read_last_events
from workbench.security.audit.commands import not_audited

SHOWN_LOGINS = 20
SHOWN_USERS = 200
STATIC = Path(__file__).parent / "static"


@dataclass(frozen=True, kw_only=True)
class SparkServer:
    """A Spark Connect server that a user's server has started."""

    pid: int
    memory_bytes: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Server:
    """A user's server; without a process of this machine, what it takes is not known."""

    user: str
    name: str
    state: str  #: `ready`, or what JupyterHub is about to do with it
    pid: int | None
    processes: int | None
    memory_bytes: int | None  #: with all that it has started
    started: str
    last_activity: str
    spark: tuple[SparkServer, ...]


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody who has been let in at least once."""

    name: str
    role: str  #: empty for who was off-boarded and then deleted from JupyterHub
    is_blocked: bool
    servers: int
    last_activity: str


@dataclass(frozen=True, kw_only=True)
class Login:
    """Somebody who came in."""

    time: str
    name: str
    provider: str


@dataclass(frozen=True, kw_only=True)
class Component:
    """A server or process of `workbench up`, as `workbench status` tells it."""

    name: str
    state: str
    live: bool  #: it need not be started again
    ready: bool  #: it can do its work now
    reason: str  #: why it cannot
    restarts: int


@dataclass(frozen=True, kw_only=True)
class Status:
    """What the page shows."""

    time: str
    hub_memory_bytes: int  #: of the hub and its proxy
    memory_bytes: int  #: of the machine
    memory_available_bytes: int
    load: tuple[float, float, float]  #: processes that want to run, over 1, 5 and 15 minutes
    processors: int
    people: int
    users: tuple[Person, ...]  #: those who were here last
    servers: tuple[Server, ...]
    logins: tuple[Login, ...]
    components: tuple[Component, ...]  #: of `workbench up`; none where the hub was started alone


async def read_status(app: Any, home: Path) -> Status:
    """What is true now. Looks at processes and files under *home*, which is WORKBENCH_HOME, beside the event loop."""
    processes, logins, components = await asyncio.gather(
        asyncio.to_thread(Processes.read),
        asyncio.to_thread(_last_logins, app.authenticator.audit.path),
        asyncio.to_thread(_components, home),
    )
    memory = psutil.virtual_memory()
    servers = tuple(_servers(app, processes))
    blocked = app.authenticator.identities.blocked()
    deleted = _deleted(app, blocked)
    hub = processes.tree(os.getpid())
    # The servers are children of the hub too.
    of_servers = {process.pid for server in servers for process in processes.tree(server.pid or 0)}
    return Status(
        time=_text(datetime.now(UTC)),
        hub_memory_bytes=_memory(each for each in hub if each.pid not in of_servers),
        memory_bytes=memory.total,
        memory_available_bytes=memory.available,
        load=os.getloadavg(),
        processors=os.cpu_count() or 1,
        people=app.db.query(orm.User).count() + len(deleted),
        users=(*_users(app, blocked, SHOWN_USERS), *deleted[:SHOWN_USERS]),
        servers=servers,
        logins=logins,
        components=components,
    )


def read_people(app: Any) -> list[Person]:
    """The users of the hub, who was here last first; then those who were off-boarded and deleted from it."""
    blocked = app.authenticator.identities.blocked()
    return [*_users(app, blocked), *_deleted(app, blocked)]


def _users(app: Any, blocked: AbstractSet[str], count: int | None = None) -> list[Person]:
    newest_first = app.db.query(orm.User).order_by(orm.User.last_activity.desc(), orm.User.name).limit(count)
    running = Counter(server.user for server in _servers(app, Processes.of(())))
    return [
        Person(
            name=user.name,
            role=role_of(user),
            is_blocked=user.name in blocked,
            servers=running[user.name],
            last_activity=_text(user.last_activity),
        )
        for user in newest_first
    ]


def _deleted(app: Any, blocked: AbstractSet[str]) -> list[Person]:
    known = {name for (name,) in app.db.query(orm.User.name)}
    names = sorted(blocked - known)
    return [Person(name=name, role="", is_blocked=True, servers=0, last_activity="") for name in names]


class StatusPage(BaseHandler):  # type: ignore[misc]
    """GET /hub/status."""

    def initialize(self, home: Path) -> None:
        """Called by tornado."""
        self._home = home

    @not_audited("It only looks.")
    @web.authenticated
    @needs_scope("admin-ui")  # type: ignore[untyped-decorator]
    async def get(self) -> None:
        """The page."""
        status = await read_status(self.app, self._home)
        self.finish(await self.render_template("workbench_status.html", status=status, size=_size, ago=_ago))


class StatusApi(APIHandler):  # type: ignore[misc]
    """GET /hub/api/workbench/status."""

    def initialize(self, home: Path) -> None:
        """Called by tornado."""
        self._home = home

    @not_audited("It only looks.")
    @needs_scope("admin-ui")  # type: ignore[untyped-decorator]
    async def get(self) -> None:
        """The same as one JSON object."""
        self.write(json.dumps(asdict(await read_status(self.app, self._home))))


def status_handlers(home: Path) -> list[Any]:
    """The page, the same as JSON, and the style of all our pages."""
    return [
        (r"/status", StatusPage, {"home": home}),
        (r"/api/workbench/status", StatusApi, {"home": home}),
        (r"/workbench/static/(.*)", CacheControlStaticFilesHandler, {"path": str(STATIC)}),
    ]


def _components(home: Path) -> tuple[Component, ...]:
    return tuple(
        Component(
            name=each.name, state=each.state, live=each.live, ready=each.ready,
            # Later lines are of logs, which may hold anything.
            reason=each.reason.partition("\n")[0], restarts=each.restarts,
        )
        for each in read_components(home, memory=False).components
    )  # fmt: skip


def _servers(app: Any, processes: Processes) -> Iterable[Server]:
    for user in app.users.values():
        for spawner in user.spawners.values():
            if not (spawner.active or spawner.pending):
                continue
            pid = getattr(spawner, "pid", 0) or None
            tree = processes.tree(pid) if pid else ()
            yield Server(
                user=user.name,
                name=spawner.name,
                state=spawner.pending or "ready",
                pid=pid,
                processes=len(tree) or None,
                memory_bytes=_memory(tree) or None,
                started=_text(spawner.orm_spawner.started),
                last_activity=_text(spawner.orm_spawner.last_activity),
                spark=tuple(_spark(tree)),
            )


def _spark(tree: Iterable[Process]) -> Iterable[SparkServer]:
    for each in tree:
        if each.is_spark:
            yield SparkServer(pid=each.pid, memory_bytes=each.memory_bytes, seconds=round(each.seconds, 1))


def _memory(processes: Iterable[Process]) -> int:
    return sum(each.memory_bytes for each in processes)


def _last_logins(log: Path) -> tuple[Login, ...]:
    events = read_last_events(log, action=Action.LOGIN_SUCCEEDED, count=SHOWN_LOGINS)
    return tuple(
        Login(time=_text(each.time), name=each.actor, provider=each.details.get("provider", "")) for each in events
    )


def _text(time: datetime | None) -> str:
    """RFC 3339; JupyterHub's database has times of UTC without saying so."""
    if time is None:
        return ""
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _size(count: int | None) -> str:
    """For people: `132 MB`, `1.4 GB`; empty when it is not known."""
    if count is None:
        return ""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _ago(time: str) -> str:
    """For people: `3 minutes ago`."""
    if not time:
        return "never"
    seconds = max(0, int((datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()))
    for length, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if count := seconds // length:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"
