"""The notebooks that every user finds in the home, run from the first cell to the last, twice, as people do."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

import workbench
from pipelines.engine import run_notebook
from workbench.resources import resource

# In their order: each uses what the one before has made. The first notebook needs the data of the demo: `e2e/test_demo` runs it.
LESSONS = ("10-ingest", "20-transform", "30-pipelines", "40-panels")
SECURITY = "50-security"  #: after them, and once: each time it begins in a new folder of its own


@pytest.fixture
def home(settings, tmp_path, monkeypatch) -> Path:
    """A folder with the lessons; the command is found, as in JupyterLab."""
    for name in (*LESSONS, SECURITY):
        shutil.copy(resource("notebooks") / f"{name}.ipynb", tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


@pytest.mark.timeout(400)
def test_each_lesson_runs_from_the_first_cell_to_the_last_and_once_more(home):
    for turn in (1, 2):
        for name in LESSONS:
            run_notebook(home / f"{name}.ipynb", home / f"{name}-{turn}.ipynb", {})
    run_notebook(home / f"{SECURITY}.ipynb", home / f"{SECURITY}-1.ipynb", {})

    counts = workbench.sql("SELECT count(*) AS n, count(DISTINCT at) AS times FROM learn.readings")
    assert counts.to_dict("records") == [{"n": 6, "times": 3}]
    assert workbench.sql("SELECT sensor, readings FROM learn.hourly ORDER BY 1").values.tolist() == [["a", 2], ["b", 1]]
    told = (home / f"{SECURITY}-1.ipynb").read_text()
    assert "masked: hash" in told
    assert "keyset.rotated keyset success version=2" in told
    assert "The log is whole" in told
    assert workbench.sql("SELECT sensor, readings, hottest FROM learn.summary").values.tolist() == [["a", 4, 21.0]]
