"""What a person does, in a real Chromium: open the hub, log in with GitHub, run a cell with Spark and SQL."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import needs

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
SCREENSHOTS = Path(__file__).parent / "screenshots"
CELL = 'import workbench\nprint("spark says", spark.range(10).count(), "sql says", workbench.sql("SELECT count(*) AS n FROM generate_series(1, 42)").n[0])'
SECOND = 1000  # milliseconds, as playwright counts


@pytest.fixture
def page(shared_workbench) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    found = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    needs(found is not None, "chromium")
    SCREENSHOTS.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(ARGUMENTS))
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        yield page
        page.screenshot(path=SCREENSHOTS / "last.png")
        browser.close()


@pytest.mark.timeout(300)
def test_a_person_logs_in_and_runs_a_cell(page, shared_workbench):
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(shared_workbench.url)
    page.screenshot(path=SCREENSHOTS / "1-login.png")
    page.click("#login-github")
    page.fill("#sign_in_code", shared_workbench.sign_in_code)
    page.screenshot(path=SCREENSHOTS / "2-consent.png")
    page.click("#authorize")

    # JupyterLab drops a run silently while the kernel is still connecting.
    page.get_by_text("Python with Spark | Idle").wait_for(timeout=120 * SECOND)
    page.screenshot(path=SCREENSHOTS / "3-lab.png")
    assert page.get_by_role("heading", name="Start here").is_visible()

    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(CELL)
    page.keyboard.press("Shift+Enter")
    output = page.locator(".jp-OutputArea-output", has_text="spark says")
    output.wait_for(timeout=150 * SECOND)
    page.screenshot(path=SCREENSHOTS / "4-cell.png")

    assert output.inner_text().strip().endswith("spark says 10 sql says 42")
    blocked = [problem for problem in problems if "Content Security Policy" in problem]
    assert blocked == []
