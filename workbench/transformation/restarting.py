"""Ends the Spark server of one user, so that whoever watches it starts another."""

from __future__ import annotations

import os
import signal

from workbench.errors import SparkError
from workbench.runtime.state import ComponentStatus, read_status
from workbench.sections import SparkSettings


def server_status(settings: SparkSettings) -> ComponentStatus | None:
    """How the user's own server stands; None where there is none of their own, or nobody watches it."""
    if settings.endpoint_file is None:
        return None
    return next(iter(read_status(settings.endpoint_file.parent, memory=False).components), None)


def restart_server(settings: SparkSettings) -> None:
    """End the user's own server. Its supervisor starts another one; sessions go on there, without their temporary views.

    Raises:
        SparkError: when it is not the user's own, or does not run.
    """
    if settings.endpoint_file is None:
        raise SparkError("this Spark server is not yours alone", remedy="Whoever runs it can restart it.")
    status = server_status(settings)
    if status is None or status.pid is None:
        raise SparkError(
            f"your Spark server is {'not there' if status is None else status.state.value}",
            remedy="Wait until it runs; if it has failed, restart your server from the hub's control panel.",
        )
    try:
        os.kill(status.pid, signal.SIGTERM)
    except ProcessLookupError:
        raise SparkError("your Spark server has just ended", remedy="It is being started again; wait for it.") from None
