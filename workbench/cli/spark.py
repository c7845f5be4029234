"""`workbench spark`: what a profile of Spark runs where, and what of it is encrypted."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from workbench.console import plain_console
from workbench.security.audit.commands import not_audited
from workbench.settings import Settings

if TYPE_CHECKING:
    from workbench.embedded.spark_check import Report


def add_commands(application: typer.Typer) -> None:
    """Register the commands of this module."""
    group = typer.Typer(help="Profiles of Spark: spark_conf/.", no_args_is_help=True)
    group.callback()(_group)
    group.command("check")(spark_check)
    application.add_typer(group, name="spark")


@not_audited("It only tries a session.")
def spark_check(
    profile: str = typer.Argument("", help="A file of spark_conf/ without .conf; by default that of the settings."),
    wait: float = typer.Option(90.0, min=1.0, help="Seconds that the first executor may take."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Start Spark with a profile, visit its executors, and say what runs where and what is encrypted.

    Nothing is left running. Exits with 1 when something is not encrypted.

    Example: workbench spark check yarn
    """
    from workbench.embedded.spark_check import check_spark

    def tell(sentence: str) -> None:
        if sys.stderr.isatty():
            typer.echo(sentence, err=True)

    report = check_spark(Settings.load(embedded=False), profile, wait_seconds=wait, tell=tell)
    if as_json:
        typer.echo(json.dumps(asdict(report)))
    else:
        _print(report)
    if not all(hop.is_safe for hop in report.hops):
        raise typer.Exit(1)


def _group() -> None:
    """Keep `check` a command of its own, while it is the only one."""


def _print(report: Report) -> None:
    console = plain_console()
    console.print(f"profile {report.profile}, master {report.master}, application {report.application}")
    console.print(f"Spark {report.spark}, ready after {report.seconds} s\n")
    view = Table("executor", "host", "pid", "cores", "memory", "Java", "Python", "at", box=None, header_style="bold")
    for each in report.executors:
        view.add_row(
            *(each.name, each.host, str(each.pid), each.cores, each.memory, each.java, each.python, each.executable)
        )
    console.print(view)
    console.print()
    for hop in report.hops:
        console.print(f"{'ok ' if hop.is_safe else 'NO '} {hop.name}: {hop.detail}", markup=False)
        if hop.remedy:
            console.print(f"    {hop.remedy}", markup=False)
