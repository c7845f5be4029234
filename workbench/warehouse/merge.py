"""SQL that merges a staging table into a target by key: insert what is new, replace what is there."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.warehouse.schema import quoted

# Rows that were there before the flow have no origin: whatever comes is newer.
OLDER = "(mine._partition IS DISTINCT FROM gone._partition OR mine._offset < gone._offset)"


def merge_statement(target: str, stage: str, columns: Sequence[str], key: Sequence[str], where: str = "TRUE") -> str:
    """INSERT … ON CONFLICT, which two workers may run at once (postgresql.org, "INSERT").

    A row is not replaced by one that comes before it in the same partition: the statement may
    be run with records that have been merged already.

    Args:
        target: quoted name of the table.
        stage: name of the staging table, at most one row a key.
        columns: of both.
        key: columns with a unique index.
        where: which rows of the stage.
    """
    names = ", ".join(quoted(name) for name in columns)
    keys = ", ".join(quoted(name) for name in key)
    others = [name for name in columns if name not in key]
    values = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in others)
    newer = "mine._partition IS DISTINCT FROM excluded._partition OR mine._offset < excluded._offset"
    return (
        f"INSERT INTO {target} AS mine ({names}) SELECT {names} FROM {stage} WHERE {where} "
        f"ON CONFLICT ({keys}) DO UPDATE SET {values} WHERE {newer}"
    )


def delete_statement(target: str, deleted: str, columns: Sequence[str], key: Sequence[str], where: str = "TRUE") -> str:
    """DELETE of the keys in a staging table; rows that came after the tombstone stay.

    Args:
        target: quoted name of the table.
        deleted: name of the staging table.
        columns: of the staging table; with `_partition` and `_offset` it tells where tombstones come from.
        key: columns that identify a row.
        where: which rows of the staging table.
    """
    same = " AND ".join(f"mine.{quoted(name)} = gone.{quoted(name)}" for name in key)
    older = f" AND {OLDER}" if "_offset" in columns else ""
    return f"DELETE FROM {target} AS mine USING {deleted} AS gone WHERE {same}{older} AND {where}"


def upsert_statement(target: str, source: str, columns: Sequence[str], key: Sequence[str]) -> str:
    """INSERT … ON CONFLICT: a row of *source* takes the place of the one with its key.

    Args:
        target: quoted name of the table.
        source: SELECT of the columns in their order, at most one row a key.
        columns: of both.
        key: columns with a unique index.
    """
    names, keys = ", ".join(map(quoted, columns)), ", ".join(map(quoted, key))
    values = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in columns if name not in key)
    action = f"DO UPDATE SET {values}" if values else "DO NOTHING"
    return f"INSERT INTO {target} ({names}) {source} ON CONFLICT ({keys}) {action}"
