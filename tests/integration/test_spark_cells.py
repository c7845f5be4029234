"""What Spark leaves in a notebook that papermill runs: one line of progress, errors that begin with what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from prometheus_client import REGISTRY

from pipelines.engine import run_notebook
from pipelines.worker.measuring import measuring
from workbench.errors import NotebookFailed
from workbench.observability.operations import OUTCOMES, VARIABLE

LONG = """slow = spark.range(0, 30_000_000, 1, 8).selectExpr("id % 100 AS key", "sha2(cast(id AS string), 256) AS hash")
slow.groupBy("key").count().count()"""
RAISES = """from pyspark.sql import functions as F

@F.udf("double")
def inverse(n):
    return 1 / n

spark.range(2).select(inverse("id")).collect()"""
ESCAPE = re.compile(r"\x1b\[[\d;]*m")


@pytest.fixture(scope="module")
def kernel() -> dict[str, str]:
    return {"display_name": "Python with Spark", "language": "python", "name": "python3"}


def test_progress_is_one_line_and_an_error_begins_with_the_authors_own(settings, kernel, tmp_path, monkeypatch):
    cells = [new_code_cell(each) for each in (LONG, "%spark_history 5", RAISES)]
    notebook = tmp_path / "spark.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), notebook)

    with measuring(tmp_path) as environment:  # as a worker does for what it runs
        monkeypatch.setenv(VARIABLE, environment[VARIABLE])
        before = ended_steps()
        with pytest.raises(NotebookFailed, match="ZeroDivisionError"):
            run_notebook(notebook, output := tmp_path / "out" / "spark.ipynb", {})
    assert ended_steps()["done"] > before["done"]
    assert ended_steps()["failed"] == before["failed"] + 1

    done, history, failed = [cell.outputs for cell in read(output)]
    lines = [each.data["text/plain"] for each in done if each.output_type == "display_data"]
    assert len(lines) == 1
    assert re.fullmatch(r"Spark: done in [\d.]+ s · \d stages · (\d+) of \1 tasks · 1 row", lines[0])
    error = next(each for each in failed if each.output_type == "error")
    shown = ESCAPE.sub("", "\n".join(error.traceback))
    assert shown.startswith(
        "Your function raised ZeroDivisionError: division by zero\n  line 5 of inverse: return 1 / n"
    )
    assert 'spark.range(2).select(inverse("id")).collect()' in shown
    assert "JVM stacktrace" not in shown
    assert "connect/client/core.py" not in shown
    assert "done" in history[0].data["text/plain"]


def ended_steps() -> dict[str, float]:
    """Operations of Spark that were counted, by how they ended."""
    name = "workbench_spark_operation_seconds_count"
    return {each: REGISTRY.get_sample_value(name, {"kind": "step", "outcome": each}) or 0 for each in OUTCOMES}


def read(output: Path) -> list[Any]:
    return [cell for cell in nbformat.read(output, as_version=4).cells if cell.cell_type == "code"]
