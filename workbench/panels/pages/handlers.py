"""The addresses of panels: a list, and a page for each."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from html import escape
from typing import Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import url_path_join
from tornado import web

from workbench.panels.pages.kernels import PageKernels
from workbench.security.audit.commands import not_audited

ADDRESS = ("workbench", "panels")
LISTED = "workbenchPanels"  #: the option of JupyterLab's page with all panels
#: Title by name of the function.
PANELS = {
    "ingestion": "Ingestion",
    "pipelines": "Pipelines",
    "spark": "Spark",
    "warehouse": "Warehouse",
    "alerts": "Alerts",
}
ELSEWHERE = "A panel is opened from the page of panels of your own server, or by its address."
LIST = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Panels</title>
<meta name="viewport" content="width=device-width"><style>
body {{ font: 16px/1.6 system-ui, sans-serif; margin: 3rem auto; max-width: 40rem; padding: 0 1rem; color: #1c2733 }}
</style></head><body><main><h1>Panels</h1><ul>{items}</ul></main></body></html>"""


class Ours(JupyterHandler):
    """Starts or ends a kernel, so that only whoever is here may lead here."""

    auth_resource = "kernels"

    def initialize(self, pages: Pages) -> None:
        """Called by tornado."""
        self._pages = pages

    def check_origin_of_visit(self) -> None:
        """Let nobody else's page open one.

        Raises:
            web.HTTPError: 403. `Sec-Fetch-Site` is the browser's word (w3.org/TR/fetch-metadata).
        """
        site = self.request.headers.get("Sec-Fetch-Site", "none")
        if site not in {"none", "same-origin"}:
            raise web.HTTPError(403, ELSEWHERE)
        if site == "same-origin" and not self._is_ours(self.request.headers.get("Referer", "")):
            # Servers of all users are one origin, unless each has a subdomain.
            raise web.HTTPError(403, ELSEWHERE)

    def _is_ours(self, referer: str) -> bool:
        own = f"{self.request.host}{self.base_url}"
        return referer.partition("://")[2].startswith(own)


class Page(Ours):
    """A panel."""

    @web.authenticated
    @authorized
    @not_audited("It shows a panel, whose buttons are audited; the hub records the kernel.")
    async def get(self, name: str) -> None:
        """Called by tornado."""
        self.check_origin_of_visit()
        if name not in PANELS:
            raise web.HTTPError(404, f"there is no panel {name}")
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        async for html in self._pages.render(self, name):
            self.write(html)
            await self.flush()


class Closed(Ours):
    """A page says that it is closed, as Voilà's do: its kernel ends."""

    def check_xsrf_cookie(self) -> None:
        """Not Jupyter's: a page that is closed sends no token that a hub knows. It can end a page's kernel, and no other."""

    @web.authenticated
    @authorized
    @not_audited("The hub records the end of the kernel.")
    async def post(self, kernel: str) -> None:
        """Called by tornado."""
        self.check_origin_of_visit()
        if not await self._pages.kernels.end(kernel):
            raise web.HTTPError(404, "there is no such page")
        self.set_status(204)


class List(JupyterHandler):
    """All panels."""

    auth_resource = "server"

    @web.authenticated
    @authorized
    @not_audited("It lists what there is.")
    def get(self) -> None:
        """Called by tornado."""
        address = url_path_join(self.base_url, *ADDRESS)
        items = "".join(
            f'<li><a href="{escape(address)}/{name}">{title}</a></li>' for name, title in sorted(PANELS.items())
        )
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(LIST.format(items=items))


class Pages:
    """Loads Voilà when the first page is asked for.

    Args:
        server: jupyter-server's application.
    """

    def __init__(self, server: Any) -> None:
        self._server = server
        self.kernels = PageKernels(server.kernel_manager)
        self._voila: Any = None

    async def render(self, handler: Page, name: str) -> AsyncIterator[str]:
        """The page of a panel, in pieces as they come."""
        if self._voila is None:
            from workbench.panels.pages.voila import VoilaPages

            self._voila = VoilaPages(self._server, self.kernels)
        async for html in self._voila.render(handler, name, PANELS[name]):
            yield html


def add_handlers(server: Any) -> None:
    """Put the addresses into a user's server."""
    base_url = server.web_app.settings["base_url"]
    address, closed = url_path_join(base_url, *ADDRESS), url_path_join(base_url, "voila", "api", "shutdown")
    given = {"pages": Pages(server)}
    routes = [(f"{address}/?", List), (f"{address}/([a-z]+)", Page, given), (f"{closed}/([0-9a-f-]+)", Closed, given)]
    server.web_app.add_handlers(".*$", routes)
    # JupyterLab's page has it, for the launcher: the extension `workbench-panels` reads it there.
    server.web_app.settings.setdefault("page_config_data", {})[LISTED] = json.dumps(dict(sorted(PANELS.items())))
