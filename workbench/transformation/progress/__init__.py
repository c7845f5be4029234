"""What Spark does for this process: operations while they run, and those that have ended."""

from workbench.transformation.progress.operations import Operation, Outcome, Stage
from workbench.transformation.progress.recorder import RECORDER, Recorder
from workbench.transformation.progress.text import operation_line, summary_line

__all__ = ["RECORDER", "Operation", "Outcome", "Recorder", "Stage", "operation_line", "summary_line"]
