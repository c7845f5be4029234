"""A real `workbench up` as a subprocess, in a home of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from workbench.embedded.jars import ensure_jars, read_lock
from workbench.resources import resource
from workbench.runtime.state import read_status
from workbench.sections import variables

ROOT = resource("pyproject.toml").parent
COMMAND = Path(sys.executable).parent / "workbench"
UP_SECONDS = 180
STARTED_SECONDS = 120  # for a process of Python to start and do its first work, with other tests on the same processors
POLL_SECONDS = 0.1
STARTING_POLL_SECONDS = 0.5  # each look adds up the memory of all processes


@dataclass(frozen=True)
class RunningWorkbench:
    """A workbench that answers."""

    home: Path
    process: subprocess.Popen[bytes] | psutil.Process

    def status(self) -> dict[str, Any]:
        """What `workbench status --json` prints, without a second of processor time for its imports."""
        return json.loads(read_status(self.home).as_json())

    def component(self, name: str) -> dict[str, Any]:
        return next(each for each in self.status()["components"] if each["name"] == name)

    @property
    def url(self) -> str:
        return str(self.status()["url"])

    @property
    def sign_in_code(self) -> str:
        return run("code", home=self.home).stdout.strip()

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


def make_home(folder: Path) -> Path:
    """A WORKBENCH_HOME whose jars are those of the checkout, fetched once."""
    jars = ROOT / ".workbench" / "jars"
    ensure_jars(jars, read_lock(), repository=os.environ.get("WORKBENCH_EMBEDDED_JARS_REPOSITORY", ""))
    home = folder / "home"
    home.mkdir(parents=True)
    (home / "jars").symlink_to(jars)
    return home


def environment(home: Path, **extra: str) -> dict[str, str]:
    """The environment of a child: nothing of the settings but what is given."""
    clean = {name: value for name, value in os.environ.items() if name not in variables()}
    return {**clean, "WORKBENCH_HOME": str(home), **extra}


def run(*arguments: str, home: Path, timeout: float = 180, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run the `workbench` command and return what it printed."""
    return subprocess.run(
        [COMMAND, *arguments],
        env=environment(home, **extra),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=home,
    )


@contextmanager
def running_workbench(home: Path, *, until: str = "spark", **extra: str) -> Iterator[RunningWorkbench]:
    """Start `workbench up`, wait until the component *until* runs, and stop it at the end."""
    log = home / "up.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [COMMAND, "up"], env=environment(home, **extra), stdout=output, stderr=output, cwd=home
        )
    workbench = RunningWorkbench(home, process)
    try:
        wait_until(
            lambda: is_running(workbench, until) or process.poll() is not None,
            UP_SECONDS,
            f"{until} to run",
            every_seconds=STARTING_POLL_SECONDS,
        )
        assert process.poll() is None, log.read_text()
        yield workbench
    finally:
        stop(workbench)


def is_running(workbench: RunningWorkbench, name: str) -> bool:
    """Whether the hub's address is out and the component runs."""
    status = workbench.status()
    return bool(status["url"]) and any(
        each["name"] == name and each["state"] == "running" for each in status["components"]
    )


def stop(workbench: RunningWorkbench) -> None:
    """Stop it as Ctrl-C does."""
    if workbench.process.poll() is None:
        workbench.process.send_signal(signal.SIGINT)
        workbench.process.wait(90)


def wait_until(
    condition: Callable[[], object], seconds: float, what: str, *, every_seconds: float = POLL_SECONDS
) -> None:
    """Wait for a fact; fail with *what* when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(every_seconds)


def process_arguments(processes: list[psutil.Process]) -> Mapping[int, str]:
    """Command lines by process id, of those that still run."""
    found = {}
    for process in processes:
        try:
            if process.is_running():  # another may have its number by now
                found[process.pid] = " ".join(process.cmdline())
        except psutil.Error:
            continue
    return found
