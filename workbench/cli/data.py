"""`workbench sql`: the warehouse from the command line."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.table import Table

from workbench.security.audit import Action
from workbench.security.audit.commands import audited
from workbench.settings import Settings

SHOWN_ROWS = 100


def add_commands(application: typer.Typer) -> None:
    """Register the commands of this module."""
    application.command()(sql)


@audited(Action.DATA_QUERIED, "warehouse")
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
