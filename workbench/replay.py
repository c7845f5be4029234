"""A table made anew from its topic beside the live one, proven, and put in its place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from workbench.errors import WarehouseError
from workbench.flows import Progress, ingest_flow, refuse_steps
from workbench.ingestion.definition import Flow
from workbench.inspection import verify_flow
from workbench.loading import Mode
from workbench.settings import Settings
from workbench.warehouse.dialects import make_warehouse
from workbench.warehouse.shadow import forget, take_place


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What a replay did."""

    rows: int
    dead: int
    kept: str  #: table with the old rows; empty when they are gone


def replay_flow(settings: Settings, flow: Flow, start: str | datetime, progress: Progress, *, keep: bool) -> Replay:
    """Fill a shadow of the flow's table, verify it, and put its rows in the place of the live ones.

    The live flow may go on meanwhile. What it commits after the shadow was filled is read again
    after the exchange: each record is once in the table before it and after it.

    Args:
        settings: the cluster and the warehouse.
        flow: as its file is now; this is the way to apply changed columns to old records.
        start: `earliest`, or a time: rows of older records are kept as they are.
        progress: called with the number of records committed since the last call.
        keep: whether the old rows stay, in a table of their own.

    Raises:
        WarehouseError: when the flow never ran, or the shadow is not right: nothing has changed then.
        KafkaError: when the cluster does not answer, or no longer has the records.
        SettingsError: when the flow has steps.
    """
    refuse_steps(flow, "replay")
    if flow.mode is Mode.MERGE and start != "earliest":
        raise WarehouseError(
            f"{flow.into} has one row for each key, which may come from before {start}",
            remedy="Replay a merge from earliest.",
        )
    shadow = replace(flow, into=f"{flow.into}__replay", start=start, stands_for=flow.into)
    with make_warehouse(settings.warehouse, flow.target) as warehouse:
        if not warehouse.progress():
            raise WarehouseError(
                f"no flow has written {flow.into} from {flow.topic}", remedy="Run it first: `workbench ingest run`."
            )
        with warehouse.transaction() as connection:
            forget(connection, shadow.target)
    done = ingest_flow(settings, shadow, progress)
    reports = verify_flow(settings, shadow)
    if wrong := [each for each in reports if not each.is_right]:
        raise WarehouseError(
            f"the shadow {shadow.into} is not right: {wrong[0]}", remedy="It is left for inspection; drop it when done."
        )
    kept = f"{flow.into}__before_{datetime.now(UTC):%Y%m%d%H%M%S}" if keep else ""
    with make_warehouse(settings.warehouse, flow.target) as warehouse, warehouse.transaction() as connection:
        rows = take_place(connection, flow.target, shadow.target, kept)
    return Replay(rows=rows, dead=done.dead, kept=kept)
