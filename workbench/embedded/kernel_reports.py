"""A JupyterLab extension that tells the hub which kernels start and end, for the audit log.

It runs as the user, who can keep it from telling: the hub records what a server says of itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPRequest

KERNEL_ACTIONS = "https://events.jupyter.org/jupyter_server/kernel_actions/v1"
TOLD = ("start", "restart", "shutdown")
SECONDS = 20.0

logger = logging.getLogger(__name__)


class KernelReports:
    """Sends a request to the hub for each kernel that starts or ends; nobody waits for it.

    Args:
        address: of the hub's API.
        token: the server's own.
        server: the name of the server; empty for the default one.
    """

    def __init__(self, address: str, token: str, server: str) -> None:
        self._address, self._token, self._server = f"{address}/workbench/kernels", token, server
        self._tasks: set[asyncio.Task[None]] = set()

    async def hear(self, logger: Any, schema_id: str, data: dict[str, Any]) -> None:  # noqa: A002, RUF100
        """Called by jupyter-server with what has happened to a kernel."""
        if data.get("action") in TOLD and data.get("status") == "success":
            task = asyncio.ensure_future(self._tell(data))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _tell(self, data: dict[str, Any]) -> None:
        told = {
            "action": data["action"],
            "kernel": data.get("kernel_id", ""),
            "name": data.get("kernel_name", ""),
            "server": self._server,
        }
        headers = {"Authorization": f"token {self._token}", "Content-Type": "application/json"}
        request = HTTPRequest(
            self._address, "POST", headers, json.dumps(told), request_timeout=SECONDS, connect_timeout=SECONDS
        )
        try:
            await AsyncHTTPClient().fetch(request)
        except Exception as error:  # noqa: BLE001 - whatever it was, the kernel goes on
            logger.warning("the hub was not told of a kernel: %s", error)


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "workbench.embedded.kernel_reports"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Called by jupyter-server when it starts."""
    address, token = os.environ.get("JUPYTERHUB_API_URL"), os.environ.get("JUPYTERHUB_API_TOKEN")
    if address and token:
        reports = KernelReports(address, token, os.environ.get("JUPYTERHUB_SERVER_NAME", ""))
        server.event_logger.add_listener(schema_id=KERNEL_ACTIONS, listener=reports.hear)
