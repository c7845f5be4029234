"""Logs and output notebooks of runs are encrypted, and everything that shows them still does."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from pipelines.cli import add_commands
from pipelines.engine import JobLimits
from pipelines.engine.record.keeping import read_file
from pipelines.planning.bindings import Bindings
from pipelines.runner.assignment import Assignment, Result
from pipelines.runner.running import Runner
from pipelines.states import State
from tests.services.keysets import make_keys, turn
from tests.services.notebooks import write_notebook
from tests.services.pipelines_project import Site, cells, running_site
from workbench.sections import KeysSettings
from workbench.security.audit import Action, AuditLog, read_last_events
from workbench.security.encryption.rewrapping import retire
from workbench.security.keyset.opening import Keys

CANARY = "canary-5d1e"
WAITS = """
import time
from pathlib import Path


def wait(flag: str) -> str:
    print('canary-5d1e', flush=True)
    while not Path(flag).exists():
        time.sleep(0.02)
    print('went on')
    return 'canary-5d1e'
"""
ROOT_KEY = {"WORKBENCH_KEYS_ROOT": "environment", "WORKBENCH_KEYS_ROOT_KEY": "5d" * 32}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running_site(tmp_path_factory.mktemp("site")) as site:
        site.module("waits", WAITS)
        site.module("env", "import os\n\n\ndef keys() -> list:\n    return [k for k in os.environ if '_KEYS_' in k]\n")
        site.notebook("canary", f"print('{CANARY}')\n'{CANARY}'")
        site.pipeline("canary", steps={"a": {"notebook": "notebooks/canary.ipynb"}})
        site.pipeline(
            "waits",
            parameters={"flag": "str"},
            steps={"a": {"function": "waits:wait", "parameters": {"flag": "${flag}"}}},
        )
        site.pipeline("env", steps={"a": {"function": "env:keys"}})
        yield site


@pytest.fixture
def command(site: Site, monkeypatch):
    for name, value in {**site.settings(), "WORKBENCH_HOME": str(site.home)}.items():
        monkeypatch.setenv(name, value)
    application = typer.Typer()
    add_commands(application)

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(application, ["pipelines", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


def in_clear(folder: Path) -> list[Path]:
    return [each for each in folder.rglob("*") if each.is_file() and CANARY.encode() in each.read_bytes()]


def test_nothing_of_an_output_is_in_a_file_and_commands_show_it(site: Site, command, tmp_path: Path):
    with site.worker():
        run = site.run("canary")

    assert run.output("a").name == "output.ipynb.enc"
    assert CANARY in cells(run.output("a"))
    assert in_clear(site.home) == []
    number = str(run.page.run["id"])
    assert CANARY in command("output", number)
    command("output", number, "--step", "a", "--to", str(tmp_path / "it.ipynb"))
    assert json.loads((tmp_path / "it.ipynb").read_text())["nbformat"] == 4
    assert [entry.is_being_written for entry in site.keys.inventory.entries()] == [False, False]
    created = read_last_events(AuditLog.of(site.home).path, action=Action.KEYSET_CREATED, count=2)
    assert [each.actor for each in created] == ["pipelines"]


def test_keys_turn_while_a_step_runs_and_its_log_grows_on(site: Site, command, tmp_path: Path):
    flag = tmp_path / "go on"
    with site.worker():
        run_id = site.start_run("waits", flag=str(flag))
        site.wait_for_output(run_id, CANARY)
        assert turn(site.keys) == 2
        retire(site.keys, 1, destroy=True)
        site.wait_for_output(run_id, CANARY)
        flag.touch()
        run = site.ended(run_id)

    assert run.states == {"a": State.SUCCEEDED}
    assert "went on" in cells(run.output("a"))
    assert "went on" in command("output", str(run_id))
    assert in_clear(site.home) == []


def test_without_the_setting_they_are_in_clear(site: Site):
    with site.worker(WORKBENCH_PIPELINES_ENCRYPT_OUTPUTS="false"):
        run = site.run("canary")

    assert run.output("a").name == "output.ipynb"
    assert CANARY in json.dumps(json.loads(run.output("a").read_text()))


@pytest.mark.parametrize("kind", ["notebook", "function"])
def test_a_keyset_that_cannot_be_used_ends_a_step_and_leaves_nothing_in_clear(kind: str, tmp_path: Path):
    keys = make_keys(tmp_path / "home")
    (tmp_path / "home" / "keys" / "root.key").unlink()
    assignment = Assignment(
        kind=kind,
        target="canary:canary",
        roots=(),
        file=write_notebook(tmp_path / "n.ipynb", f"print('{CANARY}')") if kind == "notebook" else None,
        folder=tmp_path / "attempt",
        bindings=Bindings(),
        limits=JobLimits(),
        keys=keys,
    )

    async def run() -> Result:
        async with Runner(environment={}) as runner:
            return await runner.run(assignment, asyncio.Event())

    result = asyncio.run(run())

    assert result.state is State.INFRASTRUCTURE_ERROR
    assert "root.key cannot be read" in result.error
    assert list((tmp_path / "attempt").iterdir()) == []


def test_what_leads_to_the_root_key_is_not_in_the_environment_of_steps(site: Site, tmp_path: Path):
    # A home of its own: a keyset has one root key.
    with site.worker(**ROOT_KEY, WORKBENCH_HOME=str(tmp_path)):
        run = site.run("env")

    output = run.output("a")
    assert output.is_relative_to(tmp_path)
    content = json.loads(read_file(output, Keys.of(tmp_path, KeysSettings(**ROOT_KEY))))
    assert content["cells"][0]["outputs"][0]["data"] == {"text/plain": "[]"}


def test_a_worker_that_is_killed_loses_nothing_that_was_printed(site: Site, command, tmp_path: Path):
    with site.worker() as worker:
        run_id = site.start_run("waits", flag=str(tmp_path / "never"))
        site.wait_for_output(run_id, CANARY)
        worker.send_signal(signal.SIGKILL)
        worker.wait(10)

    assert CANARY in command("output", str(run_id))
    assert in_clear(site.home / "pipelines" / "runs" / str(run_id)) == []
    site.cancel(run_id)
