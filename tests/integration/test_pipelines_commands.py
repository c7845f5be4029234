"""The commands about runs, on a real store and with a real worker."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from pipelines.cli import add_commands
from pipelines.definition import Project
from pipelines.states import State
from tests.services.pipelines_project import Site, running_site
from tests.services.workbench import wait_until
from workbench.errors import NoSuchRun, ParametersRefused, WorkbenchError


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running_site(tmp_path_factory.mktemp("site")) as site:
        site.module("say", "def say(n: int) -> int:\n    print('number', n)\n    return 10 // n\n")
        site.pipeline(
            "say",
            parameters={"n": "int"},
            schedule={"cron": "0 6 * * *", "zone": "UTC", "parameters": {"n": 1}},
            steps={"a": {"function": "say:say", "parameters": {"n": "${n}"}}},
        )
        site.pipeline(
            "days",
            parameters={"day": "date"},
            partitions={"by": "day", "from": "2013-01-01", "until": "2013-01-05", "parameter": "day"},
            steps={"a": {"sql": "sql/day.sql", "parameters": {"day": "${day}"}}},
        )
        # Two steps that both make a table if it is not there fail in PostgreSQL when they do it at once.
        site.ask("CREATE TABLE public.days (day date)")
        site.file("sql/day.sql", "INSERT INTO public.days VALUES (:day);")
        site.file("pipelines/flows/wrong.yaml", "topic: t\ninto: a.b\nmode: sideways\n")
        with site.worker():
            yield site


@pytest.fixture
def command(site: Site, monkeypatch):
    """Runs `workbench pipelines …` in this process; returns what it answered."""
    for name, value in {**site.settings(), "WORKBENCH_HOME": str(site.home)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Project, "installed", classmethod(lambda cls, **_: site.project))
    application = typer.Typer()
    add_commands(application)

    def run(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(application, ["pipelines", *arguments])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == code, done.output
        return done.output if "--json" not in arguments else done.stdout

    return run


def test_a_run_is_followed_to_its_end_and_shown(command):
    told = command("run", "say", "-p", "n=5", "--follow")

    assert "number 5" in told

    made = json.loads(command("run", "say", "-p", "n=5", "--wait", "--json"))
    shown = command("show", str(made["run"]["id"]))

    assert made["run"]["state"] == State.SUCCEEDED
    assert made["run"]["parameters"]["run"] == {"n": 5}
    assert "succeeded" in shown
    assert "n = 5" in shown


def test_a_flow_is_started_shown_read_and_stopped(command, site: Site):
    def row():
        (found,) = json.loads(command("flows", "--json"))["flows"]
        return found

    with pytest.raises(WorkbenchError, match="wrong has no log"):
        command("flows", "log", "wrong")
    assert (row()["state"], row()["asked_by"], row()["has_file"]) == ("stopped", "", True)
    done = json.loads(command("flows", "start", "wrong", "--json"))
    assert done == {"flow": "wrong", "desired": "running", "changed": True}
    wait_until(lambda: row()["state"] == "failed", 60, "the flow to fail")

    assert "mode is 'sideways'" in row()["reason"]
    assert "failed" in command("flows")
    assert command("flows", "log", "wrong", "-n", "1").count("\n") == 1
    assert "mode is 'sideways'" in command("flows", "log", "wrong")
    assert "is to be started anew" in command("flows", "restart", "wrong")
    assert "is to stop" in command("flows", "stop", "wrong")
    assert "already" in command("flows", "stop", "wrong")
    for what in ("start", "stop", "restart", "log"):
        with pytest.raises(NoSuchRun, match="no flow 'absent'; flows are wrong"):
            command("flows", what, "absent")


def test_a_run_that_fails_ends_the_command_with_1_and_says_why(command):
    told = command("run", "say", "-p", "n=0", "--wait", code=1)

    assert "ZeroDivisionError" in told


def test_a_repair_is_followed_from_where_it_begins_and_the_same_error_is_shown_once(command):
    run_id = str(json.loads(command("run", "say", "-p", "n=0", "--wait", "--json", code=1))["run"]["id"])

    command("repair", run_id, "--wait", code=1)
    told = command("repair", run_id, "--from-start", "--follow", code=1)
    shown = command("show", run_id)

    assert "the run is repaired" in told
    assert told.count("number 0") == 1, "what earlier attempts have printed is not printed again"
    assert told.count("the run failed") == 1
    assert "a, same error in attempts 1-3, cell 1:" in shown
    assert shown.count("in say\n") == 1


def test_wrong_values_are_refused_before_anything_is_made(command):
    with pytest.raises(ParametersRefused, match="there is no parameter 'm'"):
        command("run", "say", "-p", "m=5")
    with pytest.raises(ParametersRefused, match="no whole number"):
        command("run", "say", "-p", "n=x")


def test_partitions_are_previewed_and_filled(command, site: Site):
    planned = json.loads(command("backfill", "run", "days", "--until", "2013-01-03", "--preview", "--json"))
    made = json.loads(command("backfill", "run", "days", "--until", "2013-01-03", "--slots", "2", "--json"))

    assert [each["partition"] for each in planned["partitions"]] == ["2013-01-01", "2013-01-02", "2013-01-03"]
    assert (made["runs"], made["partitions"]) == (3, 3)

    for (run_id,) in site.ask(f"SELECT id FROM pipelines.runs WHERE backfill_id = {made['backfill']}"):
        site.ended(run_id)
    again = json.loads(command("backfill", "run", "days", "--preview", "--json"))

    assert [each["runs"] for each in again["partitions"]] == [False, False, False, True, True]
    assert site.ask("SELECT day::text FROM public.days ORDER BY day") == [
        ("2013-01-01",), ("2013-01-02",), ("2013-01-03",),
    ]  # fmt: skip
    listed = json.loads(command("backfill", "list", "--json"))
    assert listed["backfills"][0]["states"] == {"succeeded": 3}


def test_lists_pools_and_pauses(command, site: Site):
    from pipelines.scheduler.scheduler import Scheduler

    Scheduler(site.store, site.project).sync()

    command("pool", "narrow", "3")
    command("pause", "say")
    queue = json.loads(command("queue", "--json"))
    paused = {each["name"]: each["paused"] for each in json.loads(command("list", "--json"))["pipelines"]}
    command("resume", "say")

    assert ("narrow", 3) in [(each["name"], each["size"]) for each in queue["pools"]]
    assert [each["is_alive"] for each in queue["workers"]] == [True]
    assert paused == {"say": True, "days": False}
    assert "say" in command("list")
    assert "narrow" in command("queue")


def test_what_is_not_there_is_said(command):
    with pytest.raises(NoSuchRun, match="there is no run 99999"):
        command("show", "99999")
    with pytest.raises(NoSuchRun, match="nobody"):
        command("pause", "nobody")
