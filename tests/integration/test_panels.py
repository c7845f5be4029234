"""Panels on real servers: Kafka and the warehouse, the page of pipelines, and a kernel."""

from __future__ import annotations

import time
from collections.abc import Iterator
from html import unescape
from uuid import uuid4

import ipywidgets
import pytest

import workbench
from tests.services.kernel import RunningKernel, running_kernel
from tests.services.workbench import wait_until
from workbench.flows import ingest_flow
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.definition import Flow, make_flow
from workbench.ingestion.producer import OutgoingRecord, produce
from workbench.ingestion.topics import Topic, apply_topics
from workbench.panels.flows.opening import open_panel as open_flows
from workbench.panels.flows.state import FlowState
from workbench.panels.service import Pipelines, find_pipelines
from workbench.panels.tables.opening import open_panel as open_tables
from workbench.security.audit import AuditLog, read_events

SECONDS = 30


@pytest.fixture
def flow(settings) -> Flow:
    topic = f"t-{uuid4().hex}"
    apply_topics(KafkaConnection.from_settings(settings.kafka), [Topic(name=topic, partitions=2)])
    return make_flow("readings", {"topic": topic, "into": f"s_{uuid4().hex}.rows", "columns": {"n": "int16"}})


def send(settings, flow: Flow, *values: bytes) -> None:
    records = [OutgoingRecord(each, partition=0) for each in values]
    produce(KafkaConnection.from_settings(settings.kafka), flow.topic, records)


def flow_of(panel) -> FlowState:
    panel.refresh()
    return panel.state.flows[0]


def html_of(widget) -> str:
    """All that it shows, but for controls."""
    own = widget.value if isinstance(widget, ipywidgets.HTML) else ""
    return own + "".join(html_of(each) for each in getattr(widget, "children", ()))


def until_said(panel, text: str) -> None:
    wait_until(lambda: text in unescape(panel.message), SECONDS, text, every_seconds=0.02)


def test_lag_moves_and_one_dead_letter_is_replayed_by_buttons(settings, flow):
    send(settings, flow, b'{"n":1}', b'{"n":70000}', b"{broken", b'{"n":80000}')
    panel = open_flows(settings, flows=[flow])
    view = panel.view
    ingest_flow(settings, flow, lambda _: None)

    assert (flow_of(panel).behind, flow_of(panel).dead) == (0, 3)
    send(settings, flow, b'{"n":2}', b'{"n":3}')
    wait_until(lambda: flow_of(panel).behind == 2, SECONDS, "the lag", every_seconds=0.1)
    ingest_flow(settings, flow, lambda _: None)
    now = flow_of(panel)
    assert now.behind == 0
    assert now.rate > 0

    view.show_letters.click()
    until_said(panel, "3 dead letters of readings.")
    assert [at for _, at in view.letter.options] == [(0, 1), (0, 2), (0, 3)]
    view.letter.value = (0, 2)
    assert "{broken" in html_of(view.widget)
    workbench.sql(f"ALTER TABLE {flow.into} ALTER COLUMN n TYPE bigint")
    wide = make_flow("readings", {"topic": flow.topic, "into": flow.into, "columns": {"n": "int64"}})
    panel.close()

    panel = open_flows(settings, flows=[wide])
    view = panel.view
    panel.refresh()
    view.show_letters.click()
    until_said(panel, "3 dead letters")
    view.letter.value = (0, 3)
    view.replay_one.click()
    until_said(panel, "1 moved into the table, 0 left.")
    assert sorted(workbench.sql(f"SELECT n FROM {flow.into}")["n"]) == [1, 2, 3, 80000]
    assert [at for _, at in view.letter.options] == [(0, 1), (0, 2)]
    view.letter.value = (0, 2)
    view.replay_one.click()
    until_said(panel, "0 moved into the table, 1 left.")
    view.replay_all.click()
    until_said(panel, "1 moved into the table, 1 left.")
    assert flow_of(panel).dead == 1
    panel.close()

    events = [each for each in read_events(AuditLog.of(settings.home).path) if each.resource == "flow:readings"]
    assert {each.action for each in events} >= {"dead_letters.read", "dead_letters.changed"}


def test_a_dead_letter_that_is_gone_is_told_and_no_other_one_moves(settings, flow):
    send(settings, flow, b"{broken", b'{"n":1}', b"{broken too")
    ingest_flow(settings, flow, lambda _: None)
    panel = open_flows(settings, flows=[flow])
    panel.refresh()
    panel.view.show_letters.click()
    until_said(panel, "2 dead letters")
    workbench.sql(f"DELETE FROM {flow.target.dead_letters} WHERE record_offset = 0")

    panel.view.replay_one.click()

    until_said(panel, "there is no dead letter at 0:0")
    assert 'role="alert"' in panel.message
    assert len(workbench.sql(f"SELECT 1 FROM {flow.target.dead_letters}")) == 1
    panel.close()


def test_flows_are_started_and_stopped_where_there_is_no_hub(settings):
    pipelines = find_pipelines(settings)
    panel = open_flows(settings)
    panel.refresh()
    panel.view.flow.value = "weather"

    panel.view.start.click()
    until_said(panel, "weather is to run.")
    panel.view.stop.click()
    until_said(panel, "weather is to stop.")
    wait_until(lambda: _state(pipelines, "weather") == "stopped", SECONDS, "the flow to stop")
    panel.close()
    pipelines.close()


def _state(pipelines: Pipelines, name: str) -> str:
    return next(each["state"] for each in pipelines.ask("list_flows")["flows"] if each["name"] == name)


def test_a_table_is_looked_at_and_asked_and_drawn(settings, flow):
    send(settings, flow, *(b'{"n":%d}' % n for n in range(30)))
    ingest_flow(settings, flow, lambda _: None)
    panel = open_tables(settings)
    view = panel.view
    panel.refresh()

    view.table.value = flow.into
    view.look.click()
    until_said(panel, f"{flow.into} was looked at.")
    text = panel.picture().text
    assert f"{flow.into} · 30 rows · last commit from {flow.topic}" in text
    assert "Its quality was never checked." in text

    view.sql.value = f"SELECT n, n * 2 AS double FROM {flow.into} ORDER BY n"
    view.run.click()
    until_said(panel, "30 rows in")
    view.kind.value = "bar"
    view.y.value = "double"
    assert 'alt="bar chart of double along n, 30 rows"' in html_of(view.widget)
    assert "data:image/png;base64,iVBOR" in html_of(view.widget)

    for refused, told in {
        f"DELETE FROM {flow.into}": "this panel takes one query that changes nothing",
        "SELECT :x": ":x has no value here",
        "SELECT nothing FROM nowhere": "nowhere",
    }.items():
        view.sql.value = refused
        view.run.click()
        until_said(panel, told)
        assert 'role="alert"' in panel.message
    assert len(workbench.sql(f"SELECT 1 FROM {flow.into}")) == 30
    panel.close()


@pytest.fixture(scope="module")
def kernel(shared_workbench) -> Iterator[RunningKernel]:
    with running_kernel({"WORKBENCH_HOME": str(shared_workbench.home)}) as kernel:
        yield kernel


@pytest.mark.parametrize("name", ["alerts", "ingestion", "pipelines", "warehouse", "spark"])
def test_in_a_kernel_a_panel_is_a_widget_with_a_picture_beside_it(kernel, name):
    shown = kernel.run(f"from workbench import panels\npanel = panels.{name}()\npanel")
    assert shown.error == ""
    assert shown.has_buttons
    assert shown.tables[-1].startswith("<details>")

    again = kernel.run(f"before = panel\npanel = panels.{name}()\npanel")
    assert again.has_buttons
    assert kernel.run("print(before.is_open, panel.is_open)").printed == "False True\n"
    kernel.run("panel.close()")
    threads = "import threading\nprint([t.name for t in threading.enumerate() if t.name == 'workbench-panel'])"
    wait_until(lambda: kernel.run(threads).printed == "[]\n", SECONDS, "the panel's thread to end")


def test_under_papermill_a_panel_is_a_picture_alone(kernel):
    shown = kernel.run("from workbench import panels\npanels.ingestion()", watched=False)

    assert shown.error == ""
    assert not shown.has_buttons
    assert "<details>" not in shown.tables[-1]
    assert "raw.flights" in shown.tables[-1]
    assert "raw.flights" in shown.text


def test_a_panel_takes_little_of_a_core(settings):
    """One reading a second; what a kernel with an open panel takes in all is measured by `benchmarks/panels.py`."""
    panel, readings = open_flows(settings), 10
    panel.refresh()  # what happens once is no part of it
    began = time.thread_time()
    for _ in range(readings):
        panel.refresh()
    used = (time.thread_time() - began) / readings
    panel.close()

    assert used < 0.3  # seconds of a processor, with other tests on it
