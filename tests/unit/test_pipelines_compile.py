"""What pipelines compile to, and what is refused; the files of reference are in tests/unit/compiled/."""

from __future__ import annotations

import ast
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from pipelines.cli import add_commands
from pipelines.compile import Options, compile_pipelines, write_compiled
from pipelines.compile.kubernetes import object_name
from pipelines.definition import Project
from pipelines.elsewhere.order import instant_of_job, is_new_cycle
from workbench.errors import DefinitionError, WorkbenchError

GOLDEN = Path(__file__).parent / "compiled"
AIRFLOW = Options(target="airflow")
KUBERNETES = Options(target="kubernetes", image="registry.example.com/workbench:0.1.0", namespace="workbench")
STEP = {"sql": "sql/a.sql"}
FULL = {
    "description": 'Days and "weeks" of Zürich',
    "owner": "data",
    "tags": ["flights", "daily"],
    "parameters": {"month": {"type": "int", "default": 1}},
    "schedule": {"cron": "30 2 * * 1-5", "zone": "Europe/Berlin", "catch_up": "last", "parameters": {"month": 2}},
    "steps": {
        "load-all": {"sql": "sql/a.sql", "timeout": "10m", "retries": {"times": 3, "wait": "30s", "factor": 1.5}},
        "left": {"sql": "sql/a.sql", "after": ["load-all"]},
        "right": {"sql": "sql/a.sql", "after": ["load-all"], "retries": {"times": 0}},
        "both": {"sql": "sql/a.sql", "after": ["left", "right"]},
    },
    "timeout": "2h",
    "concurrency": {"runs": 2},
}


@pytest.fixture
def project(tmp_path: Path):
    (tmp_path / "pipelines/jobs").mkdir(parents=True)
    (tmp_path / "pipelines/alerts.yaml").write_text("channels:\n  team: {url: env:TEAM}\n")
    (tmp_path / "sql").mkdir()
    (tmp_path / "sql/a.sql").write_text("SELECT 1")
    return Project((tmp_path,))


def compiled(project: Project, options: Options, name: str = "full", **fields: object):
    (project.jobs / f"{name}.yaml").write_text(yaml.safe_dump(fields, sort_keys=False, allow_unicode=True))
    (found,) = compile_pipelines(project, [name], options)
    return found


def refused(project: Project, options: Options, **fields: object) -> list[str]:
    with pytest.raises(DefinitionError) as raised:
        compiled(project, options, **{"steps": {"a": STEP}, **fields})
    return [f"{each.line}: {each.field}" for each in raised.value.problems]


def assert_golden(found, name: str) -> None:
    """To take what is made now as right: delete the file, and run the test once."""
    path = GOLDEN / name
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(found.text)
        pytest.fail(f"{name} was not there; it is written now, read it")
    assert found.text == path.read_text()


@pytest.mark.parametrize(("options", "name"), [(AIRFLOW, "full.py.txt"), (KUBERNETES, "full.yaml")])
def test_a_pipeline_compiles_to_the_file_of_reference(project, options, name):
    assert_golden(compiled(project, options, **FULL), name)


def test_a_dag_is_python_that_imports_two_things_and_has_no_paths(project, tmp_path):
    text = compiled(project, AIRFLOW, **{**FULL, "description": '"""\\ {{ x }} \' #{}'}).text

    tree = ast.parse(text)
    assert {each.module for each in tree.body if isinstance(each, ast.ImportFrom)} == {
        "datetime",
        "airflow.sdk",
        "airflow.providers.standard.operators.bash",
    }
    assert not [each for each in tree.body if isinstance(each, ast.Import)]
    assert str(tmp_path) not in text


def test_a_file_is_stale_when_the_pipeline_has_changed_and_not_when_only_the_commit_has(project, tmp_path):
    first = compiled(project, AIRFLOW, **FULL)
    assert first.is_stale(tmp_path / "dags")

    path = write_compiled(first, tmp_path / "dags")
    assert not first.is_stale(tmp_path / "dags")

    path.write_text(path.read_text().replace("# Commit: none", "# Commit: 0123"))
    assert not first.is_stale(tmp_path / "dags")

    second = compiled(project, AIRFLOW, **{**FULL, "owner": "somebody"})
    assert second.is_stale(tmp_path / "dags")


def test_a_trigger_by_pipelines_waits_for_all_their_last_steps(project):
    compiled(project, AIRFLOW, "first", steps={"a": STEP, "b": STEP, "c": {**STEP, "after": ["a"]}})

    text = compiled(project, AIRFLOW, "second", steps={"a": STEP}, triggers=[{"pipeline": {"name": "first"}}]).text

    assets = [f'Asset("workbench://pipelines/first/{each}")' for each in ("b", "c")]
    assert f"schedule=AssetAny(AssetAll({', '.join(assets)}))" in text
    assert 'outlets=[Asset("workbench://pipelines/second/a")]' in text


def test_catching_up_with_all_begins_on_the_day_that_is_given(project):
    schedule = {"cron": "0 0 * * *", "zone": "UTC", "catch_up": "all"}
    options = Options(target="airflow", since=datetime(2013, 1, 31, tzinfo=UTC))

    text = compiled(project, options, steps={"a": STEP}, schedule=schedule).text

    assert "start_date=datetime(2013, 1, 31, tzinfo=timezone.utc)" in text
    assert "catchup=True" in text


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"triggers": [{"file": {"path": "in/*.csv"}}]}, "5: triggers[0].file"),
        ({"triggers": [{"table": {"name": "a.b"}}]}, "5: triggers[0].table"),
        ({"triggers": [{"kafka": {"topic": "t", "records": 1}}]}, "5: triggers[0].kafka"),
        ({"triggers": [{"webhook": {"secret": "env:S"}}]}, "5: triggers[0].webhook"),
        ({"concurrency": {"over": "skip"}}, "5: concurrency.over"),
        ({"run_as": "ada"}, "4: run_as"),
        ({"alerts": {"to": ["team"], "late": "5m"}}, "7: alerts.late"),
        ({"alerts": {"to": ["team"], "slow": "5m"}}, "7: alerts.slow"),
        ({"alerts": {"to": ["team"], "overdue": "5m"}}, "7: alerts.overdue"),
        ({"schedule": {"cron": "0 0 * * *", "zone": "UTC", "catch_up": "all"}}, "7: schedule.catch_up"),
        ({"schedule": {"cron": "0 0 L * *", "zone": "UTC"}}, "5: schedule.cron"),
        ({"schedule": {"cron": "0 0 */2 * 1", "zone": "UTC"}}, "5: schedule.cron"),
        ({"schedule": {"cron": "0 2 * * *", "zone": "Europe/Berlin", "ambiguous": "twice"}}, "7: schedule.ambiguous"),
    ],
)
def test_what_airflow_has_no_way_to_do_is_refused_with_its_line(project, fields, where):
    assert refused(project, AIRFLOW, **fields) == [where]


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"triggers": [{"file": {"path": "in/*.csv"}}]}, "5: triggers[0]"),
        ({"priority": 3}, "4: priority"),
        ({"concurrency": {"runs": 2, "over": "skip"}}, "5: concurrency.runs"),
        ({"steps": {"a": {**STEP, "pool": "spark"}}}, "4: steps.a.pool"),
        ({"schedule": {"cron": "0 0 * * *", "zone": "UTC", "catch_up": "all"}}, "7: schedule.catch_up"),
        ({"schedule": {"cron": "0 6 */2 * 1", "zone": "UTC"}}, "5: schedule.cron"),
        ({"schedule": {"cron": "0 6 * * 7", "zone": "UTC"}}, "5: schedule.cron"),
        ({"schedule": {"cron": "0 6 * * 1/2", "zone": "UTC"}}, "5: schedule.cron"),
    ],
)
def test_what_kubernetes_has_no_way_to_do_is_refused_with_its_line(project, fields, where):
    assert refused(project, KUBERNETES, **fields) == [where]


@pytest.mark.parametrize("concurrency", [{"over": "skip"}, {"over": "queue"}])
def test_no_job_has_a_deadline_that_would_kill_a_run_which_waits_for_room(project, concurrency):
    for schedule in ({}, {"schedule": {"cron": "0 0 * * *", "zone": "UTC"}}):
        fields = {"steps": {"a": STEP}, "timeout": "1h", "concurrency": concurrency, **schedule}

        assert "activeDeadlineSeconds" not in compiled(project, KUBERNETES, **fields).text


@pytest.mark.parametrize(
    ("cron", "zone", "is_refused"),
    [
        ("30 2 * * *", "Europe/Berlin", True),
        ("0 2 * * 0", "Europe/Berlin", True),
        ("0 0 * * *", "America/Santiago", True),
        ("30 2 28 3 *", "Europe/Berlin", True),
        ("0 3 * * *", "Europe/Berlin", False),
        ("30 2 * * 1-5", "Europe/Berlin", False),
        ("30 2 28 2 *", "Europe/Berlin", False),
        ("30 * * * *", "Europe/Berlin", False),
        ("30 2 * * *", "UTC", False),
        ("30 2 * * *", "Asia/Kolkata", False),
    ],
)
def test_kubernetes_is_given_no_fixed_time_that_a_change_of_the_clocks_touches(project, cron, zone, is_refused):
    fields = {"steps": {"a": STEP}, "schedule": {"cron": cron, "zone": zone}}

    if is_refused:
        assert refused(project, KUBERNETES, **fields) == ["5: schedule.cron"]
    else:
        assert compiled(project, KUBERNETES, **fields)
    assert compiled(project, AIRFLOW, **fields)


def test_secrets_are_references_in_a_manifest_and_nowhere_else(project):
    (project.roots[0] / "steps_s.py").write_text("def a(token: 'secret', key: 'secret') -> None: ...\n")
    step = {"function": "steps_s:a", "parameters": {"token": "${token}", "key": "${key}"}}
    parameters = {
        "token": {"type": "secret", "default": "env:TOKEN"},
        "key": {"type": "secret", "default": "file:/etc/x"},
    }

    assert refused(project, KUBERNETES, steps={"a": step}, parameters=parameters) == ["11: parameters.key"]

    parameters["key"]["default"] = "file:/etc/workbench/files/key"
    text = compiled(project, KUBERNETES, steps={"a": step}, parameters=parameters).text
    container = yaml.safe_load(text)["spec"]["template"]["spec"]["containers"][0]
    (token,) = [each for each in container["env"] if each["name"] == "TOKEN"]
    assert token["valueFrom"] == {"secretKeyRef": {"name": "workbench-pipelines", "key": "TOKEN"}}
    assert "TOKEN" not in compiled(project, AIRFLOW, steps={"a": step}, parameters=parameters).text


def test_the_name_of_a_job_says_the_instant_when_a_controller_has_made_it():
    now = datetime(2026, 11, 27, 7, 0, tzinfo=UTC)

    assert instant_of_job(f"daily-{int(now.timestamp()) // 60}", now) == now
    for name in ("daily-x7k2p", "daily-20130131", "daily", "daily-99999999"):
        assert instant_of_job(name, now) is None


@pytest.mark.parametrize(("attempt", "first", "is_new"), [(1, 1, False), (2, 1, False), (2, 2, True), (5, 4, False)])
def test_a_step_begins_anew_with_the_first_try_of_a_later_cycle(attempt, first, is_new):
    assert is_new_cycle(attempt, first) is is_new


def test_names_of_objects_are_short_and_distinct():
    names = ["a", "a-b", "a_b", "x" * 50, "x" * 49 + "_", "x" * 48 + "_a"]

    made = [object_name(each) for each in names]

    assert len(set(made)) == len(names)
    assert all(len(each) <= 52 and "_" not in each for each in made)


def run(*arguments: str):
    application = typer.Typer()
    add_commands(application)
    return CliRunner().invoke(application, ["pipelines", *arguments])


def test_compile_prints_or_writes_and_check_finds_what_is_stale(tmp_path):
    printed = run("compile", "daily-delays", "--to", "airflow")
    assert printed.exit_code == 0
    assert 'dag_id="daily-delays"' in printed.stdout

    out = ("--to", "airflow", "--out", str(tmp_path / "dags"))
    assert run("compile", *out, "--check").exit_code == 1
    assert run("compile", *out).exit_code == 0
    assert run("compile", *out, "--check").exit_code == 0
    assert (tmp_path / "dags" / "daily-delays.py").read_text() == printed.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--cause", "chance"), "chance is unknown"),
        (("--instant", "2013-01-31T06:00"), "no instant with its zone"),
        (("--given", "canary"), "no JSON object"),
        (("--given", '["canary"]'), "no JSON object"),
    ],
)
def test_exec_says_what_is_wrong_before_anything_is_begun(arguments, said):
    done = run("exec", "daily-delays", "--run-key", "k", *arguments)

    assert isinstance(done.exception, WorkbenchError)
    assert said in done.exception.message
    assert "canary" not in str(done.exception)
