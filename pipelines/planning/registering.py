"""The store knows the definition that new runs pin, and every pool that its steps name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pipelines.definition import Pipeline
from pipelines.planning.run_as import RunAsRule
from pipelines.planning.runs import DEFAULT_POOL
from pipelines.planning.unsupported import refuse_unsupported
from pipelines.store.runs.making import PipelineLimits, ensure_pools, register

if TYPE_CHECKING:
    from sqlalchemy import Connection


def ensure_registered(connection: Connection, pipeline: Pipeline, run_as: RunAsRule = RunAsRule()) -> str:
    """Make *pipeline* the one that its new runs are of; returns the sha256 of its definition.

    A pool that is new has one slot, until somebody gives it more.

    Raises:
        WorkbenchError: when the pipeline needs something that is not there in this version, or has no `run_as`
            where every pipeline has to.
    """
    refuse_unsupported(pipeline)
    run_as.demand_some(pipeline.definition)
    definition = pipeline.definition
    limits = PipelineLimits(
        max_runs=definition.concurrency.runs,
        keep_runs=definition.retention.runs,
        keep_days=definition.retention.days,
    )
    ensure_pools(connection, {step.pool for step in definition.steps.values()} - {DEFAULT_POOL})
    return register(connection, pipeline.name, json.loads(definition.canonical), limits)
