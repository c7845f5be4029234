from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from pipelines.cli import add_commands
from pipelines.cli.runs import named_attempts
from workbench.errors import DefinitionError, WorkbenchError


def run(*arguments: str):
    application = typer.Typer()
    add_commands(application)
    return CliRunner().invoke(application, ["pipelines", *arguments])


def test_check_says_that_the_shipped_pipelines_are_in_order():
    done = run("check")

    assert done.exit_code == 0
    assert "in order" in done.stdout
    assert {"name", "sha256"} == json.loads(run("check", "--json").stdout)["pipelines"][0].keys()


def test_check_tells_problems_with_file_and_line_and_exits_with_1(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text("steps:\n  a: {flow: nothing}\n")

    done = run("check", "bad.yaml", "absent.yaml")
    assert done.exit_code == 1
    assert done.stdout.startswith("bad.yaml:2: steps.a.flow: there is no flow 'nothing'")
    assert "absent.yaml:1: the file cannot be read" in done.stdout

    (problem,) = json.loads(run("check", "--json", "bad.yaml").stdout)["problems"]
    assert (problem["file"], problem["line"], problem["field"]) == ("bad.yaml", 2, "steps.a.flow")


def test_a_file_is_checked_in_the_project_that_it_lies_in(tmp_path: Path):
    for name in ("one", "two"):
        (tmp_path / name / "pipelines" / "jobs").mkdir(parents=True)
        (tmp_path / name / "pipelines" / "jobs" / "x.yaml").write_text("steps: {a: {sql: a.sql}}\n")
    (tmp_path / "one" / "a.sql").write_text("SELECT 1")

    done = run("check", *(str(tmp_path / name / "pipelines" / "jobs" / "x.yaml") for name in ("one", "two")))

    assert done.exit_code == 1
    assert f"there is no file a.sql in {tmp_path / 'two'}" in done.stdout
    assert str(tmp_path / "one") not in done.stdout


def test_next_shows_local_and_utc(tmp_path: Path):
    file = tmp_path / "x.yaml"
    file.write_text("steps: {a: {flow: flights}}\nschedule: {cron: 0 6 * * *, zone: America/New_York}\n")
    found = json.loads(run("next", "--file", str(file), "--count", "3", "--json").stdout)

    assert len(found["next"]) == 3
    assert "T06:00:00-0" in found["next"][0]["local"]
    assert found["next"][0]["utc"].endswith("+00:00")
    assert "America/New_York" in run("next", "--file", str(file)).stdout


def test_next_without_a_schedule_says_so(tmp_path: Path):
    (tmp_path / "x.yaml").write_text("steps: {a: {flow: flights}}")

    assert isinstance(run("next", "--file", str(tmp_path / "x.yaml")).exception, WorkbenchError)


def test_schema_is_that_of_files_or_of_the_parameters_of_one():
    assert "steps" in json.loads(run("schema").stdout)["properties"]
    assert json.loads(run("schema", "daily-delays").stdout)["properties"]["month"]["type"] == "integer"


@pytest.mark.parametrize("arguments", [("next",), ("next", "x", "--file", "y")])
def test_a_pipeline_is_given_by_name_or_by_file(arguments):
    assert run(*arguments).exit_code == 2


def test_a_wrong_file_is_an_error_with_all_its_problems(tmp_path: Path):
    (tmp_path / "x.yaml").write_text("steps: {a: {flow: nothing}}")

    assert isinstance(run("schema", "--file", str(tmp_path / "x.yaml")).exception, DefinitionError)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([2], "attempt 2"),
        ([1, 2, 3], "same error in attempts 1-3"),
        ([1, 3, 4, 6], "same error in attempts 1, 3-4, 6"),
    ],
)
def test_attempts_that_failed_alike_are_counted_together(numbers, text):
    assert named_attempts(numbers) == text
