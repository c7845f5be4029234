"""A printed line, from `print` in the kernel until a real Chromium has it in the page of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.times import in_milliseconds
from tests.e2e.test_browser import running_chromium
from tests.services.pipelines_project import Site, running_site
from tests.services.pipelines_service import RunningService, running_service

LINES = 100
PAUSE_SECONDS = 0.13  # no multiple of what the service waits between two looks
SECOND = 1000  # milliseconds, as playwright counts
SEEN_SECONDS = 60
OPEN_SECONDS = 4  # in which the page is opened; what was printed before would be late for no fault of the service
SOURCE = f"""import time
time.sleep({OPEN_SECONDS})
for number in range({LINES}):
    print(number, time.time(), flush=True)
    time.sleep({PAUSE_SECONDS})
time.sleep(1)"""
# A line counts once the frame after the one that draws it has begun, which is when it can be seen.
WATCH = """() => {
    window.seen = {};
    new MutationObserver(changes => {
        const texts = changes.flatMap(each => [...each.addedNodes])
            .filter(each => each.nodeType === Node.TEXT_NODE).map(each => each.data);
        const lines = texts.join('').split('\\n').map(each => each.split(' ')).filter(each => each.length === 2);
        requestAnimationFrame(() => requestAnimationFrame(now => {
            for (const [number, printed] of lines)
                window.seen[number] ??= (performance.timeOrigin + performance.now()) / 1000 - Number(printed);
        }));
    }).observe(document.querySelector('#output'), { childList: true, subtree: true });
}"""


def measure_lines(folder: Path, runs: int) -> dict[str, Any]:
    """Milliseconds until a line is seen; of a notebook that prints a hundred, by `runs` pages one after another."""
    with (
        running_site(folder) as site,
        site.worker(),
        running_service(site) as service,
        running_chromium() as browser,
    ):
        site.notebook("lines", SOURCE)
        site.pipeline("lines", steps={"a": {"notebook": "notebooks/lines.ipynb"}})
        delays = [each for _ in range(runs) for each in watched(browser, service, site)]
    return in_milliseconds(delays)


def watched(browser: Any, service: RunningService, site: Site) -> list[float]:
    """Seconds for each line of one run.

    Raises:
        RuntimeError: when a line was not seen.
    """
    page = browser.new_page()
    page.goto(f"{service.url}sign-in?token=viewer-token")
    run = site.start_run("lines")
    page.goto(f"{service.url}runs/{run}")
    page.evaluate(WATCH)
    page.wait_for_function(f"() => window.seen[{LINES - 1}] !== undefined", timeout=SEEN_SECONDS * SECOND)
    seen: dict[str, float] = page.evaluate("() => window.seen")
    site.ended(run)
    page.close()
    if len(seen) != LINES:
        raise RuntimeError(f"only {len(seen)} of {LINES} lines were seen")
    return list(seen.values())
