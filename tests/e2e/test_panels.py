"""Panels as a person has them: opened in JupyterLab after a login, pressed with the mouse and with the keyboard."""

from __future__ import annotations

import re
import time
from typing import Any
from uuid import uuid4

import pytest

import workbench
from tests.e2e.test_browser import SECOND, keep, running_chromium, watched_page
from tests.e2e.test_spark_progress import QUERY, output
from tests.e2e.test_sql import write
from workbench.flows import ingest_flow
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.definition import make_flow
from workbench.ingestion.producer import OutgoingRecord, produce
from workbench.ingestion.topics import Topic, apply_topics
from workbench.security.audit import AuditLog, read_events
from workbench.settings import Settings

TALL = {"width": 1280, "height": 1000}
FOCUSED = "element => element === document.activeElement"


def show(page: Any, name: str, control: str, first: str = "", call: str = "") -> Any:
    """Run a cell with a panel, and wait until the control with that label is there.

    Args:
        page: with JupyterLab.
        name: of the panel.
        control: its label.
        first: statements before it.
        call: that shows it instead of the one with its name.
    """
    write(page, f"{first}from workbench import panels\n{call or f'panels.{name}()'}")
    page.keyboard.press("Control+Enter")
    panel = page.locator(".jp-OutputArea-output .widget-vbox").first
    panel.get_by_label(control, exact=True).wait_for(timeout=150 * SECOND)  # Spark may have to start
    return panel


def said(panel: Any, text: str) -> None:
    panel.locator("[role=status], [role=alert]").filter(has_text=text).first.wait_for(timeout=60 * SECOND)


@pytest.mark.timeout(400)
def test_a_person_steers_with_panels(shared_workbench, settings):
    with running_chromium() as browser, watched_page(browser, viewport=TALL) as page:
        page.goto(shared_workbench.url)
        page.click("#login-github")
        page.check("[value=ada]")
        page.fill("#sign_in_code", shared_workbench.sign_in_code)
        page.click("#authorize")
        # JupyterLab drops a run silently while the kernel is still connecting.
        page.get_by_text("Python with Spark | Idle").wait_for(timeout=150 * SECOND)

        panel = show(page, "ingestion", "Flow")
        panel.get_by_label("Flow", exact=True).select_option("weather")
        panel.get_by_role("button", name="Start", exact=True).click()
        said(panel, "weather is to run.")
        weather = panel.locator("tr", has_text="raw.weather")
        weather.get_by_text(re.compile("^(starting|running|waiting|failed)$")).wait_for(timeout=30 * SECOND)
        # Without a mouse: from Start, one press of Tab leads to Stop.
        panel.get_by_role("button", name="Start", exact=True).focus()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        said(panel, "weather is to stop.")
        weather.get_by_text("stopped", exact=True).wait_for(timeout=30 * SECOND)
        keep(page, "panel-ingestion")
        replays_a_dead_letter(page, settings)

        panel = show(page, "warehouse", "Table")
        panel.get_by_label("Query").fill("SELECT n AS month, n * n AS flights FROM generate_series(1, 12) AS n")
        panel.get_by_role("button", name="Run", exact=True).click()
        said(panel, "12 rows in")
        panel.get_by_label("Chart").select_option("bar")
        chart = panel.get_by_alt_text("bar chart of flights along month, 12 rows")
        chart.wait_for(timeout=60 * SECOND)
        assert chart.evaluate("picture => picture.complete && picture.naturalWidth > 300")
        keep(page, "panel-warehouse")

        panel = show(
            page,
            "spark",
            "Running",
            "spark.range(1000).selectExpr('id % 7 AS day').groupBy('day').count().toPandas()\n",
        )
        panel.locator("td", has_text="your own").wait_for()
        panel.get_by_role("cell", name="done", exact=True).first.wait_for(timeout=60 * SECOND)
        assert panel.get_by_role("link", name="Spark UI").get_attribute("href")
        assert panel.get_by_role("button", name="Cancel", exact=True).is_disabled()
        keep(page, "panel-spark")
        cancels_what_the_cell_waits_for(page)

        panel = show(page, "pipelines", "Pipeline")
        panel.get_by_label("Pipeline", exact=True).select_option("daily-delays")
        panel.get_by_role("button", name="Choose").click()
        said(panel, "daily-delays takes")
        panel.get_by_label("month *").or_(panel.get_by_label("month")).first.wait_for()
        keep(page, "panel-pipelines")
        runs_a_pipeline(page, panel)

        silences_an_alert(page)
        opens_one_from_the_launcher(page, f"{shared_workbench.url}/user/gh-ada/")
        opens_a_page(page, f"{shared_workbench.url}/user/gh-ada/")
        told = [(each.actor, each.action) for each in read_events(AuditLog.of(shared_workbench.home).path)]
        assert {("gh-ada", "alert.silenced"), ("gh-ada", "alert.unsilenced")} <= set(told)


def replays_a_dead_letter(page: Any, settings: Settings) -> None:
    """One that fits now, of a flow of its own: those of the demo are counted by others."""
    name = f"t-{uuid4().hex}"
    fields = {"topic": name, "into": f"s_{uuid4().hex}.rows", "columns": {"n": "int16"}}
    connection = KafkaConnection.from_settings(settings.kafka)
    apply_topics(connection, [Topic(name=name, partitions=1)])
    produce(connection, name, [OutgoingRecord(each) for each in (b'{"n":1}', b'{"n":70000}')])
    ingest_flow(settings, make_flow("readings", fields), lambda _: None)
    workbench.sql(f"ALTER TABLE {fields['into']} ALTER COLUMN n TYPE bigint")

    fields["columns"] = {"n": "int64"}
    first = (
        "from workbench import Settings\nfrom workbench.ingestion.definition import make_flow\n"
        "from workbench.panels.flows.opening import open_panel\n"
    )
    call = f"open_panel(Settings.load(), flows=[make_flow('readings', {fields!r})])"
    panel = show(page, "ingestion", "Flow", first, call)
    panel.get_by_role("button", name="Show dead letters").click()
    said(panel, "1 dead letter of readings.")
    panel.locator("td", has_text='{"n":70000}').first.wait_for()
    panel.get_by_role("button", name="Replay this one").click()
    said(panel, "1 moved into the table, 0 left.")
    assert sorted(workbench.sql(f"SELECT n FROM {fields['into']}")["n"]) == [1, 70000]


def runs_a_pipeline(page: Any, panel: Any) -> None:
    """To its end, which the panel shows by itself; whether it fails depends on whether the demo has run."""
    panel.get_by_label("Pipeline", exact=True).select_option("weekly-report")
    panel.get_by_role("button", name="Choose").click()
    said(panel, "weekly-report takes")
    panel.get_by_role("button", name="Run now").click()
    said(panel, "of weekly-report is to begin.")
    number = re.search(r"Run (\d+) of weekly-report", panel.inner_text())
    assert number is not None
    runs = panel.get_by_role("table", name="Runs of weekly-report")
    mine = runs.get_by_role("row").filter(has=page.get_by_role("cell", name=number[1], exact=True))
    mine.get_by_text("gh-ada", exact=True).wait_for(timeout=30 * SECOND)
    mine.get_by_text(re.compile("^(succeeded|failed)$")).wait_for(timeout=90 * SECOND)


def cancels_what_the_cell_waits_for(page: Any) -> None:
    """The kernel is busy until the button is heard."""
    write(page, f"from workbench import panels\ndisplay(panels.spark())\n{QUERY}")
    page.keyboard.press("Control+Enter")
    panel = (
        page.locator(".jp-OutputArea-output .widget-vbox").filter(has=page.get_by_label("Running", exact=True)).first
    )
    panel.get_by_role("button", name="Cancel", exact=True).click(timeout=60 * SECOND)
    said(panel, "It is being cancelled.")
    # What is sent while a cell fails is dropped, by Jupyter itself.
    output(page, "Cancelled: Spark has stopped the operation", 60)
    page.get_by_text("Python with Spark | Idle").wait_for(timeout=30 * SECOND)


def silences_an_alert(page: Any) -> None:
    """In the panel of alerts, with the keyboard alone; the controls say what they are, to screen readers too."""
    panel = show(page, "alerts", "Alert")
    table = panel.get_by_role("table", name="All alerts, with their values now")
    disk = table.get_by_role("row").filter(has_text="disk_free < 10% for 5m")
    disk.get_by_text(re.compile(r"^\d+\.\d\d%$")).wait_for(timeout=60 * SECOND)
    panel.get_by_label("Alert", exact=True).select_option("disk_full")
    panel.get_by_role("button", name="Silence", exact=True).click()
    said(panel, "Write a reason first")

    panel.get_by_label("Alert", exact=True).focus()
    page.keyboard.press("Tab")
    assert panel.get_by_label("Silence for", exact=True).evaluate(FOCUSED)
    page.keyboard.press("Tab")
    assert panel.get_by_label("Because", exact=True).evaluate(FOCUSED)
    page.keyboard.type("more room is on its way")
    page.keyboard.press("Tab")
    assert panel.get_by_role("button", name="Silence", exact=True).evaluate(FOCUSED)
    page.keyboard.press("Enter")
    said(panel, "nobody is told that disk_full fires until")
    silence = panel.get_by_role("table", name="Silences").get_by_role("row").filter(has_text="more room is on its way")
    silence.get_by_text("gh-ada", exact=True).wait_for(timeout=30 * SECOND)
    keep(page, "panel-alerts")
    panel.get_by_role("button", name="End silence").focus()
    page.keyboard.press("Enter")
    said(panel, "is over.")
    silence.wait_for(state="detached", timeout=30 * SECOND)


def opens_one_from_the_launcher(page: Any, server: str) -> None:
    """A card for each panel, reached and pressed with the keyboard; the page comes in a tab of its own."""
    page.keyboard.press("Control+Shift+L")
    cards = page.locator(".jp-Launcher-section").filter(has=page.get_by_role("heading", name="Workbench"))
    cards.locator(".jp-LauncherCard").nth(4).wait_for(timeout=60 * SECOND)
    labels = [each.strip() for each in cards.locator(".jp-LauncherCard-label").all_inner_texts()]
    assert labels == ["Alerts", "Ingestion", "Pipelines", "Spark", "Warehouse"]
    keep(page, "panel-launcher")
    cards.get_by_role("button", name="Warehouse").focus()
    page.keyboard.press("Shift+Tab")
    assert cards.get_by_role("button", name="Spark").evaluate(FOCUSED)
    cards.get_by_role("button", name="Alerts").focus()
    with page.context.expect_page() as opened:
        page.keyboard.press("Enter")
    tab = opened.value
    tab.get_by_role("heading", name="Alerts", level=1).wait_for(timeout=90 * SECOND)
    assert tab.url == f"{server}workbench/panels/alerts"
    assert tab.evaluate("window.opener") is None
    tab.close()


def opens_a_page(page: Any, server: str) -> None:
    """A panel without a notebook: no code is in it, nobody else's page leads to it, and its kernel ends with it."""
    address = f"{server}workbench/panels"
    page.on("dialog", lambda dialog: dialog.accept())  # the notebook has changes that are not saved
    page.goto(address)
    before = kernels(page, server)
    page.get_by_role("link", name="Alerts").click()
    page.get_by_role("heading", name="Alerts", level=1).wait_for(timeout=90 * SECOND)
    page.get_by_label("Alert", exact=True).wait_for(timeout=90 * SECOND)
    page.get_by_role("row").filter(has_text="disk_free < 10% for 5m").wait_for(timeout=60 * SECOND)
    page.get_by_role("button", name="Silence", exact=True).click()
    said(page, "Write a reason first")
    assert "workbench import panels" not in page.content()
    (mine,) = kernels(page, server) - before
    keep(page, "panel-page")

    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-origin", "Referer": server.replace("gh-ada", "gh-octo")},
    ):
        assert page.request.get(f"{address}/alerts", headers=headers).status == 403
    assert page.request.get(f"{address}/nothing").status == 404
    assert page.request.get(f"{server}voila/render/00-start-here.ipynb").status == 404
    page.goto(address)
    deadline = time.monotonic() + 60
    while mine in kernels(page, server):
        assert time.monotonic() < deadline, "the kernel of the page goes on"


def kernels(page: Any, server: str) -> set[str]:
    return {each["id"] for each in page.request.get(f"{server}api/kernels").json()}
