"""What a person sees of Spark: bars under a running cell, Cancel, the line that stays, the Spark UI."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_browser import SECOND, keep, running_chromium, watched_page
from tests.services.workbench import wait_until
from workbench.observability.alerts.quantities import is_wanted
from workbench.observability.monitor.scraping import Scraper
from workbench.observability.monitor.targets import HUB, read_targets
from workbench.runtime.metrics import metrics_token

# About twenty seconds on two cores, in tasks of less than one, in two stages and more.
QUERY = """slow = spark.range(0, 900_000_000, 1, 60).selectExpr("id % 1000 AS key", "sha2(cast(id AS string), 256) AS hash")
slow.groupBy("key").count().count()"""
CANCELLED_SECONDS = 30.0  # with other tests on the same processors; benchmarks/spark.py measures it
SHOWN_SECONDS = 60.0
SPARK_FOR_ALL = "document.querySelector('.workbench-progress [role=progressbar]')"


@pytest.fixture
def page(shared_workbench) -> Iterator[Any]:
    # A UI that is asked for before Spark runs answers 503.
    with running_chromium() as browser, watched_page(browser, allowed="503|OPERATION_CANCELED") as page:
        page.goto(shared_workbench.url)
        page.click("#login-github")
        page.check("[value=ada]")
        page.fill("#sign_in_code", shared_workbench.sign_in_code)
        page.click("#authorize")
        page.get_by_text("Python with Spark | Idle").wait_for(timeout=150 * SECOND)
        yield page


def run(page: Any, code: str) -> None:
    """Replace what the first cell has by *code*, and run it."""
    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(code)
    page.keyboard.press("Shift+Enter")


def output(page: Any, text: str, seconds: float = 60) -> Any:
    found = page.locator(".jp-OutputArea-output", has_text=text).first
    found.wait_for(timeout=seconds * SECOND)
    return found


def done(page: Any) -> int:
    return int(page.evaluate(f"{SPARK_FOR_ALL}.getAttribute('aria-valuenow')"))


@pytest.mark.timeout(400)
def test_bars_move_under_a_long_query_and_cancel_stops_it(page, shared_workbench):
    run(page, "print('first', spark.range(10).count())")
    output(page, "first 10", 150)

    run(page, QUERY)
    bar = page.locator(".workbench-progress [role=progressbar]").first
    bar.wait_for(timeout=SHOWN_SECONDS * SECOND)
    page.wait_for_function(f"{SPARK_FOR_ALL}.getAttribute('aria-valuenow') > 0", timeout=30 * SECOND)
    first = done(page)
    keep(page, "progress-1")
    page.wait_for_function(f"{SPARK_FOR_ALL}.getAttribute('aria-valuenow') > {first + 5}", timeout=60 * SECOND)
    keep(page, "progress")

    button = page.get_by_role("button", name="Cancel")
    began = time.monotonic()
    button.click()
    output(page, "Spark: cancelled", SHOWN_SECONDS)
    took = time.monotonic() - began
    # What is sent while a cell fails is dropped, by Jupyter itself.
    output(page, "Cancelled: Spark has stopped the operation", SHOWN_SECONDS)
    page.get_by_text("Python with Spark | Idle").wait_for(timeout=SHOWN_SECONDS * SECOND)
    keep(page, "progress-cancelled")
    run(page, "print('next', spark.range(7).count())")
    output(page, "next 7", SHOWN_SECONDS)
    assert took < CANCELLED_SECONDS
    wait_until(lambda: is_counted(shared_workbench.home), 60, "the metrics of the hub to have them")

    look_at_the_ui(page, shared_workbench.url)


def is_counted(home: Path) -> bool:
    """Whether the hub has heard of what was done and of what was cancelled; nobody's name is with it."""
    (hub,) = (each for each in read_targets(home) if each.job == HUB)
    found = Scraper(metrics_token(home), is_wanted).scrape(hub)
    counts = {
        dict(labels)["outcome"]: value for (name, labels), value in found.items()
        if name == "workbench_spark_operation_seconds_count" and dict(labels).keys() == {"job", "kind", "outcome"}
    }  # fmt: skip
    return counts["done"] >= 2 and counts["cancelled"] >= 1


def look_at_the_ui(page: Any, url: str) -> None:
    """The Spark UI is for who is logged in; it works under our policy, and no other port is forwarded."""
    page.goto(f"{url}/user/gh-ada/spark-ui/")
    page.get_by_text("Spark Jobs").wait_for(timeout=30 * SECOND)
    assert page.url.startswith(f"{url}/user/gh-ada/spark-ui/jobs/")
    keep(page, "spark-ui")
    page.get_by_role("link", name="Executors").click()
    page.locator("td", has_text="driver").first.wait_for(timeout=30 * SECOND)
    other = page.context.browser.new_context()
    answer = other.request.get(f"{url}/user/gh-ada/spark-ui/", max_redirects=0)
    other.close()
    assert answer.status in (302, 403)
    assert page.context.request.get(f"{url}/user/gh-ada/proxy/22/").status == 404
