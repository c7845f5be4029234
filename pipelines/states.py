"""How a run and the attempts of its steps can stand, and how long they took.

Each end says what happened; none but one is a success.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Of a run, a step or an attempt."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"  #: a cell raised, or a function, a statement or an expectation
    KERNEL_DIED = "kernel_died"  #: the process of the cells ended by itself or was killed by others
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"  #: by a person, or because what it needs did not succeed
    LOST = "lost"  #: its worker does not beat any more
    INFRASTRUCTURE_ERROR = "infrastructure_error"  #: no kernel, no disk, no database: not the notebook's fault
    SKIPPED = "skipped"  #: never ran, by the rule of its pipeline; the event says which

    @property
    def is_end(self) -> bool:
        """Whether nothing follows without somebody's decision."""
        return self not in {State.QUEUED, State.RUNNING}


class FlowState(StrEnum):
    """How a flow stands that workers keep running."""

    STOPPED = "stopped"  #: nobody wants it to run
    STARTING = "starting"  #: its process is there, and not yet at work
    RUNNING = "running"
    WAITING = "waiting"  #: to be started, by any worker
    FAILED = "failed"  #: for a reason that a person has to remove


def shown_seconds(row: Mapping[str, Any]) -> str:
    """How long a run, a step or an attempt took, from a row of the store; empty while it goes on."""
    if row["started_at"] is None or row["ended_at"] is None:
        return ""
    return f"{(row['ended_at'] - row['started_at']).total_seconds():.1f} s"
