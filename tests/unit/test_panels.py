"""Panels without a browser: what they show, what their buttons do, how they end."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import ipywidgets
import pytest
from pydantic import SecretStr

from workbench.cells.sql.result import SqlResult
from workbench.errors import WorkbenchError
from workbench.panels.flows.state import FlowState, IngestionState
from workbench.panels.flows.view import flows_grid, letter_grid
from workbench.panels.operations.acting import SparkActions
from workbench.panels.operations.state import SparkState
from workbench.panels.operations.view import SparkView
from workbench.panels.panel import UNEXPECTED, Panel
from workbench.panels.parts import Grid, Picture, button, dropdown, in_words, offer, picture_of
from workbench.panels.service import PipelinesService, ServiceError
from workbench.panels.tables.state import WarehouseState
from workbench.panels.tables.view import WarehouseView, chart_html
from workbench.querying import Answer, Column
from workbench.sections import SparkSettings
from workbench.transformation.progress import Outcome, Recorder
from workbench.warehouse.letters.looking import Letter
from workbench.warehouse.looking import TableLook

HOSTILE = "<img src=x onerror=alert(1)>"


@dataclass(frozen=True)
class Counted:
    number: int = 0


class NumberView:
    def __init__(self) -> None:
        self.widget = ipywidgets.HTML()
        self.shown: list[int] = []

    def show(self, state: Counted) -> None:
        self.shown.append(state.number)

    def picture(self, state: Counted) -> Picture:
        return picture_of(f"number {state.number}")


def until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.005)


def make_panel(read, **options: Any) -> tuple[Panel[Counted], NumberView]:
    panel, view = Panel(Counted(), read, **options), NumberView()
    panel.show_with(view)
    return panel, view


def panel_threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name == "workbench-panel"]


def test_a_panel_reads_beside_the_kernel_until_it_is_closed():
    numbers = iter(range(1, 10**6))
    ended = []
    panel, view = make_panel(lambda: {"number": next(numbers)}, seconds=0.001, end=lambda: ended.append(True))

    panel.start()
    until(lambda: panel.state.number > 3)
    panel.close()
    panel.close()

    until(lambda: not panel_threads())
    shown = len(view.shown)
    panel.change(number=-1)
    assert (len(view.shown), ended, panel.is_open) == (shown, [True], False)
    assert panel.widget.comm is None


def test_a_state_that_has_not_changed_is_not_drawn_again():
    panel, view = make_panel(lambda: {"number": 7})

    for _ in range(3):
        panel.refresh()

    assert view.shown == [0, 7]


def test_what_goes_wrong_is_told_in_words_and_gone_when_it_is_right_again():
    answers: list[Any] = [WorkbenchError("the server is away", remedy="Wait for it."), ZeroDivisionError("secret"), 3]

    def read() -> dict[str, int]:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return {"number": found}

    panel, _ = make_panel(read)
    panel.refresh()
    assert 'role="alert"' in panel.message
    assert "the server is away. Wait for it." in panel.message
    panel.refresh()
    assert f"{UNEXPECTED}: ZeroDivisionError." in panel.message
    assert "secret" not in panel.message
    panel.refresh()
    assert panel.state.number == 3
    assert panel.message.endswith("></div>")


def test_a_button_does_its_work_in_a_thread_and_tells_what_came_of_it():
    begun, may_end = threading.Event(), threading.Event()

    def work() -> str:
        begun.set()
        may_end.wait(60)
        return f"done {HOSTILE}"

    panel, _ = make_panel(dict)
    press = button("Go", "Do it", lambda: panel.act(work))
    press.click()
    assert begun.wait(60)
    may_end.set()

    until(lambda: "done" in panel.message)
    assert HOSTILE not in panel.message
    assert 'aria-live="polite"' in panel.message


def test_a_refused_action_is_told_as_an_alert():
    def refuse() -> str:
        raise WorkbenchError("you may not", remedy="Ask an engineer.")

    panel, _ = make_panel(dict)
    panel.act(refuse)

    until(lambda: "you may not. Ask an engineer." in panel.message)
    assert 'role="alert"' in panel.message


def test_tables_have_heads_and_show_markup_as_text():
    grid = Grid(caption="Rows", heads=("name", "n"), rows=((HOSTILE, "1"), ("b\nc", "22")), numbers=frozenset({1}))

    assert HOSTILE not in grid.html()
    assert '<th scope="col"' in grid.html()
    assert "<caption" in grid.html()
    assert grid.text().splitlines()[1:] == [f"{'name':28}   n", f"{HOSTILE}   1", f"{'b↵c':28}  22"]


def test_what_is_chosen_stays_chosen_while_it_is_there():
    choice = dropdown("Flow", "Which")

    offer(choice, ["a", "b"])
    choice.value = "b"
    offer(choice, ["b", "c"])
    assert choice.value == "b"
    # What is gone is nothing: no button acts on another one.
    offer(choice, ["c"])
    assert choice.value is None
    choice.value = "c"
    offer(choice, [])
    assert choice.value is None
    offer(choice, ["b", "c"])
    assert choice.value is None
    offer(choice, ["d", "e"], anew=True)
    assert choice.value == "d"


def test_flows_are_a_table_and_what_nobody_knows_is_a_dash():
    flow = FlowState(name="f", topic="t", table="raw.t", state="running", behind=1234, rate=0.25, dead=2)

    lines = flows_grid(IngestionState(flows=(flow, FlowState(name="g")))).text().splitlines()

    assert lines[2].split() == ["f", "t", "raw.t", "running", "-", "1,234", "0.2", "-", "2"]
    assert lines[3].split() == ["g", "-", "-", "-", "-", "-", "-"]


def test_a_dead_letter_is_shown_whole_and_does_nothing():
    time_ = datetime(2013, 1, 1, tzinfo=UTC)
    letter = Letter(
        partition=2, offset=41, timestamp=time_, key=None, value=b"\xff\0" + HOSTILE.encode(), reason="no JSON"
    )

    html = letter_grid(letter).html()

    assert HOSTILE not in html
    for each in ("partition 2, offset 41", "2013-01-01 00:00:00 UTC", "no JSON", "null", "\\xff\\x00&lt;img"):
        assert each in html


def test_operations_of_spark_can_be_cancelled_one_by_one():
    recorder, cancelled = Recorder(), []
    for id_ in ("a", "b"):
        recorder.begin(id_, f"count({id_})", lambda id_=id_: cancelled.append(id_))
    recorder.end("b", Outcome.DONE)
    actions = SparkActions(SparkSettings(), recorder)
    panel = Panel(SparkState(), actions.read)
    view = SparkView(panel, actions)
    panel.show_with(view)
    panel.refresh()

    assert view.operation.options == (("count(a)", "a"),)
    view.cancel.click()
    until(lambda: "being cancelled" in panel.message)
    assert cancelled == ["a"]
    recorder.end("a", Outcome.CANCELLED)
    panel.refresh()
    assert view.cancel.disabled
    assert [each.outcome for each in panel.state.operations] == [Outcome.CANCELLED, Outcome.DONE]
    assert actions.cancel("a") == "It has ended already."
    view.restart.click()
    until(lambda: "this Spark server is not yours alone" in panel.message)
    assert "cancelled" in panel.picture().text


@contextmanager
def answering(status: int, body: bytes) -> Iterator[tuple[str, list[Any]]]:
    """A web server that gives one answer to everything, and what it was asked."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked.append((self.command, self.path, self.headers["Authorization"], sent))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/services/pipelines/", asked
    finally:
        server.shutdown()
        server.server_close()


def test_the_page_of_pipelines_is_asked_with_the_token_of_the_server():
    with answering(200, b'{"run": 5}') as (url, asked):
        service = PipelinesService(url, SecretStr("t0ken"))
        assert service.ask("start_run", pipeline="a b", parameters={"n": 1}) == {"run": 5}
        assert service.ask("show_matrix", pipeline="p", limit=3) == {"run": 5}
        service.close()

    (first, path, token, body), second = asked
    assert (first, path, token) == ("POST", "/services/pipelines/api/v1/pipelines/a%20b/runs", "token t0ken")
    assert json.loads(body) == {"parameters": {"n": 1}}
    assert second[:2] == ("GET", "/services/pipelines/api/v1/pipelines/p/runs?limit=3")
    assert "t0ken" not in repr(vars(service))


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (403, b'{"error": {"message": "you have none", "remedy": "Ask."}}', "you have none. Ask."),
        (502, b"<html>", "the page of pipelines has answered 502, and not in its own words"),
        (302, b"", "has answered 302"),
    ],
)
def test_a_refusal_of_the_page_of_pipelines_is_told_in_its_words(status, body, told):
    with answering(status, body) as (url, _), pytest.raises(ServiceError) as raised:
        PipelinesService(url, SecretStr("t")).ask("list_flows")

    assert told in in_words(raised.value)


def test_a_page_of_pipelines_that_is_away_is_told():
    with answering(200, b"{}") as (url, _):
        pass
    with pytest.raises(ServiceError, match="does not answer"):
        PipelinesService(url, SecretStr("t")).ask("list_flows")


def test_a_table_that_was_looked_at_says_what_is_known_of_it():
    look = TableLook(
        name="raw.t",
        sample=Answer(columns=(Column(name="n", type="int4", is_number=True),), rows=((None,), (HOSTILE,))),
        rows=6_000_000,
        is_estimate=True,
        written={"t": datetime(2013, 1, 1, 5, 0, 17, tzinfo=UTC)},
        checks=(
            {
                "expectation": "n is positive", "passed": False, "severity": "error", "rows_failed": 3,
                "rows_checked": 1000, "explanation": HOSTILE, "checked_at": datetime(2013, 1, 1, 5, tzinfo=UTC),
            },
        ),
    )  # fmt: skip
    view = WarehouseView(Panel(WarehouseState(), dict), None)
    state = WarehouseState(tables=("raw.t",), look=look)
    view.show(state)
    picture = view.picture(state)

    assert "raw.t · about 6,000,000 rows · last commit from t at 2013-01-01 05:00:17 UTC" in picture.text
    assert "Quality, checked 2013-01-01 05:00:00 UTC" in picture.text
    assert "n is positive  failed (error)  3 of 1,000" in picture.text
    assert HOSTILE not in picture.html

    hidden = replace(look, written={}, checks=(), untold=("this account may not read workbench.offsets",))
    text = view.picture(replace(state, look=hidden)).text
    assert "who writes it is not known" in text
    assert "Whether its quality was checked is not known." in text


def test_a_chart_that_cannot_be_drawn_says_why():
    columns = (Column(name="a", type="text"), Column(name="b", type="text"))
    result = SqlResult(answer=Answer(columns=columns, rows=(("x", "y"),)), verb="SELECT", seconds=0.1, show=print)

    assert "there is nothing to draw" in chart_html(result, "bar", "a", "")
