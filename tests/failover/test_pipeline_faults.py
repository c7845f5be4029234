"""A wave of faults against everything that runs pipelines: nothing is lost, published twice, or stuck."""

from __future__ import annotations

import pytest

from tests.failover.pipeline_chaos import Wave, run_wave
from tests.services.pipelines_project import running_site


@pytest.mark.timeout(400)
def test_a_wave_of_faults_loses_doubles_and_sticks_nothing(tmp_path):
    with running_site(tmp_path / "site") as site:
        run_wave(site, Wave(seed=7, runs=8, faults=4))
