from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.states import State
from pipelines.store.events import storable
from pipelines.store.records import NewRun, NewStep, Outcome, Retries, Trigger
from pipelines.store.runs.moves import Step, next_moves, run_end, with_followers

QUEUED, RUNNING, GOOD, BAD = State.QUEUED, State.RUNNING, State.SUCCEEDED, State.FAILED
ENDS = [state for state in State if state.is_end]


def run(*steps: NewStep, **more: object) -> NewRun:
    return NewRun(pipeline="p", trigger=Trigger.MANUAL, definition_sha256="0", steps=steps, **more)


def test_a_step_is_ready_when_all_that_it_waits_for_has_succeeded():
    steps = [Step("a", (), GOOD), Step("b", (), RUNNING), Step("c", ("a",), QUEUED), Step("d", ("a", "b"), QUEUED)]

    moves = next_moves(steps, None)

    assert moves.ready == {"c"}
    assert not moves.ended


def test_a_step_in_the_queue_is_not_put_there_again():
    assert next_moves([Step("a", (), QUEUED, is_in_queue=True)], None).ready == set()


def test_failure_cancels_all_that_follows_and_names_the_cause_of_each():
    steps = [Step("a", (), BAD), Step("b", ("a",), QUEUED), Step("c", ("b",), QUEUED), Step("d", (), QUEUED)]

    moves = next_moves(steps, None)

    assert moves.ready == {"d"}
    assert moves.ended == {
        "b": (State.CANCELLED, "a ended failed"),
        "c": (State.CANCELLED, "b ended cancelled"),
    }


def test_what_follows_a_skipped_step_is_skipped_unless_something_else_went_wrong():
    steps = [Step("a", (), State.SKIPPED), Step("b", (), BAD), Step("c", ("a",), QUEUED), Step("d", ("a", "b"), QUEUED)]

    ended = next_moves(steps, None).ended
    early = next_moves([steps[0], Step("b", (), RUNNING), *steps[2:]], None).ended

    assert set(early) == {"c"}
    assert {name: state for name, (state, _) in ended.items()} == {"c": State.SKIPPED, "d": State.CANCELLED}


def test_nothing_begins_in_a_run_that_is_stopped():
    moves = next_moves([Step("a", (), QUEUED), Step("b", (), RUNNING)], "ann wants it")

    assert moves.ready == set()
    assert moves.ended == {"a": (State.CANCELLED, "ann wants it")}


@given(st.lists(st.sampled_from(ENDS), min_size=1), st.sampled_from([None, State.CANCELLED, State.TIMED_OUT]))
def test_a_run_succeeds_only_when_every_step_has_succeeded_or_was_skipped(states, stop):
    end = run_end(states, stop)

    good = set(states) <= {GOOD, State.SKIPPED}
    assert (end in {GOOD, State.SKIPPED}) == good
    assert run_end([*states, RUNNING], stop) is None
    if not good and stop is None:
        assert end in states


def test_repair_takes_what_follows_from_the_chosen_steps():
    steps = [Step("a", (), GOOD), Step("b", ("a",), GOOD), Step("c", ("b",), GOOD), Step("d", ("a",), GOOD)]

    assert with_followers(["b"], steps) == {"b", "c"}


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ((), "a run has steps"),
        ((NewStep(name="a"), NewStep(name="a")), "no two of one name"),
        ((NewStep(name="a", after=("z",)),), "wait for ['z'], which are not there"),
        ((NewStep(name="a", after=("b",)), NewStep(name="b", after=("a",))), "wait for each other: "),
    ],
    ids=["none", "twice", "unknown", "cycle"],
)
def test_a_run_that_could_never_end_is_refused(steps, said):
    with pytest.raises(ValueError) as caught:
        run(*steps)

    assert said in str(caught.value)


def test_an_outcome_is_an_end():
    with pytest.raises(ValueError, match="does not end running"):
        Outcome(state=RUNNING)


def test_the_key_is_the_same_instant_in_every_zone():
    from datetime import UTC, datetime
    from zoneinfo import ZoneInfo

    instant = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    here, there = (
        run(NewStep(name="a"), instant=each) for each in (instant, instant.astimezone(ZoneInfo("Asia/Tokyo")))
    )

    assert here.key == there.key
    assert here.key != run(NewStep(name="a"), instant=instant, backfill_id=1).key


def test_retries_wait_longer_each_time_and_no_longer_than_the_most():
    retries = Retries(limits={BAD: 9}, first_seconds=1, factor=3, most_seconds=10, jitter=0)

    assert [retries.delay_seconds(BAD, times, 0.5) for times in (1, 2, 3, 4)] == [1, 3, 9, 10]
    assert retries.delay_seconds(State.TIMED_OUT, 1, 0.5) is None
    assert Retries.from_json(retries.as_json()) == retries


def test_a_lost_step_is_taken_over_at_once_the_first_time():
    assert [Retries(jitter=0).delay_seconds(State.LOST, times, 0.5) for times in (1, 2, 3)] == [0, 5, None]


@given(st.integers(1, 9), st.floats(0, 1))
def test_chance_changes_a_delay_by_its_share_at_most(times, chance):
    plain = Retries(limits={BAD: 9}, jitter=0).delay_seconds(BAD, times, chance)
    delay = Retries(limits={BAD: 9}, jitter=0.2).delay_seconds(BAD, times, chance)

    assert 0.79 * plain <= delay <= 1.21 * plain


@given(st.text(st.characters(exclude_categories=[]), max_size=50))
def test_every_text_becomes_one_that_postgresql_takes(text):
    kept = storable(text, 40)

    assert "\0" not in kept
    kept.encode("utf-8")
    assert len(kept) <= 40
