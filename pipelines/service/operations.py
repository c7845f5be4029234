"""Everything that can be done through the service: its address in the API, the right it takes, and what does it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pipelines import acting
from pipelines.definition.targets.flow import NAME
from pipelines.service.rights import Forbidden, Person, Right, demand
from pipelines.service.secrets_given import refuse_other_secrets
from pipelines.service.site import alerts, flows, reading
from pipelines.service.site.site import Site
from workbench.errors import AuditError, ParametersRefused
from workbench.logs.context import bound
from workbench.security.audit import Action, Outcome
from workbench.storable import STORABLE

logger = logging.getLogger(__name__)

TOLD = ("run", "backfill", "pool", "size", "silence", "duration")  #: of what was given and answered, in the audit log
Row = dict[str, Any]
Call = Callable[..., Row]
MOST = 2**63 - 1  # of PostgreSQL's bigint
NUMBER = {"type": "integer", "minimum": 1, "maximum": MOST}
TEXT = {"type": "string", "maxLength": 1000, "pattern": STORABLE}
VALUES = {
    "type": "object",
    "description": "Values by name, in their JSON form; the form of the pipeline has their schema.",
}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
#: What stands in braces in paths.
IN_PATHS: Mapping[str, Row] = {
    "pipeline": {"type": "string", "pattern": "^[a-z0-9]([a-z0-9_-]{0,48}[a-z0-9])?$"},
    "run": NUMBER,
    "backfill": NUMBER,
    "pool": {"type": "string", "pattern": "^[a-z0-9]([a-z0-9_-]{0,48}[a-z0-9])?$"},
    "flow": {"type": "string", "pattern": f"^{NAME.pattern}$"},
    "silence": NUMBER,
}
BEFORE = {"before": {**NUMBER, "description": "Only runs with a lesser number."}}
REQUEST = {
    "request": {**TEXT, "description": "Of whoever asks, and never used before: what comes twice makes one run."}
}
LIMIT = {"limit": {"type": "integer", "minimum": 1, "maximum": 1000}}
# Without their steps, ten thousand runs are a few megabytes.
LIMIT_OF_RUNS = {"limit": {"type": "integer", "minimum": 1, "maximum": 10_000}}
RANGE: Mapping[str, Row] = {
    "since": {**TEXT, "description": "The first partition; without it that of the pipeline."},
    "until": {**TEXT, "description": "The last one; without it the pipeline's, or the last that is complete."},
    "reprocess": {"enum": ["missing", "failed", "all"]},
    "slots": {"type": "integer", "minimum": 1, "maximum": 1000},
}
FROM_START = {
    "type": "boolean",
    "description": "Begin notebooks with their first cell, whatever checkpoints there are.",
}
SILENCE: Mapping[str, Row] = {
    "alert": {"type": "string", "pattern": r"^(\*|[a-z][a-z0-9_]{0,63})$", "description": "Its name; * is every one."},
    "duration": {"type": "string", "description": "Such as 30m, 1h30m or 1d; at most 30 days."},
    "reason": {**TEXT, "minLength": 1, "description": "For those who ask later."},
    "labels": {"type": "object", "additionalProperties": TEXT, "maxProperties": 20, "description": "That an alert has to have."},
}  # fmt: skip
FORMS = frozenset({"texts"})


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One thing that can be done. `call` is given the site, who does it when it changes something, and values by name."""

    name: str
    method: Literal["GET", "POST", "PUT"]
    path: str  #: below /api/v1
    right: Right  #: for the pipeline that it is about, or for all when it is about none
    summary: str
    call: Call
    values: Mapping[str, Row] = field(default_factory=dict)  #: JSON Schema by name: of the query, or of the body
    action: Action | None = None  #: of the audit log
    only_forms: frozenset[str] = frozenset()  #: values that pages send and the API does not know
    required: tuple[str, ...] = ()  #: of the values

    @property
    def in_path(self) -> tuple[str, ...]:
        """The names in braces."""
        return tuple(re.findall(r"{(\w+)}", self.path))

    @property
    def changes(self) -> bool:
        """Whether it does more than look."""
        return self.method != "GET"

    def schema(self, *, of_form: bool = False) -> Row:
        """JSON Schema of all values."""
        properties = {**{name: IN_PATHS[name] for name in self.in_path}, **self.values}
        if of_form:
            properties |= dict.fromkeys(self.only_forms, TEXTS)
        required = [*self.in_path, *self.required]
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


@dataclass(frozen=True)
class Done:
    """What an operation answers, and what was asked for before: who owns its pipeline, and may do what with it."""

    answer: Row
    owner: str
    right: Right


def perform(site: Site, person: Person, operation: Operation, given: Row, *, of_form: bool = False) -> Done:
    """Do it, if *person* may; a change is in the audit log before it is made, and so is one that was refused.

    Raises:
        Forbidden: when they may not.
        AuditError: when that cannot be recorded; nothing is changed then.
        ParametersRefused: when *given* does not fit the operation, or values do not fit the pipeline.
        WorkbenchError: as the operation.
    """
    check(operation, given, of_form=of_form)
    pipeline = reading.pipeline_of(site, given)
    try:
        owner = "" if pipeline is None else reading.owner_of(site, pipeline)
        right = person.right_for(owner)
        demand(right, operation.right, operation.summary.lower().rstrip("."))
        values = {**(given.get("texts") or {}), **(given.get("parameters") or {})}
        if pipeline is not None and right < Right.OWNER and values:
            refuse_other_secrets(site.pipeline(pipeline), values)
    except (Forbidden, ParametersRefused):
        _audit(site, person, operation, pipeline, given, Outcome.REFUSED)
        raise
    if not operation.changes:
        return Done(operation.call(site, **given), owner, right)
    # First the line, then the deed: what cannot be recorded is not done.
    _audit(site, person, operation, pipeline, given, Outcome.BEGUN)
    try:
        answer = operation.call(site, person.name, **given)
    except BaseException:
        _audit(site, person, operation, pipeline, given, Outcome.FAILED)
        raise
    _audit(site, person, operation, pipeline, {**given, **answer}, Outcome.SUCCESS)
    told = {**given, **answer}
    with bound(run=told.get("run"), pipeline=pipeline, flow=told.get("flow"), user=person.name):
        logger.info("%s", operation.name)
    return Done(answer, owner, right)


def check(operation: Operation, given: Row, *, of_form: bool = False) -> None:
    """Let values pass that fit the operation.

    Raises:
        ParametersRefused: with everything that does not.
    """
    # With the first request: it takes ten megabytes of a page that nobody looks at.
    import jsonschema  # type: ignore[import-untyped] # ships no types

    found = jsonschema.Draft202012Validator(operation.schema(of_form=of_form)).iter_errors(given)
    problems = [f"{'.'.join(map(str, each.path)) or operation.name}: {each.message}." for each in found]
    if problems:
        raise ParametersRefused(problems)


def _audit(  # noqa: PLR0917 - what an event holds
    site: Site, person: Person, operation: Operation, pipeline: str | None, values: Row, outcome: Outcome
) -> None:
    if operation.action is None:
        return
    # Values of parameters are with the run. Here they would tell everybody who reads the log.
    details = {name: values[name] for name in TOLD if name in values}
    subjects = ((name, values[name]) for name in ("flow", "alert", "silence") if name in values)
    kind, subject = ("pipeline", pipeline) if pipeline else next(subjects, ("", ""))
    resource = f"{kind}:{subject}" if kind else "pipelines"
    try:
        site.audit.record(operation.action, actor=person.name, resource=resource, outcome=outcome, **details)
    except AuditError:
        if outcome is Outcome.BEGUN:
            raise
        # It is done, or refused, and that it began is in the log.
        logger.exception("how it ended is not in the audit log")


def _look(name: str, path: str, summary: str, call: Call, **values: Row) -> Operation:
    return Operation(
        name=name, method="GET", path=path, right=Right.VIEWER, summary=summary, call=call, values=values
    )  # fmt: skip


def _do(  # noqa: PLR0917 - a row of the table below
    name: str, path: str, right: Right, summary: str, call: Call, action: Action, **values: Row
) -> Operation:
    forms = FORMS if "parameters" in values else frozenset[str]()
    return Operation(
        name=name, method="PUT" if "size" in values else "POST", path=path, right=right, summary=summary,
        call=call, action=action, values=values, only_forms=forms,
    )  # fmt: skip


def _in_store(call: Call) -> Call:
    """Something that needs no more of the site than its store."""
    return lambda site, by, **given: call(site.store, by, **given)


def _of_plan(call: Call) -> Call:
    """Something that needs the pipeline as its files are now."""
    return lambda site, by, *, pipeline, **given: call(site.store, by, site.plan(pipeline), **given)


def _previewed(site: Site, **given: Any) -> Row:
    return _of_plan(acting.preview_backfill)(site, "", **given)


OPERATIONS = {
    each.name: each
    for each in (
        _look("list_pipelines", "/pipelines", "See all pipelines with their last runs.", reading.pipelines),
        _look("show_matrix", "/pipelines/{pipeline}/runs", "See runs with the state of each step.", reading.matrix, **BEFORE, **LIMIT),
        _look("show_form", "/pipelines/{pipeline}/form", "See what a run may be given.", reading.form),
        _look("list_runs", "/runs", "See runs of all pipelines, the newest first.", reading.runs, **BEFORE, **LIMIT_OF_RUNS),
        _look("show_run", "/runs/{run}", "See one run with its steps, attempts and events.", reading.run, after_event={**NUMBER, "minimum": 0}),
        _look("list_backfills", "/backfills", "See backfills, the newest first.", reading.backfills),
        _look("list_backfills_of", "/pipelines/{pipeline}/backfills", "See backfills of one pipeline.", reading.backfills),
        replace(_look("preview_backfill", "/pipelines/{pipeline}/backfills/preview", "See what a backfill would run.", _previewed, **RANGE), only_forms=FORMS),
        _look("list_schedules", "/schedules", "See schedules and when they are due.", reading.schedules, **LIMIT),
        _look("list_schedules_of", "/pipelines/{pipeline}/schedules", "See schedules of one pipeline, and instants that were skipped.", reading.schedules_of),
        _look("show_queue", "/queue", "See what runs and waits, pools, and workers.", reading.queue),
        _look("list_flows", "/flows", "See all flows and how they stand.", flows.flows),
        _look("show_flow", "/flows/{flow}", "See one flow with the end of its log.", flows.flow),
        _look("list_alerts", "/alerts", "See alerts on metrics, those that fire, and silences.", alerts.alerts),
        _do("start_run", "/pipelines/{pipeline}/runs", Right.RUNNER, "Run a pipeline now.", _of_plan(acting.start_run), Action.RUN_STARTED, parameters=VALUES, **REQUEST),
        _do("cancel_run", "/runs/{run}/cancel", Right.RUNNER, "Cancel a run.", _in_store(acting.cancel_run), Action.RUN_CANCELLED, reason=TEXT),
        _do("repair_run", "/runs/{run}/repair", Right.RUNNER, "Repair a run.", _in_store(acting.repair_run), Action.RUN_REPAIRED, steps={"type": "array", "items": TEXT}, from_start=FROM_START),
        _do("start_backfill", "/pipelines/{pipeline}/backfills", Right.EDITOR, "Start a backfill.", _of_plan(acting.start_backfill), Action.BACKFILL_STARTED, **RANGE, parameters=VALUES),
        _do("pause_backfill", "/backfills/{backfill}/pause", Right.EDITOR, "Pause a backfill.", _in_store(acting.pause_backfill), Action.BACKFILL_PAUSED),
        _do("resume_backfill", "/backfills/{backfill}/resume", Right.EDITOR, "Resume a backfill.", _in_store(acting.resume_backfill), Action.BACKFILL_RESUMED),
        _do("cancel_backfill", "/backfills/{backfill}/cancel", Right.EDITOR, "Cancel a backfill.", _in_store(acting.cancel_backfill), Action.BACKFILL_CANCELLED),
        _do("start_flow", "/flows/{flow}/start", Right.EDITOR, "Keep a flow running.", flows.start, Action.FLOW_STARTED),
        _do("stop_flow", "/flows/{flow}/stop", Right.EDITOR, "Stop a flow.", flows.stop, Action.FLOW_STOPPED),
        _do("restart_flow", "/flows/{flow}/restart", Right.EDITOR, "Start a flow anew.", flows.restart, Action.FLOW_RESTARTED),
        _do("pause_pipeline", "/pipelines/{pipeline}/pause", Right.OWNER, "Pause the schedule of a pipeline.", _in_store(acting.pause_pipeline), Action.PIPELINE_PAUSED),
        _do("resume_pipeline", "/pipelines/{pipeline}/resume", Right.OWNER, "Resume the schedule of a pipeline.", _in_store(acting.resume_pipeline), Action.PIPELINE_RESUMED),
        replace(_do("resize_pool", "/pools/{pool}", Right.OWNER, "Change the size of a pool.", _in_store(acting.resize_pool), Action.POOL_RESIZED, size={"type": "integer", "minimum": 0, "maximum": 10000}), required=("size",)),
        replace(_do("silence_alert", "/silences", Right.OWNER, "Silence an alert.", alerts.silence, Action.ALERT_SILENCED, **SILENCE), required=("alert", "duration", "reason")),
        _do("unsilence_alert", "/silences/{silence}/end", Right.OWNER, "End a silence.", alerts.unsilence, Action.ALERT_UNSILENCED),
    )
}  # fmt: skip
