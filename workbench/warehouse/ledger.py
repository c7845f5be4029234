"""The ledger of flows: how far each has come and who owns it. One table, the same in every dialect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from workbench.errors import TakenOver, WarehouseError
from workbench.loading import Claim, Progress, Span, Target
from workbench.warehouse.schema import lock_ddl

STORED = "SELECT partition, epoch, next_offset FROM workbench.offsets WHERE target = $1 AND topic = $2"
NOT_PERMITTED = "42501"  # SQLSTATE (postgresql.org, "Error Codes")
LEDGER = sa.Table(
    "offsets",
    sa.MetaData(),
    sa.Column("target", sa.Text, primary_key=True, comment="schema.table that the flow writes"),
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("cluster_id", sa.Text, nullable=False, comment="of the cluster that the offset belongs to"),
    sa.Column("topic_id", sa.Text, nullable=False, comment="of the topic; one made anew has another"),
    sa.Column("next_offset", sa.BigInteger, nullable=False, comment="of the next record to read"),
    sa.Column("epoch", sa.BigInteger, nullable=False, comment="raised by each new owner; an older one cannot commit"),
    sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.Column("first_offset", sa.BigInteger, comment="where the flow began"),
    schema="workbench",
)


def make_ledger(connection: sa.Connection) -> None:
    """Make the ledger when it is not there, and give an older one the columns that came later."""
    lock_ddl(connection)
    inspector = sa.inspect(connection)
    if not inspector.has_schema("workbench"):
        connection.execute(sa.schema.CreateSchema("workbench"))
    if not inspector.has_table("offsets", "workbench"):
        LEDGER.create(connection)
        return
    present = {column["name"] for column in inspector.get_columns("offsets", "workbench")}
    if "first_offset" not in present:
        connection.execute(sa.text("ALTER TABLE workbench.offsets ADD COLUMN IF NOT EXISTS first_offset BIGINT"))


def read_progress(connection: sa.Connection, target: Target) -> tuple[Progress, ...]:
    """The rows of one flow; empty when there is no ledger yet."""
    if not sa.inspect(connection).has_table("offsets", "workbench"):
        return ()
    age = sa.extract("epoch", sa.func.now() - LEDGER.c.updated_at).label("age")
    found = connection.execute(sa.select(LEDGER, age).where(_mine(target)).order_by(LEDGER.c.partition))
    return tuple(
        Progress(
            partition=row.partition,
            cluster_id=row.cluster_id,
            topic_id=row.topic_id,
            first_offset=row.first_offset,
            next_offset=row.next_offset,
            epoch=row.epoch,
            seconds_since_commit=max(float(row.age), 0.0),
        )
        for row in found
    )


def read_flows(connection: sa.Connection) -> tuple[tuple[str, str], ...]:
    """Target and topic of every flow that has ever run."""
    if not sa.inspect(connection).has_table("offsets", "workbench"):
        return ()
    found = connection.execute(sa.select(LEDGER.c.target, LEDGER.c.topic).distinct().order_by(LEDGER.c.target))
    return tuple((row.target, row.topic) for row in found)


def read_positions(connection: sa.Connection) -> Mapping[tuple[str, str], Mapping[int, tuple[int, float]]]:
    """How far all flows have come, in one query: next offset and seconds since its commit, by partition, by (target, topic).

    Raises:
        WarehouseError: when this account may not read it.
    """
    if not sa.inspect(connection).has_table("offsets", "workbench"):
        return {}
    age = sa.extract("epoch", sa.func.now() - LEDGER.c.updated_at).label("age")
    columns = (LEDGER.c.target, LEDGER.c.topic, LEDGER.c.partition, LEDGER.c.next_offset, age)
    found: dict[tuple[str, str], dict[int, tuple[int, float]]] = {}
    try:
        rows = connection.execute(sa.select(*columns)).all()
    except exc.DBAPIError as error:
        if getattr(error.orig, "sqlstate", "") != NOT_PERMITTED:
            raise
        raise WarehouseError(
            "this account may not read workbench.offsets, which tells how far flows have come",
            remedy="Ask an engineer or an administrator of the warehouse.",
        ) from None
    for row in rows:
        found.setdefault((row.target, row.topic), {})[row.partition] = int(row.next_offset), max(float(row.age), 0.0)
    return found


def claim_partitions(
    connection: sa.Connection, target: Target, identity: tuple[str, str], first_offsets: Mapping[int, int]
) -> tuple[Claim, ...]:
    """Raise the epoch of partitions; one that is new begins at its first offset.

    Args:
        connection: in a transaction.
        target: what the flow writes.
        identity: ids of the cluster and of the topic.
        first_offsets: by partition, for those that are new.

    Raises:
        WarehouseError: when what is stored belongs to another cluster or topic.
    """
    claims = []
    for partition, first in sorted(first_offsets.items()):
        mine = _mine(target) & (LEDGER.c.partition == partition)
        # A new row, or the next epoch of the old one; the update waits for whoever holds the row.
        if not _changed(connection, sa.update(LEDGER).where(mine).values(epoch=LEDGER.c.epoch + 1)):
            connection.execute(sa.insert(LEDGER).values(_first_row(target, identity, partition, first)))
        row = connection.execute(sa.select(LEDGER).where(mine)).one()
        if (row.cluster_id, row.topic_id) != identity:
            raise _of_another(target, (row.cluster_id, row.topic_id), identity)
        claims.append(Claim(partition, row.next_offset, row.epoch))
    return tuple(claims)


def advance(
    target: Target, spans: Iterable[Span], ask: Callable[[str, tuple[str, str]], Iterable[Sequence[Any]]]
) -> bool:
    """Move the offsets of all spans by one statement; whether the spans had been written before.

    Args:
        target: what the flow writes.
        spans: of one load.
        ask: runs a statement with $1 and $2, and gives its rows.

    Raises:
        TakenOver: when a span is no longer ours, or begins elsewhere than the ledger says.
    """
    spans = [span for span in spans if span.end > span.start]
    if not spans:
        return False
    name = (target.table, target.topic)
    moved = {row[0] for row in ask(_advancing(spans), name)}
    if len(moved) == len(spans):
        return False
    if not moved and is_written(spans, ask(STORED, name)):
        return True
    raise taken_over(target, {span.partition for span in spans} - moved)


def is_written(spans: Sequence[Span], stored: Iterable[Sequence[Any]]) -> bool:
    """Whether the ledger, as (partition, epoch, next_offset), says that exactly these spans were committed."""
    found = {partition: (epoch, offset) for partition, epoch, offset in stored}
    return all(found.get(span.partition) == (span.epoch, span.end) for span in spans)


def taken_over(target: Target, partitions: Iterable[int]) -> TakenOver:
    """The error that *partitions* are somebody else's now."""
    return TakenOver(
        f"partition {', '.join(map(str, sorted(partitions)))} of {target.topic} → {target.table} was taken over by another worker; this one has written nothing more",
        remedy="Let the other one go on; start this one again when it has ended.",
    )


def refuse_if_gone(connection: sa.Connection, target: Target) -> None:
    """Refuse to make a target anew that had records in it.

    Raises:
        WarehouseError: when the ledger says so.
    """
    if any(each.next_offset > (each.first_offset or 0) for each in read_progress(connection, target)):
        raise WarehouseError(
            f"{target.table} is gone, but workbench.offsets says that records of {target.topic} are in it",
            remedy="Restore the table, or delete the rows of this flow from workbench.offsets to ingest all records again.",
        )


def _changed(connection: sa.Connection, update: sa.Update) -> int:
    """How many rows an update has changed: not every driver counts them, not every dialect returns them."""
    if connection.dialect.supports_sane_rowcount:
        return connection.execute(update).rowcount
    return len(connection.execute(update.returning(LEDGER.c.partition)).all())


def _advancing(spans: Iterable[Span]) -> str:
    """SQL that returns the partitions that were still ours; $1 is the target, $2 the topic."""
    values = ", ".join(f"({span.partition}, {span.epoch}, {span.start}, {span.end})" for span in spans)
    return (
        f"UPDATE workbench.offsets AS mine SET next_offset = span.next_offset, updated_at = now() "
        f"FROM (VALUES {values}) AS span (partition, epoch, first_offset, next_offset) "
        "WHERE mine.target = $1 AND mine.topic = $2 AND mine.partition = span.partition "
        "AND mine.epoch = span.epoch AND mine.next_offset = span.first_offset RETURNING mine.partition"
    )


def _mine(target: Target) -> sa.ColumnElement[bool]:
    return (LEDGER.c.target == target.table) & (LEDGER.c.topic == target.topic)


def _first_row(target: Target, identity: tuple[str, str], partition: int, first: int) -> dict[str, object]:
    return {
        "target": target.table,
        "topic": target.topic,
        "partition": partition,
        "cluster_id": identity[0],
        "topic_id": identity[1],
        "next_offset": first,
        "first_offset": first,
        "epoch": 1,
    }


def _of_another(target: Target, stored: tuple[str, str], ours: tuple[str, str]) -> WarehouseError:
    return WarehouseError(
        f"the offsets of {target.topic} → {target.table} belong to topic {stored[1]} of cluster {stored[0]}, "
        f"not to topic {ours[1]} of cluster {ours[0]}: the topic was made anew, or KAFKA_BROKERS leads elsewhere",
        remedy="Ingest into a new table; or empty the table and delete the rows of this flow from workbench.offsets.",
    )
