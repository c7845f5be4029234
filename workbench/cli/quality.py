"""`workbench quality`: what is expected of tables, compared with what is in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from workbench.console import plain_console
from workbench.quality import check_table
from workbench.resources import resource
from workbench.security.audit.commands import not_audited
from workbench.settings import Settings

if TYPE_CHECKING:
    from workbench.transformation.quality.result import Result


def add_commands(application: typer.Typer) -> None:
    """Register the commands of this module."""
    group = typer.Typer(help="Expectations of tables: pipelines/quality/.", no_args_is_help=True)
    group.callback()(_group)
    group.command("check")(quality_check)
    application.add_typer(group, name="quality")


@not_audited("It counts what breaks an expectation, and shows no row.")
def quality_check(
    table: str = typer.Argument(help="A table, or a file of pipelines/quality/ without .yaml."),
    file: Path | None = typer.Option(None, help="A file of expectations other than that of pipelines/quality/."),
    record: bool = typer.Option(True, help="Write what was found into workbench.quality_results."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Compare a table of the warehouse with what is expected of it, in SQL; needs no Spark.

    Exits with 1 when something of the severity quarantine or stop was found.

    Example: workbench quality check raw.flights
    """
    from workbench.transformation.quality.declarations import find_declaration, read_declaration

    declaration = read_declaration(file) if file else find_declaration(resource("pipelines") / "quality", table)
    result = check_table(Settings.load(), declaration, record=record)
    if as_json:
        typer.echo(json.dumps(_as_dict(result)))
    else:
        _print(result)
    result.raise_for_stop()
    if any(each.severity != "warn" for each in result.broken):
        raise typer.Exit(1)


def _group() -> None:
    """Keep `check` a command of its own, while it is the only one."""


def _print(result: Result) -> None:
    view = Table("", "expectation", "severity", "rows", "failed", "found", box=None, header_style="bold")
    for each in result.outcomes:
        numbers = (f"{each.checked:,}", f"{each.failed:,}")
        view.add_row("ok" if each.passed else "FAILED", each.name, str(each.severity), *numbers, each.explanation)
    plain_console().print(view)


def _as_dict(result: Result) -> dict[str, object]:
    return {
        "table": result.table,
        "at": result.at.isoformat(),
        "rows": result.rows,
        "passed": result.passed,
        "expectations": result.records(),
    }
