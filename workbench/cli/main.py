"""Puts the `workbench` command together and turns errors into one message and an exit code.

Other packages add theirs through the entry point group `workbench.commands`: each entry is a
function that takes the typer application.
"""

from __future__ import annotations

import errno
import os
import sys
from importlib.metadata import entry_points

import typer
from rich.console import Console

from workbench import __version__
from workbench.cli import (
    alerts,
    audit,
    backup,
    batch,
    data,
    dead_letters,
    ingestion,
    keys,
    logs,
    machine,
    policies,
    quality,
    secrets,
    spark,
    topics,
)
from workbench.errors import WorkbenchError
from workbench.logs.beginning import begin_logs
from workbench.security.audit.commands import not_audited
from workbench.settings import log_settings

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def make_application() -> typer.Typer:
    """The whole command tree."""
    application = typer.Typer(
        name="workbench",
        help="Kafka to a SQL warehouse exactly once, Spark in every notebook, one hub for the team.\n\n"
        "Start everything: workbench up. Then, for example: workbench sql 'SELECT count(*) FROM raw.flights'",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    application.callback(invoke_without_command=True)(_root)
    machine.add_commands(application)
    data.add_commands(application)
    topics.add_commands(application)
    ingestion.add_commands(application)
    dead_letters.add_commands(application)
    quality.add_commands(application)
    policies.add_commands(application)
    spark.add_commands(application)
    batch.add_commands(application)
    audit.add_commands(application)
    keys.add_commands(application)
    secrets.add_commands(application)
    backup.add_commands(application)
    alerts.add_commands(application)
    logs.add_commands(application)
    for entry in sorted(entry_points(group="workbench.commands"), key=lambda entry: entry.name):
        entry.load()(application)
    return application


def main() -> None:
    """Run the command line; exit 0 when it worked, 1 when something was found, 2 when it could not be tried."""
    # Whatever we and the servers that we start write is private, users' notebooks included.
    os.umask(0o077)
    try:
        begin_logs("command", log_settings().options, default_level="warning", is_brief=sys.stderr.isatty())
        make_application()(standalone_mode=True)
    except WorkbenchError as error:
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print("Error:", error.message, style="red", markup=False)
        if error.remedy:
            console.print("Remedy:", error.remedy, markup=False)
        sys.exit(error.exit_code)
    except OSError as error:
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        message, remedy = system_error(error)
        console.print(f"Error: {message}", style="red", markup=False)
        console.print(f"Remedy: {remedy}", markup=False)
        sys.exit(WorkbenchError.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def system_error(error: OSError) -> tuple[str, str]:
    """What the system refused, and the remedy."""
    place = error.filename or "a file"
    if isinstance(error, PermissionError) and error.filename:
        remedy = "run the command as the user who made that folder, or set WORKBENCH_HOME to another."
        return f"{place} may not be read or written by this user", remedy
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return (
            f"there is no room for {place}: {error.strerror}",
            "free some space there, or set WORKBENCH_HOME to a folder on another disk.",
        )
    if error.errno == errno.EROFS:
        return f"{place} is on a disk that is read only", "set WORKBENCH_HOME to a folder that can be written."
    return str(error), "see what `workbench doctor` finds."


@not_audited("It prints the version.")
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        typer.echo(f"workbench {__version__}")
        raise typer.Exit
