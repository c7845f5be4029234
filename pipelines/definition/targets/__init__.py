"""What steps run: notebooks, functions, SQL files and flows, looked at before anything runs."""

from pipelines.definition.targets.project import Project
from pipelines.definition.targets.target import Target, read_target

__all__ = ["Project", "Target", "read_target"]
