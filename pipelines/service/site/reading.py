"""What pages and the API show: rows of the store, with what the project's files say beside them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pipelines.calendar import next_instants
from pipelines.parameters import REQUIRED, form_schema
from pipelines.service.site.site import Site
from pipelines.store.pages.overview import (
    list_pipelines,
    list_schedules,
    list_skips,
    list_workers,
    read_owner,
    read_queue,
)
from pipelines.store.pages.runs import page_of_runs, pipeline_of_run, read_run, run_matrix
from pipelines.store.runs.backfills import pipeline_of_backfill, read_backfills
from pipelines.store.runs.schedules import read_schedules
from workbench.errors import NoSuchRun, WorkbenchError

Row = dict[str, Any]
INSTANTS = 5
SKIPS = 20
RUNS_OF_A_MATRIX = 50


def owner_of(site: Site, pipeline: str) -> str:
    """The owner that the store knows; before a scheduler has seen the file, that of the file.

    Raises:
        NoSuchRun: when there is no such pipeline.
    """
    with site.store.transaction() as connection:
        owner = read_owner(connection, pipeline)
    if owner is not None:
        return owner
    if not (site.project.jobs / f"{pipeline}.yaml").is_file():
        raise NoSuchRun(f"there is no pipeline {pipeline}", remedy="Correct the name; the first page lists them all.")
    return site.pipeline(pipeline).definition.owner


def pipeline_of(site: Site, given: Row) -> str | None:
    """The pipeline that something is about; None when it is about all of them.

    Args:
        site: where.
        given: has `pipeline`, or `run`, or `backfill`, or none of them.

    Raises:
        NoSuchRun: when there is no such run or backfill.
    """
    if "pipeline" in given:
        return str(given["pipeline"])
    if not {"run", "backfill"} & set(given):
        return None  # nor is the store needed to know it
    with site.store.transaction() as connection:
        if "run" in given:
            return pipeline_of_run(connection, given["run"])
        return pipeline_of_backfill(connection, given["backfill"])


def pipelines(site: Site) -> Row:
    """All pipelines: those that the store knows, and those whose file no scheduler has seen yet."""
    with site.store.transaction() as connection:
        rows = list_pipelines(connection)
    known = {each["name"] for each in rows}
    files = sorted({each.stem for each in site.project.jobs.glob("*.yaml")} - known)
    unseen: Row = {"owner": "", "description": "", "problem": "", "runs": [], "next_at": None, "paused": False}
    return {"pipelines": sorted([*rows, *({"name": name, **unseen} for name in files)], key=lambda each: each["name"])}


def form(site: Site, pipeline: str) -> Row:
    """What a run of the pipeline may be given, as JSON Schema, and whether it has partitions.

    Raises:
        DefinitionError: when its files are wrong.
    """
    found = site.pipeline(pipeline)
    rule = found.definition.partitions
    return {
        "pipeline": pipeline,
        "schema": form_schema(found.parameters),
        "texts": {
            each.name: each.kind.as_text(each.default) for each in found.parameters if each.default is not REQUIRED
        },
        "partitions": None if rule is None else {"by": rule.by, "since": rule.since, "parameter": rule.parameter},
    }


def matrix(site: Site, pipeline: str, before: int | None = None, limit: int = RUNS_OF_A_MATRIX) -> Row:
    """Runs with the state of each step, the newest first, and `next_before` for the page after it."""
    with site.store.transaction() as connection:
        runs, steps = run_matrix(connection, pipeline, before=before, limit=limit)
    return {"steps": steps, "runs": runs, "next_before": runs[-1]["id"] if len(runs) == limit else None}


def runs(site: Site, before: int | None = None, limit: int = 100) -> Row:
    """Runs of all pipelines, the newest first."""
    with site.store.transaction() as connection:
        return {"runs": page_of_runs(connection, before=before, limit=limit)}


def run(site: Site, run: int, after_event: int = 0) -> Row:
    """One run with its steps, attempts and events.

    Raises:
        NoSuchRun: when there is none.
    """
    with site.store.transaction() as connection:
        page = read_run(connection, run, after_event=after_event)
    return {"run": page.run, "steps": page.steps, "attempts": page.attempts, "events": page.events}


def backfills(site: Site, pipeline: str | None = None) -> Row:
    """Backfills, the newest first; `paused` is that of their pools."""
    with site.store.transaction() as connection:
        rows = [each._asdict() for each in read_backfills(connection, pipeline)]
        paused = {each["name"] for each in read_queue(connection, limit=0).pools if each["paused"]}
    return {"backfills": [{**each, "paused": each["pool"] in paused} for each in rows]}


def queue(site: Site) -> Row:
    """What runs and waits, pools, and workers."""
    with site.store.transaction() as connection:
        page, workers = read_queue(connection), list_workers(connection)
    return {"queue": page.queue, "pools": page.pools, "workers": workers}


def schedules(site: Site, limit: int = 500) -> Row:
    """Schedules and triggers of all pipelines, the next to come first."""
    with site.store.transaction() as connection:
        return {"schedules": list_schedules(connection, limit=limit)}


def schedules_of(site: Site, pipeline: str) -> Row:
    """Schedules and triggers of one pipeline, the next instants by its file, and those that were not run."""
    with site.store.transaction() as connection:
        found = [vars(each) for each in read_schedules(connection, pipeline)]
        skips = list_skips(connection, pipeline, limit=SKIPS)
    return {"schedules": found, **_calendar(site, pipeline), "skips": skips}


def _calendar(site: Site, pipeline: str) -> Row:
    """What the file says now. One that is wrong is shown where it is edited, and by `workbench pipelines check`."""
    try:
        rule = site.pipeline(pipeline).definition.schedule
    except WorkbenchError:
        rule = None
    if rule is None:
        return {"cron": None, "zone": None, "next": []}
    instants = next_instants(rule.schedule, datetime.now(UTC), INSTANTS)
    return {"cron": rule.cron, "zone": rule.zone, "next": [{"local": local, "utc": utc} for local, utc in instants]}
