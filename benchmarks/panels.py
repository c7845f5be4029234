"""How soon a panel is there, and what it costs while it is open.

    python -m benchmarks.panels [--runs 3] [--seconds 30] [--panels ingestion,warehouse,…]

A real `workbench up`, a person who has logged in, JupyterLab in Chromium. For each panel and run, the kernel is
restarted; then the time is taken from the keys that run the cell until its control can be seen, for the first panel of
that kernel (*first*: all imports are in it), and for the same panel again (*again*). A button of ipywidgets alone, in a
kernel that was restarted too, is what the browser and the kernel take anyway. Then nothing is done for some seconds
while the panel is open, with nothing chosen in it: the processor time of the kernel's process, and that of the browser's, in percent of
a core; beside a kernel without a panel.

Writes benchmarks/results/panels.json and prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.machine import machine
from tests.e2e.test_browser import SECOND, running_chromium
from tests.services.workbench import RunningWorkbench, make_home, running_workbench

RESULTS = Path(__file__).parent / "results" / "panels.json"
#: The label of a control that each has, as in the tests.
PANELS = {"ingestion": "Flow", "pipelines": "Pipeline", "spark": "Running", "warehouse": "Table", "alerts": "Alert"}
BARE = "import ipywidgets\nipywidgets.VBox([ipywidgets.Dropdown(description='Bare', options=['1'])])"
LONGEST_SECONDS = 150
CALM_SECONDS = 5.0  # after which a panel that was just opened has read what it reads rarely
GOALS = {"appears_seconds": 1.5, "kernel_percent": 3.0}
TALL = {"width": 1280, "height": 1000}
IDLE = "Python with Spark | Idle"


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--panels", default=",".join(PANELS))
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    result: dict[str, Any] = {
        "machine": machine(),
        "command": f"python -m benchmarks.panels {' '.join(sys.argv[1:])}".strip(),
        "goals": GOALS,
        "load_before": os.getloadavg(),
    }
    with tempfile.TemporaryDirectory() as folder, lab(Path(folder)) as opened:
        each = measure(opened, given.panels.split(","), runs=given.runs, seconds=given.seconds)
    result |= {"load_after": os.getloadavg(), "measured": medians(each), "each": each}
    given.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for name, values in result["measured"].items():
        print(f"{name:<12} {'  '.join(f'{what} {value:.2f}' for what, value in values.items())}")


@dataclass(frozen=True)
class Lab:
    """JupyterLab in a browser, with one notebook and its kernel."""

    page: Any
    server: str  #: address of the person's server
    workbench: RunningWorkbench

    def kernel(self) -> psutil.Process:
        """The process of the notebook's kernel."""
        (found,) = self.page.request.get(f"{self.server}api/kernels").json()
        return next(each for each in self.workbench.descendants() if _has_argument(each, found["id"]))

    def restart(self) -> None:
        """A kernel that has imported nothing."""
        (found,) = self.page.request.get(f"{self.server}api/kernels").json()
        cookies = {each["name"]: each["value"] for each in self.page.context.cookies(self.server)}
        headers = {"X-XSRFToken": cookies["_xsrf"]}
        answer = self.page.request.post(f"{self.server}api/kernels/{found['id']}/restart", headers=headers)
        assert answer.ok, answer.text()
        self.page.get_by_text(IDLE).wait_for()

    def run(self, code: str, label: str) -> float:
        """Seconds from the keys that run a cell until a control with that label can be seen."""
        page = self.page
        page.locator(".jp-CodeCell .cm-content").first.click()
        page.keyboard.press("Control+A")
        page.keyboard.insert_text("None")
        page.keyboard.press("Control+Enter")  # what an earlier panel has shown goes away
        control = page.locator(".jp-OutputArea-output .widget-vbox").first.get_by_label(label, exact=True)
        control.wait_for(state="detached")
        page.get_by_text(IDLE).wait_for()
        page.keyboard.press("Enter")
        page.keyboard.press("Control+A")
        page.keyboard.insert_text(code)
        began = time.perf_counter()
        page.keyboard.press("Control+Enter")
        control.wait_for()
        return time.perf_counter() - began


@contextmanager
def lab(folder: Path) -> Iterator[Lab]:
    """Start everything, log in, and wait for the kernel."""
    with running_workbench(make_home(folder)) as workbench, running_chromium() as browser:
        page = browser.new_context(viewport=TALL).new_page()
        page.set_default_timeout(LONGEST_SECONDS * SECOND)
        page.goto(workbench.url)
        page.click("#login-github")
        page.check("[value=ada]")
        page.fill("#sign_in_code", workbench.sign_in_code)
        page.click("#authorize")
        page.get_by_text(IDLE).wait_for()
        yield Lab(page, f"{workbench.url}/user/gh-ada/", workbench)


def measure(lab: Lab, names: list[str], *, runs: int, seconds: int) -> dict[str, list[dict[str, float]]]:
    """The figures of each run, by panel; `bare` is ipywidgets alone."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ("bare", *names)}
    for number in range(runs):
        for name, values in found.items():
            lab.restart()
            code, label = (BARE, "Bare") if name == "bare" else (_cell(name), PANELS[name])
            first = lab.run(code, label)
            again = lab.run(code, label)
            time.sleep(CALM_SECONDS)
            used = processor_percents(lab.kernel(), seconds)
            values.append({"first_seconds": first, "again_seconds": again, **used})
            print(f"run {number + 1} {name:<10} {values[-1]}", flush=True)
            lab.run(f"{_close(name)}{BARE}", "Bare")
    return found


def processor_percents(kernel: psutil.Process, seconds: int) -> dict[str, float]:
    """Of one core, over some seconds: of the kernel's process, and of all of the browser's."""
    browsers = [each for each in psutil.Process().children(recursive=True) if "chrom" in each.name()]
    before = {each: _used(each) for each in (kernel, *browsers)}
    began = time.perf_counter()
    time.sleep(seconds)
    took = time.perf_counter() - began
    spent = {each: 100 * (_used(each) - value) / took for each, value in before.items()}
    return {"kernel_percent": spent.pop(kernel), "browser_percent": sum(spent.values())}


def medians(each: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Of the runs of each panel."""
    return {
        name: {what: statistics.median(run[what] for run in runs) for what in runs[0]} for name, runs in each.items()
    }


def _cell(name: str) -> str:
    return f"from workbench import panels\npanels.{name}()"


def _close(name: str) -> str:
    return "" if name == "bare" else f"panels._open[{name!r}].close()\n"


def _used(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _has_argument(process: psutil.Process, text: str) -> bool:
    try:
        return any(text in each for each in process.cmdline())
    except psutil.Error:
        return False


if __name__ == "__main__":
    main()
