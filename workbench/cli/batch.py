"""`workbench batch`: jobs by partition, and their bookmarks."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer
from rich.table import Table

from workbench.console import plain_console
from workbench.errors import SettingsError
from workbench.security.audit import Action
from workbench.security.audit.commands import audited, not_audited
from workbench.settings import Settings

if TYPE_CHECKING:
    from workbench.batch import BatchJob, Only


def add_commands(application: typer.Typer) -> None:
    """Register the commands of this module."""
    group = typer.Typer(help="Batch jobs by partition.", no_args_is_help=True)
    group.command("run")(batch_run)
    group.command("list")(batch_list)
    group.command("bookmarks")(batch_bookmarks)
    application.add_typer(group, name="batch")


@audited(Action.DATA_WRITTEN, "batch:{job}")
def batch_run(  # noqa: PLR0917 - typer
    job: str = typer.Argument(help="MODULE:NAME of a BatchJob; modules of the working folder are found."),
    since: str = typer.Option("", help="The first partition: 2026-01-31, 2026-01 or 2026-01-31T05."),
    until: str = typer.Option("", help="The last partition; without it, that of --since."),
    value: list[str] = typer.Option([], help="A partition of a job by value; may be given again."),
    only: str = typer.Option("missing", help="missing, failed, changed or all."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Make the partitions of a job that are missing; each is replaced in one transaction with its bookmark.

    Exits with 1 when a partition failed. Interrupted, it leaves each partition whole; run it again.

    Example: workbench batch run jobs.delays:delays --since 2013-01-01 --until 2013-01-31
    """
    from workbench.batch import run

    tell = (lambda _: None) if as_json else typer.echo
    report = run(_find(job), since=since, until=until, values=value, only=cast("Only", only), tell=tell)
    if as_json:
        typer.echo(json.dumps({**asdict(report), "rows": report.rows}))
    else:
        typer.echo(
            f"{len(report.done) - len(report.failed)} made, {len(report.failed)} failed, {report.skipped} skipped."
        )
    if report.failed:
        raise typer.Exit(1)


@not_audited("It only looks.")
def batch_list(
    job: str = typer.Argument(help="MODULE:NAME of a BatchJob."),
    since: str = typer.Option("", help="The first partition."),
    until: str = typer.Option("", help="The last partition; without it, that of --since."),
    value: list[str] = typer.Option([], help="A partition of a job by value; may be given again."),
    only: str = typer.Option("missing", help="missing, failed, changed or all."),
) -> None:
    """Which partitions a run would make, one a line; changes nothing.

    Example: workbench batch list jobs.delays:delays --since 2013-01-01 --until 2013-01-31
    """
    from workbench.batch.jobs import choose
    from workbench.batch.partitions import make_partitions
    from workbench.warehouse.bookmarks import read_bookmarks

    found = _find(job)
    partitions = make_partitions(found.by, since=since, until=until, values=value, zone=found.zone)
    for each in choose(found, partitions, read_bookmarks(Settings.load().warehouse, found.name), cast("Only", only)):
        typer.echo(each.name)


@not_audited("It only looks.")
def batch_bookmarks(
    job: str = typer.Argument("", help="Name of a job; without it, all."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON list."),
) -> None:
    """Which partitions the warehouse has, or failed to get.

    Example: workbench batch bookmarks delays
    """
    from workbench.warehouse.bookmarks import read_bookmarks

    found = read_bookmarks(Settings.load().warehouse, job)
    if as_json:
        typer.echo(json.dumps([{**asdict(each), "updated_at": each.updated_at.isoformat()} for each in found]))
        return
    view = Table("job", "partition", "state", "rows", "code", "updated", "error", box=None, header_style="bold")
    for each in found:
        rows = "" if each.rows is None else f"{each.rows:,}"
        error = each.error.splitlines()[0] if each.error else ""
        view.add_row(
            each.job, each.partition, each.state, rows, each.code, f"{each.updated_at:%Y-%m-%d %H:%M:%S}", error
        )
    plain_console().print(view)


def _find(reference: str) -> BatchJob:
    """The job that MODULE:NAME means.

    Raises:
        SettingsError: when there is no such module or job.
    """
    from workbench.batch import BatchJob

    module, colon, name = reference.partition(":")
    if not (module and colon and name):
        raise SettingsError([f"{reference!r} is no job. Write MODULE:NAME, such as jobs.delays:delays."])
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        # A module that the job imports and that is not there is its own matter.
        if error.name is None or not module.startswith(error.name):
            raise
        raise SettingsError([f"There is no module {error.name}. Run the command where it can be imported."]) from None
    if not isinstance(found, BatchJob):
        raise SettingsError([f"{module} has no BatchJob {name}."])
    return found
