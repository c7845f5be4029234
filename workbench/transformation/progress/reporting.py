"""Tells another process of each operation that has ended: what runs here has no metrics that anybody reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workbench.observability.operations import Ended, send_ended
from workbench.transformation.progress.operations import Operation


@dataclass(frozen=True)
class Report:
    """A listener of a `Recorder`.

    Args:
        address: of the socket, of WORKBENCH_SPARK_REPORTS.
    """

    address: Path

    def __call__(self, operation: Operation, cancel: Callable[[], object]) -> None:
        """Called by the recorder."""
        if not operation.is_running:
            send_ended(self.address, Ended(str(operation.outcome), operation.seconds))
