"""Metrics of real processes, read by the monitor, until a person is told: a real flow, broker, database, hub, SMTP server and endpoints."""

from __future__ import annotations

import html
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message
from apprise.plugins import pagerduty
from prometheus_client import CollectorRegistry, Counter

from pipelines.alerting.delivery import Post, deliver
from pipelines.monitor import recording
from pipelines.monitor.evaluating import Evaluation
from pipelines.monitor.heartbeat import VARIABLE, Heartbeat
from pipelines.monitor.own import counting_security_events
from pipelines.monitor.process import Monitor, MonitorOptions, run_monitor
from pipelines.store.database import Store
from tests.services.identity_provider import IdentityProvider
from tests.services.login_hub import LoginHub, running_login_hub
from tests.services.notification_servers import Endpoint, http_endpoint
from tests.services.pipelines_project import Site, running_site
from tests.services.pipelines_store import emptied
from tests.services.three_brokers import Brokers, running_brokers
from tests.services.workbench import ROOT, STARTED_SECONDS, environment, wait_until
from workbench.errors import MonitorError, StoreUnavailable
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.producer import OutgoingRecord, produce
from workbench.ingestion.topics import Topic, apply_topics
from workbench.observability.alerts import rules as rules_of_alerts
from workbench.observability.alerts.samples import Samples
from workbench.observability.alerts.telling import Pace
from workbench.observability.dashboards.history import History
from workbench.observability.endpoint import metrics_endpoint
from workbench.observability.monitor.database import MonitorDatabase
from workbench.observability.monitor.scraping import ScrapeFailed, Scraper
from workbench.observability.monitor.targets import Target, read_targets
from workbench.resolving import References
from workbench.runtime.metrics import metrics_token, publish_target, serving_metrics
from workbench.runtime.ports import LOOPBACK, any_free
from workbench.sections import WarehouseSettings
from workbench.security.audit import Action, AuditLog
from workbench.settings import Settings

TURN_SECONDS = 0.4


class Inbox(Message):
    def __init__(self):
        super().__init__()
        self.subjects = []

    def handle_message(self, message):
        self.subjects.append(message["Subject"])


@pytest.fixture
def mail() -> Iterator[tuple[Inbox, str]]:
    inbox = Inbox()
    server = Controller(inbox, hostname=LOOPBACK, port=any_free())
    server.start()
    yield inbox, f"mailto://{LOOPBACK}:{server.port}?from=a@example.com&to=b@example.com&mode=insecure"
    server.stop()


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    with running_brokers(tmp_path_factory.mktemp("broker") / "kafka", 1) as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def site(shared: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    emptied(shared.store)
    (shared.home / "monitor" / "monitor.sqlite").unlink(missing_ok=True)
    for name, value in {**shared.settings(), "WORKBENCH_HOME": str(shared.home)}.items():
        monkeypatch.setenv(name, value)
    return shared


def rules(site: Site, *alerts: dict[str, object]) -> None:
    channels = {name: {"url": f"env:{name.upper()}"} for name in ("slack", "email")}
    site.file("pipelines/alerts.yaml", yaml.safe_dump({"channels": channels, "alerts": list(alerts)}))


PLAN = {"high_error_rate": "2s", "pipeline_latency": "2s", "security_events": "30s"}
SLACK = "slack://T12345678/B12345678/abcdefghijklmnopqrstuvwx"
PAGER = f"pagerduty://{'a' * 32}@workbench"


def plans_alerts(site: Site) -> None:
    """The three alerts of pipelines/alerts.yaml that the plan names, with its channels; only durations are shorter."""
    shipped = yaml.safe_load((ROOT / "pipelines" / "alerts.yaml").read_text())
    chosen = [{**each, "duration": PLAN[each["name"]]} for each in shipped["alerts"] if each["name"] in PLAN]
    assert len(chosen) == 3
    site.file("pipelines/alerts.yaml", yaml.safe_dump({"channels": shipped["channels"], "alerts": chosen}))


@dataclass
class People:
    """Who is told: what has come to Slack, to the mailbox and to the pager."""

    slack: Endpoint
    pager: Endpoint
    inbox: Inbox

    def slack_titles(self) -> list[str]:
        return [find_title(json.dumps(body)) for _, body in self.slack.requests]

    def pager_events(self) -> list[tuple[str, str]]:
        return [(body["event_action"], body["dedup_key"]) for _, body in self.pager.requests]


def find_title(text: str) -> str:
    found = re.search(r"(high_error_rate|pipeline_latency|security_events) (fires|is resolved)", text)
    return found[0] if found else text


@pytest.fixture
def people(mail, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[People, Mapping[str, str]]]:
    inbox, address = mail
    with http_endpoint() as slack, http_endpoint() as pager:
        pager.status = 202
        # Apprise has no setting for the hosts of the two: their addresses are replaced, and all else is as ever.
        monkeypatch.setattr("apprise.plugins.slack.NotifySlack.webhook_url", f"{slack.url}/services")
        urls = dict.fromkeys(pagerduty.PAGERDUTY_API_LOOKUP, f"{pager.url}/v2/enqueue")
        monkeypatch.setattr(pagerduty, "PAGERDUTY_API_LOOKUP", urls)
        names = {"SLACK": SLACK, "EMAIL": address, "PAGER": PAGER}
        yield People(slack, pager, inbox), {f"WORKBENCH_ALERTS_{name}_URL": each for name, each in names.items()}


@pytest.fixture
def hub(site: Site) -> Iterator[LoginHub]:
    """Under the same WORKBENCH_HOME as the monitor: its audit log is the one that is followed."""
    with IdentityProvider() as provider, running_login_hub(site.folder, provider, **site.settings()) as running:
        yield running


class Watching:
    """The monitor, turn by turn, and what delivers its messages."""

    def __init__(self, site: Site, database: MonitorDatabase, history: History, channels: Mapping[str, str]) -> None:
        options = MonitorOptions(project=site.project, pace=Pace(interval_seconds=1))
        self._site, self._database = site, database
        self._monitor = Monitor(Settings.load(), options, site.store, database, history)
        self._post = Post(site.project.alerts, References(channels))
        self.stages: dict[str, list[str]] = {}  #: of each alert, in the order in which it had them

    def turn(self) -> None:
        self._monitor.turn()
        deliver(self._site.store, self._post)
        for name, found in self._database.read_alerts().items():
            seen = self.stages.setdefault(name, [])
            seen += [each.stage for each in found if not seen or seen[-1] != each.stage]
        time.sleep(TURN_SECONDS)

    def until(self, condition: Callable[[], object], what: str, seconds: float = 90) -> None:
        def look() -> object:
            self.turn()
            return condition()

        wait_until(look, seconds, what)


@pytest.mark.timeout(600)
def test_the_plans_three_alerts_reach_slack_mail_and_pager_and_so_does_their_end(
    site: Site, brokers: Brokers, hub: LoginHub, people, monkeypatch: pytest.MonkeyPatch
):
    told, channels = people
    for name, value in brokers.variables().items():
        monkeypatch.setenv(name, value)
    connection = KafkaConnection.from_settings(Settings.load().kafka)
    brokers.wait_until_answering(connection)
    apply_topics(connection, [Topic(name="readings", partitions=1)])
    flow = {"topic": "readings", "into": "raw.readings", "columns": {"n": "int64"}}
    site.file("pipelines/flows/readings.yaml", yaml.safe_dump(flow))
    monkeypatch.setattr(recording, "MINUTE_MS", 1)
    monkeypatch.setattr(rules_of_alerts, "LEAST_COUNT_SECONDS", 30)
    plans_alerts(site)

    def send(good: int, bad: int = 0, *, late_seconds: int = 0) -> None:
        at = int((time.time() - late_seconds) * 1000)
        values = [b'{"n":%d}' % n for n in range(good)] + [b"no JSON"] * bad
        produce(connection, "readings", [OutgoingRecord(each, timestamp_milliseconds=at) for each in values])

    with (
        following(site, brokers),
        serving_metrics(site.home, "monitor"),
        counting_security_events(site.home),
        MonitorDatabase.of(site.home) as database,
        History.of(site.home) as history,
    ):
        watching = Watching(site, database, history, channels)
        watching.until(lambda: "flow:readings" in jobs(site), "the flow to be found")
        send(50)
        watching.until(lambda: site.ask("SELECT to_regclass('raw.readings')") != [(None,)], "the table")

        # Somebody tries to get in: codes with a state that nobody has given out, and a person whom no rule lets in.
        tried = attack(hub, watching, until=lambda: told.pager.requests and told.inbox.subjects)
        assert tried > 10
        assert told.slack_titles() == told.inbox.subjects == ["security_events fires"]

        send(50, bad=50)
        watching.until(lambda: "high_error_rate fires" in told.inbox.subjects, "people to be told of errors")
        # Records that were held up where they come from.
        send(400, late_seconds=120)
        watching.until(lambda: "pipeline_latency fires" in told.slack_titles(), "people to be told of latency")
        # The latency is that of 95 of 100 records, of which these are more, however few commits they take.
        send(10_000)

        def is_over() -> bool:
            return len(told.slack_titles()) == 6 and len(told.inbox.subjects) == 4 and len(told.pager.requests) == 2

        watching.until(is_over, "people to be told of the end of all three", 300)

        drawn = history.read(0)

    assert max(value for _, value in drawn["error-rate"]["raw.readings"]) > 0.05
    assert max(value for _, value in drawn["ingestion-rate"]["raw.readings"]) > 1
    assert "processing-latency" in drawn
    # Each in this order; one that falls below its bound while it is pending begins anew.
    assert {name: list(dict.fromkeys(stages)) for name, stages in watching.stages.items()} == {
        name: ["pending", "firing", "resolved"] for name in PLAN
    } | {
        # What is counted within its duration does not wait for it.
        "security_events": ["firing", "resolved"]
    }
    ends = [f"{name} {end}" for name in PLAN for end in ("fires", "is resolved")]
    assert sorted(told.slack_titles()) == sorted(ends)
    assert sorted(told.inbox.subjects) == sorted(each for each in ends if "latency" not in each)
    (begin, key), (end, same) = told.pager_events()
    assert (begin, end, key) == ("trigger", "resolve", same)
    assert told.pager.requests[0][1]["payload"]["severity"] == "critical"
    assert {path for path, _ in told.slack.requests} == {"/services/T12345678/B12345678/abcdefghijklmnopqrstuvwx"}
    slack = [html.unescape(json.dumps(body)) for _, body in told.slack.requests]
    for words in ("error_rate > 5%", "processing_latency > 30s", "auth_failures > 10"):
        assert [words in each for each in slack].count(True) == 2, words
    assert sum("table raw.readings" in each for each in slack) >= 2


def attack(hub: LoginHub, watching: Watching, *, until: Callable[[], object]) -> int:
    """Try to log in until people are told; how often it was refused before that."""
    tried = 0
    with hub.browser() as browser:
        while not until():
            if tried % 2:
                assert browser.get("/hub/github/callback?code=guessed&state=guessed").status_code == 400
            else:
                assert browser.login("github", person="mallory").status_code == 403
            tried += 1
            assert tried < 60, watching.stages
            if tried % 3 == 0:
                watching.turn()
    return tried


def jobs(site: Site) -> list[str]:
    return [each.job for each in read_targets(site.home)]


class following:  # noqa: N801 - reads as a word of the test
    """The program of a flow that is kept running."""

    def __init__(self, site: Site, brokers: Brokers) -> None:
        self._site, self._brokers = site, brokers

    def __enter__(self) -> None:
        folder = self._site.folder / "project" / "pipelines" / "flows"
        told = self._site.folder / "told"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.runner.flows.child", "readings", folder, told, self._site.folder],
            env=environment(
                self._site.home, **self._site.settings(), **self._brokers.variables(), PYTHONPATH=str(ROOT)
            ),
            cwd=self._site.folder,
        )

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        assert self._process.wait(20) == 0
        assert "flow:readings" not in jobs(self._site), "who ends says so"


def test_wrong_passwords_are_counted_from_the_audit_log_and_the_plans_alert_fires_at_the_eleventh(
    site: Site, monkeypatch: pytest.MonkeyPatch
):
    rules(
        site,
        {
            "name": "security_events", "condition": "auth_failures > 10", "duration": "5m", "severity": "critical",
            "channels": ["slack"],
        },
    )  # fmt: skip
    log = AuditLog.of(site.home)
    process = start_monitor(site)
    try:
        wait_until(lambda: any(t.job == "monitor" for t in read_targets(site.home)), STARTED_SECONDS, "the monitor")
        wait_until(lambda: evaluated(site), STARTED_SECONDS, site.log("pipelines.monitor"))
        for number in range(10):
            log.record(Action.LOGIN_FAILED, actor="", resource="hub", number=number)
        wait_for_value(site, 10.0)
        assert not told(site)
        log.record(Action.LOGIN_REFUSED, actor="", resource="hub")
        wait_until(lambda: told(site), 30, f"the message: {site.log('pipelines.monitor')}")
        process.kill()
        process.wait(10)
        # Who takes up again what was killed knows what was told.
        before = evaluated(site)
        process = start_monitor(site)
        wait_until(lambda: evaluated(site) > before, STARTED_SECONDS, "another monitor")
        wait_until(lambda: evaluated(site) > before + 2000, 30, "some turns")
    finally:
        process.terminate()
        process.wait(20)

    assert told(site) == [("security_events fires", False)]


def start_monitor(site: Site) -> subprocess.Popen[bytes]:
    return site.start("pipelines.monitor", SLACK=f"json://{LOOPBACK}:{any_free()}/")


def evaluated(site: Site) -> int:
    with MonitorDatabase.of(site.home) as database:
        return database.evaluated()


def wait_for_value(site: Site, value: float) -> None:
    """Wait until the monitor has seen so many logins fail."""

    def seen() -> float:
        with MonitorDatabase.of(site.home) as database:
            rounds = [samples for _, samples in database.read_samples(0)]
        counted = ("workbench_security_events_total", "action", "login.failed")
        return max(
            (each[2] or 0 for each in (rounds[-1] if rounds else []) if (each[0], *each[1][0]) == counted), default=0
        )

    wait_until(lambda: seen() == value, 30, f"{value} failures")


def told(site: Site) -> list[tuple[str, bool]]:
    rows = site.ask("SELECT body ->> 'title', (body ->> 'is_resolved')::boolean FROM pipelines.outbox ORDER BY id")
    return [(str(title), bool(over)) for title, over in rows]


DISK = {"name": "disk_full", "condition": "disk_free < 10%", "severity": "critical", "channels": ["slack"]}


def test_a_channel_that_was_down_gets_one_message_with_what_is_so_now(site: Site):
    rules(site, DISK)
    samples = Samples()
    with http_endpoint() as slack, MonitorDatabase.of(site.home) as database:
        post = Post(site.project.alerts, References({"SLACK": f"json://{LOOPBACK}:{slack.port}/"}))
        evaluation = Evaluation(site.project.alerts, database, Pace(interval_seconds=0))
        slack.status = 500
        for second, free in enumerate((0.05, 0.5, 0.05)):
            samples.add("workbench_disk_free_ratio", (), second * 1000, free)
            evaluation.evaluate(samples, second * 1000)
            assert evaluation.tell(site.store, second * 1000) == 1
            assert deliver(site.store, post) == 0
        assert evaluation.tell(site.store, 3000) == 0
        slack.status = 200
        slack.requests.clear()
        site.ask("UPDATE pipelines.outbox SET not_before = now()")
        assert deliver(site.store, post) == 3

    first, second = (body["message"] for _, body in slack.requests)
    # Two occurrences, of which the first is over: two incidents, one message each.
    assert first.startswith("disk_free < 10% does not hold any more.\nBefore that: disk_full fires\n")
    assert second.startswith("disk_free < 10%, now\n5.00% since ")
    assert waiting(site) == 0


def test_while_the_store_is_down_nothing_is_lost_and_people_are_told_once(site: Site):
    rules(site, DISK)
    samples = Samples()
    samples.add("workbench_disk_free_ratio", (), 0, 0.05)
    gone = WarehouseSettings(DW_HOST=LOOPBACK, DW_PORT=any_free(), DW_DATABASE="none", DW_USER="none")
    with MonitorDatabase.of(site.home) as database, Store(gone, connections=1) as down:
        evaluation = Evaluation(site.project.alerts, database, Pace())
        evaluation.evaluate(samples, 0)
        with pytest.raises(StoreUnavailable):
            evaluation.tell(down, 0)

        # As one that was killed after it has posted, and before it has kept that.
        assert evaluation.tell(site.store, 0) == 1
        with database.changing():
            database.set_told({})
        again = Evaluation(site.project.alerts, database, Pace())
        again.resume(1000)
        again.evaluate(samples, 1000)
        again.tell(site.store, 1000)

    assert told(site) == [("disk_full fires", False)]


def test_a_file_that_is_wrong_when_the_monitor_starts_resolves_nothing(site: Site):
    rules(site, DISK)
    samples = Samples()
    samples.add("workbench_disk_free_ratio", (), 0, 0.05)
    with MonitorDatabase.of(site.home) as database:
        evaluation = Evaluation(site.project.alerts, database, Pace(interval_seconds=0))
        evaluation.evaluate(samples, 0)
        evaluation.tell(site.store, 0)
        site.file("pipelines/alerts.yaml", "alerts: 5\n")
        again = Evaluation(site.project.alerts, database, Pace(interval_seconds=0))
        again.resume(1000)
        again.evaluate(samples, 1000)
        again.tell(site.store, 1000)
        assert [each.stage for each in database.read_alerts()["disk_full"]] == ["firing"]
        rules(site, {**DISK, "name": "other"})
        again.evaluate(samples, 2000)
        again.tell(site.store, 2000)

    assert told(site) == [("disk_full fires", False), ("other fires", False), ("disk_full is resolved", True)]


def test_a_clock_that_is_set_by_a_day_fires_nothing_and_forgets_nothing(site: Site):
    rules(site, {**DISK, "condition": "disk_free > 0%", "duration": "1h"})
    set_by = [0.0]
    with (
        serving_metrics(site.home, "monitor"),
        MonitorDatabase.of(site.home) as database,
        History.of(site.home) as history,
    ):
        options = MonitorOptions(project=site.project)
        monitor = Monitor(
            Settings.load(), options, site.store, database, history, clock=lambda: time.time() + set_by[0]
        )
        held = []
        for jump in (0.0, 86_400.0, -86_400.0, 0.0):
            set_by[0] = jump
            assert monitor.turn()
            (alert,) = database.read_alerts()["disk_full"]
            assert alert.stage == "pending"
            assert abs(database.evaluated() / 1000 - time.time() - jump) < 600  # of the day that the clock is set by
            held.append(database.evaluated() - alert.active_at)
        assert len([*database.read_samples(0)]) == 4

    assert held == sorted(held)
    assert held[-1] < 60_000
    assert told(site) == []


def waiting(site: Site) -> int:
    return site.ask("SELECT count(*) FROM pipelines.outbox")[0][0]


def test_one_monitor_runs_for_a_home(site: Site):
    rules(site)
    process = start_monitor(site)
    try:
        wait_until(lambda: evaluated(site), STARTED_SECONDS, "the monitor")
        with pytest.raises(MonitorError, match="another monitor runs"):
            run_monitor(Settings.load(), MonitorOptions(project=site.project))
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_a_heartbeat_is_posted_each_minute_and_its_address_is_not_told(caplog):
    with http_endpoint() as elsewhere:
        heartbeat = Heartbeat({VARIABLE: f"{elsewhere.url}/c4n4ry"})
        assert heartbeat.beat()
        assert not heartbeat.beat()
        elsewhere.status = 500
        assert not Heartbeat({VARIABLE: f"{elsewhere.url}/c4n4ry"}).beat()
        assert [path for path, _ in elsewhere.requests] == ["/c4n4ry"] * 2
    for wrong in ("file:///c4n4ry", "http://127.0.0.1:1/c4n4ry and more", "http://127.0.0.1:c4n4ry/"):
        assert not Heartbeat({VARIABLE: wrong}).beat()
    assert not Heartbeat({}).beat()
    assert "does not take the heartbeat" in caplog.text
    assert "c4n4ry" not in caplog.text


def test_who_has_no_token_reads_no_metrics(tmp_path: Path):
    registry = CollectorRegistry()
    Counter("workbench_things_total", "Things.", registry=registry).inc()
    token = metrics_token(tmp_path)

    def get(port: int, path: str = "/metrics", **headers: str) -> tuple[int, str]:
        request = urllib.request.Request(f"http://{LOOPBACK}:{port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    obstacles = ["", "the store does not answer"]
    with metrics_endpoint(token, registry, obstacle=obstacles.pop) as port:
        assert get(port, "/livez") == (200, "ok\n")
        assert get(port, "/readyz") == (503, "the store does not answer\n")
        assert get(port, "/readyz") == (200, "ok\n")
        right = {"Authorization": f"Bearer {token.get_secret_value()}"}
        assert get(port)[0] == 401
        assert get(port, Authorization="Bearer x")[0] == 401
        assert get(port, "/other", **right)[0] == 404
        assert "workbench_things_total 1.0" in get(port, **right)[1]


def test_who_connects_and_says_nothing_does_not_keep_others_out_for_long(tmp_path: Path):
    others = answering()
    with metrics_endpoint(metrics_token(tmp_path), CollectorRegistry()) as port, ExitStack() as silent:
        for _ in range(20):
            silent.enter_context(socket.create_connection((LOOPBACK, port), timeout=5))
        scraper = Scraper(metrics_token(tmp_path), lambda _: True)
        target = Target.of_this_process("flow:a", f"{LOOPBACK}:{port}")
        counts = []

        def is_read() -> bool:
            try:
                return scraper.scrape(target) == {}
            except ScrapeFailed:
                return False
            finally:
                counts.append(len(answering() - others))

        wait_until(is_read, 60, "an answer")
        assert max(counts) < 20


def answering() -> set[threading.Thread]:
    """Those that answer requests, of all servers in this process."""
    return {each for each in threading.enumerate() if "process_request_thread" in each.name}


def test_files_of_targets_are_private_and_a_second_process_does_not_take_the_place_of_the_first(tmp_path: Path):
    with serving_metrics(tmp_path, "flow:a"):
        (first,) = read_targets(tmp_path)
        code = (
            "import sys, pathlib; from workbench.runtime.metrics import publish_target;"
            "print(publish_target(pathlib.Path(sys.argv[1]), 'flow:a', '127.0.0.1:1').job)"
        )
        done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
        assert done.stdout.strip().startswith("flow:a.")
        assert {each.job: each.is_alive for each in read_targets(tmp_path)} == {
            first.job: True,
            done.stdout.strip(): False,
        }
        files = list((tmp_path / "run" / "metrics").iterdir())
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
        assert (tmp_path / "run" / "metrics").stat().st_mode & 0o777 == 0o700
        assert publish_target(tmp_path, "flow:a", "127.0.0.1:2").pid == os.getpid()
