"""The Spark session of a notebook, a job or a script: a client of a Spark Connect server."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from workbench.errors import SparkError
from workbench.sections import SparkSettings
from workbench.transformation.failures import reported_spark
from workbench.transformation.progress import RECORDER
from workbench.transformation.progress.reporting import Report
from workbench.transformation.progress.terminal import show_on_terminal
from workbench.transformation.whereabouts import NOTHING_ANSWERS, Whereabouts, answers, channel

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.connect.session import SparkSession as ConnectSession

RETRIES = 5  # with the waits below about six seconds
LONGEST_RETRY_MILLISECONDS = 2000
REFUSED = "`workbench status` shows whether the server runs; restart it, or correct WORKBENCH_SPARK_TOKEN."
EXECUTORS = ("spark.master", "spark.executor.instances", "spark.dynamicAllocation.enabled")


def connect(
    settings: SparkSettings,
    *,
    new: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    ready: Callable[[SparkSession], None] = lambda _: None,
) -> SparkSession:
    """Return the session that this process has on the configured Connect server, or a new one.

    Waits while that server is starting.

    Args:
        settings: where the server is.
        new: whether another session is made when the process has one; it is then the session of the process.
        tell: called with a sentence when there is something to wait for, as long as the session lives.
        ready: called with a new session, and again after each restart of its server, to register in it what it lacks.

    Raises:
        SparkError: when there is no server, it does not let us in, or it is gone again.
    """
    where = Whereabouts(settings, tell)
    if where.is_coming:
        _load_pyspark()  # in the time that the server takes
    remote, token = where.endpoint()
    if not answers(remote):
        raise SparkError(f"nothing answers at {remote}", remedy=NOTHING_ANSWERS)
    _load_pyspark()
    from workbench.transformation.connect_client import adopt, find_session, make_session

    found = None if new else find_session(where.identity)
    if found and not _refusal(found):
        return cast("SparkSession", found)
    session = make_session(channel(remote, token))
    if refusal := _refusal(session):
        raise SparkError(f"Spark at {remote} refused the session: {refusal}", remedy=REFUSED)
    try:
        with reported_spark(f"Spark at {remote} has let the session in, and failed then", remedy=REFUSED):
            ready(session)
            # With a default for each: Spark refuses to tell a property that nobody has set.
            conf = session.client.get_config_with_defaults(*((name, "") for name in EXECUTORS))
    except SparkError:
        session.stop()
        raise
    adopt(session, where.server(ready))
    RECORDER.executors = executors_of(dict(zip(EXECUTORS, conf, strict=True)))
    show_on_terminal(RECORDER)
    if settings.reports is not None:
        RECORDER.listen(Report(settings.reports))
    return cast("SparkSession", session)


def _load_pyspark() -> None:
    """Import what takes a second."""
    # Makes pyspark.sql.functions build Connect expressions; `builder.remote` sets it too.
    os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"
    from pyspark.sql.connect import session  # noqa: F401

    # PySpark warns beside its error; with ours it is one sentence too many.
    warnings.filterwarnings("ignore", message=r"\[RETRIES_EXCEEDED\]")


def _refusal(session: ConnectSession) -> str:
    """What the server says against the session, which is stopped then; "" when it lets us in."""
    from grpc import RpcError
    from pyspark.errors import PySparkException
    from pyspark.sql.connect.client.retries import DefaultPolicy

    # PySpark tries for ten minutes, when the process ends too, though the server may be gone.
    session.client.set_retry_policies([DefaultPolicy(max_retries=RETRIES, max_backoff=LONGEST_RETRY_MILLISECONDS)])
    try:
        session.version  # noqa: B018 - it is asked for, and with it whether we may
    except (PySparkException, RpcError) as error:
        session.stop()
        return _details(error)
    return ""


def executors_of(conf: Mapping[str, str | None]) -> int | None:
    """How many executors a session has, if its configuration says so: not in local mode, nor when they come and go."""
    master, instances, dynamic = (conf.get(name) or "" for name in EXECUTORS)
    if master.startswith("local") or dynamic == "true" or not instances.isdigit():
        return None
    return int(instances)


def _details(error: Exception) -> str:
    details = getattr(error, "details", lambda: "")()
    return str(details or error).splitlines()[0][:300]
