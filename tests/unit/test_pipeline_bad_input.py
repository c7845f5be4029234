"""What people get wrong in pipelines, and what `workbench pipelines check` says of it: file, line and remedy."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from pipelines.definition import Project, check_files
from pipelines.planning.secrets_there import secret_problems
from pipelines.store.records import Claim
from pipelines.worker.assigning import assign
from workbench.errors import SecretUnavailable
from workbench.resolving import References

PARAMETERS = "day: int = 1\ntoken: str = ''"
NOTEBOOKS = {
    "plain": ([], ["print(1)"], "python3"),
    "broken": ([], ["x = 1\ny = = 2"], "python3"),
    "kernel": ([], ["1"], "julia-9"),
    "good": ([PARAMETERS], ["print(day)"], "python3"),
    "default": (["day: int = 'x'"], ["print(day)"], "python3"),
}
BAD = {
    "no parameters cell": (
        "steps:\n  a:\n    notebook: plain.ipynb\n    parameters: {day: 1}\n",
        ":3: steps.a.notebook: plain.ipynb has no cell tagged `parameters`",
        "tag the cell that has their defaults",
    ),
    "syntax error": (
        "steps:\n  a:\n    notebook: broken.ipynb\n",
        ":3: steps.a.notebook: broken.ipynb, cell 1, line 2: invalid syntax: y = = 2",
        "correct the cell in JupyterLab",
    ),
    "missing kernel": (
        "steps:\n  a:\n    notebook: kernel.ipynb\n",
        ":3: steps.a.notebook: kernel.ipynb wants the kernel 'julia-9'",
        "Choose one of python3",
    ),
    "cycle": (
        "steps:\n  a: {notebook: plain.ipynb, after: [b]}\n  b: {notebook: plain.ipynb, after: [a]}\n",
        ":2: steps.a.after: steps wait for each other in a circle, a → b → a",
        "take one `after` away",
    ),
    "unknown step": (
        "steps:\n  load: {notebook: plain.ipynb}\n  b: {notebook: plain.ipynb, after: [laod]}\n",
        ":3: steps.b.after[0]: there is no step 'laod'",
        "load",
    ),
    "cron that never fires": (
        "schedule: {cron: 0 0 30 2 *, zone: UTC}\nsteps:\n  a: {notebook: plain.ipynb}\n",
        ":1: schedule.cron: '0 0 30 2 *' is no expression, or never fires",
        "write one such as",
    ),
    "parameter of a step": (
        "steps:\n  a:\n    notebook: good.ipynb\n    parameters:\n      day: nine\n",
        ":5: steps.a.parameters.day: 'nine' is no whole number",
        "write one such as 7",
    ),
    "default of the file": (
        "parameters:\n  day: {type: int, default: nine}\nsteps:\n  a: {notebook: good.ipynb}\n",
        ":2: parameters.day: 'nine' is no whole number",
        "write one such as 7",
    ),
    "default of the notebook": (
        "steps:\n  a: {notebook: default.ipynb}\n",
        ":2: steps.a.notebook: default.ipynb, cell 1, line 1: the default of day: 'x' is no whole number",
        "write one such as 7",
    ),
    "half of a surrogate pair": (
        'steps:\n  a: {notebook: plain.ipynb}\ndescription: "\\uD800"\n',
        ":3: a text has a character that cannot be stored: NUL, or half of a surrogate pair",
        "take it out",
    ),
    "NUL in a key": (
        'steps:\n  "a\\0": {notebook: plain.ipynb}\n',
        ":2: a text has a character that cannot be stored",
        "take it out",
    ),
    "secret instead of a reference": (
        "parameters:\n  token: {type: secret, default: hunter2}\nsteps:\n  a: {notebook: good.ipynb}\n",
        ":2: parameters.token: the value is no reference",
        "write env:NAME",
    ),
}
MISSING = {
    "variable": ("env:NO_SUCH_TOKEN", "the secret env:NO_SUCH_TOKEN is not there: it is not set"),
    "file": (
        "file:/no/such/file",
        "the secret file:/no/such/file is not there: it cannot be read: No such file or directory",
    ),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("project")
    (folder / "pipelines" / "jobs").mkdir(parents=True)
    for name, (parameters, cells, kernel) in NOTEBOOKS.items():
        book = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": kernel, "display_name": kernel}})
        book.cells = [nbformat.v4.new_code_cell(each, metadata={"tags": ["parameters"]}) for each in parameters]
        book.cells += [nbformat.v4.new_code_cell(each) for each in cells]
        nbformat.write(book, folder / f"{name}.ipynb")
    return Project((folder,))


def written(project: Project, text: str) -> Path:
    path = project.jobs / "x.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("what", BAD)
def test_it_is_named_with_file_line_and_remedy_before_anything_runs(project, what):
    text, named, remedy = BAD[what]
    path = written(project, text)

    checked = check_files([path], project)

    assert checked.pipelines == ()
    (problem,) = map(str, checked.problems)
    assert problem.startswith(f"{path}{named}")
    assert remedy in problem


@pytest.mark.parametrize("what", MISSING)
def test_a_secret_that_does_not_exist_is_named_and_no_other(project, what):
    reference, named = MISSING[what]
    text = f"parameters:\n  there: {{type: secret, default: 'env:THERE'}}\n  token: {{type: secret, default: '{reference}'}}\n"
    path = written(project, f"{text}steps:\n  a: {{notebook: good.ipynb}}\n")
    checked = check_files([path], project)

    (problem,) = secret_problems(checked.pipelines, [path], References({"THERE": "hunter2-very-secret"}))

    assert str(problem).startswith(f"{path}:3: parameters.token: {named}")
    assert "Set it where workers are started" in str(problem)
    assert "hunter2" not in str(problem)


def test_the_secret_of_a_webhook_is_looked_for_too(project):
    text = "triggers:\n  - webhook: {secret: 'env:NO_SUCH_HOOK'}\nsteps:\n  a: {notebook: good.ipynb}\n"
    path = written(project, text)
    checked = check_files([path], project)

    (problem,) = secret_problems(checked.pipelines, [path], References())

    assert str(problem).startswith(f"{path}:2: triggers[0].webhook.secret: the secret env:NO_SUCH_HOOK is not there")


def claim_of(step: str, token: str) -> Claim:
    given = {"a": {}, "b": {"token": ["secret", token]}}
    return Claim(
        attempt_id=1, number=1, step_id=1, step=step, run_id=7, run_key="k", pipeline="x", definition_sha256="",
        git_commit=None, notebook_hashes={}, lock_hash=None, parameters={"steps": given}, instant=None, partition=None,
        run_as=None, deadline=None, worker="w",
    )  # fmt: skip


def test_nothing_of_a_run_executes_when_a_later_step_has_no_secret(project, tmp_path):
    text = "steps:\n  a: {notebook: plain.ipynb}\n  b: {notebook: plain.ipynb, after: [a]}\n"
    definition = check_files([written(project, text)], project).pipelines[0].definition
    given = {"home": tmp_path, "project": project, "references": References({"THERE": "hunter2"})}

    assert assign(claim_of("a", "env:THERE"), definition, **given).secrets == {}
    with pytest.raises(SecretUnavailable, match="env:NO_SUCH_TOKEN is not there") as found:
        assign(claim_of("a", "env:NO_SUCH_TOKEN"), definition, **given)
    assert "Step b needs it" in found.value.remedy
