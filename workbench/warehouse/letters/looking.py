"""The dead letters of a flow, as people look at them: counted by reason, one by one, dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from workbench.errors import EncryptionError, KeysetError, WorkbenchError
from workbench.loading import Target
from workbench.warehouse.letters.keys import LetterKeys
from workbench.warehouse.schema import split_name


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Dead letters that have one reason."""

    reason: str
    letters: int
    oldest: datetime | None  #: Kafka's time of the records
    newest: datetime | None


@dataclass(frozen=True, kw_only=True)
class Letter:
    """One dead letter."""

    partition: int
    offset: int
    timestamp: datetime | None
    key: bytes | None
    value: bytes | None
    reason: str


def count_reasons(connection: sa.Connection, target: Target, keys: LetterKeys) -> tuple[Reason, ...]:
    """Dead letters by reason, the most frequent first."""
    table = _table(connection, target)
    if table is None:
        return ()
    count = sa.func.count().label("letters")
    time = table.c.record_timestamp
    # Tables of older versions have no `encrypted_with`, and letters in clear.
    columns = [table.c[name] for name in ("encrypted_with", "reason") if name in table.c]
    query = (
        sa.select(*columns, count, sa.func.min(time).label("oldest"), sa.func.max(time).label("newest"))
        .where(_mine(table, target))
        .group_by(*columns)
    )
    found: dict[str, Reason] = {}
    for row in connection.execute(query).mappings():
        each = Reason(
            reason=_reason(keys, row["reason"], row.get("encrypted_with")),
            letters=row["letters"],
            oldest=row["oldest"],
            newest=row["newest"],
        )
        found[each.reason] = _joined(found[each.reason], each) if each.reason in found else each
    return tuple(sorted(found.values(), key=lambda each: (-each.letters, each.reason)))


def read_letters(
    connection: sa.Connection, target: Target, keys: LetterKeys, limit: int, at: tuple[int, int] | None
) -> tuple[Letter, ...]:
    """Dead letters in the order of partition and offset; of one that cannot be decrypted, why not.

    Args:
        connection: to the warehouse.
        target: of the flow.
        keys: decrypt them.
        limit: how many at most.
        at: partition and offset of the only one to read; None reads from the first on.
    """
    table = _table(connection, target)
    if table is None:
        return ()
    query = sa.select(table).where(_mine(table, target) & _at(table, at))
    found = connection.execute(query.order_by(table.c.record_partition, table.c.record_offset).limit(limit))
    return tuple(_letter(keys, {"encrypted_with": None, **row}) for row in found.mappings())


def _letter(keys: LetterKeys, row: dict[str, Any]) -> Letter:
    try:
        row = keys.unsealed(row)
    except (EncryptionError, KeysetError) as error:
        row = {**row, "record_key": None, "record_value": None, "reason": _unreadable(error)}
    return Letter(
        partition=row["record_partition"],
        offset=row["record_offset"],
        timestamp=row["record_timestamp"],
        key=_bytes(row["record_key"]),
        value=_bytes(row["record_value"]),
        reason=row["reason"],
    )


def _reason(keys: LetterKeys, text: str, encrypted_with: str | None) -> str:
    try:
        return keys.reason(text, encrypted_with)
    except (EncryptionError, KeysetError) as error:
        return _unreadable(error)


def _unreadable(error: WorkbenchError) -> str:
    return f"encrypted, and cannot be read here: {error.message}"


def _joined(one: Reason, other: Reason) -> Reason:
    """Letters that different data keys have encrypted have one reason all the same."""
    return Reason(
        reason=one.reason,
        letters=one.letters + other.letters,
        oldest=min((each for each in (one.oldest, other.oldest) if each is not None), default=None),
        newest=max((each for each in (one.newest, other.newest) if each is not None), default=None),
    )


def drop_letters(connection: sa.Connection, target: Target, at: tuple[int, int] | None) -> int:
    """Delete one dead letter of a flow, or all; returns how many there were."""
    table = _table(connection, target)
    if table is None:
        return 0
    chosen = _mine(table, target) & _at(table, at)
    count = connection.execute(sa.select(sa.func.count()).select_from(table).where(chosen)).scalar_one()
    connection.execute(sa.delete(table).where(chosen))
    return int(count)


def _table(connection: sa.Connection, target: Target) -> sa.Table | None:
    schema, name = split_name(target.dead_letters)
    if not sa.inspect(connection).has_table(name, schema):
        return None
    return sa.Table(name, sa.MetaData(), schema=schema, autoload_with=connection)


def _mine(table: sa.Table, target: Target) -> sa.ColumnElement[bool]:
    mine = table.c.topic == target.topic
    if "target" in table.c:  # tables of older versions have no such column
        mine &= (table.c.target == target.table) | table.c.target.is_(None)
    return mine


def _at(table: sa.Table, at: Sequence[int] | None) -> sa.ColumnElement[bool]:
    if at is None:
        return sa.true()
    return (table.c.record_partition == at[0]) & (table.c.record_offset == at[1])


def _bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(value)
