"""The tables that a file of policies removes data from, as the warehouse has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from workbench.documents import Place
from workbench.errors import PoliciesRefused, WarehouseError
from workbench.sections import WarehouseSettings
from workbench.security.policies.model import TableData
from workbench.security.policies.reading import Policies
from workbench.warehouse.schema import quoted, split_name

#: What `now()` is compared as, by the type of a column that says how old a row is.
CLOCKS = {
    "timestamp with time zone": "now()",
    "timestamp without time zone": "(now() AT TIME ZONE 'UTC')",
    "date": "(now() AT TIME ZONE 'UTC')",
}
#: Of a length that is not given (-1) a value is not cut: `character` without a length is one of a single character.
COLUMNS = """
SELECT a.attname, format_type(a.atttypid, -1) AS type, a.attnotnull, c.relkind = 'p' OR c.relhassubclass AS has_parts
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = :schema AND c.relname = :name AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped"""


@dataclass(frozen=True)
class DataTable:
    """One table, and what the file says of its data."""

    name: str  #: schema.table
    data: TableData
    types: Mapping[str, str]  #: SQL types by column, without their modifiers
    has_parts: bool  #: partitions, or tables that inherit from it: rows of several of them have one place

    @property
    def identifier(self) -> str:
        """Its name in the text of a statement."""
        return _in_text(quoted(*split_name(self.name)))

    @staticmethod
    def column(name: str) -> str:
        """The name of a column in the text of a statement."""
        return _in_text(quoted(name))


def read_data_tables(connection: sa.Connection, policies: Policies) -> tuple[DataTable, ...]:
    """The tables of the section `data`, in the order of the file.

    Raises:
        PoliciesRefused: naming each table and column that the warehouse does not have, or that cannot be what the file says.
    """
    found: list[DataTable] = []
    told: list[tuple[Place, str]] = []
    for name, data in policies.file.data.items():
        schema, table = split_name(name)
        rows = connection.execute(sa.text(COLUMNS), {"schema": schema, "name": table}).fetchall()
        if not rows:
            told.append((("data", name), f"the warehouse has no table {name}; correct the name, or take it out."))
            continue
        required = frozenset(row.attname for row in rows if row.attnotnull)
        here = DataTable(name, data, {row.attname: row.type for row in rows}, rows[0].has_parts)
        told += _misfits(here, required)
        found.append(here)
    if told:
        raise PoliciesRefused([policies.document.problem(*each) for each in told])
    return tuple(found)


def refuse_other_dialects(settings: WarehouseSettings) -> None:
    """Raise for a warehouse whose rows are not removed here.

    Raises:
        WarehouseError: when it is no PostgreSQL.
    """
    if settings.dialect != "postgresql":
        raise WarehouseError(
            f"retention and erasure are for PostgreSQL, and the warehouse is {settings.dialect}",
            remedy="Delete the rows with statements of your own.",
        )


def _in_text(identifier: str) -> str:
    # A colon begins a parameter.
    return identifier.replace(":", "\\:")


def _misfits(table: DataTable, required: frozenset[str]) -> Iterator[tuple[Place, str]]:
    place: Place = ("data", table.name)
    data = table.data
    named: dict[Place, tuple[str, ...]] = {
        **({("keep", "by"): (data.keep.by,)} if data.keep else {}),
        **{("subjects", kind): (column,) for kind, column in data.subjects.items()},
        ("erase",): () if data.erase == "rows" else data.erase,
        **{("encrypt", kind): columns for kind, columns in data.encrypt.items()},
    }
    for inner, columns in named.items():
        for column in columns:
            if column not in table.types:
                known = ", ".join(table.types)
                yield (*place, *inner), f"{table.name} has no column {column}; it has {known}."
            elif inner == ("erase",) and column in required:
                yield (*place, *inner), f"{column} may not be null; name other columns, or write rows."
            elif inner[0] == "encrypt" and table.types[column] != "text":
                kind = table.types[column]
                yield (*place, *inner), f"{column} is {kind}; what is encrypted is text: name other columns."
    if data.keep and table.types.get(data.keep.by, "date") not in CLOCKS:
        kind = table.types[data.keep.by]
        yield (*place, "keep", "by"), f"{data.keep.by} is {kind}, which says no age; name a timestamp or a date."
