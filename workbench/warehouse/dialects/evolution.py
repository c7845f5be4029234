"""How a table differs from a load that is to be written into it."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from workbench.errors import WarehouseError
from workbench.warehouse.schema import EXACT_INTEGERS, is_wider, quoted


def find_changes(rows: pa.Schema, columns: Mapping[str, pa.DataType | None]) -> list[pa.Field]:
    """The columns of a load that the table lacks, or has too narrow."""
    return [
        field
        for field in rows
        if field.name not in columns or ((found := columns[field.name]) is not None and is_wider(field.type, found))
    ]


def fitted(rows: pa.Table, columns: Mapping[str, pa.DataType | None]) -> pa.Table:
    """The rows with the types of the table, where those are wider; integers beyond 2^53 as the nearest double."""
    for index, field in enumerate(rows.schema):
        found = columns[field.name]
        if found is not None and is_wider(found, field.type):
            # Nothing but such an integer could be refused.
            rows = rows.set_column(index, field.with_type(found), rows.column(index).cast(found, safe=False))
    return rows


def inexact_query(table: str, column: str) -> str:
    """SQL that counts the integers of a column that a double cannot hold exactly."""
    name = quoted(column)
    return f"SELECT count(*) FROM {table} WHERE {name} > {EXACT_INTEGERS} OR {name} < -{EXACT_INTEGERS}"


def inexact(table: str, column: str, kind: str) -> WarehouseError:
    """The error that a column cannot be widened without a loss."""
    return WarehouseError(
        f"column {column} of {table} holds integers that {kind} cannot hold exactly",
        remedy=f"Change the column to numeric by hand, or declare {column} as int64 and let other values be dead letters.",
    )
