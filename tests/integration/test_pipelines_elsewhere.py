"""What compiled pipelines call: one step, or one run, in a process that another scheduler starts. Real PostgreSQL, real kernels."""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime

import pytest

from pipelines.states import State
from pipelines.store.claims.taking import take_of_run
from pipelines.store.claims.writing import finish
from pipelines.store.records import Outcome
from pipelines.store.runs.making import PipelineLimits
from tests.services.pipelines_elsewhere import begin, execute
from tests.services.pipelines_project import Run, Site, cells, running_site
from tests.services.pipelines_store import WORKER, new_run
from tests.services.workbench import wait_until

TRY_AGAIN = 75


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield site


def only_run(site: Site, name: str) -> Run:
    ((run_id,),) = site.ask(f"SELECT id FROM pipelines.runs WHERE pipeline = '{name}'")
    return site.look(run_id)


def test_steps_run_one_by_one_beside_a_worker_that_leaves_them_alone(site: Site):
    site.notebook(
        "one", "from datetime import date\n\nday: date | None = None", "print('day', day)", tags=["parameters"]
    )
    site.module("steps_one", "def double(number: int) -> int:\n    return number * 2\n")
    site.pipeline(
        "one",
        parameters={"day": {"type": "date"}, "n": "int"},
        schedule={"cron": "0 6 * * *", "zone": "America/New_York", "parameters": {"day": "${run.day}", "n": 20}},
        steps={
            "a": {"notebook": "notebooks/one.ipynb", "parameters": {"day": "${day}"}},
            "b": {"function": "steps_one:double", "after": ["a"], "parameters": {"number": "${n}"}},
        },
    )
    order = {"cause": "scheduled", "instant": "2013-02-01T03:00:00+00:00"}

    with site.worker():
        first = execute(site, "one", "airflow/1", step="a", **order)
        second = execute(site, "one", "airflow/1", step="b", given='{"n": 1}', **order)

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "day 2013-01-31" in first.stdout
    run = only_run(site, "one")
    assert run.states == {"a": State.SUCCEEDED, "b": State.SUCCEEDED}
    assert run.page.run["state"] == State.SUCCEEDED
    # What the first call has fixed is what the run has.
    assert "40" in cells(run.output("b"))
    assert len({each["worker"] for each in run.page.attempts}) == 2


def test_a_step_that_has_succeeded_is_not_run_again_unless_somebody_wants_it(site: Site):
    site.module("steps_two", "def note() -> None:\n    print('noted')\n")
    site.pipeline("two", steps={"a": {"function": "steps_two:note"}})

    codes = [execute(site, "two", "k", step="a", attempt=number).returncode for number in (1, 2)]
    assert codes == [0, 0]
    assert len(only_run(site, "two").attempts("a")) == 1

    assert execute(site, "two", "k", step="a", attempt=3, first_attempt=3).returncode == 0
    assert len(only_run(site, "two").attempts("a")) == 2


def test_what_failed_is_tried_again_after_the_causes_of_its_file_alone(site: Site):
    site.module("steps_three", "def fail() -> None:\n    raise ValueError('no')\n")
    steps = {"a": {"function": "steps_three:fail"}, "b": {"function": "steps_three:fail", "after": ["a"]}}
    site.pipeline("judged", steps=steps)
    retried = {"a": {**steps["a"], "retries": {"times": 1, "wait": "1h", "on": ["failed"]}}}
    site.pipeline("retried", steps=retried)

    first, second = (execute(site, "judged", "k", step="a", attempt=number) for number in (1, 2))
    assert (first.returncode, second.returncode) == (1, 1)
    assert "ValueError: no" in second.stderr
    run = only_run(site, "judged")
    assert run.states == {"a": State.FAILED, "b": State.CANCELLED}
    assert len(run.attempts("a")) == 1

    # Airflow has waited: the delay is not waited for once more.
    codes = [execute(site, "retried", "k", step="a", attempt=number).returncode for number in (1, 2, 3)]
    assert codes == [TRY_AGAIN, 1, 1]
    assert len(only_run(site, "retried").attempts("a")) == 2


def test_told_to_end_it_keeps_what_was_put_out_and_may_be_tried_again(site: Site):
    site.notebook("slow", "print('begun', flush=True)", "import time\ntime.sleep(600)")
    site.pipeline("slow", steps={"a": {"notebook": "notebooks/slow.ipynb"}})
    process = begin(site, "slow", "k", step="a")
    wait_until(lambda: site.ask("SELECT 1 FROM pipelines.runs WHERE pipeline = 'slow'"), 60, "the run")
    site.wait_for_output(only_run(site, "slow").page.run["id"], "begun")

    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)

    assert process.returncode == TRY_AGAIN, err
    assert "begun" in out
    (attempt,) = only_run(site, "slow").attempts("a")
    assert attempt["state"] == State.LOST
    assert "told to end" in attempt["error"]


def test_a_process_that_was_killed_is_taken_over(site: Site):
    flag = site.folder / "again"
    source = f"import time\nfrom pathlib import Path\nif not Path({str(flag)!r}).exists():\n    time.sleep(600)"
    site.notebook("killed", "print('begun', flush=True)", source)
    site.pipeline("killed", steps={"a": {"notebook": "notebooks/killed.ipynb"}})
    process = begin(site, "killed", "k", step="a")
    wait_until(lambda: site.ask("SELECT 1 FROM pipelines.runs WHERE pipeline = 'killed'"), 60, "the run")
    site.wait_for_output(only_run(site, "killed").page.run["id"], "begun")
    process.kill()
    process.communicate()
    flag.touch()

    assert execute(site, "killed", "k", step="a", attempt=2).returncode == 0

    states = [each["state"] for each in only_run(site, "killed").attempts("a")]
    assert states == [State.LOST, State.SUCCEEDED]


def test_a_job_runs_all_steps_and_its_name_says_the_instant(site: Site):
    site.module("steps_five", "def show(day: str) -> str:\n    return day\n")
    step = {"function": "steps_five:show", "parameters": {"day": "${day}"}}
    site.pipeline(
        "five",
        parameters={"day": "str"},
        schedule={"cron": "0 0 * * *", "zone": "UTC", "parameters": {"day": "a day"}},
        steps={"a": step, "b": {**step, "after": ["a"]}},
    )

    minutes = int(time.time()) // 60
    done = execute(site, "five", f"five-{minutes}", job=True)

    assert done.returncode == 0, done.stderr
    run = only_run(site, "five")
    assert run.states == {"a": State.SUCCEEDED, "b": State.SUCCEEDED}
    assert "a day" in cells(run.output("b"))
    assert run.page.run["instant"] == datetime.fromtimestamp(minutes * 60, UTC)


def test_a_run_waits_for_room_in_its_pipeline_unless_its_step_is_named(site: Site):
    first, second = (new_run(site.store, pipeline="room", limits=PipelineLimits(max_runs=1)) for _ in range(2))

    def taken(run_id: int, step: str | None = None):
        with site.store.transaction() as connection:
            return take_of_run(connection, WORKER.id, run_id, step)

    running = taken(first)
    assert running is not None
    assert taken(second) is None
    assert taken(second, "z") is None
    named = taken(second, "a")
    assert named is not None
    assert named.run_id == second
    with site.store.transaction() as connection:
        for each in (running, named):
            finish(connection, each, Outcome(state=State.SUCCEEDED))


def test_a_step_that_is_not_there_is_said(site: Site):
    site.pipeline("two", steps={"a": {"function": "steps_two:note"}})

    done = execute(site, "two", "other", step="z")

    assert done.returncode == 2
    assert "has no step z" in done.stderr
