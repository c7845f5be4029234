"""What a scheduler keeps in memory: the next instants, the files as they are, what has happened to others."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import time
from collections.abc import Collection
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import yaml

from pipelines.definition import Project, check_files
from pipelines.definition.targets.notebook import read_notebook
from pipelines.definition.triggers import FileTrigger
from pipelines.processes import life, signing
from pipelines.processes.life import NO_STORE, Sign
from pipelines.processes.naming import is_here, new_id
from pipelines.runner.folders import is_there, remove_attempt
from pipelines.scheduler import catalog as catalogs
from pipelines.scheduler import scheduler as scheduling
from pipelines.scheduler import triggers, watching
from pipelines.scheduler.agenda import Agenda
from pipelines.scheduler.catalog import Catalog, Changes
from pipelines.scheduler.scheduler import Scheduler
from pipelines.scheduler.watching import ASKED_AT_ONCE, OVERLAP, Backlog, Happening, watch_files
from pipelines.store.database import Store
from pipelines.store.runs.schedules import Schedule
from tests.services.workbench import wait_until
from workbench.runtime.ports import LOOPBACK, any_free
from workbench.sections import WarehouseSettings

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def schedule(name: str, minutes: int | None, *, paused: bool = False) -> Schedule:
    next_at = None if minutes is None else NOON + timedelta(minutes=minutes)
    return Schedule(name, "cron", NOON, next_at, paused, None, None)


def test_the_agenda_gives_what_is_due_once_and_in_order():
    agenda = Agenda()
    agenda.replace(
        [schedule("c", 1), schedule("b", 3), schedule("a", 2), schedule("d", None), schedule("e", 0, paused=True)]
    )

    assert agenda.next_at == NOON + timedelta(minutes=1)
    assert [each.pipeline for each in agenda.pop_due(NOON + timedelta(minutes=2))] == ["a", "c"]
    assert agenda.pop_due(NOON + timedelta(minutes=2)) == []

    agenda.put(schedule("a", 5))

    assert [each.pipeline for each in agenda.pop_due(NOON + timedelta(hours=1))] == ["a", "b"]
    assert agenda.next_at is None


def test_a_schedule_that_moved_on_is_not_due_at_its_old_instant():
    agenda = Agenda()
    agenda.replace([schedule("a", 1)])

    agenda.put(schedule("a", 9))

    assert agenda.pop_due(NOON + timedelta(minutes=5)) == []
    assert agenda.next_at == NOON + timedelta(minutes=9)


def test_files_are_read_when_they_or_what_they_run_change(tmp_path):
    jobs = tmp_path / "pipelines" / "jobs"
    jobs.mkdir(parents=True)
    module = tmp_path / "steps_of_catalog.py"
    module.write_text("def tell() -> None:\n    pass\n")
    path = jobs / "p.yaml"
    path.write_text(yaml.safe_dump({"steps": {"a": {"function": "steps_of_catalog:tell"}}}))
    catalog = Catalog(Project((tmp_path,)))

    first = catalog.refresh()
    nothing = catalog.refresh()
    module.write_text("def tell() -> None:\n    print('more')\n")
    second = catalog.refresh()

    assert (list(first.changed), list(nothing.changed), list(second.changed)) == (["p"], [], ["p"])
    hashes = [each.changed["p"].steps["a"].target.sha256 for each in (first, second)]
    assert hashes[0] != hashes[1]

    path.write_text("steps: [")
    broken = catalog.refresh()

    assert len(broken.problems) == 1
    assert catalog.pipelines["p"] is second.changed["p"]
    assert catalog.refresh().problems == ()

    path.unlink()

    assert catalog.refresh().gone == {"p"}
    assert catalog.pipelines == {}


def test_what_a_pipeline_runs_is_read_again_after_it_was_broken_for_a_moment(tmp_path):
    jobs = tmp_path / "pipelines" / "jobs"
    jobs.mkdir(parents=True)
    (jobs / "p.yaml").write_text("steps: {a: {function: 'steps_of_moment:tell'}}")
    module = tmp_path / "steps_of_moment.py"
    module.write_text("def tell() -> None:\n    pass\n")
    catalog = Catalog(Project((tmp_path,)))
    before = catalog.refresh().changed["p"]

    module.write_text("def tell(")
    assert len(catalog.refresh().problems) == 1
    assert catalog.pipelines["p"] is before

    module.write_text("def tell() -> None:\n    print('more')\n")
    assert list(catalog.refresh().changed) == ["p"]
    assert catalog.refresh().changed == {}


def test_what_is_wrong_is_looked_at_until_it_is_right_and_said_once(tmp_path):
    jobs = tmp_path / "pipelines" / "jobs"
    jobs.mkdir(parents=True)
    (jobs / "p.yaml").write_text("steps: {a: {function: 'steps_that_come_later:tell'}}")
    catalog = Catalog(Project((tmp_path,)))

    assert [len(catalog.refresh().problems) for _ in range(3)] == [1, 0, 0]

    (tmp_path / "steps_that_come_later.py").write_text("def tell() -> None:\n    pass\n")
    assert list(catalog.refresh().changed) == ["p"]
    assert catalog.refresh() == Changes()


def test_what_a_step_runs_may_change_while_it_is_checked(tmp_path, monkeypatch):
    jobs = tmp_path / "pipelines" / "jobs"
    jobs.mkdir(parents=True)
    (jobs / "p.yaml").write_text("steps: {a: {function: 'steps_of_a_race:tell'}}")
    module = tmp_path / "steps_of_a_race.py"
    module.write_text("def tell() -> None:\n    pass\n")

    def check(*arguments):
        checked = check_files(*arguments)
        module.write_text("def tell() -> None:\n    print('more')\n")
        return checked

    catalog = Catalog(Project((tmp_path,)))
    with monkeypatch.context() as patched:
        patched.setattr(catalogs, "check_files", check)
        before = catalog.refresh().changed["p"]

    assert catalog.refresh().changed["p"].pins != before.pins


class Pretended(Store):
    """Has connections to nothing."""

    @contextmanager
    def transaction(self):
        yield None


@pytest.fixture
def scheduler(tmp_path, monkeypatch) -> Scheduler:
    """One of a project in `tmp_path` that has no pipelines yet; its store takes everything."""
    (tmp_path / "pipelines" / "jobs").mkdir(parents=True)
    monkeypatch.setattr(scheduling, "database_time", lambda _: NOON)
    monkeypatch.setattr(scheduling, "read_schedules", lambda _: [])
    for each in ("ensure_registered", "ensure_schedules", "remove_schedules"):
        monkeypatch.setattr(scheduling, each, lambda *_: None)
    return Scheduler(Pretended(WarehouseSettings()), Project((tmp_path,)))


def test_what_nobody_has_thought_of_in_one_file_ends_no_scheduler(scheduler, monkeypatch, caplog):
    scheduler._catalog.pipelines["daily"] = SimpleNamespace(name="daily")
    monkeypatch.setattr(scheduling, "ensure_registered", lambda *_: "\ud800".encode())

    scheduler._register("daily")

    assert scheduler._catalog.pipelines == {}
    assert "daily is not scheduled until its file changes" in caplog.text


@pytest.mark.parametrize("kind", ["sql", "notebook"])
def test_a_path_that_cannot_be_looked_for_is_a_problem_of_its_file_alone(tmp_path, scheduler, caplog, kind):
    jobs = tmp_path / "pipelines" / "jobs"
    (tmp_path / "good.sql").write_text("SELECT 1")
    (jobs / "good.yaml").write_text("steps: {a: {sql: good.sql}}")
    (jobs / "bad.yaml").write_text(f"steps: {{a: {{{kind}: {'x' * 300}.{'sql' if kind == 'sql' else 'ipynb'}}}}}")

    scheduler.sync()

    assert list(scheduler._catalog.pipelines) == ["good"]
    assert "bad.yaml:1: steps.a" in caplog.text
    assert "cannot be looked for: File name too long" in caplog.text


def test_tags_of_a_notebook_that_are_no_texts_are_none(tmp_path, scheduler):
    cells = [{"cell_type": "code", "source": "1", "metadata": {"tags": [["x"], {}, "kept"]}}]
    book = {"nbformat": 4, "metadata": {"kernelspec": {"name": "python3"}}, "cells": cells}
    (tmp_path / "odd.ipynb").write_text(json.dumps(book))
    (tmp_path / "pipelines" / "jobs" / "odd.yaml").write_text("steps: {a: {notebook: odd.ipynb}}")

    scheduler.sync()

    assert list(scheduler._catalog.pipelines) == ["odd"]
    assert read_notebook(tmp_path / "odd.ipynb").marks == {"kept"}


def test_a_file_whose_check_fails_unforeseen_leaves_its_last_good_form_in_force(
    tmp_path, scheduler, monkeypatch, caplog
):
    def check(paths, project):
        if (path := paths[0]).stem == "bad" and "unforeseen" in path.read_text():
            raise TypeError("nobody has thought of it")
        return check_files(paths, project)

    monkeypatch.setattr(catalogs, "check_files", check)
    jobs = tmp_path / "pipelines" / "jobs"
    (tmp_path / "good.sql").write_text("SELECT 1")
    for name in ("bad", "good"):
        (jobs / f"{name}.yaml").write_text("steps: {a: {sql: good.sql}}")
    scheduler.sync()
    before = scheduler._catalog.pipelines["bad"]

    (jobs / "bad.yaml").write_text("steps: {a: {sql: good.sql}}\ndescription: unforeseen")
    (jobs / "later.yaml").write_text("steps: {a: {sql: good.sql}}")
    scheduler.sync()

    assert sorted(scheduler._catalog.pipelines) == ["bad", "good", "later"]
    assert scheduler._catalog.pipelines["bad"] is before
    assert "it cannot be checked: TypeError" in caplog.text


@pytest.fixture
def made(monkeypatch) -> list[tuple[str, str]]:
    """The pipeline and event of each run that a trigger has made; files have settled at once."""
    runs: list[tuple[str, str]] = []

    def advance(_connection, tick):
        runs.extend((tick.pipeline, str(each.event_id).rpartition(" ")[0]) for each in tick.runs)
        return {each.key: number for number, each in enumerate(tick.runs)}

    monkeypatch.setattr(watching, "SETTLED_SECONDS", -1.0)
    monkeypatch.setattr(triggers, "database_time", lambda _: datetime.now(UTC))
    monkeypatch.setattr(triggers, "known_events", lambda *_: set())
    monkeypatch.setattr(triggers, "advance", advance)
    return runs


def watch_folders(folder, monkeypatch, *names: str) -> None:
    """For each name a pipeline of this name, which a file in the folder of this name starts."""
    (folder / "good.sql").write_text("SELECT :path")
    for name in names:
        (folder / name).mkdir()
        step = {"sql": "good.sql", "parameters": {"path": "${trigger.event}"}}
        text = {"triggers": [{"file": {"path": f"{name}/*.csv"}}], "steps": {"a": step}}
        (folder / "pipelines" / "jobs" / f"{name}.yaml").write_text(yaml.safe_dump(text))
    now = datetime.now(UTC)
    rows = [Schedule(name, f"file {name}/*.csv", now, None, False, None, None) for name in names]
    monkeypatch.setattr(scheduling, "read_schedules", lambda _: rows)


def test_a_file_whose_name_is_not_utf_8_starts_no_run_and_keeps_no_other_waiting(
    tmp_path, scheduler, made, monkeypatch, caplog
):
    watch_folders(tmp_path, monkeypatch, "a", "b")
    for name in (b"a/Ums\xe4tze.csv", b"a/good.csv", b"b/good.csv"):
        (tmp_path / os.fsdecode(name)).write_text("x")
    scheduler.sync()

    for _ in range(2):
        scheduler.watch()

    assert made == [("a", "a/good.csv"), ("b", "b/good.csv")]
    assert caplog.text.count("its name is not UTF-8") == 1
    assert r"a/Ums\xe4tze.csv" in caplog.text


def test_what_nobody_has_thought_of_in_one_trigger_keeps_no_other_from_its_runs(
    tmp_path, scheduler, made, monkeypatch, caplog
):
    def watch(trigger, *given):
        if trigger.path.startswith("a/"):
            raise TypeError("nobody has thought of it")
        return watch_files(trigger, *given)

    monkeypatch.setattr(triggers, "watch_files", watch)
    watch_folders(tmp_path, monkeypatch, "a", "b")
    for name in "ab":
        (tmp_path / name / "good.csv").write_text("x")
    scheduler.sync()

    for _ in range(3):
        scheduler.watch()

    assert made == [("b", "b/good.csv")]
    assert caplog.text.count("a, trigger file a/*.csv: nobody has thought of it") == 1
    assert caplog.text.count("Traceback") == 1


def test_what_nobody_has_thought_of_in_one_schedule_keeps_no_other_from_its_runs(scheduler, monkeypatch, caplog):
    def tick(_connection, schedules, _now):
        if any(each.pipeline == "bad" for each, _ in schedules):
            raise TypeError("nobody has thought of it")
        return [(each, (7,)) for each, _ in schedules]

    told: list[tuple[str, int]] = []
    monkeypatch.setattr(scheduling, "tick_schedules", tick)
    monkeypatch.setattr(scheduler, "_plan", lambda name: name)
    monkeypatch.setattr(scheduler, "_tell", told.extend)

    scheduler._tick_some([schedule(name, 1) for name in ("bad", "good")], NOON)

    assert told == [("good", 7)]
    assert "bad: nobody has thought of it" in caplog.text


def test_files_that_have_settled_are_seen_with_what_tells_their_versions_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "SETTLED_SECONDS", 60.0)
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.csv"
    path.write_text("x")
    rule, since = FileTrigger(path="in/*.csv"), datetime.now(UTC) - timedelta(minutes=1) + OVERLAP

    assert list(watch_files(rule, tmp_path, since)) == [], "it may still be written"

    # Renaming counts as arriving, whatever time the file says; a time to come cannot be waited for here.
    ahead = time.time() + 120
    os.utime(path, (ahead, ahead))

    assert list(watch_files(rule, tmp_path, since)) == []
    assert list(watch_files(rule, tmp_path, datetime.now(UTC) + OVERLAP + timedelta(hours=1))) == []


def test_a_worker_is_not_here_because_the_name_of_its_machine_begins_like_ours(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "etl-2")
    theirs = new_id()
    assert is_here(theirs)

    monkeypatch.setattr(socket, "gethostname", lambda: "etl")
    assert not is_here(theirs)


def test_a_sign_of_life_is_fresh_until_it_is_taken_away(tmp_path):
    sign = Sign(tmp_path, "worker")
    assert not sign.is_fresh

    sign.give()
    assert sign.is_fresh
    assert (tmp_path / "run" / "worker.alive").stat().st_mode & 0o777 == 0o600

    sign.take_away()
    assert not sign.is_fresh


def test_a_sign_that_cannot_be_written_ends_nobody_and_is_fresh(tmp_path, monkeypatch, caplog):
    def write(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    sign = Sign(tmp_path, "scheduler")
    sign.give()
    file = tmp_path / "run" / "scheduler.alive"
    os.utime(file, (0, 0))
    monkeypatch.setattr(life, "write_private", write)

    sign.give(NO_STORE)

    assert sign.is_fresh
    assert "No space left" in caplog.text
    monkeypatch.undo()
    sign.give(NO_STORE)
    assert sign.obstacle == NO_STORE


def test_a_folder_that_nobody_may_look_at_is_not_gone_and_ends_nobody(tmp_path, caplog):
    folder = tmp_path / "pipelines" / "runs" / "7" / ("a" * 300)
    (folder.parent / "b.1-2").mkdir(parents=True)

    assert is_there(folder)
    assert not remove_attempt(tmp_path, folder / "output.ipynb")
    assert "cannot be looked at" in caplog.text


def test_a_backlog_asks_about_a_thousand_at_once_and_keeps_what_is_not_done():
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    found = [
        Happening(id=str(number), event="", instant=moment, seen=moment + timedelta(seconds=number))
        for number in range(10_000)
    ]
    asked: list[int] = []

    def known(ids: Collection[str]) -> set[str]:
        asked.append(len(ids))
        return {each for each in ids if int(each) < 9_990}

    backlog = Backlog()
    backlog.see(reversed(found))
    taken = []
    while backlog:
        new = backlog.first(4, known)
        assert not new or new == backlog.first(4, known), "what is not done comes again"
        backlog.done(len(new))
        taken += new

    assert taken == found[9_990:], "the oldest first"
    assert asked == [ASKED_AT_ONCE] * 10
    backlog.see(found)
    assert not backlog, "what is done is not asked about again"


def test_a_backlog_asks_again_when_another_scheduler_was_there():
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    found = [Happening(id=each, event="", instant=moment, seen=moment) for each in ("a", "b", "c")]
    backlog = Backlog()
    backlog.see(found)
    assert backlog.first(2, lambda ids: []) == found[:2]

    backlog.doubt()

    assert backlog.first(2, lambda ids: {"a", "b"} & set(ids)) == found[2:]


def test_a_process_that_waits_for_its_store_lives_and_says_what_it_waits_for(tmp_path):
    sign, looked_at = Sign(tmp_path, "worker"), Sign(tmp_path, "worker")
    assert "no sign of life" in looked_at.obstacle

    sign.give("the store does not answer")
    sign.give("the store does not answer")
    assert looked_at.is_fresh
    assert looked_at.obstacle == "the store does not answer"
    assert (tmp_path / "run" / "worker.alive").stat().st_mode & 0o777 == 0o600

    sign.give()
    assert looked_at.obstacle == ""


def test_who_waits_for_a_store_gives_signs_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(signing, "SIGN_SECONDS", 0.01)
    gone = WarehouseSettings(DW_HOST=LOOPBACK, DW_PORT=any_free(), DW_DATABASE="none", DW_USER="none")
    sign = Sign(tmp_path, "worker")

    async def wait_for_obstacle() -> None:
        giving = asyncio.create_task(signing.give_signs(sign, store))
        await asyncio.to_thread(wait_until, lambda: sign.obstacle == NO_STORE, 20, "the obstacle")
        giving.cancel()

    with Store(gone) as store:
        asyncio.run(wait_for_obstacle())
    assert sign.is_fresh
