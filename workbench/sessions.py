"""The Spark session of the workbench: one whose data source `workbench` is the warehouse."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from workbench.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def open_session(
    settings: Settings, *, new: bool = False, tell: Callable[[str], None] = lambda _: None
) -> SparkSession:
    """Return a session on the configured Connect server; it has the data source after a restart of the server, too.

    Args:
        settings: where the server and the warehouse are.
        new: whether another session is made when the process has one; it is then the session of the process.
        tell: called with a sentence when there is something to wait for.

    Raises:
        SparkError: when there is no server, or it does not let us in.
    """
    from workbench.transformation.session import connect

    def register(session: SparkSession) -> None:
        from workbench.warehouse.spark.source import register

        register(session, settings.warehouse)

    return connect(settings.spark, new=new, tell=tell, ready=register)
