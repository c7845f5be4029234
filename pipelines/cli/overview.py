"""`workbench pipelines list`, `queue`, `pool`, `pause` and `resume`: what there is, and what may begin."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer

from pipelines.cli.asking import JSON, as_line, open_store, person, print_table, shown_time
from workbench.security.audit import Action
from workbench.security.audit.commands import audited, not_audited

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
