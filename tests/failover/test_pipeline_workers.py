"""Workers that are killed, stopped and told to end in the midst of a cell: the run goes on, and its output is published once."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from pipelines.states import State
from pipelines.store.records import LEASE_SECONDS
from tests.services.pipelines_project import Site, cells, running_site, stepped
from tests.services.workbench import STARTED_SECONDS, wait_until

LOOK_SECONDS = 10.0  # a worker looks each second; with other tests on the same processors it may come late


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield site


def waiting_notebook(site: Site, name: str) -> Path:
    """A pipeline whose cell prints its process and waits for the file that is returned."""
    flag = site.folder / f"go-{name}"
    source = (
        "import os, time\nfrom pathlib import Path\nprint('here', os.getpid(), flush=True)\n"
        f"while not Path({str(flag)!r}).exists(): time.sleep(0.1)\nprint('done')"
    )
    site.notebook(name, source)
    site.pipeline(name, steps={"a": {"notebook": f"notebooks/{name}.ipynb"}})
    return flag


def wait_for_worker(site: Site, process: subprocess.Popen[bytes]) -> None:
    row = f"SELECT 1 FROM pipelines.workers WHERE pid = {process.pid}"
    wait_until(lambda: site.ask(row), STARTED_SECONDS, "the other worker to be there")


@pytest.mark.timeout(240)
def test_a_killed_worker_is_taken_over_and_the_run_succeeds_once(site: Site):
    """That it takes 20 s in all is proved by `test_pipeline_faults`, which has the processors for itself."""
    flag = waiting_notebook(site, "taken-over")
    first = site.start("pipelines.worker")
    run_id = site.start_run("taken-over")
    site.wait_for_output(run_id, "here")
    tree = psutil.Process(first.pid).children(recursive=True)

    # No scheduler looks for what is lost: the other worker does.
    with site.worker() as other:
        wait_for_worker(site, other)
        first.kill()
        first.wait(10)
        killed_at = time.time()
        ((lease_until,),) = site.ask(f"SELECT lease_until FROM pipelines.queue WHERE run_id = {run_id}")
        assert lease_until.timestamp() - killed_at <= LEASE_SECONDS
        wait_until(lambda: len(site.look(run_id).attempts("a")) == 2, 60, "another worker to take over")
        flag.touch()
        run = site.ended(run_id)

    assert [each["state"] for each in run.attempts("a")] == [State.LOST, State.SUCCEEDED]
    late = run.attempts("a")[1]["started_at"] - lease_until
    assert 0 <= late.total_seconds() <= LOOK_SECONDS
    assert run.page.run["state"] == State.SUCCEEDED
    assert run.output("a") == Path(run.attempts("a")[1]["output_path"])
    assert site.published(run_id) == [run.output("a")]
    assert not psutil.wait_procs(tree, 10)[1], "its kernel has ended with it"


@pytest.mark.timeout(240)
def test_what_a_stopped_worker_makes_after_its_lease_is_not_published(site: Site):
    flag = waiting_notebook(site, "zombie")
    zombie = site.start("pipelines.worker")
    run_id = site.start_run("zombie")
    site.wait_for_output(run_id, "here")

    zombie.send_signal(signal.SIGSTOP)
    flag.touch()
    with site.worker():
        run = site.ended(run_id)
        zombie.send_signal(signal.SIGCONT)
        wait_until(lambda: "another worker's now" in site.log("pipelines.worker"), 30, "the zombie to learn of it")

    site.end(zombie)
    assert [each["state"] for each in run.attempts("a")] == [State.LOST, State.SUCCEEDED]
    assert site.look(run_id).output("a") == run.output("a")
    assert site.published(run_id) == [run.output("a")]


@pytest.mark.timeout(240)
def test_a_worker_that_is_told_to_end_leaves_its_step_to_another_at_once(site: Site):
    flag = waiting_notebook(site, "left")
    first = site.start("pipelines.worker")
    run_id = site.start_run("left")
    site.wait_for_output(run_id, "here")

    with site.worker() as other:
        wait_for_worker(site, other)
        site.end(first)
        wait_until(lambda: len(site.look(run_id).attempts("a")) == 2, 10, "the other worker to begin")
        flag.touch()
        run = site.ended(run_id)

    assert run.page.run["state"] == State.SUCCEEDED
    assert "told to end" in run.attempts("a")[0]["error"]


@pytest.mark.timeout(240)
def test_after_a_killed_worker_another_goes_on_from_the_checkpoint(site: Site):
    flag = site.folder / "go-checkpoint"
    executed = stepped(site, "checkpoint", f"while not pathlib.Path({str(flag)!r}).exists(): time.sleep(0.1)")
    site.pipeline("checkpoint", steps={"a": {"notebook": "notebooks/checkpoint.ipynb"}})
    first = site.start("pipelines.worker")
    run_id = site.start_run("checkpoint")
    site.wait_for_output(run_id, "carried")

    first.kill()
    first.wait(10)
    flag.touch()
    with site.worker():
        run = site.ended(run_id)

    assert [(each["state"], each["resumed_from"]) for each in run.attempts("a")] == [
        (State.LOST, None),
        (State.SUCCEEDED, 1),
    ]
    assert executed.read_text() == "x\n"
    assert "heavy" in cells(run.output("a")), "what the lost attempt has put out is shown"
