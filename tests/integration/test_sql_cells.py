"""`%%sql` in a real kernel, against the warehouse and the Spark server of `workbench up`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import nbformat
import pytest

from pipelines.engine import run_notebook
from tests.services.kernel import RunningKernel, running_kernel
from tests.services.workbench import wait_until
from workbench.warehouse.engine import read_frame

HOSTILE = [
    "'; DROP TABLE TABLE; --",
    "\\'; DROP TABLE TABLE; --",
    '" OR 1=1 --',
    "$$; DROP TABLE TABLE; $$",
    ":other %s %(x)s {0} ${y}",
    "a\nb\\\n`c` é 🦆",
]


@pytest.fixture(scope="module")
def kernel(shared_workbench) -> Iterator[RunningKernel]:
    with running_kernel({"WORKBENCH_HOME": str(shared_workbench.home)}) as kernel:
        yield kernel


@pytest.fixture
def table(kernel) -> str:
    """A table of 120 rows in a schema of its own."""
    name = f"q_{uuid4().hex[:12]}.flights"
    ran = kernel.run(
        f"%%sql\nCREATE SCHEMA {name.partition('.')[0]};\n"
        f"CREATE TABLE {name} AS SELECT n AS id, n % 12 + 1 AS month, 'c' || n AS carrier FROM generate_series(1, 120) AS n"
    )
    assert ran.error == ""
    assert [line.rpartition(".")[0].rpartition(".")[0] for line in ran.printed.splitlines()] == [
        "CREATE: done",
        "CREATE: 120 rows",
    ]
    return name


@pytest.mark.parametrize("magic", ["sql", "sparksql"])
def test_values_are_bound_whatever_they_hold(kernel, table, magic):
    values = [each.replace("TABLE TABLE", f"TABLE {table}") for each in HOSTILE]
    columns = ", ".join(f":v{n} AS v{n}" for n in range(len(values)))
    kernel.run(f"values = {values!r}\n" + "\n".join(f"v{n} = values[{n}]" for n in range(len(values))))

    ran = kernel.run(f"%%{magic}\nSELECT {columns}, ':v0' AS text, 10 % 3 AS percent -- :nothing")

    assert ran.error == ""
    assert kernel.run("print(list(_sql.rows[0]) == [*values, ':v0', 1])").printed == "True\n"
    assert kernel.run(f"%sql SELECT count(*) FROM {table}").text.splitlines()[1].strip() == "120"


def test_casts_json_and_types_meet_no_parameter_by_mistake(kernel, table):
    kernel.run("import numpy, datetime\nmonth = numpy.int64(3)\nday = datetime.date(2013, 1, 2)\nmonths = [1, 2]")

    ran = kernel.run(
        f"""%%sql --param half=1/2
        SELECT '{{"a": {{"b": 1}}}}'::jsonb #>> '{{a,b}}' AS b, :day::text AS day, :half::float8 AS half, $x$:y$x$ AS y,
            (SELECT count(*) FROM {table} WHERE month = ANY(:months)) AS n, (ARRAY[1,2,3])[1:2] AS s, :month + 1 AS m"""
    )

    assert ran.error == ""
    printed = kernel.run("print(*_sql.rows[0], sep='|')\nprint(*(c.type for c in _sql.columns))").printed
    assert printed.splitlines() == ["1|2013-01-02|0.5|:y|20|[1, 2]|4", "text text float8 text int8 int4[] int8"]


def test_a_cell_is_one_transaction(kernel, table):
    ran = kernel.run(f"%%sql\nINSERT INTO {table} VALUES (121, 1, 'x');\nINSERT INTO {table}\nVALUES (1, 'x', 'y')")

    assert ran.error.splitlines() == [
        'statement 2 of 2: invalid input syntax for type integer: "x"',
        "line 4: VALUES (1, 'x', 'y')",
        "                   ^",
    ]
    assert kernel.run(f"%sql SELECT count(*) FROM {table}").text.splitlines()[1].strip() == "120"
    ran = kernel.run(
        f"%%sql\nUPDATE {table} SET month = 1 WHERE id < 11; SELECT 7 AS seven; DELETE FROM {table} WHERE id = 1"
    )
    assert [line.partition(".")[0] for line in ran.printed.splitlines()] == ["UPDATE: 10 rows", "DELETE: 1 row"]
    assert len(ran.tables) == 1
    assert "BEGIN is not for a cell" in kernel.run("%%sql\nBEGIN; SELECT 1").error
    assert kernel.run(f"%sql VACUUM {table}").printed.startswith("VACUUM: done")


def test_errors_are_short_and_say_where_and_what_was_meant(kernel, table):
    kernel.run("month = 3")
    ran = kernel.run(f"%%sql\nSELECT :month AS m,\n  carier\nFROM {table}")
    assert ran.error_name == "QueryRefused"
    assert ran.error.splitlines() == [
        'column "carier" does not exist',
        'Perhaps you meant to reference the column "flights.carrier".',
        "line 3:   carier",
        "          ^",
    ]
    wait_for(lambda: kernel.run(f"%sql SELECT * FROM {table[:-1]}").error.splitlines()[-1], f"Did you mean {table}?")
    missing = kernel.run("%%sql\nSELECT :nowhere").error
    assert missing.splitlines()[0] == "there is no variable nowhere for :nowhere"
    assert "cannot adapt type 'module'" in kernel.run("import sys\n%sql SELECT :sys").error
    assert kernel.run("%sql --param m=1/0 SELECT :m").error == "--param m=1/0: ZeroDivisionError: division by zero"

    kernel.run("%sparksql CREATE OR REPLACE TEMP VIEW readings AS SELECT id, id * 2 AS twice FROM range(500)")
    ran = kernel.run("%%sparksql\nSELECT :month,\n  twyce FROM readings")
    assert ran.error.splitlines()[1:] == ["line 3:   twyce FROM readings", "          ^"]
    assert "`twice`" in ran.error
    assert ran.printed == ""  # neither PySpark's log of the error
    assert kernel.run("spark.sql('SELECT twyce FROM readings')").error_name == "AnalysisException"
    meant = "Did you mean readings?"
    wait_for(lambda: kernel.run("%sparksql SELECT * FROM readigns").error.splitlines()[-1], meant)
    assert kernel.run("%sparksql SELEKT 1").error.splitlines()[-1].strip() == "^"


def test_a_result_has_pages_and_a_limit_and_goes_into_variables(kernel, table):
    kernel.run(f"%sql INSERT INTO {table} VALUES (0, NULL, '<script>alert(1)</script>')")
    ran = kernel.run(f"%%sql --limit 60\nSELECT * FROM {table} ORDER BY id")
    assert ran.has_buttons
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in ran.tables[0]
    assert "<script" not in ran.tables[0]
    assert "Rows 1 to 25 of the first 60; there are more" in ran.text

    turned = kernel.run(
        "import gc, ipywidgets\n"
        "buttons = [w for w in gc.get_objects() if isinstance(w, ipywidgets.Button) and w.tooltip == 'Next page']\n"
        "buttons[-1].click()"
    )
    assert "Rows 26 to 50" in turned.updates[0]["text/plain"]

    assert kernel.run(f"%%sql --into df\nSELECT * FROM {table}").printed.startswith("df: 121 rows, 3 columns")
    kernel.run("found = %sql SELECT 41 + 1 AS answer")
    printed = kernel.run("print(type(df).__module__, len(df), found.rows, found.frame().answer[0])").printed
    assert printed == "pandas.core.frame 121 ((42,),) 42\n"
    plot = kernel.run(
        f"%%sql --plot bar x=month y=n\nSELECT month, count(*)::numeric AS n FROM {table} GROUP BY 1 ORDER BY 1"
    )
    assert len(plot.shown[0]["image/png"]) > 1000
    assert "there is no column x" in kernel.run("%sql --plot bar x=x SELECT 1 AS a").error


def test_spark_gives_lazy_frames_or_rows(kernel):
    kernel.run("%sparksql CREATE OR REPLACE TEMP VIEW numbers AS SELECT id, map('k', id) AS m FROM range(30000)")
    kernel.run("least = 10")

    assert "Rows 1 to 25 of the first 10,000" in kernel.run("%sparksql SELECT * FROM numbers").text
    kernel.run("%%sparksql --into lazy\nSELECT id FROM numbers WHERE id >= :least")
    kernel.run("%%sql --spark --into rows --pandas --limit 5\nSELECT id, id AS id2 FROM numbers ORDER BY id")
    printed = kernel.run("print(type(lazy).__module__, lazy.count(), list(rows.id))").printed
    assert printed == "pyspark.sql.connect.dataframe 29990 [0, 1, 2, 3, 4]\n"


def test_an_interrupt_cancels_at_the_server_and_the_next_cell_works(kernel, settings):
    lock = uuid4().int % 2**31
    query = "SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND objid = :lock"

    def runs(_: object) -> bool:
        return int(read_frame(settings.warehouse, query, {"lock": lock}).n[0]) > 0

    ran = kernel.run(f"%%sql\nSELECT pg_advisory_xact_lock({lock}), pg_sleep(80)", interrupt_when=runs)
    assert ran.error == "Interrupted: the warehouse was told to cancel the query."
    assert not runs(None)
    assert kernel.run("%sql SELECT 42 AS answer").text.splitlines()[1].strip() == "42"

    # Shown from the third second on: by then the query is at the server. A task looks whether it is cancelled after
    # each thousand rows of *a*; with many rows in *b* that would be late, and the next cell would wait for its core.
    ran = kernel.run(
        "%%sparksql\nSELECT sum((a.id + b.id) % 7) FROM range(10000000000) AS a CROSS JOIN range(1000) AS b",
        interrupt_when=lambda ran: any("Spark is working" in each.get("text/plain", "") for each in ran.shown),
    )
    assert ran.error == "Interrupted: Spark was told to cancel the query."
    assert ran.updates[-1]["text/plain"].startswith("Spark: cancelled after")
    assert kernel.run("print(spark.interruptAll())").printed == "[]\n"  # nothing was left to be interrupted
    assert kernel.run("%sparksql SELECT 42 AS answer").text.splitlines()[1].strip() == "42"


def test_tables_and_columns_are_completed(kernel, table):
    schema = table.partition(".")[0]
    kernel.run(f"%sql SELECT 1; DROP TABLE IF EXISTS {schema}.nothing")
    wait_for(lambda: kernel.complete(f"%%sql\nSELECT * FROM {schema}"), [schema])  # the catalog is read

    quickest = 60.0
    for before, behind, offered in (
        (f"%%sql\nSELECT * FROM {schema}.fl", "", "flights"),
        ("%%sql\nSELECT f.car", f" FROM {table} AS f", "carrier"),
        (f"%%sql\nUPDATE {table} SET mon", "", "month"),
        ("%%sql --in", "", "--into"),
    ):
        started = time.monotonic()
        assert kernel.complete(before, behind) == [offered]
        quickest = min(quickest, time.monotonic() - started)
    assert quickest < 1

    kernel.run(f"%sql CREATE TABLE {schema}.weather (temperature int)")
    wait_for(lambda: kernel.complete("%%sql\nSELECT te", f" FROM {schema}.weather"), ["temperature"])

    kernel.run("%sparksql CREATE OR REPLACE TEMP VIEW completed AS SELECT 1 AS wonderful")
    wait_for(lambda: kernel.complete("%%sparksql\nSELECT won", " FROM completed"), ["wonderful"])


def wait_for(ask: Callable[[], object], wanted: object) -> None:
    """Ask until the catalog, which is read beside the cells, has come."""
    wait_until(lambda: ask() == wanted, 60, f"{wanted} to be proposed")


def test_without_a_warehouse_cells_say_so_and_completion_offers_keywords(tmp_path):
    with running_kernel(
        {"WORKBENCH_HOME": str(tmp_path), "DW_HOST": "127.0.0.1", "DW_PORT": "9", "DW_USER": "u", "DW_PASSWORD": "p"}
    ) as kernel:
        ran = kernel.run("%sql SELECT 1")
        assert ran.error.startswith("the warehouse at 127.0.0.1:9/")
        assert "Traceback" not in ran.error
        started = time.monotonic()
        assert kernel.complete("%%sql\nSELECT * FROM raw.fl") == ["fl"]
        assert "SELECT" in kernel.complete("%%sql\nSEL")
        assert time.monotonic() - started < 10


def test_the_output_of_a_production_run_is_a_table_without_buttons(settings, monkeypatch, tmp_path):
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("%%sql\nSELECT n, '<b>' AS b FROM generate_series(1, 70) AS n")]
    )
    nbformat.write(notebook, tmp_path / "in.ipynb")

    output = run_notebook(tmp_path / "in.ipynb", tmp_path / "out" / "out.ipynb", {})

    outputs = nbformat.read(output, 4).cells[-1].outputs
    assert [sorted(each.data) for each in outputs] == [["text/html", "text/plain"]]
    assert "&lt;b&gt;" in outputs[0].data["text/html"]
    assert "Rows 1 to 25 of 70." in outputs[0].data["text/plain"]


def test_a_duckdb_file_answers_too(tmp_path):
    with running_kernel({"WORKBENCH_HOME": str(tmp_path), "WORKBENCH_WAREHOUSE_DIALECT": "duckdb"}) as kernel:
        kernel.run('who = "\'; DROP TABLE t; --"')
        ran = kernel.run(
            "%%sql\nCREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, :who); SELECT *, {'k': :who} AS s FROM t"
        )
        assert ran.error == ""
        assert "DROP TABLE t" in ran.text
        assert [line.partition(".")[0] for line in ran.printed.splitlines()] == ["CREATE: done", "INSERT: 1 row"]
        ran = kernel.run("%%sql\nINSERT INTO t VALUES (2, 'x'); INSERT INTO t VALUES ('y', 'z')")
        assert ran.error.startswith("statement 2 of 2: Conversion Error")
        assert kernel.run("%sql SELECT count(*) AS n FROM t").text.splitlines()[1].strip() == "1"
        wait_for(lambda: kernel.complete("%%sql\nSELECT * FROM ")[:1], ["t"])
        ran = kernel.run(
            "%sql SELECT sum(a.range * b.range) FROM range(1000000) AS a, range(1000000) AS b",
            interrupt_when=lambda ran: bool(ran.shown),
        )
        assert ran.error == "Interrupted: the warehouse was told to cancel the query."
