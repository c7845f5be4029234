"""Flows looked at: what a run would do, whether a table is right, how far it is behind, its dead letters."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from workbench.errors import NoSuchTopic
from workbench.flows import (
    Progress,
    column_types,
    find_columns,
    load_builder,
    make_decoder,
    open_connection,
    open_warehouse,
    refuse_steps,
    table_columns,
)
from workbench.ingestion.cluster.watermarks import read_topic_state
from workbench.ingestion.dead_letters import Replayed, replay_dead_letters
from workbench.ingestion.definition import Flow
from workbench.ingestion.lag import PartitionLag, read_lag
from workbench.ingestion.verification import PartitionReport, verify
from workbench.protecting import protecting, read_rules
from workbench.settings import Settings
from workbench.warehouse.dialects import make_warehouse
from workbench.warehouse.ledger import read_flows
from workbench.warehouse.letters.keys import LetterKeys
from workbench.warehouse.letters.looking import Letter, Reason, count_reasons, drop_letters, read_letters
from workbench.warehouse.schema import read_columns

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run of a flow would do."""

    table: str  #: made, or there already
    origin: str  #: where the columns come from
    columns: dict[str, str]
    records: int  #: offsets to read
    start: str


def plan_flow(settings: Settings, flow: Flow) -> Plan:
    """Look at the topic and the table of *flow*; changes nothing.

    Raises:
        KafkaError: when the cluster does not answer, or nothing tells the columns.
        WarehouseError: when the warehouse does not answer.
        SettingsError, PoliciesRefused: when policies want columns encrypted, and the flow cannot, or they are wrong.
    """
    read_rules(settings, flow)  # what cannot be encrypted is told here already
    connection = open_connection(settings, flow)
    state = read_topic_state(connection, flow.topic)
    with make_warehouse(settings.warehouse, flow.target) as warehouse:
        with warehouse.transaction() as transaction:
            existing = read_columns(transaction, flow.into)
        columns = flow.columns or find_columns(settings, flow, connection, warehouse)
        progress = {each.partition: each.next_offset for each in warehouse.progress()}
    begin = progress or (state.next_offsets if flow.start == "latest" else state.first_offsets)
    left = {each: max(end - begin.get(each, state.first_offsets[each]), 0) for each, end in state.next_offsets.items()}
    if flow.columns is not None:
        origin = "declared"
    else:
        origin = (
            "those of the table" if existing is not None else "inferred from the first records; --write freezes them"
        )
    return Plan(
        table=f"{flow.into} is there" if existing is not None else f"{flow.into} will be made",
        origin=origin,
        columns=column_types(columns),
        records=sum(left.values()),
        start="the last commit" if progress else str(flow.start),
    )


def verify_flow(settings: Settings, flow: Flow) -> tuple[PartitionReport, ...]:
    """Compare the table of *flow* with its topic; see `workbench.ingestion.verification.verify`."""
    with make_warehouse(settings.warehouse, flow.target) as warehouse:
        return verify(open_connection(settings, flow), flow.topic, warehouse, flow.mode)


def lag_of_flows(
    settings: Settings, flow: Flow | None, declared: Sequence[Flow] = ()
) -> Iterator[tuple[str, str, tuple[PartitionLag, ...]]]:
    """Topic, table and lag of one flow, or of each that has ever run.

    Args:
        settings: the cluster and the warehouse.
        flow: the only one to look at.
        declared: flows that have a file, which may name another cluster.

    Raises:
        KafkaError: when the cluster does not answer, or no longer has the topic.
        WarehouseError: when the warehouse does not answer.
    """
    if flow is not None:
        flows = [flow]
    else:
        nobody = Flow(name="", topic="", into="workbench.offsets")
        with make_warehouse(settings.warehouse, nobody.target) as warehouse, warehouse.transaction() as transaction:
            flows = [find_flow(declared, topic, target) for target, topic in read_flows(transaction)]
    for each in flows:
        with make_warehouse(settings.warehouse, each.target) as warehouse:
            progress = warehouse.progress()
        try:
            lags = read_lag(open_connection(settings, each), each.topic, progress)
        except NoSuchTopic as error:
            if flow is not None:
                raise
            logger.warning("%s", error.message)  # a flow that ran once; its topic is gone, the others are not
            continue
        yield each.topic, each.into, lags


def find_flow(declared: Sequence[Flow], topic: str, table: str) -> Flow:
    """The declared flow from *topic* into *table*; else one that appends."""
    mine = (each for each in declared if (each.topic, each.into) == (topic, table))
    return next(mine, Flow(name=topic, topic=topic, into=table))


def count_dead_letters(settings: Settings, flow: Flow) -> tuple[Reason, ...]:
    """Dead letters of a flow by reason."""
    with make_warehouse(settings.warehouse, flow.target) as warehouse, warehouse.transaction() as transaction:
        return count_reasons(transaction, flow.target, LetterKeys.of(settings))


def read_dead_letters(settings: Settings, flow: Flow, limit: int, at: tuple[int, int] | None) -> tuple[Letter, ...]:
    """Dead letters of a flow, or the one *at* a partition and offset."""
    with make_warehouse(settings.warehouse, flow.target) as warehouse, warehouse.transaction() as transaction:
        return read_letters(transaction, flow.target, LetterKeys.of(settings), limit, at)


def drop_dead_letters(settings: Settings, flow: Flow, at: tuple[int, int] | None) -> int:
    """Delete dead letters of a flow, or the one *at* a partition and offset; returns how many."""
    with make_warehouse(settings.warehouse, flow.target) as warehouse, warehouse.transaction() as transaction:
        return drop_letters(transaction, flow.target, at)


def replay_flow_dead_letters(
    settings: Settings, flow: Flow, progress: Progress, at: tuple[int, int] | None = None
) -> Replayed:
    """Decode the dead letters of a flow again, or the one *at* a place, and move what fits; see `replay_dead_letters`."""
    refuse_steps(flow, "a replay of dead letters")
    with open_warehouse(settings, flow.target) as warehouse:
        columns = flow.columns or find_columns(settings, flow, open_connection(settings, flow), warehouse)
        loads = load_builder(flow, columns)
        plain = partial(make_decoder, settings.registry, flow, columns)
        protection = protecting(settings, flow, columns, warehouse, plain)
        protection.settle()
        table: pa.Schema = warehouse.prepare(loads.columns(table_columns(flow, columns)))
        return replay_dead_letters(warehouse, loads, protection.make_decoder(table), progress=progress, at=at)
