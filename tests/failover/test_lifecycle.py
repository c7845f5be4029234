"""What happens to the servers when one of them, or the workbench itself, is killed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.services.canaries import files_below
from tests.services.workbench import (
    POLL_SECONDS,
    RunningWorkbench,
    make_home,
    process_arguments,
    run,
    running_workbench,
    wait_until,
)
from workbench.runtime.process import is_lock_held

GONE_SECONDS = 30


@pytest.fixture(scope="module")
def own_workbench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWorkbench]:
    with running_workbench(make_home(tmp_path_factory.mktemp("lifecycle")), until="hub") as workbench:
        yield workbench


def recovers(workbench: RunningWorkbench, name: str, restarts: int) -> None:
    def is_back() -> bool:
        component = workbench.component(name)
        return bool(component["state"] == "running" and component["restarts"] > restarts)

    wait_until(is_back, 90, f"{name} to run again")


def secrets_of(home: Path) -> list[str]:
    """The texts in keys/ that nobody else may know; certificates, locks and the inventory are none."""
    found = []
    for path in files_below(home / "keys"):
        if path.suffix not in {".db", ".lock"} and "pem" not in path.name:
            with suppress(FileNotFoundError):  # a temporary file that has got its own name meanwhile
                found.append(path.read_text().strip())
    return found


def is_open(path: Path) -> bool:
    """Whether others than its owner may do anything with it."""
    try:
        return bool(path.stat().st_mode & 0o077)
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("name", ["warehouse", "kafka", "identity", "hub"])
def test_a_server_that_is_killed_is_started_again(own_workbench, name):
    before = own_workbench.component(name)

    os.kill(before["pid"], signal.SIGKILL)

    recovers(own_workbench, name, before["restarts"])
    assert own_workbench.component(name)["pid"] != before["pid"]


def test_a_guard_that_is_killed_takes_its_server_along_and_both_come_back(own_workbench):
    before = own_workbench.component("hub")

    os.kill(psutil.Process(before["pid"]).ppid(), signal.SIGKILL)

    recovers(own_workbench, "hub", before["restarts"])


def test_killed_itself_it_leaves_nothing_and_starts_again_at_once(tmp_path: Path):
    home = make_home(tmp_path)
    with running_workbench(home, until="hub") as first:
        processes = first.descendants()
        assert len(processes) > 6
        run("sql", "CREATE TABLE kept AS SELECT 42 AS n", home=home)
        first.process.kill()
        first.process.wait()

        with running_workbench(home, until="hub"):
            kept = run("sql", "SELECT n FROM kept", "--json", home=home).stdout

        wait_until(lambda: not process_arguments(processes), GONE_SECONDS, "the first run's processes to end")
    assert kept == '[{"n":42}]\n'


def test_down_stops_everything_and_leaves_no_secret_file_behind(tmp_path: Path):
    home = make_home(tmp_path)
    with running_workbench(home, until="hub") as workbench:
        processes = workbench.descendants()

        done = run("down", home=home)

        assert done.stdout == "Stopped.\n"
        assert workbench.process.wait(30) == 0
        assert process_arguments(processes) == {}
        assert not (home / "run" / "embedded.env").exists()
        assert not any(is_lock_held(lock) for lock in (home / "run").glob("*.lock"))
        assert run("status", home=home).returncode == 1
        assert run("down", home=home).stdout == "Not running.\n"


def test_a_second_up_tells_of_the_first(own_workbench):
    done = run("up", home=own_workbench.home)

    assert (done.returncode, done.stdout) == (
        0,
        f"Already running (pid {own_workbench.process.pid}): {own_workbench.url}\n",
    )


def test_status_tells_state_address_pid_and_memory(own_workbench):
    def components() -> dict[str, dict[str, Any]]:
        told = json.loads(run("status", "--json", home=own_workbench.home).stdout)
        return {each["name"]: each for each in told["components"]}

    def without_process() -> list[dict[str, Any]]:
        return [
            each
            for each in components().values()
            if each["name"] != "spark" and not (each["pid"] and each["memory_bytes"] > 1_000_000)
        ]

    # Schedulers and workers come once the door is open, and listen nowhere.
    deadline = time.monotonic() + 90
    while (missing := without_process()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    assert missing == []
    addresses = {name: each["address"] for name, each in components().items()}
    assert {name for name, each in addresses.items() if each} >= {"kafka", "warehouse", "identity", "hub"}


def test_no_secret_is_in_a_command_line_and_no_private_file_is_readable(own_workbench):
    home = own_workbench.home
    secrets = secrets_of(home)

    shown = " ".join(process_arguments(own_workbench.descendants()).values())

    assert len(secrets) >= 6
    assert not [secret for secret in secrets if secret in shown]
    private = [home / "keys", home / "run", home / "logs", home / "hub", home / "kafka"]
    assert not [path for path in private if path.stat().st_mode & 0o077]
    assert not [path for path in (home / "keys").rglob("*") if is_open(path)]


def test_no_secret_is_in_a_log(own_workbench):
    home = own_workbench.home
    secrets = secrets_of(home)

    logs = "".join(path.read_text(errors="replace") for path in (home / "logs").glob("*.log"))

    assert len(logs) > 1000
    assert not [secret for secret in secrets if secret in logs]


def test_doctor_finds_nothing_wrong(own_workbench):
    done = run("doctor", home=own_workbench.home)

    assert "FIX" not in done.stdout
    assert done.returncode == 0


def test_ctrl_c_ends_it_in_order(tmp_path: Path):
    home = make_home(tmp_path)
    with running_workbench(home, until="hub") as workbench:
        processes = workbench.descendants()
        started = time.monotonic()

        for _ in range(3):  # an impatient person
            workbench.process.send_signal(signal.SIGINT)

        assert workbench.process.wait(60) == 0
        assert time.monotonic() - started < 60
        assert process_arguments(processes) == {}
