"""What one execution of a notebook is asked to do, and how it ended. Values only: nothing is read or started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from pipelines.states import State
from workbench.security.keyset.opening import Keys

MEGABYTE = 1_000_000


@dataclass(frozen=True, kw_only=True)
class JobLimits:
    """How long an execution and its cells may take, and how much output is kept. None is no limit."""

    cell_seconds: float | None = None
    run_seconds: float | None = None  #: from the first cell to the end of the kernel, which has 5 s at least
    start_seconds: float = 60.0  #: until a fresh kernel answers
    grace_seconds: float = 10.0  #: between the interrupt and the kill, for a cell that is cancelled or out of time
    cell_output_bytes: int = 10 * MEGABYTE  #: what exceeds it is counted and left out
    run_output_bytes: int = 100 * MEGABYTE


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """An execution of the same notebook that did not succeed."""

    number: int  #: of the attempt
    folder: Path  #: where its checkpoints are
    log: Path


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """Where an execution keeps what it has reached, and whose checkpoints it may go on from."""

    folder: Path
    marks: tuple[str, ...]  #: tags or ids of the cells that are checkpoints
    given: Mapping[str, str] = field(default_factory=dict)  #: what else has to be the same, by what it is called
    earlier: tuple[Earlier, ...] = ()  #: the newest first


@dataclass(frozen=True, kw_only=True)
class NotebookJob:
    """One notebook, its parameters, and where the result goes.

    Exactly one of *parameters* and *injected* may be given. *parameters* are codified by papermill.
    *injected* is the source of the injected cell as somebody else has written it; `secret_reference`
    gives the expression that stands in it for a secret.
    """

    notebook: Path
    output: Path  #: appears whole, when the execution has ended; the caller's name holds attempt and fence
    log: Path  #: JSON lines, one for each event; appended while the notebook runs
    parameters: Mapping[str, object] = field(default_factory=dict)
    injected: str = ""
    keeps_injected: bool = False  #: of a notebook that papermill has prepared; else what was injected before is dropped
    secrets: Mapping[str, SecretStr] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)  #: over that of the pool
    hidden: Mapping[str, SecretStr] = field(default_factory=dict, repr=False)  #: in it, and in nothing that is kept
    folder: Path | None = None  #: working folder of the kernel; None is the notebook's
    kernel: str = ""  #: name of a kernel specification; empty is the notebook's own
    limits: JobLimits = JobLimits()
    checkpoints: Checkpoints | None = None  #: None keeps nothing
    keys: Keys | None = field(default=None, repr=False)  #: of output and log whose names say that they are encrypted


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an execution ended. Only `State.SUCCEEDED` is a success."""

    state: State
    log: Path
    output: Path | None  #: None when it could not be written
    message: str = ""  #: one sentence for people; empty for a success
    remedy: str = ""
    cell: int | None = None  #: where it ended, counted from 0 in the output notebook
    execution_count: int | None = None  #: of that cell, as it stands in In [ ]
    error_name: str = ""
    error_value: str = ""
    last_lines: tuple[str, ...] = ()  #: what was printed last, at most 50 lines
    signal: str = ""  #: SIGKILL and others, when one has ended the kernel
    exit_code: int | None = None  #: of a kernel that ended by itself
    is_out_of_memory: bool = False  #: likely, not certain: killed, and the control group or the peak points there
    limit: str = ""  #: "cell" or "run" for State.TIMED_OUT
    peak_memory_bytes: int | None = None  #: of the kernel; None when it never ran
    seconds: float = 0.0
    resumed_from: int | None = None  #: number of the attempt whose checkpoint it went on from
    resumed_cell: int | None = None  #: that checkpoint, counted from 0
    not_resumed: str = ""  #: why it began with the first cell, when there were earlier attempts
