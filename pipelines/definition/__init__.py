"""Pipelines as code: one file of pipelines/jobs/ says what runs, when, and what becomes of failures."""

from pipelines.definition.document import Problem
from pipelines.definition.files import Checked, check_files, check_text, find_pipeline, read_pipeline
from pipelines.definition.model import Definition, Step, file_schema
from pipelines.definition.plan import Pipeline, PlannedStep, run_scope
from pipelines.definition.targets import Project, Target

__all__ = [
    "Checked",
    "Definition",
    "Pipeline",
    "PlannedStep",
    "Problem",
    "Project",
    "Step",
    "Target",
    "check_files",
    "check_text",
    "file_schema",
    "find_pipeline",
    "read_pipeline",
    "run_scope",
]
