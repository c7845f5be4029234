"""What another engine wants to have run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from pipelines.definition import Pipeline

MINUTES = re.compile(r"-(\d{8,9})$")  # since 1970, which the CronJob controller appends to the name of a Job
MOST_LATE, MOST_EARLY = timedelta(days=366), timedelta(days=1)


class Cause(StrEnum):
    """Whose parameters the run has."""

    SCHEDULE = "schedule"
    TRIGGER = "trigger"
    HAND = "hand"


#: Airflow's types of runs.
CAUSES: Mapping[str, Cause] = {
    **{each.value: each for each in Cause},
    "scheduled": Cause.SCHEDULE,
    "backfill": Cause.SCHEDULE,
    "asset_triggered": Cause.TRIGGER,
    "asset_materialization": Cause.HAND,
    "manual": Cause.HAND,
    "operator_triggered": Cause.HAND,
}


@dataclass(frozen=True, kw_only=True)
class Order:
    """One step of one run, or all of the run."""

    run_key: str  #: the other engine's name of the run; the same name is the same run
    cause: Cause
    instant: datetime  #: with its zone
    step: str | None = None
    is_new_cycle: bool = False  #: somebody wants the step to run again, though it has ended
    given: Mapping[str, Any] = field(default_factory=dict)  #: over the parameters of the cause

    def raw_parameters(self, pipeline: Pipeline) -> Mapping[str, Any]:
        """What the file gives to runs of this cause."""
        definition = pipeline.definition
        if self.cause is Cause.SCHEDULE and definition.schedule is not None:
            return definition.schedule.parameters
        if self.cause is Cause.TRIGGER and definition.triggers:
            return definition.triggers[0].parameters
        return {}


def is_new_cycle(attempt: int, first_attempt: int) -> bool:
    """Whether an attempt is the first of those that somebody has asked for after the step had ended."""
    return attempt > 1 and attempt == first_attempt


def instant_of_job(name: str, now: datetime) -> datetime | None:
    """The instant for which a CronJob has made the Job of this name; None when somebody else made it.

    A name that ends in a date, such as daily-20130131, is somebody else's: as minutes that is long ago.
    """
    found = MINUTES.search(name)
    instant = datetime.fromtimestamp(int(found[1]) * 60, UTC) if found else None
    return instant if instant is not None and now - MOST_LATE <= instant <= now + MOST_EARLY else None
