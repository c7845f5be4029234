"""Panels as a person has them: opened in JupyterLab after a login, pressed with the mouse and with the keyboard."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.e2e.test_browser import SECOND, keep, running_chromium, watched_page
from tests.e2e.test_sql import write

TALL = {"width": 1280, "height": 1000}


def show(page: Any, name: str, control: str) -> Any:
    """Run a cell with a panel, and wait until the control with that label is there."""
    write(page, f"from workbench import panels\npanels.{name}()")
    page.keyboard.press("Control+Enter")
    panel = page.locator(".jp-OutputArea-output .widget-vbox").first
    panel.get_by_label(control, exact=True).wait_for(timeout=60 * SECOND)
    return panel


def said(panel: Any, text: str) -> None:
    panel.locator("[role=status], [role=alert]").filter(has_text=text).first.wait_for(timeout=60 * SECOND)


@pytest.mark.timeout(400)
def test_a_person_steers_with_panels(shared_workbench):
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

        panel = show(page, "warehouse", "Table")
        panel.get_by_label("Query").fill("SELECT n AS month, n * n AS flights FROM generate_series(1, 12) AS n")
        panel.get_by_role("button", name="Run", exact=True).click()
        said(panel, "12 rows in")
        panel.get_by_label("Chart").select_option("bar")
        chart = panel.get_by_alt_text("bar chart of flights along month, 12 rows")
        chart.wait_for(timeout=60 * SECOND)
        assert chart.evaluate("picture => picture.complete && picture.naturalWidth > 300")
        keep(page, "panel-warehouse")

        panel = show(page, "spark", "Running")
        panel.locator("td", has_text="your own").wait_for()
        assert panel.get_by_role("link", name="Spark UI").get_attribute("href")
        assert panel.get_by_role("button", name="Cancel", exact=True).is_disabled()
        keep(page, "panel-spark")

        panel = show(page, "pipelines", "Pipeline")
        panel.get_by_label("Pipeline", exact=True).select_option("daily-delays")
        panel.get_by_role("button", name="Choose").click()
        said(panel, "daily-delays takes")
        panel.get_by_label("month *").or_(panel.get_by_label("month")).first.wait_for()
        keep(page, "panel-pipelines")
