"""What a person does, in a real Chromium: open the hub, log in with GitHub, run a cell with Spark and SQL."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import needs
from workbench.resources import resource

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
SCREENSHOTS = Path(__file__).parent / "screenshots"
PICTURES = resource("pyproject.toml").parent / "docs" / "pictures"  # kept; UPDATE_PICTURES=1 takes them anew
DESKTOP = {"width": 1280, "height": 800}
CELL = """import workbench

numbers = workbench.sql("SELECT count(*) AS n FROM generate_series(1, 42)")
print("spark says", spark.range(10).count(), "sql says", numbers.n[0])"""
SECOND = 1000  # milliseconds, as playwright counts
NOTHING = r"(?!)"
TELL_OF_VIOLATIONS = """document.addEventListener('securitypolicyviolation', event =>
    console.error(`Content Security Policy: ${event.violatedDirective} ${event.blockedURI}`))"""


@contextmanager
def running_chromium() -> Iterator[Any]:
    """Playwright's Chromium, without a page."""
    from playwright.sync_api import sync_playwright

    found = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    needs(found is not None, "chromium")
    SCREENSHOTS.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(ARGUMENTS))
        yield browser
        browser.close()


@contextmanager
def watched_page(browser: Any, *, allowed: str = NOTHING, **options: Any) -> Iterator[Any]:
    """A page with cookies of its own; in the end nothing may have been an error or against the policy.

    Args:
        allowed: pattern of messages that are no surprise.
        options: of playwright's `new_context`.
    """
    context = browser.new_context(**{"viewport": DESKTOP, **options})
    context.add_init_script(TELL_OF_VIOLATIONS)
    problems: list[str] = []
    context.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    context.on("weberror", lambda error: problems.append(str(error.error)))
    page = context.new_page()
    yield page
    keep(page, "last")
    context.close()
    assert [each for each in problems if not re.search(allowed, each)] == []


def keep(page: Any, name: str) -> None:
    """Take a screenshot; of those that the documentation shows, also when it is to be renewed."""
    page.wait_for_load_state()
    page.screenshot(path=SCREENSHOTS / f"{name}.png")
    if os.environ.get("UPDATE_PICTURES") == "1" and name in SHOWN:
        PICTURES.mkdir(exist_ok=True)
        shutil.copyfile(SCREENSHOTS / f"{name}.png", PICTURES / f"{name}.png")


PANELS = {f"panel-{name}" for name in ("alerts", "ingestion", "warehouse", "spark", "pipelines", "page", "launcher")}
SHOWN = {
    "login",
    "login-phone",
    "consent",
    "accounts",
    "lab",
    "status",
    "refused",
    "sql",
    "progress",
    "schedule",
    *PANELS,
}


@pytest.fixture
def page(shared_workbench) -> Iterator[Any]:
    with running_chromium() as browser, watched_page(browser) as page:
        yield page


@pytest.mark.timeout(300)
def test_a_person_logs_in_runs_a_cell_and_logs_out(page, shared_workbench):
    page.goto(shared_workbench.url)
    page.click("#login-github")
    page.check("[value=ada]")
    page.fill("#sign_in_code", shared_workbench.sign_in_code)
    with page.expect_response("**/user/gh-ada/api/me*", timeout=120 * SECOND) as told:
        page.click("#authorize")
    mine = told.value.json()["identity"]
    assert (mine["username"], mine["display_name"]) == ("gh-ada", "Ada Lovelace")
    assert mine["avatar_url"].startswith("data:image/svg+xml")

    # JupyterLab drops a run silently while the kernel is still connecting.
    page.get_by_text("Python with Spark | Idle").wait_for(timeout=120 * SECOND)
    assert page.get_by_role("heading", name="Start here").is_visible()

    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(CELL)
    page.keyboard.press("Shift+Enter")
    output = page.locator(".jp-OutputArea-output", has_text="spark says 10")
    output.wait_for(timeout=150 * SECOND)
    assert page.locator("#workbench-profile").inner_text() == "Ada Lovelace"
    keep(page, "lab")
    assert output.inner_text().strip().endswith("spark says 10 sql says 42")

    page.on("dialog", lambda dialog: dialog.accept())  # the notebook may have a change that is not saved
    page.get_by_role("menuitem", name="File", exact=True).click()
    page.get_by_text("Log Out", exact=True).filter(visible=True).click()
    page.wait_for_url(f"{shared_workbench.url}/hub/login")
    page.goto(f"{shared_workbench.url}/user/gh-ada/lab")
    page.locator("#login-github").wait_for()
