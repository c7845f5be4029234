"""`workbench sql`, `topics` and `ingest`: the data from the command line.

Drivers are imported by the command that uses them: `workbench status` waits for none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from workbench.resources import resource
from workbench.settings import Settings

SHOWN_ROWS = 100


def add_commands(application: typer.Typer) -> None:
    """Register the commands of this module."""
    application.command()(sql)
    topics = typer.Typer(help="Topics as code: pipelines/topics.yaml.", no_args_is_help=True)
    topics.command("plan")(topics_plan)
    topics.command("apply")(topics_apply)
    application.add_typer(topics, name="topics")
    ingest = typer.Typer(help="Flows from topics to tables: pipelines/flows/.", no_args_is_help=True)
    ingest.command("run")(ingest_run)
    ingest.callback()(_ingest)
    application.add_typer(ingest, name="ingest")


def sql(
    query: str = typer.Argument(help="SQL of the warehouse."),
    as_json: bool = typer.Option(False, "--json", help="Print a JSON array of all rows."),
) -> None:
    """Ask the warehouse.

    Example: workbench sql "SELECT carrier, count(*) FROM raw.flights GROUP BY carrier" --json
    """
    from workbench.warehouse.engine import read_frame

    frame = read_frame(Settings.load().warehouse, query, {})
    if as_json:
        typer.echo(frame.to_json(orient="records", date_format="iso"))
        return
    table = Table(*map(str, frame.columns), box=None, header_style="bold")
    for row in frame.head(SHOWN_ROWS).itertuples(index=False):
        table.add_row(*("" if value is None else str(value) for value in row))
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(table)
    if len(frame) > SHOWN_ROWS:
        console.print(f"… {len(frame) - SHOWN_ROWS} more rows; --json prints all")


def topics_plan(
    file: Path | None = typer.Option(None, help="A topics file other than pipelines/topics.yaml."),
) -> None:
    """Show what `topics apply` would do.

    Example: workbench topics plan
    """
    from workbench.ingestion.connection import KafkaConnection
    from workbench.ingestion.topics import plan_topics, read_topics

    changes = plan_topics(KafkaConnection.from_settings(Settings.load().kafka), read_topics(file or _topics_file()))
    _print_changes((change.action, change.detail) for change in changes)


def topics_apply(
    file: Path | None = typer.Option(None, help="A topics file other than pipelines/topics.yaml."),
) -> None:
    """Create and grow topics until the cluster has what the file asks for; refuse what loses data.

    Example: workbench topics apply
    """
    from workbench.ingestion.connection import KafkaConnection
    from workbench.ingestion.topics import apply_topics, read_topics

    changes = apply_topics(KafkaConnection.from_settings(Settings.load().kafka), read_topics(file or _topics_file()))
    _print_changes(("done", change.detail) for change in changes)


def _print_changes(changes: Iterable[tuple[str, str]]) -> None:
    lines = [f"{action:<7} {detail}" for action, detail in changes]
    typer.echo("\n".join(lines) or "The cluster has what the file asks for.")


def _ingest() -> None:
    """Flows from topics to tables: pipelines/flows/."""


def ingest_run(
    name: str = typer.Argument(help="The flow: a file of pipelines/flows/ without .yaml."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Bring what the topic holds now into the table, each record exactly once. Ctrl-C loses nothing.

    Example: workbench ingest run flights
    """
    from workbench.ingestion.definition import read_flow
    from workbench.notebook import ingest_flow

    settings = Settings.load()
    flow = read_flow(resource("pipelines") / "flows", name)
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description} {task.completed:,.0f} records"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(f"{flow.topic} → {flow.into}", total=None)
        done = ingest_flow(settings, flow, lambda count: bars.advance(task, count))
    if as_json:
        typer.echo(json.dumps({"flow": name, "rows": done.rows, "dead": done.dead, "seconds": round(done.seconds, 3)}))
    else:
        typer.echo(
            f"{flow.topic} → {flow.into}: {done.rows:,} rows, {done.dead:,} dead letters in {done.seconds:.1f} s"
        )


def _topics_file() -> Path:
    return resource("pipelines") / "topics.yaml"
