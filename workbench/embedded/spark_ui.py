"""The Spark UI of a Connect server: on loopback, for whoever holds a signed token, with bounds on what it remembers."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

KEY_BYTES = 32  # of HS256
FILTER = "org.apache.spark.ui.JWSFilter"
# What the UI keeps is heap of the driver. Spark keeps ten times as much.
BOUNDS = {
    "spark.ui.retainedJobs": "100",
    "spark.ui.retainedStages": "200",
    "spark.ui.retainedTasks": "10000",
    "spark.ui.retainedDeadExecutors": "10",
    "spark.ui.dagGraph.retainedRootRDDs": "50",
    "spark.sql.ui.retainedExecutions": "50",
    "spark.sql.streaming.ui.retainedQueries": "20",
    "spark.sql.streaming.ui.retainedProgressUpdates": "50",
    "spark.connect.ui.retainedSessions": "20",
    "spark.connect.ui.retainedStatements": "100",
}


@dataclass(frozen=True, kw_only=True)
class SparkUI:
    """Where the UI listens and what lets in. The key is a property of the server, in a file of mode 0600."""

    port: int
    key: str = field(repr=False)  #: base64url, as JWSFilter takes it

    def properties(self) -> Mapping[str, str]:
        """What the Connect server is started with."""
        return {
            "spark.ui.enabled": "true",
            "spark.ui.port": str(self.port),
            "spark.ui.filters": FILTER,
            f"spark.{FILTER}.param.secretKey": self.key,
            # What stops work is Cancel in the notebook; a link that does would be open to other pages.
            "spark.ui.killEnabled": "false",
            "spark.ui.showConsoleProgress": "false",
            **BOUNDS,
        }


def new_key() -> str:
    """A fresh key for the UI."""
    return base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode()
