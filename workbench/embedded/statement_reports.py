"""A JupyterLab extension that tells the hub which statements its kernels have sent to the warehouse, for the audit log.

Kernels have no token of the hub: they tell this server, by a socket in its private folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from pathlib import Path
from typing import Any

from workbench.embedded.telling import Telling
from workbench.observability.datagrams import receiving
from workbench.querying.reporting import MOST_BYTES, SOCKET
from workbench.runtime.activity import FOLDER_VARIABLE
from workbench.security.secrets import private_folder

TOLD = ("action", "sha256", "verb", "tables", "rows")

logger = logging.getLogger(__name__)


class StatementReports:
    """Tells the hub of each statement. Receives in a thread, and tells on the event loop.

    Args:
        telling: what sends it.
        loop: that it belongs to.
    """

    def __init__(self, telling: Telling, loop: asyncio.AbstractEventLoop) -> None:
        self._telling, self._loop = telling, loop

    def take(self, datagram: bytes) -> None:
        """Called with what a kernel has sent."""
        try:
            said = json.loads(datagram)
        except (ValueError, RecursionError):
            return
        if not isinstance(said, dict):
            return
        told = {name: said[name] for name in TOLD if name in said}
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._telling.tell, "statements", told)


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "workbench.embedded.statement_reports"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Called by jupyter-server when it starts."""


async def _start_jupyter_server_extension(server: Any) -> None:
    """Called by jupyter-server when its event loop runs."""
    telling, runtime = Telling.of_environment(), os.environ.get(FOLDER_VARIABLE)
    if telling is None or not runtime:
        return
    reports, listening = StatementReports(telling, asyncio.get_running_loop()), contextlib.ExitStack()
    try:
        socket = private_folder(Path(runtime)) / SOCKET
        listening.enter_context(receiving(socket, reports.take, name="statements", most_bytes=MOST_BYTES))
    except OSError as error:
        logger.warning("statements to the warehouse are not in the audit log: %s", error)
        return
    # Kept: what nobody holds would be closed.
    server.web_app.settings["workbench_statement_reports"] = listening
