"""A JupyterLab extension that knows whether a user's server is in use, and tells the hub and the owner.

Jupyter takes output of kernels and any request for activity. So it forgets a cell that prints
nothing for hours, and never finds an open tab idle, because the tab asks for lists all day. Here
work counts, whether or not it prints, and requests count if they change something.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web

from workbench.runtime.activity import FOLDER_VARIABLE, IdlePolicy, marks_folder, read_marks
from workbench.sections import HubSettings

logger = logging.getLogger(__name__)
HUB_EXTENSION = "jupyterhub-singleuser"
SOURCE = "workbench"  # our line among jupyter-server's sources of activity
READING = ("GET", "HEAD", "OPTIONS")
SLEEPING = {psutil.STATUS_ZOMBIE, psutil.STATUS_STOPPED}
# Spark names the threads of operations and streams after them; Linux keeps 15 characters of a name.
SPARK_THREADS = ("SparkConnectExe", "stream executio")


class Watch:
    """Looks for work again and again while the server runs; `start` returns at once."""

    def __init__(self, server: Any, policy: IdlePolicy) -> None:
        self.policy = policy
        self._server = server
        self._told = self.last()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to look. Called on the server's event loop."""
        # A cell that begins seconds before the stop is told at once.
        self._server.kernel_manager.observe(lambda _: self.tell(), "last_kernel_activity")
        self._run(self._look_on())

    def last(self) -> datetime:
        """When the server was last in use."""
        found: datetime = self._server.web_app.last_activity()
        return found

    def use(self) -> None:
        """The server is in use now."""
        self._server.web_app.settings["last_activity_times"][SOURCE] = datetime.now(UTC)
        self.tell()

    def tell(self) -> None:
        """Let the hub know at once if what it knows is old; else the regular report does."""
        last = self.last()
        if self.policy.is_news(last, self._told):
            self._told = last
            for apps in self._server.extension_manager.extension_apps.values():
                for app in apps:
                    if app.name == HUB_EXTENSION:
                        self._run(app.notify_activity())
        else:
            self._told = max(self._told, last)

    async def _look_on(self) -> None:
        while True:
            try:
                if reasons := work(self._server):
                    logger.debug("in use: %s", ", ".join(reasons))
                    self.use()
            except Exception:
                # Whatever it was, a server that nobody looks at would be stopped in the midst of work.
                logger.exception("cannot tell whether this server is in use; it is taken to be")
                self.use()
            idle = (datetime.now(UTC) - self.last()).total_seconds()
            await asyncio.sleep(self.policy.look_seconds(idle))

    def _run(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.warning("the hub was not told of activity: %s", error)


class ActivityHandler(APIHandler):
    """Says when the server will be stopped, and keeps it from that."""

    auth_resource = "server"

    def initialize(self, watch: Watch) -> None:
        """Called by tornado with what the routing table says."""
        self._watch = watch

    @web.authenticated
    @authorized
    def get(self) -> None:
        """When it was last in use, and when it is stopped; asking is no use of it."""
        self._answer()

    @web.authenticated
    @authorized
    def post(self) -> None:
        """Its owner wants it to go on running."""
        self._watch.use()
        self._answer()

    def _answer(self) -> None:
        policy, last, now = self._watch.policy, self._watch.last(), datetime.now(UTC)
        answer = {
            "last_activity": last.isoformat(),
            "stops_at": policy.stops_at(last).isoformat(),
            "is_near": policy.is_near(last, now),
            "poll_seconds": min(60.0, max(1.0, policy.warning_seconds / 3)),
        }
        self.finish(json.dumps(answer))


def is_use(handler: APIHandler) -> bool:
    """Whether a request is more than an open tab sends by itself: one asks for lists all day, and saves its layout."""
    return handler.request.method not in READING and not handler.request.path.startswith(f"{handler.base_url}lab/api/")


def work(server: Any) -> list[str]:
    """What runs in this server now, one phrase each."""
    ours = psutil.Process().children(recursive=True)
    shells = {name: each.ptyproc.pid for name, each in _terminals(server).items()}
    return [
        *(f"kernel {each['id']}" for each in server.kernel_manager.list_kernels() if each["execution_state"] == "busy"),
        *(f"terminal {name}" for name, shell in shells.items() if _runs_command(shell, ours)),
        *(f"Spark of process {each.pid}" for each in ours if _is_java(each) and runs_operation(thread_names(each.pid))),
        *read_marks(marks_folder(Path(os.environ.get(FOLDER_VARIABLE, "/nonexistent")))),
    ]


def runs_operation(names: Iterable[str]) -> bool:
    """Whether a Spark Connect server with threads of these names runs an operation or a stream."""
    return any(name.startswith(SPARK_THREADS) for name in names)


def thread_names(pid: int) -> list[str]:
    """Names of the threads of a process; none where the system does not tell, as on macOS."""
    names = []
    for path in Path(f"/proc/{pid}/task").glob("*/comm"):
        try:
            names.append(path.read_text(encoding="utf-8", errors="replace").strip())
        except OSError:
            continue
    return names


def _terminals(server: Any) -> dict[str, Any]:
    return dict(getattr(server.web_app.settings.get("terminal_manager"), "terminals", {}))


def _runs_command(shell: int, processes: Iterable[psutil.Process]) -> bool:
    for each in processes:
        try:
            if each.ppid() == shell and each.status() not in SLEEPING:
                return True
        except psutil.Error:
            continue
    return False


def _is_java(process: psutil.Process) -> bool:
    try:
        return process.name() == "java"
    except psutil.Error:
        return False


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "workbench.embedded.activity"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Called by jupyter-server when it starts."""
    # Of the environment, which the hub made. A `.env` of the user's that is wrong would leave nobody to look for work.
    hub = HubSettings()
    # Without a hub, or with one that stops nothing, nobody needs a warning.
    if not os.environ.get("JUPYTERHUB_ACTIVITY_URL") or not hub.idle_seconds:
        return
    # jupyter-server's own switch, for all of its handlers at once.
    APIHandler._track_activity = property(is_use)  # type: ignore[assignment] # noqa: SLF001
    watch = Watch(server, IdlePolicy(idle_seconds=hub.idle_seconds, warning_seconds=hub.idle_warning_seconds))
    address = url_path_join(server.web_app.settings["base_url"], "workbench", "activity")
    server.web_app.add_handlers(".*$", [(address, ActivityHandler, {"watch": watch})])
    server.web_app.settings["workbench_watch"] = watch


async def _start_jupyter_server_extension(server: Any) -> None:
    """Called by jupyter-server when its event loop runs."""
    if watch := server.web_app.settings.get("workbench_watch"):
        watch.start()
