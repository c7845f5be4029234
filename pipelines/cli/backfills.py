"""`workbench pipelines backfill …`: many partitions of one pipeline."""

from __future__ import annotations

from typing import Any

import typer

from pipelines.cli.asking import JSON, PARAMETER, as_line, open_store, parse_given, person, plan_of, print_table
from workbench.security.audit import Action
from workbench.security.audit.commands import audited, not_audited

Row = dict[str, Any]
BACKFILL = typer.Argument(help="The number of the backfill.")
REPROCESS = ("missing", "failed", "all")


def add_commands(group: typer.Typer) -> None:
    """Register the commands of this module."""
    backfills = typer.Typer(
        help="Many partitions of one pipeline, behind everything that is live.", no_args_is_help=True
    )
    backfills.command("run")(backfill_run)
    backfills.command("list")(backfill_list)
    backfills.command("pause")(backfill_pause)
    backfills.command("resume")(backfill_resume)
    backfills.command("cancel")(backfill_cancel)
    group.add_typer(backfills, name="backfill")


@audited(Action.BACKFILL_STARTED, "pipeline:{name}")
def backfill_run(  # noqa: PLR0917 - typer
    name: str = typer.Argument(help="The pipeline, which has `partitions`."),
    since: str = typer.Option("", help="The first partition, such as 2013-01-01; without it that of the pipeline."),
    until: str = typer.Option("", help="The last one; without it the pipeline's, or the last that is complete."),
    reprocess: str = typer.Option("missing", help="Which of them: missing, failed (and missing), or all."),
    slots: int = typer.Option(1, min=1, help="How many steps of it may run at once."),
    preview: bool = typer.Option(False, "--preview", help="Say what would run, and make nothing."),
    given: list[str] = PARAMETER,
    as_json: bool = JSON,
) -> None:
    """Run a pipeline for each partition of a range. Live runs go first, and no partition runs twice at once.

    Example: workbench pipelines backfill run daily --since 2013-01-01 --until 2013-12-31 --preview
    """
    from pipelines.acting import preview_backfill, start_backfill

    if reprocess not in REPROCESS:
        raise typer.BadParameter(f"--reprocess is one of {', '.join(REPROCESS)}")
    plan, texts = plan_of(name), parse_given(given)
    asked: Row = {"since": since, "until": until, "reprocess": reprocess, "slots": slots, "texts": texts}
    with open_store() as store:
        if preview:
            _show(preview_backfill(store, person(), plan, **asked)["partitions"], as_json=as_json)
            return
        done = start_backfill(store, person(), plan, **asked)
    if as_json:
        typer.echo(as_line(done))
    else:
        counts = f"{done['runs']} of {done['partitions']} partitions run, {slots} steps at once."
        typer.echo(f"Backfill {done['backfill']}: {counts}")


@not_audited("It only looks.")
def backfill_list(name: str = typer.Argument("", help="Only of this pipeline."), as_json: bool = JSON) -> None:
    """Show backfills, the newest first, with how many of their runs stand how.

    Example: workbench pipelines backfill list
    """
    from pipelines.store.runs.backfills import read_backfills

    with open_store() as store, store.transaction() as connection:
        found = [each._asdict() for each in read_backfills(connection, name or None)]
    if as_json:
        typer.echo(as_line({"backfills": found}))
        return
    rows = [[str(each["id"]), each["pipeline"], each["reprocess"], _counts(each["states"])] for each in found]
    print_table(["backfill", "pipeline", "which", "runs"], rows, typer.echo)


@audited(Action.BACKFILL_PAUSED, "backfill:{number}")
def backfill_pause(number: int = BACKFILL, as_json: bool = JSON) -> None:
    """Let no step of a backfill begin; what runs goes on.

    Example: workbench pipelines backfill pause 3
    """
    from pipelines.acting import pause_backfill

    with open_store() as store:
        done = pause_backfill(store, person(), backfill=number)
    typer.echo(as_line(done) if as_json else f"Backfill {number} is paused.")


@audited(Action.BACKFILL_RESUMED, "backfill:{number}")
def backfill_resume(number: int = BACKFILL, as_json: bool = JSON) -> None:
    """Let a backfill go on.

    Example: workbench pipelines backfill resume 3
    """
    from pipelines.acting import resume_backfill

    with open_store() as store:
        done = resume_backfill(store, person(), backfill=number)
    typer.echo(as_line(done) if as_json else f"Backfill {number} goes on.")


@audited(Action.BACKFILL_CANCELLED, "backfill:{number}")
def backfill_cancel(number: int = BACKFILL, as_json: bool = JSON) -> None:
    """End all runs of a backfill that have not ended.

    Example: workbench pipelines backfill cancel 3
    """
    from pipelines.acting import cancel_backfill

    with open_store() as store:
        done = cancel_backfill(store, person(), backfill=number)
    typer.echo(as_line(done) if as_json else f"{done['cancelled']} runs are being ended.")


def _show(planned: list[Row], *, as_json: bool) -> None:
    if as_json:
        typer.echo(as_line({"partitions": planned}))
        return
    rows = [[each["partition"], str(each["state"] or "never ran"), "runs" if each["runs"] else ""] for each in planned]
    print_table(["partition", "last run", ""], rows, typer.echo)
    typer.echo(f"{sum(each['runs'] for each in planned)} of {len(planned)} partitions would run.")


def _counts(states: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
