"""`workbench sql`: the warehouse from the command line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal
from numbers import Integral
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Column, Table

from workbench.console import plain_console
from workbench.errors import WarehouseError
from workbench.nulls import is_pandas_null
from workbench.security.audit import Action
from workbench.security.audit.commands import audited
from workbench.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

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
        typer.echo(frame_as_json(frame))
        return
    table = Table(*(Column(str(name), overflow="fold") for name in frame.columns), box=None, header_style="bold")
    for row in frame.head(SHOWN_ROWS).itertuples(index=False, name=None):
        table.add_row(*("" if _is_null(value) else str(value) for value in row))
    console = plain_console()
    console.print(table)
    if len(frame) > SHOWN_ROWS:
        console.print(f"… {len(frame) - SHOWN_ROWS} more rows; --json prints all")


def frame_as_json(frame: pd.DataFrame) -> str:
    """A JSON array with an object for each row, in which no value is rounded or cut.

    Raises:
        WarehouseError: when two columns have one name: an object would hold only one of them.
    """
    names = [str(name) for name in frame.columns]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise WarehouseError(
            f"two columns of the answer are called {doubled!r}", remedy="Name one of them otherwise with AS."
        )
    rows = frame.itertuples(index=False, name=None)
    objects = [dict(zip(names, map(_as_json, row), strict=True)) for row in rows]
    return json.dumps(objects, ensure_ascii=False, separators=(",", ":"))


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _as_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(each) for each in value]
    if _is_null(value) or isinstance(value, bool):
        return None if _is_null(value) else value
    if isinstance(value, Integral):
        return int(value)
    return value if isinstance(value, float) and math.isfinite(value) else _as_text(value)


def _as_text(value: Any) -> str:
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    # Decimals are texts, too: readers of JSON round numbers.
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _is_null(value: Any) -> bool:
    """Whether it is None, NaN, or what pandas has for a missing time or whole number."""
    if value is None or (isinstance(value, Decimal) and value.is_nan()):
        return True
    return is_pandas_null(value) or (isinstance(value, float) and math.isnan(value))
