"""The rule of idle servers: marks, what counts as work, and a week in which no work is ever stopped."""

from __future__ import annotations

import heapq
import json
import os
import random
import stat
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from traitlets.config import Config

from hub.culling import SCOPES, Patience, set_culler
from workbench.embedded.activity import runs_operation
from workbench.runtime.activity import FOLDER_VARIABLE, IdlePolicy, mark_busy, marks_folder, read_marks
from workbench.settings import Settings

POLICY = IdlePolicy(idle_seconds=7200, warning_seconds=600)
NOON = datetime(2026, 1, 5, 12, 5, tzinfo=UTC)
WEEK = 7 * 86400.0
BEGINNING_SECONDS = 2.0  # work that began in the last moment before the stop cannot be told in time


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    return tmp_path


def test_a_mark_counts_while_its_block_runs(runtime):
    with mark_busy("nightly run"):
        assert read_marks(marks_folder(runtime)) == ["nightly run"]

    assert read_marks(marks_folder(runtime)) == []


def test_two_runs_of_one_name_have_a_mark_each(runtime):
    with mark_busy("same"):
        with mark_busy("same"):
            pass
        assert read_marks(marks_folder(runtime)) == ["same"]


def test_a_mark_is_private_and_its_name_leads_nowhere_else(runtime):
    with mark_busy("../../outside/\n"):
        (mark,) = marks_folder(runtime).iterdir()

        assert stat.S_IMODE(mark.stat().st_mode) == 0o600
        assert stat.S_IMODE(mark.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("value", ["", "/nonexistent/folder"])
def test_outside_of_a_server_nothing_is_marked(monkeypatch, value):
    monkeypatch.setenv(FOLDER_VARIABLE, value)

    with mark_busy("script"):
        assert not os.path.lexists("/nonexistent/folder")


def test_a_mark_of_a_dead_process_does_not_count_and_is_removed(runtime):
    ended = subprocess.Popen(["true"])
    started = psutil.Process(ended.pid).create_time()
    ended.wait()
    folder = write_mark(runtime, {"name": "dead", "pid": ended.pid, "started": started})

    assert read_marks(folder) == []
    assert list(folder.iterdir()) == []


def test_a_process_that_got_the_id_of_a_dead_one_does_not_count(runtime):
    ours = psutil.Process()

    assert read_marks(write_mark(runtime, {"name": "x", "pid": ours.pid, "started": ours.create_time() - 60})) == []


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"pid": "x"}', '{"name": 1, "pid": null, "started": 0}', "\x00"])
def test_what_is_no_mark_does_not_count(runtime, content):
    folder = marks_folder(runtime)
    folder.mkdir()
    (folder / "x.json").write_text(content)

    assert read_marks(folder) == []


@pytest.mark.parametrize("thread", ["SparkConnectExe", "stream executio"])
def test_a_thread_of_an_operation_counts(thread):
    assert runs_operation(["C2 CompilerThre", thread])


def test_the_threads_of_an_idle_spark_server_do_not_count():
    assert not runs_operation(["Spark Context C", "spark-listener-", "grpc-default-wo", "java"])


def test_the_owner_is_warned_ten_minutes_before_the_stop():
    assert POLICY.stops_at(NOON) == NOON + timedelta(hours=2)
    assert not POLICY.is_near(NOON, NOON + timedelta(minutes=109))
    assert POLICY.is_near(NOON, NOON + timedelta(minutes=110))


def test_without_a_warning_time_nobody_is_warned():
    policy = IdlePolicy(idle_seconds=60, warning_seconds=0)

    assert not policy.is_near(NOON, NOON + timedelta(hours=1))


@pytest.mark.parametrize("idle_seconds", [10, 60, 600, 7200, 86400])
def test_a_server_reports_many_times_before_it_is_stopped(idle_seconds):
    policy = IdlePolicy(idle_seconds=idle_seconds, warning_seconds=0)

    assert 1 <= policy.report_seconds <= idle_seconds / 10
    assert policy.look_seconds(0) <= idle_seconds / 10
    assert policy.look_seconds(idle_seconds) == 1


def test_the_hub_is_told_at_once_when_work_begins_after_a_pause():
    assert POLICY.is_news(NOON + timedelta(hours=1), NOON)
    assert not POLICY.is_news(NOON + timedelta(seconds=60), NOON)


def test_nothing_is_stopped_before_servers_could_report():
    clock = Clock()
    patience = Patience(60, clock)
    long_ago = timedelta(hours=9)

    assert not decide(patience, long_ago)
    for _ in range(4):
        clock.now += 60
        decision = decide(patience, long_ago)
    assert decision
    clock.now += 8 * 3600  # the machine slept
    assert not decide(patience, long_ago)
    clock.now -= 4 * 3600  # the clock was set back
    assert not decide(patience, long_ago)


def test_the_culler_has_three_scopes_and_no_token_in_its_arguments(monkeypatch):
    c = configured(monkeypatch, "7200")

    (service,), (role,) = c.JupyterHub.services, c.JupyterHub.load_roles
    assert role["scopes"] == SCOPES == ["list:users", "read:servers", "delete:servers"]
    assert service.keys() == {"name", "command"}
    assert service["command"][1:] == ["-P", "-m", "hub.culling", "--timeout=7200", "--cull-every=60"]
    assert c.Spawner.environment["JUPYTERHUB_ACTIVITY_INTERVAL"] == "60"
    assert c.Spawner.environment["KEPT"] == "1"


def test_an_idle_time_of_zero_stops_nothing_and_tells_the_servers_so(monkeypatch):
    c = configured(monkeypatch, "0")

    assert (c.JupyterHub.services, c.JupyterHub.load_roles) == ([], [])
    assert c.Spawner.environment["WORKBENCH_HUB_IDLE_SECONDS"] == "0"


@pytest.mark.parametrize("seed", range(5))
def test_in_a_week_no_work_is_stopped_and_no_idle_server_is_forgotten(seed):
    week = Week(random.Random(seed))

    week.run()

    assert week.stopped_at_work == []
    assert week.worst_overtime <= 3600 + 5 * POLICY.report_seconds, "a sleep, then the time to report"
    assert week.stops > 10
    assert week.jobs > 20


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Week:
    """One server for seven days: jobs, looks, reports and rounds of the culler, with hub outages and sleeps."""

    random: random.Random
    clock: Clock = field(default_factory=Clock)
    events: list[tuple[float, int, str]] = field(default_factory=list)
    stopped_at_work: list[float] = field(default_factory=list)
    worst_overtime: float = 0.0
    stops: int = 0
    jobs: int = 0
    count: int = 0

    def run(self) -> None:
        start = self.clock.now
        self.last = self.told = self.known = start  # of the server, as the server told it, as the hub has it
        self.begun = self.ended = start
        self.busy = self.hub_away = False
        self.patience = Patience(POLICY.report_seconds, self.clock)
        for name in ("job", "look", "report", "cull", "outage", "sleep"):
            self.later(name, self.random.uniform(1, 3600))
        while self.events[0][0] < start + WEEK:
            self.clock.now, _, name = heapq.heappop(self.events)
            getattr(self, name)()

    def later(self, name: str, seconds: float) -> None:
        self.count += 1
        heapq.heappush(self.events, (self.clock.now + seconds, self.count, name))

    def job(self) -> None:
        self.jobs += 1
        self.busy, self.begun = True, self.clock.now
        # Minutes mostly, sometimes most of a day; pauses of all lengths around the idle time.
        self.later("rest", self.random.choice([5, 300, 3 * 3600, 20 * 3600]) * self.random.random())

    def rest(self) -> None:
        self.busy, self.ended = False, self.clock.now
        self.later("job", self.random.choice([60, 7100, 7199, 7201, 9000, 4 * 3600]) + self.random.uniform(-5, 5))

    def look(self) -> None:
        if self.busy:
            self.last = self.clock.now
            if POLICY.is_news(moment(self.last), moment(self.told)):
                self.tell()
        self.later("look", POLICY.look_seconds(self.clock.now - self.last))

    def report(self) -> None:
        self.tell()
        self.later("report", POLICY.report_seconds * self.random.uniform(0.9, 1.1))

    def tell(self) -> None:
        self.told = self.last
        if not self.hub_away:
            self.known = self.last

    def cull(self) -> None:
        self.later("cull", POLICY.report_seconds)
        if self.hub_away:
            return
        idle_for = 0.0 if self.busy else self.clock.now - self.ended
        if decide(self.patience, timedelta(seconds=self.clock.now - self.known)):
            if self.busy and self.clock.now - self.begun > BEGINNING_SECONDS:
                self.stopped_at_work.append(self.clock.now)
            self.stops += 1
            # The owner starts it again.
            self.last = self.told = self.known = self.ended = self.clock.now
        elif not self.busy:
            self.worst_overtime = max(self.worst_overtime, idle_for - POLICY.idle_seconds)

    def outage(self) -> None:
        self.hub_away = True
        self.later("back", self.random.uniform(60, 3000))

    def back(self) -> None:
        self.hub_away = False
        self.patience = Patience(POLICY.report_seconds, self.clock)  # the culler is the hub's child
        self.later("outage", self.random.uniform(6, 18) * 3600)

    def sleep(self) -> None:
        """The machine is asleep: the wall clock goes on, and whatever was due comes late, in any order."""
        length = self.random.uniform(600, 3600)
        late = [(max(due, self.clock.now + length + self.random.random()), n, name) for due, n, name in self.events]
        heapq.heapify(late)
        self.events = late
        self.later("sleep", self.random.uniform(6, 18) * 3600)


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def decide(patience: Patience, inactive: timedelta) -> bool:
    return patience(inactive=inactive, inactive_limit=POLICY.idle_seconds, server={})


def write_mark(runtime, content):
    folder = marks_folder(runtime)
    folder.mkdir()
    (folder / "x.json").write_text(json.dumps(content))
    return folder


def configured(monkeypatch, idle_seconds: str) -> Config:
    monkeypatch.setenv("WORKBENCH_HUB_IDLE_SECONDS", idle_seconds)
    monkeypatch.setenv("WORKBENCH_HUB_IDLE_WARNING_SECONDS", "0")
    c = Config()
    c.Spawner.environment = {"KEPT": "1"}
    c.JupyterHub.services, c.JupyterHub.load_roles = [], []
    set_culler(c, Settings.load())
    return c
