"""Reports of Spark folded into operations, and operations as text and HTML."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from workbench.cells.progress_view import progress_html
from workbench.transformation.progress import Operation, Outcome, Recorder, Stage, operation_line, summary_line
from workbench.transformation.progress.operations import ended, reported
from workbench.transformation.progress.text import length, size


@dataclass
class Report:
    stage_id: int
    num_tasks: int
    num_completed_tasks: int
    num_bytes_read: int = 0
    done: bool = False


BEGUN = Operation(id="a", what="df.count()", started=datetime(2026, 1, 1, tzinfo=UTC))


def test_a_stage_that_a_report_leaves_out_stays_as_it_was():
    first = reported(BEGUN, [Report(1, 8, 8, 100, True), Report(2, 4, 0)], 2)
    second = reported(first, [Report(2, 4, 3, 50)], 1)

    assert [(each.id, each.tasks_done) for each in second.stages] == [(1, 8), (2, 3)]
    assert (second.tasks, second.tasks_done, second.bytes_read, second.tasks_running) == (12, 11, 150, 1)


def test_what_is_done_has_no_task_left_and_no_stage_that_was_skipped():
    running = reported(BEGUN, [Report(1, 8, 8, 0, True), Report(2, 8, 0), Report(3, 2, 1)], 1)

    done = ended(running, Outcome.DONE, 2.0)
    failed = ended(running, Outcome.FAILED, 2.0, "ValueError: no")

    assert [(each.id, each.tasks_done) for each in done.stages] == [(1, 8), (3, 2)]
    assert (failed.tasks_done, failed.tasks, failed.tasks_running) == (9, 18, 0)


def test_an_operation_is_one_line():
    done = replace(
        BEGUN,
        outcome=Outcome.DONE,
        seconds=12.44,
        rows=1234,
        stages=(Stage(id=1, tasks=8, tasks_done=8, bytes_read=3 * 2**20, is_done=True),),
    )

    assert operation_line(done) == "Spark: done in 12.4 s · 1 stage · 8 of 8 tasks · 3.0 MiB read · 1,234 rows"
    assert operation_line(replace(BEGUN, outcome=Outcome.CANCELLED, seconds=1)) == "Spark: cancelled after 1.0 s"
    failed = replace(BEGUN, outcome=Outcome.FAILED, seconds=1, error="ValueError: no")
    assert operation_line(failed) == "Spark: failed after 1.0 s · ValueError: no"


def test_several_operations_are_their_sums_and_what_went_wrong():
    done = replace(BEGUN, outcome=Outcome.DONE, seconds=1.5, rows=2)
    failed = replace(BEGUN, outcome=Outcome.FAILED, seconds=0.5, error="no")

    assert summary_line([done, done, failed]) == "Spark: 3 operations in 3.5 s · 4 rows · 1 failed"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")]
)
def test_lengths_are_read_at_a_glance(seconds, text):
    assert length(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 * 2**40, "5.0 TiB")])
def test_sizes_are_read_at_a_glance(count, text):
    assert size(count) == text


def test_a_recorder_keeps_the_last_and_tells_begin_and_end():
    recorder, told = Recorder(longest=3), []
    recorder.listen(lambda operation, _: told.append((operation.id, operation.outcome)))

    for number in range(5):
        recorder.begin(str(number), "x", lambda: None)
        recorder.report(str(number), [Report(1, 2, 1)], 1)
        recorder.end(str(number), Outcome.DONE)

    assert [each.id for each in recorder.operations()] == ["2", "3", "4"]
    assert told[-2:] == [("4", "running"), ("4", "done")]
    assert list(recorder.history()["tasks"]) == [2, 2, 2]


def test_what_fails_in_a_listener_does_not_reach_the_query():
    recorder, told = Recorder(), []
    recorder.listen(lambda *_: 1 / 0)
    recorder.listen(lambda operation, _: told.append(operation.id))

    recorder.begin("a", "x", lambda: None)

    assert told == ["a"]


def test_operations_of_threads_are_kept_apart():
    recorder = Recorder()

    def work(name: str, tasks: int) -> None:
        recorder.begin(name, name, lambda: None)
        for done in range(tasks + 1):
            recorder.report(name, [Report(1, tasks, done)], 0)
        recorder.end(name, Outcome.DONE)

    threads = [threading.Thread(target=work, args=(str(n), n)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {each.id: each.tasks_done for each in recorder.operations()} == {str(n): n for n in range(1, 9)}


def test_a_bar_for_all_and_one_for_each_stage_at_work():
    running = reported(BEGUN, [Report(1, 8, 8, 0, True), Report(2, 4, 1), Report(3, 4, 0)], 2)

    html = progress_html([running], executors=3)

    assert html.count('role="progressbar"') == 3
    assert "9 of 16 tasks, 2 running" in html
    assert "1 of 4 tasks, 2 running" in html
    assert "3 executors" in html


def test_code_in_the_view_is_text():
    assert "<script>" not in progress_html([replace(BEGUN, what="<script>alert(1)</script>")])
