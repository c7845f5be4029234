from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.cells.sql.catalogs import CatalogCache
from workbench.cells.sql.completion import complete
from workbench.cells.sql.failures import located, proposals
from workbench.cells.sql.grid import Grid
from workbench.cells.sql.options import Plot, parse_options
from workbench.cells.sql.places import find_place
from workbench.cells.sql.rendering import page_html, page_text, shown
from workbench.cells.sql.result import SqlResult
from workbench.errors import QueryRefused
from workbench.querying import Answer, Catalog, Column
from workbench.querying.scanner import parse_statements, scan
from workbench.warehouse.queries import _position

DIALECTS = ("postgresql", "spark")
# Pieces of SQL in which a colon, a semicolon or a quote means nothing.
SHARED = [
    "':a'",
    "'it''s :a;'",
    "-- :a ; '\n",
    "/* :a; /* :b */ ' */",
    "x",
    "1",
    "(",
    ")",
    ",",
    "::",
    "$$ :a; ' $$",
    "$q$ $$:a; $q$",
]
OPAQUE = {
    "postgresql": [*SHARED, '":a;"', "'\\'", "E'\\':a;'", "a$b", "b[1:n]", "->> ':a'", "$1", '"say ""x"":a"'],
    "spark": [*SHARED, "`:a;`", '":a; \'"', "'\\':a;'", "r'\\'", 'R":a\\"', "v:path", "m[1:n]"],
}
CATALOG = Catalog(
    tables={
        "raw": {
            "flights": {"carrier": "text", "month": "integer", "Dep Delay": "numeric"},
            "airlines": {"name": "text"},
        },
        "public": {"notes": {"body": "text"}},
    },
    searched=("public",),
)


def test_options_stand_before_the_sql():
    found = parse_options(
        "--into df --limit 5_000 --param m=1+2 --param who='O x' --plot bar x=month y=n,k --spark", "SELECT 1"
    )

    assert (found.into, found.limit, found.spark, found.text) == ("df", 5000, True, "SELECT 1")
    assert found.parameters == {"m": "1+2", "who": "'O x'"}
    assert found.plot == Plot(kind="bar", x="month", y=("n", "k"))
    assert parse_options("SELECT 1 --into x").text == "SELECT 1 --into x"
    assert parse_options("--into=df SELECT 1", "FROM t").text == "SELECT 1\nFROM t"
    assert parse_options("-- a comment", "SELECT 1").text == "-- a comment\nSELECT 1"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--imto x", "no option --imto.*Did you mean --into"),
        ("--into 1x", "no name of a variable"),
        ("--limit many", "no number of rows"),
        ("--limit 0", "no number of rows"),
        ("--param m", "not NAME=EXPRESSION"),
        ("--plot cake", "no kind of plot"),
        ("--into", "says nothing"),
    ],
)
def test_a_wrong_option_is_named(line, said):
    with pytest.raises(QueryRefused, match=f"(?s){said}"):
        parse_options(line)


@pytest.mark.parametrize("dialect", DIALECTS)
@given(data=st.data())
def test_parameters_and_statements_are_found_between_whatever_else_sql_may_hold(dialect, data):
    pieces = data.draw(st.lists(st.sampled_from([*OPAQUE[dialect], ":name", ":größe", ";"]), max_size=12))
    text = " ".join(pieces)

    found = parse_statements(text, dialect)

    wanted = [piece[1:] for piece in pieces if piece in (":name", ":größe")]
    assert [each.name for statement in found for each in statement.parameters] == wanted
    for statement in found:
        assert text[statement.start :].startswith(statement.text)
        assert all(statement.text[each.start : each.end] == f":{each.name}" for each in statement.parameters)
    halves = " ".join(pieces).split(";") if ";" in pieces else []
    assert len(found) <= pieces.count(";") + 1 <= len(halves) + 1


@pytest.mark.parametrize("dialect", DIALECTS)
@given(text=st.text(alphabet="ab:;'\"`\\$-/*()[]. \neErR1é", max_size=60))
def test_any_text_is_scanned_to_its_end(dialect, text):
    tokens = list(scan(text, dialect))

    assert all(token.text == text[token.start : token.end] for token in tokens)
    assert all(a.end <= b.start for a, b in pairwise(tokens))
    assert "".join(token.text for token in tokens).replace(" ", "").replace("\n", "") == text.replace(" ", "").replace(
        "\n", ""
    )


def test_statements_know_whether_they_only_read():
    reads = {
        each.text: each.reads
        for each in parse_statements(
            "SELECT 1; WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x; SELECT * INTO t FROM u; insert into t values (1); VALUES (1)",
            "postgresql",
        )
    }

    assert list(reads.values()) == [True, False, False, False, True]
    body = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END"
    assert [each.text for each in parse_statements(f"{body}; SELECT 3", "postgresql")] == [body, "SELECT 3"]
    assert len(parse_statements("BEGIN SELECT 1; SELECT 2; END", "spark")) == 1


@given(st.lists(st.sampled_from([":a", ":longer_name", ":b", "word", ", "]), min_size=1, max_size=12), st.data())
def test_a_place_in_what_was_sent_is_found_in_what_was_written(pieces, data):
    [statement] = parse_statements("x " + " ".join(pieces), "postgresql")
    numbers = {name: f"${n + 1}" for n, name in enumerate(statement.names)}
    sent, places, end = "", [], 0
    for each in (*statement.parameters, None):
        upto = each.start if each else len(statement.text)
        places += range(end, upto)
        sent += statement.text[end:upto]
        if each:
            places += [each.start] * len(numbers[each.name])
            sent += numbers[each.name]
            end = each.end
    chosen = data.draw(st.sampled_from([n for n in range(len(sent)) if sent[n] != "$" and not sent[n].isdigit()]))

    assert statement.text[_position(statement, chosen)] == sent[chosen]
    assert _position(statement, chosen) == places[chosen]


class Tags(HTMLParser):
    """Collects what a browser would make of HTML."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text += data


@given(st.text(min_size=1, max_size=300))
def test_whatever_a_value_or_a_name_holds_it_is_text(hostile):
    for value in (
        hostile,
        f"<script>{hostile}</script>",
        f'" onmouseover="alert(1)" x="{hostile}',
        f"<img src=x onerror={hostile}>",
    ):
        columns = (Column(name=value, type=value), Column(name="n", type="int4", is_number=True))
        read = Tags()
        read.feed(page_html(columns, [(value, 1), ([value], None)], value))
        read.close()

        assert read.tags == {"div", "table", "thead", "tbody", "tr", "th", "td", "br", "span"}
        assert read.attributes <= {"class", "style", "title"}
        assert page_text(columns, [(value, 1)], "caption")


def test_a_page_shows_null_numbers_and_long_text_as_such():
    long = "x" * 500
    page = page_html(
        (Column(name="a", type="text"), Column(name="n", type="int4", is_number=True)), [(long, 7), (None, None)], ""
    )

    assert f'title="{long}"' in page
    assert f">{long}<" not in page
    assert '<td style="text-align:right">7</td>' in page
    assert page.count('font-style:italic">null<') == 2
    assert shown("null") == shown(None)  # told apart by its style alone
    assert (shown(True), shown(b"\x01\xff"), shown(1.0)) == ("true", "0x01ff", "1.0")


def result(rows: list[tuple], *, is_cut: bool = False) -> SqlResult:
    columns = (Column(name="n", type="int4", is_number=True), Column(name="j", type="json"))
    answer = Answer(columns=columns, rows=tuple(rows), is_cut=is_cut)
    return SqlResult(answer=answer, verb="SELECT", seconds=0.1, show=lambda _: None)


def test_pages_turn_within_their_bounds_and_sort_with_null_last():
    grid = Grid(result=result([(n if n % 10 else None, {"n": n}) for n in range(60)]))

    assert (grid.pages, grid.caption()) == (3, "Rows 1 to 25 of 60. 0.10 s")
    grid.turn(99)
    assert (grid.page, grid.caption()) == (2, "Rows 51 to 60 of 60. 0.10 s")
    grid.resize(50)
    assert grid.caption() == "Rows 51 to 60 of 60. 0.10 s"
    grid.sort(0, descending=True)
    assert (grid.page, grid.order[0], {grid.result.rows[n][0] for n in grid.order[-6:]}) == (0, 59, {None})
    grid.sort(1)  # JSON has no order, and is sorted all the same
    assert sorted(grid.order) == list(range(60))
    grid.sort(None)
    assert grid.order == list(range(60))
    assert "first 60; there are more: --limit" in Grid(result=result([(1, 2)] * 60, is_cut=True)).caption()
    assert Grid(result=result([])).caption() == "0 rows. 0.10 s"


def test_a_plot_that_cannot_be_drawn_says_why(monkeypatch):
    numbers = result([(1, "a"), (2, "b")])

    for arguments, said in (
        ({"x": "month"}, "no column month"),
        ({"x": "n"}, "nothing to draw"),
        ({"kind": "cake"}, "no kind of plot"),
    ):
        with pytest.raises(QueryRefused, match=said):
            numbers.plot(**arguments)
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(QueryRefused, match=r"need matplotlib(?s:.*)pipelines"):
        numbers.plot("bar", x="j")


@pytest.mark.parametrize(
    ("before", "behind", "offered"),
    [
        ("SELECT * FROM ", "", ["notes", "raw", "public"]),
        ("SELECT * FROM raw.", "", ["flights", "airlines"]),
        ("SELECT * FROM raw.fl", "", ["flights"]),
        ("SELECT * FROM notes, ra", "", ["raw"]),
        ("SELECT f.", " FROM raw.flights f", ["carrier", "month", '"Dep Delay"']),
        ("SELECT f.mo", " FROM raw.flights AS f JOIN raw.airlines USING (carrier)", ["month"]),
        ("SELECT car", " FROM raw.flights", ["carrier"]),
        ("SELECT count(*) FROM raw.flights WHERE mon", "", ["month"]),
        ("SELECT airlines.", " FROM raw.flights, raw.airlines", ["name"]),
        ("SELECT raw.flights.mo", " FROM raw.flights", ["month"]),
        ("SELECT 1; SELECT bo", " FROM notes; SELECT car", ["body"]),
        ("SELECT 1 FROM notes WHERE body = ':ca", "", []),
        ("SELECT 1 -- FROM raw.", "", []),
        ("SELECT * FROM raw.flights WHERE month = :mo", "", ["month_of_interest"]),
        ("WITH busy AS (SELECT 1) SELECT * FROM bu", "", ["busy"]),
        ("sel", "", ["select"]),
        ("SEL", "", ["SELECT"]),
    ],
)
def test_what_fits_is_offered(before, behind, offered):
    _, found = complete(before + behind, len(before), CATALOG, "postgresql", ["month_of_interest", "df"])

    assert [each.text for each in found][: len(offered) or None] == offered


@given(st.text(alphabet="abf .,:;'\"`(\n*-/FROMJSELCT", max_size=50), st.integers(0, 50))
def test_completion_never_raises(text, cursor):
    typed, _ = complete(text, min(cursor, len(text)), CATALOG, "spark")

    assert text[: min(cursor, len(text))].endswith(typed)


def test_a_place_is_found_in_cells_and_in_lines():
    cell = "%%sql --into df\nSELECT 1 FROM "
    assert find_place(cell, 1, 14).text.strip() == "SELECT 1 FROM"
    assert find_place("%%sql --in", 0, 10).is_options
    assert find_place("%%sql --spark\nSELECT", 1, 6).spark
    place = find_place("x = 1\ny = %sparksql SELECT a", 1, 22)
    assert (place.text[: place.cursor], place.spark) == (" SELECT a", True)
    assert find_place("print('%sql is nice')", 0, 12) is None
    assert find_place("x = 1\ny = 2", 1, 3) is None


def test_a_refusal_points_at_its_place():
    text = "SELECT 1;\nSELECT carier\nFROM raw.flights"
    statements = parse_statements(text, "postgresql")
    error = QueryRefused("column carier does not exist", statement=1, position=7, code="42703")

    assert located(error, text, statements) == [
        "statement 2 of 2: column carier does not exist",
        "line 2: SELECT carier",
        "               ^",
    ]
    assert proposals(error, statements[1].text, lambda: CATALOG, "postgresql") == ["carrier"]
    table = QueryRefused("no table", position=14, code="42P01")
    assert proposals(table, "SELECT * FROM raw.fligths", lambda: CATALOG, "postgresql") == ["raw.flights"]
    assert proposals(table, "SELECT * FROM flights", lambda: CATALOG, "postgresql") == ["raw.flights"]


def test_a_catalog_that_is_away_is_waited_for_once_and_shortly(caplog):
    caplog.set_level(logging.DEBUG, logger="workbench")
    asked, release = [], threading.Event()

    def hang() -> Catalog:
        asked.append(1)
        release.wait()
        return CATALOG

    cache = CatalogCache(hang)
    started = time.monotonic()
    assert [cache.read(0.05), cache.read(0.05)] == [Catalog(), Catalog()]
    assert time.monotonic() - started < 2
    assert asked == [1]
    release.set()
    assert cache.read(30) == CATALOG
    cache.forget()
    assert (cache.read(30), len(asked)) == (CATALOG, 2)

    def fail() -> Catalog:
        asked.append(1)
        raise OSError

    broken = CatalogCache(fail)
    assert [broken.read(30), broken.read(30)] == [Catalog(), Catalog()]
    assert len(asked) == 3
    (told,) = (each for each in caplog.records if each.message == "the catalog could not be read")
    assert (told.levelname, told.exc_info[0]) == ("DEBUG", OSError)


def test_a_shell_that_never_asks_loads_nothing_for_it():
    probe = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "workbench.cells.extension")
shell.Completer.complete("x = 1")
import sys
heavy = ("sqlalchemy", "pyspark", "pandas", "ipywidgets", "pyarrow", "workbench.cells.sql.magic", "workbench.settings")
print([name for name in heavy if name in sys.modules], "sql" in shell.magics_manager.magics["cell"])
shell.run_line_magic("unload_ext", "workbench.cells.extension")
print("sql" in shell.magics_manager.magics["cell"])
"""
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)

    assert done.stdout.split("\n")[:2] == ["[] True", "False"]
