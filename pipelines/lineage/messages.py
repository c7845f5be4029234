"""Events of OpenLineage as messages of the outbox: one when an attempt begins, one when it has ended.

Each attempt is a run of the job PIPELINE.STEP, and has the run of the pipeline as its parent. Its id is
made of what the store knows, so whoever tells of it tells the same one.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipelines.lineage.datasets import Datasets
from pipelines.states import State
from pipelines.store.events import storable
from pipelines.store.records import Message
from workbench import __version__

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent

KIND = "lineage"
PRODUCER = f"urn:analytics-workbench:{__version__}"  #: the format asks for a URI; the product has no address
IDS = uuid.UUID("6f1c1d0e-8a53-5f0c-9a0e-5d3f1f7d2b64")  #: the space of our names
ENDS = {State.SUCCEEDED: "COMPLETE", State.CANCELLED: "ABORT", State.SKIPPED: "ABORT"}  # all others are FAIL
ERROR_CHARACTERS = 8_000


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The attempt that an event is about."""

    namespace: str  #: of jobs
    pipeline: str
    run_key: str
    step: str
    attempt_id: int
    instant: datetime | None = None  #: the logical one
    kind: str = ""  #: notebook, function, sql or flow; empty when whoever tells does not know


def begun(subject: Subject, datasets: Datasets) -> Message:
    """That it runs now."""
    return _message(subject, datasets, "START", "")


def ended(subject: Subject, datasets: Datasets, state: State, error: str) -> Message:
    """That it has ended so."""
    return _message(subject, datasets, ENDS.get(state, "FAIL"), error if state is not State.SUCCEEDED else "")


def _message(subject: Subject, datasets: Datasets, what: str, error: str) -> Message:
    from openlineage.client.serde import Serde

    body = _storable(Serde.to_dict(_event(subject, datasets, what, error)))
    moment = "start" if what == "START" else "end"
    return Message(f"lineage/{subject.run_key}/{subject.step}/{subject.attempt_id}/{moment}", KIND, body)


def _storable(value: Any) -> Any:
    # A message with NUL could not be asked for its key, and neither could any other with it.
    if isinstance(value, dict):
        return {name: _storable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_storable(each) for each in value]
    return storable(value, len(value)) if isinstance(value, str) else value


def _event(subject: Subject, datasets: Datasets, what: str, error: str) -> RunEvent:
    from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState

    run_id = _id(f"{subject.run_key}/{subject.step}/{subject.attempt_id}")
    return RunEvent(
        eventTime=datetime.now(UTC).isoformat(),
        eventType=RunState[what],
        producer=PRODUCER,
        run=Run(runId=run_id, facets=_run_facets(subject, error)),
        job=Job(
            namespace=subject.namespace,
            name=f"{subject.pipeline}.{subject.step}",
            facets=_job_facets(subject, datasets),
        ),
        inputs=[InputDataset(namespace=each.namespace, name=each.name) for each in datasets.inputs],
        outputs=[OutputDataset(namespace=each.namespace, name=each.name) for each in datasets.outputs],
    )


def _run_facets(subject: Subject, error: str) -> dict[str, Any]:
    from openlineage.client import facet_v2 as facets

    parent = facets.parent_run
    found: dict[str, Any] = {
        "parent": parent.ParentRunFacet(
            run=parent.Run(runId=_id(subject.run_key)),
            job=parent.Job(namespace=subject.namespace, name=subject.pipeline),
            producer=PRODUCER,
        ),
        "processing_engine": facets.processing_engine_run.ProcessingEngineRunFacet(
            version=__version__, name="workbench", producer=PRODUCER
        ),
    }
    if subject.instant is not None:
        start = subject.instant.astimezone(UTC).isoformat()
        found["nominalTime"] = facets.nominal_time_run.NominalTimeRunFacet(nominalStartTime=start, producer=PRODUCER)
    if error:
        found["errorMessage"] = facets.error_message_run.ErrorMessageRunFacet(
            message=error[-ERROR_CHARACTERS:], programmingLanguage="python", producer=PRODUCER
        )
    return found


def _job_facets(subject: Subject, datasets: Datasets) -> dict[str, Any]:
    from openlineage.client import facet_v2 as facets

    found: dict[str, Any] = {}
    if subject.kind:
        found["jobType"] = facets.job_type_job.JobTypeJobFacet(
            processingType="BATCH", integration="WORKBENCH", jobType=subject.kind.upper(), producer=PRODUCER
        )
    if datasets.sql:
        found["sql"] = facets.sql_job.SQLJobFacet(query=datasets.sql, producer=PRODUCER)
    return found


def _id(name: str) -> str:
    return str(uuid.uuid5(IDS, name))
