"""The application: which address is answered by what."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import jinja2
from tornado.web import Application, RequestHandler, StaticFileHandler

from pipelines.definition.targets.flow import NAME as FLOW_NAME
from pipelines.runner.folders import is_notebook
from pipelines.service.operations import OPERATIONS
from pipelines.service.rights import Right
from pipelines.service.web import pages
from pipelines.service.web.api import Api, Document
from pipelines.service.web.base import HEADERS, Handler, Service
from pipelines.service.web.flows import LiveFlow, OfFlow
from pipelines.service.web.live import Live
from pipelines.service.web.output import NotebookFile, Output
from pipelines.service.web.watching import Dashboard, Objectives
from pipelines.service.web.webhook import Webhook
from pipelines.states import shown_seconds
from workbench.errors import NoSuchRun
from workbench.logs.requests import RequestIds
from workbench.observability import metrics
from workbench.security.audit.commands import not_audited

logger = logging.getLogger(__name__)

HERE = Path(__file__).parent
NAME, NUMBER = r"([a-z0-9][a-z0-9_-]{0,49})", r"(\d{1,18})"
FLOW = FLOW_NAME.pattern
LISTINGS = {
    "runs": "list_runs",
    "backfills": "list_backfills",
    "schedules": "list_schedules",
    "queue": "show_queue",
    "flows": "list_flows",
}


def build_application(service: Service) -> Application:
    """The application of tornado."""
    at, given = service.prefix, {"service": service}
    routes: list[Any] = [
        (f"{at}(?:health|livez)", Health),
        (f"{at}readyz", Ready, given),
        (f"{at}static/(.*)", Static, {"path": str(HERE / "static")}),
        (at, pages.Overview, given),
        *((f"{at}{name}", pages.Listing, {**given, "operation": each, "template": f"{name}.html"}) for name, each in LISTINGS.items()),
        (f"{at}dashboard", Dashboard, given),
        (f"{at}objectives", Objectives, given),
        (f"{at}pipelines/{NAME}", pages.OfPipeline, given),
        (f"{at}pipelines/{NAME}/start", pages.StartForm, given),
        (f"{at}pipelines/{NAME}/backfill", pages.BackfillForm, given),
        (f"{at}runs/{NUMBER}", pages.OfRun, given),
        (f"{at}runs/{NUMBER}/events", Live, given),
        (f"{at}runs/{NUMBER}/output/{NUMBER}", Output, given),
        (f"{at}runs/{NUMBER}/output/{NUMBER}/notebook", NotebookFile, given),
        (f"{at}flows/({FLOW})", OfFlow, given),
        (f"{at}flows/({FLOW})/events", LiveFlow, given),
        (f"{at}do/([a-z_]+)", pages.Action, given),
        (f"{at}api/v1/openapi.json", Document, given),
        (f"{at}api/v1/webhooks/{NAME}", Webhook, given),
        *((f"{at}api/v1{_pattern(path)}", Api, {**given, "path": path}) for path in {each.path for each in OPERATIONS.values()}),
        *service.entrance.routes(at),
    ]  # fmt: skip
    return Application(
        routes,
        default_handler_class=Nowhere,
        default_handler_args=given,
        cookie_secret=service.key,
        log_function=_log,
        transforms=[RequestIds],
    )


def build_templates() -> jinja2.Environment:
    """Templates; every value is escaped."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["time"] = _time
    templates.filters["took"] = shown_seconds
    templates.filters["megabytes"] = lambda each: f"{each / 1e6:.0f} MB" if each else ""
    templates.tests["notebook"] = lambda each: bool(each) and is_notebook(Path(each))
    templates.globals["Right"] = Right
    templates.globals["version"] = _version(HERE.glob("static/*"))
    return templates


class Health(RequestHandler):
    """Answers without asking who asks: whether the process serves."""

    @not_audited("It says that the process serves.")
    def get(self) -> None:
        """Called by tornado."""
        self.finish("ok")


class Ready(RequestHandler):
    """Answers without asking who asks: whether the process can do its work now, by its own sign."""

    def initialize(self, service: Service) -> None:
        """Called by tornado."""
        self._sign = service.sign

    @not_audited("It says whether the process can work.")
    def get(self) -> None:
        """Called by tornado."""
        obstacle = self._sign.obstacle
        self.set_status(HTTPStatus.SERVICE_UNAVAILABLE if obstacle else HTTPStatus.OK)
        self.finish(obstacle or "ready")


class Static(StaticFileHandler):
    """Our style and script, which are nobody's secret."""

    def set_default_headers(self) -> None:
        """Called by tornado."""
        for name, value in HEADERS.items():
            self.set_header(name, value)
        self.set_header("Cache-Control", "public, max-age=86400")


class Nowhere(Handler):
    """Any other address, for people who are signed in."""

    async def prepare(self) -> None:
        """Called by tornado."""
        await super().prepare()
        raise NoSuchRun("there is no such page", remedy="The first page lists all pipelines.")


def _log(handler: RequestHandler) -> None:
    # Without the query, which may hold a token or a code of OAuth.
    request = handler.request
    took = 1000 * request.request_time()
    # Probes, and streams that stay open for as long as somebody looks, are nobody's waiting.
    if not isinstance(handler, Health | Ready | Live | LiveFlow):
        status = f"{handler.get_status() // 100}xx"
        metrics.SERVICE_REQUEST_SECONDS.labels(status).observe(request.request_time())
    is_quiet = request.method in {"GET", "HEAD"} and handler.get_status() < HTTPStatus.BAD_REQUEST
    # Pages that are open ask again and again.
    level = logging.DEBUG if is_quiet else logging.INFO
    logger.log(level, "%d %s %s %.1f ms", handler.get_status(), request.method, request.path, took)


def _pattern(path: str) -> str:
    kinds = {"run": r"\d{1,18}", "backfill": r"\d{1,18}", "silence": r"\d{1,18}", "flow": FLOW}
    return re.sub(r"{(\w+)}", lambda found: f"(?P<{found[1]}>{kinds.get(found[1], NAME[1:-1])})", path)


def _time(value: datetime | None) -> str:
    return "" if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _version(files: Iterable[Path]) -> str:
    found = hashlib.sha256()
    for each in sorted(files):
        found.update(each.read_bytes())
    return found.hexdigest()[:12]
