"""Spark's loaded classes in one file (AppCDS), made once: a server that maps it has half of its start behind it.

The JVM uses an archive only when Java, the class path and the jars are those that it was made
with; otherwise it starts as if there were none. The name of the file ends in its size.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace

from workbench.embedded.programs import make_spark
from workbench.embedded.scratch import scratch_folder
from workbench.embedded.spark import SparkConnectServer, warm_up
from workbench.errors import ComponentError, WorkbenchError
from workbench.runtime.process import GuardedProcess
from workbench.settings import Settings

logger = logging.getLogger(__name__)
DUMP_SECONDS = 60.0  # the JVM writes the archive when it ends
POLL_SECONDS = 0.1
KEPT_SECONDS = 30 * 86400


def ensure_archive(settings: Settings, tell: Callable[[str], None] = lambda _: None) -> None:
    """Make the archive of this Java and these jars when it is not there; when that fails, Spark starts without."""
    try:
        _make_archive(settings, tell)
    except (WorkbenchError, OSError, TimeoutError) as error:
        logger.warning("Spark starts without an archive of its classes: %s", error)


def _make_archive(settings: Settings, tell: Callable[[str], None]) -> None:
    # On the disk of the jars: at the end the archive is moved there.
    with scratch_folder((settings.home / "jars").resolve(), ".archive-") as folder:
        server = make_spark(
            *(settings, folder / "spark"), log=folder / "spark.log", lock=folder / "run" / "spark.lock",
            profile="local", tell=tell,
        )  # fmt: skip
        if server.find_archive() or not server.jars:
            return
        tell("Preparing Spark for quick starts, once…")
        fresh, target = folder / "fresh.jsa", server.jars[0].parent.parent
        _train(replace(server, training=fresh))
        fresh.chmod(0o600)
        archive = target / f"{server.archive_name}-{fresh.stat().st_size}.jsa"
        fresh.replace(archive)
    for old in target.glob("spark-*.jsa"):
        # Another checkout, with another path of PySpark, may use a newer one.
        if old != archive and time.time() - old.stat().st_mtime > KEPT_SECONDS:
            old.unlink(missing_ok=True)


def _train(server: SparkConnectServer) -> None:
    """Run a server up to its first answer: the classes that it has loaded then are what others need."""
    process = GuardedProcess(replace(server.prepare(), stop_seconds=DUMP_SECONDS))
    process.start()
    try:
        deadline = time.monotonic() + server.start_seconds
        while not server.is_healthy():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ComponentError(f"it did not start:\n{process.log_tail()}")
            time.sleep(POLL_SECONDS)
        warm_up(server.address, server.token)
    finally:
        process.stop()
