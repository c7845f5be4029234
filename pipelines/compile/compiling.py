"""From the names of pipelines to the files of the target, all of them or none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipelines.compile.airflow import airflow_refusals, compile_airflow
from pipelines.compile.compiled import Compiled, Options
from pipelines.compile.kubernetes import compile_kubernetes, kubernetes_refusals
from pipelines.compile.refusals import Refusal, common_refusals
from pipelines.definition import Pipeline, Problem, Project, find_pipeline
from pipelines.definition.document import read_document
from pipelines.planning.pins import read_pins
from workbench.errors import DefinitionError

REFUSALS = {"airflow": airflow_refusals, "kubernetes": kubernetes_refusals}


def compile_pipelines(project: Project, names: Sequence[str], options: Options) -> tuple[Compiled, ...]:
    """The file of each of *names*, or of every pipeline of the project.

    Raises:
        WorkbenchError: when there is no such pipeline.
        DefinitionError: with the line of everything that is wrong, and of everything that the target cannot do.
    """
    pipelines = [find_pipeline(project, each) for each in names or _all(project)]
    if problems := [problem for each in pipelines for problem in _problems(project, each, options)]:
        raise DefinitionError(problems)
    commit = read_pins(project).git_commit
    if options.target == "kubernetes":
        return tuple(compile_kubernetes(each, options, commit) for each in pipelines)
    return tuple(compile_airflow(each, _upstream(project, each), options, commit) for each in pipelines)


def _all(project: Project) -> list[str]:
    return [each.stem for each in sorted(project.jobs.glob("*.yaml"))]


def _upstream(project: Project, pipeline: Pipeline) -> dict[str, Pipeline]:
    triggers = (each.pipeline for each in pipeline.definition.triggers)
    return {each.name: find_pipeline(project, each.name) for each in triggers if each is not None}


def _problems(project: Project, pipeline: Pipeline, options: Options) -> Iterator[Problem]:
    document = read_document(project.jobs / f"{pipeline.name}.yaml")
    found: list[Refusal] = [*common_refusals(pipeline), *REFUSALS[options.target](pipeline, options)]
    for place, text in found:
        yield document.problem(place, text)
