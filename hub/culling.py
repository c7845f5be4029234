"""Stops servers that nobody and nothing uses: JupyterHub's idle culler, with patience.

Whether a server is in use is found out in the server (`workbench/embedded/activity.py`), which
tells the hub; the culler compares times. It is a process of its own, `python -m hub.culling`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from workbench.runtime.activity import IdlePolicy
from workbench.settings import Settings

SERVICE = "culler"
SCOPES = ["list:users", "read:servers", "delete:servers"]
REPORT_PAUSE_SECONDS = 15.0  # the longest pause of a server whose report to the hub failed


def set_culler(c: Any, settings: Settings) -> None:
    """Run the culler as a service that may see and stop servers, and no more.

    Called after what sets roles and the spawner's environment: it adds to both.
    """
    hub = settings.hub
    policy = IdlePolicy(idle_seconds=hub.idle_seconds, warning_seconds=hub.idle_warning_seconds)
    every = int(policy.report_seconds)
    c.Spawner.environment.update(
        {
            "WORKBENCH_HUB_IDLE_SECONDS": str(hub.idle_seconds),
            "WORKBENCH_HUB_IDLE_WARNING_SECONDS": str(hub.idle_warning_seconds),
            "JUPYTERHUB_ACTIVITY_INTERVAL": str(every),
        }
    )
    if not hub.idle_seconds:
        return
    # JupyterHub makes the service's token and hands it over in the environment.
    command = [sys.executable, "-P", "-m", "hub.culling", f"--timeout={hub.idle_seconds}", f"--cull-every={every}"]
    c.JupyterHub.services.append({"name": SERVICE, "command": command})
    c.JupyterHub.load_roles.append({"name": SERVICE, "services": [SERVICE], "scopes": SCOPES})


class Patience:
    """Decides whether a server is stopped; while it cannot know, no.

    What the hub knows is old when the hub itself was away, or the machine asleep. Then the
    servers get time to report before any is stopped.

    Args:
        every_seconds: between two rounds of the culler, and between two reports of a server.
        clock: seconds of the wall clock, which goes on while the machine sleeps.
    """

    def __init__(self, every_seconds: float, clock: Callable[[], float] = time.time) -> None:
        self._grace = 3 * every_seconds + REPORT_PAUSE_SECONDS
        self._clock = clock
        self._awake_since = self._seen = clock()

    def __call__(self, *, inactive: timedelta, inactive_limit: float, server: object) -> bool:
        """Whether to stop the server. Called by the culler for each running server in each round."""
        now = self._clock()
        if not 0 <= now - self._seen < self._grace:
            self._awake_since = now
        self._seen = now
        return inactive.total_seconds() >= inactive_limit and now - self._awake_since >= self._grace


def main() -> None:
    """Run the culler until it is killed."""
    from jupyterhub_idle_culler import IdleCuller

    culler = IdleCuller.instance(config_file="")  # else it reads a file of the working folder
    culler.initialize(sys.argv[1:])
    culler.cull_arbiter_hook = Patience(culler.cull_every)
    culler.start()


if __name__ == "__main__":
    main()
