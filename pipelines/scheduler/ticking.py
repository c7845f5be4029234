"""What follows from the clock: the runs and skips of a schedule that is due."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from pipelines.calendar import due
from pipelines.planning.runs import Plan
from pipelines.scheduler.schedules import next_after
from pipelines.store.pages.runs import open_runs
from pipelines.store.runs.schedules import Schedule, Tick, advance, read_schedules

if TYPE_CHECKING:
    from sqlalchemy import Connection


def tick_schedule(
    connection: Connection,
    schedule: Schedule,
    plan: Plan,
    now: datetime,
    made: Callable[[str, Iterable[int]], None] = lambda _pipeline, _runs: None,
) -> Schedule | None:
    """Make the runs that are due, and return the schedule as it stands then; None when it is gone.

    Args:
        connection: in a transaction.
        schedule: as it stood when it was read last.
        plan: of its pipeline.
        now: the time of the database.
        made: called with the pipeline and its new runs.
    """
    wanted = _tick(connection, schedule, plan, now)
    if (runs := advance(connection, wanted)) is not None:
        made(schedule.pipeline, runs.values())
        return replace(schedule, cursor=wanted.cursor, next_at=wanted.next_at)
    # Another scheduler was here, or somebody has paused it.
    there = read_schedules(connection, schedule.pipeline)
    return next((each for each in there if each.name == schedule.name), None)


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
