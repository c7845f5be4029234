"""What follows from what Kafka and the warehouse say, and how they are asked."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.definition.triggers import KafkaTrigger, TableTrigger, Trigger, WebhookTrigger
from pipelines.scheduler.outside import asking
from pipelines.scheduler.outside.asking import Asker, Key, Question
from pipelines.scheduler.outside.judging import TopicEnds, judge_lag, judge_records, judge_table
from pipelines.scheduler.schedules import trigger_name
from tests.services.workbench import wait_until
from workbench.errors import KafkaError

TEN = KafkaTrigger(topic="t", records=10)
BEHIND = KafkaTrigger(topic="t", lag=10, group="g")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def ends(*offsets: int, topic_id: str = "one", first: int = 0, committed: dict[int, int] | None = None) -> TopicEnds:
    numbers = range(len(offsets))
    return TopicEnds(
        topic_id=topic_id,
        first=dict.fromkeys(numbers, first),
        ends=dict(zip(numbers, offsets, strict=True)),
        committed=committed or {},
    )


def records(*looks: TopicEnds) -> list[str | None]:
    """The event of each look, one after the other."""
    position, events = None, []
    for each in looks:
        verdict = judge_records(TEN, position, each)
        events.append(verdict.event if verdict else None)
        position = verdict.position if verdict else position
    return events


def test_records_are_counted_from_the_last_run_over_all_partitions():
    assert records(ends(100, 7), ends(105, 11), ends(106, 11), ends(115, 11), ends(116, 11)) == [
        None, None, "t 10", None, "t 10",
    ]  # fmt: skip


def test_many_records_at_once_start_one_run():
    assert records(ends(0), ends(57), ends(58)) == [None, "t 57", None]


def test_all_records_of_a_new_partition_are_new():
    assert records(ends(100), ends(100, 9), ends(100, 10)) == [None, None, "t 10"]


def test_all_records_of_a_topic_made_anew_are_new():
    assert records(ends(100), ends(9, topic_id="two"), ends(10, topic_id="two"), ends(19, topic_id="two")) == [
        None, None, "t 10", None,
    ]  # fmt: skip


def test_a_log_that_was_truncated_is_counted_on_from_there():
    assert records(ends(100), ends(95), ends(104), ends(105)) == [None, None, None, "t 10"]


def test_a_broker_that_does_not_know_a_partition_yet_moves_nothing():
    assert records(ends(100, 50), ends(100), ends(100, 59), ends(100, 60)) == [None, None, None, "t 10"]
    assert records(ends(100, 50), ends(110), ends(110, 59), ends(110, 60)) == [None, "t 10", None, "t 10"]


@given(st.lists(st.integers(0, 30), max_size=40))
def test_no_record_is_lost_to_the_count_and_none_counts_twice(steps: list[int]):
    looks, total = [ends(0)], 0
    for step in steps:
        total += step
        looks.append(ends(total))

    counted = sum(int(each.split()[1]) for each in records(*looks) if each)

    assert total - 10 < counted <= total


def lag(*looks: tuple[int, int, bool]) -> list[bool]:
    """Whether each look, of end, committed offset and whether the last run goes on, starts one."""
    position, starts = None, []
    for end, committed, is_running in looks:
        verdict = judge_lag(BEHIND, position, ends(end, committed={0: committed}), is_running=is_running)
        starts.append(bool(verdict and verdict.event))
        position = verdict.position if verdict else position
    return starts


@pytest.mark.parametrize(
    ("looks", "starts"),
    [
        ([(9, 0, False), (10, 0, False)], [False, True]),
        # None while the one that it caused goes on, even if the group was there in between.
        ([(10, 0, False), (20, 0, True), (20, 20, True), (30, 20, True), (30, 20, False)], [1, 0, 0, 0, 1]),
        # A run that does not bring the group on is not followed by another, until the group was there.
        ([(10, 0, False), (10, 0, False), (50, 0, False), (50, 45, False), (60, 45, False)], [1, 0, 0, 0, 1]),
        # One that has brought it on, and not far enough, is.
        ([(50, 0, False), (50, 20, True), (50, 20, False), (50, 45, True)], [1, 0, 1, 0]),
    ],
)
def test_a_group_that_is_behind_starts_a_run_once(looks, starts):
    assert lag(*looks) == [bool(each) for each in starts]


def test_a_group_without_an_offset_has_all_that_are_kept_before_it():
    assert ends(100, 50, first=20, committed={1: 50}).lag == 80
    assert ends(100, first=20, committed={0: 5}).lag == 80


def test_a_table_that_changed_starts_a_run_and_the_first_look_none():
    first = judge_table("raw.t", None, {"snapshot": "a"}, is_changed=False)
    second = judge_table("raw.t", first.position, {"snapshot": "b"}, is_changed=True)

    assert (first.event, second.event, second.position) == (None, "raw.t", {"snapshot": "b"})
    assert judge_table("raw.t", second.position, {"snapshot": "c"}, is_changed=False) is None


def test_another_rule_is_another_schedule():
    rules = [
        Trigger(kafka=TEN),
        Trigger(kafka=KafkaTrigger(topic="t", records=11)),
        Trigger(kafka=KafkaTrigger(topic="t", records=10, cluster="c")),
        Trigger(kafka=BEHIND),
        Trigger(table=TableTrigger(name="raw.t")),
        Trigger(webhook=WebhookTrigger(secret="env:A")),
    ]

    assert len({trigger_name(each) for each in rules}) == len(rules)


class Answers:
    """A source that a test lets answer, fail or hang."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.openings, self.go = 0, threading.Event()
        self.go.set()

    @contextmanager
    def open(self):
        self.openings += 1
        yield self.ask

    def ask(self, questions):
        self.go.wait(120)
        if self.error:
            raise self.error
        refused = {key: KafkaError("no such topic") for key in questions if key.schedule == "wrong"}
        return {key: key.cursor for key in questions if key not in refused}, refused


@pytest.fixture
def source(monkeypatch):
    monkeypatch.setattr(asking, "EVERY_SECONDS", 0.01)
    source = Answers()
    source.asker = Asker("a source", source.open)
    yield source
    source.go.set()
    source.asker.end()


def ask(source: Answers, key: Key):
    return source.asker.ask(key, Question(Trigger(kafka=TEN), None))


def test_an_answer_is_for_the_row_that_was_asked_about(source: Answers):
    old, new = Key("p", "s", NOON), Key("p", "s", NOON + timedelta(seconds=1))
    wait_until(lambda: ask(source, old), 60, "an answer")

    first = ask(source, new)
    wait_until(lambda: ask(source, new), 60, "an answer for the row as it is now")

    assert first is None
    assert ask(source, new).found == new.cursor


def test_one_that_is_refused_holds_up_no_other_and_is_told_once(source: Answers, caplog):
    right, wrong = Key("p", "right", NOON), Key("p", "wrong", NOON)

    wait_until(lambda: (ask(source, wrong), ask(source, right))[1] and caplog.text, 60, "both")
    wait_until(lambda: ask(source, right), 60, "more rounds")

    assert ask(source, wrong) is None
    assert caplog.text.count("no such topic") == 1


def test_a_source_that_hangs_does_not_hold_up_who_asks(source: Answers):
    source.go.clear()
    wait_until(lambda: ask(source, Key("p", "s", NOON)) is None and source.openings, 60, "the thread to ask")

    assert ask(source, Key("p", "s", NOON)) is None


def test_a_source_that_fails_is_opened_again_and_told_of_once(source: Answers, caplog):
    source.error = KafkaError("nobody answers")
    wait_until(lambda: ask(source, Key("p", "s", NOON)) is None and source.openings > 3, 60, "some openings")
    source.error = ZeroDivisionError("of ours")
    wait_until(lambda: "of ours" in caplog.text, 60, "the bug to be told")
    source.error = None

    wait_until(lambda: ask(source, Key("p", "s", NOON)), 60, "an answer")
    assert caplog.text.count("nobody answers") == 1


def test_a_scheduler_without_such_triggers_loads_no_client_of_kafka():
    code = (
        "import sys, pipelines.scheduler.process\n"
        "print([each for each in ('confluent_kafka', 'kafka', 'workbench.ingestion', 'pyarrow') if each in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"
