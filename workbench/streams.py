"""Flows with `engine: stream`: a supervised streaming query for steps that look at several records.

For all others `engine: spark` is the better way: it keeps no checkpoint, which would hold records on
a disk and be a second truth beside the ledger.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from workbench.errors import SettingsError
from workbench.flows import bind_steps, load_builder, make_decoder, open_connection, table_columns
from workbench.ingestion.batch import BatchLimits
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.cluster.watermarks import read_topic_state
from workbench.ingestion.definition import Flow
from workbench.observability import metrics
from workbench.protecting import read_rules
from workbench.security.at_rest import encryption_at_rest
from workbench.security.secrets import private_folder
from workbench.sessions import open_session
from workbench.settings import Settings
from workbench.spark_lane.stepped import Decode
from workbench.transformation.row_wise import Step
from workbench.transformation.streams.progress import Meter
from workbench.transformation.streams.queries import StreamPlan, start_query, start_relay
from workbench.transformation.streams.supervision import Patience, Query, supervise
from workbench.warehouse.spark.failures import find_error

BATCH_OFFSETS = 200_000
REAL_TIME_EVERY = "5 seconds"  # between checkpoints, the shortest that Spark allows

logger = logging.getLogger(__name__)


def run_stream(
    settings: Settings,
    flow: Flow,
    *,
    follow: bool = False,
    stop: threading.Event | None = None,
    patience: Patience | None = None,
    checkpoints: str = "",
) -> None:
    """Bring a topic through steps that look at several records into a table, each batch once.

    Args:
        settings: cluster, warehouse and Spark.
        flow: with `engine: stream`.
        follow: go on with what arrives, until *stop* is set; without it the query ends where the
            topic ends now. Windows that are open then stay in the checkpoint until the next run.
        stop: set it to end the stream between two batches.
        patience: with a query that fails.
        checkpoints: folder in which the flow's checkpoint is; a URL such as `hdfs://…` on a
            cluster. Empty is `checkpoints` under WORKBENCH_HOME.

    Raises:
        SettingsError: when the flow is no stream.
        SparkError: when the query fails in a way that does not pass.
        KafkaError: when the topic is not there.
        WarehouseError: when the table does not fit.

    Example:
        >>> run_stream(Settings.load(), read_flow(Path("pipelines/flows"), "clicks-by-minute"), follow=True)
    """
    if flow.engine != "stream" or flow.columns is None:
        raise SettingsError([f"{flow.name}: engine is {flow.engine}, and only flows with engine stream are streams."])
    plan = stream_plan(settings, flow, checkpoints or str(settings.home / "checkpoints"))

    def start() -> Query:
        session = open_session(settings, tell=logger.info)
        return start_query(session, plan, follow=follow)  # type: ignore[no-any-return]

    supervise(
        start,
        stop=stop or threading.Event(),
        patience=patience or Patience(),
        look=Meter(flow.name).look,
        restarted=lambda cause: metrics.STREAM_RESTARTS.labels(flow.name, cause).inc(),
        told=find_error,
        name=flow.name,
    )


def stream_plan(settings: Settings, flow: Flow, checkpoints: str) -> StreamPlan:
    """The query of a flow.

    Raises:
        KafkaError: when the topic is not there.
    """
    assert flow.columns is not None, "run_stream has looked"
    read_rules(settings, flow)  # refuses what a stream does not encrypt
    connection, columns = open_connection(settings, flow), table_columns(flow, flow.columns)
    read_topic_state(connection, flow.topic)  # Spark waits for ever for a topic that is not there
    decode = Decode(
        make_decoder=partial(make_decoder, settings.registry, flow, flow.columns),
        loads=load_builder(flow, flow.columns),
        columns=columns,
        limits=BatchLimits(),
    )
    return StreamPlan(
        name=flow.name,
        table=flow.into,
        source=source_options(connection, flow),
        decode=decode,
        columns=decode.schema,
        steps=bind_steps(settings, flow),
        checkpoint=checkpoint_folder(checkpoints, flow.name),
    )


def source_options(connection: KafkaConnection, flow: Flow) -> dict[str, str]:
    """Options of Spark's Kafka source; where to begin counts for a new checkpoint only."""
    start = (
        {"startingTimestamp": str(int(flow.start.timestamp() * 1000)), "startingOffsetsByTimestampStrategy": "latest"}
        if isinstance(flow.start, datetime)
        else {"startingOffsets": flow.start}
    )
    return {
        **connection.for_spark(),
        **start,
        "subscribe": flow.topic,
        "failOnDataLoss": "true",
        "includeHeaders": "true",
        "kafka.isolation.level": "read_committed",
        "maxOffsetsPerTrigger": str(BATCH_OFFSETS),
    }


def checkpoint_folder(checkpoints: str, name: str) -> str:
    """The checkpoint of one stream, a folder of mode 0700; a warning tells when its disk is not encrypted."""
    if "://" in checkpoints:
        logger.warning("the checkpoint of %s is at %s: see that it is private and encrypted there", name, checkpoints)
        return f"{checkpoints.rstrip('/')}/{name}"
    folder = private_folder(private_folder(Path(checkpoints)) / name)
    found = encryption_at_rest(folder)
    if found.encrypted != "yes":
        logger.warning(
            "the checkpoint of %s holds keys and values of records on a disk that is %s: %s",
            name,
            "not encrypted" if found.encrypted == "no" else "perhaps not encrypted",
            found.detail,
        )
    return str(folder)


def relay(
    settings: Settings,
    source: str,
    into: str,
    steps: Sequence[Step] = (),
    *,
    stop: threading.Event,
    checkpoints: str = "",
    every: str = REAL_TIME_EVERY,
) -> None:
    """Send records from topic to topic within milliseconds, AT LEAST ONCE: after a failure some come twice.

    Spark's real-time mode: each partition has a task that never ends, so the master needs a core
    for each. Steps look at each row by itself and are Spark's own expressions; they are given
    `key`, `value` (bytes) and `timestamp`, and give `value`, and `key` where there is one.

    Args:
        settings: cluster and Spark.
        source: topic to read, from its end on when there is no checkpoint.
        into: topic to write, which is there.
        steps: functions from frame to frame.
        stop: set it to end the relay.
        checkpoints: as for `run_stream`.
        every: time between two checkpoints: as much is sent again after a failure.

    Raises:
        SparkError: when the query fails in a way that does not pass.
        KafkaError: when a topic is not there.

    Example:
        >>> relay(settings, "orders", "orders-eu", [lambda frame: frame.where("value LIKE '%EU%'")], stop=Event())
    """
    connection = KafkaConnection.from_settings(settings.kafka)
    for topic in (source, into):
        read_topic_state(connection, topic)
    name = f"{source}-to-{into}"
    checkpoint = checkpoint_folder(checkpoints or str(settings.home / "checkpoints"), name)

    def start() -> Query:
        session = open_session(settings, tell=logger.info)
        return start_relay(  # type: ignore[no-any-return]
            session,
            connection.for_spark(),
            name=name,
            source=source,
            target=into,
            steps=steps,
            checkpoint=checkpoint,
            every=every,
        )

    supervise(
        start,
        stop=stop,
        # In real-time mode one batch follows the other at once; what is cut off is sent again.
        patience=Patience(batch_seconds=0.0),
        look=Meter(name).look,
        restarted=lambda cause: metrics.STREAM_RESTARTS.labels(name, cause).inc(),
        name=name,
    )
