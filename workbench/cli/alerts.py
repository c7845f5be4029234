"""`workbench alerts channels` and `test`: where alerts go, and whether they arrive. Those on metrics are in `alert_rules`."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

import typer
from rich.table import Table

from workbench.cli import alert_rules
from workbench.console import plain_console
from workbench.errors import WorkbenchError
from workbench.observability.notifications import (
    Channel,
    Notification,
    Outcome,
    Result,
    Severity,
    Unconfigured,
    find_address,
    load_channels,
    send,
)
from workbench.resolving import References
from workbench.resources import resource
from workbench.security.audit.commands import not_audited
from workbench.security.references import references_of
from workbench.settings import Settings

FILE = typer.Option(None, "--file", help="A file other than pipelines/alerts.yaml.")
JSON = typer.Option(False, "--json", help="Print one JSON object.")


def add_commands(application: typer.Typer) -> None:
    """Register the commands of this module."""
    group = typer.Typer(help="Alerts and their channels: pipelines/alerts.yaml.", no_args_is_help=True)
    group.command("channels")(alerts_channels)
    group.command("test")(alerts_test)
    alert_rules.add_commands(group)
    application.add_typer(group, name="alerts")


@not_audited("It only looks, and shows no address.")
def alerts_channels(file: Path | None = FILE, as_json: bool = JSON) -> None:
    """List the channels, and whether each has an address where its reference says. Sends nothing, shows no address.

    The environment of this command is looked at. That of the scheduler may be another.

    Example: workbench alerts channels
    """
    references = _references()
    found = [(each, _missing(each, references)) for each in _channels(file).values()]
    if as_json:
        rows = [
            {"name": each.name, "reference": each.reference, "configured": not missing, "problem": missing or None}
            for each, missing in found
        ]
        typer.echo(json.dumps({"channels": rows}))
        return
    view = Table("channel", "address is at", "", box=None, header_style="bold")
    for each, missing in found:
        view.add_row(each.name, each.reference, missing or "configured")
    plain_console().print(view)


@not_audited("It sends a fixed text to channels of the file, and changes nothing.")
def alerts_test(
    name: str = typer.Argument("", help="The channel; without one, all of them."),
    file: Path | None = FILE,
    as_json: bool = JSON,
) -> None:
    """Send a test message, and say what became of it. Exits with 1 when one has not been taken.

    Example: workbench alerts test slack
    """
    channels = _channels(file)
    if name and name not in channels:
        raise WorkbenchError(
            f"there is no channel {name!r}; known are {', '.join(channels) or 'none'}",
            remedy="Name one of them, or declare it in pipelines/alerts.yaml.",
        )
    if not channels:
        raise WorkbenchError("there are no channels", remedy="Declare some in pipelines/alerts.yaml.")
    message = Notification(
        title="Test of the workbench's alerts",
        body="`workbench alerts test` has sent this. Nothing is wrong.",
        key=f"test/{uuid.uuid4().hex}",
        severity=Severity.INFO,
    )
    references = _references()
    results = [(each, send(channels[each], message, references)) for each in ([name] if name else channels)]
    if as_json:
        rows = [
            {"name": each, "result": outcome.result, "reason": outcome.reason, "remedy": outcome.remedy}
            for each, outcome in results
        ]
        typer.echo(json.dumps({"channels": rows}))
    else:
        for each, outcome in results:
            typer.echo(_as_text(each, outcome))
    if any(outcome.result is not Result.SENT for _, outcome in results):
        raise typer.Exit(1)


def _channels(file: Path | None) -> dict[str, Channel]:
    if file is not None and not file.is_file():
        raise WorkbenchError(f"there is no file {file}", remedy="Give the path of a file of channels.")
    return dict(load_channels(file or resource("pipelines") / "alerts.yaml").channels)


def _missing(channel: Channel, references: References) -> str:
    try:
        find_address(channel, references)
    except Unconfigured as error:
        return error.message.removeprefix(f"channel {channel.name}: ")
    return ""


def _references() -> References:
    return references_of(Settings.load(), os.environ)


def _as_text(name: str, outcome: Outcome) -> str:
    if outcome.result is Result.SENT:
        return f"{name}: sent"
    remedy = f"\n  Remedy: {outcome.remedy}" if outcome.remedy else ""
    return f"{name}: not sent: {outcome.reason}{remedy}"
