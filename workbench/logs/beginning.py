"""How the log of a process begins."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TextIO

from workbench.logs.context import VARIABLE, bind_process, read_variable
from workbench.logs.formatting import BriefLines, LogFormat, make_formatter
from workbench.masking import mask_logs

OURS = ("workbench", "pipelines", "hub")  #: loggers that the level is for


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """How a process logs."""

    format: LogFormat = LogFormat.TEXT
    level: str = ""  #: debug, info, warning or error; empty is what fits the process
    context: Mapping[str, str] = field(default_factory=dict)  #: what all of its lines belong to


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what stderr is at that moment: IPython exchanges it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


class _OfNotebooks(_Stderr):
    """Is silent where the notebook has set up logging itself: its own handlers get the lines, too."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not logging.getLogger().handlers


def begin_logs(component: str, options: LogOptions, *, default_level: str = "info", is_brief: bool = False) -> None:
    """Have this process log to stderr, without secrets. May be called again, by who knows better.

    Does nothing but mask where somebody else has set up logging already.

    Args:
        component: which part of the workbench this process is.
        options: as the settings have it.
        default_level: of ours, when the settings name none.
        is_brief: whether lines of text are for a terminal.
    """
    mask_logs()
    root = logging.getLogger()
    ours = next((each for each in root.handlers if isinstance(each, _Stderr)), None)
    if ours is None:
        if root.handlers:
            return
        root.addHandler(ours := _Stderr())
    bind_process(**options.context)
    is_brief = is_brief and options.format is LogFormat.TEXT
    ours.setFormatter(BriefLines() if is_brief else make_formatter(component, options.format))
    level = _number(options.level or default_level)
    # Of libraries nothing below info: there, some tell what they send.
    root.setLevel(max(level, logging.INFO))
    for name in OURS:
        logging.getLogger(name).setLevel(level)


def begin_step_logs(environment: Mapping[str, str], *, component: str = "kernel") -> None:
    """Have what `workbench` logs in a step of a pipeline say whose it is. Called in kernels and child processes.

    Args:
        environment: of this process. What is wrong in it counts as not set: `Settings.load` tells.
        component: what this process is called in its lines.
    """
    mask_logs()
    logger = logging.getLogger("workbench")
    if any(isinstance(each, _Stderr) for each in logger.handlers):
        return
    try:
        log_format = LogFormat(environment.get("WORKBENCH_LOG_FORMAT", ""))
    except ValueError:
        log_format = LogFormat.TEXT
    with suppress(ValueError):
        bind_process(**read_variable(environment.get(VARIABLE, "")))
    handler = _OfNotebooks()
    handler.setFormatter(make_formatter(component, log_format))
    logger.addHandler(handler)
    logger.setLevel(_number(environment.get("WORKBENCH_LOG_LEVEL", ""), logging.WARNING))


def _number(level: str, otherwise: int = logging.INFO) -> int:
    return logging.getLevelNamesMapping().get(level.upper(), otherwise)
