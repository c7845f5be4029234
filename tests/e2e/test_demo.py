"""`workbench demo`, twice, against what the CSV files themselves say."""

from __future__ import annotations

import json
import re
import stat
from collections import Counter
from pathlib import Path
from typing import Any

import nbformat
import pytest

import workbench
from pipelines import nycflights
from pipelines.engine import run_notebook
from tests.services.workbench import RunningWorkbench, run, wait_until
from workbench.resources import resource

START = resource("notebooks") / "00-start-here.ipynb"
ROWS = {"flights": 336_776, "weather": 26_115}


def demo(shared: RunningWorkbench) -> dict[str, Any]:
    done = run("demo", "--month", "2", home=shared.home, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def first(shared_workbench: RunningWorkbench) -> dict[str, Any]:
    """What the first demo of this workbench has told."""
    return demo(shared_workbench)


@pytest.mark.timeout(400)
def test_the_demo_brings_every_row_once_however_often_it_runs(shared_workbench, settings, first):
    second = demo(shared_workbench)

    assert {name: first["produced"][name]["rows"] for name in ROWS} == ROWS
    assert {name: first["ingested"][name]["rows"] for name in ROWS} == ROWS
    assert {name: second["ingested"][name]["rows"] for name in ROWS} == {"flights": 0, "weather": 0}
    assert (first["dead"], second["dead"]) == (0, 0)
    for name, rows in ROWS.items():
        assert int(workbench.sql(f"SELECT count(*) FROM raw.{name}").iloc[0, 0]) == rows

    table = nycflights.read_table("flights")
    carriers = workbench.sql("SELECT carrier, count(*) AS n FROM raw.flights GROUP BY carrier")
    assert dict(zip(carriers["carrier"], carriers["n"], strict=True)) == Counter(table["carrier"].to_pylist())
    nulls = workbench.sql("SELECT count(*) FROM raw.flights WHERE dep_time IS NULL").iloc[0, 0]
    assert nulls == table["dep_time"].null_count
    weather = workbench.sql("SELECT sum(wind_speed) FROM raw.weather").iloc[0, 0]
    assert weather == pytest.approx(
        sum(value or 0 for value in nycflights.read_table("weather")["wind_speed"].to_pylist())
    )

    check_mart(table)
    check_notebook(Path(second["notebook"]["output"]))
    check_commands(shared_workbench)


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("first")
def test_a_report_fails_days_are_filled_and_it_is_repaired(shared_workbench, settings):
    report = run("pipelines", "run", "weekly-report", "--wait", "--json", home=shared_workbench.home)
    assert report.returncode == 1
    failed = json.loads(report.stdout)["run"]
    assert (failed["state"], failed["parameters"]["run"]) == ("failed", {"week": "2013-01-07"})

    days = ("--since", "2013-01-07", "--until", "2013-01-13", "--slots", "2")
    made = run("pipelines", "backfill", "run", "flights-of-a-day", *days, home=shared_workbench.home)
    assert made.returncode == 0, made.stderr
    wait_until(lambda: backfilled(shared_workbench) == {"succeeded": 7}, 400, "seven days", every_seconds=2)
    repaired = run("pipelines", "repair", str(failed["id"]), "--wait", "--json", home=shared_workbench.home)

    assert json.loads(repaired.stdout)["run"]["state"] == "succeeded", repaired.stderr
    found = workbench.sql("SELECT day, carrier, flights, cancelled FROM marts.flights_of_a_day ORDER BY 1, 2")
    direct = workbench.sql(
        "SELECT make_date(year, month, day) AS day, carrier, count(*) AS flights,"
        " count(*) FILTER (WHERE dep_time IS NULL) AS cancelled FROM raw.flights"
        " WHERE month = 1 AND day BETWEEN 7 AND 13 GROUP BY 1, 2 ORDER BY 1, 2"
    )
    assert found.to_dict("records") == direct.to_dict("records")


def backfilled(shared: RunningWorkbench) -> dict[str, int]:
    found = json.loads(run("pipelines", "backfill", "list", "--json", home=shared.home).stdout)
    return found["backfills"][0]["states"]


def check_mart(table: Any) -> None:
    february = Counter(month for month in table["month"].to_pylist() if month == 2)
    mart = workbench.sql("SELECT sum(flights) AS flights, count(*) AS groups FROM marts.delays WHERE month = 2")
    assert int(mart["flights"][0]) == february[2]
    assert int(mart["groups"][0]) == int(
        workbench.sql("SELECT count(DISTINCT (day, carrier)) FROM raw.flights WHERE month = 2").iloc[0, 0]
    )


def check_commands(shared: RunningWorkbench) -> None:
    """What people type to see that it is right."""
    verified = run("verify", "flights", "raw.flights", home=shared.home)
    lag = json.loads(run("lag", "flights", "--json", home=shared.home).stdout)
    plan = run("ingest", "plan", "weather", home=shared.home)
    letters = run("dlq", "list", "weather", home=shared.home)

    assert verified.returncode == 0
    assert "336,776 rows, 0 dead letters: 0 missing, 0 doubled" in verified.stdout
    assert [each["records"] for each in lag] == [0, 0, 0, 0]
    assert "records: 0 to read, from the last commit" in plan.stdout
    assert "weather has no dead letters" in letters.stdout


def check_notebook(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert not [output for output in outputs if output.output_type == "error"]
    assert any("month = 2" in cell.source for cell in notebook.cells)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("first")
def test_the_first_notebook_of_everybody_runs_to_its_last_cell(settings, tmp_path):
    table = nycflights.read_table("flights")
    carriers = Counter(table["carrier"].to_pylist()).most_common(5)
    origins = Counter(table["origin"].to_pylist())
    january = Counter(
        origin
        for origin, month in zip(table["origin"].to_pylist(), table["month"].to_pylist(), strict=True)
        if month == 1
    )

    output = run_notebook(START, tmp_path / "out" / "start.ipynb", {})

    notebook = nbformat.read(output, as_version=4)
    counted, top, delays, spread = (shown(cell) for cell in notebook.cells if cell.cell_type == "code")
    assert counted.startswith("10")
    assert re.findall(r"(\w\w) +(\d+)$", top, re.MULTILINE) == [(name, str(n)) for name, n in carriers]
    assert re.findall(r"^(\w{3}) +(\d+) +-?\d+\.\d$", delays, re.MULTILINE) == as_texts(january)
    assert re.findall(r"(\w+)\| *(\d+)\|", spread) == as_texts(origins)


def as_texts(counts: Counter[str]) -> list[tuple[str, str]]:
    return [(name, str(n)) for name, n in sorted(counts.items())]


def shown(cell: Any) -> str:
    """What a cell has put out, as text."""
    texts = (each.get("text") or each.get("data", {}).get("text/plain", "") for each in cell.outputs)
    return "\n".join(texts)


def test_without_the_demos_data_the_first_notebook_says_what_to_do(settings, monkeypatch):
    (source,) = (each.source for each in nbformat.read(START, as_version=4).cells if each.id == "start-3")
    monkeypatch.setenv("DW_DATABASE", "postgres")  # where no demo has run

    with pytest.raises(AssertionError, match="Run `workbench demo` on a terminal"):
        exec(source, {"workbench": workbench})


def test_a_notebook_that_fails_is_kept_with_its_traceback(shared_workbench, settings, tmp_path):
    from workbench.errors import NotebookFailed, WorkbenchError

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("n = 1"), nbformat.v4.new_code_cell("1 / n")])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python with Spark", "language": "python"}
    notebook.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, tmp_path / "fails.ipynb")

    with pytest.raises(NotebookFailed, match=r"fails\.ipynb raised ZeroDivisionError") as caught:
        run_notebook(tmp_path / "fails.ipynb", tmp_path / "out" / "fails.ipynb", {"n": 0})

    assert caught.value.exit_code == 1
    assert "ZeroDivisionError" in (tmp_path / "out" / "fails.ipynb").read_text()
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["fails.ipynb"]
    with pytest.raises(WorkbenchError, match="does not take absent"):
        run_notebook(tmp_path / "fails.ipynb", tmp_path / "out" / "x.ipynb", {"absent": 1})
