"""Events of lineage from runs that end in different ways, through the outbox to a file. Real PostgreSQL, real processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.lineage.delivery import FileSink, deliver
from pipelines.lineage.telling import Lineage
from pipelines.store.claims.reaping import reap
from pipelines.store.outbox import post
from pipelines.store.records import Message
from tests.services.pipelines_elsewhere import execute
from tests.services.pipelines_project import Site, running_site
from tests.services.pipelines_store import claim, lose, new_run
from tests.services.workbench import wait_until
from workbench.settings import Settings

FILE = "WORKBENCH_PIPELINES_LINEAGE_FILE"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield site


def events(path: Path, pipeline: str) -> list[dict]:
    lines = path.read_text().splitlines() if path.exists() else []
    return [each for each in map(json.loads, lines) if each["job"]["name"].startswith(f"{pipeline}.")]


def test_a_run_of_the_worker_is_told_by_the_scheduler(site: Site):
    path = site.folder / "lineage.jsonl"
    site.file("sql/load.sql", "CREATE TABLE public.loaded AS SELECT 1 AS n; SELECT * FROM public.loaded")
    site.file("sql/copy.sql", "CREATE TABLE public.copied AS SELECT n FROM public.loaded WHERE n >= :n")
    site.module("steps_l", "def fail() -> None:\n    raise ValueError('no')\n")
    steps = {
        "load": {"sql": "sql/load.sql"},
        "copy": {"sql": "sql/copy.sql", "after": ["load"], "parameters": {"n": "${n}"}},
        "fail": {
            "function": "steps_l:fail",
            "after": ["copy"],
            "retries": {"times": 1, "wait": "1s", "on": ["failed"]},
        },
    }
    site.pipeline("told", parameters={"n": {"type": "int", "default": 0}}, steps=steps)

    with site.worker(**{FILE: str(path)}):
        site.run("told")
        scheduler = site.start("pipelines.scheduler", **{FILE: str(path)})
        wait_until(lambda: len(events(path, "told")) >= 8, 60, "eight events")
        site.end(scheduler)

    told = events(path, "told")
    kinds = {(each["job"]["name"], each["eventType"]) for each in told}
    assert len(told) == 8
    assert kinds == {
        ("told.load", "START"), ("told.load", "COMPLETE"), ("told.copy", "START"), ("told.copy", "COMPLETE"),
        ("told.fail", "START"), ("told.fail", "FAIL"),
    }  # fmt: skip
    copy = next(each for each in told if each["job"]["name"] == "told.copy" and each["eventType"] == "COMPLETE")
    assert [each["name"].split(".", 1)[1] for each in copy["inputs"]] == ["public.loaded"]
    assert [each["name"].split(".", 1)[1] for each in copy["outputs"]] == ["public.copied"]
    failed = next(each for each in told if each["eventType"] == "FAIL")
    assert failed["run"]["facets"]["errorMessage"]["message"] == "ValueError: no"
    assert len({each["run"]["runId"] for each in told}) == 4
    assert len({each["run"]["facets"]["parent"]["run"]["runId"] for each in told}) == 1
    assert site.ask("SELECT count(*) FROM pipelines.outbox WHERE kind = 'lineage'") == [(0,)]


def test_a_step_for_another_scheduler_is_told_by_its_own_process(site: Site):
    path = site.folder / "elsewhere.jsonl"
    site.module("steps_m", "def note() -> None:\n    print('noted')\n")
    site.pipeline("told-elsewhere", steps={"a": {"function": "steps_m:note"}})

    done = execute(site, "told-elsewhere", "k", {FILE: str(path)}, step="a")

    assert done.returncode == 0, done.stderr
    assert [each["eventType"] for each in events(path, "told-elsewhere")] == ["START", "COMPLETE"]


def test_a_notebook_tells_what_it_asks_the_warehouse(site: Site):
    path = site.folder / "notebook.jsonl"
    site.file("sql/source.sql", "CREATE TABLE public.source AS SELECT 1 AS n")
    site.notebook("asks", "import workbench\nprint(workbench.sql('SELECT n FROM public.source').n[0])")
    site.pipeline(
        "asks",
        steps={"make": {"sql": "sql/source.sql"}, "ask": {"notebook": "notebooks/asks.ipynb", "after": ["make"]}},
    )

    for step in ("make", "ask"):
        done = execute(site, "asks", "k", {FILE: str(path)}, step=step)
        assert done.returncode == 0, done.stderr + done.stdout

    end = events(path, "asks")[-1]
    assert (end["job"]["name"], end["eventType"]) == ("asks.ask", "COMPLETE")
    assert [each["name"].split(".", 1)[1] for each in end["inputs"]] == ["public.source"]
    assert not [*site.home.rglob("tables.jsonl")]


def test_a_worker_that_is_gone_is_told_by_whoever_takes_over(site: Site, monkeypatch):
    path = site.folder / "lost.jsonl"
    monkeypatch.setenv(FILE, str(path))
    lineage = Lineage.wanted(Settings.load())
    assert lineage is not None
    new_run(site.store, pipeline="gone")
    taken = claim(site.store)
    assert taken is not None
    lose(site.store, taken)

    reap(site.store, messages=lineage.lost)
    deliver(site.store, FileSink(path))

    (event,) = events(path, "gone")
    assert event["eventType"] == "FAIL"
    assert "does not beat" in event["run"]["facets"]["errorMessage"]["message"]
    assert event["run"]["runId"] == lineage.of(taken).begun().body["run"]["runId"]


def test_what_does_not_arrive_is_sent_later_and_other_kinds_are_left_alone(site: Site, tmp_path):
    with site.store.transaction() as connection:
        post(connection, [Message("l", "lineage", {"n": 1}), Message("a", "alert", {"n": 2})])

    # A folder where the file should be.
    assert deliver(site.store, FileSink(tmp_path)) == 0

    left = site.ask("SELECT key, tries FROM pipelines.outbox WHERE key IN ('l', 'a') ORDER BY key")
    assert left == [("a", 0), ("l", 1)]
