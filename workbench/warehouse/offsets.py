"""The ledger of flows: how far each has come, who owns it, and the commit of rows with offsets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from workbench.errors import WarehouseError
from workbench.sections import WarehouseSettings
from workbench.warehouse.copy import bulk_connection, copy_rows
from workbench.warehouse.engine import make_engine, reported
from workbench.warehouse.schema import ensure_table, split_name

LEDGER = sa.Table(
    "offsets",
    sa.MetaData(),
    sa.Column("target", sa.Text, primary_key=True, comment="schema.table that the flow writes"),
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True),
    sa.Column("cluster_id", sa.Text, nullable=False, comment="of the cluster that the offset belongs to"),
    sa.Column("topic_id", sa.Text, nullable=False, comment="of the topic; one made anew has another"),
    sa.Column("next_offset", sa.BigInteger, nullable=False, comment="of the next record to read"),
    sa.Column("epoch", sa.BigInteger, nullable=False, comment="raised by each new owner; an older one cannot commit"),
    sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    schema="workbench",
)
ADVANCE = """\
UPDATE workbench.offsets SET next_offset = $1, updated_at = now()
WHERE target = $2 AND topic = $3 AND partition = $4 AND epoch = $5 AND next_offset = $6
RETURNING partition
"""


@dataclass(frozen=True)
class Claim:
    """What a flow holds of one partition: where to go on, and the epoch that says it is the owner."""

    partition: int
    next_offset: int
    epoch: int


@dataclass(frozen=True)
class FlowLedger:
    """The table that one topic is ingested into, with its dead letters and its offsets."""

    settings: WarehouseSettings
    topic: str
    target: str  #: schema.table

    @property
    def dead_letters(self) -> str:
        """The table of the records that did not fit, beside the target."""
        return f"{split_name(self.target)[0]}.dead_letters"

    def prepare(self, rows: pa.Schema, dead_letters: pa.Schema) -> None:
        """Make the target, the dead letters and the ledger when they are not there.

        Raises:
            WarehouseError: when one is there and does not fit.
        """
        engine = make_engine(self.settings)
        try:
            with reported(self.settings), engine.begin() as connection:
                is_new = ensure_table(connection, self.target, rows)
                ensure_table(connection, self.dead_letters, dead_letters)
                connection.execute(sa.schema.CreateSchema("workbench", if_not_exists=True))
                LEDGER.create(connection, checkfirst=True)
                if is_new and self._progress(connection):
                    raise WarehouseError(
                        f"{self.target} is gone, but workbench.offsets says that records of {self.topic} are in it",
                        remedy="Restore the table, or delete the rows of this flow from workbench.offsets to ingest all records again.",
                    )
        finally:
            engine.dispose()

    def claim(self, cluster_id: str, topic_id: str, first_offsets: Mapping[int, int]) -> tuple[Claim, ...]:
        """Become the owner of partitions; one that is new begins at its first offset.

        Raises:
            WarehouseError: when stored offsets belong to another cluster, or to a topic of the
                same name that is no more.
        """
        engine = make_engine(self.settings)
        identity = {"target": self.target, "topic": self.topic, "cluster_id": cluster_id, "topic_id": topic_id}
        rows = [
            {**identity, "partition": number, "next_offset": first, "epoch": 1}
            for number, first in first_offsets.items()
        ]
        claim = (
            insert(LEDGER)
            .values(rows)
            .on_conflict_do_update(index_elements=list(LEDGER.primary_key), set_={"epoch": LEDGER.c.epoch + 1})
            .returning(LEDGER)
        )
        try:
            with reported(self.settings), engine.begin() as connection:
                found = connection.execute(claim).all()
                others = {(row.cluster_id, row.topic_id) for row in found} - {(cluster_id, topic_id)}
                if others:
                    raise self._of_another(others, (cluster_id, topic_id))
                return tuple(Claim(row.partition, row.next_offset, row.epoch) for row in found)
        finally:
            engine.dispose()

    def _progress(self, connection: sa.Connection) -> int:
        mine = (LEDGER.c.target == self.target) & (LEDGER.c.topic == self.topic)
        total = sa.func.coalesce(sa.func.sum(LEDGER.c.next_offset), 0)
        return int(connection.execute(sa.select(total).where(mine)).scalar_one())

    def _of_another(self, others: Iterable[tuple[str, str]], ours: tuple[str, str]) -> WarehouseError:
        stored = ", ".join(f"topic {topic} of cluster {cluster}" for cluster, topic in sorted(others))
        return WarehouseError(
            f"the offsets of {self.topic} → {self.target} belong to {stored}, not to topic {ours[1]} of cluster {ours[0]}: "
            "the topic was made anew, or KAFKA_BROKERS leads elsewhere",
            remedy="Ingest into a new table; or empty the table and delete the rows of this flow from workbench.offsets.",
        )

    def commit(
        self, claims: Sequence[Claim], next_offsets: Mapping[int, int], rows: pa.Table, dead_letters: pa.Table
    ) -> tuple[Claim, ...]:
        """Write rows, dead letters and offsets in one transaction; returns the claims to go on with.

        Raises:
            WarehouseError: with nothing written, when somebody else has claimed a partition or
                the warehouse refuses.
        """
        with bulk_connection(self.settings) as bulk:
            with bulk.cursor() as cursor:
                for claim in claims:
                    if claim.partition in next_offsets:
                        self._advance(cursor, claim, next_offsets[claim.partition])
            copy_rows(bulk, self.target, rows)
            copy_rows(bulk, self.dead_letters, dead_letters)
            bulk.commit()
        return tuple(
            Claim(claim.partition, next_offsets.get(claim.partition, claim.next_offset), claim.epoch)
            for claim in claims
        )

    def _advance(self, cursor: Any, claim: Claim, next_offset: int) -> None:
        parameters = (next_offset, self.target, self.topic, claim.partition, claim.epoch, claim.next_offset)
        cursor.execute(ADVANCE, parameters)
        if cursor.fetchone() is None:
            raise WarehouseError(
                f"partition {claim.partition} of {self.topic} → {self.target} was taken over by another worker; this one has written nothing more",
                remedy="Let the other one go on; start this one again when it has ended.",
            )
