"""What `workbench up` starts for pipelines: a scheduler, a worker, a service and a monitor that live, are restarted, and take little."""

from __future__ import annotations

import json
import os
import signal

import psutil
import pytest

from pipelines.components import contribute
from tests.services.pipelines_project import running_site
from tests.services.workbench import wait_until
from workbench.errors import MonitorError
from workbench.observability.dashboards.history import History
from workbench.observability.dashboards.objectives import AVAILABILITY
from workbench.runtime.ports import any_free
from workbench.runtime.state import State, read_status
from workbench.runtime.supervisor import Supervisor
from workbench.security.secrets import private_folder, write_private
from workbench.settings import Settings

# Of the proportional set size: what processes share counts once.
IDLE_BYTES = {
    "pipelines-scheduler": 120_000_000,
    "pipelines-worker": 120_000_000,
    "pipelines-service": 160_000_000,
    "monitor": 120_000_000,
}


@pytest.fixture
def settings(tmp_path, monkeypatch):
    with running_site(tmp_path / "site") as site:
        for name, value in {**site.settings(), "WORKBENCH_HOME": str(site.home)}.items():
            monkeypatch.setenv(name, value)
        # As the hub writes it when it starts.
        address = {
            "port": any_free(),
            "prefix": "/services/pipelines/",
            "hub_prefix": "/hub/",
            "host": "",
            "hub_host": "",
        }
        told = {**address, "api_url": "http://127.0.0.1:1/hub/api", "rights": {}, "token": "0" * 32}
        write_private(private_folder(site.home / "run") / "hub-pipelines.json", json.dumps(told))
        yield Settings.load()


@pytest.mark.timeout(180)
def test_all_of_them_run_are_restarted_and_take_little_memory_while_idle(settings):
    contribution = contribute(settings)
    assert contribution.components == ()

    with Supervisor(settings.home) as supervisor:
        supervisor.announce("")
        supervisor.launch(contribution.later)
        wait_until(lambda: set(states(settings).values()) == {State.RUNNING}, 90, "all to run")

        sizes = {
            each.name: psutil.Process(each.pid).memory_full_info().pss for each in read_status(settings.home).components
        }
        assert all(size < IDLE_BYTES[name] for name, size in sizes.items()), sizes

        wait_until(lambda: read_status(settings.home).is_healthy, 60, "all to be ready")
        before = pids(settings)["pipelines-worker"]
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: pids(settings)["pipelines-worker"] not in {None, before}, 60, "another worker")
        wait_until(lambda: "pipelines-service" in components_looked_at(settings), 60, "a look of the monitor")


def components_looked_at(settings: Settings) -> set[str]:
    """Of which the monitor has counted whether they can do their work."""
    try:
        with History.of(settings.home, reading=True) as history:
            return {each.part for each in history.counts(0) if each.objective == AVAILABILITY.name}
    except MonitorError:
        return set()  # it has just begun


def test_without_a_postgresql_nothing_is_started(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    monkeypatch.setenv("WORKBENCH_WAREHOUSE_DIALECT", "duckdb")

    contribution = contribute(Settings.load())

    assert (contribution.components, contribution.later) == ((), ())


def states(settings: Settings) -> dict[str, State]:
    return {each.name: each.state for each in read_status(settings.home).components}


def pids(settings: Settings) -> dict[str, int | None]:
    return {each.name: each.pid for each in read_status(settings.home).components}
