"""Flows with everything they need: the cluster and the warehouse of the settings, a decoder, the loads.

Composed here for the command line, notebooks and pipelines alike.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from workbench.errors import SettingsError
from workbench.ingestion.batch import BatchLimits, Commit
from workbench.ingestion.cluster.clusters import open_cluster
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.decoding import TYPES, Decoder
from workbench.ingestion.decoding.contract import QUARANTINE, Contract
from workbench.ingestion.decoding.enforced import EnforcedDecoder
from workbench.ingestion.decoding.json import JsonDecoder
from workbench.ingestion.decoding.json_schema import JsonSchemaDecoder
from workbench.ingestion.decoding.registry import SchemaRegistry
from workbench.ingestion.decoding.registry import make_decoder as registry_decoder
from workbench.ingestion.definition import Flow
from workbench.ingestion.flow import Ingested, Run, run_for_ever, run_to_end
from workbench.ingestion.inference import infer_columns
from workbench.ingestion.loads import LoadBuilder
from workbench.loading import Target, Warehouse
from workbench.observability import metrics
from workbench.protecting import protecting
from workbench.sections import SchemaRegistrySettings, WarehouseSettings
from workbench.sessions import open_session
from workbench.settings import Settings
from workbench.spark_lane import lane as spark_lane
from workbench.spark_lane.lane import SparkRun
from workbench.transformation.composition import bind_step
from workbench.transformation.row_wise import Step
from workbench.warehouse import sink
from workbench.warehouse.dialects import make_warehouse
from workbench.warehouse.letters.keys import LentKey, LetterKeys
from workbench.warehouse.letters.warehouse import SealedWarehouse, SealingWarehouse, seals_letters
from workbench.warehouse.schema import read_columns

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

logger = logging.getLogger(__name__)

Progress = Callable[[int], object]


def ingest_flow(settings: Settings, flow: Flow, progress: Progress, *, limits: BatchLimits | None = None) -> Ingested:
    """Bring what the topic of *flow* holds now into its table.

    Args:
        settings: the cluster and the warehouse.
        flow: what goes where.
        progress: called with the number of records committed since the last call.
        limits: of one transaction.

    Raises:
        WorkbenchError: as `workbench.ingestion.flow.run_to_end` says.
    """
    refuse_stream(flow)
    with open_run(settings, flow, progress, limits) as run:
        if flow.engine == "spark":
            return spark_lane.run_to_end(spark_run(settings, flow, run))
        return run_to_end(run)


def follow_flow(settings: Settings, flow: Flow, progress: Progress, *, limits: BatchLimits | None = None) -> None:
    """Bring what arrives into the table of *flow*, with the other workers of its group, until interrupted.

    Raises:
        WorkbenchError: as `workbench.ingestion.flow.run_for_ever` says.
    """
    refuse_stream(flow)
    with open_run(settings, flow, progress, limits) as run:
        if flow.engine == "spark":
            spark_lane.run_for_ever(spark_run(settings, flow, run))
        run_for_ever(run)


def refuse_stream(flow: Flow) -> None:
    """Refuse a flow that is a streaming query, which `workbench.streams` runs.

    Raises:
        SettingsError: when it is one.
    """
    if flow.engine == "stream":
        raise SettingsError(
            [f"{flow.name}: engine is stream; run it with `workbench ingest run` or workbench.streams."]
        )


@contextmanager
def open_run(settings: Settings, flow: Flow, progress: Progress, limits: BatchLimits | None = None) -> Iterator[Run]:
    """The run of a flow between the cluster and the warehouse of *settings*."""
    connection = open_connection(settings, flow)

    def committed(commit: Commit) -> None:
        measure_commit(flow, commit)
        progress(commit.records)

    with open_warehouse(settings, flow.target) as warehouse:
        columns = flow.columns or find_columns(settings, flow, connection, warehouse)
        decoder = partial(make_decoder, settings.registry, flow, columns)
        protection = protecting(settings, flow, columns, warehouse, decoder)
        yield Run(
            connection=connection,
            topic=flow.topic,
            group=flow.group,
            start=flow.start,
            columns=table_columns(flow, columns),
            warehouse=warehouse,
            loads=load_builder(flow, columns),
            make_decoder=protection.make_decoder,
            settle=protection.settle,
            limits=limits or BatchLimits(),
            committed=committed,
        )


def spark_run(settings: Settings, flow: Flow, run: Run) -> SparkRun:
    """The same run, brought by Spark.

    Raises:
        SettingsError: when the warehouse is a file, which one process writes.
    """
    if settings.warehouse.dialect == "duckdb":
        raise SettingsError([
            f"{flow.name}: engine is spark, whose executors cannot share the file of DuckDB. Use engine arrow, or PostgreSQL."
        ])  # fmt: skip
    if flow.steps and settings.warehouse.dialect != "postgresql":
        raise SettingsError([f"{flow.name}: steps write to PostgreSQL only, not to {settings.warehouse.dialect}."])
    return SparkRun(
        run=run,
        steps=bind_steps(settings, flow),
        lend_warehouse=partial(lend_warehouse, settings, flow.target),
        open_session=partial(open_session, settings, tell=logger.info),
    )


def open_warehouse(settings: Settings, target: Target) -> Warehouse:
    """The warehouse of *settings*, whose dead letters are encrypted when the settings say so, and decrypted in any case."""
    warehouse = make_warehouse(settings.warehouse, target)
    return SealedWarehouse(warehouse, LetterKeys.of(settings), seals=seals_letters(settings.warehouse))


@contextmanager
def lend_warehouse(settings: Settings, target: Target) -> Iterator[Callable[[], Warehouse]]:
    """What opens the warehouse on executors, while the context is open. It travels there, with a key for dead letters.

    Raises:
        KeysetError, EncryptionError: when the keyset cannot be used.
    """
    if not seals_letters(settings.warehouse):
        yield partial(make_warehouse, settings.warehouse, target)
        return
    with LetterKeys.of(settings).lent() as lent:
        yield partial(open_lent, settings.warehouse, target, lent)


def open_lent(warehouse: WarehouseSettings, target: Target, lent: LentKey) -> Warehouse:
    """The warehouse on an executor."""
    return SealingWarehouse(make_warehouse(warehouse, target), lent)


def bind_steps(settings: Settings, flow: Flow) -> tuple[Step, ...]:
    """The steps of a flow as functions from frame to frame.

    Raises:
        SettingsError: when there is no such function, or an argument cannot be read.
    """

    def load_table(session: SparkSession, table: str) -> DataFrame:
        return sink.load_table(session, settings.warehouse, table)

    origin = {"_partition": "int", "_offset": "bigint"} if flow.engine == "spark" else {}
    return tuple(
        partial(call.function, **call.arguments)
        if call.function is not None
        else bind_step(call.name, call.arguments, origin=origin, load_table=load_table)
        for call in flow.steps
    )


def refuse_steps(flow: Flow, what: str) -> None:
    """Refuse what goes past the steps of a flow.

    Raises:
        SettingsError: when it has steps.
    """
    if flow.steps or flow.engine == "stream":
        raise SettingsError([f"{flow.name}: {what} does not go through the steps of a flow."])


def load_builder(flow: Flow, columns: pa.Schema) -> LoadBuilder:
    """What makes the loads of a flow with these columns; the key may be made by steps."""
    key = [columns.field(name) for name in flow.key if not flow.steps or name in columns.names]
    return LoadBuilder(flow.target, flow.include, pa.schema(key))


def table_columns(flow: Flow, columns: pa.Schema) -> pa.Schema:
    """The columns of the table that do not tell of the record's origin."""
    return columns.append(QUARANTINE) if flow.contract is Contract.QUARANTINE else columns


def open_connection(settings: Settings, flow: Flow) -> KafkaConnection:
    """The cluster that the flow names, else that of KAFKA_BROKERS."""
    return open_cluster(settings, flow.cluster)


def measure_commit(flow: Flow, commit: Commit) -> None:
    """Count what one transaction wrote."""
    labels = (flow.topic, flow.into)
    metrics.INGESTED_ROWS.labels(*labels).inc(commit.rows)
    metrics.INGESTED_BYTES.labels(*labels).inc(commit.size_bytes)
    metrics.DEAD_LETTERS.labels(*labels).inc(commit.dead)
    metrics.BATCH_RECORDS.labels(*labels).observe(commit.records)
    metrics.COMMIT_SECONDS.labels(*labels).observe(commit.seconds)
    if commit.first_timestamp is not None:
        age = max(time.time() - commit.first_timestamp / 1000, 0.0)
        metrics.FRESHNESS_SECONDS.labels(*labels).observe_many(age, commit.records)


def find_columns(settings: Settings, flow: Flow, connection: KafkaConnection, warehouse: Warehouse) -> pa.Schema:
    """The columns of a flow that declares none: those of its table, else what its first records hold.

    Raises:
        KafkaError: when there is neither.
    """
    with warehouse.transaction() as transaction:
        existing = read_columns(transaction, flow.into)
    if existing is not None:
        return pa.schema([field for field in existing if not field.name.startswith("_")])
    everything = replace(flow, contract=Contract.EVOLVE)
    found = infer_columns(
        connection, flow.topic, make_decoder(settings.registry, everything, pa.schema([]), pa.schema([]))
    )
    logger.warning("columns inferred from the first records of %s: %s", flow.topic, column_types(found))
    return found


def column_types(columns: pa.Schema) -> dict[str, str]:
    """Columns as a flow's file has them: names and types."""
    names = {kind: name for name, kind in TYPES.items()}
    return {field.name: names.get(field.type, str(field.type)) for field in columns}


def make_decoder(registry: SchemaRegistrySettings, flow: Flow, columns: pa.Schema, table: pa.Schema) -> Decoder:
    """The decoder of a flow, given the columns of its table: those that evolved are known from the start."""
    if flow.contract is Contract.EVOLVE:
        evolved = [field for field in table if field.name not in columns.names and not field.name.startswith("_")]
        columns = pa.schema([*columns, *evolved])
    if flow.format == "json":
        return JsonDecoder(columns, flow.contract)
    client = SchemaRegistry.from_settings(registry)
    if flow.format == "json_schema":
        return JsonSchemaDecoder(client, columns, flow.contract)
    if flow.contract is Contract.IGNORE:
        return registry_decoder(flow.format, client, columns)
    return EnforcedDecoder(columns, flow.contract, partial(registry_decoder, flow.format, client))
