"""Pipelines that Airflow runs end as those that our worker runs: the same states, the same outputs. `make airflow` runs this.

TEST_AIRFLOW is the folder with the `airflow` and `python` of an environment of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipelines.compile import Options, compile_pipelines, write_compiled
from tests.conformance.cases import write_cases
from tests.services.pipelines_elsewhere import program
from tests.services.pipelines_project import Run, Site, cells, running_site
from tests.services.workbench import environment

NAMES = (
    "notebook", "notebook-given", "function", "sql", "sql-given", "chain", "diamond", "no-edges", "cell-fails",
    "function-fails", "branch-fails", "end-fails", "sql-fails", "retry-helps", "retry-does-not-help",
    "retry-of-another-cause", "exits", "kernel-dies", "process-dies", "too-long", "cell-too-long", "types", "secret",
    "rules", "schedule",
)  # fmt: skip
AIRFLOW_STATES = {"succeeded": "success", "cancelled": "upstream_failed"}  # all others are failed
RUN_DAGS = Path(__file__).with_name("run_dags.py")
SECONDS = 1200
PARSE_SECONDS = 0.02  # for one file, on average


@dataclass(frozen=True)
class Both:
    """What became of each pipeline here and there."""

    ours: dict[str, Run]
    theirs: dict[str, Run]  #: of runs that Airflow has started, as our store has them
    airflow: dict[str, Any]
    dags: Path
    everything: str  #: that Airflow has logged


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> Iterator[Both]:
    with running_site(tmp_path_factory.mktemp("site")) as site:
        assert set(write_cases(site)) == set(NAMES)
        ours = _by_worker(site)
        dags = site.folder / "dags"
        for each in compile_pipelines(site.project, [], Options(target="airflow")):
            write_compiled(each, dags)
        answer, log = _by_airflow(site, dags)
        yield Both(ours, _elsewhere(site), answer, dags, log)


def _by_worker(site: Site) -> dict[str, Run]:
    with site.worker():
        started = {name: site.start_run(name) for name in NAMES}
        return {name: site.ended(run_id, 300) for name, run_id in started.items()}


def _by_airflow(site: Site, dags: Path) -> tuple[dict[str, Any], str]:
    programs, answer = Path(os.environ["TEST_AIRFLOW"]).absolute(), site.folder / "answer.json"
    variables = environment(site.home, **site.settings()) | {
        "AIRFLOW_HOME": str(site.folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "HOME": str(site.folder),
        "PATH": f"{program(site).parent}:{programs}:/usr/bin:/bin",
    }
    commands = [
        [programs / "airflow", "db", "migrate"],
        [programs / "airflow", "pools", "set", "spark", "1", "of the case `rules`"],
        [programs / "python", RUN_DAGS, dags, answer],
    ]
    log = ""
    for command in commands:
        done = subprocess.run(
            list(map(str, command)), env=variables, cwd=site.folder / "project", check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS,
        )  # fmt: skip
        log += done.stdout
        assert done.returncode == 0, log[-5000:]
    return json.loads(answer.read_text()), log


def _elsewhere(site: Site) -> dict[str, Run]:
    rows = site.ask("SELECT pipeline, id FROM pipelines.runs WHERE starts_with(event_id, 'elsewhere/')")
    assert len(rows) == len(NAMES), rows
    return {str(name): site.look(run_id) for name, run_id in rows}


def test_every_file_is_parsed_and_soon(both: Both):
    assert both.airflow["errors"] == {}
    assert both.airflow["seconds"] < PARSE_SECONDS * len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_states_are_the_same_in_our_store(both: Both, name: str):
    ours, theirs = both.ours[name], both.theirs[name]

    assert theirs.states == ours.states
    assert theirs.page.run["state"] == ours.page.run["state"]
    attempts = [[(each["step"], each["state"]) for each in run.page.attempts] for run in (theirs, ours)]
    assert sorted(attempts[0]) == sorted(attempts[1])


@pytest.mark.parametrize("name", NAMES)
def test_states_are_the_same_in_airflow(both: Both, name: str):
    ours, there = both.ours[name], both.airflow["runs"][name]

    assert there["steps"] == {step: AIRFLOW_STATES.get(state, "failed") for step, state in ours.states.items()}
    assert there["state"] == ("success" if ours.page.run["state"] == "succeeded" else "failed")


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_the_same(both: Both, name: str):
    outputs = [
        {each["step"]: cells(Path(each["output_path"])) for each in run.page.attempts if each["state"] == "succeeded"}
        for run in (both.theirs[name], both.ours[name])
    ]

    assert outputs[0] == outputs[1]


def test_no_secret_is_in_a_file_or_in_what_airflow_has_logged(both: Both):
    texts = [both.everything, *(each.read_text() for each in both.dags.glob("*.py"))]

    assert not [each for each in texts if "canary-9f3a" in each]
    assert "the token is [secret token]" in both.everything
