"""One run of a pipeline, with everything that it pins."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, tzinfo
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pipelines.definition import Definition, Pipeline, PlannedStep, run_scope
from pipelines.definition.plan import bind
from pipelines.parameters import as_json, validate
from pipelines.planning.bindings import write_bindings
from pipelines.planning.pins import Pins
from pipelines.planning.run_as import RunAsRule
from pipelines.states import State
from pipelines.store.records import NewRun, NewStep, Retries, Trigger

DEFAULT_POOL = "default"  #: of steps that name none; it has no limit but that of the workers
PARTITION_NAMES = {"hour": "%Y-%m-%dT%H%z", "day": "%Y-%m-%d", "month": "%Y-%m"}


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a run is made for."""

    trigger: Trigger
    instant: datetime  #: `${run.instant}`, with its zone
    event_id: str | None = None  #: makes runs of one instant distinct; see `NewRun`
    event: str = ""  #: `${trigger.event}`
    requested_by: str | None = None

    @property
    def logical_instant(self) -> datetime | None:
        """The instant, if the run is of that instant whoever makes it when; None when it only says when it was asked for."""
        return self.instant if self.trigger is Trigger.SCHEDULE else None


@dataclass(frozen=True)
class Plan:
    """Makes runs of one checked pipeline."""

    pipeline: Pipeline
    pins: Pins
    run_as: RunAsRule = field(default_factory=RunAsRule)  #: of whoever makes the runs

    def by_schedule(self, instant: datetime) -> NewRun:
        """The run of an instant of the schedule.

        Raises:
            ParametersRefused: when a value does not fit, which checked files do not have.
        """
        rule = self.pipeline.definition.schedule
        assert rule is not None, "it has a schedule"
        return self.run(Start(trigger=Trigger.SCHEDULE, instant=instant), self.bound(rule.parameters, instant))

    def run(self, start: Start, given: Mapping[str, Any]) -> NewRun:
        """The run for *start* with the values *given*, in Python's or JSON's form.

        Raises:
            ParametersRefused: with everything that does not fit.
        """
        definition, parameters = self.pipeline.definition, self.pipeline.parameters
        values = validate(parameters, given)
        scope = {**run_scope(start.instant, self._zone, start.event), **values}
        steps = self.pipeline.steps
        bound = {name: write_bindings(step.parameters, step.values(scope)) for name, step in steps.items()}
        timeout = definition.timeout_seconds
        return NewRun(
            pipeline=definition.name,
            trigger=start.trigger,
            definition_sha256=definition.sha256,
            steps=tuple(map(_new_step, steps.values())),
            instant=start.logical_instant,
            event_id=start.event_id,
            partition=_partition(definition, values),
            parameters={"run": as_json(parameters, values), "steps": bound},
            git_commit=self.pins.git_commit,
            notebook_hashes={name: step.target.sha256 for name, step in steps.items()},
            lock_hash=self.pins.lock_hash,
            run_as=definition.run_as or None,
            requested_by=start.requested_by,
            priority=definition.priority,
            timeout_seconds=None if timeout is None else math.ceil(timeout),
        )

    def bound(self, given: Mapping[str, Any], instant: datetime, event: str = "") -> dict[str, Any]:
        """The values of a run that the schedule or a trigger starts, with what their references refer to."""
        return self.pipeline.run_values(given, run_scope(instant, self._zone, event))

    def resolved(self, given: Mapping[str, Any], instant: datetime, event: str = "") -> dict[str, Any]:
        """The values that a file gives, with what their references refer to; those that it does not give are left out."""
        return bind(self.pipeline.parameters, given, run_scope(instant, self._zone, event))

    @property
    def _zone(self) -> tzinfo:
        rule = self.pipeline.definition.schedule
        return UTC if rule is None else ZoneInfo(rule.zone)


def partition_name(by: Literal["hour", "day", "month"], value: object, zone: tzinfo = UTC) -> str:
    """The name of the partition that a parameter names, whatever its type; a time is that of the clock in *zone*."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        value = value.astimezone(zone)
    if isinstance(value, date | datetime):
        return value.strftime(PARTITION_NAMES[by])
    return str(value)


def _partition(definition: Definition, values: Mapping[str, Any]) -> str | None:
    rule = definition.partitions
    return None if rule is None else partition_name(rule.by, values[rule.parameter], ZoneInfo(rule.zone))


def _new_step(planned: PlannedStep) -> NewStep:
    step = planned.step
    pools = () if step.pool == DEFAULT_POOL else (step.pool,)
    return NewStep(name=planned.name, after=step.after, pools=pools, retries=_retries(planned))


def _retries(planned: PlannedStep) -> Retries:
    """As the file says. When it says nothing, only what is no fault of the step is tried again."""
    rule = planned.step.retries
    if "retries" not in planned.step.model_fields_set:
        return Retries(limits={State.LOST: 2, State.INFRASTRUCTURE_ERROR: 2})
    return Retries(
        limits={State(cause): rule.times for cause in rule.on},
        first_seconds=rule.wait_seconds,
        factor=rule.factor,
        most_seconds=rule.longest_seconds,
    )
