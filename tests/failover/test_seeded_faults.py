"""Two workers on one flow, and what a seed does to them: nothing is lost, nothing doubled. `make chaos` runs a thousand."""

from __future__ import annotations

import pytest

from tests.failover.chaos import Schedule, run_schedules

pytestmark = pytest.mark.alone


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("seeds", "servers", "at_once"),
    [(range(1, 27), False, 3), (range(100, 106), True, 2)],
    ids=["workers", "workers and servers"],
)
def test_schedules_of_faults_lose_and_double_nothing(own_workbench, monkeypatch, seeds, servers, at_once):
    monkeypatch.setenv("WORKBENCH_HOME", str(own_workbench.home))

    wrong = run_schedules(own_workbench, [Schedule(seed, servers=servers) for seed in seeds], at_once)

    assert wrong == []
