"""What the owner of an idle server sees, in a real Chromium: a warning before the stop, with a button against it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_browser import SCREENSHOTS, SECOND, running_chromium
from tests.services.idle_hub import IdleHub, running_idle_hub
from tests.services.workbench import wait_until

IDLE_SECONDS = 36  # JupyterLab has to be there before, on a busy machine too
WARNING_SECONDS = 30
WARNING = re.compile(r"This server will be stopped at .+ because nothing has run since .+\.")
SEND_WITHOUT_TOKEN = "address => fetch(address, {method: 'POST'}).then(answer => answer.status)"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[IdleHub]:
    with running_idle_hub(tmp_path, idle_seconds=IDLE_SECONDS, warning_seconds=WARNING_SECONDS) as running:
        yield running


@pytest.fixture
def page() -> Iterator[Any]:
    with running_chromium() as browser:
        yield browser.new_page(viewport={"width": 1280, "height": 900})


@pytest.mark.timeout(400)
def test_the_owner_is_warned_keeps_the_server_and_an_open_tab_alone_does_not(page, hub):
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    server = hub.start_server("grace")
    log_in(page, hub)
    launcher = page.get_by_role("button", name="Python with Spark").first

    def is_shown() -> bool:
        """Whether Lab is there; the server's time begins anew with each look, however many that takes."""
        assert server.call("POST", "workbench/activity").status_code == 200
        return bool(launcher.is_visible())

    wait_until(is_shown, 90, "the launcher", every_seconds=1)
    assert server.call("POST", "workbench/activity").status_code == 200

    warning = page.locator(".Toastify__toast", has_text=WARNING)
    warning.wait_for(timeout=(IDLE_SECONDS + 30) * SECOND)
    warning.get_by_role("button", name="Keep it running").hover()  # waits until it has slid in
    page.screenshot(path=SCREENSHOTS / "idle-warning.png")
    before = server.call("GET", "workbench/activity").json()["last_activity"]
    assert page.evaluate(SEND_WITHOUT_TOKEN, f"{server.path}/workbench/activity") == 403
    refused = [problem for problem in problems if "403" in problem]
    assert server.call("GET", "workbench/activity").json()["last_activity"] == before

    kept = time.monotonic()
    warning.get_by_role("button", name="Keep it running").click()
    page.get_by_text("This server keeps running.").wait_for(timeout=30 * SECOND)
    warning.wait_for(state="detached", timeout=30 * SECOND)

    # The tab stays open and goes on asking for lists.
    warning.wait_for(timeout=(IDLE_SECONDS + 30) * SECOND)
    assert problems == refused, "nothing but the refused request above is an error"
    wait_until(lambda: not server.is_running(), IDLE_SECONDS + 30, "the server to be stopped")
    assert time.monotonic() - kept > IDLE_SECONDS - 1


def log_in(page: Any, hub: IdleHub) -> None:
    page.goto(f"{hub.url}/hub/login?next=/user/grace/lab")
    page.fill("#username_input", "grace")
    page.fill("#password_input", (hub.home / "keys" / "tests-password").read_text(encoding="utf-8").strip())
    page.click("#login_submit")
