"""The runs of a backfill: one for each partition of a range."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from pipelines.planning.runs import Plan, Start
from pipelines.store.records import NewRun, Trigger
from workbench.errors import WorkbenchError


def partition_runs(
    plan: Plan, *, since: str = "", until: str = "", given: Mapping[str, Any], requested_by: str
) -> tuple[NewRun, ...]:
    """A run for each partition from *since* to *until*, both among them, in order.

    Args:
        plan: of a pipeline with partitions.
        since: a date, a month, or an hour; empty is the first partition of the pipeline.
        until: the same; empty is the last one of the pipeline, or the last that is complete.
        given: values of the other parameters.
        requested_by: who wants it.

    Raises:
        WorkbenchError: when the pipeline has no partitions.
        SettingsError: when the range is none.
        ParametersRefused: when a value does not fit.
    """
    from workbench.batch import make_partitions

    rule = plan.pipeline.definition.partitions
    if rule is None:
        raise WorkbenchError(
            f"{plan.pipeline.name} has no partitions, so there is nothing to fill",
            remedy="Give it `partitions` with `by`, `from` and `parameter`; docs/pipelines.md has the format.",
        )
    zone = ZoneInfo(rule.zone)
    now = datetime.now(UTC)
    last = until or rule.until or now
    found = make_partitions(rule.by, since=since or rule.since, until=last, zone=zone)
    if not until and not rule.until:
        found = tuple(each for each in found if each.end is not None and each.end <= now)
    start = Start(trigger=Trigger.BACKFILL, instant=now, event_id=uuid.uuid4().hex, requested_by=requested_by)
    values = plan.pipeline.partition_values
    return tuple(plan.run(start, {**given, **values(each.name)}) for each in found)
