"""`workbench logs`: what the processes of this WORKBENCH_HOME have logged, joined by time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path

import typer

from workbench.cli.shown import parse_time
from workbench.errors import WorkbenchError
from workbench.logs.files import Log, find_logs, last_lines
from workbench.logs.lines import LEVELS, Line, Wanted
from workbench.security.audit.commands import not_audited
from workbench.settings import find_home

LOOK_SECONDS = 0.5


def add_commands(application: typer.Typer) -> None:
    """Register the command of this module."""
    application.command()(logs)


@not_audited("It only looks, at files of its own user.")
def logs(  # noqa: PLR0917
    component: str = typer.Argument("", help="Of whom: hub, kafka, flow:NAME and others; by default of all."),
    follow: bool = typer.Option(False, "--follow", "-f", help="Go on with what is written, until Ctrl-C."),
    lines: int = typer.Option(100, "--lines", "-n", min=0, help="How many of the last events to begin with."),
    run: str = typer.Option("", "--run", help="Only of this run of a pipeline."),
    request: str = typer.Option("", "--request", help="Only of this request: X-Request-ID of its answer."),
    level: str = typer.Option("", "--level", help="Only from this level on: debug, info, warning, error, critical."),
    since: str = typer.Option("", "--since", help="From this time on: 2026-01-31T08:00, or 90m, 12h, 7d ago."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object for each event."),
) -> None:
    """Print what the workbench has logged, the oldest first, with what was kept of earlier logs.

    Example: workbench logs --run 17 --level warning
    """
    if level and level.upper() not in LEVELS:
        raise WorkbenchError(f"{level!r} is no level", remedy="Write debug, info, warning, error or critical.")
    wanted = Wanted(run=run, request=request, level=LEVELS.get(level.upper(), ""), since=parse_time(since))
    home = find_home()
    found = _found(home, component, {})
    if not found and not follow:
        known = ", ".join(find_logs(home)) or "nothing yet"
        raise WorkbenchError(
            f"there is no log of {component or 'anything'} in {home / 'logs'}", remedy=f"There is: {known}."
        )
    _print(last_lines(found.values(), wanted, lines), as_json=as_json)
    while follow:
        time.sleep(LOOK_SECONDS)
        # A component that was started meanwhile has a log only now.
        found = _found(home, component, found)
        _print(last_lines(found.values(), wanted, None), as_json=as_json)


def _found(home: Path, component: str, known: dict[str, Log]) -> dict[str, Log]:
    logs = {name: path for name, path in find_logs(home).items() if not component or name == component}
    return {name: known.get(name) or Log(name, path) for name, path in logs.items()}


def _print(found: Iterable[Line], *, as_json: bool) -> None:
    for line in found:
        typer.echo(json.dumps(line.as_fields()) if as_json else line.as_text())
