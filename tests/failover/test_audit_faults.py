"""The audit log while its writers are killed and its disk is full: nothing acknowledged is lost, and the proof stays whole."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import needs
from tests.services.workbench import ROOT
from workbench.security.audit import AuditLog, read_events
from workbench.security.audit.proof.checkpointer import Checkpointer
from workbench.security.audit.proof.signing import SigningKey
from workbench.security.audit.proof.verification import Verdict, verify

MOUNT = 'mount -t tmpfs -o size=400k,mode=0700 none "$1" && shift && exec "$@"'
PROGRAM = (sys.executable, "-m", "tests.services.audit_crash")
WRITER = """
import sys, threading
from pathlib import Path
from workbench.security.audit import AuditLog, Event
from workbench.security.audit.proof.checkpointer import Checkpointer

log = AuditLog(Path(sys.argv[1]) / "audit" / "events.jsonl", 20_000)
checkpointer = Checkpointer(log, Path(sys.argv[1]) / "keys" / "audit-signing", seconds=0.05)

def write():
    while True:
        event = Event("writer", "logout", "hub", "success", {"filling": "x" * 200})
        log.append(event)
        sys.stdout.write(event.id + "\\n")
        sys.stdout.flush()

for _ in range(3):
    threading.Thread(target=write, daemon=True).start()
while True:
    checkpointer.tick()
"""


def result_of(command: list[str]) -> dict[str, Any]:
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def test_a_writer_is_killed_at_each_of_its_system_calls_and_the_next_one_goes_on(tmp_path: Path):
    found = result_of([*PROGRAM, "steps", str(tmp_path)])

    assert found["wrong"] == []
    assert found["kills"] > 100
    assert found["torn"] > 10  # lines that were cut off, each told of


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_writers_of_many_threads_are_killed_at_seeded_instants(tmp_path: Path, seed: int):
    chance = random.Random(seed)
    acknowledged: list[str] = []
    for _ in range(2):
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT, text=True)
            for _ in range(3)
        ]
        for writer in writers:
            assert writer.stdout
            acknowledged += [writer.stdout.readline().strip() for _ in range(chance.randint(5, 120))]
        for writer in chance.sample(writers, 3):
            writer.send_signal(signal.SIGKILL)
        for writer in writers:
            assert writer.stdout
            # Without its line feed, it may be half an id.
            acknowledged += [line.strip() for line in writer.stdout if line.endswith("\n")]
            writer.stdout.close()
            writer.wait()

    log, checkpointer = AuditLog.of(tmp_path), Checkpointer.of(tmp_path)
    checkpointer.tick(is_forced=True)
    report = verify(log.path, [SigningKey.read(checkpointer.key_path).public])
    found = [each.id for each in read_events(log.path)]

    assert [str(each) for each in report.problems] == []
    assert report.verdict is Verdict.WHOLE
    assert report.checkpoints > 1
    assert set(acknowledged) <= set(found)
    assert len(found) == len(set(found))


def test_a_full_disk_is_named_and_costs_nothing_that_was_acknowledged(tmp_path: Path):
    needs(os.geteuid() == 0 and shutil.which("unshare") is not None, "root and unshare")
    mount = ("sh", "-c", MOUNT, "mount", str(tmp_path))

    found = result_of(["unshare", "--mount", "--propagation", "private", *mount, *PROGRAM, "full", str(tmp_path)])

    assert "the disk is full: No space left on device" in found["error"]
    assert found["acknowledged"] > 10
    assert (found["lost"], found["problems"], found["ended"]) == (0, [], True)
