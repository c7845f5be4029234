"""A notebook becomes a pipeline, in a real Chromium: behind the hub, with its policy and an origin for each user."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_browser import SECOND, keep, running_chromium, watched_page
from tests.services.notebooks import write_notebook
from tests.services.proxied_hub import NAME, ProxiedHub, running_hub
from tests.services.workbench import run
from workbench.resources import resource
from workbench.security.secrets import ensure_code

PARAMETERS = "from datetime import date\n\nday: date = date(2013, 1, 1)  # of 2013\nlimit = 1.5\n"
NOTEBOOK = "analytics/notebooks/daily report.ipynb"
DEPLOYED = "daily-delays"
WAIT = 60 * SECOND  # on a busy machine
# The browser writes of each answer that is an error: what was refused here was meant to be.
REFUSED = "status of (400|409)"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedHub]:
    with running_hub(tmp_path_factory.mktemp("hub"), tls="generated", WORKBENCH_HUB_SUBDOMAINS="true") as hub:
        hub.start_server_of("ada")
        yield hub


@pytest.fixture
def project(hub: ProxiedHub) -> Path:
    """A project in Ada's home: a notebook of hers, and one of the workbench with its pipeline."""
    project = hub.home / "users-demo" / "gh-ada" / "analytics"
    for name in ("notebooks/production", "pipelines/jobs"):
        (project / name).mkdir(parents=True, mode=0o700)
    write_notebook(project.parent / NOTEBOOK, "print(day)", parameters=PARAMETERS)
    shutil.copy(resource("notebooks") / "production" / f"{DEPLOYED}.ipynb", project / "notebooks" / "production")
    shutil.copy(resource("pipelines") / "jobs" / f"{DEPLOYED}.yaml", project / "pipelines" / "jobs")
    shutil.copy(resource("pipelines") / "alerts.yaml", project / "pipelines")  # it names the channel
    return project


@pytest.mark.timeout(300)
def test_a_person_makes_a_pipeline_of_a_notebook(hub: ProxiedHub, project: Path, tmp_path: Path):
    file = project / "pipelines" / "jobs" / "nightly.yaml"
    with running_chromium() as browser, watched_page(browser, allowed=REFUSED, ignore_https_errors=True) as page:
        log_in(page, hub)
        page.get_by_title("Schedule this notebook").click(timeout=2 * WAIT)
        dialog = page.get_by_role("dialog")
        fill(page, file)
        dialog.get_by_role("button", name="Write it").click()
        page.get_by_text("analytics/pipelines/jobs/nightly.yaml is written.").wait_for(timeout=WAIT)
        assert "    day: ${run.day_before}\n" in file.read_text()
        done = run("pipelines", "check", str(file), home=tmp_path)
        assert done.stdout == "1 pipeline is in order.\n", done.stderr

        overwrite(page, file)
        run_now(page)
        make_project(page, project.parent)


def log_in(page, hub: ProxiedHub) -> None:
    page.goto(f"{hub.url}/hub/login?next=/user/gh-ada/lab/tree/{NOTEBOOK}")
    page.click("#login-github")
    page.check("[value=ada]")
    page.fill("#sign_in_code", ensure_code(hub.home / "keys" / "sign-in-code"))
    page.click("#authorize")


def fill(page, file: Path) -> None:
    """As somebody does who makes a mistake first, and uses the keyboard."""
    dialog = page.get_by_role("dialog")
    name = dialog.get_by_label("Name", exact=True)
    name.wait_for(timeout=WAIT)
    assert name.input_value() == "daily-report"
    assert name.evaluate("node => node === document.activeElement")
    name.fill("Nightly")
    dialog.get_by_text("name: 'Nightly' is no name").wait_for(timeout=WAIT)
    name.press("Enter")
    dialog.locator("[aria-invalid=true]").wait_for(timeout=WAIT)
    assert not file.exists()
    name.fill("nightly")
    dialog.get_by_label("Schedule", exact=True).fill("30 4 * * *")  # no change of clocks touches that hour
    dialog.get_by_label("Time zone").select_option("America/New_York")
    rows = dialog.get_by_role("table").get_by_role("row")
    rows.filter(has_text=re.compile(r"04:30 -0[45]00.*0[89]:30")).nth(4).wait_for(timeout=WAIT)
    assert dialog.get_by_label("limit: float").input_value() == "1.5"
    dialog.get_by_label("day: date").fill("${run.day_before}")
    keep(page, "schedule")
    dialog.get_by_text("Retries, timeouts, owner").press("Enter")
    assert dialog.get_by_label("Owner").input_value() == "gh-ada"
    dialog.get_by_label("Retries", exact=True).fill("2")
    dialog.get_by_role("button", name="Show the YAML").click()
    dialog.get_by_label("The file").get_by_text("times: 2").wait_for(timeout=WAIT)


def overwrite(page, file: Path) -> None:
    """The same once more: refused until it is agreed to."""
    page.keyboard.press("Control+Shift+C")
    palette = page.locator(".lm-CommandPalette-input")
    palette.fill("schedule this")
    page.locator(".lm-CommandPalette-item.lm-mod-active", has_text="Schedule this notebook").wait_for(timeout=WAIT)
    palette.press("Enter")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name", exact=True).fill("nightly")
    agreement = dialog.get_by_label("pipelines/jobs/nightly.yaml is there already. Replace it.")
    agreement.wait_for(timeout=WAIT)
    before = file.read_text()
    dialog.get_by_role("button", name="Write it").click()
    dialog.get_by_text("nobody has agreed to replace it").wait_for(timeout=WAIT)
    assert file.read_text() == before
    agreement.check()
    dialog.get_by_label("Name", exact=True).fill(DEPLOYED)  # to agree to one file is not to agree to another
    other = dialog.get_by_label(f"pipelines/jobs/{DEPLOYED}.yaml is there already. Replace it.")
    other.wait_for(timeout=WAIT)
    assert not other.is_checked()
    dialog.get_by_label("Name", exact=True).fill("nightly")
    agreement.wait_for(timeout=WAIT)
    agreement.check()
    file.write_text(edited := f"{before}# edited\n")  # nor to what somebody else makes of it
    dialog.get_by_role("button", name="Write it").click()
    dialog.get_by_text("nobody has agreed to replace it").wait_for(timeout=WAIT)
    assert file.read_text() == edited
    assert not agreement.is_checked()
    agreement.check()
    dialog.get_by_role("button", name="Write it").click()
    dialog.wait_for(state="detached", timeout=WAIT)
    assert "cron: 0 6 * * *" in file.read_text()


def run_now(page) -> None:
    """From the menu of the file browser: one that is not deployed, and one that is."""
    page.locator(".jp-DirListing-item", has_text="daily report.ipynb").click(button="right")
    page.get_by_role("menuitem", name="Run as pipeline now").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("nightly is not deployed yet.").wait_for(timeout=WAIT)
    dialog.get_by_role("button", name="Close").click()

    page.locator(".jp-DirListing-item", has_text="production").dblclick()
    page.locator(".jp-DirListing-item", has_text=f"{DEPLOYED}.ipynb").click(button="right")
    page.get_by_role("menuitem", name="Run as pipeline now").click()
    link = dialog.get_by_role("link", name=f"Run {DEPLOYED} now")
    link.wait_for(timeout=WAIT)
    keep(page, "run-as-pipeline")
    port = page.url.split("/")[2].partition(":")[2]
    start = f"https://pipelines--service.{NAME}:{port}/services/pipelines/pipelines/{DEPLOYED}/start"
    assert link.get_attribute("href") == start
    assert dialog.get_by_text("which is not what you have here").count() == 0
    dialog.get_by_role("button", name="Close").click()


def make_project(page, home: Path) -> None:
    """Of a notebook that lies in none."""
    page.locator(".jp-BreadCrumbs-home").click()
    page.locator(".jp-DirListing-item", has_text="00-start-here.ipynb").click(button="right")
    page.get_by_role("menuitem", name="Schedule this notebook").click()
    dialog = page.get_by_role("dialog")
    agreement = dialog.get_by_label("00-start-here.ipynb is in no project")
    agreement.wait_for(timeout=WAIT)
    dialog.get_by_role("button", name="Write it").click()
    dialog.get_by_text("Agree that pipelines/jobs is made").wait_for(timeout=WAIT)
    assert not (home / "pipelines").exists()
    agreement.check()
    dialog.get_by_role("button", name="Write it").click()
    dialog.wait_for(state="detached", timeout=WAIT)
    assert (home / "pipelines" / "jobs" / "00-start-here.yaml").is_file()
