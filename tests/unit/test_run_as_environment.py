"""What a step that runs as somebody is told of the worker's environment."""

from __future__ import annotations

import pytest

from pipelines.worker.roles.environment import process_environment, secret_environment
from workbench.sections import PipelinesSettings, variables

WORKER = {
    "PATH": "/bin",
    "LC_ALL": "C.UTF-8",
    "WORKBENCH_HOME": "/srv/workbench",
    "DW_HOST": "dw.example.com",
    "DW_USER": "flows",
    "DW_PASSWORD": "canary",
    "WORKBENCH_POLICIES_ADMIN_PASSWORD": "canary",
    "WORKBENCH_PIPELINES_DATABASE_URL": "postgresql://flows:canary@dw/db",
    "KAFKA_PASSWORD": "canary",
    "AWS_SECRET_ACCESS_KEY": "canary",
    "JUPYTERHUB_API_TOKEN": "canary",
    "REPORT_TOKEN": "canary",
}


def test_processes_have_only_what_is_named():
    found = process_environment(WORKER)

    assert found == {"PATH": "/bin", "LC_ALL": "C.UTF-8", "WORKBENCH_HOME": "/srv/workbench"}
    # How to log and who counts are no secrets, and the only things that are told of the settings.
    settings = process_environment(dict.fromkeys(variables(), "canary"))
    assert settings.keys() == {"WORKBENCH_LOG_FORMAT", "WORKBENCH_LOG_LEVEL", "WORKBENCH_SPARK_REPORTS"}


def test_secrets_of_a_pipeline_are_no_settings_of_the_workbench():
    assert secret_environment(WORKER)["REPORT_TOKEN"] == "canary"
    assert not secret_environment(WORKER).keys() & variables().keys()


@pytest.mark.parametrize("value", ["ann", "daily=", "=ann", "daily=ann,=bob"])
def test_who_may_run_as_whom_is_written_as_pairs(value, monkeypatch):
    monkeypatch.setenv("WORKBENCH_PIPELINES_RUN_AS", value)

    assert any("Write pipeline=identity" in each for each in PipelinesSettings().problems())
