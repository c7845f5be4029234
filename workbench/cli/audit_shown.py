"""What `workbench audit` reads from its options, and how it shows events and reports."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from workbench.cli.shown import parse_time
from workbench.security.audit import Event, Search

if TYPE_CHECKING:
    from workbench.security.audit.proof.verification import Report

COLUMNS = ("time", "actor", "action", "resource", "outcome", "details", "id")


class Format(StrEnum):
    """Of an export."""

    OCSF = "ocsf"
    CSV = "csv"


def make_search(actor: str, action: str, resource: str, outcome: str, since: str, until: str) -> Search:  # noqa: PLR0917
    """What the options of `search` and `export` say."""
    return Search(
        actor=actor, action=action, resource=resource, outcome=outcome, since=parse_time(since), until=parse_time(until)
    )  # fmt: skip


def print_event(event: Event, *, as_json: bool) -> None:
    """Print an event as a line."""
    if as_json:
        typer.echo(json.dumps(event.as_ocsf(), separators=(",", ":"), ensure_ascii=False))
        return
    details = " ".join(f"{name}={value}" for name, value in event.details.items())
    shown = f"{event.time:%Y-%m-%d %H:%M:%S}Z {event.actor or '-'} {event.action} {event.resource} {event.outcome} {details}"
    # What comes from outside moves no cursor and rings no bell.
    typer.echo("".join(each if each.isprintable() else ascii(each)[1:-1] for each in shown.rstrip()))


def write_events(events: Iterable[Event], form: Format, write: Callable[[str], object]) -> int:
    """Write events in a form; returns how many."""
    count = 0
    table = csv.writer(_Writing(write), lineterminator="\n")
    if form is Format.CSV:
        table.writerow(COLUMNS)
    for count, event in enumerate(events, 1):  # noqa: B007 - it is returned
        if form is Format.OCSF:
            write(json.dumps(event.as_ocsf(), separators=(",", ":"), ensure_ascii=False) + "\n")
            continue
        details = json.dumps(event.details, ensure_ascii=False)
        row = (event.actor, event.action, event.resource, event.outcome, details, event.id)
        table.writerow((f"{event.time:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z", *map(_harmless, row)))
    return count


class _Writing:
    """What `csv` writes to."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self.write = write


def _harmless(text: str) -> str:
    """For spreadsheets, which compute what begins like a formula (CWE-1236)."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def show_report(report: Report) -> None:
    """Print what `verify` has found."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for problem in report.problems:
        console.print(f"✗ {problem}", style="red")
    for doubt in report.doubts:
        console.print(f"? {doubt}", style="yellow")
    for note in report.notes:
        console.print(f"· {note}")
    verdict = {0: "The log is whole", 1: "The log was tampered with", 2: "It cannot be told whether the log is whole"}
    console.print(
        f"{verdict[int(report.verdict)]}: {report.events} events, {report.checkpoints} checkpoints, "
        f"{report.anchored} of anchors; the last is {report.last_checkpoint or 'none'}."
    )


def report_as_dict(report: Report) -> dict[str, object]:
    """The same as JSON."""
    return {
        "verdict": report.verdict.name.lower(),
        "events": report.events,
        "checkpoints": report.checkpoints,
        "anchored": report.anchored,
        "last_checkpoint": report.last_checkpoint,
        "problems": [{"kind": each.kind, "message": each.message, "proof": each.proof} for each in report.problems],
        "doubts": report.doubts,
        "notes": report.notes,
    }
