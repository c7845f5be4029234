"""A JupyterLab extension that tells the hub how operations of Spark in this user's kernels have ended, for its metrics.

It runs as the user, who can keep it from telling, or have it tell what has not been: the hub adds up what servers say
of themselves, within bounds, and no name is in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from workbench.observability.operations import MOST_REPORTED, VARIABLE, Ended, receiving
from workbench.runtime.activity import FOLDER_VARIABLE
from workbench.security.secrets import private_folder

logger = logging.getLogger(__name__)

SOCKET = "spark"
REPORT_SECONDS = 15.0
ANSWER_SECONDS = 10.0


class SparkReports:
    """Keeps what has ended since the last report; more than MOST_REPORTED are not kept.

    Args:
        address: of the hub's API.
        token: the server's own.
    """

    def __init__(self, address: str, token: str) -> None:
        self._address, self._token = f"{address}/workbench/spark", token
        self._ended: list[Ended] = []
        self._lock = threading.Lock()

    def take(self, ended: Ended) -> None:
        """An operation has ended. Called in a thread."""
        with self._lock:
            if len(self._ended) < MOST_REPORTED:
                self._ended.append(ended)

    async def tell_on(self) -> None:
        """Tell the hub again and again, when there is something to tell."""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            await self.tell()

    async def tell(self) -> bool:
        """Tell the hub; whether it was told of something. What it does not take is lost: nobody waits for a number."""
        with self._lock:
            ended, self._ended = self._ended, []
        if not ended:
            return False
        told: defaultdict[str, list[float]] = defaultdict(list)
        for each in ended:
            told[each.outcome].append(round(each.seconds, 3))
        headers = {"Authorization": f"token {self._token}", "Content-Type": "application/json"}
        request = HTTPRequest(
            self._address, "POST", headers, json.dumps({"operations": told}),
            request_timeout=ANSWER_SECONDS, connect_timeout=ANSWER_SECONDS,
        )  # fmt: skip
        try:
            await AsyncHTTPClient().fetch(request)
        except Exception as error:  # noqa: BLE001 - whatever it was, the server goes on
            logger.warning("the hub was not told of operations of Spark: %s", error)
            return False
        return True


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "workbench.embedded.spark_reports"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Called by jupyter-server when it starts."""
    address, token = os.environ.get("JUPYTERHUB_API_URL"), os.environ.get("JUPYTERHUB_API_TOKEN")
    runtime = os.environ.get(FOLDER_VARIABLE)
    if not (address and token and runtime):
        return
    reports, listening = SparkReports(address, token), contextlib.ExitStack()
    try:
        socket = private_folder(Path(runtime)) / SOCKET
        listening.enter_context(receiving(socket, reports.take))
    except OSError as error:
        logger.warning("operations of Spark are not counted: %s", error)
        return
    # Kernels are children of this server and inherit its environment.
    os.environ[VARIABLE] = str(socket)
    server.web_app.settings["workbench_spark_reports"] = reports, listening


async def _start_jupyter_server_extension(server: Any) -> None:
    """Called by jupyter-server when its event loop runs."""
    if found := server.web_app.settings.get("workbench_spark_reports"):
        reports, _ = found
        # Kept: a task that nobody holds may be collected.
        server.web_app.settings["workbench_spark_task"] = asyncio.ensure_future(reports.tell_on())
