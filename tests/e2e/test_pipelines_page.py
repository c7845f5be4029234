"""A run as a person watches it, in a real Chromium."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.test_browser import SECOND, running_chromium, watched_page
from tests.services.broken_way import way_to
from tests.services.browser import send
from tests.services.pipelines_project import Site, running_site
from tests.services.pipelines_service import RunningService, running_service
from tests.services.pipelines_store import store_url
from tests.services.proxied_hub import running_hub
from tests.services.workbench import wait_until
from workbench.observability.dashboards.history import HOUR_MS, MINUTE_MS, Count, History
from workbench.observability.dashboards.pictures import PICTURES
from workbench.security.secrets import ensure_code, private_folder

LINES = """import time
for number in range(600):
    print("line", number, flush=True)
    time.sleep(.2)"""
HOSTILE = """from IPython.display import HTML, display
display(HTML("<p id=mark>here</p><script>document.getElementById('mark').textContent = 'script ran'</script>"
             "<img src=x onerror=\\"document.getElementById('mark').textContent = 'handler ran'\\">"
             "<a id=top href='javascript:document.cookie' target=_top>top</a>"))
print("<script>alert(1)</script>")"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running_site(tmp_path_factory.mktemp("site")) as site:
        site.notebook("lines", LINES)
        site.notebook("hostile", HOSTILE)
        site.pipeline("lines", steps={"a": {"notebook": "notebooks/lines.ipynb"}})
        site.pipeline("hostile", steps={"a": {"notebook": "notebooks/hostile.ipynb"}})
        site.file("pipelines/flows/wrong.yaml", "topic: t\ninto: a.b\nmode: <img src=x onerror=alert(1)>\n")
        with site.worker():
            yield site


@pytest.fixture(scope="module")
def service(site: Site):
    with running_service(site) as service:
        yield service


@pytest.fixture(scope="module")
def chromium():
    with running_chromium() as browser:
        yield browser


LONGEST_WAIT = 30 * SECOND  # between two tries of a page
BROKEN = "Failed to load resource|ERR_|sandbox"  # what each try was answered; no clock is set in the frame


def test_lines_appear_also_after_the_connection_broke_and_cancel_keeps_them(chromium, service: RunningService):
    port = urlsplit(service.url).port or 0
    with way_to(port) as way, watched_page(chromium, allowed=BROKEN) as page:
        page.goto(f"{service.url.replace(str(port), str(way.port))}sign-in?token=runner-token")
        page.get_by_role("link", name="lines", exact=True).click()
        page.get_by_role("link", name="Run now").click()
        page.get_by_role("button", name="Run now").click()

        output = page.locator("#output")
        output.get_by_text("line 0").wait_for(timeout=60 * SECOND)
        output.get_by_text("line 5").wait_for(timeout=30 * SECOND)
        assert page.locator("#steps .state.running").first.is_visible()

        connection = page.get_by_role("status")
        page.clock.install()  # nobody waits for the next try
        way.breaks()
        connection.get_by_text("This page tries again by itself").wait_for(timeout=30 * SECOND)
        with page.expect_response(lambda answer: (answer.request.method, answer.status) == ("HEAD", 502)):
            page.clock.fast_forward(LONGEST_WAIT)
        page.context.clear_cookies()
        way.is_mended()
        page.clock.fast_forward(LONGEST_WAIT)
        connection.get_by_text("Log in again").wait_for(timeout=30 * SECOND)
        page.context.request.get(f"{service.url}sign-in?token=runner-token")
        page.clock.fast_forward(LONGEST_WAIT)
        page.locator("#connection:empty").wait_for(state="attached", timeout=60 * SECOND)
        output.get_by_text("line 12").wait_for(timeout=30 * SECOND)
        lines = re.findall(r"line (\d+)", output.inner_text())
        assert lines == [str(number) for number in range(len(lines))], "none is doubled or left out"

        page.get_by_role("button", name="Cancel").click()
        page.locator("#steps .facts .state.cancelled").wait_for(timeout=60 * SECOND)

        assert "line 5" in output.inner_text()
        frame = page.frame_locator("iframe[name=output]")
        frame.get_by_text("line 5").first.wait_for(timeout=30 * SECOND)


def test_a_flow_is_started_and_its_page_tells_by_itself_what_becomes_of_it(chromium, service: RunningService):
    with watched_page(chromium) as page:
        page.goto(f"{service.url}sign-in?token=editor-token")
        page.get_by_role("link", name="Flows", exact=True).click()
        page.get_by_role("link", name="wrong", exact=True).click()
        page.get_by_role("button", name="Start").click()

        page.locator("#state .state.failed").wait_for(timeout=60 * SECOND)
        page.locator("#state .problem").get_by_text("mode is '<img src=x onerror=alert(1)>'").wait_for()
        page.locator("#log").get_by_text("mode is '<img src=x onerror=alert(1)>'").wait_for(timeout=30 * SECOND)

        page.get_by_role("button", name="Stop").click()
        page.locator("#state .state.stopped").wait_for(timeout=30 * SECOND)


def kept_day(home: Path) -> None:
    """What a monitor would have kept of a day in which the broker was away for a while, and of two weeks of requests."""
    now = int(time.time() * 1000)
    path = private_folder(home / "monitor") / "monitor.sqlite"
    with History(path) as history:
        history._connection.execute("BEGIN")
        for minute in range(1440):
            wave = 1 + math.sin(minute / 90)
            points = [
                (picture.name, curve.legend or "raw.flights", wave) for picture in PICTURES for curve in picture.curves
            ]
            if not 600 < minute < 660:
                points.append(("lag", "raw.<b>weather</b>", 2000 * wave))
            history.add(now - (1440 - minute) * MINUTE_MS, points)
        for hour in range(14 * 24):
            counts = [
                Count(objective="availability", good=240, total=240),
                Count(objective="availability", part="kafka", good=239, total=240),
                Count(objective="response_time", good=480, total=500),
                Count(objective="errors", good=490, total=500),
            ]
            history.count(now - hour * HOUR_MS, counts)
        history._connection.execute("COMMIT")


def test_an_administrator_sees_the_last_day_and_the_objectives_and_nobody_else_does(
    chromium, service: RunningService, site: Site
):
    kept_day(site.home)
    with watched_page(chromium) as page:
        page.goto(f"{service.url}sign-in?token=owner-token")
        page.get_by_role("link", name="The last day").click()

        pictures = page.locator("figure > svg")
        assert pictures.count() == len(PICTURES)
        lag = page.get_by_role("img", name="Lag: records that wait")
        assert "raw.<b>weather</b> from 0." in (lag.locator("desc").text_content() or "")
        assert lag.locator("path.line").count() == 3
        box = lag.locator("path.line").first.bounding_box()
        assert box
        assert box["width"] > 200, "the line is drawn"
        assert page.locator("#lag td b").count() == 0
        page.get_by_role("link", name="Last hour").click()
        page.get_by_role("img", name="Response time").wait_for()
        assert page.locator("[aria-current=true]").inner_text() == "Last hour"

        page.get_by_role("link", name="Objectives").click()
        rows = {each: page.locator(f"#{each}").inner_text() for each in ("availability", "response_time", "errors")}
        assert re.search(r"\smet\s.*100\.000 %.*100\.0 %", rows["availability"], re.DOTALL)
        assert re.search(r"\smet\s.*96\.000 %.*20\.0 %", rows["response_time"], re.DOTALL)
        assert re.search(r"\smissed\s.*98\.000 %.*-100\.0 %", rows["errors"], re.DOTALL)
        assert page.get_by_role("row", name=re.compile("kafka")).inner_text().split()[1] == "99.583"

    for person in ("viewer", "editor"):
        browser = service.browser(person)
        for path in ("dashboard", "objectives"):
            answer = browser.get(path)
            assert answer.status_code == 403
            assert "raw.flights" not in answer.text
        assert "dashboard" not in browser.get("").text


# The browser says that it has blocked the script: that is what is asked for here.
@pytest.mark.parametrize("alone", [False, True], ids=["in the page", "by itself"])
def test_hostile_output_runs_nothing_and_has_no_cookie(chromium, service: RunningService, site: Site, alone: bool):
    run = site.run("hostile").page
    with watched_page(chromium, allowed="sandbox|Content Security Policy|Content-Security-Policy|violates") as page:
        page.goto(f"{service.url}sign-in?token=viewer-token")
        page.goto(f"{service.url}runs/{run.run['id']}")
        assert page.locator("#output").get_by_text("<script>alert(1)</script>").first.inner_text()
        if alone:
            page.goto(f"{service.url}runs/{run.run['id']}/output/{run.attempts[0]['id']}")
            frame = page.main_frame
        else:
            frame = page.locator("iframe[src]").element_handle(timeout=30 * SECOND).content_frame()

        assert frame.locator("#mark").inner_text(timeout=30 * SECOND) == "here"
        origin = frame.evaluate("() => window.origin")
        assert origin == "null"
        assert (
            frame.evaluate("() => { try { return document.cookie } catch (error) { return error.name } }")
            == "SecurityError"
        )


@pytest.mark.timeout(240)
def test_behind_the_hub_a_person_signs_in_once_and_sees_the_notebook(chromium, site: Site):
    run = site.run("hostile").page.run
    store = {"WORKBENCH_PIPELINES_DATABASE_URL": store_url(site.server, site.database)}
    allowed = "sandbox|Content Security Policy|Content-Security-Policy|violates"
    with running_hub(site.home, **store) as hub, watched_page(chromium, allowed=allowed) as page:
        process = site.start("pipelines.service", HUB="1", **store)
        wait_until(lambda: send("GET", f"{hub.url}/services/pipelines/health").status_code == 200, 60, "the service")
        page.goto(f"{hub.url}/services/pipelines/runs/{run['id']}")
        page.click("#login-github")
        page.check("[value=ada]")
        page.fill("#sign_in_code", ensure_code(site.home / "keys" / "sign-in-code"))
        page.click("#authorize")

        page.get_by_role("heading", name=f"Run {run['id']}").wait_for(timeout=30 * SECOND)
        frame = page.locator("iframe[src]").element_handle(timeout=30 * SECOND).content_frame()
        assert frame.locator("#mark").inner_text(timeout=30 * SECOND) == "here"
        assert frame.evaluate("() => window.origin") == "null"

        kept_day(site.home)
        page.goto(f"{hub.url}/services/pipelines/dashboard")
        page.get_by_role("img", name="Lag: records that wait").wait_for(timeout=30 * SECOND)

        page.goto(f"{hub.url}/hub/home")
        page.get_by_role("link", name="pipelines").click()
        page.get_by_role("heading", name="Pipelines").wait_for(timeout=30 * SECOND)
        site.end(process)
