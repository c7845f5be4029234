"""Pages: each shows what operations answer, and its forms do operations."""

from __future__ import annotations

import uuid
from typing import Any

from pipelines.service.operations import OPERATIONS, RANGE
from pipelines.service.web.base import TOKEN_FIELD, Handler, status_of
from pipelines.service.web.forms import PREFIX, form_fields, given_texts
from workbench.errors import NoSuchRun, ParametersRefused, SettingsError
from workbench.security.audit.commands import not_audited

Row = dict[str, Any]
MOST_ROWS = 1000  #: of a page: writing more takes so long that others would wait for it
TICKED = ("steps",)  #: fields that come several times


class Overview(Handler):
    """All pipelines."""

    @not_audited("It only looks, as far as the rights of who asks go.")
    async def get(self) -> None:
        """Called by tornado."""
        self.page("overview.html", **await self.perform("list_pipelines", {}))


class Listing(Handler):
    """A page that shows one operation without a subject."""

    def initialize(self, service: Any, operation: str, template: str) -> None:  # type: ignore[override]
        """Called by tornado."""
        super().initialize(service)
        self._operation, self._template = operation, template

    @not_audited("It only looks, as far as the rights of who asks go.")
    async def get(self) -> None:
        """Called by tornado."""
        given = {
            name: _number(self, name)
            for name in OPERATIONS[self._operation].values
            if self.get_query_argument(name, "")
        }
        if "limit" in given:
            given["limit"] = min(given["limit"], MOST_ROWS)
        found = await self.perform(self._operation, given)
        self.page(self._template, my_right=self.person.right, **found)


class OfPipeline(Handler):
    """Runs of one pipeline with their steps, its schedules, and what can be done with it."""

    @not_audited("It only looks, as far as the rights of who asks go.")
    async def get(self, pipeline: str) -> None:
        """Called by tornado."""
        before = {"before": _number(self, "before")} if self.get_query_argument("before", "") else {}
        done = await self.done("show_matrix", {"pipeline": pipeline, **before})
        schedules = await self.perform("list_schedules_of", {"pipeline": pipeline})
        backfills = await self.perform("list_backfills_of", {"pipeline": pipeline})
        self.page(
            "pipeline.html", pipeline=pipeline, owner=done.owner, my_right=done.right, before=before,
            **done.answer, **schedules, **backfills,
        )  # fmt: skip


class StartForm(Handler):
    """Asks for the parameters of a run."""

    @not_audited("It only looks, as far as the rights of who asks go.")
    async def get(self, pipeline: str) -> None:
        """Called by tornado."""
        await show_start_form(self, pipeline)


class BackfillForm(Handler):
    """Asks for a range; with one, shows what would run, and then the button."""

    @not_audited("It only looks, as far as the rights of who asks go.")
    async def get(self, pipeline: str) -> None:
        """Called by tornado."""
        form = await self.perform("show_form", {"pipeline": pipeline})
        arguments = {name: self.get_query_arguments(name, strip=False) for name in self.request.query_arguments}
        texts = given_texts(arguments, form["texts"])
        asked: Row = {name: text for name in RANGE if (text := self.get_query_argument(name, ""))}
        planned, problem = None, None
        if "reprocess" in asked:
            asked["slots"] = _number(self, "slots")
            try:
                given = {"pipeline": pipeline, "texts": texts, **asked}
                planned = await self.perform("preview_backfill", given, of_form=True)
            except (ParametersRefused, SettingsError) as error:
                problem = error
        named_by = (form["partitions"] or {}).get("parameter")
        fields = [each for each in form_fields(form["schema"], form["texts"], texts) if each.name != named_by]
        hidden = {**asked, "pipeline": pipeline, **{f"{PREFIX}{name}": text for name, text in texts.items()}}
        self.page(
            "backfill.html", pipeline=pipeline, partitions=form["partitions"], fields=fields, asked=asked, hidden=hidden,
            planned=planned, problem=problem,
        )  # fmt: skip


class OfRun(Handler):
    """One run; lines and states come in by themselves while it goes on."""

    @not_audited("It only looks, as far as the rights of who asks go.")
    async def get(self, run: str) -> None:
        """Called by tornado."""
        self.page("run.html", **await run_values(self, int(run)))


class Action(Handler):
    """What a form does, and then the page that shows what became of it."""

    @not_audited("Each operation names an action of its own, which `perform` records.")
    async def post(self, operation: str) -> None:
        """Called by tornado."""
        if operation not in OPERATIONS or not OPERATIONS[operation].changes:
            raise NoSuchRun(f"there is no action {operation}", remedy="Go back, and reload the page.")
        given = await self._given(operation)
        try:
            result = await self.perform(operation, given, of_form=True)
        except ParametersRefused as error:
            if operation != "start_run" or "pipeline" not in given:
                raise
            self.set_status(status_of(error))
            await show_start_form(self, given["pipeline"], given["texts"], error)
            return
        self.redirect(f"{self.service.prefix}{_next(operation, {**given, **result})}", status=303)

    async def _given(self, name: str) -> Row:
        """Values of the fields, as the operation has them."""
        operation = OPERATIONS[name]
        known = operation.schema(of_form=True)["properties"]
        given: Row = {}
        for field in self.request.body_arguments:
            texts = self.get_body_arguments(field)
            if field == TOKEN_FIELD or field.startswith(PREFIX) or not any(texts):
                continue
            given[field] = texts if field in TICKED else _typed(field, texts[-1], known.get(field, {}).get("type"))
        if "texts" in operation.only_forms:
            arguments = {field: self.get_body_arguments(field, strip=False) for field in self.request.body_arguments}
            defaults = {}
            if "pipeline" in given:
                defaults = (await self.perform("show_form", {"pipeline": given["pipeline"]}))["texts"]
            given["texts"] = given_texts(arguments, defaults)
        return given


async def show_start_form(
    handler: Handler, pipeline: str, typed: dict[str, str] | None = None, problem: ParametersRefused | None = None
) -> None:
    """The form for a run, with what was wrong with what somebody typed into it."""
    found = await handler.perform("show_form", {"pipeline": pipeline})
    fields = form_fields(found["schema"], found["texts"], typed)
    handler.page("start.html", pipeline=pipeline, fields=fields, problem=problem, request=uuid.uuid4().hex)


async def run_values(handler: Handler, run: int, after_event: int = 0) -> Row:
    """What the page of a run shows, with events after that one."""
    done = await handler.done("show_run", {"run": run, "after_event": after_event})
    return {**done.answer, "my_right": done.right}


def as_number(name: str, text: str) -> int:
    """The number.

    Raises:
        ParametersRefused: when it is none.
    """
    try:
        return int(text)
    except ValueError:
        raise ParametersRefused([f"{name}: {text!r} is no whole number."]) from None


def _typed(field: str, text: str, kind: str | None) -> object:
    if kind == "boolean":
        return text == "true"
    return as_number(field, text) if kind == "integer" else text


def _number(handler: Handler, name: str) -> int:
    return as_number(name, handler.get_query_argument(name, "1"))


def _next(operation: str, values: Row) -> str:
    if "backfill" in values:
        return "backfills"
    if "flow" in values:
        return f"flows/{values['flow']}"
    if "run" in values:
        return f"runs/{values['run']}"
    return f"pipelines/{values['pipeline']}" if "pipeline" in values else "queue"
