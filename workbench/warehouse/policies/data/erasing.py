"""Forgets a subject, such as a customer: what tables have of them goes, and goes again when it comes back.

What was erased is remembered as a keyed hash (HMAC-SHA-256, RFC 2104), so that rows which a replay, a
late record or a restored backup brings back are recognized without a list of the people who asked
to be forgotten.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from workbench.errors import WarehouseError
from workbench.sections import WarehouseSettings
from workbench.security.subjects.fingerprints import Fingerprints
from workbench.warehouse.engine import transaction
from workbench.warehouse.ledger import make_ledger
from workbench.warehouse.policies.data.tables import DataTable

ERASED = sa.Table(
    "erased",
    sa.MetaData(),
    sa.Column("kind", sa.Text, primary_key=True, comment="such as customer"),
    sa.Column("fingerprint", sa.Text, primary_key=True, comment="keyed hash of the subject"),
    sa.Column("erased_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    schema="workbench",
)
FETCHED = 10_000
CUT = ('"char"', "name")  #: types that keep the first bytes of a longer value without a word: somebody else's name


@dataclass(frozen=True)
class Subject:
    """Somebody, as tables name them."""

    kind: str
    given: str = field(repr=False)
    spellings: tuple[tuple[DataTable, str], ...] = field(
        repr=False
    )  #: each table that knows the kind, and how it writes this one

    def fingerprints(self, fingerprints: Fingerprints) -> tuple[str, ...]:
        """All that may be found again."""
        named = (self.given, *(spelled for _, spelled in self.spellings))
        return tuple(dict.fromkeys(fingerprints.of(self.kind, each) for each in named))


def find_subject(settings: WarehouseSettings, tables: Sequence[DataTable], kind: str, value: str) -> Subject:
    """The subject that is called *value*; changes nothing, and reads no row.

    Raises:
        WarehouseError: when no table knows such subjects, the value is none that a column can hold, or the warehouse refuses.
    """
    mine = [table for table in tables if kind in table.data.subjects]
    if not mine:
        kinds = sorted({each for table in tables for each in table.data.subjects})
        raise WarehouseError(
            f"no table of the policies has subjects of the kind {kind!r}",
            remedy=f"Name one of {', '.join(kinds)}." if kinds else "Write `data:` with `subjects` into the policies.",
        )
    with transaction(settings) as connection:
        return Subject(kind, value, tuple((table, _spelled(connection, table, kind, value)) for table in mine))


def count_rows(settings: WarehouseSettings, subject: Subject) -> Mapping[str, int]:
    """How many rows each table has of the subject.

    Raises:
        WarehouseError: when the warehouse cannot be reached or refuses.
    """
    with transaction(settings) as connection:
        return {
            table.name: int(
                connection.execute(
                    sa.text(f"SELECT count(*) FROM {table.identifier} WHERE {_is_theirs(table, subject.kind)}"),
                    {"value": spelled},
                ).scalar_one()
            )
            for table, spelled in subject.spellings
        }


def erase(settings: WarehouseSettings, subject: Subject, fingerprints: Fingerprints) -> Mapping[str, int]:
    """Remove what tables have of the subject and remember it, in one transaction. Gives rows by table.

    Raises:
        WarehouseError: when the warehouse cannot be reached or refuses, for one a row that others refer to; nothing is erased.
    """
    with transaction(settings) as connection:
        _make_list(connection)
        removed = {
            table.name: _remove(connection, table, subject.kind, spelled) for table, spelled in subject.spellings
        }
        _remember(connection, {(subject.kind, each) for each in subject.fingerprints(fingerprints)})
    return removed


def erase_again(
    settings: WarehouseSettings,
    tables: Sequence[DataTable],
    fingerprints: Fingerprints,
    known: Collection[tuple[str, str]] = (),
) -> Iterator[tuple[str, int]]:
    """Erase what has come back of those who were erased before; gives table and rows. Reads each subject of each table.

    Args:
        settings: the warehouse.
        tables: those of the policies.
        fingerprints: with the key with which subjects were remembered.
        known: kind and fingerprint of erased subjects that the warehouse may have forgotten, being restored from before.

    Raises:
        WarehouseError: when the warehouse cannot be reached or refuses.
    """
    with transaction(settings) as connection:
        _make_list(connection)
        _remember(connection, known)
        erased = {(row.kind, row.fingerprint) for row in connection.execute(sa.select(ERASED))}
    for table in tables:
        for kind in table.data.subjects:
            if any(each == kind for each, _ in erased):
                with transaction(settings) as connection:
                    returned = [
                        value
                        for value in _subjects(connection, table, kind)
                        if (kind, fingerprints.of(kind, value)) in erased
                    ]
                    yield table.name, sum(_remove(connection, table, kind, value) for value in returned)


def read_erased(settings: WarehouseSettings) -> set[tuple[str, str]]:
    """Kind and fingerprint of everybody whom the warehouse remembers as erased.

    Raises:
        WarehouseError: when the warehouse cannot be reached or refuses.
    """
    with transaction(settings) as connection:
        _make_list(connection)
        return {(row.kind, row.fingerprint) for row in connection.execute(sa.select(ERASED))}


def _make_list(connection: sa.Connection) -> None:
    make_ledger(connection)
    ERASED.create(connection, checkfirst=True)


def _remember(connection: sa.Connection, erased: Collection[tuple[str, str]]) -> None:
    if erased:
        rows = [{"kind": kind, "fingerprint": fingerprint} for kind, fingerprint in sorted(erased)]
        connection.execute(insert(ERASED).on_conflict_do_nothing(), rows)


def _subjects(connection: sa.Connection, table: DataTable, kind: str) -> Iterator[str]:
    column = table.column(table.data.subjects[kind])
    query = f"SELECT DISTINCT {column}\\:\\:text FROM {table.identifier} WHERE {column} IS NOT NULL"
    yield from connection.execute(sa.text(query), execution_options={"yield_per": FETCHED}).scalars()


def _spelled(connection: sa.Connection, table: DataTable, kind: str, value: str) -> str:
    """The value as the column writes it: 42 for 042 where it is a number."""
    column = table.data.subjects[kind]
    sql_type = table.types[column]
    refusal = WarehouseError(
        f"{table.name} names a {kind} in {column}, which is {sql_type}; the given one is none",
        remedy=f"Give the {kind} as {table.name} has it.",
    )
    try:
        query = sa.text(f"SELECT CAST(:value AS {sql_type})\\:\\:text")
        spelled = str(connection.execute(query, {"value": value}).scalar_one())
    except sa.exc.DataError:
        raise refusal from None
    if sql_type in CUT and spelled != value:
        raise refusal
    return spelled


def _remove(connection: sa.Connection, table: DataTable, kind: str, value: str) -> int:
    theirs = _is_theirs(table, kind)
    if table.data.erase == "rows":
        statement = f"DELETE FROM {table.identifier} WHERE {theirs}"
    else:
        columns = [table.column(each) for each in table.data.erase]
        nothing = ", ".join(f"{each} = NULL" for each in columns)
        something = " OR ".join(f"{each} IS NOT NULL" for each in columns)
        statement = f"UPDATE {table.identifier} SET {nothing} WHERE {theirs} AND ({something})"
    return connection.execute(sa.text(statement), {"value": value}).rowcount


def _is_theirs(table: DataTable, kind: str) -> str:
    column = table.data.subjects[kind]
    return f"{table.column(column)} = CAST(:value AS {table.types[column]})"
