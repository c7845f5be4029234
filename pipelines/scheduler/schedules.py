"""The schedules of a pipeline as they stand in the store: one for its cron expression, one for each trigger.

The name of a schedule says its rule. So one whose rule was changed is another schedule, which
begins now, and no instant of the new rule counts as missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from pipelines.calendar import instants
from pipelines.definition import Pipeline
from pipelines.definition.rules import ScheduleRule
from pipelines.definition.triggers import WEBHOOK, KafkaTrigger, Trigger
from pipelines.scheduler.watching import OVERLAP, files_time
from pipelines.store.events import database_time
from pipelines.store.runs.schedules import Schedule, ensure_schedule, pause_schedule, read_schedules, remove_schedules

if TYPE_CHECKING:
    from sqlalchemy import Connection


def cron_name(rule: ScheduleRule) -> str:
    """The name of the schedule of a cron expression."""
    return " ".join([rule.cron, rule.zone, *([] if rule.ambiguous == "once" else [rule.ambiguous])])


def trigger_name(trigger: Trigger) -> str:
    """The name of the schedule that says how far a trigger has come."""
    if trigger.file is not None:
        return f"file {trigger.file.path}"
    if trigger.kafka is not None:
        return _kafka_name(trigger.kafka)
    if trigger.table is not None:
        return f"table {trigger.table.name}"
    if trigger.webhook is not None:
        return f"{WEBHOOK}{trigger.webhook.secret}"
    assert trigger.pipeline is not None, "it is one of them"
    return f"pipeline {trigger.pipeline.name} {' '.join(trigger.pipeline.on)}"


def _kafka_name(kafka: KafkaTrigger) -> str:
    cluster = f"{kafka.cluster}/" if kafka.cluster else ""
    if kafka.lag is not None:
        return f"kafka {cluster}{kafka.topic} lag {kafka.lag} of {kafka.group}"
    return f"kafka {cluster}{kafka.topic} records {kafka.records}"


def next_after(rule: ScheduleRule, cursor: datetime) -> datetime | None:
    """The first instant after *cursor*."""
    return next(instants(rule.schedule, cursor, limit=1), None)


def ensure_schedules(connection: Connection, pipeline: Pipeline) -> None:
    """Have the store know exactly the schedules of *pipeline*; those that are new begin now."""
    now = database_time(connection)
    there = {each.name: each for each in read_schedules(connection, pipeline.name)}
    paused_by = next((each.paused_by for each in there.values() if each.paused), None)
    wanted = dict(_wanted(pipeline, there, now))
    for name, (cursor, next_at) in wanted.items():
        ensure_schedule(connection, pipeline.name, name, cursor=cursor, next_at=next_at)
        # Whoever paused the pipeline did not mean its rule.
        if paused_by is not None and name not in there:
            pause_schedule(connection, pipeline.name, name, paused_by)
    remove_schedules(connection, pipeline.name, but=wanted)


def _wanted(
    pipeline: Pipeline, there: dict[str, Schedule], now: datetime
) -> Iterator[tuple[str, tuple[datetime, datetime | None]]]:
    """Cursor and next instant by name; of a schedule that is there the store keeps its own cursor."""
    rule = pipeline.definition.schedule
    if rule is not None:
        name = cron_name(rule)
        cursor = there[name].cursor if name in there else now
        yield name, (cursor, next_after(rule, cursor))
    for trigger in pipeline.definition.triggers:
        yield trigger_name(trigger), (_beginning(trigger, now), None)


def _beginning(trigger: Trigger, now: datetime) -> datetime:
    """What happened before the trigger was there starts nothing, though the watch of some looks back a while."""
    if trigger.file is not None:
        # The clock of the files may be behind that of the database: what comes next would be from before.
        return min(now, files_time()) + OVERLAP
    return now + OVERLAP if trigger.pipeline is not None else now
