"""What notebooks call. Each function reads the settings and composes the parts below it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from workbench.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession

    from workbench.ingestion.definition import Flow
    from workbench.ingestion.flow import Ingested


def spark() -> SparkSession:
    """The Spark session of this process: the user's own server in JupyterLab, else the configured one.

    Raises:
        SparkError: when there is no server, or it does not let us in.
    """
    from workbench.transformation.session import connect

    return connect(Settings.load().spark, tell=print)


def sql(query: str, parameters: Mapping[str, object] | None = None) -> pd.DataFrame:
    """Ask the warehouse and return the whole answer as a pandas DataFrame.

    Args:
        query: SQL of the warehouse; values go in as `:name`, never pasted.
        parameters: the value of each `:name`.

    Raises:
        WarehouseError: when the warehouse cannot be reached or refuses the query.

    Example:
        >>> workbench.sql("SELECT count(*) FROM raw.flights WHERE month = :m", {"m": 1})
    """
    from workbench.warehouse.engine import read_frame

    return read_frame(Settings.load().warehouse, query, parameters or {})


def load_table(table: str) -> DataFrame:
    """The rows of a warehouse table as a lazy Spark DataFrame.

    Example:
        >>> workbench.load_table("raw.flights").groupBy("origin").count().show()
    """
    from workbench.warehouse import sink

    return sink.load_table(spark(), Settings.load().warehouse, table)


def save_table(frame: DataFrame, table: str, *, replace: Mapping[str, object] | None = None) -> int:
    """Write a Spark DataFrame into a warehouse table in one transaction; returns the number of rows.

    Args:
        frame: the rows.
        table: `schema.table`, made when it is not there.
        replace: the column values whose rows the frame replaces, such as `{"month": 1}`;
            None replaces all rows.

    Raises:
        WarehouseError: when the warehouse refuses; the table is as it was.
    """
    from workbench.warehouse import sink

    return sink.save_table(frame, Settings.load().warehouse, table, replace=replace)


def produce(topic: str, rows: Iterable[Mapping[str, object]], *, key: str | None = None) -> int:
    """Send *rows* to a Kafka topic as JSON objects; returns how many the cluster has acknowledged.

    Args:
        topic: an existing topic.
        rows: one mapping for each record; times become RFC 3339.
        key: the field whose value is the record's key; records of one key keep their order.

    Raises:
        KafkaError: when the cluster refuses or does not answer.

    Example:
        >>> workbench.produce("readings", [{"sensor": "a", "value": 1.5}], key="sensor")
    """
    from workbench.ingestion.connection import KafkaConnection
    from workbench.ingestion.encoding import encode_rows
    from workbench.ingestion.producer import produce as send
    from workbench.ingestion.watermarks import read_topic_state

    connection = KafkaConnection.from_settings(Settings.load().kafka)
    read_topic_state(connection, topic)  # a topic that is not there is told before anything is sent
    return send(connection, topic, encode_rows(rows, key))


def ingest(
    topic: str, *, into: str, columns: Mapping[str, str], progress: Callable[[int], object] = lambda _: None
) -> Ingested:
    """Bring what a topic holds now into a warehouse table, each record exactly once.

    Rows, dead letters (`<schema>.dead_letters`) and offsets commit together. Called again, it
    goes on where the last commit ended.

    Args:
        topic: the topic to read, in all its partitions.
        into: `schema.table`, made when it is not there.
        columns: type of each column: bool, int16, int32, int64, float64, string or timestamp.
        progress: called with the number of records committed since the last call.

    Raises:
        KafkaError: when the cluster does not answer, or no longer has the records.
        WarehouseError: when the warehouse refuses.

    Example:
        >>> workbench.ingest("readings", into="raw.readings", columns={"sensor": "string", "value": "float64"})
    """
    from workbench.ingestion.decoding import parse_schema
    from workbench.ingestion.definition import Flow

    flow = Flow(name=topic, topic=topic, into=into, columns=parse_schema(dict(columns)))
    return ingest_flow(Settings.load(), flow, progress)


def ingest_flow(settings: Settings, flow: Flow, progress: Callable[[int], object]) -> Ingested:
    """Run *flow* between the cluster and the warehouse of *settings*; raises as `ingest` does."""
    from workbench.ingestion.connection import KafkaConnection
    from workbench.ingestion.flow import run_flow
    from workbench.warehouse.offsets import FlowLedger

    connection = KafkaConnection.from_settings(settings.kafka)
    ledger = FlowLedger(settings.warehouse, flow.topic, flow.into)
    return run_flow(connection, flow.topic, flow.columns, ledger, progress=progress)
