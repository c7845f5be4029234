"""What people do with pipelines, from a command or through the service.

Each function writes to the store in one transaction; who asked for it is kept with it. Who may do
what is for the service to say, and whoever reaches the store by a command may do everything.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipelines.definition.targets.flow import check_flow_name
from pipelines.parameters import Parameter, parse_texts, validate
from pipelines.planning.partitions import partition_runs
from pipelines.planning.registering import ensure_registered
from pipelines.planning.runs import Start
from pipelines.store.claims.reaping import end_stopped
from pipelines.store.database import Store, notify
from pipelines.store.flows.asking import want_running, want_stopped
from pipelines.store.flows.listing import read_flow_row
from pipelines.store.records import Reprocess, Trigger
from pipelines.store.runs import backfills, stopping
from pipelines.store.runs.making import find_run, make_runs, set_pool
from pipelines.store.runs.schedules import pause_schedules, resume_schedules

if TYPE_CHECKING:
    from pipelines.definition import Project
    from pipelines.planning.runs import Plan
    from pipelines.store.records import NewRun

Row = dict[str, Any]
Texts = Mapping[str, str] | None
Values = Mapping[str, Any] | None


def start_run(
    store: Store, by: str, plan: Plan, *, parameters: Values = None, texts: Texts = None, request: str = ""
) -> Row:
    """Make a run now.

    Args:
        store: entered.
        by: who wants it.
        plan: of the pipeline.
        parameters: values in their JSON form.
        texts: values as people type them into a form, instead.
        request: when *by* asks again with the same one, the answer is the same run.

    Raises:
        ParametersRefused: with everything that does not fit.
        WorkbenchError: when the pipeline has no `run_as` where every one has to.
    """
    event = f"{by}:{request}" if request else uuid.uuid4().hex
    start = Start(trigger=Trigger.MANUAL, instant=datetime.now(UTC), event_id=event, requested_by=by)
    run = plan.run(start, _values(plan.pipeline.parameters, parameters, texts))
    with store.transaction() as connection:
        ensure_registered(connection, plan.pipeline, plan.run_as)
        made = make_runs(connection, [run])
        return {"run": made[run.key] if made else find_run(connection, run.key)}


def cancel_run(store: Store, by: str, *, run: int, reason: str = "") -> Row:
    """End a run; what it has put out is kept.

    Raises:
        NoSuchRun: when there is none.
    """
    with store.transaction() as connection:
        is_cancelled = stopping.stop(connection, run, reason or f"cancelled by {by}")
    return {"run": run, "cancelled": is_cancelled}


def repair_run(store: Store, by: str, *, run: int, steps: Sequence[str] = (), from_start: bool = False) -> Row:
    """Run again what did not succeed, or these *steps*, and what follows; *from_start* without checkpoints.

    Raises:
        NoSuchRun: when there is no such run or step.
        StoreError: when it has not ended, all of it succeeded, or another scheduler runs it.
    """
    with store.transaction() as connection:
        stopping.demand_ours(connection, run)
        again = stopping.repair(connection, run, by=by, steps=steps, from_start=from_start)
    return {"run": run, "steps": sorted(again)}


def preview_backfill(
    store: Store, by: str, plan: Plan, *, since: str = "", until: str = "", reprocess: str = "missing", slots: int = 1,
    parameters: Values = None, texts: Texts = None,
) -> Row:  # fmt: skip
    """What `start_backfill` would run; raises the same."""
    runs = _partitions(plan, by, (since, until), _given(plan, parameters, texts))
    with store.transaction() as connection:
        names = [str(each.partition) for each in runs]
        planned = backfills.preview(connection, plan.pipeline.name, names, Reprocess(reprocess))
    rows = [{"partition": each.partition, "state": each.state, "runs": each.runs} for each in planned]
    return {"pipeline": plan.pipeline.name, "slots": slots, "partitions": rows}


def start_backfill(
    store: Store, by: str, plan: Plan, *, since: str = "", until: str = "", reprocess: str = "missing", slots: int = 1,
    parameters: Values = None, texts: Texts = None,
) -> Row:  # fmt: skip
    """Run a pipeline for each partition of a range that *reprocess* asks for.

    Raises:
        WorkbenchError: when the pipeline has no partitions, or the range is none.
        ParametersRefused: when a value does not fit.
    """
    runs = _partitions(plan, by, (since, until), _given(plan, parameters, texts))
    with store.transaction() as connection:
        ensure_registered(connection, plan.pipeline, plan.run_as)
        number, count = backfills.make_backfill(connection, runs, Reprocess(reprocess), slots=slots, requested_by=by)
    return {"backfill": number, "runs": count, "partitions": len(runs)}


def pause_backfill(store: Store, by: str, *, backfill: int) -> Row:
    """Let no step of it begin."""
    return _pause_backfill(store, backfill, paused=True)


def resume_backfill(store: Store, by: str, *, backfill: int) -> Row:
    """Let it go on."""
    return _pause_backfill(store, backfill, paused=False)


def cancel_backfill(store: Store, by: str, *, backfill: int) -> Row:
    """End all of its runs that have not ended."""
    with store.transaction() as connection:
        count = backfills.stop_backfill(connection, backfill, f"backfill {backfill} was cancelled by {by}")
    end_stopped(store, backfill)
    return {"backfill": backfill, "cancelled": count}


def pause_pipeline(store: Store, by: str, *, pipeline: str) -> Row:
    """Let no run begin by schedule or trigger; runs by hand still do.

    Raises:
        NoSuchRun: when it has neither.
    """
    with store.transaction() as connection:
        pause_schedules(connection, pipeline, by)
    return {"pipeline": pipeline, "paused": True}


def resume_pipeline(store: Store, by: str, *, pipeline: str) -> Row:
    """Let schedule and triggers go on from where they stood.

    Raises:
        NoSuchRun: when it has neither.
    """
    with store.transaction() as connection:
        resume_schedules(connection, pipeline)
    return {"pipeline": pipeline, "paused": False}


def resize_pool(store: Store, by: str, *, pool: str, size: int) -> Row:
    """Set how many steps of a pool may run at once, on all workers together."""
    with store.transaction() as connection:
        set_pool(connection, pool, size)
        notify(connection, "queue")
    return {"pool": pool, "size": size}


def start_flow(store: Store, by: str, project: Project, *, flow: str) -> Row:
    """Let workers keep a flow running.

    Raises:
        NoSuchRun: when it has no file.
    """
    check_flow_name(project, flow)
    with store.transaction() as connection:
        is_changed = want_running(connection, flow, by)
    return {"flow": flow, "desired": "running", "changed": is_changed}


def restart_flow(store: Store, by: str, project: Project, *, flow: str) -> Row:
    """End the process of a flow and start another; one that was stopped is started.

    Raises:
        NoSuchRun: when it has no file.
    """
    check_flow_name(project, flow)
    with store.transaction() as connection:
        is_changed = want_running(connection, flow, by, anew=True)
    return {"flow": flow, "desired": "running", "changed": is_changed}


def stop_flow(store: Store, by: str, project: Project, *, flow: str) -> Row:
    """Let nobody run a flow any more; also one whose file is gone.

    Raises:
        NoSuchRun: when nobody has asked for it, and it has no file.
    """
    with store.transaction() as connection:
        is_changed = want_stopped(connection, flow, by)
        if not is_changed and read_flow_row(connection, flow) is None:
            check_flow_name(project, flow)
    return {"flow": flow, "desired": "stopped", "changed": is_changed}


def _pause_backfill(store: Store, backfill: int, *, paused: bool) -> Row:
    with store.transaction() as connection:
        backfills.pause_backfill(connection, backfill, paused=paused)
    return {"backfill": backfill, "paused": paused}


def _partitions(plan: Plan, by: str, between: tuple[str, str], given: Mapping[str, Any]) -> tuple[NewRun, ...]:
    since, until = between
    return partition_runs(plan, since=since, until=until, given=given, requested_by=by)


def _given(plan: Plan, parameters: Values, texts: Texts) -> dict[str, Any]:
    """Values of those parameters that are given; the others come with the partition, or have a default."""
    names = {**(texts or {}), **(parameters or {})}
    return _values([each for each in plan.pipeline.parameters if each.name in names], parameters, texts)


def _values(declared: Sequence[Parameter], parameters: Values, texts: Texts) -> dict[str, Any]:
    return parse_texts(declared, texts or {}) if parameters is None else validate(declared, parameters)
