"""What of a statement to the warehouse leaves the kernel, and that no kernel waits for it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from queue import Queue
from typing import Any

import pandas as pd
import pytest

import workbench
from workbench.embedded.statement_reports import StatementReports
from workbench.observability.datagrams import receiving
from workbench.querying import reporting
from workbench.querying.reporting import MOST_BYTES, SOCKET, tell_statement, tell_table
from workbench.runtime.activity import FOLDER_VARIABLE
from workbench.warehouse import engine, sink

SECONDS = 10.0


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The private folder of a server, with a path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="wb-", dir="/tmp") as name:
        monkeypatch.setenv(FOLDER_VARIABLE, name)
        yield Path(name)


@pytest.fixture
def taken(runtime: Path) -> Iterator[Queue[bytes]]:
    found: Queue[bytes] = Queue()
    with receiving(runtime / SOCKET, found.put, name="statements", most_bytes=MOST_BYTES):
        yield found


def heard(taken: Queue[bytes]) -> dict[str, Any]:
    return json.loads(taken.get(timeout=SECONDS))


@pytest.mark.parametrize(
    ("text", "action", "verb", "tables", "rows"),
    [
        ("SELECT * FROM raw.a JOIN \"B\" USING (x) WHERE n = 'FROM canary' -- FROM canary", "query", "SELECT", 'raw.a,"B"', 3),
        ("select 1", "query", "SELECT", "", 3),
        ("WITH a AS (SELECT 1) INSERT INTO raw.b SELECT * FROM a", "write", "WITH", "raw.b,a", None),
        ("SELECT 1; DROP TABLE IF EXISTS raw.c", "write", "SELECT", "raw.c", None),
        ("INSERT INTO raw.b VALUES ('canary') ON CONFLICT DO UPDATE SET n = 1", "write", "INSERT", "raw.b", None),
        ("SELECT * FROM raw.a FOR UPDATE SKIP LOCKED", "write", "SELECT", "raw.a", None),
        ("SELECT 1" + ", 1" * 200 + " FROM raw.a", "query", "SELECT", "", 3),
        ("WITH a AS (SELECT 1" + ", 1" * 200 + ") DELETE FROM raw.b", "write", "WITH", "", None),
        ("SELECT 1" + ", 1" * 200 + "; CALL raw.remove()", "write", "SELECT", "", None),
        ("SELECT 1" + ", 1" * 30_000 + " AS updated", "query", "SELECT", "", 3),
        ("SELECT 1" + ", 1" * 300_000, "write", "SELECT", "", None),
        ("SELECT '" + "x" * 100_000 + "' FROM raw.a;", "query", "SELECT", "raw.a", 3),
        ("/* \ud800 */ SELECT 1 FROM " + "é" * 1_900, "query", "SELECT", "é" * 256, 3),
        ("", "write", "", "", None),
    ],
)  # fmt: skip
def test_a_statement_is_told_by_what_it_is_and_not_as_it_is(taken, text, action, verb, tables, rows):
    tell_statement(text, 3)

    said = heard(taken)
    assert said == {
        "action": action,
        "verb": verb,
        "tables": tables,
        "rows": rows,
        "sha256": hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest(),
    }
    assert "canary" not in str(said)


def test_the_functions_of_notebooks_tell_once_they_have_worked(taken, monkeypatch):
    monkeypatch.setattr(engine, "read_frame", lambda *_: pd.DataFrame({"n": [1, 2]}))
    monkeypatch.setattr(sink, "load_table", lambda *_, **__: "lazy")
    monkeypatch.setattr(sink, "save_table", lambda *_, **__: 7)
    monkeypatch.setattr("workbench.notebook.spark", lambda: None)

    assert len(workbench.sql("SELECT n FROM raw.a")) == 2
    assert workbench.load_table("raw.b", where="name = 'canary'") == "lazy"
    assert workbench.save_table(pd.DataFrame(), "raw.c") == 7

    told = [heard(taken) for _ in range(3)]
    assert [(each["action"], each["tables"], each["rows"]) for each in told] == [
        ("query", "raw.a", 2),
        ("query", "raw.b", None),
        ("write", "raw.c", 7),
    ]


def test_without_a_server_nothing_is_looked_at_and_one_that_is_deaf_keeps_nobody_waiting(runtime, monkeypatch):
    monkeypatch.setattr(reporting, "scan", lambda *_: pytest.fail("nobody wants to know"))
    tell_statement("SELECT 1")
    tell_table("query", "raw.a")
    monkeypatch.delenv(FOLDER_VARIABLE)
    tell_statement("SELECT 1")
    monkeypatch.undo()

    monkeypatch.setenv(FOLDER_VARIABLE, str(runtime))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(runtime / SOCKET))
        for _ in range(2_000):
            tell_table("query", "raw.a")
        monkeypatch.setattr(reporting, "scan", lambda *_: 1 / 0)
        tell_statement("SELECT 1")


def test_the_server_passes_on_what_it_knows_and_nothing_else():
    told: list[tuple[str, Mapping[str, object]]] = []

    class Heard:
        def tell(self, page: str, said: Mapping[str, object]) -> None:
            told.append((page, said))

    async def act() -> StatementReports:
        reports = StatementReports(Heard(), asyncio.get_running_loop())
        for junk in (b"", b"\xff", b"[]", b"1", b"[" * 200):
            reports.take(junk)
        await asyncio.to_thread(reports.take, b'{"action": "query", "verb": "SELECT", "sql": "canary", "rows": 1}')
        await asyncio.sleep(0)
        return reports

    reports = asyncio.run(act())
    reports.take(b'{"action": "query"}')  # too late: there is no loop any more
    assert told == [("statements", {"action": "query", "verb": "SELECT", "rows": 1})]
