"""Schedules of faults against everything that runs pipelines: nothing is lost, published twice, or stuck."""

from __future__ import annotations

import pytest

from tests.failover.pipeline_chaos import AT_ONCE, Schedule, run_wave
from tests.services.pipelines_project import running_site

pytestmark = pytest.mark.alone

SCHEDULES = 40


@pytest.mark.timeout(900)
def test_forty_schedules_of_faults_lose_double_and_stick_nothing(tmp_path):
    found = {}
    with running_site(tmp_path / "site") as site:
        for first in range(1, SCHEDULES + 1, AT_ONCE):
            schedules = [Schedule(seed) for seed in range(first, first + AT_ONCE)]
            for seed, problems in run_wave(site, schedules).items():
                if problems:
                    found[seed] = [str(schedules[seed - first]), *problems]

    assert found == {}
