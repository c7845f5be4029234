"""What is done with a flow's process: whether it is to end, and what follows when it has ended. Nothing here does anything."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import StrEnum

from pipelines.states import FlowState

FIRST_SECONDS, MOST_SECONDS, JITTER = 0.5, 60.0, 0.2
TROUBLE_FREE_SECONDS = 300.0  #: after which earlier ends are forgotten
CORRECT = 78  #: exit code of what a person has to correct: EX_CONFIG of sysexits.h
LOCK_TAKEN = 75  # of the guard


class Cause(StrEnum):
    """Why a worker ends a process that would have gone on."""

    STOP = "stop"  #: somebody wants it stopped
    ANEW = "anew"  #: somebody wants it started anew
    CHANGED = "changed"  #: its file is another now
    LEAVE = "leave"  #: the worker ends
    LATE = "late"  #: the store does not answer, and another worker may soon take it


@dataclass(frozen=True)
class Started:
    """With what a process was started."""

    generation: int
    file_sha256: str | None


@dataclass(frozen=True)
class Wanted:
    """What is wanted now."""

    is_running: bool
    generation: int
    file_sha256: str | None
    by: str = ""


@dataclass(frozen=True)
class Ending:
    """How a process ended."""

    code: int | None  #: of its exit, 128 + N after signal N; None when it could not be started
    seconds: float  #: that it has lived
    told: str = ""  #: what it said itself


@dataclass(frozen=True)
class Next:
    """What follows. `STARTING` is to start it again at once, by the same worker."""

    state: FlowState
    reason: str
    failures: int = 0
    delay_seconds: float = 0.0


def cause_to_end(started: Started, wanted: Wanted, *, is_leaving: bool) -> Cause | None:
    """Why a process that runs is to be ended; None when it is not."""
    if not wanted.is_running:
        return Cause.STOP
    if is_leaving:
        return Cause.LEAVE
    if started.generation != wanted.generation:
        return Cause.ANEW
    return Cause.CHANGED if started.file_sha256 != wanted.file_sha256 else None


def judge(ending: Ending, cause: Cause | None, wanted: Wanted, *, worker: str, failures: int, chance: float) -> Next:
    """What follows when a process has ended.

    Args:
        ending: how.
        cause: why the worker has ended it; None when it ended by itself.
        wanted: what is wanted now, whatever was wanted when it was told to end.
        worker: who ran it.
        failures: how often in a row it had ended by itself before.
        chance: between 0 and 1.
    """
    if not wanted.is_running:
        return Next(FlowState.STOPPED, f"stopped by {wanted.by}")
    if cause is not None:
        is_here = cause in {Cause.CHANGED, Cause.ANEW, Cause.STOP}
        return Next(FlowState.STARTING if is_here else FlowState.WAITING, _told(cause, wanted.by, worker))
    reason = describe(ending)
    if ending.code == CORRECT:
        return Next(FlowState.FAILED, reason)
    failures = 1 if ending.seconds >= TROUBLE_FREE_SECONDS else failures + 1
    return Next(FlowState.WAITING, reason, failures, delay_seconds(failures, chance))


def _told(cause: Cause, by: str, worker: str) -> str:
    return {
        Cause.CHANGED: "its file has changed",
        Cause.LEAVE: f"worker {worker} was told to end",
        Cause.LATE: f"worker {worker} could not reach the store",
    }.get(cause, f"started anew by {by}")


def delay_seconds(failures: int, chance: float) -> float:
    """How long to wait before the next start: twice as long each time, and not the same for all flows at once."""
    # Beyond 2 ** 10 it is the most in any case.
    doubled = FIRST_SECONDS * 2 ** min(failures - 1, 10)
    return float(min(doubled * (1 + JITTER * (2 * chance - 1)), MOST_SECONDS))


def describe(ending: Ending) -> str:
    """Why a process ended by itself, for people."""
    if ending.told:
        return ending.told
    if ending.code is None:
        return "its process could not be started"
    if ending.code == LOCK_TAKEN:
        return "the process before it has not ended yet on this machine"
    number = ending.code - 128 if ending.code > 128 else -ending.code
    if number > 0 and number in set(signal.Signals):
        return f"its process was killed by {signal.Signals(number).name}"
    return f"its process ended with code {ending.code}"
