"""The page and the API of pipelines, on a real store, with a real worker, and a person for each right."""

from __future__ import annotations

import json
import re
import threading
import time
from html import unescape
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from pipelines.monitor.evaluating import Evaluation
from tests.services.pipelines_project import Site, cells, running_site
from tests.services.pipelines_service import RunningService, running_service
from tests.services.workbench import wait_until
from workbench.logs.context import WELL_FORMED
from workbench.logs.lines import Line
from workbench.observability.alerts.samples import Samples
from workbench.observability.alerts.telling import Pace
from workbench.observability.monitor.database import MonitorDatabase
from workbench.panels.alerting.opening import open_panel as open_alerts
from workbench.panels.jobs.opening import open_panel
from workbench.panels.service import PipelinesService
from workbench.security.audit import AuditLog, read_events
from workbench.settings import Settings

HOSTILE = """from IPython.display import HTML, display
display(HTML("<script>document.title='owned'; fetch('/services/pipelines/api/v1/runs')</script>"
             "<img src=x onerror=\\"parent.document.title='owned'\\">"))"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running_site(tmp_path_factory.mktemp("site")) as site:
        site.module(
            "say",
            "import time\n\n\ndef say(n: int) -> int:\n    print(f'number {n}', flush=True)\n    return 10 // n\n\n\n"
            "def wait() -> None:\n    print('first line', flush=True)\n    time.sleep(120)\n",
        )
        site.pipeline(
            "say",
            owner="runner",
            parameters={"n": "int", "word": {"type": "str", "default": "<b>"}},
            schedule={"cron": "0 6 * * *", "zone": "Europe/Berlin", "parameters": {"n": 1}},
            steps={"a": {"function": "say:say", "parameters": {"n": "${n}"}}},
        )
        site.pipeline("wait", steps={"a": {"function": "say:wait"}})
        site.pipeline(
            "secretive",
            owner="editor",
            parameters={"token": {"type": "secret", "default": "env:ITS_TOKEN"}},
            steps={"a": {"function": "say:say", "parameters": {"n": 1}}},
        )
        site.notebook("hostile", HOSTILE)
        site.pipeline("hostile", steps={"a": {"notebook": "notebooks/hostile.ipynb"}})
        for name in ("days", "other-days"):
            site.pipeline(
                name,
                parameters={"day": "date", "country": {"type": "str", "default": "US\nCA"}},
                partitions={"by": "day", "from": "2013-01-01", "until": "2013-01-05", "parameter": "day"},
                steps={"a": {"sql": "sql/day.sql", "parameters": {"day": "${day}"}}},
            )
        site.file("sql/day.sql", "SELECT :day;")
        site.file("pipelines/flows/wrong.yaml", "topic: t\ninto: a.b\nmode: <script>owned()</script>\n")
        with site.worker():
            yield site


@pytest.fixture(scope="module")
def service(site: Site):
    with running_service(site) as service:
        yield service


def test_a_run_is_started_by_a_form_and_shown_with_its_steps(service: RunningService, site: Site):
    browser = service.browser("runner")

    made = browser.post("start_run", pipeline="say", p__n="5", p__word="")
    assert made.status_code == 303, made.text
    run_id = int(made.headers["location"].rpartition("/")[2])
    site.ended(run_id)

    page = browser.get(f"runs/{run_id}").text
    assert "succeeded" in page
    assert "&lt;b&gt;" in page
    for path in ("", "pipelines/say", "runs", "queue", "schedules", "backfills", "flows", "pipelines/days/backfill"):
        answer = browser.get(path)
        assert answer.status_code == 200, (path, answer.text)
        assert "script-src 'self'" in answer.headers["content-security-policy"]


def test_a_request_and_its_run_are_followed_through_service_worker_and_kernel(service: RunningService, site: Site):
    headers = {"Authorization": "token runner-token"}

    def start(**more: str) -> httpx.Response:
        address = f"{service.url}api/v1/pipelines/logging/runs"
        return httpx.post(address, headers={**headers, **more}, content="{}", timeout=60, trust_env=False)

    site.notebook(
        "logging",
        "import logging, warnings\nimport workbench",
        "logging.getLogger('workbench.flows').warning('seen in\\na kernel')",
    )
    site.pipeline("logging", owner="runner", steps={"a": {"notebook": "notebooks/logging.ipynb"}})
    made = start(**{"X-Request-ID": "from-the-proxy.1"})
    assert (made.status_code, made.headers["x-request-id"]) == (200, "from-the-proxy.1"), made.text
    run = site.ended(made.json()["run"])
    number = str(made.json()["run"])

    # What nobody else should be able to write is not taken over, and is not in the log.
    forged = httpx.get(f"{service.url}health", headers={"X-Request-ID": "a b run=9: x"}, trust_env=False)
    assert WELL_FORMED.fullmatch(forged.headers["x-request-id"])
    refused = httpx.post(
        f"{service.url}api/v1/pipelines/say/runs", headers={"X-Request-ID": "refused-1"}, trust_env=False
    )
    assert (refused.status_code, refused.headers["x-request-id"]) == (401, "refused-1")

    # What is logged once the answer is sent may be a moment later.
    wait_until(lambda: messages(site, "service", request="refused-1"), 20, "the refused request")
    assert messages(site, "service", request="refused-1")[0].startswith("401 POST ")
    wait_until(lambda: len(messages(site, "worker", run=number)) >= 2, 20, "the end of the step")
    assert messages(site, "worker", run=number) == ["the step begins", "the step has ended succeeded"]
    wait_until(lambda: len(messages(site, "service", request="from-the-proxy.1")) == 2, 20, "the request")
    assert messages(site, "service", request="from-the-proxy.1", run=number) == ["start_run"]
    (told,) = [line for line in map(read_line, cells(run.output("a")).splitlines()) if line is not None]
    assert (told.component, told.logger, told.message) == ("kernel", "workbench.flows", r"seen in\na kernel")
    assert told.fields == {"run": number, "attempt": "1", "pipeline": "logging", "step": "a"}


def messages(site: Site, process: str, **fields: str) -> list[str]:
    lines = [line for line in map(read_line, site.log(f"pipelines.{process}").splitlines()) if line is not None]
    assert {each.component for each in lines} <= {f"pipelines-{process}"}
    return [each.message for each in lines if fields.items() <= each.fields.items()]


def read_line(text: str) -> Line | None:
    line = Line.parse(text, "")
    return line if line is not None and line.is_ours else None


def test_who_runs_a_pipeline_does_not_choose_which_secret_is_read(service: RunningService):
    def start(person: str, reference: str) -> httpx.Response:
        return service.api(person, "POST", "/pipelines/secretive/runs", {"parameters": {"token": reference}})

    refused = start("runner", "file:/etc/shadow")
    assert refused.status_code == 400
    assert "token: file:/etc/shadow is not in the file of secretive" in refused.text
    form = service.browser("runner").post("start_run", pipeline="secretive", p__token="env:DW_PASSWORD")
    assert "env:DW_PASSWORD is not in the file" in form.text
    assert [start("runner", "env:ITS_TOKEN").status_code, start("editor", "env:ANOTHER").status_code] == [200, 200]


def test_a_button_that_is_pressed_twice_makes_one_run(service: RunningService):
    body = {"parameters": {"n": 1}, "request": "one"}

    first, second = (service.api("runner", "POST", "/pipelines/say/runs", body).json()["run"] for _ in range(2))
    others = service.api("editor", "POST", "/pipelines/say/runs", body).json()["run"]

    assert first == second != others


def test_a_list_of_runs_has_a_limit_and_a_page_a_lower_one(service: RunningService):
    answers = {limit: service.api("viewer", "GET", f"/runs?limit={limit}").status_code for limit in (10_000, 10_001)}

    assert answers == {10_000: 200, 10_001: 400}
    assert service.browser("viewer").get("runs?limit=10000").status_code == 200


def test_what_was_typed_wrong_is_told_in_the_form(service: RunningService):
    answer = service.browser("runner").post("start_run", pipeline="say", p__n="five")

    assert answer.status_code == 400
    assert "n: " in answer.text
    assert 'value="five"' in answer.text


def test_a_run_is_repaired_with_and_without_its_checkpoints(service: RunningService, site: Site):
    run_id = service.api("runner", "POST", "/pipelines/say/runs", {"parameters": {"n": 0}}).json()["run"]
    site.ended(run_id)

    assert service.browser("runner").post("repair_run", run=run_id, from_start="true").status_code == 303
    site.ended(run_id)
    wrong = service.api("runner", "POST", f"/runs/{run_id}/repair", {"from_start": "yes"})
    assert service.api("runner", "POST", f"/runs/{run_id}/repair", {}).json()["steps"] == ["a"]
    run = site.ended(run_id)

    assert (wrong.status_code, "from_start" in wrong.text) == (400, True)
    told = [each["body"] for each in run.page.events if each["kind"] == "repair"]
    assert told == [{"by": "runner", "steps": ["a"], "from_start": True}, {"by": "runner", "steps": ["a"]}]


def test_a_printed_line_arrives_while_the_step_runs_and_cancel_keeps_it(service: RunningService, site: Site):
    run_id = service.api("runner", "POST", "/pipelines/wait/runs", {"parameters": {}}).json()["run"]

    with events(service, "viewer", run_id) as stream:
        assert any("first line" in json.dumps(data) for name, data in stream if name == "output")
        assert service.api("runner", "POST", f"/runs/{run_id}/cancel", {}).json()["cancelled"] is True
        assert next(data for name, data in stream if name == "ended") == {"state": "cancelled"}

    with events(service, "viewer", run_id) as stream:
        assert any("first line" in json.dumps(data) for name, data in stream if name == "output")


def test_who_comes_back_to_a_stream_is_told_nothing_twice(service: RunningService, site: Site):
    run_id = service.api("runner", "POST", "/pipelines/say/runs", {"parameters": {"n": 7}}).json()["run"]
    site.ended(run_id)
    seen: list[str] = []

    with events(service, "viewer", run_id, seen=seen) as stream:
        told = list(stream)
    with events(service, "viewer", run_id, last=seen[-1]) as stream:
        again = list(stream)

    assert "number 7" in json.dumps(told)
    assert [name for name, _ in again] == ["ended"]
    read = read_events(AuditLog.of(site.home).path, action="outputs.read")
    assert [each.actor for each in read if each.details == {"run": str(run_id)}] == ["viewer"]


@pytest.mark.parametrize(
    ("person", "method", "path", "body", "status"),
    [
        ("none", "GET", "/pipelines", None, 403),
        ("viewer", "GET", "/pipelines", None, 200),
        ("viewer", "POST", "/pipelines/say/runs", {"parameters": {"n": 1}}, 403),
        ("runner", "POST", "/pipelines/days/backfills", {}, 403),
        ("runner", "POST", "/pipelines/wait/pause", {}, 403),
        ("editor", "PUT", "/pools/p", {"size": 2}, 403),
        ("owner", "PUT", "/pools/p", {"size": 2}, 200),
        ("viewer", "GET", "/alerts", None, 200),
        ("editor", "POST", "/silences", {"alert": "*", "duration": "1h", "reason": "x"}, 403),
        ("owner", "POST", "/silences", {"alert": "*", "duration": "1h", "reason": ""}, 400),
        ("owner", "POST", "/silences", {"alert": "*", "reason": "x"}, 400),
        ("owner", "POST", "/silences", {"alert": "no_such", "duration": "1h", "reason": "x"}, 409),
        ("owner", "POST", "/silences", {"alert": "no_such", "duration": "1h30m", "reason": "x"}, 409),
        ("owner", "POST", "/silences", {"alert": "*", "duration": "31d", "reason": "x"}, 409),
        ("owner", "POST", "/silences/99/end", {}, 409),
        ("nobody", "GET", "/pipelines", None, 401),
        ("viewer", "GET", "/runs/999999", None, 404),
        ("viewer", "GET", "/pipelines/none/runs", None, 404),
        ("runner", "POST", "/pipelines/say/runs", {"parameters": {"m": 1}}, 400),
        ("runner", "POST", "/pipelines/say/runs", {"unknown": 1}, 400),
        ("runner", "POST", "/pipelines/say/runs", {"pipeline": "wait"}, 400),
        ("viewer", "GET", "/pipelines/say/runs?pipeline=wait", None, 400),
        ("runner", "DELETE", "/pipelines", None, 405),
        ("viewer", "GET", "/runs?before=x", None, 400),
    ],
)
def test_each_right_reaches_so_far(service: RunningService, person, method, path, body, status):
    answer = service.api(person, method, path, body)

    assert answer.status_code == status, answer.text
    if status >= 400:
        assert answer.json()["error"]["message"]


def test_a_form_without_the_token_of_our_page_is_refused(service: RunningService):
    browser = service.browser("runner")
    data = {"pipeline": "say", "p.n": "1"}

    assert browser.client.post("do/start_run", data=data).status_code == 403
    assert browser.client.post("do/start_run", data={**data, "_token": "0" * 64}).status_code == 403
    others = service.browser("editor").token()
    assert browser.client.post("do/start_run", data={**data, "_token": others}).status_code == 403
    foreign = {"Sec-Fetch-Site": "same-site"}
    answer = browser.client.post("do/start_run", data={**data, "_token": browser.token()}, headers=foreign)
    assert answer.status_code == 403


def test_what_was_done_and_what_was_refused_is_in_the_audit_log(service: RunningService, site: Site):
    run_id = service.api("runner", "POST", "/pipelines/say/runs", {"parameters": {"n": 1}}).json()["run"]
    service.api("viewer", "POST", f"/runs/{run_id}/cancel", {})

    told = [(each.actor, each.action, each.resource, each.outcome) for each in read_events(AuditLog.of(site.home).path)]
    assert ("runner", "run.started", "pipeline:say", "begun") in told
    assert ("runner", "run.started", "pipeline:say", "success") in told
    assert ("viewer", "run.cancelled", "pipeline:say", "refused") in told


def test_nothing_is_changed_while_it_cannot_be_recorded(service: RunningService, site: Site):
    folder, aside = site.home / "audit", site.home / "audit-aside"
    count = site.ask("SELECT count(*) FROM pipelines.runs")
    folder.rename(aside)
    folder.write_text("in the way")
    try:
        answer = service.api("runner", "POST", "/pipelines/say/runs", {"parameters": {"n": 1}})
    finally:
        folder.unlink()
        aside.rename(folder)

    assert (answer.status_code, "audit log" in answer.text) == (503, True)
    assert site.ask("SELECT count(*) FROM pipelines.runs") == count


def test_hostile_output_comes_in_a_sandbox_that_runs_nothing(service: RunningService, site: Site):
    run = site.run("hostile")
    attempt = run.page.attempts[0]["id"]
    run_id = run.page.run["id"]

    answer = service.browser("viewer").get(f"runs/{run_id}/output/{attempt}")
    fetched = service.browser("viewer").get(f"runs/{run_id}/output/{attempt}/notebook")

    read = [each for each in read_events(AuditLog.of(site.home).path, action="outputs.read") if each.actor == "viewer"]
    told = [(each.resource, each.details) for each in read if each.details["run"] == str(run_id)]
    step = run.page.attempts[0]["step"]
    assert told == [("pipeline:hostile", {"run": str(run_id), "step": step, "attempt": str(attempt)})]
    assert "document.title" in answer.text
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none';")
    assert "allow" not in policy
    assert fetched.json()["nbformat"] == 4
    assert fetched.headers["content-disposition"].startswith("attachment")


def test_a_backfill_is_previewed_run_paused_and_cancelled(service: RunningService):
    editor = service.browser("editor")
    preview = editor.get(
        "pipelines/days/backfill", params={"since": "2013-01-02", "reprocess": "missing", "slots": "1"}
    )
    assert "4 of 4 would run" in preview.text

    made = service.api("editor", "POST", "/pipelines/days/backfills", {"since": "2013-01-02", "slots": 1}).json()
    assert made["runs"] == 4
    for what in ("pause", "resume", "cancel"):
        assert service.api("editor", "POST", f"/backfills/{made['backfill']}/{what}", {}).status_code == 200


def test_a_flow_is_started_by_a_button_and_its_page_tells_why_it_failed(service: RunningService, site: Site):
    editor, viewer = service.browser("editor"), service.browser("viewer")
    assert ("Start</button>" in editor.get("flows").text, "Start</button>" in viewer.get("flows").text) == (True, False)

    made = editor.post("start_flow", flow="wrong")
    assert (made.status_code, made.headers["location"].rpartition("/services/")[2]) == (303, "pipelines/flows/wrong")
    with events(service, "viewer", "flows/wrong/events?after=0") as stream:
        told = iter(stream)
        while "failed" not in (state := next(data for name, data in told if name == "state"))["html"]:
            pass
    page = viewer.get("flows/wrong").text
    assert "&lt;script&gt;owned()" in state["html"]
    for text in (page, state["html"]):
        assert "<script>owned" not in text
    assert "ERROR" in page
    row = service.api("viewer", "GET", "/flows/wrong").json()
    assert (row["flow"]["state"], row["log_bytes"] > 0, "mode is" in row["log"]) == ("failed", True, True)

    assert service.api("editor", "POST", "/flows/wrong/restart", {}).json()["changed"]
    assert service.api("owner", "POST", "/flows/wrong/stop", {}).json()["desired"] == "stopped"
    assert service.api("editor", "POST", "/flows/absent/start", {}).status_code == 404
    told = [(each.actor, each.action, each.resource, each.outcome) for each in read_events(AuditLog.of(site.home).path)]
    assert ("editor", "flow.started", "flow:wrong", "success") in told
    assert ("editor", "flow.restarted", "flow:wrong", "success") in told
    assert ("owner", "flow.stopped", "flow:wrong", "success") in told


def test_the_openapi_document_says_what_answers(service: RunningService):
    document = service.api("viewer", "GET", "/openapi.json").json()

    for path, methods in document["paths"].items():
        address = path.format(pipeline="say", run=999_999, backfill=999_999, pool="none", flow="none", silence=999_999)
        for method in ("GET", "POST", "PUT"):
            status = service.api("viewer", method, address, None if method == "GET" else {}).status_code
            is_known = status != 405
            assert is_known is (method.lower() in methods), (method, path, status)
            assert not is_known or str(status) in methods[method.lower()]["responses"], (method, path, status)


class events:  # noqa: N801 - reads as a function
    """The events of a run, or at another address: name and data, until the stream ends."""

    def __init__(
        self, service: RunningService, person: str, run: int | str, *, last: str = "", seen: list[str] | None = None
    ):
        headers = {"Authorization": f"token {person}-token", **({"Last-Event-ID": last} if last else {})}
        path = f"runs/{run}/events" if isinstance(run, int) else run
        self._client = httpx.Client(timeout=60, trust_env=False)
        self._stream = self._client.stream("GET", f"{service.url}{path}", headers=headers)
        self._seen = [] if seen is None else seen
        self._until = time.monotonic() + 60

    def __enter__(self):
        return self._events(self._stream.__enter__())

    def __exit__(self, *error):
        self._stream.__exit__(*error)
        self._client.close()

    def _events(self, answer):
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            assert time.monotonic() < self._until
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "event" in fields:
                self._seen.append(fields["id"])
                yield fields["event"], json.loads(fields["data"])
                fields = {}


def open_panel_of(service: RunningService, person: str):
    page = PipelinesService(service.url, SecretStr(f"{person}-token"))
    panel = open_panel(Settings.load(), page)
    panel.refresh()
    return panel, panel.view


def until_said(panel, text: str) -> None:
    wait_until(lambda: text in unescape(panel.message), 30, text, every_seconds=0.02)


def choose(panel, name: str) -> None:
    panel.view.pipeline.value = name
    panel.view.choose.click()
    until_said(panel, f"{name} takes")


def test_the_panel_runs_a_pipeline_with_a_typed_form_and_shows_what_becomes_of_it(service: RunningService, site: Site):
    panel, view = open_panel_of(service, "runner")
    assert {"say", "days", "wait"} <= {each.name for each in panel.state.pipelines}
    choose(panel, "say")
    assert list(view.fields) == ["n", "word"]
    assert view.fields["word"].value == "<b>"

    view.run.click()
    until_said(panel, "n has no value.")
    view.fields["n"].value = "five"
    view.run.click()
    until_said(panel, "n: 'five' is no integer.")
    view.fields["n"].value = "5"
    view.run.click()
    until_said(panel, "is to begin.")

    def newest():
        panel.refresh()
        return panel.state.runs[0]

    wait_until(lambda: newest().state == "succeeded", 60, "the run to succeed", every_seconds=0.2)
    assert newest().steps == (("a", "succeeded"),)
    assert newest().requested_by == "runner"
    assert "a succeeded" in panel.picture().text
    assert site.look(newest().id).page.run["parameters"]["run"] == {"n": 5, "word": "<b>"}

    choose(panel, "wait")
    view.run.click()
    until_said(panel, "is to begin.")
    wait_until(lambda: newest().state == "running", 60, "the run to begin", every_seconds=0.2)
    view.one.value = newest().id
    view.cancel.click()
    until_said(panel, "is being cancelled.")
    wait_until(lambda: newest().state == "cancelled", 60, "the run to end", every_seconds=0.2)
    panel.close()


def test_the_panel_previews_a_backfill_and_says_who_may_start_one(service: RunningService, site: Site):
    runner, view = open_panel_of(service, "runner")
    choose(runner, "other-days")
    view.since.value, view.until.value = "2013-01-02", "2013-01-03"
    view.preview.click()
    until_said(runner, "2 of 2 partitions would run.")
    assert [name for name, _ in runner.state.preview] == ["2013-01-02", "2013-01-03"]
    view.backfill.click()
    until_said(runner, "takes the right of an editor; you have a runner")
    assert 'role="alert"' in runner.message
    runner.close()

    editor, view = open_panel_of(service, "editor")
    choose(editor, "other-days")
    view.since.value, view.until.value = "2013-01-02", "2013-01-03"
    # What is typed counts for each partition, which gives the day itself.
    view.fields["country"].value = "DE"
    view.backfill.click()
    until_said(editor, "2 of 2 partitions are to run.")
    wait_until(lambda: editor.refresh() or len(editor.state.runs) == 2, 30, "the runs", every_seconds=0.2)
    given = [site.look(each.id).page.run["parameters"]["run"] for each in editor.state.runs]
    assert sorted(each["day"] for each in given) == ["2013-01-02", "2013-01-03"]
    assert {each["country"] for each in given} == {"DE"}
    editor.close()


def test_of_two_pipelines_that_are_chosen_one_after_another_the_form_is_that_of_the_last(service: RunningService):
    panel, _ = open_panel_of(service, "runner")
    slow, ask = threading.Event(), panel.view._actions._pipelines.ask

    def wait_for_the_other(operation: str, **given: Any) -> Any:
        found = ask(operation, **given)
        if given.get("pipeline") == "say" and operation == "show_form":
            assert slow.wait(20)
        return found

    panel.view._actions._pipelines.ask = wait_for_the_other
    panel.view.pipeline.value = "say"
    panel.view.choose.click()
    choose(panel, "wait")
    slow.set()
    until_said(panel, "wait was chosen meanwhile.")
    assert panel.state.form.pipeline == "wait"
    panel.close()


def test_lines_of_a_text_come_back_from_the_form_as_they_were(service: RunningService):
    page = service.browser("editor").get("pipelines/other-days/backfill").text

    assert re.search(r'<textarea name="p.country"[^>]*>\nUS\nCA</textarea>', page)


def test_the_panel_says_who_may_not_look_and_when_the_page_is_away(service: RunningService):
    nobody, _ = open_panel_of(service, "none")
    assert any("none has no role that may see pipelines" in each for each in nobody.state.problems)
    nobody.close()

    away, _ = open_panel_of(RunningService("http://127.0.0.1:9/services/pipelines/"), "runner")
    assert any("does not answer" in each for each in away.state.problems)
    assert "does not answer" in away.picture().text
    away.close()


ALERTS = """alerts:
  - {name: many_wait, condition: queue_depth > 5, severity: warning, channels: []}
  - {name: far_behind, condition: waiting_records > 100, duration: 10m, severity: critical, channels: []}
"""
WAITING, BEHIND = "workbench_queue_waiting_steps", "workbench_ingestion_waiting_records"


def evaluate(site: Site, *, at: int) -> None:
    """What a monitor does that has seen six steps wait, and two tables of which one is behind."""
    samples = Samples()
    samples.add(WAITING, (), at, 6.0)
    samples.add(BEHIND, (("table", "raw.a"),), at, 7.0)
    samples.add(BEHIND, (("table", "raw.b"),), at, 5000.0)
    with MonitorDatabase.of(site.home) as database:
        Evaluation(site.project.alerts, database, Pace()).evaluate(samples, at)


def test_the_panel_of_alerts_shows_what_fires_and_silences_it(service: RunningService, site: Site):
    page = PipelinesService(service.url, SecretStr("owner-token"))
    panel = open_alerts(Settings.load(), page)
    view = panel.view
    site.file("pipelines/alerts.yaml", ALERTS)

    def look() -> None:
        view._actions._watch.forget()
        panel.refresh()

    look()
    assert "No monitor has evaluated the alerts yet" in panel.picture().text
    evaluate(site, at=int((time.time() - 3600) * 1000))
    look()
    assert "No monitor runs: this is of" in panel.picture().text
    evaluate(site, at=int(time.time() * 1000))
    look()

    assert panel.state.problems == ()
    assert [(each.name, each.stage, each.labels, each.value) for each in panel.state.alerts] == [
        ("many_wait", "firing", (), "6"),
        ("far_behind", "pending", (("table", "raw.b"),), "5,000"),
    ]
    assert time.time() - panel.state.alerts[0].since.timestamp() < 60
    assert {each.name: each.values for each in panel.state.rules} == {
        "many_wait": ("6",), "far_behind": ("raw.b 5,000", "raw.a 7"),
    }  # fmt: skip
    assert "waiting_records > 100 for 10m" in panel.picture().text

    view.alert.value = ("far_behind", (("table", "raw.b"),))
    view.silence.click()
    until_said(panel, "Write a reason first")
    view.duration.value, view.reason.value = "2h", "a <b>repair</b>"
    view.silence.click()
    until_said(panel, "Silence 1: nobody is told that far_behind fires until")
    panel.refresh()
    (silence,) = panel.state.silences
    assert (silence.alert, silence.labels, silence.by) == ("far_behind", (("table", "raw.b"),), "owner")
    assert [bool(each.silenced_until) for each in panel.state.alerts] == [False, True]
    assert "a &lt;b&gt;repair&lt;/b&gt;" in panel.picture().html

    view.end.click()
    until_said(panel, "Silence 1 is over.")
    panel.refresh()
    assert panel.state.silences == ()

    site.file("pipelines/alerts.yaml", ALERTS.replace("queue_depth", "queue_dept"))
    look()
    assert any("did you mean queue_depth?" in each for each in panel.state.problems)
    panel.close()
    told = [(each.actor, each.action, each.resource, each.outcome) for each in read_events(AuditLog.of(site.home).path)]
    assert ("owner", "alert.silenced", "alert:far_behind", "success") in told
    assert ("owner", "alert.unsilenced", "silence:1", "success") in told


def test_the_panel_of_alerts_says_who_may_not_silence(service: RunningService, site: Site):
    site.file("pipelines/alerts.yaml", ALERTS)
    panel = open_alerts(Settings.load(), PipelinesService(service.url, SecretStr("viewer-token")))
    panel.refresh()
    panel.view.reason.value = "because"

    panel.view.silence.click()

    until_said(panel, "silence an alert takes the right of an owner; you have a viewer")
    assert 'role="alert"' in panel.message
    assert panel.view.reason.value == "because"
    panel.close()
