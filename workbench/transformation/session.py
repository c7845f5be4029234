"""The Spark session of a notebook, a job or a script: a client of a Spark Connect server."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from workbench.errors import SparkError
from workbench.sections import SparkSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.connect.client.core import DefaultChannelBuilder

ANSWER_SECONDS = 5.0
DEFAULT_PORT = 15002
RETRIES = 5  # with the waits below about six seconds
LONGEST_RETRY_MILLISECONDS = 2000
READY_SECONDS = 120.0
POLL_SECONDS = 0.1
TELL_AFTER_SECONDS = 1.0


def connect(
    settings: SparkSettings,
    *,
    new: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    ready: Callable[[SparkSession], None] = lambda _: None,
) -> SparkSession:
    """Return a session on the configured Connect server; waits while that server is starting.

    Args:
        settings: where the server is.
        new: whether another session is made when the process has one; it is then the session of the process.
        tell: called with a sentence when there is something to wait for.
        ready: called with the session, to register in it what a new one lacks.

    Raises:
        SparkError: when there is no server, or it does not let us in.
    """
    remote, token = endpoint(settings, tell)
    if not _answers(remote):
        raise SparkError(
            f"nothing answers at {remote}",
            remedy="`workbench status` shows whether Spark runs; restart it, or correct WORKBENCH_SPARK_REMOTE.",
        )
    # Makes pyspark.sql.functions build Connect expressions; `builder.remote` sets it too.
    os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"
    from grpc import RpcError
    from pyspark.errors import PySparkException
    from pyspark.sql.connect.client.retries import DefaultPolicy
    from pyspark.sql.connect.session import SparkSession as ConnectSession

    for attempt in ("of this process", "new"):
        builder = ConnectSession.builder.channelBuilder(_channel(remote, token))
        session = builder.create() if new else builder.getOrCreate()
        # PySpark tries for ten minutes, when the process ends too, though the server may be gone.
        session.client.set_retry_policies([DefaultPolicy(max_retries=RETRIES, max_backoff=LONGEST_RETRY_MILLISECONDS)])
        try:
            session.version  # noqa: B018 - the first request: shows now whether the server lets us in
        except (PySparkException, RpcError) as error:
            # The session that the process has is of a server that is no more: the second try makes a new one.
            session.stop()
            if attempt == "new":
                raise SparkError(
                    f"Spark at {remote} refused the session: {_details(error)}",
                    remedy="`workbench status` shows whether the server runs; restart it, or correct WORKBENCH_SPARK_TOKEN.",
                ) from None
        else:
            break
    ready(cast("SparkSession", session))
    return cast("SparkSession", session)


def _channel(remote: str, token: str) -> DefaultChannelBuilder:
    from pyspark.sql.connect.client.core import DefaultChannelBuilder

    class Channel(DefaultChannelBuilder):  # type: ignore[misc]
        """Dials 127.0.0.1 for `localhost`: on ::1 somebody else may listen, and would be sent the token."""

        @property
        def endpoint(self) -> str:
            return f"ipv4:127.0.0.1:{self._port}" if self.host == "localhost" else str(super().endpoint)

    channel = Channel(remote)
    if token:
        # Set on the channel: in the address it would show in spark.conf and in errors.
        channel.set(channel.PARAM_TOKEN, token)
    channel.setChannelOption("grpc.enable_http_proxy", 0)
    return channel


def _answers(remote: str) -> bool:
    address = urlsplit(remote)
    host = "127.0.0.1" if address.hostname == "localhost" else str(address.hostname)
    try:
        with socket.create_connection((host, address.port or DEFAULT_PORT), ANSWER_SECONDS):
            return True
    except OSError:
        return False


def _details(error: Exception) -> str:
    details = getattr(error, "details", lambda: "")()
    return str(details or error).splitlines()[0][:300]


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
