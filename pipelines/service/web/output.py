"""The notebook of an attempt: in a sandbox without scripts and without the viewer's cookie, or as a file."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

from pipelines.service.site.outputs import output_path, read_output, render
from pipelines.service.web.base import Handler
from pipelines.service.web.reads import record_read
from workbench.security.audit import Action
from workbench.security.audit.commands import audits_itself

# Whatever a cell has put out is somebody's. `sandbox` gives it an origin of its own and runs no script, also when the
# address is opened by itself; nothing is fetched, so nobody is told who looks.
OUTPUT_POLICY = (
    "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
)


class Output(Handler):
    """As a page, for the frame in the page of the run."""

    @audits_itself(Action.OUTPUTS_READ)
    async def get(self, run: str, attempt: str) -> None:
        """Called by tornado."""
        # In a thread of its own: what takes long there holds up outputs, and no other page.
        body = await _of(self, run, attempt, render, self.service.rendering)
        self.set_header("Content-Security-Policy", OUTPUT_POLICY)
        self.set_header("X-Frame-Options", "SAMEORIGIN")
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(body)


class NotebookFile(Handler):
    """As a file that is saved and not shown."""

    @audits_itself(Action.OUTPUTS_READ)
    async def get(self, run: str, attempt: str) -> None:
        """Called by tornado."""
        body = await _of(self, run, attempt, read_output)
        self.set_header("Content-Security-Policy", OUTPUT_POLICY)
        self.set_header("Content-Type", "application/x-ipynb+json")
        self.set_header("Content-Disposition", f'attachment; filename="run-{int(run)}-{int(attempt)}.ipynb"')
        self.finish(body)


async def _of(handler: Handler, run: str, attempt: str, read: Any, threads: Executor | None = None) -> Any:
    found = await handler.perform("show_run", {"run": int(run)})
    site = handler.service.site
    body = await handler.beside(lambda: read(output_path(site, found, int(attempt)), site.keys), threads)
    await record_read(handler, found["run"], next(each for each in found["attempts"] if each["id"] == int(attempt)))
    return body
