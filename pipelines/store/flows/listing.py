"""Flows as pages and commands show them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

Row = dict[str, Any]
# What is wanted and what is so may differ for moments: `stopping` is still running, `lost` waits for a lease to end.
FLOWS = sa.text("""
SELECT name, desired, asked_by, asked_at, worker, reason, last_lines, restarts, started_at, next_start_at,
       state_at AS since, coalesce(lease_until > clock_timestamp(), false) AS is_held,
       CASE WHEN state NOT IN ('starting', 'running') THEN state
            WHEN coalesce(lease_until, '-infinity') < clock_timestamp() THEN 'lost'
            WHEN desired = 'stopped' THEN 'stopping' ELSE state END AS state
FROM pipelines.flows WHERE :name = '' OR name = :name ORDER BY name
""")


def list_flows(connection: sa.Connection) -> list[Row]:
    """All flows that somebody has ever asked for, by name."""
    return _rows(connection, "")


def read_flow_row(connection: sa.Connection, name: str) -> Row | None:
    """One of them; None when nobody has asked for it."""
    return next(iter(_rows(connection, name)), None)


def _rows(connection: sa.Connection, name: str) -> list[Row]:
    return [dict(row) for row in connection.execute(FLOWS, {"name": name}).mappings()]
