"""What each dialect can do; docs/warehouse.md shows the same as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What flows may rely on, and what they may not."""

    transactional_ddl: bool  #: tables are made and changed in the transaction of the rows
    enforces_keys: bool  #: a merge table has a unique index, so that SQL by hand cannot double a key
    enforces_checks: bool  #: CHECK is kept; rows that break it become dead letters
    concurrent_writers: bool  #: several processes may write at once
    merge: bool  #: one row for each key, tombstones delete
    evolve: bool  #: a load may add columns and widen types
    encrypted_at_rest: bool  #: by the dialect itself, always
    tested: str  #: what the tests run against


CAPABILITIES: Mapping[str, Capabilities] = {
    "postgresql": Capabilities(
        transactional_ddl=True,
        enforces_keys=True,
        enforces_checks=True,
        concurrent_writers=True,
        merge=True,
        evolve=True,
        encrypted_at_rest=False,
        tested="PostgreSQL 18",
    ),
    "duckdb": Capabilities(
        transactional_ddl=True,
        enforces_keys=False,
        enforces_checks=True,
        concurrent_writers=False,
        merge=True,
        evolve=True,
        encrypted_at_rest=True,
        tested="DuckDB 1.5.5",
    ),
    "redshift": Capabilities(
        transactional_ddl=True,
        enforces_keys=False,
        enforces_checks=False,
        concurrent_writers=True,
        merge=True,
        evolve=True,
        encrypted_at_rest=False,
        tested="a double on PostgreSQL; not run against Redshift",
    ),
}
