"""Pipelines from the file to the outcome: real PostgreSQL, real kernels, real child processes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import nbformat
import pytest

from pipelines.compile import Options, compile_pipelines
from pipelines.states import State
from tests.services.canaries import files_below, files_with, forms_of
from tests.services.pipelines_project import Site, cells, kept, running_site, stepped
from tests.services.planted_secrets import Planted, make_steps, planted_secrets
from tests.services.workbench import wait_until
from workbench.observability.alerts.quantities import is_wanted
from workbench.observability.monitor.scraping import Scraper
from workbench.observability.monitor.targets import read_targets
from workbench.runtime.metrics import metrics_token


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    with planted_secrets(tmp_path_factory.mktemp("planted")) as planted:
        yield planted


@pytest.fixture(scope="module")
def worker(site: Site, planted: Planted):
    """One that tests share; those that kill have their own."""
    lineage = {"WORKBENCH_PIPELINES_LINEAGE_FILE": str(site.folder / "lineage.jsonl")}
    with site.worker(**planted.variables, **lineage) as worker:
        yield worker


def test_notebook_function_and_sql_run_one_after_the_other_and_leave_their_outputs(site: Site, worker):
    site.notebook("one", 'day = "x"  # str', "print('day', day)", tags=["parameters"])
    site.module("steps_one", "def double(number: int) -> int:\n    print('doubling')\n    return number * 2\n")
    site.file("sql/one.sql", "CREATE TABLE public.one (n int);\nINSERT INTO public.one VALUES (:n), (:n + 1);\n")
    site.pipeline(
        "one",
        parameters={"day": {"type": "str", "default": "monday"}, "n": "int"},
        steps={
            "a": {"notebook": "notebooks/one.ipynb", "parameters": {"day": "${day}"}},
            "b": {"function": "steps_one:double", "after": ["a"], "parameters": {"number": "${n}"}},
            "c": {"sql": "sql/one.sql", "after": ["b"], "parameters": {"n": "${n}"}},
        },
    )

    run = site.run("one", n=20)

    assert run.states == {"a": State.SUCCEEDED, "b": State.SUCCEEDED, "c": State.SUCCEEDED}
    for step in run.states:
        nbformat.validate(nbformat.reads(kept(run.output(step)), as_version=4))
    assert "day monday" in cells(run.output("a"))
    assert "doubling" in cells(run.output("b"))
    assert "40" in cells(run.output("b"))
    assert "statement 2: 2 rows" in cells(run.output("c"))
    assert site.ask("SELECT n FROM public.one ORDER BY n") == [(20,), (21,)]
    assert len(json.loads(kept(run.output("a")))["cells"]) == 3


def test_a_failed_cell_is_told_and_repair_runs_only_it_and_what_follows(site: Site, worker):
    flag = site.folder / "mended"
    source = f"from pathlib import Path\nprint('looking')\nassert Path({str(flag)!r}).exists(), 'not mended'"
    site.notebook("fails", "x = 1", source)
    site.module("steps_two", "def note() -> None:\n    print('noted')\n")
    site.pipeline(
        "fails",
        steps={
            "before": {"function": "steps_two:note"},
            "breaks": {"notebook": "notebooks/fails.ipynb", "after": ["before"]},
            "follows": {"function": "steps_two:note", "after": ["breaks"]},
        },
    )

    run = site.run("fails")

    assert run.states == {"before": State.SUCCEEDED, "breaks": State.FAILED, "follows": State.CANCELLED}
    (attempt,) = run.attempts("breaks")
    assert (attempt["cell"], attempt["error"]) == (1, "AssertionError: not mended")
    assert "looking" in attempt["last_lines"]
    assert "looking" in cells(Path(attempt["output_path"]))

    flag.touch()
    run = site.repaired(run)

    assert run.page.run["state"] == State.SUCCEEDED
    assert {name: len(run.attempts(name)) for name in run.states} == {"before": 1, "breaks": 2, "follows": 1}


def test_a_function_that_raises_or_is_killed_says_so(site: Site, worker):
    site.module(
        "steps_three",
        "import os, signal\n"
        "def wrong() -> None:\n    print('half')\n    raise LookupError('no such thing')\n"
        "def killed() -> None:\n    print('half', flush=True)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "def slow() -> None:\n    import time\n    print('half', flush=True)\n    time.sleep(600)\n"
        "def dies_later() -> None:\n    import atexit\n    print('half')\n"
        "    atexit.register(os.kill, os.getpid(), signal.SIGKILL)\n"
        "def lingers() -> None:\n    import threading, time\n    print('half')\n"
        "    threading.Thread(target=time.sleep, args=(600,)).start()\n",
    )
    site.pipeline("wrong", steps={"a": {"function": "steps_three:wrong"}})
    site.pipeline("killed", steps={"a": {"function": "steps_three:killed"}})
    site.pipeline("slow", steps={"a": {"function": "steps_three:slow", "timeout": "8s"}})

    site.pipeline("dies-later", steps={"a": {"function": "steps_three:dies_later"}})
    site.pipeline("lingers", steps={"a": {"function": "steps_three:lingers", "timeout": "8s"}})

    names = ("wrong", "killed", "slow", "dies-later", "lingers")
    runs = [site.ended(each) for each in [site.start_run(name) for name in names]]

    attempts = [run.attempts("a")[-1] for run in runs]
    died, late = State.KERNEL_DIED, State.TIMED_OUT
    assert [each["state"] for each in attempts] == [State.FAILED, died, late, died, late]
    assert attempts[0]["error"] == "LookupError: no such thing"
    assert [attempts[each]["signal"] for each in (1, 3)] == [signal.SIGKILL] * 2
    assert "after it was done, and before it had ended by itself" in attempts[3]["error"]
    assert all("half" in cells(Path(each["output_path"])) for each in attempts)


def test_a_killed_kernel_is_told_with_signal_and_memory_and_repair_finishes_the_run(site: Site, worker):
    flag, pid = site.folder / "spared", site.folder / "kernel-pid"
    source = (
        f"import os, time\nfrom pathlib import Path\nPath({str(pid)!r}).write_text(str(os.getpid()))\nprint('begun', flush=True)\n"
        f"while not Path({str(flag)!r}).exists(): time.sleep(0.1)"
    )
    site.notebook("dies", source)
    site.pipeline("dies", steps={"a": {"notebook": "notebooks/dies.ipynb"}})
    run_id = site.start_run("dies")
    site.wait_for_output(run_id, "begun")

    os.kill(int(pid.read_text()), signal.SIGKILL)
    run = site.ended(run_id)

    (attempt,) = run.attempts("a")
    assert (attempt["state"], attempt["signal"]) == (State.KERNEL_DIED, signal.SIGKILL)
    assert attempt["peak_memory_bytes"] > 10_000_000
    assert "SIGKILL" in attempt["error"]
    assert "begun" in cells(Path(attempt["output_path"]))

    flag.touch()

    assert site.repaired(run).page.run["state"] == State.SUCCEEDED


def test_a_cancelled_run_keeps_what_was_printed(site: Site, worker):
    site.notebook("endless", "import time\nprint('so far', flush=True)\ntime.sleep(600)")
    site.pipeline("endless", steps={"a": {"notebook": "notebooks/endless.ipynb"}})
    run_id = site.start_run("endless")
    site.wait_for_output(run_id, "so far")

    site.cancel(run_id)
    run = site.ended(run_id)

    assert run.page.run["state"] == State.CANCELLED
    assert "so far" in cells(Path(run.attempts("a")[0]["output_path"]))


def test_a_retry_and_a_repair_go_on_from_the_last_checkpoint_unless_what_stands_before_has_changed(site: Site, worker):
    died, flag = site.folder / "died", site.folder / "resume-mended"
    last = (
        f"died = pathlib.Path({str(died)!r})\nif not died.exists():\n    died.touch()\n    os.kill(os.getpid(), 9)\n"
        f"assert pathlib.Path({str(flag)!r}).exists(), 'not mended'"
    )
    executed = stepped(site, "resumes", last)
    site.module("steps_resume", "def note() -> None:\n    print('noted')\n")
    retries = {"times": 1, "on": ["kernel_died"], "wait": "1s"}
    site.pipeline(
        "resumes",
        steps={
            "before": {"function": "steps_resume:note"},
            "load": {"notebook": "notebooks/resumes.ipynb", "after": ["before"], "retries": retries},
        },
    )

    run = site.run("resumes")
    run_id = run.page.run["id"]
    assert [each["state"] for each in run.attempts("load")] == [State.KERNEL_DIED, State.FAILED]
    assert [each["resumed_from"] for each in run.attempts("load")] == [None, 1]
    assert executed.read_text() == "x\n"

    # What stands before it has run again.
    run = site.repaired(run, steps=["before"])
    assert run.attempts("load")[-1]["resumed_from"] is None
    # As far as is known, the checkpoint of the third attempt is good; this one is not to use it.
    run = site.repaired(run, from_start=True)
    assert (run.attempts("load")[-1]["resumed_from"], executed.read_text()) == (None, "x\n" * 3)
    flag.touch()
    run = site.repaired(run)

    assert (run.page.run["state"], executed.read_text()) == (State.SUCCEEDED, "x\n" * 3)
    assert run.attempts("load")[-1]["resumed_from"] == 4
    assert "in attempt 4: ../load.4-" in cells(run.output("load"))
    assert "heavy" in cells(run.output("load"))
    assert "['carried']" in cells(run.output("load"))
    told = [(each["attempt"], each["kind"]) for each in run.page.events if "resumed" in each["kind"]]
    assert told == [(2, "resumed"), (3, "not_resumed"), (5, "resumed")]
    (why,) = (each["body"]["reason"] for each in run.page.events if each["kind"] == "not_resumed")
    assert why == "the checkpoint of attempt 1: what the steps before have made changed since"
    folder = site.home / "pipelines" / "runs" / str(run_id)

    def kept_checkpoints() -> list[Path]:
        return [each for each in files_below(folder) if each.name == "about.json"]

    wait_until(lambda: not kept_checkpoints(), 60, "checkpoints to be removed with the success")


def test_a_cached_step_runs_once_for_the_same_values(site: Site, worker):
    count = site.folder / "count"
    site.module(
        "steps_four",
        f"def add(n: int) -> int:\n    with open({str(count)!r}, 'a') as file:\n        file.write('x')\n    return n\n",
    )
    step = {"function": "steps_four:add", "parameters": {"n": "${n}"}, "cache": True}
    site.pipeline("cached", parameters={"n": "int"}, steps={"a": step})

    runs = [site.run("cached", n=n) for n in (1, 1, 2)]

    assert count.read_text() == "xx"
    assert runs[0].output("a") == runs[1].output("a") != runs[2].output("a")
    assert runs[1].attempts("a")[0]["reused_from"] == runs[0].attempts("a")[0]["id"]


def test_a_cached_step_runs_again_when_a_module_that_it_imports_has_changed(site: Site, worker):
    site.module("steps_helping", "FACTOR = 1\n")
    site.module("steps_eleven", "def tell() -> int:\n    import steps_helping\n\n    return steps_helping.FACTOR\n")
    site.pipeline("importing", steps={"a": {"function": "steps_eleven:tell", "cache": True}})
    runs = [site.run("importing")]
    site.module("steps_helping", "FACTOR = 2000\n")
    runs += [site.run("importing"), site.run("importing")]

    assert [each.attempts("a")[0]["reused_from"] is not None for each in runs] == [False, False, True]
    assert runs[0].output("a") != runs[1].output("a") == runs[2].output("a")


TELLS = """from workbench.sections import SparkSettings
from workbench.transformation.progress import Outcome, Recorder
from workbench.transformation.progress.reporting import Report

def tell() -> None:
    recorder = Recorder()
    recorder.listen(Report(SparkSettings().reports))
    recorder.begin("1", "a line of code", lambda: None)
    recorder.end("1", Outcome.CANCELLED)
"""


def test_a_worker_has_metrics_of_its_caches_and_of_what_its_steps_asked_spark_for(site: Site, worker):
    site.module("steps_metrics", TELLS)
    step = {"function": "steps_metrics:tell", "cache": True}
    site.pipeline("measured", steps={"a": step, "b": {**step, "after": ["a"]}})
    before = worker_metrics(site)

    for _ in range(2):
        assert set(site.run("measured").states.values()) == {State.SUCCEEDED}

    wait_until(
        lambda: grown(site, before)["workbench_spark_operation_seconds_count", "step", "cancelled"] >= 1, 10, "it"
    )
    found = grown(site, before)
    caches = {name: found["workbench_cache_requests_total", "step", name] for name in ("hit", "miss")}
    told = found["workbench_spark_operation_seconds_count", "step", "cancelled"]
    assert caches == {"hit": 4 - told, "miss": told}
    processes = [found["workbench_cache_requests_total", "process", name] for name in ("hit", "miss")]
    assert sum(processes) == told


def worker_metrics(site: Site) -> dict[tuple[str, ...], float]:
    """What the worker's endpoint says, by metric and labels but the job."""
    wait_until(lambda: [each for each in read_targets(site.home) if each.job == "worker"], 60, "the worker's endpoint")
    (target,) = (each for each in read_targets(site.home) if each.job == "worker")
    found = Scraper(metrics_token(site.home), is_wanted).scrape(target)
    return {
        (name, *(each for label, each in labels if label != "job")): value for (name, labels), value in found.items()
    }


def grown(site: Site, before: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    return {key: value - before.get(key, 0) for key, value in worker_metrics(site).items()}


def test_twenty_canary_secrets_are_nowhere(site: Site, planted: Planted, worker, tmp_path, monkeypatch):
    for name, each in planted.canaries.items():
        monkeypatch.setenv(f"CANARY_{name}", each)  # who compiles could read it
    planted.keep(site)
    goes_on = tmp_path / "goes-on"
    told = make_steps(site, planted, goes_on)
    run_id = site.start_run("planted")
    wait_until(lambda: told.exists() and told.read_text(), 60, "the notebook to have shown its secrets")
    canaries = [*planted.canaries.values()]
    kernel = Path(told.read_text())
    assert (kernel / "connection.json").exists()
    assert files_with(kernel, *canaries) == []
    goes_on.touch()

    run = site.ended(run_id)

    assert set(run.states.values()) == {State.FAILED}
    shown = "".join(kept(Path(each["output_path"])) for each in run.page.attempts)
    assert [name for name in planted.canaries if f"[secret {name}]" not in shown] == []
    found = site.everything(run_id)
    assert "carried" in found
    assert "openlineage" in found
    (dag,) = compile_pipelines(site.project, ["planted"], Options(target="airflow"))
    (job,) = compile_pipelines(site.project, ["planted-env"], Options(target="kubernetes", image="one:1"))
    found += dag.text + job.text
    forms = {name: forms_of(each) for name, each in planted.canaries.items()}
    assert [name for name, each in forms.items() if any(form in found.encode() for form in each)] == []
    assert files_with(site.folder, *canaries) == []
    # Whoever looks does find: where they were planted, and nowhere else.
    assert len(files_with(planted.folder, *canaries)) == len(canaries) // 4
