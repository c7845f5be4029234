"""What notebooks call. Each function reads the settings and composes the parts below it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from workbench.observability.touched_tables import tell_tables
from workbench.querying.reporting import tell_statement, tell_table
from workbench.sessions import open_session
from workbench.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from workbench.ingestion.flow import Ingested


def spark() -> SparkSession:
    """The Spark session of this process: the user's own server in JupyterLab, else the configured one.

    Raises:
        SparkError: when there is no server, or it does not let us in.
    """
    return open_session(Settings.load(), tell=print)


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

    settings = Settings.load()
    tell_tables(settings.pipelines.tables_file, sql=query)
    frame = read_frame(settings.warehouse, query, parameters or {})
    tell_statement(query, len(frame))
    return frame


def decrypt(frame: pd.DataFrame, table: str, *, columns: Sequence[str] = (), erased: str = "error") -> pd.DataFrame:
    """Rows that were read of a table with its columns that are encrypted by subject in clear.

    It takes the keyset of WORKBENCH_HOME; who may not read that reads nothing. Each call is in the audit log before it answers.

    Args:
        frame: rows of the table, with the column that says whose each row is.
        table: `schema.table` that a flow wrote.
        columns: those to decrypt; none is all that the table has and the frame holds.
        erased: what becomes of a value whose subject was erased: `error`, or `null`.

    Raises:
        SubjectErased: when the subject of a row was erased.
        UnknownSubjectKey: when the subject of a row has no key here.
        OtherContext: when a value was moved from another row, column or table.
        EncryptionError: when a value was changed or is in clear.
        WarehouseError: when the table has no such columns, or the frame lacks what it takes.
        AuditError: when the event cannot be written.

    Example:
        >>> workbench.decrypt(workbench.sql("SELECT customer_id, email FROM raw.orders"), "raw.orders")
    """
    from workbench.decrypting import decrypt_frame

    return decrypt_frame(Settings.load(), frame, table, columns=columns, erased=erased)


def load_table(
    table: str,
    *,
    columns: Sequence[str] = (),
    where: str = "",
    parameters: Mapping[str, object] | None = None,
    partitions: int = 1,
) -> DataFrame:
    """The rows of a warehouse table as a lazy Spark DataFrame.

    Filters of the DataFrame are Spark's own: what the warehouse should leave out is said here.

    Args:
        table: `schema.table`, or a view.
        columns: the columns to read; none is all.
        where: which rows, a condition in SQL of the warehouse with values as `:name`.
        parameters: the value of each `:name`.
        partitions: how many tasks read it side by side. One sees the table of one moment; several
            see each its own, and rows that change meanwhile may be missed or come twice.

    Example:
        >>> workbench.load_table("raw.flights", where="month = :m", parameters={"m": 1}).groupBy("origin").count().show()
    """
    from workbench.warehouse import sink

    settings = Settings.load()
    tell_tables(settings.pipelines.tables_file, reads=[table])
    frame = sink.load_table(
        spark(),
        settings.warehouse,
        table,
        columns=columns,
        where=where,
        parameters=parameters,
        partitions=partitions,
    )
    tell_table("query", table)
    return frame


def save_table(
    frame: DataFrame | pd.DataFrame | pa.Table, table: str, *, replace: Mapping[str, object] | None = None
) -> int:
    """Write a frame into a warehouse table in one transaction; returns the number of rows.

    Args:
        frame: the rows, of Spark, pandas (without its index; NaN is NULL) or pyarrow. The last two
            are written from this process: they need no Spark.
        table: `schema.table`, made when it is not there.
        replace: the column values whose rows the frame replaces, such as `{"month": 1}`;
            None replaces all rows.

    Raises:
        WarehouseError: when the warehouse refuses; the table is as it was.
    """
    from workbench.warehouse import sink

    settings = Settings.load()
    tell_tables(settings.pipelines.tables_file, writes=[table])
    rows = sink.save_table(frame, settings.warehouse, table, replace=replace)
    tell_table("write", table, rows)
    return rows


def produce(
    topic: str,
    rows: Iterable[Mapping[str, object]] | pd.DataFrame | pa.Table,
    *,
    key: str | None = None,
    format: str = "json",  # noqa: A002 that is what it is called everywhere
    schema: object = None,
    register: bool = False,
    encrypt: Mapping[str, Callable[[object], object]] | None = None,
) -> int:
    """Send *rows* to a Kafka topic, one record each; returns how many the cluster has acknowledged.

    Args:
        topic: an existing topic.
        rows: mappings, a pandas DataFrame or a pyarrow Table.
        key: the field whose value is the record's key; records of one key keep their order.
        format: `json`, or `avro` and `protobuf` with a schema registry.
        schema: an Avro schema, or a class of Protobuf messages; None takes the newest one that
            is registered for the topic.
        register: whether *schema* may be registered when it is not there.
        encrypt: a function for each named field, whose result is sent in place of the value.

    Raises:
        KafkaError: when a row does not fit the format, or the cluster or the registry refuses or
            does not answer.
        KeyboardInterrupt: when interrupted; it says how many records were acknowledged.

    Example:
        >>> workbench.produce("readings", [{"sensor": "a", "value": 1.5}], key="sensor")
    """
    from workbench.ingestion.cluster.connection import KafkaConnection
    from workbench.ingestion.cluster.watermarks import read_topic_state
    from workbench.ingestion.decoding.registry import SchemaRegistry
    from workbench.ingestion.encoding import encode_rows, make_encoder
    from workbench.ingestion.producer import produce as send

    settings = Settings.load()
    connection = KafkaConnection.from_settings(settings.kafka)
    read_topic_state(connection, topic)  # a topic that is not there is told before anything is sent
    registry = SchemaRegistry.from_settings(settings.registry) if format in ("avro", "protobuf") else None
    encoder = make_encoder(format, topic, registry, schema=schema, register=register)
    return send(connection, topic, encode_rows(rows, key, encoder=encoder, encrypt=encrypt))


def ingest(
    topic: str,
    *,
    into: str,
    columns: Mapping[str, str] | None = None,
    mode: str = "append",
    key: Sequence[str] = (),
    progress: Callable[[int], object] = lambda _: None,
    **options: object,
) -> Ingested:
    """Bring what a topic holds now into a warehouse table, each record exactly once.

    Rows, dead letters (`<schema>.dead_letters`) and offsets commit together. Called again, it
    goes on where the last commit ended.

    Args:
        topic: the topic to read, in all its partitions.
        into: `schema.table`, made when it is not there.
        columns: type of each column: bool, int16, int32, int64, float64, string, timestamp, json
            and others (docs/ingestion.md); None takes them from the table, or from the first records.
        mode: `append`, or `merge`: one row for each key, from its last record.
        key: columns that identify a row, for `merge`.
        progress: called with the number of records committed since the last call.
        options: `format`, `contract`, `start`, `include`, `cluster`, `engine`, `steps`, as in a flow's file;
            with `engine="spark"` the steps may be functions from DataFrame to DataFrame.

    Raises:
        SettingsError: when the arguments do not go together.
        KafkaError: when the cluster does not answer, or no longer has the records.
        WarehouseError: when the warehouse refuses.

    Example:
        >>> workbench.ingest("readings", into="raw.readings", columns={"sensor": "string", "value": "float64"})
    """
    from workbench.flows import ingest_flow
    from workbench.ingestion.definition import make_flow

    fields = {"topic": topic, "into": into, "columns": columns and dict(columns), "mode": mode, "key": tuple(key)}
    settings = Settings.load()
    tell_tables(settings.pipelines.tables_file, topics=[topic], writes=[into])
    return ingest_flow(settings, make_flow(topic, {**fields, **options}, "ingest"), progress)
