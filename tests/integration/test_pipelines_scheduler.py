"""Schedulers make each run once: by the clock, by files, by the ends of other pipelines' runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from pipelines.acting import start_run
from pipelines.definition import read_pipeline
from pipelines.planning.pins import Pins
from pipelines.planning.run_as import RunAsRule
from pipelines.planning.runs import Plan
from pipelines.processes.naming import new_id
from pipelines.runner.folders import attempt_folder
from pipelines.scheduler import schedules
from pipelines.scheduler.pruning import Pruned, prune
from pipelines.scheduler.scheduler import Scheduler
from pipelines.scheduler.triggers import EVENTS_AT_ONCE
from pipelines.scheduler.watching import OVERLAP
from pipelines.states import State
from pipelines.store.claims.writing import finish
from pipelines.store.records import Outcome as StepOutcome
from pipelines.store.records import Worker
from pipelines.store.retention import let_go
from pipelines.store.runs.making import PipelineLimits
from pipelines.store.runs.schedules import pause_schedules
from tests.services.pipelines_project import Site, running_site
from tests.services.pipelines_store import claim, new_run
from tests.services.workbench import ROOT, environment, run, wait_until
from workbench.errors import WorkbenchError
from workbench.security.audit import Action, AuditLog, Outcome
from workbench.security.audit.reading import read_events

EVERY_MINUTE = {"cron": "* * * * *", "zone": "UTC", "catch_up": {"mode": "all", "at_most": 1000}}
MINUTE_LEFT_SECONDS = 10  # an instant that is due meanwhile would make a run more


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def site(server: Site):
    """The module's site, without the pipelines of the test before."""
    for path in server.project.jobs.glob("*.yaml"):
        path.unlink()
    server.ask(
        "TRUNCATE pipelines.schedules, pipelines.skips, pipelines.runs, pipelines.removals, pipelines.past_events CASCADE"
    )
    server.module("nothing", "def nothing() -> None:\n    pass\n")
    return server


NOTHING = {"a": {"function": "nothing:nothing"}}


def instants(site: Site) -> list[datetime]:
    return [row[0] for row in site.ask("SELECT instant FROM pipelines.runs ORDER BY instant")]


def minutes_end(site: Site) -> float:
    """In how many seconds the minute of the database ends."""
    ((second,),) = site.ask("SELECT extract(second FROM clock_timestamp())")
    return 60 - float(second)


def set_back(site: Site, minutes: int) -> datetime:
    """As if no scheduler had run for so long, in a minute that has time left for what is looked at; returns the cursor."""
    wait_until(lambda: minutes_end(site) > MINUTE_LEFT_SECONDS, 2 * MINUTE_LEFT_SECONDS, "the next minute")
    ((cursor,),) = site.ask(f"SELECT date_trunc('minute', clock_timestamp()) - interval '{minutes} minutes'")
    cursor = cursor.astimezone(UTC)
    following = cursor + timedelta(minutes=1)
    site.ask(f"UPDATE pipelines.schedules SET cursor = '{cursor.isoformat()}', next_at = '{following.isoformat()}'")
    return cursor


@pytest.mark.timeout(120)
def test_two_schedulers_make_each_instant_once(site: Site):
    site.pipeline("minutely", schedule=EVERY_MINUTE, steps=NOTHING)
    first = Scheduler(site.store, site.project)
    first.sync()
    cursor = set_back(site, 90)

    twins = [site.start("pipelines.scheduler") for _ in range(2)]
    wait_until(lambda: len(instants(site)) >= 90, 60, "ninety instants")
    for each in twins:
        site.end(each)

    found = instants(site)
    assert found[:90] == [cursor + timedelta(minutes=number) for number in range(1, 91)]
    assert len(found) == len(set(found))


def test_each_run_that_it_makes_is_told_once_it_is_in_the_store(site: Site):
    told: list[tuple[str, int]] = []
    site.pipeline("minutely", schedule=EVERY_MINUTE, steps=NOTHING)
    scheduler = Scheduler(site.store, site.project, tell=told.extend)
    scheduler.sync()
    set_back(site, 3)

    scheduler.sync()
    scheduler.tick()

    assert len(told) >= 3
    assert sorted(told) == [("minutely", run) for (run,) in site.ask("SELECT id FROM pipelines.runs ORDER BY id")]


def test_what_passed_is_skipped_with_its_reason_when_nothing_is_caught_up(site: Site):
    site.pipeline("minutely", schedule={**EVERY_MINUTE, "catch_up": "last"}, steps=NOTHING)
    scheduler = Scheduler(site.store, site.project)
    scheduler.sync()
    set_back(site, 10)

    scheduler.sync()
    scheduler.tick()

    skips = site.ask("SELECT reason FROM pipelines.skips")
    assert len(instants(site)) + len(skips) == 10
    assert {reason for (reason,) in skips} == {
        "it passed while no scheduler ran; catch_up is last, and a newer instant runs"
    }


def test_a_schedule_that_skips_beside_a_run_says_which(site: Site):
    site.pipeline("minutely", schedule=EVERY_MINUTE, steps=NOTHING, concurrency={"runs": 1, "over": "skip"})
    scheduler = Scheduler(site.store, site.project)
    scheduler.sync()
    set_back(site, 1)
    scheduler.sync()
    scheduler.tick()
    (run_id,) = next(iter(site.ask("SELECT id FROM pipelines.runs")))
    set_back(site, 1)

    scheduler.sync()
    scheduler.tick()

    assert site.ask("SELECT reason FROM pipelines.skips") == [(f"1 of at most 1 runs had not ended: {run_id}",)]


def test_a_changed_rule_begins_now_and_a_paused_one_stays_paused(site: Site):
    site.pipeline("daily", schedule={"cron": "0 6 * * *", "zone": "UTC"}, steps=NOTHING)
    scheduler = Scheduler(site.store, site.project)
    scheduler.sync()
    site.ask(
        "UPDATE pipelines.schedules SET paused = true, paused_by = 'somebody', cursor = cursor - interval '3 days'"
    )

    site.pipeline("daily", schedule={"cron": "30 6 * * *", "zone": "UTC"}, steps=NOTHING)
    scheduler.sync()
    scheduler.tick()

    ((name, paused, behind),) = site.ask("SELECT name, paused, now() - cursor FROM pipelines.schedules")
    assert (name, paused) == ("30 6 * * * UTC", True)
    assert behind < timedelta(minutes=1)
    assert instants(site) == []


def test_a_broken_file_leaves_its_last_good_form_in_force(site: Site, caplog):
    path = site.pipeline("minutely", schedule=EVERY_MINUTE, steps=NOTHING)
    scheduler = Scheduler(site.store, site.project)
    scheduler.sync()
    set_back(site, 3)

    path.write_text("steps: [")
    scheduler.sync()
    scheduler.tick()

    assert len(instants(site)) == 3
    assert "stays in force" in caplog.text


def test_a_pipeline_whose_file_is_gone_for_good_is_scheduled_no_more(site: Site):
    path = site.pipeline("minutely", schedule=EVERY_MINUTE, steps=NOTHING)
    scheduler = Scheduler(site.store, site.project)
    scheduler.sync()
    path.unlink()

    scheduler.sync()
    kept = site.ask("SELECT count(*) FROM pipelines.schedules")
    scheduler.sync()

    assert (kept, site.ask("SELECT count(*) FROM pipelines.schedules")) == ([(1,)], [(0,)])


def test_a_paused_pipeline_stays_paused_when_its_file_or_its_rule_was_away(site: Site):
    path = site.pipeline("minutely", schedule=EVERY_MINUTE, steps=NOTHING)
    scheduler = Scheduler(site.store, site.project)
    scheduler.sync()
    with site.store.transaction() as connection:
        pause_schedules(connection, "minutely", "ann")
    paused = [("* * * * * UTC", True, "ann")]

    path.unlink()
    for _ in range(3):
        scheduler.sync()
    site.pipeline("minutely", schedule=EVERY_MINUTE, steps=NOTHING)
    scheduler.sync()
    assert site.ask("SELECT name, paused, paused_by FROM pipelines.schedules") == paused

    site.pipeline("minutely", steps=NOTHING)
    scheduler.sync()
    site.pipeline("minutely", schedule=EVERY_MINUTE, triggers=[{"file": {"path": "in/*"}}], steps=NOTHING)
    scheduler.sync()
    names = "SELECT name, paused, paused_by FROM pipelines.schedules ORDER BY name"
    assert site.ask(names) == [*paused, ("file in/*", True, "ann")]


def test_a_file_starts_one_run_and_one_more_when_it_changes(site: Site):
    folder = site.folder / "project" / "incoming"
    folder.mkdir(exist_ok=True)
    (folder / "before.csv").write_text("old")
    os.utime(folder / "before.csv", (0, 0))
    wait_past(folder / "before.csv")
    site.module("tell", "def tell(path: str) -> None:\n    print(path)\n")
    site.pipeline(
        "arrives",
        parameters={"path": "str"},
        triggers=[{"file": {"path": "incoming/*.csv"}, "parameters": {"path": "${trigger.event}"}}],
        steps={"a": {"function": "tell:tell", "parameters": {"path": "${path}"}}},
    )
    told: list[tuple[str, int]] = []
    schedulers = [Scheduler(site.store, site.project, tell=told.extend) for _ in range(2)]
    for each in schedulers:
        each.sync()

    for content in ("one", "two two"):
        (folder / "new.csv").write_text(content)
        wait_past(folder / "new.csv")
        for each in (*schedulers, *schedulers):
            each.watch()

    found = site.ask("SELECT event_id, parameters->'run'->>'path' FROM pipelines.runs ORDER BY id")
    assert [path for _, path in found] == ["incoming/new.csv"] * 2
    assert len({event for event, _ in found}) == 2
    assert told == [("arrives", run) for (run,) in site.ask("SELECT id FROM pipelines.runs ORDER BY id")]


@pytest.mark.timeout(120)
def test_many_files_are_taken_a_few_at_a_time_and_nothing_waits_for_the_last_of_them(site: Site):
    many, extra = EVENTS_AT_ONCE * 2 + 20, {"files": "in/*.csv", "other": "other/*.csv"}
    for name, path in extra.items():
        site.pipeline(name, triggers=[{"file": {"path": path}}], steps=NOTHING)
    site.pipeline("minutely", schedule=EVERY_MINUTE, steps=NOTHING)
    made: list[tuple[str, int]] = []
    scheduler = Scheduler(site.store, site.project, tell=made.extend)
    scheduler.sync()
    for number in range(many):
        path = site.file(f"in/{number}.csv", "x")
    wait_past(site.file("other/1.csv", "x"))
    wait_past(path)

    assert scheduler.watch()
    assert [name for name, _ in made] == ["files"] * EVENTS_AT_ONCE

    site.ask(
        "UPDATE pipelines.schedules SET cursor = cursor - interval '1 minute', next_at = next_at - interval '1 minute' "
        "WHERE pipeline = 'minutely'"
    )
    scheduler.sync()
    scheduler.tick()
    assert made[-1][0] == "minutely"
    del made[:]

    assert scheduler.watch(), "the other trigger is next, whatever is left of the first"
    assert [name for name, _ in made] == ["other"] + ["files"] * (EVENTS_AT_ONCE - 1)
    while scheduler.watch():
        pass
    events = site.ask("SELECT event_id FROM pipelines.runs WHERE pipeline = 'files'")
    assert len(events) == len(set(events)) == many

    # One that takes over sees all of them, and asks before it makes anything.
    del made[:]
    second = Scheduler(site.store, site.project, tell=made.extend)
    second.sync()
    while second.watch():
        pass
    assert made == []


@pytest.mark.timeout(120)
def test_the_end_of_a_run_starts_one_of_another_pipeline_for_the_same_day(site: Site):
    site.pipeline("upstream", steps=NOTHING)
    site.pipeline(
        "downstream",
        parameters={"day": "date"},
        triggers=[{"pipeline": {"name": "upstream"}, "parameters": {"day": "${run.day}"}}],
        steps=NOTHING,
    )
    schedulers = [Scheduler(site.store, site.project) for _ in range(2)]
    for each in schedulers:
        each.sync()

    with site.worker():
        run = site.run("upstream")
        for each in (*schedulers, *schedulers):
            each.watch()
        (run_id,) = next(iter(site.ask("SELECT id FROM pipelines.runs WHERE pipeline = 'downstream'")))
        ended = site.ended(run_id)

    assert ended.page.run["state"] == State.SUCCEEDED
    assert ended.page.run["event_id"] == f"upstream {run.page.run['id']}"
    assert site.ask("SELECT count(*) FROM pipelines.runs") == [(2,)]


def test_old_events_start_nothing_when_their_runs_are_no_longer_kept(site: Site):
    site.pipeline("upstream", steps=NOTHING)
    triggers = [{"file": {"path": "old/*.csv"}}, {"pipeline": {"name": "upstream"}}]
    site.pipeline("downstream", triggers=triggers, retention={"days": 14}, steps=NOTHING)
    first = Scheduler(site.store, site.project)
    first.sync()
    site.start_run("upstream")
    site.ask("UPDATE pipelines.runs SET state = 'succeeded', ended_at = clock_timestamp()")
    wait_past(site.file("old/1.csv", "x"))
    first.watch()
    assert site.ask("SELECT count(*) FROM pipelines.runs WHERE pipeline = 'downstream'") == [(2,)]

    long_ago = "now() - interval '15 days'"
    site.ask(
        f"UPDATE pipelines.runs SET state = 'succeeded', created_at = {long_ago}, instant = {long_ago}, "
        f"ended_at = {long_ago} + interval '1 minute'"
    )
    site.ask(f"UPDATE pipelines.schedules SET cursor = {long_ago}")
    let_old_go(site)
    second = Scheduler(site.store, site.project)
    second.sync()
    second.watch()

    # The last success of each stays.
    assert site.ask("SELECT pipeline FROM pipelines.runs ORDER BY id") == [("upstream",), ("downstream",)]
    # Once the triggers have come further, nothing of them is kept.
    site.ask(f"UPDATE pipelines.schedules SET cursor = {long_ago} + interval '61 minutes'")
    let_old_go(site)
    assert site.ask("SELECT count(*) FROM pipelines.past_events") == [(0,)]


def let_old_go(site: Site) -> None:
    with site.store.transaction() as connection:
        let_go(connection)


def test_nothing_is_lost_after_a_clock_that_was_ahead(site: Site):
    site.pipeline("upstream", steps=NOTHING)
    triggers = [{"file": {"path": "ahead/*.csv"}}, {"pipeline": {"name": "upstream"}}]
    site.pipeline("downstream", triggers=triggers, steps=NOTHING)
    scheduler = Scheduler(site.store, site.project)
    scheduler.sync()
    site.ask("UPDATE pipelines.schedules SET cursor = clock_timestamp() + interval '1 hour'")
    scheduler.sync()
    scheduler.watch()
    path = site.file("ahead/1.csv", "x")
    site.start_run("upstream")
    # Its end was written by a clock that is still ahead.
    site.ask("UPDATE pipelines.runs SET state = 'succeeded', ended_at = clock_timestamp() + interval '1 hour'")
    wait_past(path)

    for each in (scheduler, scheduler, Scheduler(site.store, site.project)):
        each.sync()
        each.watch()

    found = site.ask("SELECT event_id FROM pipelines.runs WHERE pipeline = 'downstream' ORDER BY event_id")
    assert [event.split()[0] for (event,) in found] == ["ahead/1.csv", "upstream"]
    assert site.ask("SELECT bool_and(cursor <= clock_timestamp()) FROM pipelines.schedules") == [(True,)]


def test_a_new_trigger_by_files_begins_at_their_clock_when_that_is_behind(site: Site, monkeypatch):
    behind = datetime.now(UTC) - timedelta(hours=1)
    monkeypatch.setattr(schedules, "files_time", lambda: behind)
    site.pipeline("arrives", triggers=[{"file": {"path": "behind/*.csv"}}], steps=NOTHING)

    Scheduler(site.store, site.project).sync()

    assert site.ask("SELECT cursor FROM pipelines.schedules") == [(behind + OVERLAP,)]


@pytest.mark.timeout(120)
def test_a_pipeline_without_run_as_is_neither_scheduled_nor_run_where_it_is_required(site: Site, caplog):
    site.pipeline("as-owner", schedule=EVERY_MINUTE, steps=NOTHING)
    site.pipeline("exempt", schedule=EVERY_MINUTE, steps=NOTHING)
    rule = RunAsRule(required=True, exempt=frozenset({"exempt"}))
    Scheduler(site.store, site.project, run_as=rule).sync()

    assert site.ask("SELECT pipeline FROM pipelines.schedules") == [("exempt",)]
    assert (
        "as-owner: it has no run_as, and would connect to the warehouse as DW_USER. It is not scheduled." in caplog.text
    )
    plan = Plan(read_pipeline(site.project.jobs / "as-owner.yaml", site.project), Pins(None, "lock"), rule)
    with pytest.raises(WorkbenchError, match="as-owner: it has no run_as"):
        start_run(site.store, "ada", plan)
    assert site.ask("SELECT count(*) FROM pipelines.runs") == [(0,)]

    with site.worker(WORKBENCH_PIPELINES_REQUIRE_RUN_AS="true", WORKBENCH_PIPELINES_WITHOUT_RUN_AS="exempt"):
        refused, passed = (site.start_run(name) for name in ("as-owner", "exempt"))
        ends = {name: site.ended(number) for name, number in (("as-owner", refused), ("exempt", passed))}

    assert {name: each.page.run["state"] for name, each in ends.items()} == {
        "as-owner": State.FAILED,
        "exempt": State.SUCCEEDED,
    }
    assert "it has no run_as" in ends["as-owner"].attempts("a")[0]["error"]


@pytest.mark.timeout(120)
def test_old_runs_go_with_their_files_and_the_last_failure_stays(site: Site):
    site.module("fail", "def fail(n: int) -> None:\n    assert n\n")
    step = {"function": "fail:fail", "parameters": {"n": "${n}"}}
    site.pipeline("kept", parameters={"n": "int"}, steps={"a": step}, retention={"runs": 1})
    with site.worker():
        runs = [site.run("kept", n=n) for n in (0, 1, 1)]
    folders = [site.home / "pipelines" / "runs" / str(each.page.run["id"]) for each in runs]

    dry, done = (
        json.loads(run("pipelines", "prune", "--json", *option, home=site.home, **site.settings()).stdout)
        for option in (["--dry-run"], [])
    )

    old = [{"run": runs[1].page.run["id"], "pipeline": "kept", "state": "succeeded"}]
    assert dry == {"runs": old, "folders": 0, "dry_run": True}
    assert done == {"runs": old, "folders": 1, "dry_run": False}
    assert [each.exists() for each in folders] == [True, False, True]
    assert prune(site.store, site.home, actor="scheduler") == Pruned()
    told = list(read_events(AuditLog.of(site.home).path, action=Action.RUNS_REMOVED))
    assert [(each.outcome, each.details["runs"]) for each in told] == [
        (Outcome.BEGUN, f"kept {runs[1].page.run['id']}"),
        (Outcome.SUCCESS, f"kept {runs[1].page.run['id']}"),
    ]


DIES = """
import os, signal, sys
from pipelines.scheduler import pruning
from pipelines.store.database import Store, store_address
from workbench.settings import Settings

settings, left = Settings.load(), int(sys.argv[1])
remove = pruning.remove_attempt

def remove_and_die(home, path):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return remove(home, path)

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

pruning.remove_attempt, pruning.removed = remove_and_die, die
with Store(store_address(settings)) as store:
    pruning.prune(store, settings.home, actor="scheduler")
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("before", [0, 1, 3])
def test_what_a_killed_scheduler_leaves_of_old_runs_is_found_by_the_next(site: Site, before: int):
    """It is killed between rows and files, between two files, and between files and what is noted of them."""
    folders, here = [], Worker(id=new_id(), host="here", pid=1, version="test")
    for _ in range(4):
        number = new_run(site.store, pipeline="pruned", limits=PipelineLimits(keep_runs=1))
        taken = claim(site.store, here)
        folder = attempt_folder(site.home, number, taken.step, taken.number, taken.attempt_id)
        folder.mkdir(parents=True)
        (folder / "output.ipynb").write_text("{}")
        (folder / "log.jsonl").write_text("{}")
        folders.append(folder)
        with site.store.transaction() as connection:
            finish(connection, taken, StepOutcome(state=State.SUCCEEDED, output_path=str(folder / "output.ipynb")))

    variables = environment(site.home, **{**site.settings(), "PYTHONPATH": str(ROOT)})
    died = subprocess.run([sys.executable, "-c", DIES, str(before)], env=variables, timeout=60, check=False)

    assert died.returncode == -signal.SIGKILL
    assert [each.exists() for each in folders] == [number >= before for number in range(4)]
    assert site.ask("SELECT count(*) FROM pipelines.runs") == [(1,)]

    done = prune(site.store, site.home, actor="scheduler")

    assert (done.runs, done.folders) == ((), 3)
    assert [each.parent.exists() for each in folders] == [False, False, False, True]
    assert site.ask("SELECT * FROM pipelines.removals") == []


def test_files_of_a_machine_that_is_gone_keep_none_of_this_one_from_being_removed(site: Site):
    runs = site.home / "pipelines" / "runs"
    shared, ours = runs / "7" / "a.1-1", runs / "9" / "a.1-1"
    for each in (shared, ours):
        each.mkdir(parents=True)
    site.ask(
        f"INSERT INTO pipelines.removals SELECT '{runs}/0/a.' || n || '-1/output.ipynb', 'gone-1-a', now() "
        "FROM generate_series(1, 5001) n "
        f"UNION ALL VALUES ('{shared}/output.ipynb', 'gone-1-a', now()), ('{ours}/output.ipynb', '{new_id()}', now())"
    )

    assert prune(site.store, site.home, actor="scheduler").folders == 2

    assert not shared.exists()
    assert not ours.exists()
    assert site.ask("SELECT count(*) FROM pipelines.removals") == [(5001,)]


def wait_past(path) -> None:
    """Wait until a file has settled for the watch."""
    wait_until(lambda: time.time() - path.stat().st_ctime > 2.1, 10, "the file to settle")
