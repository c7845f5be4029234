"""What flows say to DuckDB."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.warehouse.schema import quoted

COLUMNS = """\
SELECT column_name, data_type, numeric_precision, numeric_scale FROM information_schema.columns
WHERE table_catalog = current_database() AND table_schema = $1 AND table_name = $2
"""
UNIQUE = """\
SELECT (SELECT count(*) FROM duckdb_constraints() WHERE database_name = current_database() AND schema_name = $1
  AND table_name = $2 AND constraint_type IN ('PRIMARY KEY', 'UNIQUE'))
  + (SELECT count(*) FROM duckdb_indexes() WHERE database_name = current_database() AND schema_name = $1
  AND table_name = $2 AND is_unique)
"""
# DuckDB finds conflicts of two transactions by the rows that both have changed; an update to the same value is none.
TURNS = "CREATE TABLE IF NOT EXISTS workbench.merges (target VARCHAR PRIMARY KEY, turn BIGINT NOT NULL)"
FIRST_TURN = "INSERT INTO workbench.merges VALUES (:target, 0) ON CONFLICT DO NOTHING"
TAKE_TURN = "UPDATE workbench.merges SET turn = turn + 1 WHERE target = $1"


def merge_statements(
    target: str, stage: str, columns: Sequence[str], key: Sequence[str], *, replaces: bool
) -> tuple[str, ...]:
    """SQL that merges by key without an index; no row is replaced by one that comes before it in the same partition.

    Args:
        target: quoted name of the table.
        stage: name of the staging table, at most one row a key.
        columns: of the stage.
        key: columns that identify a row.
        replaces: whether rows are deleted and inserted, which is many times faster than MERGE INTO
            but loses columns that the stage lacks, and which a unique index does not let pass.
    """
    names = ", ".join(quoted(name) for name in columns)
    same = " AND ".join(f"mine.{quoted(name)} = new.{quoted(name)}" for name in key)
    newer = "(mine._partition IS DISTINCT FROM new._partition OR mine._offset < new._offset)"
    if replaces:
        absent = f"NOT EXISTS (SELECT 1 FROM {target} AS mine WHERE {same})"
        return (
            f"DELETE FROM {target} AS mine USING {stage} AS new WHERE {same} AND {newer}",
            f"INSERT INTO {target} ({names}) SELECT {names} FROM {stage} AS new WHERE {absent}",
        )
    values = ", ".join(f"{quoted(name)} = new.{quoted(name)}" for name in columns if name not in key)
    inserted = ", ".join(f"new.{quoted(name)}" for name in columns)
    merge = f"MERGE INTO {target} AS mine USING {stage} AS new ON {same}"
    insert = f"WHEN NOT MATCHED THEN INSERT ({names}) VALUES ({inserted})"
    return (f"{merge} WHEN MATCHED AND {newer} THEN UPDATE SET {values} {insert}",)
