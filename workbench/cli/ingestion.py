"""`workbench ingest`, `verify` and `lag`: flows from the command line.

Drivers are imported by the command that uses them: `workbench status` waits for none.
"""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import typer
from rich.live import Live
from rich.table import Table

from workbench.cli.shown import records_bar
from workbench.console import plain_console
from workbench.resources import resource
from workbench.security.audit import Action
from workbench.security.audit.commands import audited, not_audited
from workbench.settings import Settings

if TYPE_CHECKING:
    from workbench.ingestion.definition import Flow
    from workbench.ingestion.verification import PartitionReport

WATCH_SECONDS = 2.0


def add_commands(application: typer.Typer) -> None:
    """Register the commands of this module."""
    ingest = typer.Typer(help="Flows from topics to tables: pipelines/flows/.", no_args_is_help=True)
    ingest.command("run")(ingest_run)
    ingest.command("plan")(ingest_plan)
    ingest.command("replay")(ingest_replay)
    application.add_typer(ingest, name="ingest")
    application.command()(verify)
    application.command()(lag)


@audited(Action.DATA_WRITTEN, "flow:{name}")
def ingest_run(
    name: str = typer.Argument(help="The flow: a file of pipelines/flows/ without .yaml."),
    follow: bool = typer.Option(
        False, "--follow", help="Go on with what arrives, shared with other workers, until interrupted."
    ),
    metrics_port: int = typer.Option(0, help="With --follow: serve Prometheus metrics on this port of 127.0.0.1."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Bring what the topic holds now into the table, each record exactly once. Ctrl-C loses nothing.

    Example: workbench ingest run flights
    """
    from workbench.flows import follow_flow, ingest_flow

    if metrics_port and not follow:
        raise typer.BadParameter("--metrics-port is for --follow")
    settings, flow = Settings.load(), named_flow(name)
    if flow.engine == "stream":
        _run_stream(settings, flow, follow=follow, metrics_port=metrics_port)
        return
    with records_bar(f"{flow.topic} → {flow.into}") as progress:
        if follow:
            # `kill` ends a worker as Ctrl-C does: it leaves the group, and another takes over at once.
            signal.signal(signal.SIGTERM, _interrupt)
            _tell_news(settings)
            if metrics_port:
                from workbench.observability.metrics import serve_metrics

                serve_metrics(metrics_port)
            follow_flow(settings, flow, progress)
            return
        done = ingest_flow(settings, flow, progress)
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "flow": name,
                    "rows": done.rows,
                    "dead": done.dead,
                    "filtered": done.filtered,
                    "seconds": round(done.seconds, 3),
                }
            )
        )
    else:
        left_out = f", {done.filtered:,} left out by steps" if done.filtered else ""
        typer.echo(
            f"{flow.topic} → {flow.into}: {done.rows:,} rows, {done.dead:,} dead letters{left_out} in {done.seconds:.1f} s"
        )


def _tell_news(settings: Settings) -> None:
    """What follows a topic tells more than other commands, unless the settings say how much."""
    if not settings.logs.level:
        logging.getLogger("workbench").setLevel(logging.INFO)


def _run_stream(settings: Settings, flow: Flow, *, follow: bool, metrics_port: int) -> None:
    """Run a streaming query; Ctrl-C and `kill` let its batch end."""
    from workbench.observability.metrics import serve_metrics
    from workbench.streams import run_stream

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    _tell_news(settings)
    if metrics_port:
        serve_metrics(metrics_port)
    run_stream(settings, flow, follow=follow, stop=stop)


@not_audited("It reads a sample to infer columns, and writes a file of the project.")
def ingest_plan(
    name: str = typer.Argument(help="The flow."),
    write: bool = typer.Option(False, "--write", help="Write the inferred columns into the flow's file."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Show what `ingest run` would do: columns, table, where it begins, how much there is. Changes nothing.

    Example: workbench ingest plan flights
    """
    from workbench.ingestion.decoding import TYPES
    from workbench.inspection import plan_flow

    flow = named_flow(name)
    plan = plan_flow(Settings.load(), flow)
    if write and flow.columns is None:
        if unknown := [f"{column} ({kind})" for column, kind in plan.columns.items() if kind not in TYPES]:
            raise typer.BadParameter(
                f"these columns have types that a flow's file has no name for: {', '.join(unknown)}"
            )
        path = _flows() / f"{name}.yaml"
        lines = [f"  {column}: {kind}\n" for column, kind in plan.columns.items()]
        path.write_text(path.read_text(encoding="utf-8").rstrip() + "\ncolumns:\n" + "".join(lines), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(asdict(plan)))
        return
    typer.echo(f"{flow.topic} → {flow.into} ({flow.mode}, contract {flow.contract})")
    typer.echo(f"table:   {plan.table}")
    typer.echo(f"columns: {plan.origin}")
    typer.echo("\n".join(f"  {column}: {kind}" for column, kind in plan.columns.items()))
    typer.echo(f"records: {plan.records:,} to read, from {plan.start}")


@audited(Action.DATA_WRITTEN, "flow:{name}")
def ingest_replay(
    name: str = typer.Argument(help="The flow."),
    since: str = typer.Option(
        "earliest", "--from", help="Where to begin: earliest, or a time such as 2026-01-01T00:00:00Z."
    ),
    keep: bool = typer.Option(False, "--keep", help="Keep the old rows, in a new table."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Fill a shadow table from the topic, verify it, and put it in the table's place; the live flow may go on.

    Example: workbench ingest replay flights --from 2026-01-01T00:00:00Z
    """
    from workbench.replay import replay_flow

    start, flow = since if since == "earliest" else _time(since), named_flow(name)
    with records_bar(f"{flow.topic} → shadow of {flow.into}") as progress:
        done = replay_flow(Settings.load(), flow, start, progress, keep=keep)
    if as_json:
        typer.echo(json.dumps(asdict(done)))
        return
    old = f"; the old table is {done.kept}" if done.kept else ""
    typer.echo(f"{flow.into}: {done.rows:,} rows and {done.dead:,} dead letters took the place of the old ones{old}")


@not_audited("It compares counts and sums.")
def verify(
    topic: str = typer.Argument(help="A flow, or a topic."),
    table: str = typer.Argument("", help="With a topic: the table, schema.table."),
    merge: bool = typer.Option(False, "--merge", help="With a topic: the table has one row for each key."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Prove that a table has each record of a topic once, as row or dead letter; exit 1 when it has not.

    Example: workbench verify flights raw.flights
    """
    from workbench.inspection import verify_flow

    flow = _flow_to_verify(topic, table, merge=merge)
    reports = verify_flow(Settings.load(), flow)
    right = all(each.is_right for each in reports)
    if as_json:
        typer.echo(json.dumps({"right": right, "partitions": [asdict(each) for each in reports]}))
    else:
        _print_reports(reports)
    raise typer.Exit(0 if right else 1)


def _flow_to_verify(topic: str, table: str, *, merge: bool) -> Flow:
    from workbench.inspection import find_flow
    from workbench.loading import Mode

    flow = find_flow(declared_flows(), topic, table) if table else named_flow(topic)
    return replace(flow, mode=Mode.MERGE) if merge else flow


def _print_reports(reports: Sequence[PartitionReport]) -> None:
    console = plain_console()
    console.print(_verify_table(reports))
    for each in reports:
        if each.examples:
            console.print(f"partition {each.partition}, for example: {', '.join(map(str, each.examples))}")
    rows, dead = sum(each.rows for each in reports), sum(each.dead for each in reports)
    missing, doubled = sum(each.missing for each in reports), sum(each.doubled for each in reports)
    console.print(f"{rows:,} rows, {dead:,} dead letters: {missing} missing, {doubled} doubled")


def _verify_table(reports: Sequence[PartitionReport]) -> Table:
    filtered = ("filtered",) if any(each.filtered for each in reports) else ()
    names = ("partition", "first", "next", "rows", "dead", *filtered, "missing", "doubled", "outside", "unknown", "lag")
    view = Table(*names, box=None, header_style="bold")
    for each in reports:
        view.add_row(*(f"{getattr(each, name):,}" for name in names))
    return view


@not_audited("It only looks.")
def lag(
    name: str = typer.Argument("", help="A flow; without it, every flow that has run."),
    watch: bool = typer.Option(False, "--watch", help="Show it anew every two seconds until interrupted."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON array."),
) -> None:
    """Show how far tables are behind their topics, in records and in seconds.

    Example: workbench lag --watch
    """
    from workbench.inspection import lag_of_flows

    settings = Settings.load()
    flow = named_flow(name) if name else None
    if as_json:
        found = [
            {"topic": topic, "table": table, "records": each.records, **asdict(each)}
            for topic, table, lags in lag_of_flows(settings, flow, declared_flows())
            for each in lags
        ]
        typer.echo(json.dumps(found))
        return
    console = plain_console()
    if not watch:
        console.print(_lag_table(settings, flow))
        return
    with Live(_lag_table(settings, flow), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(WATCH_SECONDS)
            live.update(_lag_table(settings, flow), refresh=True)


def _lag_table(settings: Settings, flow: Flow | None) -> Table:
    from workbench.inspection import lag_of_flows

    view = Table("topic", "table", "partition", "next", "end", "records", "seconds", box=None, header_style="bold")
    for topic, table, lags in lag_of_flows(settings, flow, declared_flows()):
        for each in lags:
            numbers = (each.partition, each.next_offset, each.end_offset, each.records)
            view.add_row(topic, table, *(f"{number:,}" for number in numbers), f"{each.seconds:,.1f}")
    return view


def named_flow(name: str) -> Flow:
    """The flow of a file of pipelines/flows/."""
    from workbench.ingestion.definition import read_flow

    return read_flow(_flows(), name)


def declared_flows() -> list[Flow]:
    """Every flow that has a file."""
    from workbench.ingestion.definition import read_flows

    return list(read_flows(_flows()))


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise typer.BadParameter(f"{text!r} is neither earliest nor a time with its zone, such as 2026-01-01T00:00:00Z")
    return time


def _flows() -> Path:
    return resource("pipelines") / "flows"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
