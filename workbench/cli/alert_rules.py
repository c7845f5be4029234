"""`workbench alerts list`, `compile`, `dashboards`, `silence`, `silences` and `unsilence`: alerts on metrics."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import typer
from rich.table import Table

from workbench.console import plain_console
from workbench.errors import WorkbenchError
from workbench.observability.alerts.prometheus import as_rule_file
from workbench.observability.alerts.rules import Rule, load_rules
from workbench.observability.alerts.samples import Labels, labels_of
from workbench.observability.alerts.states import Alert, Stage
from workbench.observability.dashboards.grafana import dashboards
from workbench.observability.monitor.database import MonitorDatabase
from workbench.observability.monitor.standing import (
    SilenceWish,
    Standing,
    end_silence,
    make_silence,
    read_standing,
)
from workbench.resources import resource
from workbench.security.audit import Action
from workbench.security.audit.commands import audited, not_audited, operator
from workbench.settings import find_home

FILE = typer.Option(None, "--file", help="A file other than pipelines/alerts.yaml.")
JSON = typer.Option(False, "--json", help="Print one JSON object.")


def add_commands(group: typer.Typer) -> None:
    """Register the commands of this module."""
    group.command("list")(alerts_list)
    group.command("compile")(alerts_compile)
    group.command("dashboards")(alerts_dashboards)
    group.command("silence")(alerts_silence)
    group.command("silences")(alerts_silences)
    group.command("unsilence")(alerts_unsilence)


@not_audited("It only looks.")
def alerts_list(file: Path | None = FILE, as_json: bool = JSON) -> None:
    """List the alerts on metrics, and which of them pend or fire. Exits with 1 when one fires.

    Example: workbench alerts list
    """
    rules = _rules(file)
    found = read_standing(find_home(), rules)
    active = [(each.rule, alert) for each in found.rules for alert in each.alerts]
    if as_json:
        typer.echo(json.dumps({"evaluated": found.evaluated or None, "alerts": [_as_json(*each) for each in active]}))
    else:
        _print(rules, active, found)
    if any(alert.stage is Stage.FIRING for _, alert in active):
        raise typer.Exit(1)


@not_audited("It only reads the file of alerts.")
def alerts_compile(
    file: Path | None = FILE,
    output: Path | None = typer.Option(None, "--output", "-o", help="The file to write; without it, it is printed."),
) -> None:
    """Write the alerts on metrics as a rule file of Prometheus.

    Example: workbench alerts compile --output workbench-rules.yaml
    """
    text = as_rule_file(_rules(file))
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WorkbenchError(f"{output} cannot be written: {error.strerror}", remedy="Give another path.") from None
    typer.echo(f"{output}: written")


@not_audited("It writes what the package declares.")
def alerts_dashboards(
    folder: Path = typer.Argument(help="Where to write them, such as a folder that Grafana provisions from."),
) -> None:
    """Write the dashboards for Grafana.

    Example: workbench alerts dashboards /etc/grafana/dashboards
    """
    for name, text in dashboards().items():
        try:
            (folder / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise WorkbenchError(
                f"{folder / name} cannot be written: {error.strerror}", remedy="Give another folder."
            ) from None
        typer.echo(f"{folder / name}: written")


@audited(Action.ALERT_SILENCED, "alert:{name}")
def alerts_silence(
    name: str = typer.Argument(help="The alert; * is every one."),
    duration: str = typer.Option(..., "--for", help="How long, such as 30m, 1h30m or 2d; at most 30 days."),
    reason: str = typer.Option(..., "--because", help="Why, for those who ask later."),
    labels: list[str] = typer.Option([], "--label", help="Only for this label, such as table=raw.flights."),
    file: Path | None = FILE,
) -> None:
    """Have nobody told that an alert fires, for a while. That it is over is told all the same.

    Example: workbench alerts silence high_error_rate --for 2h --because "the source is being repaired"
    """
    wish = SilenceWish(alert=name, duration=duration, reason=reason, labels=_labels(labels))
    made = make_silence(find_home(), _rules(file), wish, operator())
    typer.echo(f"silence {made.id}: {name} until {_text(made.until)}")


@not_audited("It only looks.")
def alerts_silences(as_json: bool = JSON) -> None:
    """List the silences that are not over.

    Example: workbench alerts silences
    """
    with MonitorDatabase.of(find_home()) as database:
        found = database.silences()
    if as_json:
        rows = [{**vars(each), "labels": dict(each.labels)} for each in found]
        typer.echo(json.dumps({"silences": rows}))
        return
    view = Table("number", "alert", "labels", "until", "by", "because", box=None, header_style="bold")
    for each in found:
        labels = ", ".join(f"{name}={value}" for name, value in each.labels)
        view.add_row(str(each.id), each.rule or "*", labels, _text(each.until), each.made_by, each.reason)
    plain_console().print(view)


@audited(Action.ALERT_UNSILENCED, "silence:{number}")
def alerts_unsilence(
    number: int = typer.Argument(help="Of the silence, as `workbench alerts silences` shows it."),
) -> None:
    """End a silence.

    Example: workbench alerts unsilence 3
    """
    end_silence(find_home(), number)
    typer.echo(f"silence {number} is over")


def _rules(file: Path | None) -> tuple[Rule, ...]:
    if file is not None and not file.is_file():
        raise WorkbenchError(f"there is no file {file}", remedy="Give the path of a file of alerts.")
    return load_rules(file or resource("pipelines") / "alerts.yaml")


def _as_json(rule: Rule, alert: Alert) -> dict[str, object]:
    return {
        "name": rule.name, "severity": rule.severity, "state": alert.stage, "labels": dict(alert.labels),
        "value": alert.value, "active_at": alert.active_at / 1000,
    }  # fmt: skip


def _print(rules: tuple[Rule, ...], active: list[tuple[Rule, Alert]], found: Standing) -> None:
    console = plain_console()
    view = Table("alert", "severity", "condition", "state", "", box=None, header_style="bold")
    for rule in rules:
        mine = [alert for other, alert in active if other is rule]
        for alert in mine:
            labels = " ".join(f"{name}={value}" for name, value in alert.labels)
            told = f"{labels} {alert.value:.6g} since {_text(alert.active_at / 1000)}".strip()
            view.add_row(rule.name, rule.severity, rule.condition.text, alert.stage, told)
        if not mine:
            view.add_row(rule.name, rule.severity, rule.condition.text, "", "")
    console.print(view)
    if not found.evaluated:
        console.print("No monitor has evaluated them yet; `workbench up` starts one.")
    elif not found.is_watched:
        console.print(f"Evaluated last at {_text(found.evaluated)}: no monitor runs. `workbench up` starts one.")


def _labels(texts: list[str]) -> Labels:
    pairs = [each.partition("=") for each in texts]
    if wrong := [text for text, (name, sign, value) in zip(texts, pairs, strict=True) if not (name and sign and value)]:
        raise WorkbenchError(f"{wrong[0]!r} is no label", remedy="Write --label NAME=VALUE.")
    return labels_of({name: value for name, _, value in pairs})


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
