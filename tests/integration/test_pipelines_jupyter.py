"""What a user's server does for the action of JupyterLab, asked over real HTTP."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.services.jupyter_server import JupyterServer, running_jupyter
from tests.services.notebooks import write_notebook
from tests.services.workbench import run

PARAMETERS = "from datetime import date\n\nday: date = date(2013, 1, 1)  # of 2013\nlimit = 1.5\n"
NOTEBOOK = "analytics/notebooks/daily.ipynb"
FORM = {"notebook": NOTEBOOK, "name": "daily", "cron": "0 6 * * *", "zone": "Europe/Berlin"}


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[JupyterServer]:
    with running_jupyter(tmp_path_factory.mktemp("jupyter")) as server:
        yield server


@pytest.fixture
def jobs(server: JupyterServer) -> Iterator[Path]:
    """pipelines/jobs of a project with one notebook."""
    notebook, jobs = server.root / NOTEBOOK, server.root / "analytics" / "pipelines" / "jobs"
    for each in (notebook.parent, jobs):
        each.mkdir(parents=True)
    write_notebook(notebook, "print(day)", parameters=PARAMETERS)
    yield jobs
    for each in server.root.iterdir():
        each.unlink() if each.is_symlink() or each.is_file() else shutil.rmtree(each)


def check(server: JupyterServer, **changes: object) -> httpx.Response:
    return server.call("POST", "workbench/pipelines/check", json={**FORM, **changes})


def write(server: JupyterServer, **changes: object) -> httpx.Response:
    return server.call("PUT", "workbench/pipelines/file", json={**FORM, **changes})


def test_a_check_shows_the_file_the_parameters_and_when_it_would_run(server, jobs):
    answer = check(server, parameters={"day": "${run.day_before}"}).json()

    assert answer["problems"] == []
    assert answer["file"] == "pipelines/jobs/daily.yaml"
    assert "    day: ${run.day_before}\n" in answer["yaml"]
    assert [(each["name"], each["type"], each["default"]) for each in answer["parameters"]] == [
        ("day", "date", "2013-01-01"),
        ("limit", "float", "1.5"),
    ]
    assert len(answer["next"]) == 5
    assert {each["local"][15:20] for each in answer["next"]} == {"06:00"}
    assert list(jobs.iterdir()) == []


def test_what_is_written_is_what_was_shown_and_the_command_accepts_it(server, jobs, tmp_path):
    shown = check(server).json()["yaml"]

    assert write(server).json() == {"path": "analytics/pipelines/jobs/daily.yaml"}

    (file,) = jobs.iterdir()
    assert file.read_text() == shown
    done = run("pipelines", "check", str(file), home=tmp_path)
    assert done.stdout == "1 pipeline is in order.\n", done.stderr


def test_problems_are_those_of_the_command_and_keep_the_file_from_being_written(server, jobs, tmp_path):
    wrong = {"parameters": {"limit": "much"}, "retries": "many", "timeout": "soon"}
    answer = check(server, **wrong).json()
    (jobs / "daily.yaml").write_text(answer["yaml"])

    done = run("pipelines", "check", "--json", str(jobs / "daily.yaml"), home=tmp_path)

    told = [{**each, "file": str(jobs / "daily.yaml")} for each in json.loads(done.stdout)["problems"]]
    assert answer["problems"] == told
    assert {each["field"] for each in told} == {"schedule.parameters.limit", "steps.daily.retries.times", "timeout"}
    (jobs / "daily.yaml").unlink()
    refused = write(server, **wrong)
    assert refused.status_code == 400
    assert "schedule.parameters.limit" in refused.json()["message"]
    assert list(jobs.iterdir()) == []


def test_nothing_is_replaced_that_was_not_agreed_to(server, jobs):
    (jobs / "daily.yaml").write_text("steps: {}\n")
    seen = check(server).json()["found"]
    assert seen == hashlib.sha256(b"steps: {}\n").hexdigest()

    assert write(server).status_code == 409
    (jobs / "daily.yaml").write_text("steps: {a: {flow: flights}}\n")  # since it was seen
    assert write(server, replaces=seen).status_code == 409
    assert (jobs / "daily.yaml").read_text() == "steps: {a: {flow: flights}}\n"

    assert write(server, replaces=check(server).json()["found"]).status_code == 200
    assert "notebooks/daily.ipynb" in (jobs / "daily.yaml").read_text()


def test_a_folder_becomes_a_project_only_when_somebody_agrees(server, jobs):
    write_notebook(server.root / "alone.ipynb", "print(1)")
    there = check(server, notebook="alone.ipynb").json()
    assert (there["is_project"], there["folder"], there["notebook"]) == (False, "", "alone.ipynb")

    refused = write(server, notebook="alone.ipynb")
    assert (refused.status_code, (server.root / "pipelines").exists()) == (409, False)
    assert "is in no project" in refused.json()["message"]

    assert write(server, notebook="alone.ipynb", makes_project=True).status_code == 200
    assert (server.root / "pipelines" / "jobs" / "daily.yaml").is_file()


@pytest.mark.parametrize(
    "path",
    [
        "../outside.ipynb",
        "analytics/../../outside.ipynb",
        "link.ipynb",
        "linked/outside.ipynb",
        "/etc/passwd",
        "\0.ipynb",
    ],
)
def test_no_path_of_a_notebook_leads_out_of_the_files(server, jobs, path):
    write_notebook(server.root.parent / "outside.ipynb", "print(1)")
    (server.root / "link.ipynb").symlink_to(server.root.parent / "outside.ipynb")
    (server.root / "linked").symlink_to(server.root.parent)

    for answer in (
        check(server, notebook=path),
        write(server, notebook=path, makes_project=True),
        server.call("GET", "workbench/pipelines", params={"notebook": path}),
    ):
        assert answer.status_code == 400
        assert "is no notebook in the folders of this server" in answer.json()["message"]
    assert not (server.root.parent / "pipelines").exists()


@pytest.mark.parametrize("name", ["../../../outside", "/tmp/outside", "a/b", ".hidden", "", "daily\n", "Daily"])
def test_no_name_leads_to_another_folder(server, jobs, name):
    refused = write(server, name=name)

    assert refused.status_code == 400
    assert "is no name" in refused.json()["message"]
    assert [each for each in server.root.parent.rglob("*.yaml") if each.is_file()] == []


def test_a_link_in_place_of_a_folder_or_of_the_file_is_refused(server, jobs):
    elsewhere = server.root.parent / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    (jobs / "daily.yaml").symlink_to(elsewhere / "daily.yaml")
    assert (write(server).status_code, write(server).json()["message"]) == (400, "pipelines/jobs/daily.yaml is a link")

    shutil.rmtree(jobs)
    jobs.symlink_to(elsewhere)
    refused = write(server)
    assert refused.status_code == 400
    assert "leads out of the folders of this server" in refused.json()["message"]
    assert list(elsewhere.iterdir()) == []


def test_without_a_token_nothing_is_answered(server, jobs):
    with httpx.Client(base_url=server.url) as anonymous:
        anonymous.get("/login")
        token = {"X-XSRFToken": anonymous.cookies["_xsrf"]}

        assert anonymous.get("/workbench/pipelines", params={"notebook": NOTEBOOK}).status_code == 403
        assert anonymous.post("/workbench/pipelines/check", json=FORM, headers=token).status_code == 403
        assert anonymous.put("/workbench/pipelines/file", json=FORM, headers=token).status_code == 403
    assert list(jobs.iterdir()) == []


def test_a_cookie_without_its_xsrf_token_changes_nothing(server, jobs):
    with httpx.Client(base_url=server.url) as browser:
        browser.get("/login")
        token = {"X-XSRFToken": browser.cookies["_xsrf"]}
        browser.post("/login", data={"password": server.token}, headers=token)
        token = {"X-XSRFToken": browser.cookies["_xsrf"]}  # it belongs to whoever is logged in
        assert browser.get("/workbench/pipelines", params={"notebook": NOTEBOOK}).status_code == 200

        refused = browser.put("/workbench/pipelines/file", json=FORM)
        assert (refused.status_code, list(jobs.iterdir())) == (403, [])
        assert browser.post("/workbench/pipelines/check", json=FORM).status_code == 403
        assert browser.put("/workbench/pipelines/file", json=FORM, headers=token).status_code == 200


def test_what_runs_a_notebook_is_said_with_whether_it_is_deployed(server, jobs):
    def known() -> list[dict[str, object]]:
        return server.call("GET", "workbench/pipelines", params={"notebook": NOTEBOOK}).json()["pipelines"]

    assert known() == []
    write(server)
    assert known() == [{"name": "daily", "in_project": True, "is_deployed": False, "is_same": False}]


@pytest.mark.parametrize(
    "body", [[], {}, {**FORM, "retries": 2}, {**FORM, "more": "x"}, {**FORM, "parameters": {"day": 1}}]
)
def test_what_is_no_form_is_refused(server, jobs, body):
    answer = server.call("POST", "workbench/pipelines/check", json=body)

    assert answer.status_code == 400
    assert "the request is no form" in answer.json()["message"]


def test_the_server_asks_the_internet_for_nothing_and_installs_no_extension(server: JupyterServer):
    assert server.call("GET", "lab/api/update").json() == {"notification": None}
    assert server.call("GET", "lab/api/news").json() == {"news": []}
    page = server.call("GET", "lab").text
    assert '"can_install": false' in page
    assert '"news": {"disabled": true}' in page
