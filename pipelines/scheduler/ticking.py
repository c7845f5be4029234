"""What follows from the clock: the runs and skips of schedules that are due."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from pipelines.calendar import due
from pipelines.planning.runs import Plan
from pipelines.scheduler.schedules import next_after
from pipelines.store.pages.runs import open_runs
from pipelines.store.runs.schedules import Schedule, Tick, advance_all, read_schedules

if TYPE_CHECKING:
    from sqlalchemy import Connection


def tick_schedules(
    connection: Connection, schedules: Sequence[tuple[Schedule, Plan]], now: datetime
) -> Iterator[tuple[Schedule, tuple[int, ...]]]:
    """Make the runs that are due, and yield the schedules as they stand then, each with the ids of its new runs.

    One that is gone is left out.

    Args:
        connection: in a transaction.
        schedules: each as it stood when it was read last, and the plan of its pipeline.
        now: the time of the database.
    """
    wanted = {each.pipeline: (each, _tick(connection, each, plan, now)) for each, plan in schedules}
    made = {tick.pipeline: runs for tick, runs in advance_all(connection, [tick for _, tick in wanted.values()])}
    for name, (schedule, tick) in wanted.items():
        if name in made:
            yield replace(schedule, cursor=tick.cursor, next_at=tick.next_at), made[name]
        else:
            # Another scheduler was here, or somebody has paused it.
            yield from ((each, ()) for each in read_schedules(connection, name) if each.name == schedule.name)


def _tick(connection: Connection, schedule: Schedule, plan: Plan, now: datetime) -> Tick:
    rule = plan.pipeline.definition.schedule
    assert rule is not None, "it is on the agenda"
    found = due(rule.schedule, schedule.cursor, now, rule.catches_up)
    cursor = found[-1].instant if found else schedule.cursor
    skips = {each.instant: each.skipped for each in found if each.skipped}
    to_run = [each.instant for each in found if not each.skipped]
    if to_run and (reason := _too_many(connection, plan)):
        skips |= dict.fromkeys(to_run, reason)
        to_run = []
    return Tick(
        pipeline=schedule.pipeline,
        schedule=schedule.name,
        seen=schedule.cursor,
        cursor=cursor,
        next_at=next_after(rule, cursor),
        runs=[plan.by_schedule(each) for each in to_run],
        skips=skips,
    )


def _too_many(connection: Connection, plan: Plan) -> str:
    """Why no run begins beside those that there are; empty when one may, or waits for its turn."""
    limit = plan.pipeline.definition.concurrency
    if limit.over == "queue":
        return ""
    live = open_runs(connection, plan.pipeline.name)
    if len(live) < limit.runs:
        return ""
    return f"{len(live)} of at most {limit.runs} runs had not ended: {', '.join(map(str, live[:5]))}"
