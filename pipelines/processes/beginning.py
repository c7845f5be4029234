"""How each process of pipelines begins that `workbench up` starts."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable

from workbench.masking import mask_logs


def begin_process(quiet: Iterable[str] = ()) -> None:
    """Keep what it writes private, and its log on stderr, without secrets.

    Args:
        quiet: loggers besides Alembic's of which only warnings are told.
    """
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    mask_logs()
    for name in ("alembic", *quiet):
        logging.getLogger(name).setLevel(logging.WARNING)
