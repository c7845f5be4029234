"""Which tables a step touches, what events say of it, and where they go."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipelines.lineage.datasets import Dataset, Datasets, datasets_of, tables_of_sql, told_datasets
from pipelines.lineage.delivery import FileSink, HttpSink, sink_of
from pipelines.lineage.messages import Subject, begun, ended
from pipelines.states import State
from pipelines.store.outbox import Taken
from tests.services.http_server import listening
from workbench.errors import SettingsError
from workbench.observability.touched_tables import tell_tables
from workbench.settings import Settings

SUBJECT = Subject(
    namespace="team",
    pipeline="daily",
    run_key="k",
    step="load",
    attempt_id=7,
    instant=datetime(2013, 1, 31, 6, tzinfo=UTC),
    kind="sql",
)
DATASETS = Datasets(
    (Dataset("postgres://h:5432", "d.raw.a"),), (Dataset("postgres://h:5432", "d.marts.b"),), "SELECT 1"
)


@pytest.mark.parametrize(
    ("text", "inputs", "outputs"),
    [
        ("SELECT * FROM raw.a WHERE d = :day", ["raw.a"], []),
        ("INSERT INTO marts.b SELECT * FROM raw.a JOIN c USING (k)", ["public.c", "raw.a"], ["marts.b"]),
        ("CREATE TABLE marts.b AS WITH q AS (SELECT * FROM raw.a) SELECT * FROM q", ["raw.a"], ["marts.b"]),
        ("MERGE INTO m.t USING m.u ON t.a = u.a WHEN MATCHED THEN UPDATE SET b = 1", ["m.u"], ["m.t"]),
        ("UPDATE m.t SET c = 1 FROM m.u", ["m.u"], ["m.t"]),
        ("DELETE FROM m.t WHERE a IN (SELECT a FROM m.u)", ["m.u"], ["m.t"]),
        ("DROP TABLE IF EXISTS m.t; TRUNCATE m.v", [], ["m.t", "m.v"]),
        ("CREATE TEMP TABLE t AS SELECT * FROM raw.a; INSERT INTO m.t SELECT * FROM t", ["raw.a"], ["m.t", "public.t"]),
        ("SELEC nothing", [], []),
        ("-- nothing yet", [], []),
        (" ;\n", [], []),
        ("", [], []),
    ],
)
def test_tables_of_statements(text, inputs, outputs):
    found = tables_of_sql(text, "postgresql")

    assert [list(each) for each in found] == [inputs, outputs]


def test_a_step_of_sql_has_tables_of_the_warehouse(tmp_path: Path, monkeypatch):
    for name, value in {
        "DW_HOST": "wh.example.com",
        "DW_USER": "u",
        "DW_PASSWORD": "canary",
        "DW_DATABASE": "d",
    }.items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "a.sql"
    file.write_text("INSERT INTO marts.b SELECT * FROM raw.a")

    found = datasets_of("sql", file, Settings.load())

    assert found.inputs == (Dataset("postgres://wh.example.com:5439", "d.raw.a"),)
    assert found.outputs == (Dataset("postgres://wh.example.com:5439", "d.marts.b"),)
    assert "canary" not in repr(found)


def test_a_file_that_cannot_be_read_has_no_tables_and_is_no_error(tmp_path: Path):
    assert datasets_of("sql", tmp_path / "absent.sql", Settings.load()) == Datasets()
    assert datasets_of("flow", tmp_path / "absent.yaml", Settings.load()) == Datasets()
    assert datasets_of("notebook", tmp_path / "a.ipynb", Settings.load()) == Datasets()


def test_what_a_notebook_has_told_is_read_once_and_its_statements_are_not_passed_on(tmp_path: Path):
    file = tmp_path / "tables.jsonl"
    tell_tables(file, sql="SELECT * FROM raw.a WHERE x = 'canary'")
    tell_tables(file, reads=["raw.b"])
    tell_tables(file, writes=["marts.c"], topics=["flights"])
    assert file.stat().st_mode & 0o777 == 0o600
    with file.open("a") as half:
        half.write('[]\n{"reads": 1}\n{"sql": "", "reads": [], "writes": [], "topics": [{}]}\n')
        half.write('{"reads": ["raw.')

    found = told_datasets(file, Settings.load())

    assert [each.name.split(".", 1)[1] for each in found.outputs] == ["marts.c"]
    assert sorted(each.name.rpartition(".")[2] for each in found.inputs) == ["a", "b", "flights"]
    assert "canary" not in repr(found)
    assert not file.exists()
    assert told_datasets(file, Settings.load()) == Datasets()


def test_who_cannot_tell_goes_on(tmp_path: Path):
    tell_tables(None, reads=["raw.a"])
    tell_tables(tmp_path / "absent" / "tables.jsonl", reads=["raw.a"])


def test_the_two_events_of_an_attempt_are_of_one_run_and_have_keys_of_their_own():
    start, end = begun(SUBJECT, DATASETS), ended(SUBJECT, DATASETS, State.SUCCEEDED, "")

    assert (start.body["eventType"], end.body["eventType"]) == ("START", "COMPLETE")
    assert start.body["run"]["runId"] == end.body["run"]["runId"]
    assert start.key != end.key
    assert begun(SUBJECT, DATASETS).key == start.key


def test_an_event_has_what_openlineage_asks_for():
    body = json.loads(json.dumps(begun(SUBJECT, DATASETS).body))

    assert body["schemaURL"].startswith("https://openlineage.io/spec/2-0-2/OpenLineage.json")
    assert datetime.fromisoformat(body["eventTime"]).tzinfo is not None
    assert body["job"]["namespace"] == "team"
    assert body["job"]["name"] == "daily.load"
    assert body["inputs"][0]["name"] == "d.raw.a"
    assert body["outputs"][0]["namespace"] == "postgres://h:5432"
    facets = body["run"]["facets"]
    assert facets["parent"]["job"] == {"namespace": "team", "name": "daily", "facets": {}}
    assert uuid.UUID(facets["parent"]["run"]["runId"]) != uuid.UUID(body["run"]["runId"])
    assert facets["nominalTime"]["nominalStartTime"] == "2013-01-31T06:00:00+00:00"
    assert facets["processing_engine"]["name"] == "workbench"
    assert body["job"]["facets"]["sql"]["query"] == "SELECT 1"
    for each in (*facets.values(), *body["job"]["facets"].values()):
        assert each["_producer"]
        assert each["_schemaURL"].startswith("https://openlineage.io/spec/facets/")


@pytest.mark.parametrize("state", [each for each in State if each.is_end and each is not State.SUCCEEDED])
def test_no_other_end_is_complete(state):
    body = ended(SUBJECT, DATASETS, state, "why").body

    assert body["eventType"] == ("ABORT" if state in {State.CANCELLED, State.SKIPPED} else "FAIL")
    assert body["run"]["facets"]["errorMessage"]["message"] == "why"


def test_no_text_of_an_event_is_one_that_postgresql_cannot_keep():
    datasets = Datasets((Dataset("p", "d.\udfff"),), (), "SELECT '\0'")
    body = json.dumps(ended(SUBJECT, datasets, State.FAILED, "a\0b\ud800c").body, ensure_ascii=False)

    assert "a\N{REPLACEMENT CHARACTER}b?c" in body
    assert "\\u0000" not in body
    assert body.encode()


def message(number: int) -> Taken:
    return Taken(number, f"key {number}", "lineage", {"n": number}, 1)


def test_a_file_has_one_event_a_line_and_is_private(tmp_path: Path):
    path = tmp_path / "new" / "lineage.jsonl"

    assert [*FileSink(path).send([message(1), message(2)])] == [1, 2]
    path.write_text(path.read_text() + '{"half')
    FileSink(path).send([message(3)])

    lines = path.read_text().splitlines()
    assert [json.loads(lines[number]) for number in (0, 1, 3)] == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert path.stat().st_mode & 0o777 == 0o600


@contextmanager
def endpoint(*answers: int) -> Iterator[tuple[str, list[tuple[str, dict[str, str], bytes]]]]:
    """A server that answers so, one after the other; and what it was asked."""
    asked: list[tuple[str, dict[str, str], bytes]] = []
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append((self.path, dict(self.headers), body))
            status = left.pop(0)
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST  # noqa: N815 - as http.server has it

        def log_message(self, *_: object) -> None: ...

    with listening(Handler) as port:
        yield f"http://127.0.0.1:{port}/api/v1/lineage", asked


def test_events_are_posted_one_by_one_with_the_token():
    with endpoint(200, 201) as (url, asked):
        arrived = [*HttpSink(url, SecretStr("t")).send([message(1), message(2)])]

    assert arrived == [1, 2]
    assert [json.loads(body) for _, _, body in asked] == [{"n": 1}, {"n": 2}]
    assert {headers["Authorization"] for _, headers, _ in asked} == {"Bearer t"}


@pytest.mark.parametrize("status", [302, 400, 500])
def test_what_was_not_taken_has_not_arrived_and_no_other_address_is_asked(status):
    arrived = []
    with endpoint(200, status) as (url, asked), pytest.raises(OSError, match=str(status)) as raised:
        arrived += HttpSink(url, SecretStr("t")).send([message(1)])
        arrived += HttpSink(url, SecretStr("t")).send([message(2)])
    raised.value.close()  # type: ignore[attr-defined]

    assert arrived == [1]
    assert {path for path, _, _ in asked} == {"/api/v1/lineage"}


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"URL": "marquez:5000"}, "is no address"),
        ({"URL": "https://u:canary@h/api"}, "without a login"),
        ({"URL": "http://h.example.com/api", "TOKEN": "canary"}, "in clear"),
        ({"TOKEN": "canary"}, "LINEAGE_URL is not"),
        ({"URL": "https://h/api", "FILE": "lineage.jsonl"}, "both set"),
    ],
)
def test_settings_that_cannot_be_right_are_told(monkeypatch, variables, said):
    for name, value in variables.items():
        monkeypatch.setenv(f"WORKBENCH_PIPELINES_LINEAGE_{name}", value)

    with pytest.raises(SettingsError) as raised:
        Settings.load()

    assert said in str(raised.value)
    assert "canary" not in str(raised.value)


def test_without_settings_nobody_is_told():
    assert sink_of(Settings.load().pipelines) is None
    assert not Settings.load().pipelines.tells_lineage
