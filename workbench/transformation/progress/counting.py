"""Counts the operations of a process whose metrics are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from workbench.observability.metrics import begin_spark, count_spark
from workbench.observability.operations import Ended
from workbench.transformation.progress.operations import Operation
from workbench.transformation.progress.recorder import RECORDER, Recorder


@dataclass(frozen=True)
class Count:
    """A listener of a `Recorder`.

    Args:
        kind: whose operations they are.
    """

    kind: str

    def __call__(self, operation: Operation, cancel: Callable[[], object]) -> None:
        """Called by the recorder."""
        if not operation.is_running:
            count_spark(self.kind, Ended(str(operation.outcome), operation.seconds))


def count_operations(kind: str, recorder: Recorder = RECORDER) -> None:
    """Count what ends from now on."""
    begin_spark(kind)
    recorder.listen(Count(kind))
