"""The Spark UI at `spark-ui/` of a user's JupyterLab: for who is logged in there, and for nobody else.

jupyter-server-proxy does the forwarding. Its own routes, which reach any port of the machine, are
switched off in jupyter_server_config.json. The path has no element `proxy`: scripts of Spark's
pages take that for YARN's proxy and break.
"""

from __future__ import annotations

import base64
import logging
import time
from typing import Any
from urllib.parse import urlsplit

import jwt
from jupyter_server.utils import url_path_join
from jupyter_server_proxy.handlers import ProxyHandler
from tornado import web

from workbench.embedded.spark_ui import SparkUI
from workbench.runtime.ports import LOOPBACK

logger = logging.getLogger(__name__)

PATH = "spark-ui"
NO_ANSWER = 599  # as tornado's client calls it
TOKEN_SECONDS = 60.0
# What the browser sends to JupyterLab is none of Spark's business.
KEPT_BACK = ("Cookie", "Authorization", "X-XSRFToken")


class SparkUIHandler(ProxyHandler):  # type: ignore[misc]
    """Forwards what is read from the UI, with a signed token; nothing can be changed through it."""

    SUPPORTED_METHODS = ("GET", "HEAD")

    def initialize(self, ui: SparkUI) -> None:
        """Called by tornado with what the routing table says."""
        self._ui = ui
        self.proxy_base = PATH
        self.rewrite_response = stay_inside
        # A page that asks again and again is no use of the server.
        self.update_last_activity = False

    async def http_get(self, path: str = "") -> Any:
        """Called for GET, after the login was checked. A connection that Spark drops is tried once more."""
        for is_last in (False, True):
            try:
                return await self.proxy(LOOPBACK, self._ui.port, path or "/")
            except (OSError, web.HTTPError) as error:
                if isinstance(error, web.HTTPError) and error.status_code != NO_ANSWER:
                    raise
                if is_last:
                    logger.warning("the Spark UI did not answer for %s: %s", path, error)
                    raise web.HTTPError(503, reason="Spark does not answer; reload the page in a moment") from None
        return None

    async def head(self, path: str = "") -> Any:
        """Called for HEAD."""
        return await self.http_get(path)

    async def open(self, path: str = "") -> None:
        """Called for websockets, which the UI does not have."""
        self.close()

    def proxy_request_headers(self) -> Any:
        """The browser's headers without its credentials, and the token for Spark."""
        headers = self.request.headers.copy()
        for name in KEPT_BACK:
            headers.pop(name, None)
        headers["Authorization"] = f"Bearer {sign(self._ui)}"
        return headers


def stay_inside(response: Any) -> None:
    """Spark redirects to whole addresses, as if it were at the root; their paths are put below ours."""
    if location := response.headers.get("Location"):
        response.headers["Location"] = urlsplit(location)._replace(scheme="", netloc="").geturl()


def sign(ui: SparkUI) -> str:
    """A token that the UI's filter lets in for a minute."""
    key = base64.urlsafe_b64decode(ui.key)
    return jwt.encode({"exp": int(time.time() + TOKEN_SECONDS)}, key, algorithm="HS256")


def add_route(server: Any, ui: SparkUI) -> str:
    """Serve the UI from a jupyter-server; returns its path in the browser."""
    base = url_path_join(server.web_app.settings["base_url"], PATH)
    handlers = [
        (rf"{base}(/.*)", SparkUIHandler, {"ui": ui}),
        (base, web.RedirectHandler, {"url": f"{base}/"}),
    ]
    server.web_app.add_handlers(".*$", handlers)
    return f"{base}/"
