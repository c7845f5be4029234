"""A notebook becomes the text of a pipeline: where it lies, what is asked for, what is written, what is refused."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from datetime import date
from pathlib import Path

import pytest

from pipelines.definition import Project, check_text, read_pipeline
from pipelines.definition.document import parse_document
from pipelines.jupyter.deployed import Known, pipelines_of
from pipelines.jupyter.drafting import Draft, instants, make_draft, step_name
from pipelines.jupyter.fields import parameter_fields
from pipelines.jupyter.form import Form, WriteForm, read_form
from pipelines.jupyter.places import find_place
from pipelines.jupyter.saving import found_sha256, save
from tests.services.notebooks import write_notebook
from workbench.errors import DefinitionError, NotAgreed, WorkbenchError

PARAMETERS = """\
from datetime import date
from typing import Literal

day: date = date(2013, 1, 1)  # the day that is computed
limit = 1.5
carrier: str | None = None
mode: Literal["fast", "slow"] | None = "fast"
options: dict[str, int] = {"a": 1}
is_final = False
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder that JupyterLab shows, with a project in it."""
    for name in ("analytics/pipelines/jobs", "analytics/notebooks", "other"):
        (tmp_path / "root" / name).mkdir(parents=True)
    write_notebook(tmp_path / "root" / "analytics" / "notebooks" / "daily.ipynb", "print(day)", parameters=PARAMETERS)
    return tmp_path / "root"


def draft(root: Path, path: str = "analytics/notebooks/daily.ipynb", **fields: object) -> Draft:
    form = {"notebook": path, "name": "daily", "cron": "0 6 * * *", "zone": "Europe/Berlin", **fields}
    return make_draft(Form.model_validate(form), find_place(root, path))


def names(root: Path) -> list[str]:
    """Of what the project has in pipelines/jobs."""
    return [each.name for each in (root / "analytics" / "pipelines" / "jobs").iterdir()]


def test_the_project_is_the_nearest_folder_with_jobs(root):
    (root / "pipelines" / "jobs").mkdir(parents=True)

    place = find_place(root, "/analytics/notebooks/daily.ipynb")

    assert (place.shown_folder, place.notebook, place.is_project) == ("analytics", "notebooks/daily.ipynb", True)


@pytest.mark.parametrize(("git", "folder"), [("other/.git", "other"), (".git", ""), (None, "")])
def test_without_a_project_the_work_tree_of_git_is_offered_else_the_uppermost_folder(root, git, folder):
    (root / "other" / "deep").mkdir()
    write_notebook(root / "other" / "deep" / "n.ipynb", "print(1)")
    if git:
        (root / git).mkdir()

    place = find_place(root, "other/deep/n.ipynb")

    assert (place.shown_folder, place.is_project) == (folder, False)
    assert place.notebook == f"{'' if folder else 'other/'}deep/n.ipynb"


def test_a_project_above_the_files_of_jupyterlab_is_none(root):
    (root.parent / "pipelines" / "jobs").mkdir(parents=True)
    (root.parent / ".git").mkdir()
    write_notebook(root / "n.ipynb", "print(1)")

    assert find_place(root, "n.ipynb").folder == root


def test_a_text_of_every_kind_becomes_the_value_that_the_check_accepts(root):
    texts = {
        "day": "2026-01-31",
        "limit": "nan",
        "carrier": "null carrier",
        "mode": "null",
        "options": '{"b": 2}',
        "is_final": "true",
    }
    made = draft(root, parameters=texts)

    assert made.problems == ()
    assert parse_document(Path("x"), made.text).value["schedule"]["parameters"] == {
        "day": "2026-01-31",
        "limit": "nan",
        "carrier": "null carrier",
        "mode": None,
        "options": {"b": 2},
        "is_final": True,
    }


def test_a_default_that_was_left_alone_stays_with_the_notebook(root):
    shown = {each["name"]: each["default"] for each in parameter_fields(draft(root).parameters)}
    value = parse_document(Path("x"), draft(root, parameters={**shown, "carrier": ""}).text).value

    assert value["parameters"] == dict.fromkeys(shown)
    assert value["schedule"] == {"cron": "0 6 * * *", "zone": "Europe/Berlin"}
    assert value["steps"]["daily"]["parameters"] == {name: f"${{{name}}}" for name in shown}


def test_without_a_schedule_other_values_are_the_defaults_of_the_runs(root):
    made = draft(root, cron="", parameters={"day": "2026-01-31", "options": "{}"})
    pipeline = check_text("daily", made.text, made.place.project).pipelines[0]

    assert made.problems == ()
    assert pipeline.definition.schedule is None
    assert {each.name: each.default for each in pipeline.parameters if each.name in {"day", "options"}} == {
        "day": date(2026, 1, 31),
        "options": {},
    }


def test_every_field_of_the_form_is_in_the_file(root):
    made = draft(
        root, description="Daily: on time?", owner="ada", retries="2", wait="1m", step_timeout="30m", timeout="1h"
    )
    definition = check_text("daily", made.text, made.place.project).pipelines[0].definition
    step = definition.steps["daily"]

    assert (definition.description, definition.owner, definition.timeout_seconds) == ("Daily: on time?", "ada", 3600)
    assert (step.retries.times, step.retries.wait_seconds, step.timeout_seconds) == (2, 60, 1800)


@pytest.mark.parametrize(
    ("fields", "place", "part"),
    [
        ({"name": "../daily"}, "name", "'../daily' is no name"),
        ({"cron": "@daily"}, "schedule.cron", "has not the five fields"),
        ({"zone": "Mars"}, "schedule.zone", "is no IANA time zone"),
        ({"parameters": {"day": "yesterday"}}, "schedule.parameters.day", "is no date"),
        ({"parameters": {"day": "${run.instant}"}}, "schedule.parameters.day", "is datetime"),
        ({"parameters": {"gone": "1"}}, "steps.daily.parameters.gone", "there is no parameter of"),
        ({"retries": "twice"}, "steps.daily.retries.times", "is no whole number"),
        ({"wait": "ten"}, "steps.daily.retries.wait", "is no duration"),
        ({"step_timeout": "0s"}, "steps.daily.timeout", "is no time at all"),
    ],
)
def test_what_is_wrong_has_its_field(root, fields, place, part):
    problems = [(each.field, each.message) for each in draft(root, **fields).problems]

    assert [message for field, message in problems if field == place and part in message], problems


def test_a_secret_that_was_typed_in_place_of_its_reference_is_nowhere(root):
    write_notebook(root / "analytics" / "s.ipynb", "print(1)", parameters="token = None  # type: secret\n")
    made = draft(root, "analytics/s.ipynb", parameters={"token": "hunter2"})

    assert "write env:NAME, file:/PATH" in made.problems[0].message
    assert "hunter2" not in made.text + str(made.problems)
    assert draft(root, "analytics/s.ipynb", parameters={"token": "env:API_TOKEN"}).problems == ()


def test_a_notebook_that_cannot_be_read_is_a_problem_of_the_step(root):
    (root / "analytics" / "broken.ipynb").write_text("{")

    made = draft(root, "analytics/broken.ipynb")

    assert [each.field for each in made.problems] == ["steps.broken.notebook"]
    assert made.parameters == ()


def test_the_schema_is_named_where_the_project_has_it(root):
    assert not draft(root).text.startswith("#")
    (root / "analytics" / "pipelines" / "jobs" / "pipeline.schema.json").write_text("{}")

    assert draft(root).text.startswith("# yaml-language-server: $schema=pipeline.schema.json\n")


def test_instants_are_local_and_in_utc_and_none_of_a_wrong_schedule():
    found = instants(Form(notebook="n.ipynb", name="n", cron="0 6 * * *", zone="America/New_York"))

    assert len(found) == 5
    assert all(" 06:00 -0" in each["local"] and each["utc"][-5:] in {"10:00", "11:00"} for each in found)
    assert instants(Form(notebook="n.ipynb", name="n", cron="0 0 30 2 *")) == []
    assert instants(Form(notebook="n.ipynb", name="n")) == []


@pytest.mark.parametrize(
    ("path", "name"),
    [("a/Daily Report.ipynb", "daily-report"), ("日本.ipynb", "notebook"), (f"{'x' * 49}-y.ipynb", "x" * 49)],
)
def test_a_step_is_named_after_its_notebook(path, name):
    assert step_name(path) == name


def test_a_file_is_new_or_is_the_one_that_was_seen(root):
    made = draft(root)
    path = save(made)
    assert path.read_text() == made.text
    assert read_pipeline(path, made.place.project).name == "daily"

    path.chmod(0o640)
    other = draft(root, description="another")
    with pytest.raises(NotAgreed, match="is there already"):
        save(other)
    with pytest.raises(NotAgreed, match="is there already"):
        save(other, replaces="0" * 64)
    save(other, replaces=found_sha256(made))

    assert path.read_text() == other.text
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert names(root) == ["daily.yaml"]


def test_one_that_appears_in_the_last_moment_is_not_replaced(root, monkeypatch):
    made = draft(root)
    path = root / "analytics" / made.file
    real = os.fsync

    def appear(handle: int) -> None:
        real(handle)
        path.write_text("of somebody else")

    monkeypatch.setattr(os, "fsync", appear)
    with pytest.raises(NotAgreed, match="is there already"):
        save(made)
    assert path.read_text() == "of somebody else"
    assert names(root) == ["daily.yaml"]


def test_nothing_is_written_that_has_problems(root):
    with pytest.raises(DefinitionError, match=r"schedule\.zone"):
        save(draft(root, zone="Mars"))
    assert names(root) == []


def test_a_folder_in_the_place_of_the_file_stays(root):
    (root / "analytics" / "pipelines" / "jobs" / "daily.yaml").mkdir()

    with pytest.raises(NotAgreed, match="is there already"):
        save(draft(root))


def test_a_full_disk_leaves_nothing_half_written(root, monkeypatch):
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WorkbenchError, match="could not be written: No space left on device"):
        save(draft(root))
    assert names(root) == []


def test_a_pipeline_is_known_where_it_is_and_the_same_only_with_its_notebook(root, tmp_path):
    installed = tmp_path / "installed"
    notebook = "notebooks/daily.ipynb"
    place = find_place(root, f"analytics/{notebook}")
    save(draft(root))
    assert pipelines_of(place, Project((installed,))) == [Known("daily", True, False, False)]

    shutil.copytree(root / "analytics", installed)
    assert pipelines_of(place, Project((installed,))) == [Known("daily", True, True, True)]

    write_notebook(installed / notebook, "print(day, limit)", parameters=PARAMETERS)
    assert pipelines_of(place, Project((installed,))) == [Known("daily", True, True, False)]

    (root / "analytics" / "pipelines" / "jobs" / "daily.yaml").write_text("steps: [")
    assert pipelines_of(place, Project((installed,))) == [Known("daily", False, True, False)]


@pytest.mark.parametrize(
    "body", [None, [], {"notebook": "n.ipynb"}, {"notebook": "n", "name": "n", "makes_project": 1}]
)
def test_what_is_no_form_is_refused(body):
    with pytest.raises(WorkbenchError, match="the request is no form"):
        read_form(WriteForm, body)
