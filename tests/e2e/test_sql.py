"""`%%sql` as a person has it: a cell is run in JupyterLab, its pages are turned, a table's name is completed."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest

from tests.e2e.test_browser import SECOND, keep, running_chromium, watched_page
from workbench.settings import Settings
from workbench.warehouse.engine import read_frame

TRIES = 15
TALL = {"width": 1280, "height": 1230}
CELL = """%%sql
SELECT n AS flight, (ARRAY['UA', 'B6', 'EV', 'DL'])[n % 4 + 1] AS carrier, date '2013-01-01' + n AS day,
    CASE WHEN n % 3 > 0 THEN n * 1.25 END AS delay, CASE WHEN n % 5 = 0 THEN '<script>alert(1)</script>' ELSE 'on time' END AS note
FROM generate_series(1, :flights) AS n"""


def write(page, text: str) -> None:
    """Write *text* into the first cell, in place of what it holds."""
    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(text)


@pytest.mark.timeout(300)
def test_a_person_runs_sql_turns_pages_and_completes_a_table(shared_workbench, monkeypatch):
    monkeypatch.setenv("WORKBENCH_HOME", str(shared_workbench.home))
    warehouse = Settings.load().warehouse
    for statement in (
        "CREATE SCHEMA IF NOT EXISTS in_browser",
        "CREATE TABLE IF NOT EXISTS in_browser.airlines (carrier text)",
        "CREATE TABLE IF NOT EXISTS in_browser.airports (carrier text)",
    ):
        read_frame(warehouse, statement, {})

    from playwright.sync_api import TimeoutError as NotInTime

    with running_chromium() as browser, watched_page(browser) as page:
        page.goto(shared_workbench.url)
        page.click("#login-github")
        page.check("[value=grace]")
        page.fill("#sign_in_code", shared_workbench.sign_in_code)
        page.click("#authorize")
        # JupyterLab drops a run silently while the kernel is still connecting.
        page.get_by_text("Python with Spark | Idle").wait_for(timeout=150 * SECOND)

        for text in ("flights = 60", CELL):
            write(page, text)
            page.keyboard.press("Control+Enter")
        table = page.locator(".workbench-sql")
        table.get_by_text("Rows 1 to 25 of 60.").wait_for(timeout=60 * SECOND)
        assert table.locator("tbody tr").count() == 25
        assert table.get_by_text("<script>alert(1)</script>").count() == 5
        assert table.locator("td", has_text="null").count() == 8

        page.get_by_title("Next page").click()
        table.get_by_text("Rows 26 to 50 of 60.").wait_for(timeout=20 * SECOND)
        page.locator("select").filter(has_text="as they came").select_option("delay")
        table.get_by_text("Rows 1 to 25 of 60.").wait_for(timeout=20 * SECOND)
        page.get_by_title("Largest first").click()
        table.locator("tbody tr").first.get_by_text("73.75").wait_for(timeout=20 * SECOND)

        page.set_viewport_size(TALL)
        write(page, f"{CELL}\nJOIN in_browser.air")
        offered = page.locator(".jp-Completer-item")
        for _ in range(TRIES):  # JupyterLab gives the kernel one second, which is short on a busy machine
            page.keyboard.press("Tab")
            with suppress(NotInTime):
                offered.filter(has_text="airports").wait_for(timeout=5 * SECOND)
                break
            page.keyboard.press("Escape")
            page.locator(".jp-CodeCell .cm-content").first.focus()
        assert re.findall(r"air\w+", " ".join(offered.all_inner_texts())) == ["airlines", "airports"]
        keep(page, "sql")
        page.keyboard.press("Enter")
        assert "JOIN in_browser.airlines" in page.locator(".jp-CodeCell .cm-content").first.inner_text()
