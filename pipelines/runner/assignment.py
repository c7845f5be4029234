"""One attempt of one step: what it is told, and how it ended. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from pipelines.engine import Checkpoints, JobLimits
from pipelines.planning.bindings import Bindings
from pipelines.states import State
from workbench.security.keyset.opening import Keys


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """What is run, with what, and where what it makes goes."""

    kind: Literal["notebook", "function", "sql", "flow"]
    target: str  #: a path within the project, `module:name`, or the name of a flow
    roots: tuple[Path, ...]  #: of the project: modules of functions are there
    file: Path | None  #: of a notebook, of SQL and of a flow, as it was found
    folder: Path  #: of this attempt alone; see `pipelines.runner.folders`
    bindings: Bindings
    limits: JobLimits
    secrets: Mapping[str, SecretStr] = field(default_factory=dict, repr=False)  #: by name of the parameter
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)  #: over that of the worker
    hidden: Mapping[str, SecretStr] = field(default_factory=dict, repr=False)  #: in it, and in nothing that is kept
    checkpoints: Checkpoints | None = None  #: of a notebook that has some
    keys: Keys | None = field(default=None, repr=False)  #: that encrypt log and output; None leaves them in clear


@dataclass(frozen=True, kw_only=True)
class Result:
    """How the attempt ended. Only `State.SUCCEEDED` is a success."""

    state: State
    error: str = ""  #: what happened, for people; its last line says it alone
    cell: int | None = None  #: counted from 0
    last_lines: tuple[str, ...] = ()
    signal: int | None = None  #: that ended the kernel or the child process
    peak_memory_bytes: int | None = None
    output: Path | None = None
    resumed_from: int | None = None  #: number of the attempt whose checkpoint it went on from
    resumed_cell: int | None = None  #: that checkpoint, counted from 0
    not_resumed: str = ""  #: why it began with the first cell, when it might not have


def told(message: str, remedy: str) -> str:
    """What happened and what to do about it, in one line."""
    return " ".join(f"{each.rstrip('.')}." for each in (message, remedy) if each)
