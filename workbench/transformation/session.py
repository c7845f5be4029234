"""The Spark session of a notebook, a job or a script: a client of a Spark Connect server."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from workbench.errors import SparkError
from workbench.settings import SparkSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

READY_SECONDS = 120.0
POLL_SECONDS = 0.1
TELL_AFTER_SECONDS = 1.0


def connect(settings: SparkSettings, *, tell: Callable[[str], None] = lambda _: None) -> SparkSession:
    """Return a session on the configured Connect server; waits while that server is starting.

    Args:
        settings: where the server is.
        tell: called with a sentence when there is something to wait for.

    Raises:
        SparkError: when there is no server, or it does not let us in.
    """
    remote, token = endpoint(settings, tell)
    # Makes pyspark.sql.functions build Connect expressions; `builder.remote` sets it too.
    os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"
    from pyspark.errors import PySparkException
    from pyspark.sql.connect.client.core import DefaultChannelBuilder
    from pyspark.sql.connect.session import SparkSession as ConnectSession

    # The token is set on the channel: in the address it would show in spark.conf and in errors.
    channel = DefaultChannelBuilder(remote)
    channel.set(channel.PARAM_TOKEN, token)
    try:
        session = cast("SparkSession", ConnectSession.builder.channelBuilder(channel).getOrCreate())
        session.version  # noqa: B018 - the first request: shows now whether the server lets us in
    except PySparkException as error:
        raise SparkError(
            f"Spark at {remote} refused the session: {str(error).splitlines()[0][:300]}",
            remedy="`workbench status` shows whether the server runs; restart it, or correct WORKBENCH_SPARK_TOKEN.",
        ) from None
    return session


def endpoint(settings: SparkSettings, tell: Callable[[str], None]) -> tuple[str, str]:
    """Address and token: of the user's own server when JupyterLab started one, else as configured."""
    if settings.endpoint_file:
        return _read_endpoint(settings.endpoint_file, tell)
    if not settings.remote:
        raise SparkError(
            "no Spark server is running here",
            remedy="Start one with `workbench up`, or set WORKBENCH_SPARK_REMOTE and WORKBENCH_SPARK_TOKEN.",
        )
    return settings.remote, settings.token.get_secret_value()


def _read_endpoint(path: Path, tell: Callable[[str], None]) -> tuple[str, str]:
    started = time.monotonic()
    told = False
    while not path.exists():
        waited = time.monotonic() - started
        failure = path.with_name("failure.txt")
        if failure.exists():
            raise SparkError(
                failure.read_text(encoding="utf-8").strip(),
                remedy="Restart your server from the hub's control panel to try again.",
            )
        if waited > READY_SECONDS:
            raise SparkError(
                f"your Spark server was not ready after {READY_SECONDS:.0f} s",
                remedy=f"See {path.with_name('spark.log')}.",
            )
        if waited > TELL_AFTER_SECONDS and not told:
            told = True
            tell("Your Spark server is starting; this cell runs as soon as it answers.")
        time.sleep(POLL_SECONDS)
    found = json.loads(path.read_text(encoding="utf-8"))
    return found["remote"], found["token"]
