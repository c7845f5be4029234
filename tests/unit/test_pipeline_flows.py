"""What follows when a flow's process ends, its files and its log, without a process."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from pipelines.definition import Project
from pipelines.definition.targets.flow import check_flow_name, flow_hash, is_flow_name
from pipelines.runner.flows.child import main
from pipelines.runner.flows.files import FlowFiles
from pipelines.runner.flows.log import LogTail
from pipelines.runner.flows.rules import (
    CORRECT,
    LOCK_TAKEN,
    MOST_SECONDS,
    TROUBLE_FREE_SECONDS,
    Cause,
    Ending,
    Started,
    Wanted,
    cause_to_end,
    delay_seconds,
    judge,
)
from pipelines.states import FlowState
from workbench.errors import NoSuchRun, WorkbenchError
from workbench.logs.rotation import LogLimits

WANTED = Wanted(is_running=True, generation=3, file_sha256="a", by="ada")
STOPPED = Wanted(is_running=False, generation=4, file_sha256="a", by="grace")


def after(ending: Ending, cause: Cause | None = None, wanted: Wanted = WANTED, failures: int = 0):
    return judge(ending, cause, wanted, worker="w", failures=failures, chance=0.5)


def test_the_delay_doubles_up_to_a_minute():
    assert [delay_seconds(each, 0.5) for each in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 32, 60]
    assert delay_seconds(10**9, 0.5) == MOST_SECONDS


@given(some.integers(1, 100), some.floats(0, 1))
def test_chance_moves_a_delay_by_a_fifth_at_most(failures: int, chance: float):
    plain = delay_seconds(failures, 0.5)

    assert 0.8 * plain - 1e-9 <= delay_seconds(failures, chance) <= min(1.2 * plain + 1e-9, MOST_SECONDS)


def test_trouble_is_forgotten_after_five_minutes_without():
    soon, late = Ending(1, TROUBLE_FREE_SECONDS - 1), Ending(1, TROUBLE_FREE_SECONDS)

    assert (after(soon, failures=5).failures, after(soon, failures=5).delay_seconds) == (6, 16)
    assert (after(late, failures=5).failures, after(late, failures=5).delay_seconds) == (1, 0.5)


@pytest.mark.parametrize(
    ("ending", "state", "reason"),
    [
        (Ending(1, 1, "the broker refuses"), FlowState.WAITING, "the broker refuses"),
        (Ending(CORRECT, 1, "mode is 'x'"), FlowState.FAILED, "mode is 'x'"),
        (Ending(137, 1), FlowState.WAITING, "its process was killed by SIGKILL"),
        (Ending(-9, 1), FlowState.WAITING, "its process was killed by SIGKILL"),
        (Ending(0, 1), FlowState.WAITING, "its process ended with code 0"),
        (Ending(3, 1), FlowState.WAITING, "its process ended with code 3"),
        (Ending(LOCK_TAKEN, 10), FlowState.WAITING, "the process before it has not ended yet on this machine"),
        (Ending(None, 0), FlowState.WAITING, "its process could not be started"),
    ],
)
def test_what_ended_by_itself_waits_or_has_failed_and_says_why(ending: Ending, state: FlowState, reason: str):
    found = after(ending)

    assert (found.state, found.reason) == (state, reason)
    assert bool(found.delay_seconds) is (state is FlowState.WAITING)


@pytest.mark.parametrize(
    ("cause", "wanted", "state", "reason"),
    [
        (Cause.STOP, STOPPED, FlowState.STOPPED, "stopped by grace"),
        (None, STOPPED, FlowState.STOPPED, "stopped by grace"),
        (Cause.LATE, STOPPED, FlowState.STOPPED, "stopped by grace"),
        (Cause.STOP, WANTED, FlowState.STARTING, "started anew by ada"),  # somebody has changed their mind
        (Cause.ANEW, WANTED, FlowState.STARTING, "started anew by ada"),
        (Cause.CHANGED, WANTED, FlowState.STARTING, "its file has changed"),
        (Cause.LEAVE, WANTED, FlowState.WAITING, "worker w was told to end"),
        (Cause.LATE, WANTED, FlowState.WAITING, "worker w could not reach the store"),
    ],
)
def test_what_was_ended_goes_on_as_is_wanted_now_and_is_no_failure(cause, wanted, state, reason):
    found = after(Ending(CORRECT, 1), cause, wanted, failures=4)

    assert (found.state, found.reason, found.failures, found.delay_seconds) == (state, reason, 0, 0)


@pytest.mark.parametrize(
    ("wanted", "is_leaving", "cause"),
    [
        (WANTED, False, None),
        (WANTED, True, Cause.LEAVE),
        (STOPPED, True, Cause.STOP),
        (Wanted(True, 4, "a"), False, Cause.ANEW),
        (Wanted(True, 3, "b"), False, Cause.CHANGED),
        (Wanted(True, 3, None), False, Cause.CHANGED),
    ],
)
def test_a_process_is_ended_when_something_else_is_wanted(wanted: Wanted, is_leaving: bool, cause: Cause | None):
    assert cause_to_end(Started(3, "a"), wanted, is_leaving=is_leaving) is cause


def test_only_names_that_are_files_of_flows_are_taken(tmp_path: Path):
    folder = tmp_path / "pipelines" / "flows"
    folder.mkdir(parents=True)
    for name in ("one", "with space"):
        (folder / f"{name}.yaml").write_text("topic: t\n")
    project = Project((tmp_path,))

    check_flow_name(project, "one")
    with pytest.raises(NoSuchRun, match="no flow 'two'; flows are one, with space"):
        check_flow_name(project, "two")
    with pytest.raises(WorkbenchError, match="cannot be kept running"):
        check_flow_name(project, "with space")
    assert not any(map(is_flow_name, ("", "..", "../x", "a/b", ".a", "a\n", "a" * 101)))
    before = flow_hash(project, "one")
    (folder / "one.yaml").write_text("topic: u\n")
    assert flow_hash(project, "one") != before
    assert flow_hash(project, "two") is None


def test_a_log_is_bounded_and_nobody_elses(tmp_path: Path):
    files = FlowFiles(tmp_path, "one")
    files.make_folders()
    with os.fdopen(os.open(files.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w") as log:
        for number in range(100):
            log.write(f"line {number}\n")
            log.flush()
            files.cut_log(LogLimits(size_bytes=200, keep=1))
        assert files.last_lines(1) == "line 99"

    kept = files.log.with_name("one.log.1").read_text() + files.log.read_text()
    assert files.log.stat().st_size <= 200
    assert len(kept.splitlines()) > 20
    assert kept.splitlines() == [f"line {number}" for number in range(100)][-len(kept.splitlines()) :]
    assert {stat.S_IMODE(each.stat().st_mode) for each in files.log.parent.iterdir()} == {0o600}
    assert stat.S_IMODE(files.log.parent.stat().st_mode) == 0o700


def test_a_tail_begins_near_the_end_goes_on_and_steers_no_terminal(tmp_path: Path):
    log = tmp_path / "log"
    assert LogTail.near_end(log, 2).new_text() == ""
    log.write_bytes(b"one\ntwo\nthree\n")
    tail = LogTail.near_end(log, 2)

    assert (tail.new_text(), tail.new_text(), tail.has_more) == ("two\nthree\n", "", False)
    with log.open("ab") as file:
        file.write("\x1b]0;owned\x07\x1b[2Jé".encode()[:-1])
    assert tail.new_text() == "]0;owned[2J"
    other = LogTail(log, tail.position)
    with log.open("ab") as file:
        file.write("é\n".encode()[1:])
    assert (tail.new_text(), other.new_text()) == ("é\n", "é\n")
    log.write_bytes(b"anew\n")
    assert (tail.has_more, tail.new_text()) == (True, "anew\n")
    log.write_text("é" * 40_000 + "\n")
    assert set(LogTail.near_end(log, 2).new_text()) == {"é", "\n"}


def test_a_process_whose_flow_has_no_file_says_so_and_asks_for_a_person(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    (tmp_path / "flows").mkdir()

    code = main(["gone", str(tmp_path / "flows"), str(tmp_path / "told"), str(tmp_path)])

    assert code == CORRECT
    assert "there is no flow 'gone'" in (tmp_path / "told").read_text()
