"""What `workbench up` starts for pipelines: a scheduler and a worker that live, are restarted, and take little."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from pipelines.components import contribute
from tests.services.pipelines_project import running_site
from tests.services.workbench import wait_until
from workbench.runtime.state import State, read_status
from workbench.runtime.supervisor import Supervisor
from workbench.settings import Settings

IDLE_BYTES = 120_000_000


@pytest.fixture
def settings(tmp_path, monkeypatch):
    with running_site(tmp_path / "site") as site:
        for name, value in {**site.settings(), "WORKBENCH_HOME": str(site.home)}.items():
            monkeypatch.setenv(name, value)
        yield Settings.load()


@pytest.mark.timeout(180)
def test_scheduler_and_worker_run_are_restarted_and_take_little_memory_while_idle(settings):
    contribution = contribute(settings)
    assert contribution.components == ()

    with Supervisor(settings.home) as supervisor:
        supervisor.announce("")
        supervisor.launch(contribution.later)
        wait_until(lambda: set(states(settings).values()) == {State.RUNNING}, 90, "both to run")

        sizes = {
            each.name: psutil.Process(each.pid).memory_info().rss for each in read_status(settings.home).components
        }
        assert all(size < IDLE_BYTES for size in sizes.values()), sizes

        before = pids(settings)["pipelines-worker"]
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: pids(settings)["pipelines-worker"] not in {None, before}, 60, "another worker")


def test_without_a_postgresql_nothing_is_started(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    monkeypatch.setenv("WORKBENCH_WAREHOUSE_DIALECT", "duckdb")

    contribution = contribute(Settings.load())

    assert (contribution.components, contribution.later) == ((), ())


def states(settings: Settings) -> dict[str, State]:
    return {each.name: each.state for each in read_status(settings.home).components}


def pids(settings: Settings) -> dict[str, int | None]:
    return {each.name: each.pid for each in read_status(settings.home).components}
