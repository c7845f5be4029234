"""A pipeline as a CronJob of Kubernetes, or as a Job when it has no schedule: one pod runs the steps of one run.

The controller owns time and takes pods up again that are lost; our runner owns order, retries and outputs. The
name of the Job is that of the run: a pod that takes another's place goes on with its run.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml

from pipelines.calendar import first_touched
from pipelines.compile.compiled import Compiled, Options, header
from pipelines.compile.refusals import Refusal
from pipelines.definition import Pipeline
from pipelines.definition.rules import ScheduleRule
from pipelines.planning.runs import DEFAULT_POOL
from pipelines.planning.secret_references import secret_references

NAME_CHARACTERS = 52  # of a CronJob: the controller appends eleven to it, and names of Jobs have 63
HOME = "/var/lib/workbench"
FILES = "/etc/workbench/files"  #: where the Secret workbench-files is
SECRET = "workbench-pipelines"  # noqa: S105 - the name of the Secret with the variables that parameters refer to
COMPONENT = "pipelines"
LATE_SECONDS = 60  # after which an instant is not made up for when nothing is to be caught up
POD_TRIES = 6  # for pods that are lost; what fails by itself is not tried again by Kubernetes
KEEP_SECONDS = 7 * 86_400  # Jobs and what their pods have printed; our store and outputs keep longer
GRACE_SECONDS = 60
CHANGES_AHEAD = timedelta(days=3653)  # ten years, in which changes of the clocks are looked for


def kubernetes_refusals(pipeline: Pipeline, options: Options) -> Iterator[Refusal]:
    """What Kubernetes has no way to do."""
    definition = pipeline.definition
    for number, each in enumerate(definition.triggers):
        yield ("triggers", number), f"a CronJob knows the clock alone, and no {each.kind}; take a schedule."
    if definition.schedule is not None:
        yield from _schedule_refusals(definition.schedule)
    if definition.concurrency.over == "skip" and definition.concurrency.runs > 1:
        yield ("concurrency", "runs"), "a CronJob skips a run when there is one already, not when there are several."
    if definition.priority:
        yield ("priority",), "pods have classes of priority, which somebody has to make; leave it out."
    for name, planned in pipeline.steps.items():
        if planned.step.pool != DEFAULT_POOL:
            yield ("steps", name, "pool"), "runs in several pods share no pool; leave it out."
    for place, secret in secret_references(pipeline):
        if secret.scheme == "file" and not secret.name.startswith(f"{FILES}/"):
            yield place, f"a pod sees files of secrets in {FILES} alone; put it into workbench-files, or take env:NAME."
        if secret.scheme in {"keyset", "vault"}:
            yield place, f"a pod has no {secret.scheme}; put the secret into workbench-pipelines, and take env:NAME."


def _schedule_refusals(rule: ScheduleRule) -> Iterator[Refusal]:
    if rule.catch_up.mode == "all":
        yield ("schedule", "catch_up"), "a CronJob makes up for the last instant at most; write last or none."
    if re.search(r"(?<!/)\b7\b", rule.cron.split()[4]):
        yield ("schedule", "cron"), "Kubernetes has no weekday 7; write 0 for Sunday, * for 1-7, and 5,6,0 for 5-7."
    now = datetime.now(UTC)
    if (touched := first_touched(rule.schedule, now, now + CHANGES_AHEAD)) is not None:
        what = f"clocks of {rule.zone} show {touched:%H:%M on %Y-%m-%d} not at all or twice, and so a CronJob would run"
        yield ("schedule", "cron"), f"{what}; take an hour that no change touches, zone: UTC, or --to airflow."


def compile_kubernetes(pipeline: Pipeline, options: Options, commit: str | None) -> Compiled:
    """The manifest of a pipeline that has no refusals."""
    made = _job(pipeline, options) if pipeline.definition.schedule is None else _cron_job(pipeline, options)
    text = yaml.safe_dump(made, sort_keys=False, width=120, allow_unicode=True)
    return Compiled(pipeline.name, f"{pipeline.name}.yaml", header(pipeline, commit) + text)


def object_name(pipeline: str) -> str:
    """A name that Kubernetes takes: that of the pipeline where it does, else with a part of its hash for the rest."""
    if "_" not in pipeline and len(pipeline) <= NAME_CHARACTERS:
        return pipeline
    digits = hashlib.sha256(pipeline.encode()).hexdigest()[:8]
    return f"{pipeline.replace('_', '-')[: NAME_CHARACTERS - 9].rstrip('-')}-{digits}"


def _cron_job(pipeline: Pipeline, options: Options) -> dict[str, Any]:
    definition = pipeline.definition
    rule = definition.schedule
    assert rule is not None, "it has a schedule"
    skips = definition.concurrency.over == "skip"
    spec: dict[str, Any] = {
        "schedule": rule.cron,
        "timeZone": rule.zone,
        # Without Forbid our runner lets a run wait until its pipeline has room.
        "concurrencyPolicy": "Forbid" if skips else "Allow",
    }
    if rule.catch_up.mode == "none":
        spec["startingDeadlineSeconds"] = LATE_SECONDS
    spec |= {"successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 3}
    spec["jobTemplate"] = {"metadata": {"labels": _labels(pipeline)}, "spec": _job_spec(pipeline, options)}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {
            "name": object_name(pipeline.name),
            "namespace": options.namespace,
            "labels": _labels(pipeline),
            "annotations": _annotations(pipeline),
        },
        "spec": spec,
    }


def _job(pipeline: Pipeline, options: Options) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            # With `kubectl create`, each time another run.
            "generateName": f"{object_name(pipeline.name)}-",
            "namespace": options.namespace,
            "labels": _labels(pipeline),
            "annotations": _annotations(pipeline),
        },
        "spec": _job_spec(pipeline, options),
    }


def _labels(pipeline: Pipeline) -> dict[str, str]:
    return {
        "app.kubernetes.io/part-of": "workbench",
        "app.kubernetes.io/component": COMPONENT,
        "workbench/pipeline": pipeline.name,
    }


def _annotations(pipeline: Pipeline) -> dict[str, str]:
    return {"workbench/definition-sha256": pipeline.definition.sha256}


def _job_spec(pipeline: Pipeline, options: Options) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "backoffLimit": POD_TRIES,
        "ttlSecondsAfterFinished": KEEP_SECONDS,
        "podFailurePolicy": {
            "rules": [
                # The run did not succeed, as our store says: another pod changes nothing. One that is to be tried
                # again ends with 75.
                {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1]}},
                # The node was taken away.
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            ]
        },
    }
    # No activeDeadlineSeconds: a run that waits for room in its pod would be killed before it could begin, and our
    # store has its timeout.
    spec["template"] = {"metadata": {"labels": _labels(pipeline)}, "spec": _pod(pipeline, options)}
    return spec


def _pod(pipeline: Pipeline, options: Options) -> dict[str, Any]:
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        # The variables for services begin with their names, and WORKBENCH_… are settings.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "fsGroup": 1000,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(pipeline, options)],
        "volumes": [
            {"name": "state", "persistentVolumeClaim": {"claimName": "pipelines"}},
            {"name": "temporary", "emptyDir": {}},
            {"name": "files", "secret": {"secretName": "workbench-files", "optional": True, "defaultMode": 0o440}},
        ],
    }


def _container(pipeline: Pipeline, options: Options) -> dict[str, Any]:
    return {
        "name": "run",
        "image": options.image,
        "args": ["workbench", "pipelines", "exec", pipeline.name, "--job", "--run-key", "$(JOB_NAME)"],
        "workingDir": "/opt/workbench",
        "env": [
            {
                "name": "JOB_NAME",
                "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/job-name']"}},
            },
            {"name": "WORKBENCH_HOME", "value": HOME},
            # Kernels write there, and all else is read-only.
            {"name": "HOME", "value": HOME},
            *({"name": each, "valueFrom": _secret(each)} for each in _variables(pipeline)),
        ],
        "envFrom": [{"configMapRef": {"name": "workbench-pipelines"}}, {"secretRef": {"name": "workbench-data"}}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
        "volumeMounts": [
            {"name": "state", "mountPath": HOME},
            {"name": "temporary", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod alone
            {"name": "files", "mountPath": FILES, "readOnly": True},
        ],
    }


def _secret(variable: str) -> dict[str, Any]:
    return {"secretKeyRef": {"name": SECRET, "key": variable}}


def _variables(pipeline: Pipeline) -> list[str]:
    return sorted({each.name for _, each in secret_references(pipeline) if each.scheme == "env"})
