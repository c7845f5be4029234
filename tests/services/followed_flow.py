"""A flow that a process of its own follows, and the proof of what it has written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.services.workbench import ROOT, environment, wait_until
from workbench.errors import WorkbenchError
from workbench.ingestion.definition import Flow
from workbench.inspection import lag_of_flows, verify_flow
from workbench.settings import Settings

PROGRAM = """\
import logging, sys
from workbench.flows import Limits, follow_flow
from workbench.ingestion.definition import make_flow
from workbench.errors import WorkbenchError
from workbench.settings import Settings
logging.basicConfig(level=logging.WARNING)
flow = make_flow("followed", {fields!r})
limits = Limits(records=500, age_seconds=0.2, session_seconds=3.0)
try:
    follow_flow(Settings.load(), flow, lambda count: print(count, flush=True), limits=limits)
except WorkbenchError as error:
    sys.exit(f"{{type(error).__name__}}: {{error}}")
"""


@dataclass(frozen=True)
class Follower:
    """A process that follows a flow: prints a line for each commit, and warnings on stderr."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    @property
    def commits(self) -> int:
        return self.out.read_bytes().count(b"\n")

    @property
    def said(self) -> str:
        return self.err.read_text()

    def wait_for_commits(self, more: int, seconds: float = 60) -> None:
        """Wait until it has committed *more* times from now on."""
        goal = self.commits + more
        wait_until(
            lambda: self.commits >= goal or self.process.poll() is not None, seconds, f"{more} commits\n{self.said}"
        )
        assert self.process.poll() is None, self.said


@contextmanager
def following(home: Path, fields: Mapping[str, object], variables: Mapping[str, str]) -> Iterator[Follower]:
    """Follow the flow of these fields until the end of the block."""
    out, err = home / f"{fields['topic']}.out", home / f"{fields['topic']}.err"
    with out.open("ab") as output, err.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(fields=dict(fields))],
            env=environment(home, **variables), stdout=output, stderr=errors, cwd=ROOT,
        )  # fmt: skip
    try:
        yield Follower(process, out, err)
    finally:
        process.kill()
        process.wait(20)


def lag(settings: Settings, flow: Flow) -> int:
    """Offsets that the warehouse lacks; -1 while something does not answer, or nothing was claimed."""
    try:
        found = [each for _, _, lags in lag_of_flows(settings, flow) for each in lags]
    except WorkbenchError:
        return -1
    return sum(each.records for each in found) if found else -1


def wait_until_caught_up(settings: Settings, flow: Flow, follower: Follower, seconds: float = 60) -> None:
    """Wait until the warehouse has all offsets."""
    wait_until(
        lambda: lag(settings, flow) == 0 or follower.process.poll() is not None, seconds, f"the flow\n{follower.said}"
    )
    assert follower.process.poll() is None, follower.said


def assert_right(settings: Settings, flow: Flow, rows: int) -> None:
    """Every record is there once, and there are *rows*, none of them a dead letter."""
    reports = verify_flow(settings, flow)
    assert [(each.missing, each.doubled, each.outside, each.unknown) for each in reports] == [(0, 0, 0, 0)] * len(
        reports
    ), reports
    assert sum(each.dead for each in reports) == 0, reports
    assert sum(each.rows for each in reports) == rows, reports
