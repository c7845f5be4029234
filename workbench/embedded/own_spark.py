"""`workbench.spark`: the session of a process, and for scripts a server with a profile, for as long as the process lives."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workbench import notebook
from workbench.sessions import open_session
from workbench.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from workbench.embedded.spark import SparkConnectServer

ENDPOINT_VARIABLE = "WORKBENCH_SPARK_ENDPOINT_FILE"
_servers: dict[str, OwnServer] = {}
_starting = threading.Lock()


@dataclass
class OwnServer:
    """A server of this process, and its session."""

    server: SparkConnectServer
    session: SparkSession | None = None


def spark(profile: str | None = None) -> SparkSession:
    """The Spark session of this process: the user's own server in JupyterLab, else the configured one.

    Args:
        profile: a file of `spark_conf/` without `.conf`. A server is started with it, which ends
            with this process, however that ends. Its session is from then on the one that
            `load_table` and the others use.

    Raises:
        SparkError: when there is no server, or it does not let us in.
        ComponentError: when the server of *profile* cannot be started.

    Example:
        >>> workbench.spark(profile="yarn").range(10).count()
        10
    """
    if profile is None:
        return notebook.spark()
    with _starting:
        own = _servers.get(profile) or _servers.setdefault(profile, OwnServer(_start(profile)))
        os.environ[ENDPOINT_VARIABLE] = str(own.server.endpoint_file)
        if own.session is None or own.session.is_stopped:
            own.session = open_session(Settings.load(), new=True, tell=print)
    return own.session


def _start(profile: str) -> SparkConnectServer:
    from workbench.embedded.programs import make_spark
    from workbench.runtime.supervisor import Supervisor

    folder = Path(tempfile.mkdtemp(prefix="workbench-spark-"))
    try:
        server = make_spark(
            Settings.load(embedded=False),
            folder / "spark",
            log=folder / "spark.log",
            lock=folder / "run" / "spark.lock",
            profile=profile,
            tell=print,
        )
        supervisor = Supervisor(folder)
        supervisor.__enter__()
        try:
            supervisor.start([server])
        except BaseException:
            supervisor.__exit__(None, None, None)
            raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise

    def end() -> None:
        supervisor.__exit__(None, None, None)
        shutil.rmtree(folder, ignore_errors=True)

    # After that of PySpark's client, which says goodbye to the server.
    atexit.register(end)
    return server
