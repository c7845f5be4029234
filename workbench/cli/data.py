"""`workbench sql` and `ingest`: the data from the command line.

Drivers are imported by the command that uses them: `workbench status` waits for none.
"""

from __future__ import annotations

import json

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
    from workbench.flows import ingest_flow

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
