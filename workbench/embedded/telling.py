"""What the JupyterLab of a user tells the hub for the audit log, beside what it does: nobody waits for it.

It runs as the user, who can keep it from telling: the hub records what a server says of itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Self

from jupyter_server.base.call_context import CallContext
from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from workbench.security.throttle import Throttle

SECONDS = 20.0
PER_MINUTE = 60  #: to one page; the hub takes no more
MOST_WAITING = 100  #: requests at once; with a hub that hangs, more would pile up

logger = logging.getLogger(__name__)


def visitor(handler: Any = None) -> str:
    """Who is served by *handler*, or by the request that runs here, when it is not the owner; else empty.

    An administrator may visit the server of anybody, and a server may be shared.
    """
    serving = handler or CallContext.get(CallContext.JUPYTER_HANDLER)
    name = str(getattr(getattr(serving, "current_user", None), "username", ""))
    return "" if name == os.environ.get("JUPYTERHUB_USER") else name


class Telling:
    """Sends requests to the hub; what it does not take is lost. For the thread of the event loop.

    Args:
        address: of the hub's API.
        token: the server's own.
        server: the name of the server; empty for the default one.
    """

    def __init__(self, address: str, token: str, server: str) -> None:
        self._address, self._token, self._server = f"{address}/workbench", token, server
        self._tasks: set[asyncio.Task[None]] = set()
        self._throttles: defaultdict[tuple[str, object], Throttle] = defaultdict(lambda: Throttle(PER_MINUTE))

    @classmethod
    def of_environment(cls) -> Self | None:
        """As the hub has told this server; None when it runs without one."""
        address, token = os.environ.get("JUPYTERHUB_API_URL"), os.environ.get("JUPYTERHUB_API_TOKEN")
        return cls(address, token, os.environ.get("JUPYTERHUB_SERVER_NAME", "")) if address and token else None

    def tell(self, page: str, told: Mapping[str, object]) -> None:
        """Begin to send what has happened to a page of the hub, such as `kernels`; so much of each action in a minute.

        Raises:
            RuntimeError: when no event loop runs here.
        """
        loop = asyncio.get_running_loop()
        throttle = self._throttles[page, told.get("action")]
        if (left_out := throttle.admit()) is None:
            return
        if len(self._tasks) >= MOST_WAITING:
            throttle.leave_out(1 + left_out)
            logger.warning("the hub was not told of %s: %s requests wait already", page, MOST_WAITING)
            return
        task = loop.create_task(self._send(page, {**told, "server": self._server, "left_out": left_out}, throttle))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, page: str, told: Mapping[str, Any], throttle: Throttle) -> None:
        headers = {"Authorization": f"token {self._token}", "Content-Type": "application/json"}
        request = HTTPRequest(
            f"{self._address}/{page}", "POST", headers, json.dumps(told),
            request_timeout=SECONDS, connect_timeout=SECONDS,
        )  # fmt: skip
        try:
            await AsyncHTTPClient().fetch(request)
        except Exception as error:  # noqa: BLE001 - whatever it was, the server goes on
            throttle.leave_out(1 + told["left_out"])
            logger.warning("the hub was not told of %s: %s", page, error)
