"""How one load gets into Redshift: files, temporary tables, then the tables; each step in a transaction of the caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import sqlalchemy as sa

from workbench.errors import WarehouseError
from workbench.loading import Load, Target
from workbench.warehouse.dialects import redshift_sql as sql
from workbench.warehouse.dialects.evolution import find_changes, inexact, inexact_query
from workbench.warehouse.dialects.redshift_stage import Area, find_refused, without_long_headers
from workbench.warehouse.refused import rows_refused
from workbench.warehouse.schema import arrow_type, quoted, split_name

ROWS, LETTERS, DELETED = "workbench_rows", "workbench_letters", "workbench_deleted"


@dataclass(frozen=True)
class Column:
    """A column of a table that is there."""

    type: pa.DataType | None  #: None when flows cannot write it
    nullable: bool
    length: int  #: in bytes, of a text of limited length; else 0


def read_columns(connection: sa.Connection, table: str) -> dict[str, Column]:
    """The columns of a table, by name."""
    schema, name = split_name(table)
    return {
        each["name"]: Column(
            arrow_type(each["type"]), bool(each["nullable"]), getattr(each["type"], "length", None) or 0
        )
        for each in sa.inspect(connection).get_columns(name, schema)
    }


def refuse_rows(target: Target, load: Load, columns: Mapping[str, Column]) -> None:
    """Look for rows that the table would refuse.

    Raises:
        RowsRefused: with the reason for each.
    """
    nullable = {name: column.nullable for name, column in columns.items()}
    lengths = {name: column.length for name, column in columns.items() if column.length}
    reasons = find_refused(load.rows, nullable, lengths)
    if reasons:
        raise rows_refused(target, reasons, {})


def stage_load(
    connection: sa.Connection, area: Area, load: Load, *, name: str, parts: Mapping[str, pa.Table], keys: list[str]
) -> list[str]:
    """Fill a temporary table for each kind of rows that there are, by one COPY each, and return their names.

    Args:
        connection: in a transaction.
        area: where the files go.
        load: what is to be written.
        name: what the names of its files begin with.
        parts: the rows of the load, by the key of their file.
        keys: gets the keys of all files that were written.

    Raises:
        WarehouseError: when a COPY has read fewer rows than there are.
    """
    wanted = [(ROWS, load.rows, parts)]
    for stage, rows in ((DELETED, load.deleted), (LETTERS, without_long_headers(load.dead_letters))):
        if rows is not None:
            wanted.append((stage, rows, {f"{name}.{stage}.parquet": rows}))
    wanted = [each for each in wanted if each[1].num_rows]
    for stage, rows, files in wanted:
        manifest = area.write(f"{name}.{stage}", files, keys)
        run(
            connection,
            sql.stage_statement(stage, rows.schema),
            sql.copy_statement(stage, manifest, area.iam_role),
        )
        copied = connection.exec_driver_sql(f"SELECT count(*) FROM {quoted(stage)}").scalar_one()
        if copied != rows.num_rows:
            raise WarehouseError(
                f"COPY has read {copied} rows of {manifest}, which has {rows.num_rows}",
                remedy="Nothing was written. SYS_LOAD_HISTORY says what the COPY has read.",
            )
    return [stage for stage, _, _ in wanted]


def write_load(connection: sa.Connection, target: Target, load: Load, stages: Sequence[str]) -> None:
    """Move what the temporary tables hold into the tables, which get the columns that they lack."""
    columns = read_columns(connection, target.table)
    for change in find_changes(load.rows.schema, {name: column.type for name, column in columns.items()}):
        _alter(connection, target.table, change, columns)
    if DELETED in stages:
        assert load.deleted is not None
        run(connection, sql.delete_statement(target.table, DELETED, load.deleted.schema))
    if ROWS in stages and target.key:
        run(connection, *sql.merge_statements(target.table, ROWS, load.rows.schema, target.key))
    elif ROWS in stages:
        run(connection, sql.append_statement(target.table, ROWS, load.rows.schema))
    if LETTERS in stages:
        run(connection, sql.append_statement(target.dead_letters, LETTERS, load.dead_letters.schema))


def run(connection: sa.Connection, *statements: str) -> None:
    """Run statements without parameters; the driver looks for some all the same."""
    for statement in statements:
        connection.exec_driver_sql(statement.replace("%", "%%"))


def _alter(connection: sa.Connection, table: str, column: pa.Field, columns: Mapping[str, Column]) -> None:
    """Add a column or widen it; rows that are there keep their values, or get null."""
    found = columns.get(column.name)
    if found is not None and not found.nullable:
        raise WarehouseError(
            f"column {column.name} of {table} is NOT NULL: Redshift cannot widen it with its rows in place",
            remedy="Make a table with the wider column by hand, or ingest into a new one.",
        )
    if found is not None and found.type == pa.int64():
        query = inexact_query(quoted(*split_name(table)), column.name)
        if connection.exec_driver_sql(query.replace("%", "%%")).scalar_one():
            raise inexact(table, column.name, sql.column_type(column))
    types = {name: each.type for name, each in columns.items()}
    run(connection, *sql.alter_statements(table, column, types))
