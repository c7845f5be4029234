"""Flows as pages and commands show them."""

from __future__ import annotations

from collections.abc import Collection
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


def list_flows(connection: sa.Connection, files: Collection[str]) -> list[Row]:
    """All flows by name: those that somebody has asked for, and those that have a file.

    Args:
        connection: in a transaction.
        files: names of flows that have one.
    """
    rows = {each["name"]: each for each in _rows(connection, "")}
    return [{**rows.get(name, _unasked(name)), "has_file": name in files} for name in sorted({*rows, *files})]


def read_flow_row(connection: sa.Connection, name: str) -> Row | None:
    """One of them; None when nobody has asked for it."""
    return next(iter(_rows(connection, name)), None)


def _unasked(name: str) -> Row:
    nothing = ("asked_at", "worker", "reason", "last_lines", "started_at", "next_start_at", "since")
    return {
        "name": name, "desired": "stopped", "asked_by": "", "restarts": 0, "is_held": False, "state": "stopped",
        **dict.fromkeys(nothing),
    }  # fmt: skip


def _rows(connection: sa.Connection, name: str) -> list[Row]:
    return [dict(row) for row in connection.execute(FLOWS, {"name": name}).mappings()]
