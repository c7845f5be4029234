"""A JupyterLab extension that gives each user a Spark Connect server of their own.

JupyterLab's server loads it (jupyter_server_config.json). It starts Spark in the background
under the user's own account, tells the kernels where to find it, restarts it when it dies,
and takes it down with the server. Pages come first: Spark, which keeps two cores busy for ten
seconds, starts with the first kernel, or when Lab had time to be shown.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from workbench.embedded.profiles import read_profile
from workbench.embedded.programs import make_spark
from workbench.embedded.spark import ENDPOINT_FILE, FAILURE_FILE
from workbench.embedded.spark_ui import SparkUI, new_key
from workbench.embedded.spark_ui_proxy import add_route
from workbench.errors import WorkbenchError
from workbench.runtime.ports import any_free
from workbench.runtime.state import ComponentStatus, State
from workbench.runtime.supervisor import Supervisor
from workbench.security.secrets import private_folder, write_private
from workbench.settings import Settings

logger = logging.getLogger(__name__)
ENDPOINT_VARIABLE = "WORKBENCH_SPARK_ENDPOINT_FILE"
UI_VARIABLE = "WORKBENCH_SPARK_UI_PATH"
HEAD_START_SECONDS = 6.0
KERNEL_ACTIONS = "https://events.jupyter.org/jupyter_server/kernel_actions/v1"


class UserSpark:
    """The Spark server of one JupyterLab: `start` returns at once, `stop` ends it."""

    def __init__(self, settings: Settings, folder: Path, ui: SparkUI | None = None) -> None:
        server = make_spark(settings, folder, log=folder / "spark.log", lock=folder / "run" / "spark.lock")
        self._server = replace(server, ui=ui)
        self._folder = folder
        self._supervisor = Supervisor(folder, self._report)

    def start(self) -> None:
        """Begin to start the server; a failure is written where kernels look for it."""
        self._supervisor.__enter__()
        self._supervisor.launch([self._server])

    def stop(self) -> None:
        """End the server."""
        self._supervisor.__exit__(None, None, None)

    def _report(self, status: ComponentStatus) -> None:
        failure = self._folder / FAILURE_FILE
        if status.state is State.FAILED:
            write_private(failure, status.reason)
        elif status.state in {State.STARTING, State.RUNNING}:
            failure.unlink(missing_ok=True)


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "workbench.embedded.lab"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Called by jupyter-server when it starts."""
    settings = Settings.load(embedded=False)
    if settings.spark.remote:
        logger.info("Spark is configured to be at %s; none is started", settings.spark.remote)
        return
    # A user may run several named servers; each has a Spark of its own.
    server_name = os.environ.get("JUPYTERHUB_SERVER_NAME", "") or "default"
    folder = private_folder(private_folder(Path.home() / ".workbench-spark") / server_name)
    for name in (ENDPOINT_FILE, FAILURE_FILE):  # of an earlier run
        (folder / name).unlink(missing_ok=True)
    # Kernels are children of this server and inherit its environment.
    os.environ[ENDPOINT_VARIABLE] = str(folder / ENDPOINT_FILE)
    ui = None
    if _is_local(settings):
        ui = SparkUI(port=any_free(), key=new_key())
        os.environ[UI_VARIABLE] = add_route(server, ui)
    start = Once(partial(_start_spark, settings, folder, ui))
    head_start = threading.Timer(HEAD_START_SECONDS, start)
    head_start.daemon = True
    head_start.start()

    async def on_kernel(**_: object) -> None:
        await asyncio.to_thread(start)

    server.event_logger.add_listener(schema_id=KERNEL_ACTIONS, listener=on_kernel)


def _is_local(settings: Settings) -> bool:
    """Whether the driver listens on loopback alone: with executors elsewhere its UI would be open beyond it, too."""
    try:
        return not read_profile(settings.spark).is_cluster
    except WorkbenchError:
        return False  # told when the server is started


def _start_spark(settings: Settings, folder: Path, ui: SparkUI | None) -> None:
    try:
        spark = UserSpark(settings, folder, ui)
        spark.start()
        atexit.register(spark.stop)
    except WorkbenchError as error:
        logger.error("Spark could not be started: %s", error)  # noqa: TRY400 - the message is written for people
        write_private(folder / FAILURE_FILE, str(error))


class Once:
    """Calls a function at the first call, and never again; from any thread."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._is_called = False

    def __call__(self) -> None:
        """Call the function, unless that was done."""
        with self._lock:
            if self._is_called:
                return
            self._is_called = True
        self._function()
