"""Streaming queries over Kafka: made, not watched over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from workbench.errors import SparkError
from workbench.transformation.row_wise import Step, apply_steps, spark_schema
from workbench.transformation.streams.progress import DECODED

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.connect.streaming.query import StreamingQuery

LOOK_AGAIN = "1 second"


@dataclass(frozen=True, kw_only=True)
class StreamPlan:
    """What a query does."""

    name: str  #: under which the warehouse knows its batches
    table: str  #: schema.table
    source: Mapping[str, str] = field(repr=False)  #: options of Spark's Kafka source, passwords among them
    decode: Callable[..., Any]  #: for `mapInArrow`: raw records to rows of `columns`
    columns: pa.Schema
    steps: tuple[Step, ...]
    checkpoint: str

    def rows(self, session: SparkSession) -> DataFrame:
        """The streaming frame after all steps."""
        from pyspark.sql import functions as sf

        raw = session.readStream.format("kafka").options(**self.source).load().drop("topic")
        rows = raw.mapInArrow(self.decode, spark_schema(self.columns))
        return apply_steps(rows.observe(DECODED, sf.count(sf.lit(1)).alias("rows")), self.steps)


def start_query(session: SparkSession, plan: StreamPlan, *, follow: bool) -> StreamingQuery:
    """Start the query, each micro-batch once into the table; without *follow* it ends where the topic ends now.

    The session has the data source `workbench` of the warehouse.
    """
    writer = plan.rows(session).writeStream.format("workbench").options(table=plan.table, stream=plan.name)
    writer = writer.queryName(plan.name).outputMode("append").option("checkpointLocation", plan.checkpoint)
    writer = writer.trigger(processingTime=LOOK_AGAIN) if follow else writer.trigger(availableNow=True)
    return writer.start()


def start_relay(
    session: SparkSession,
    kafka: Mapping[str, str],
    *,
    name: str,
    source: str,
    target: str,
    steps: Sequence[Step],
    checkpoint: str,
    every: str,
) -> StreamingQuery:
    """Start a query from topic to topic in Spark's real-time mode: records are sent on as they come, at least once.

    Raises:
        SparkError: when the steps give no column `value`.
    """
    frame = session.readStream.format("kafka").options(**kafka, subscribe=source).load()
    rows = apply_steps(frame.select("key", "value", "timestamp"), steps)
    if "value" not in rows.columns:
        raise SparkError(
            f"the steps of {name} give the columns {', '.join(rows.columns)}, and none is `value`",
            remedy="Give `value` (string or binary), and `key` where there is one.",
        )
    sent = rows.select(*(each for each in ("key", "value", "headers") if each in rows.columns))
    writer = sent.writeStream.format("kafka").options(**kafka, topic=target).queryName(name).outputMode("update")
    return writer.option("checkpointLocation", checkpoint).trigger(realTime=every).start()
