"""What all handlers share: who asks, the token of our forms, headers, and errors as pages or JSON."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import hmac
import json
import logging
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Any, TypeVar

import jinja2
from tornado.web import Finish

from pipelines.processes.life import Sign
from pipelines.service.entrance import Entrance
from pipelines.service.entrance.path_only import PathOnly
from pipelines.service.operations import OPERATIONS, Done, perform
from pipelines.service.rights import (
    SERVICE,
    Forbidden,
    NotFromOurPage,
    NotSignedIn,
    Person,
    PipelinePaused,
    Right,
    TooManyRefused,
)
from pipelines.service.site.site import Site
from pipelines.service.web.hints import Hints
from pipelines.service.webhooks.receiving import Webhooks
from workbench.errors import (
    AuditError,
    DefinitionError,
    MonitorError,
    NoSuchRun,
    ParametersRefused,
    SettingsError,
    StoreError,
    StoreUnavailable,
    WorkbenchError,
)
from workbench.observability.metrics import count_authorization
from workbench.security.throttle import Repeats

logger = logging.getLogger(__name__)

T = TypeVar("T")
TOKEN_FIELD, TOKEN_HEADER = "_token", "X-Workbench-Token"
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# The first that fits.
STATUSES: tuple[tuple[type[WorkbenchError], HTTPStatus], ...] = (
    (NotSignedIn, HTTPStatus.UNAUTHORIZED),
    (Forbidden, HTTPStatus.FORBIDDEN),
    (NotFromOurPage, HTTPStatus.FORBIDDEN),
    (TooManyRefused, HTTPStatus.TOO_MANY_REQUESTS),
    (PipelinePaused, HTTPStatus.SERVICE_UNAVAILABLE),
    (NoSuchRun, HTTPStatus.NOT_FOUND),
    (StoreUnavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (AuditError, HTTPStatus.SERVICE_UNAVAILABLE),
    (MonitorError, HTTPStatus.SERVICE_UNAVAILABLE),
    (StoreError, HTTPStatus.CONFLICT),
    (DefinitionError, HTTPStatus.CONFLICT),
    (ParametersRefused, HTTPStatus.BAD_REQUEST),
    (SettingsError, HTTPStatus.BAD_REQUEST),
    (WorkbenchError, HTTPStatus.CONFLICT),
)


@dataclass(frozen=True, kw_only=True)
class Service:
    """What handlers are given."""

    site: Site
    entrance: Entrance
    prefix: str  #: of all addresses, with a slash at both ends
    templates: jinja2.Environment
    hints: Hints
    webhooks: Webhooks
    sign: Sign  #: of this process
    rendering: Executor  #: where notebooks become HTML, one after the other
    reads: Repeats = field(default_factory=Repeats)  #: of outputs, which the audit log has
    #: Where reads are recorded: a disk that hangs keeps this thread, and not those that show pages.
    recording: Executor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="reads"))
    key: bytes = field(repr=False)  #: signs cookies and the tokens of forms


class Handler(PathOnly):
    """Knows who asks before anything else happens. A request that changes something has to come from our page."""

    person: Person

    def initialize(self, service: Service) -> None:
        """Called by tornado."""
        self.service = service

    def set_default_headers(self) -> None:
        """Called by tornado, for errors too."""
        for name, value in HEADERS.items():
            self.set_header(name, value)
        self.clear_header("Server")

    async def prepare(self) -> None:
        """Called by tornado before each method."""
        found = await self.service.entrance.person(self)
        if found is None:
            self._ask_to_sign_in()
            raise Finish
        self.person = found
        if found.right is Right.NONE:
            count_authorization(SERVICE, is_allowed=False)
            raise Forbidden(
                f"{found.name} has no role that may see pipelines", remedy="Ask an administrator of the hub for one."
            )
        if self.request.method not in {"GET", "HEAD"} and not found.is_program:
            self._check_origin()

    def check_xsrf_cookie(self) -> None:
        """Not tornado's: a cookie can be set by a page of a sibling domain; `_check_origin` is bound to the session."""

    @property
    def form_token(self) -> str:
        """What a form of ours sends back."""
        # Cookies are signed with the same key, and never say this.
        session = b"form\0" + self.person.session + self.person.name.encode()
        return hmac.new(self.service.key, session, hashlib.sha256).hexdigest()

    async def perform(self, name: str, given: dict[str, Any], *, of_form: bool = False) -> dict[str, Any]:
        """What an operation answers, done as the one who asks, beside the event loop; raises as `perform`."""
        return (await self.done(name, given, of_form=of_form)).answer

    async def done(self, name: str, given: dict[str, Any], *, of_form: bool = False) -> Done:
        """The same, with the right of the one who asks."""
        operation = OPERATIONS[name]
        return await self.beside(lambda: perform(self.service.site, self.person, operation, given, of_form=of_form))

    async def beside(self, call: Callable[[], T], threads: Executor | None = None) -> T:
        """What *call* returns, while others are served; in the threads that pages share, unless it has others."""
        # As `asyncio.to_thread` does: the log knows there, too, whose request it is.
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(threads, lambda: context.run(call))

    def wants_json(self) -> bool:
        """Whether who asks is a program."""
        return False

    def write_error(self, status_code: int, **options: Any) -> None:
        """Called by tornado with what was raised."""
        error = options.get("exc_info", (None, None, None))[1]
        told = error if isinstance(error, WorkbenchError) else None
        message = told.message if told else HTTPStatus(status_code).phrase
        remedy = told.remedy if told else "The log of the service says more." if status_code >= 500 else ""
        if self.wants_json():
            self.write_json({"error": {"message": message, "remedy": remedy}})
        else:
            self.page("problem.html", message=message, remedy=remedy, status=status_code)

    def send_error(self, status_code: int = 500, **options: Any) -> None:
        """Called by tornado; an error of ours has the status that fits it."""
        error = options.get("exc_info", (None, None, None))[1]
        if isinstance(error, WorkbenchError):
            status_code = status_of(error)
        super().send_error(status_code, **options)

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        """Called by tornado: what people did wrong is theirs to read."""
        if isinstance(value, WorkbenchError) and status_of(value) < HTTPStatus.INTERNAL_SERVER_ERROR:
            return
        if isinstance(value, WorkbenchError):
            logger.warning("%s: %s", self.request.path, value.message)
            return
        super().log_exception(typ, value, tb)

    def page(self, template: str, **values: Any) -> None:
        """Answer with a page."""
        self.set_header("Content-Type", "text/html; charset=utf-8")
        # A value may hold half of a surrogate pair, which is no UTF-8.
        self.finish(self.render_template(template, **values).encode("utf-8", "replace"))

    def render_template(self, template: str, **values: Any) -> str:
        """A template with what all of them need."""
        person = getattr(self, "person", None)
        common = {
            "prefix": self.service.prefix,
            "person": person,
            "token": self.form_token if person else "",
            "here": self.request.path.removeprefix(self.service.prefix).split("/")[0],
        }
        return self.service.templates.get_template(template).render(**common, **values)

    def write_json(self, value: dict[str, Any]) -> None:
        """Answer with JSON; times as text."""
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(as_json(value))

    def _check_origin(self) -> None:
        sent = self.request.headers.get(TOKEN_HEADER) or self.get_body_argument(TOKEN_FIELD, "")
        site = self.request.headers.get("Sec-Fetch-Site", "same-origin")
        if site != "same-origin" or not hmac.compare_digest(sent.encode(), self.form_token.encode()):
            raise NotFromOurPage(
                "this request did not come from a page of this service", remedy="Reload the page, and try again."
            )

    def _ask_to_sign_in(self) -> None:
        address = None if self.wants_json() or self.request.method != "GET" else self.service.entrance.sign_in(self)
        if address:
            self.redirect(address)
            return
        self.set_status(HTTPStatus.UNAUTHORIZED)
        missing = NotSignedIn("nobody is signed in", remedy="Open the address that was printed, or send a token.")
        self.write_error(HTTPStatus.UNAUTHORIZED, exc_info=(NotSignedIn, missing, None))


def status_of(error: WorkbenchError) -> HTTPStatus:
    """The status that fits."""
    return next(status for kind, status in STATUSES if isinstance(error, kind))


def as_json(value: Any) -> str:
    """JSON; times as ISO 8601."""
    return json.dumps(value, default=lambda each: each.isoformat() if isinstance(each, datetime) else str(each))
