"""What the panel of pipelines shows, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class PipelineState:
    """A pipeline as it stands."""

    name: str
    owner: str = ""
    paused: bool = False
    next_at: datetime | None = None
    last: tuple[str, ...] = ()  #: states of its last runs, the newest first


@dataclass(frozen=True, kw_only=True)
class RunState:
    """A run with the state of each of its steps."""

    id: int
    state: str
    trigger: str = ""
    requested_by: str = ""
    began: datetime | None = None
    ended: datetime | None = None
    steps: tuple[tuple[str, str], ...] = ()  #: name and state


@dataclass(frozen=True, kw_only=True)
class RunForm:
    """What a run of a pipeline may be given."""

    pipeline: str
    schema: Row = field(default_factory=dict)  #: JSON Schema of each parameter, by name
    required: tuple[str, ...] = ()
    partitions: Row | None = None  #: by what it is partitioned, and since when


@dataclass(frozen=True, kw_only=True)
class PipelinesState:
    """All pipelines; one of them with its form and its runs; a backfill that somebody has asked about."""

    pipelines: tuple[PipelineState, ...] = ()
    form: RunForm | None = None
    runs: tuple[RunState, ...] = ()
    preview: tuple[tuple[str, str], ...] = ()  #: partitions that a backfill would run, and how each stands
    problems: tuple[str, ...] = ()  #: in words
