"""What processes log, and how much of it is kept."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from workbench.logs.beginning import LogOptions
from workbench.logs.context import VARIABLE, read_variable
from workbench.logs.formatting import LogFormat
from workbench.logs.rotation import LogLimits
from workbench.sections.base import Memory, Section, variable

UNITS = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def _context(text: str) -> str:
    read_variable(text)
    return text


class LogSettings(Section):
    """What processes log, and how much of it is kept."""

    # Text: people read the first logs, and errors show the end of one. `workbench logs` reads both.
    format: LogFormat = variable(
        "WORKBENCH_LOG_FORMAT",
        LogFormat.TEXT,
        "how lines are written: `text` for people, `json` for what collects logs",
    )
    level: Literal["", "debug", "info", "warning", "error"] = variable(
        "WORKBENCH_LOG_LEVEL",
        "",
        "least level of the workbench's own lines; unset is `info` in processes, and `warning` in commands and steps. "
        "Libraries tell nothing below `info`",
    )
    size: Memory = variable(
        "WORKBENCH_LOG_SIZE", "16m", "of a log file under WORKBENCH_HOME, before it is kept as `NAME.log.1`"
    )
    keep: Annotated[int, Field(ge=0, le=1000)] = variable(
        "WORKBENCH_LOG_KEEP", 3, "how many such older files are kept of each log"
    )
    context: Annotated[str, AfterValidator(_context)] = variable(
        VARIABLE,
        "",
        "set by workers for kernels and child processes, in JSON: the run and the step that their lines are of",
    )

    @property
    def options(self) -> LogOptions:
        """How a process logs."""
        return LogOptions(format=self.format, level=self.level, context=read_variable(self.context))

    @property
    def limits(self) -> LogLimits:
        """How much is kept of each log."""
        return LogLimits(size_bytes=int(self.size[:-1]) * UNITS[self.size[-1].lower()], keep=self.keep)
