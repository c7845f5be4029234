"""One operation of Spark as a value, and how what Spark reports is folded into it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class Outcome(StrEnum):
    """How an operation stands."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"  # its server ended


class ReportedStage(Protocol):
    """What PySpark hands to progress handlers for each stage."""

    stage_id: int
    num_tasks: int
    num_completed_tasks: int
    num_bytes_read: int
    done: bool


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage as Spark last reported it."""

    id: int
    tasks: int
    tasks_done: int
    bytes_read: int
    is_done: bool


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What one request makes Spark do: a query, a write, a command."""

    id: str
    what: str  #: the line of code that asked for it
    started: datetime  #: UTC
    seconds: float = 0.0
    stages: tuple[Stage, ...] = ()
    tasks_running: int = 0
    rows: int = 0  #: that came back
    outcome: Outcome = Outcome.RUNNING
    error: str = ""

    @property
    def tasks(self) -> int:
        """Tasks of all stages that Spark has reported."""
        return sum(stage.tasks for stage in self.stages)

    @property
    def tasks_done(self) -> int:
        """Those of them that have ended."""
        return sum(stage.tasks_done for stage in self.stages)

    @property
    def bytes_read(self) -> int:
        """Input of all stages."""
        return sum(stage.bytes_read for stage in self.stages)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.outcome is Outcome.RUNNING


def reported(operation: Operation, stages: Iterable[ReportedStage], tasks_running: int) -> Operation:
    """The operation after a report; a stage that a report leaves out stays as it was."""
    known = {stage.id: stage for stage in operation.stages}
    for each in stages:
        known[each.stage_id] = Stage(
            id=each.stage_id,
            tasks=each.num_tasks,
            tasks_done=each.num_completed_tasks,
            bytes_read=each.num_bytes_read,
            is_done=each.done,
        )
    return replace(operation, stages=tuple(known[key] for key in sorted(known)), tasks_running=tasks_running)


def ended(operation: Operation, outcome: Outcome, seconds: float, error: str = "") -> Operation:
    """The operation after its end: without the stages that Spark planned and then had no need to run."""
    stages = operation.stages
    if outcome is Outcome.DONE:
        ran = (stage for stage in stages if stage.is_done or stage.tasks_done)
        stages = tuple(replace(stage, tasks_done=stage.tasks, is_done=True) for stage in ran)
    return replace(operation, outcome=outcome, seconds=seconds, error=error, stages=stages, tasks_running=0)
