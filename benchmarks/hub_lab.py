"""From the button of a provider to a JupyterLab that can be used, in a real Chromium.

The identity provider asks nobody, so there is no human in it. A person's own Spark server starts
beside JupyterLab, as it does in the product, and takes its share of the processors; the same is
measured with a Spark server that is elsewhere.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.e2e.test_browser import ARGUMENTS, CHROMIUM
from tests.services.identity_provider import IdentityProvider
from tests.services.login_hub import LoginHub, running_login_hub
from tests.services.workbench import make_home

SECOND = 1000  # milliseconds, as playwright counts
LONGEST_SECONDS = 120
VIEWPORT = {"width": 1280, "height": 900}
KINDS = ("first", "back", "other_browser")
LANES = {
    "spark_of_ones_own": {"WORKBENCH_SPARK_REMOTE": ""},
    "spark_elsewhere": {"WORKBENCH_SPARK_REMOTE": "sc://localhost:1"},
}


def measure_lab(folder: Path, *, runs: int) -> dict[str, Any]:
    """For each lane and run a hub, a person and a browser that are new.

    Then the person comes back while the server runs: with the same browser, and with another one,
    which has none of JupyterLab's code.
    """
    found: dict[str, Any] = {lane: {kind: [] for kind in KINDS} for lane in LANES}
    for number in range(runs):
        for lane, variables in LANES.items():
            place = folder / f"{lane}-{number}"
            make_home(place)
            with IdentityProvider() as provider, running_login_hub(place, provider, **variables) as hub:
                for kind, seconds in visit(hub, place):
                    found[lane][kind].append(seconds)
                    print(f"lab {number + 1} {lane:<18} {kind:<16} {seconds}", flush=True)
    return found


def visit(hub: LoginHub, place: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Log in as each of KINDS says."""
    from playwright.sync_api import sync_playwright

    program = next(path for name in CHROMIUM if (path := shutil.which(name)))
    options: dict[str, Any] = {"executable_path": program, "args": list(ARGUMENTS), "viewport": VIEWPORT}
    with sync_playwright() as playwright:
        for profile, kinds in (("own", KINDS[:2]), ("another", KINDS[2:])):
            # Only a browser with a profile on disk keeps compiled code, as a person's does.
            browser = playwright.chromium.launch_persistent_context(place / profile, **options)
            for kind in kinds:
                browser.clear_cookies()
                yield kind, log_in(hub, browser.pages[0])
            browser.close()


def log_in(hub: LoginHub, page: Any) -> dict[str, float]:
    """Seconds from the button until the server answers, the first notebook is shown, and its kernel waits."""
    page.set_default_timeout(LONGEST_SECONDS * SECOND)
    page.goto(f"{hub.url}/hub/login", wait_until="load")
    started = time.perf_counter()
    page.click("#login-github", no_wait_after=True)
    page.wait_for_url("**/user/**", wait_until="commit")
    server = time.perf_counter() - started
    page.get_by_role("heading", name="Start here").wait_for()
    usable = time.perf_counter() - started
    page.get_by_text("Python with Spark | Idle").wait_for()
    kernel = time.perf_counter() - started
    return {"server": round(server, 2), "usable": round(usable, 2), "kernel": round(kernel, 2)}
