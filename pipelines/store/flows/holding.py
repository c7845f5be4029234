"""What workers call: take a flow that nobody runs, keep it, and write how it stands. The clock is that of the database."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from pipelines.states import FlowState
from pipelines.store.events import storable
from pipelines.store.records import LEASE_SECONDS
from pipelines.store.tables import FLOWS
from workbench.errors import ClaimLost

REASON_CHARACTERS = 4_000
LINES_CHARACTERS = 20_000
FREE = "desired = 'running' AND (lease_until IS NULL OR lease_until < clock_timestamp())"
# What was running and is free was held by a worker that is gone. SKIP LOCKED: who is second takes the next one.
TAKE = sa.text(f"""
WITH free AS (
  SELECT name FROM pipelines.flows
  WHERE {FREE} AND (state IN ('starting', 'running')
    OR (state = 'waiting' AND next_start_at <= clock_timestamp())
    OR (state = 'failed' AND name = ANY (:changed)))
  ORDER BY next_start_at, name LIMIT 1 FOR UPDATE SKIP LOCKED
)
UPDATE pipelines.flows f SET worker = :worker, fence = fence + 1, state = 'starting', state_at = clock_timestamp(),
  lease_until = clock_timestamp() + make_interval(secs => :lease), next_start_at = NULL,
  failures = CASE WHEN state = 'failed' THEN 0 ELSE failures END,
  reason = CASE WHEN state IN ('starting', 'running') THEN 'worker ' || f.worker || ' does not beat any more'
           WHEN state = 'failed' THEN 'its file has changed' ELSE reason END
FROM free WHERE f.name = free.name
RETURNING f.name, f.fence, f.generation, f.failures
""")
ORDERS = sa.text("""
SELECT name, fence, desired, generation, asked_by FROM pipelines.flows
WHERE worker = :worker AND lease_until IS NOT NULL
""")
# In one order, so that two who change several rows do not wait for each other.
RENEW = sa.text("""
WITH mine AS (
  SELECT name FROM pipelines.flows WHERE worker = :worker AND lease_until IS NOT NULL AND name = ANY (:names)
  ORDER BY name FOR UPDATE
)
UPDATE pipelines.flows f SET lease_until = clock_timestamp() + make_interval(secs => :lease)
FROM mine WHERE f.name = mine.name
""")
# The worker that was to stop it is gone, and what it ran with it.
SETTLE = sa.text("""
UPDATE pipelines.flows SET state = 'stopped', state_at = clock_timestamp(), lease_until = NULL
WHERE desired = 'stopped' AND state <> 'stopped' AND (lease_until IS NULL OR lease_until < clock_timestamp())
""")


@dataclass(frozen=True)
class FlowClaim:
    """A flow that a worker has; `fence` is greater with each time that it is taken."""

    name: str
    worker: str
    fence: int
    generation: int
    failures: int  #: ends in a row, before this start


@dataclass(frozen=True)
class Order:
    """What is wanted of a flow that a worker has."""

    fence: int
    is_wanted: bool
    generation: int
    asked_by: str


def take_flow(connection: sa.Connection, worker: str, changed: Collection[str] = ()) -> FlowClaim | None:
    """The next flow that is wanted and that nobody runs; it is held for `LEASE_SECONDS`.

    Args:
        connection: in a transaction.
        worker: its id.
        changed: flows that failed, and whose file is another now.
    """
    row = connection.execute(TAKE, {"worker": worker, "changed": list(changed), "lease": LEASE_SECONDS}).one_or_none()
    return None if row is None else FlowClaim(row.name, worker, row.fence, row.generation, row.failures)


def read_orders(connection: sa.Connection, worker: str) -> dict[str, Order]:
    """What is wanted of the flows that the store believes *worker* to have, by name."""
    rows = connection.execute(ORDERS, {"worker": worker})
    return {each.name: Order(each.fence, each.desired == "running", each.generation, each.asked_by) for each in rows}


def renew_flows(connection: sa.Connection, worker: str, names: Collection[str]) -> None:
    """Hold these for `LEASE_SECONDS` more, as far as they are still the worker's."""
    connection.execute(RENEW, {"worker": worker, "names": list(names), "lease": LEASE_SECONDS})


def settle_stopped(connection: sa.Connection) -> None:
    """Say of flows that were to be stopped by a worker that is gone that they are."""
    connection.execute(SETTLE)


def read_failed(connection: sa.Connection) -> Mapping[str, str | None]:
    """The hash of the file with which each flow failed that is wanted, by name."""
    failed = sa.select(FLOWS.c.name, FLOWS.c.file_sha256).where(
        FLOWS.c.desired == "running", FLOWS.c.state == FlowState.FAILED
    )
    return {each.name: each.file_sha256 for each in connection.execute(failed)}


def write_started(connection: sa.Connection, claim: FlowClaim, file_sha256: str | None) -> None:
    """Say that a process is started; each start but the first since somebody asked is a restart.

    Raises:
        ClaimLost: when another worker has it.
    """
    now = sa.func.clock_timestamp()
    _write(
        connection, claim, state=FlowState.STARTING, state_at=now, started_at=now, file_sha256=file_sha256,
        restarts=FLOWS.c.restarts + sa.case((FLOWS.c.started_at.is_not(None), 1), else_=0),
    )  # fmt: skip


def write_running(connection: sa.Connection, claim: FlowClaim) -> None:
    """Say that it is at work.

    Raises:
        ClaimLost: when another worker has it.
    """
    _write(connection, claim, state=FlowState.RUNNING, state_at=sa.func.clock_timestamp())


def write_reason(connection: sa.Connection, claim: FlowClaim, reason: str, last_lines: str) -> None:
    """Say why its process has ended, which is started again at once.

    Raises:
        ClaimLost: when another worker has it.
    """
    _write(connection, claim, failures=0, **_told(reason, last_lines))


@dataclass(frozen=True, kw_only=True)
class FlowEnd:
    """How a flow stands when its worker lets it go."""

    state: FlowState
    generation: int  #: of what was wanted when that was decided
    reason: str
    last_lines: str = ""
    delay_seconds: float = 0.0  #: after which any worker may start it again, when it waits
    failures: int = 0


def write_end(connection: sa.Connection, claim: FlowClaim, end: FlowEnd) -> None:
    """Say that its process has ended, and let it go. When somebody has asked for something else meanwhile, that counts.

    Raises:
        ClaimLost: when another worker has it.
    """
    now = sa.func.clock_timestamp()
    is_same, is_wanted = FLOWS.c.generation == end.generation, FLOWS.c.desired == "running"
    later = now + timedelta(seconds=end.delay_seconds) if end.state is FlowState.WAITING else sa.null()
    _write(
        connection, claim, state_at=now, lease_until=None, failures=end.failures,
        state=sa.case((is_same, end.state), (is_wanted, FlowState.WAITING), else_=FlowState.STOPPED),
        next_start_at=sa.case((is_same, later), (is_wanted, now), else_=sa.null()),
        **_told(end.reason, end.last_lines),
    )  # fmt: skip


def _told(reason: str, last_lines: str) -> dict[str, str | None]:
    return {
        "reason": storable(reason, REASON_CHARACTERS) or None,
        "last_lines": storable(last_lines, LINES_CHARACTERS) or None,
    }


def _write(connection: sa.Connection, claim: FlowClaim, **values: Any) -> None:
    mine = (FLOWS.c.name == claim.name) & (FLOWS.c.worker == claim.worker) & (FLOWS.c.fence == claim.fence)
    held = mine & FLOWS.c.lease_until.is_not(None)
    if not connection.execute(sa.update(FLOWS).where(held).values(values)).rowcount:
        raise ClaimLost(f"flow {claim.name} is another worker's now", remedy="Nothing: that worker runs it.")
