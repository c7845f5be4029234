"""`%%sql` as a person has it: a cell is run in JupyterLab, its pages are turned, a table's name is completed."""

from __future__ import annotations

import pytest

from tests.e2e.test_browser import SECOND, keep, running_chromium, watched_page
from workbench.settings import Settings
from workbench.warehouse.engine import read_frame

CELL = """%%sql
SELECT n AS id, 'day ' || n AS title, CASE WHEN n % 3 > 0 THEN n * 1.25 END AS delay, '<script>alert(1)</script>' AS hostile
FROM generate_series(1, :days) AS n"""


@pytest.mark.timeout(300)
def test_a_person_runs_sql_turns_pages_and_completes_a_table(shared_workbench, monkeypatch):
    monkeypatch.setenv("WORKBENCH_HOME", str(shared_workbench.home))
    warehouse = Settings.load().warehouse
    for statement in (
        "CREATE SCHEMA IF NOT EXISTS in_browser",
        "CREATE TABLE IF NOT EXISTS in_browser.flights_of_2013 (carrier text)",
        "CREATE TABLE IF NOT EXISTS in_browser.flights_of_2014 (carrier text)",
    ):
        read_frame(warehouse, statement, {})

    with running_chromium() as browser, watched_page(browser) as page:
        page.goto(shared_workbench.url)
        page.click("#login-github")
        page.check("[value=grace]")
        page.fill("#sign_in_code", shared_workbench.sign_in_code)
        page.click("#authorize")
        # JupyterLab drops a run silently while the kernel is still connecting.
        page.get_by_text("Python with Spark | Idle").wait_for(timeout=150 * SECOND)

        page.locator(".jp-CodeCell .cm-content").first.click()
        page.keyboard.press("Control+A")
        page.keyboard.insert_text("days = 60")
        page.keyboard.press("Control+Enter")
        page.keyboard.press("Control+A")
        page.keyboard.insert_text(CELL)
        page.keyboard.press("Control+Enter")
        table = page.locator(".workbench-sql")
        table.get_by_text("Rows 1 to 25 of 60.").wait_for(timeout=60 * SECOND)
        assert table.locator("tbody tr").count() == 25
        assert table.get_by_text("<script>alert(1)</script>").count() == 25
        assert table.locator("td", has_text="null").count() == 8

        page.get_by_title("Next page").click()
        table.get_by_text("Rows 26 to 50 of 60.").wait_for(timeout=20 * SECOND)
        page.locator("select").filter(has_text="as they came").select_option("delay")
        table.get_by_text("Rows 1 to 25 of 60.").wait_for(timeout=20 * SECOND)
        page.get_by_title("Largest first").click()
        table.locator("tbody tr").first.get_by_text("73.75").wait_for(timeout=20 * SECOND)
        keep(page, "sql")

        page.locator(".jp-CodeCell .cm-content").first.click()
        page.keyboard.press("Control+A")
        page.keyboard.insert_text("%%sql\nSELECT * FROM in_browser.fl")
        page.keyboard.press("Tab")
        offered = page.locator(".jp-Completer-item")
        offered.first.wait_for(timeout=20 * SECOND)
        assert [each.split()[0] for each in offered.all_inner_texts()] == ["flights_of_2013", "flights_of_2014"]
        keep(page, "sql-completion")
        page.keyboard.press("Enter")
        assert "FROM in_browser.flights_of_2013" in page.locator(".jp-CodeCell .cm-content").first.inner_text()
