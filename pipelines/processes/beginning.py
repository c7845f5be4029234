"""How each process of pipelines begins that `workbench up` starts."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable

from workbench.logs.beginning import begin_logs
from workbench.settings import log_settings


def begin_process(component: str, quiet: Iterable[str] = ()) -> None:
    """Keep what it writes private, and its log on stderr, without secrets.

    Args:
        component: what `workbench status` calls it.
        quiet: loggers besides Alembic's of which only warnings are told.
    """
    os.umask(0o077)
    begin_logs(component, log_settings().options)
    for name in ("alembic", *quiet):
        logging.getLogger(name).setLevel(logging.WARNING)
