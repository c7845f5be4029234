"""What can be done from the panel of the warehouse. Nothing of it changes anything there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from workbench.cells.sql.result import SqlResult
from workbench.errors import QueryRefused
from workbench.panels.sometimes import Sometimes
from workbench.querying.scanner import parse_statements
from workbench.security.audit import Action
from workbench.security.audit.commands import audited
from workbench.settings import Settings
from workbench.warehouse.looking import look_at
from workbench.warehouse.queries import read_catalog, run_statements

TABLES_SECONDS = 30.0  #: between two readings of which tables there are
MOST_ROWS = 1_000  #: that a query of the panel fetches


class TablesWatch:
    """Which tables there are.

    Args:
        settings: the warehouse, as this account reaches it.
    """

    def __init__(self, settings: Settings) -> None:
        self._warehouse = settings.warehouse
        self._tables = Sometimes(self._read_tables, TABLES_SECONDS, ())

    def read(self) -> dict[str, Any]:
        """Fields of `WarehouseState`."""
        problems: list[str] = []
        return {"tables": self._tables.get(problems), "problems": tuple(problems)}

    def _read_tables(self) -> tuple[str, ...]:
        tables = read_catalog(self._warehouse).tables
        return tuple(f"{schema}.{table}" for schema in sorted(tables) for table in sorted(tables[schema]))


class WarehouseActions:
    """Each returns a sentence that says what was done, and raises a WorkbenchError when it was not.

    Args:
        settings: the warehouse, as this account reaches it.
        change: takes fields of the panel's state.
    """

    def __init__(self, settings: Settings, change: Callable[..., object]) -> None:
        self._warehouse, self._change = settings.warehouse, change

    @audited(Action.DATA_QUERIED, "warehouse")
    def look(self, table: str) -> str:
        """Put a table's columns, rows, freshness and quality into the state."""
        found = look_at(self._warehouse, table)
        self._change(look=found)
        return " ".join([f"{table} was looked at.", *(f"{each}." for each in found.untold)])

    @audited(Action.DATA_QUERIED, "warehouse")
    def ask(self, text: str) -> str:
        """Put the rows of a query into the state; one that might change something is refused."""
        statements = parse_statements(text, self._warehouse.dialect)
        if len(statements) != 1 or not statements[0].reads:
            raise QueryRefused(
                "this panel takes one query that changes nothing", remedy="For everything else there is %%sql."
            )
        if statements[0].names:
            raise QueryRefused(
                f":{statements[0].names[0]} has no value here", remedy="Write the value, or use %%sql, which binds it."
            )
        began = time.monotonic()
        (answer,) = run_statements(self._warehouse, statements, {}, limit=MOST_ROWS)
        seconds = time.monotonic() - began
        self._change(result=SqlResult(answer=answer, verb=statements[0].verb, seconds=seconds, show=lambda _: None))
        more = f"; there are more than these {MOST_ROWS:,}" if answer.is_cut else ""
        return f"{len(answer.rows):,} {'row' if len(answer.rows) == 1 else 'rows'} in {seconds:.2f} s{more}."
