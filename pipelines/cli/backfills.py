"""`workbench pipelines backfill …`: many partitions of one pipeline."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from pipelines.cli.asking import JSON, PARAMETER, as_line, open_store, parse_given, person, plan_of, print_table
from workbench.security.audit import Action
from workbench.security.audit.commands import audited, not_audited

if TYPE_CHECKING:
    from pipelines.store.records import Reprocess as ReprocessRule
    from pipelines.store.runs.backfills import Planned

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
    from pipelines.planning.partitions import partition_runs
    from pipelines.planning.registering import ensure_registered
    from pipelines.store.runs.backfills import make_backfill
    from pipelines.store.runs.backfills import preview as preview_backfill

    rule, plan = _rule(reprocess), plan_of(name)
    values = _typed(plan.pipeline.parameters, parse_given(given))
    runs = partition_runs(plan, since=since, until=until, given=values, requested_by=person())
    with open_store() as store, store.transaction() as connection:
        if preview:
            _show(preview_backfill(connection, name, [str(each.partition) for each in runs], rule), as_json=as_json)
            return
        ensure_registered(connection, plan.pipeline)
        number, count = make_backfill(connection, runs, rule, slots=slots, requested_by=person())
    if as_json:
        typer.echo(as_line({"backfill": number, "runs": count, "partitions": len(runs)}))
    else:
        typer.echo(f"Backfill {number}: {count} of {len(runs)} partitions run, {slots} steps at once.")


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
    _pause(number, paused=True, as_json=as_json)


@audited(Action.BACKFILL_RESUMED, "backfill:{number}")
def backfill_resume(number: int = BACKFILL, as_json: bool = JSON) -> None:
    """Let a backfill go on.

    Example: workbench pipelines backfill resume 3
    """
    _pause(number, paused=False, as_json=as_json)


@audited(Action.BACKFILL_CANCELLED, "backfill:{number}")
def backfill_cancel(number: int = BACKFILL, as_json: bool = JSON) -> None:
    """End all runs of a backfill that have not ended.

    Example: workbench pipelines backfill cancel 3
    """
    from pipelines.store.claims.reaping import reap
    from pipelines.store.runs.backfills import stop_backfill

    with open_store() as store:
        with store.transaction() as connection:
            count = stop_backfill(connection, number, f"backfill {number} was cancelled by {person()}")
        reap(store, limit=count + 1)
    typer.echo(as_line({"backfill": number, "cancelled": count}) if as_json else f"{count} runs are being ended.")


def _pause(number: int, *, paused: bool, as_json: bool) -> None:
    from pipelines.store.runs.backfills import pause_backfill

    with open_store() as store, store.transaction() as connection:
        pause_backfill(connection, number, paused=paused)
    if as_json:
        typer.echo(as_line({"backfill": number, "paused": paused}))
    else:
        typer.echo(f"Backfill {number} {'is paused' if paused else 'goes on'}.")


def _rule(text: str) -> ReprocessRule:
    from pipelines.store.records import Reprocess

    if text not in REPROCESS:
        raise typer.BadParameter(f"--reprocess is one of {', '.join(REPROCESS)}")
    return Reprocess(text)


def _typed(parameters: tuple[Any, ...], texts: dict[str, str]) -> dict[str, Any]:
    """Values of those parameters that are given; the others come with the partition, or have a default."""
    from pipelines.parameters.declared import parse_texts

    known = {each.name: each for each in parameters}
    return parse_texts([known[name] for name in texts if name in known], texts)


def _show(planned: tuple[Planned, ...], *, as_json: bool) -> None:
    if as_json:
        typer.echo(as_line({"partitions": [asdict(each) for each in planned]}))
        return
    rows = [[each.partition, str(each.state or "never ran"), "runs" if each.runs else ""] for each in planned]
    print_table(["partition", "last run", ""], rows, typer.echo)
    typer.echo(f"{sum(each.runs for each in planned)} of {len(planned)} partitions would run.")


def _counts(states: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
