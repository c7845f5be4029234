"""A pipeline as a DAG of Airflow 3.2 or later: a static file that imports two things, whose tasks call our runner.

Airflow owns time, pools and retries. The file says nothing of what steps execute: that is read by
`workbench pipelines exec`, where it runs. Values that differ from run to run reach the shell as variables of
its environment, never as text of the command.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import starmap
from typing import Any

from pipelines.compile.compiled import Compiled, Options, header
from pipelines.compile.refusals import Refusal
from pipelines.definition import Pipeline, PlannedStep
from pipelines.definition.rules import Retries
from pipelines.planning.runs import DEFAULT_POOL

# Without catch-up it only has to lie in the past, and to be the same each time.
START = datetime(2020, 1, 1, tzinfo=UTC)
MARGIN_SECONDS = 60  # in which our runner ends what takes too long, and writes down what it has put out
TRIES_WITHOUT_RULE = Retries.model_validate({"times": 2, "wait": "5s"})
TOP = '''
"""{doc}"""

from datetime import datetime, timedelta, timezone

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import {names}

COMMAND = """exec workbench pipelines exec "$WB_PIPELINE" --step "$WB_STEP" --run-key "$WB_RUN_KEY" \\\\
  --cause "$WB_CAUSE" --instant "$WB_INSTANT" --attempt "$WB_ATTEMPT" --first-attempt "$WB_FIRST_ATTEMPT" """
RUN = {{
    "WB_PIPELINE": {pipeline},
    "WB_STEP": "{{{{ task.task_id }}}}",
    "WB_RUN_KEY": "airflow/{{{{ dag.dag_id }}}}/{{{{ run_id }}}}",
    "WB_CAUSE": "{{{{ dag_run.run_type.value }}}}",
    "WB_INSTANT": "{{{{ (dag_run.logical_date or dag_run.run_after).isoformat() }}}}",
    "WB_GIVEN": "{{{{ (dag_run.conf or {{}}) | tojson }}}}",
    "WB_ATTEMPT": "{{{{ ti.try_number }}}}",
    "WB_FIRST_ATTEMPT": "{{{{ ti.max_tries - task.retries + 1 }}}}",
}}

with DAG(
{dag}):
    steps = {{
{steps}    }}
{edges}'''


def airflow_refusals(pipeline: Pipeline, options: Options) -> Iterator[Refusal]:
    """What Airflow has no way to do, or does otherwise."""
    definition = pipeline.definition
    if definition.concurrency.over == "skip":
        yield ("concurrency", "over"), "Airflow lets a run too many wait, and skips none; write queue."
    rule = definition.schedule
    if rule is not None and rule.catch_up.mode == "all" and options.since is None:
        yield ("schedule", "catch_up"), "Airflow has to be told from when on it catches up: --since 2013-01-31."
    if rule is not None and definition.triggers:
        yield ("triggers",), "a schedule and triggers in one are not compiled; make two pipelines of it."
    elif len(definition.triggers) > 1 and any(each.parameters for each in definition.triggers):
        yield ("triggers",), "Airflow does not say which of several has started a run; give them no parameters."
    for number, each in enumerate(definition.triggers):
        if each.pipeline is None:
            yield ("triggers", number, each.kind), f"Airflow has nothing that waits for a {each.kind} as we do."
        elif each.pipeline.on != ("succeeded",):
            yield ("triggers", number, "pipeline", "on"), "assets tell successes alone; leave it out."


def compile_airflow(
    pipeline: Pipeline, upstream: Mapping[str, Pipeline], options: Options, commit: str | None
) -> Compiled:
    """The file of a pipeline that has no refusals.

    Args:
        pipeline: what is compiled.
        upstream: the pipelines whose ends it waits for, by name.
        options: of the compilation.
        commit: of the project.
    """
    leaves = _leaves(pipeline)
    steps = "".join(_step(pipeline, each, is_leaf=each.name in leaves) for each in pipeline.steps.values())
    edges = "".join(_edge(each) for each in pipeline.steps.values() if each.step.after)
    body = TOP.format(
        doc=_doc(pipeline),
        names=", ".join(_names(pipeline)),
        pipeline=literal(pipeline.name),
        dag="".join(starmap(_argument, _dag(pipeline, upstream, options).items())),
        steps=steps,
        edges=edges,
    )
    return Compiled(pipeline.name, f"{pipeline.name}.py", header(pipeline, commit) + body.lstrip("\n"))


def literal(text: str) -> str:
    """A literal of Python in double quotes, in ASCII."""
    made = ascii(text)
    return made if '"' in made else f'"{made[1:-1]}"'


def _names(pipeline: Pipeline) -> list[str]:
    more = ["CronTriggerTimetable"] if pipeline.definition.schedule is not None else []
    return ["DAG", "Asset", *(["AssetAll", "AssetAny"] if pipeline.definition.triggers else []), *more]


def _doc(pipeline: Pipeline) -> str:
    text = ascii(pipeline.definition.description or f"The pipeline {pipeline.name}")[1:-1]
    return text.replace('"', '\\"')


def _dag(pipeline: Pipeline, upstream: Mapping[str, Pipeline], options: Options) -> dict[str, str]:
    definition, rule = pipeline.definition, pipeline.definition.schedule
    since = START if options.since is None else options.since
    found = {
        "dag_id": literal(pipeline.name),
        "description": literal(definition.description),
        "schedule": _schedule(pipeline, upstream),
        "start_date": f"datetime({since.year}, {since.month}, {since.day}, tzinfo=timezone.utc)",
        "catchup": str(rule is not None and rule.catch_up.mode == "all"),
        "max_active_runs": str(definition.concurrency.runs),
        "tags": f"[{', '.join(map(literal, definition.tags))}]",
    }
    if definition.timeout_seconds is not None:
        found["dagrun_timeout"] = _seconds(definition.timeout_seconds)
    if definition.owner:
        found["default_args"] = f'{{"owner": {literal(definition.owner)}}}'
    return found


def _schedule(pipeline: Pipeline, upstream: Mapping[str, Pipeline]) -> str:
    rule = pipeline.definition.schedule
    if rule is not None:
        return f"CronTriggerTimetable({literal(rule.cron)}, timezone={literal(rule.zone)})"
    ends = [_end(upstream[each.pipeline.name]) for each in pipeline.definition.triggers if each.pipeline is not None]
    return f"AssetAny({', '.join(ends)})" if ends else "None"


def _end(pipeline: Pipeline) -> str:
    return f"AssetAll({', '.join(_asset(pipeline, each) for each in _leaves(pipeline))})"


def _asset(pipeline: Pipeline, step: str) -> str:
    return f'Asset("workbench://pipelines/{pipeline.name}/{step}")'


def _leaves(pipeline: Pipeline) -> list[str]:
    """Steps that no other comes after: when all of them have succeeded, the run has."""
    needed = {name for each in pipeline.steps.values() for name in each.step.after}
    return [name for name in pipeline.steps if name not in needed]


def _step(pipeline: Pipeline, planned: PlannedStep, *, is_leaf: bool) -> str:
    step = planned.step
    rule = step.retries if "retries" in step.model_fields_set else TRIES_WITHOUT_RULE
    found: dict[str, str] = {
        "task_id": literal(planned.name),
        "bash_command": "COMMAND",
        "env": "RUN",
        "append_env": "True",
        # Of Airflow's own skip by exit code nothing is wanted.
        "skip_on_exit_code": "None",
        "retries": str(rule.times),
    }
    if rule.times:
        found |= {
            "retry_delay": _seconds(rule.wait_seconds),
            "retry_exponential_backoff": str(float(rule.factor)),
            "max_retry_delay": _seconds(rule.longest_seconds),
        }
    if step.timeout_seconds is not None:
        found["execution_timeout"] = _seconds(step.timeout_seconds + MARGIN_SECONDS)
    if step.pool != DEFAULT_POOL:
        found["pool"] = literal(step.pool)
    if pipeline.definition.priority:
        found |= {"priority_weight": str(pipeline.definition.priority), "weight_rule": '"absolute"'}
    if is_leaf:
        found["outlets"] = f"[{_asset(pipeline, planned.name)}]"
    arguments = "".join(f"            {name}={value},\n" for name, value in found.items())
    return f"        {literal(planned.name)}: BashOperator(\n{arguments}        ),\n"


def _edge(planned: PlannedStep) -> str:
    before = ", ".join(f"steps[{literal(each)}]" for each in planned.step.after)
    return f"    steps[{literal(planned.name)}].set_upstream([{before}])\n"


def _argument(name: str, value: Any) -> str:
    return f"    {name}={value},\n"


def _seconds(seconds: float) -> str:
    return f"timedelta(seconds={seconds:g})" if seconds < 1e6 else f"timedelta(seconds={seconds!r})"
