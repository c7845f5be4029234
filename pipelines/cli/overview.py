"""`workbench pipelines list`, `queue`, `pool`, `pause`, `resume` and `prune`: what there is, what may begin, what goes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer

from pipelines.cli.asking import JSON, as_line, open_store, person, print_table, shown_time
from workbench.security.audit import Action
from workbench.security.audit.commands import audited, audits_itself, not_audited, operator

MOST_OLD = 100_000  # that are shown
SHORT = {
    "succeeded": "✓",
    "failed": "✗",
    "running": "▶",
    "queued": "…",
    "skipped": "-",
}  #: others by their first letter


def add_commands(group: typer.Typer) -> None:
    """Register the commands of this module."""
    group.command("list")(pipelines_list)
    group.command("queue")(pipelines_queue)
    group.command("pool")(pipelines_pool)
    group.command("pause")(pipelines_pause)
    group.command("resume")(pipelines_resume)
    group.command("prune")(pipelines_prune)


@not_audited("It only looks.")
def pipelines_list(as_json: bool = JSON) -> None:
    """Show all pipelines that have run or are scheduled, with when they are due next and how their last runs ended.

    Example: workbench pipelines list
    """
    from pipelines.store.pages.overview import list_pipelines

    with open_store() as store, store.transaction() as connection:
        found = list_pipelines(connection)
    if as_json:
        typer.echo(as_line({"pipelines": found}))
        return
    rows = [[each["name"], _next(each), _last(each["runs"]), _states(each["runs"])] for each in found]
    print_table(["pipeline", "next", "last run", "last runs, newest first"], rows, typer.echo)
    for each in found:
        if each["problem"]:
            typer.echo(f"{each['name']}: {each['problem']}")


@not_audited("It only looks.")
def pipelines_queue(as_json: bool = JSON) -> None:
    """Show what runs and what waits, in the order in which workers take it; workers; and pools.

    Example: workbench pipelines queue
    """
    from pipelines.store.pages.overview import list_workers, read_queue

    with open_store() as store, store.transaction() as connection:
        page, workers = read_queue(connection), list_workers(connection)
    if as_json:
        typer.echo(as_line({**asdict(page), "workers": workers}))
        return
    rows = [[str(each["run_id"]), each["pipeline"], each["step"], _where(each)] for each in page.queue]
    print_table(["run", "pipeline", "step", "where"], rows, lambda _: typer.echo("Nothing runs, and nothing waits."))
    columns = ["worker", "steps", "of", "last sign of life"]
    alive = [[each["id"], str(each["claims"]), str(each["slots"]), _life(each)] for each in workers]
    print_table(columns, alive, lambda _: typer.echo("There is no worker; `workbench up` starts one."))
    pools = [
        [each["name"], str(each["used"]), str(each["size"]), str(each["waiting"]), "paused" if each["paused"] else ""]
        for each in page.pools
    ]
    print_table(["pool", "used", "of", "waiting", ""], pools, lambda _: None)


@audited(Action.POOL_RESIZED, "pool:{name}")
def pipelines_pool(
    name: str = typer.Argument(help="The pool, as steps name it."),
    size: int = typer.Argument(min=0, help="How many of its steps may run at once."),
    as_json: bool = JSON,
) -> None:
    """Set how many steps of a pool may run at once, on all workers together. A pool that is new has one slot.

    Example: workbench pipelines pool warehouse 4
    """
    from pipelines.acting import resize_pool

    with open_store() as store:
        done = resize_pool(store, person(), pool=name, size=size)
    typer.echo(as_line(done) if as_json else f"{name} has {size} slots.")


@audited(Action.PIPELINE_PAUSED, "pipeline:{name}")
def pipelines_pause(name: str = typer.Argument(help="The pipeline."), as_json: bool = JSON) -> None:
    """Let no run of a pipeline begin by its schedule or its triggers; runs by hand still do, and what runs goes on.

    Example: workbench pipelines pause daily-delays
    """
    from pipelines.acting import pause_pipeline

    with open_store() as store:
        done = pause_pipeline(store, person(), pipeline=name)
    typer.echo(as_line(done) if as_json else f"{name} is paused.")


@audited(Action.PIPELINE_RESUMED, "pipeline:{name}")
def pipelines_resume(name: str = typer.Argument(help="The pipeline."), as_json: bool = JSON) -> None:
    """Let schedule and triggers of a pipeline go on from where they stood; `catch_up` says what of the time between runs.

    Example: workbench pipelines resume daily-delays
    """
    from pipelines.acting import resume_pipeline

    with open_store() as store:
        done = resume_pipeline(store, person(), pipeline=name)
    typer.echo(as_line(done) if as_json else f"{name} goes on.")


@audits_itself(Action.RUNS_REMOVED)
def pipelines_prune(
    dry_run: bool = typer.Option(False, "--dry-run", help="Only say which runs would go."), as_json: bool = JSON
) -> None:
    """Remove runs that the `retention` of their pipelines no longer keeps, with their events, logs and notebooks.

    The scheduler does so every ten minutes. Files on disks of other machines go with the command, or the
    scheduler, that runs there.

    Example: workbench pipelines prune --dry-run
    """
    from pipelines.scheduler.pruning import prune
    from pipelines.store.retention import old_runs
    from workbench.settings import find_home

    folders, has_more = 0, not dry_run
    with open_store() as store:
        with store.transaction() as connection:
            found = old_runs(connection, limit=MOST_OLD) if dry_run else ()
        while has_more:
            done = prune(store, find_home(), actor=operator())
            found, folders, has_more = (*found, *done.runs), folders + done.folders, done.has_more
    if as_json:
        runs = [{"run": each.id, "pipeline": each.pipeline, "state": each.state} for each in found]
        typer.echo(as_line({"runs": runs, "folders": folders, "dry_run": dry_run}))
        return
    rows = [[str(each.id), each.pipeline, each.state, shown_time(each.ended_at)] for each in found]
    print_table(["run", "pipeline", "ended", "at"], rows, lambda _: typer.echo("No run is old enough."))
    if not dry_run:
        typer.echo(f"Removed {len(found)} runs, and {folders} folders of attempts.")


def _next(row: dict[str, Any]) -> str:
    return "paused" if row["paused"] else shown_time(row["next_at"])


def _last(runs: list[dict[str, Any]]) -> str:
    return f"{runs[0]['id']} {runs[0]['state']}" if runs else ""


def _states(runs: list[dict[str, Any]]) -> str:
    return " ".join(SHORT.get(each["state"], each["state"][0]) for each in runs)


def _where(row: dict[str, Any]) -> str:
    if row["worker"]:
        return f"on {row['worker']}"
    kind = "waits, behind live runs" if row["is_backfill"] else "waits"
    return f"{kind}, for {', '.join(row['pools'])}" if row["pools"] else kind


def _life(row: dict[str, Any]) -> str:
    return shown_time(row["beat_at"]) if row["is_alive"] else f"{shown_time(row['beat_at'])}, lost"
