"""PySpark's client in a kernel before anybody asks for it: two to three seconds of imports, while nothing runs.

A kernel in which no `spark` is used is 130 MB larger for it; WORKBENCH_SPARK_PRELOAD turns it off.
"""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Sequence

logger = logging.getLogger(__name__)

# In this order, so that whoever runs a cell meanwhile waits for one of them alone.
MODULES = ("pyarrow", "pandas", "grpc", "pyspark.sql.connect.session", "workbench.warehouse.spark.source")
AFTER_SECONDS = 1.0  # the kernel itself comes first


class Preloader:
    """Imports modules in the background, until the first cell runs.

    Two threads that import parts of one package at once can see it half made. So a cell waits for
    the module that is being imported, and the rest is left to it.
    """

    def __init__(self, modules: Sequence[str] = MODULES, after_seconds: float = AFTER_SECONDS) -> None:
        self._modules, self._after_seconds = modules, after_seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._import, name="preload", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def end(self, *_: object) -> None:
        """Called before a cell runs: from now on nothing is imported here."""
        self._over.set()
        self._thread.join()

    def _import(self) -> None:
        if self._over.wait(self._after_seconds):
            return
        for name in self._modules:
            if self._over.is_set():
                return
            try:
                importlib.import_module(name)
            except Exception:  # whoever needs it is told
                logger.debug("%s could not be imported ahead", name, exc_info=True)
                return
