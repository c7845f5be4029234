"""A JupyterLab extension that tells the hub which files are read, written, renamed and deleted, for the audit log.

It hears of what goes through JupyterLab's own files: not of what kernels and terminals open themselves.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable
from http import HTTPStatus
from typing import Any

from jupyter_server.base.handlers import AuthenticatedFileHandler

from workbench.embedded.telling import Telling, visitor
from workbench.security.throttle import Repeats

CONTENTS_ACTIONS = "https://events.jupyter.org/jupyter_server/contents_service/v1"
SENT = (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT)
TOLD = ("save", "rename", "delete")  #: a copy is a read and a write

logger = logging.getLogger(__name__)


class ContentsReports:
    """Tells the hub of each file; of the same one that is read or written again within a minute once."""

    def __init__(self, telling: Telling) -> None:
        self._telling, self._repeats = telling, Repeats()

    async def hear(self, logger: Any, schema_id: str, data: dict[str, Any]) -> None:
        """Called by jupyter-server with what has happened to a file or a folder."""
        if data.get("action") in TOLD:
            self._tell(data["action"], str(data.get("path", "")), str(data.get("source_path", "")))

    def hear_reads(self, contents: Any) -> None:
        """Have jupyter-server's manager of files say what it reads."""
        # Its own event does not say whether a file was read, or only shown in the list of its folder.
        get = contents.get

        def heard(path: str, content: bool = True, *args: Any, **options: Any) -> Any:
            found = get(path, content, *args, **options)
            if not content:
                return found
            return self._await(found, path) if inspect.isawaitable(found) else self._read(found, path)

        contents.get = heard

    def hear_downloads(self, settings: dict[str, Any]) -> None:
        """Have what jupyter-server logs of its requests say which files go out as they are, past its manager."""
        log = settings["log_function"]

        def heard(handler: Any) -> None:
            log(handler)
            is_sent = handler.request.method == "GET" and handler.get_status() in SENT
            if is_sent and isinstance(handler, AuthenticatedFileHandler):
                self._read({"type": "file"}, handler.path_args[0], handler)

        settings["log_function"] = heard

    async def _await(self, found: Awaitable[Any], path: str) -> Any:
        return self._read(await found, path)

    def _read(self, model: Any, path: str, handler: Any = None) -> Any:
        try:
            if model["type"] != "directory":
                self._tell("get", path, handler=handler)
        except Exception as error:  # noqa: BLE001 - whatever it was, the file is read
            logger.warning("the hub was not told that %r was read: %s", path, error)
        return model

    def _tell(self, action: str, path: str, source: str = "", handler: Any = None) -> None:
        path, by = path.strip("/"), visitor(handler)
        # JupyterLab saves again and again by itself.
        if action in ("get", "save") and not self._repeats.is_new((action, path, by)):
            return
        self._telling.tell("contents", {"action": action, "path": path, "from": source.strip("/"), "by": by})


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "workbench.embedded.contents_reports"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Called by jupyter-server when it starts."""
    if telling := Telling.of_environment():
        reports = ContentsReports(telling)
        reports.hear_reads(server.contents_manager)
        reports.hear_downloads(server.web_app.settings)
        server.event_logger.add_listener(schema_id=CONTENTS_ACTIONS, listener=reports.hear)
