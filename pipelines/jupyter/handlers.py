"""The addresses below `workbench/pipelines` of a user's server. Login, XSRF tokens and rights are those of Jupyter's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web

from workbench.errors import NotAgreed, WorkbenchError
from workbench.security.audit.commands import not_audited

Row = dict[str, Any]


def add_handlers(application: Any, root: str) -> None:
    """Add the addresses to the application of a server that shows the files below *root*."""
    base = url_path_join(application.settings["base_url"], "workbench", "pipelines")
    given = {"root": Path(root).resolve()}
    handlers = [("", Pipelines), ("check", Check), ("file", File)]
    application.add_handlers(".*$", [(url_path_join(base, name), handler, given) for name, handler in handlers])


class Handler(APIHandler):
    """Answers with what a function gives, which runs in a thread: it reads files."""

    auth_resource = "contents"

    def initialize(self, root: Path) -> None:
        """Called by tornado with what the routing table says."""
        self.root = root

    async def answer(self, call: Callable[[], Row]) -> None:
        """Send what *call* returns, or what it refuses and the remedy."""
        try:
            found = await asyncio.to_thread(call)
        except WorkbenchError as error:
            self.set_status(HTTPStatus.CONFLICT if isinstance(error, NotAgreed) else HTTPStatus.BAD_REQUEST)
            found = {"message": error.message, "remedy": error.remedy}
        self.finish(json.dumps(found))


class Pipelines(Handler):
    """Which pipelines run a notebook."""

    @not_audited("It reads files of the person whose server it is.")
    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Those of its project and those that are deployed."""
        path = self.get_query_argument("notebook")
        await self.answer(lambda: _pipelines(self.root, path))


class Check(Handler):
    """What the file of a form would be; nothing is written."""

    @not_audited("It reads files of the person whose server it is, and writes none.")
    @web.authenticated
    @authorized(action="read")  # type: ignore[untyped-decorator] # only without arguments has it types
    async def post(self) -> None:
        """Its text, everything that is wrong, the parameters of the notebook, and when it would run."""
        body = self.get_json_body()
        await self.answer(lambda: _check(self.root, body))


class File(Handler):
    """The file of a form."""

    @not_audited(
        "It writes a file of the person whose server it is, as Jupyter's own contents do; its runs are recorded."
    )
    @web.authenticated
    @authorized
    async def put(self) -> None:
        """Write it."""
        body = self.get_json_body()
        await self.answer(lambda: _write(self.root, body))


# These import what they need: a server starts without it, and most never do.


def _pipelines(root: Path, path: str) -> Row:
    from pipelines.definition import Project
    from pipelines.jupyter.deployed import pipelines_of
    from pipelines.jupyter.places import find_place

    place = find_place(root, path)
    found = [asdict(each) for each in pipelines_of(place, Project.installed())]
    return {"notebook": place.notebook, "pipelines": found}


def _check(root: Path, body: Any) -> Row:
    from pipelines.jupyter.drafting import instants, make_draft
    from pipelines.jupyter.fields import parameter_fields
    from pipelines.jupyter.form import Form, read_form
    from pipelines.jupyter.places import find_place
    from pipelines.jupyter.saving import found_sha256

    form = read_form(Form, body)
    place = find_place(root, form.notebook)
    draft = make_draft(form, place)
    return {
        "notebook": place.notebook,
        "folder": place.shown_folder,
        "is_project": place.is_project,
        "file": draft.file,
        "found": found_sha256(draft),
        "yaml": draft.text,
        "problems": [each.as_dict() for each in draft.problems],
        "parameters": parameter_fields(draft.parameters),
        "next": instants(form),
    }


def _write(root: Path, body: Any) -> Row:
    from pipelines.jupyter.drafting import make_draft
    from pipelines.jupyter.form import WriteForm, read_form
    from pipelines.jupyter.places import find_place
    from pipelines.jupyter.saving import save

    form = read_form(WriteForm, body)
    place = find_place(root, form.notebook)
    path = save(make_draft(form, place), replaces=form.replaces, makes_project=form.makes_project)
    return {"path": path.relative_to(root).as_posix()}
