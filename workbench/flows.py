"""Flows with everything they need: the cluster and the warehouse of the settings, a decoder, the loads.

Composed here for the command line, notebooks and pipelines alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pyarrow as pa

from workbench.ingestion.connection import KafkaConnection
from workbench.ingestion.decoding import Decoder
from workbench.ingestion.decoding.contract import QUARANTINE, Contract
from workbench.ingestion.decoding.json import JsonDecoder
from workbench.ingestion.definition import Flow
from workbench.ingestion.flow import Ingested, Run, run_for_ever, run_to_end
from workbench.ingestion.loads import LoadBuilder
from workbench.ingestion.source import Batch, Limits
from workbench.loading import Load, Warehouse
from workbench.settings import Settings
from workbench.warehouse.dialects import make_warehouse

Progress = Callable[[int], object]


def ingest_flow(settings: Settings, flow: Flow, progress: Progress, *, limits: Limits | None = None) -> Ingested:
    """Bring what the topic of *flow* holds now into its table.

    Args:
        settings: the cluster and the warehouse.
        flow: what goes where.
        progress: called with the number of records committed since the last call.
        limits: of one transaction.

    Raises:
        WorkbenchError: as `workbench.ingestion.flow.run_to_end` says.
    """
    with open_run(settings, flow, progress, limits) as run:
        return run_to_end(run)


def follow_flow(settings: Settings, flow: Flow, progress: Progress, *, limits: Limits | None = None) -> None:
    """Bring what arrives into the table of *flow*, with the other workers of its group, until interrupted.

    Raises:
        WorkbenchError: as `workbench.ingestion.flow.run_for_ever` says.
    """
    with open_run(settings, flow, progress, limits) as run:
        run_for_ever(run)


@contextmanager
def open_run(settings: Settings, flow: Flow, progress: Progress, limits: Limits | None = None) -> Iterator[Run]:
    """The run of a flow between the cluster and the warehouse of *settings*."""
    connection = KafkaConnection.from_settings(settings.kafka)
    columns = flow.columns
    assert columns is not None

    def committed(load: Load, batch: Batch, seconds: float) -> None:
        progress(len(batch.messages))

    with make_warehouse(settings.warehouse, flow.target) as warehouse:
        yield Run(
            connection=connection,
            topic=flow.topic,
            group=flow.group,
            start=flow.start,
            columns=declared_columns(flow, columns),
            warehouse=warehouse,
            loads=LoadBuilder(flow.target, flow.include, pa.schema([columns.field(name) for name in flow.key])),
            make_decoder=lambda table: make_decoder(flow, columns, table),
            limits=limits or Limits(),
            committed=committed,
        )


def declared_columns(flow: Flow, columns: pa.Schema) -> pa.Schema:
    """The columns of the table that do not tell of the record's origin."""
    return columns.append(QUARANTINE) if flow.contract is Contract.QUARANTINE else columns


def make_decoder(flow: Flow, columns: pa.Schema, table: pa.Schema) -> Decoder:
    """The decoder of a flow, given the columns of its table: those that evolved are known from the start."""
    if flow.contract is Contract.EVOLVE:
        evolved = [field for field in table if field.name not in columns.names and not field.name.startswith("_")]
        columns = pa.schema([*columns, *evolved])
    return JsonDecoder(columns, flow.contract)
