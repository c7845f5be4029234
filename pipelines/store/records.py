"""What goes into the store and comes out of it, as values that are right once they are made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter
from typing import Any, Self

from pipelines.states import State

# Whoever looks for what is lost does so each second: with that, a step is taken over within 20 s of the last beat.
LEASE_SECONDS = 18.0  #: a claim that is not renewed for so long is another's to take
BEAT_SECONDS = 5.0  #: how often a worker renews its claims
SILENT_SECONDS = 9.0  #: after which a connection that renews is given up: what comes then is still within the lease
ELSEWHERE = "elsewhere"  #: pool of steps that another scheduler runs; it has no slot, so no worker claims them
Json = Any  #: what json.dumps takes


class Trigger(StrEnum):
    """What a run is there for."""

    SCHEDULE = "schedule"
    MANUAL = "manual"
    EVENT = "event"
    BACKFILL = "backfill"


class Reprocess(StrEnum):
    """Which partitions a backfill runs."""

    MISSING = "missing"  #: those that no run has been made for
    FAILED = "failed"  #: those whose last run did not succeed, and those that are missing
    ALL = "all"  #: every one that is not queued or running


@dataclass(frozen=True, kw_only=True)
class Retries:
    """After which ends of an attempt a step is tried again, how often, and how long after.

    A worker that was lost says nothing about the step: its first new attempt does not wait.
    """

    limits: Mapping[State, int] = field(
        default_factory=lambda: {State.LOST: 2, State.INFRASTRUCTURE_ERROR: 2, State.KERNEL_DIED: 1}
    )  #: new attempts by what ended the one before
    first_seconds: float = 5.0
    factor: float = 2.0
    most_seconds: float = 300.0
    jitter: float = 0.2  #: share of the delay that chance takes off or adds

    def delay_seconds(self, cause: State, times: int, chance: float) -> float | None:
        """How long to wait after *cause* came for the *times*-th time; None is not to try again.

        Args:
            cause: how the attempt ended.
            times: how many attempts have ended so, this one included.
            chance: between 0 and 1.
        """
        if times > self.limits.get(cause, 0):
            return None
        waits = times - 1 - (cause is State.LOST)
        if waits < 0:
            return 0.0
        delay = min(self.first_seconds * self.factor**waits, self.most_seconds)
        return delay * (1 + self.jitter * (2 * chance - 1))

    def as_json(self) -> Json:
        """As it is kept."""
        return {
            "limits": {str(state): times for state, times in self.limits.items()},
            "seconds": [self.first_seconds, self.factor, self.most_seconds, self.jitter],
        }

    @classmethod
    def from_json(cls, kept: Json) -> Self:
        """What `as_json` kept."""
        first, factor, most, jitter = kept["seconds"]
        limits = {State(state): times for state, times in kept["limits"].items()}
        return cls(limits=limits, first_seconds=first, factor=factor, most_seconds=most, jitter=jitter)


@dataclass(frozen=True, kw_only=True)
class NewStep:
    """A step of a run that is to be made."""

    name: str
    after: tuple[str, ...] = ()  #: steps of the same run that have to succeed first
    pools: tuple[str, ...] = ()  #: each of which it takes one slot of while it runs
    retries: Retries = Retries()


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """A run that is to be made, with everything that it pins.

    Raises:
        ValueError: when steps are named twice, wait for one that is not there, or for each other.
    """

    pipeline: str
    trigger: Trigger
    definition_sha256: str
    steps: tuple[NewStep, ...]
    instant: datetime | None = None  #: the logical one, with a zone
    event_id: str | None = None  #: of the event that it is for; for a run by hand, one of its own
    partition: str | None = None  #: what it computes, such as a day; backfills look for it
    backfill_id: int | None = None
    parameters: Json = field(default_factory=dict)  #: of the typed codec; a secret is a reference
    git_commit: str | None = None
    notebook_hashes: Mapping[str, str] = field(default_factory=dict)  #: by step
    lock_hash: str | None = None
    run_as: str | None = None
    requested_by: str | None = None
    priority: int = 0  #: the higher, the sooner
    timeout_seconds: int | None = None  #: from the start of its first step

    def __post_init__(self) -> None:
        names = [step.name for step in self.steps]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"{self.pipeline}: a run has steps, and no two of one name: {names}")
        if unknown := {name for step in self.steps for name in step.after} - set(names):
            raise ValueError(f"{self.pipeline}: steps wait for {sorted(unknown)}, which are not there")
        try:
            TopologicalSorter({step.name: step.after for step in self.steps}).prepare()
        except CycleError as error:
            raise ValueError(f"{self.pipeline}: steps wait for each other: {' → '.join(error.args[1])}") from None
        if self.instant is not None and self.instant.tzinfo is None:
            raise ValueError(f"{self.pipeline}: {self.instant} has no zone")

    @property
    def key(self) -> str:
        """The same for the same run, whoever makes it: of pipeline, trigger, instant, event and backfill."""
        instant = None if self.instant is None else self.instant.astimezone(UTC).isoformat()
        return _digest(self.pipeline, self.trigger, instant, self.event_id, self.backfill_id)


def event_key(pipeline: str, event_id: str) -> str:
    """The key of the run that an event has started, without making it."""
    return _digest(pipeline, Trigger.EVENT, None, event_id, None)


def _digest(*parts: str | int | None) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A process that claims steps; one that is started anew has another id."""

    id: str
    host: str
    pid: int
    version: str
    slots: int = 1


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One step that one worker may run, until it is told otherwise. What it writes carries `attempt_id`."""

    attempt_id: int  #: the fence: a later claim of the step has a greater one
    number: int  #: of the attempt, counted from 1
    step_id: int
    step: str
    run_id: int
    run_key: str
    pipeline: str
    definition_sha256: str
    git_commit: str | None
    notebook_hashes: Mapping[str, str]
    lock_hash: str | None
    parameters: Json
    instant: datetime | None
    partition: str | None
    run_as: str | None
    deadline: datetime | None
    worker: str


@dataclass(frozen=True, kw_only=True)
class LostAttempt:
    """An attempt whose worker does not beat any more."""

    pipeline: str
    run_key: str
    step: str
    attempt_id: int
    instant: datetime | None  #: the logical one of the run
    reason: str


@dataclass(frozen=True)
class Event:
    """Something that happened in an attempt, in the words of whoever tells it."""

    kind: str
    body: Json


@dataclass(frozen=True)
class Message:
    """What somebody outside is to be told, at least once; `key` is the same each time."""

    key: str
    kind: str  #: `alert` or `lineage`
    body: Json


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an attempt ended.

    Raises:
        ValueError: when it did not end.
    """

    state: State
    cell: int | None = None  #: counted from 0
    error: str | None = None
    last_lines: Sequence[str] = ()
    signal: int | None = None  #: that ended the kernel
    peak_memory_bytes: int | None = None
    output_path: str | None = None
    step_hash: str | None = None  #: of all that decides the result; a later step of the same may reuse it
    reused_from: int | None = None  #: the attempt whose output this is
    resumed_from: int | None = None  #: the number of the attempt whose checkpoint it went on from
    events: Sequence[Event] = ()
    messages: Sequence[Message] = ()

    def __post_init__(self) -> None:
        if not self.state.is_end:
            raise ValueError(f"an attempt does not end {self.state}")
