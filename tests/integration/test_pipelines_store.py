"""The store of pipelines on a real PostgreSQL: what a run, a worker and a scheduler may rely on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from pydantic import SecretStr

from pipelines.acting import cancel_backfill, repair_run
from pipelines.monitor.own import Pipelines
from pipelines.states import State
from pipelines.store import migrations
from pipelines.store.claims import reaping
from pipelines.store.claims.beating import beat
from pipelines.store.claims.reaping import reap
from pipelines.store.claims.writing import find_reusable, finish, point_output, record_events
from pipelines.store.database import Store
from pipelines.store.events import read_events
from pipelines.store.migrations import read_revision
from pipelines.store.outbox import post, sent, take_messages
from pipelines.store.pages.measures import read_ended
from pipelines.store.pages.overview import (
    list_pipelines,
    list_schedules,
    list_skips,
    list_workers,
    read_owner,
    read_queue,
)
from pipelines.store.pages.runs import page_of_runs, read_run, run_matrix
from pipelines.store.records import ELSEWHERE, Event, Message, NewRun, NewStep, Outcome, Reprocess, Retries, Trigger
from pipelines.store.retention import Removal, due_removals, let_go, old_runs, removed
from pipelines.store.runs.backfills import make_backfill, pause_backfill, preview, read_backfills, stop_backfill
from pipelines.store.runs.making import PipelineLimits, make_runs, register, set_pool
from pipelines.store.runs.schedules import (
    Tick,
    advance,
    ensure_schedule,
    pause_schedule,
    read_schedules,
    resume_schedule,
)
from pipelines.store.runs.stopping import repair, stop
from pipelines.store.tables import METADATA
from pipelines.store.troubles import tell_too_long
from tests.services.pipelines_store import (
    WORKER,
    ask,
    claim,
    emptied,
    lose,
    new_run,
    new_store,
    store_server,
    store_settings,
)
from tests.services.postgres_server import DATABASE
from workbench.errors import ClaimLost, NoSuchRun, StoreError, StoreTooNew, StoreUnavailable
from workbench.observability import metrics
from workbench.runtime.ports import any_free
from workbench.sections import WarehouseSettings

OK = Outcome(state=State.SUCCEEDED, output_path="out.ipynb")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with store_server(tmp_path_factory.mktemp("store") / "home") as server:
        yield server


@pytest.fixture(scope="module")
def shared_store(server):
    with new_store(server) as store:
        yield store


@pytest.fixture
def store(shared_store):
    return emptied(shared_store)


def end(store, taken, outcome=OK):
    with store.transaction() as connection:
        finish(connection, taken, outcome, chance=lambda: 0.5)


def states(store, run):
    return dict(ask(store, f"SELECT name, state FROM pipelines.steps WHERE run_id = {run}"))


def run_state(store, run):
    return ask(store, f"SELECT state FROM pipelines.runs WHERE id = {run}")[0][0]


def test_a_run_succeeds_when_its_steps_have_in_order(store):
    run = new_run(store, NewStep(name="a"), NewStep(name="b", after=("a",)))

    first = claim(store)
    assert claim(store) is None
    end(store, first)
    second = claim(store)
    end(store, second)

    assert (first.step, second.step) == ("a", "b")
    assert run_state(store, run) == "succeeded"
    assert ask(store, "SELECT count(*) FROM pipelines.queue") == [(0,)]


def test_what_waits_for_a_failed_step_is_cancelled_with_the_reason(store):
    run = new_run(store, NewStep(name="a"), NewStep(name="b", after=("a",)), NewStep(name="c", after=("b",)))

    end(store, claim(store), Outcome(state=State.FAILED, cell=3, error="ValueError: no"))

    assert states(store, run) == {"a": "failed", "b": "cancelled", "c": "cancelled"}
    assert ask(store, "SELECT reason FROM pipelines.steps WHERE name = 'b'") == [("a ended failed",)]
    assert run_state(store, run) == "failed"
    assert ask(store, "SELECT kind FROM pipelines.outbox") == [("alert",)]


def test_a_worker_that_was_taken_over_writes_nothing(store):
    run = new_run(store)
    zombie = claim(store)
    lose(store, zombie)
    assert reap(store) == 1
    heir = claim(store)

    for write in (
        lambda connection: finish(connection, zombie, OK),
        lambda connection: record_events(connection, zombie, [Event("output", "x")]),
    ):
        with pytest.raises(ClaimLost), store.transaction() as connection:
            write(connection)
    with store.transaction() as connection:
        assert beat(connection, WORKER, [zombie, heir]).lost == {zombie.attempt_id}

    end(store, heir)
    assert heir.attempt_id > zombie.attempt_id
    assert run_state(store, run) == "succeeded"
    assert ask(store, "SELECT state FROM pipelines.attempts ORDER BY id") == [("lost",), ("succeeded",)]
    with store.transaction() as connection:
        assert [event.kind for event in read_events(connection, run)] == ["retry", "step", "run"]


def test_the_tables_are_those_that_the_code_knows(store):
    with store.transaction() as connection:
        context = MigrationContext.configure(connection, opts={"include_schemas": True, "include_name": is_ours})
        differences = [each for each in compare_metadata(context, METADATA) if each[0] != "remove_index"]

    assert differences == []


def test_the_revision_that_needs_no_migration_is_the_newest():
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))

    assert scripts.get_current_head() == migrations.HEAD


def is_ours(name, kind, parents):
    return name == "pipelines" if kind == "schema" else name != "alembic_version"


def test_migrating_again_changes_nothing_and_a_newer_store_is_refused(server):
    with new_store(server) as store:
        refuse_newer(store)


def refuse_newer(store):
    store.migrate()
    with store.transaction() as connection:
        assert read_revision(connection) == "0007"
        connection.exec_driver_sql("UPDATE pipelines.alembic_version SET version_num = '9999'")

    with pytest.raises(StoreTooNew, match="revision 9999"):
        store.migrate()


def test_a_store_without_tables_says_what_to_run(server):
    address = store_settings(server, DATABASE).as_warehouse(WarehouseSettings())

    with Store(address) as store, pytest.raises(StoreError, match=r"Store\.migrate"):
        new_run(store)


def test_a_wrong_password_is_told_without_it_and_a_server_that_is_gone_may_come_back(server):
    address = store_settings(server, DATABASE).as_warehouse(WarehouseSettings())
    wrong = address.model_copy(update={"password": SecretStr("wr0ng-canary")})
    gone = address.model_copy(update={"port": any_free()})

    with Store(wrong) as store, pytest.raises(StoreError) as caught, store.transaction():
        pass
    assert not isinstance(caught.value, StoreUnavailable)
    assert "wr0ng-canary" not in f"{caught.value}{store!r}"
    with Store(gone) as store, pytest.raises(StoreUnavailable), store.transaction():
        pass


def test_a_run_is_made_once_for_each_instant(store):
    instant = datetime(2026, 1, 1, tzinfo=UTC)
    run = new_run(store, trigger=Trigger.SCHEDULE, instant=instant, event_id=None)

    with pytest.raises(KeyError):
        new_run(store, trigger=Trigger.SCHEDULE, instant=instant, event_id=None)

    assert ask(store, "SELECT id FROM pipelines.runs") == [(run,)]


def test_a_pool_that_is_not_there_is_refused_before_a_run_waits_for_it(store):
    with pytest.raises(StoreError, match="there is no pool spark"):
        new_run(store, NewStep(name="a", pools=("spark",)))

    assert ask(store, "SELECT count(*) FROM pipelines.runs") == [(0,)]


def test_what_json_lacks_is_refused_and_so_is_a_run_of_no_pipeline(store):
    with pytest.raises(StoreError, match="is no JSON"):
        new_run(store, parameters={"x": float("nan")})
    with pytest.raises(StoreError, match="Register the pipeline"), store.transaction() as connection:
        run = NewRun(pipeline="x", trigger=Trigger.MANUAL, definition_sha256="0", steps=(NewStep(name="a"),))
        make_runs(connection, [run])


def test_the_next_step_is_live_then_by_priority_then_of_the_oldest_run(store):
    with store.transaction() as connection:
        sha256 = register(connection, "p", {})
        old = NewRun(
            pipeline="p", trigger=Trigger.MANUAL, definition_sha256=sha256, steps=(NewStep(name="a"),), partition="x"
        )
        make_backfill(connection, [old], Reprocess.ALL, slots=1, requested_by="ann")
    first, second, urgent = new_run(store), new_run(store), new_run(store, priority=5)

    taken = [claim(store) for _ in range(4)]

    assert [each.run_id for each in taken[:3]] == [urgent, first, second]
    assert taken[3].partition == "x"


def test_a_pipeline_runs_no_more_runs_at_once_than_it_may(store):
    steps = (NewStep(name="a"), NewStep(name="b", after=("a",)))
    for _ in range(2):
        new_run(store, *steps, limits=PipelineLimits(max_runs=1))

    first = claim(store)
    assert claim(store) is None
    end(store, first)
    second = claim(store)
    assert (second.run_id, second.step) == (first.run_id, "b")
    end(store, second)

    assert claim(store).run_id != first.run_id


def test_a_failure_is_tried_again_as_its_policy_says_and_then_ends(store):
    retries = Retries(limits={State.FAILED: 1}, first_seconds=0)
    run = new_run(store, NewStep(name="a", retries=retries))
    failed = Outcome(state=State.FAILED, cell=1, error="Traceback\nValueError: no\0thing \ud800", last_lines=["x\0"])

    end(store, claim(store), failed)
    assert states(store, run) == {"a": "queued"}
    end(store, claim(store), failed)

    assert states(store, run) == {"a": "failed"}
    assert ask(store, "SELECT number, state, cell FROM pipelines.attempts ORDER BY id") == [
        (1, "failed", 1),
        (2, "failed", 1),
    ]
    assert ask(store, "SELECT reason FROM pipelines.steps") == [("cell 2: ValueError: no\ufffdthing ?",)]


def test_a_retry_waits_by_the_clock_of_the_database(store):
    new_run(store, NewStep(name="a", retries=Retries(limits={State.KERNEL_DIED: 1}, first_seconds=60, jitter=0)))

    end(store, claim(store), Outcome(state=State.KERNEL_DIED, signal=9, peak_memory_bytes=123))

    assert claim(store) is None
    waits = "SELECT not_before - ended_at BETWEEN '59 s' AND '61 s' FROM pipelines.queue, pipelines.attempts"
    assert ask(store, waits) == [(True,)]
    assert ask(store, "SELECT signal, peak_memory_bytes FROM pipelines.attempts") == [(9, 123)]


def test_finishing_twice_in_the_same_way_is_finishing_once(store):
    run = new_run(store)
    taken = claim(store)
    end(store, taken)

    end(store, taken)

    with pytest.raises(ClaimLost):
        end(store, taken, Outcome(state=State.FAILED))
    assert run_state(store, run) == "succeeded"


def test_a_cancelled_run_ends_with_its_last_step_and_its_worker_is_told(store):
    run = new_run(store, NewStep(name="a"), NewStep(name="b"), NewStep(name="c", after=("a",)))
    taken = claim(store)

    with store.transaction() as connection:
        assert stop(connection, run, "ann wants it")
        assert not stop(connection, run, "bob, too")
    assert states(store, run) == {"a": "running", "b": "cancelled", "c": "cancelled"}
    with store.transaction() as connection:
        told = beat(connection, WORKER, [taken]).stop[taken.attempt_id]
    end(store, taken, Outcome(state=told.state, output_path="half.ipynb"))

    assert told.reason == "ann wants it"
    assert run_state(store, run) == "cancelled"
    assert ask(store, "SELECT output_path FROM pipelines.attempts") == [("half.ipynb",)]
    assert ask(store, "SELECT count(*) FROM pipelines.outbox") == [(0,)]


def test_a_run_that_takes_too_long_times_out(store):
    run = new_run(store, NewStep(name="a"), NewStep(name="b", after=("a",)), timeout_seconds=60)
    taken = claim(store)
    ask_nothing(store, "UPDATE pipelines.runs SET deadline = now() - interval '1 s'")

    with store.transaction() as connection:
        assert beat(connection, WORKER, [taken]).stop[taken.attempt_id].state is State.TIMED_OUT
    reap(store)
    end(store, taken, Outcome(state=State.TIMED_OUT))

    assert states(store, run) == {"a": "timed_out", "b": "cancelled"}
    assert run_state(store, run) == "timed_out"


def test_a_lost_step_whose_retries_are_used_up_ends_lost(store):
    run = new_run(store, NewStep(name="a", retries=Retries(limits={})), NewStep(name="b", after=("a",)))
    lose(store, claim(store))

    reap(store)

    assert states(store, run) == {"a": "lost", "b": "cancelled"}
    assert run_state(store, run) == "lost"
    assert reap(store) == 0


def test_a_lost_step_that_somebody_has_locked_keeps_no_other_waiting(store):
    runs = [new_run(store, NewStep(name="a", retries=Retries(limits={}))) for _ in range(2)]
    taken = [claim(store) for _ in runs]
    for each in taken:
        lose(store, each)
    with store.transaction() as stopped:
        locked = "SELECT FROM pipelines.queue WHERE attempt_id = %s FOR UPDATE"
        stopped.exec_driver_sql(locked, (taken[0].attempt_id,))
        assert reap(store) == 2
        assert [run_state(store, run) for run in runs] == ["running", "lost"]

    assert reap(store) == 1
    assert run_state(store, runs[0]) == "lost"


def test_repair_runs_what_did_not_succeed_and_keeps_what_did(store):
    run = new_run(store, NewStep(name="a"), NewStep(name="b", after=("a",)), NewStep(name="c", after=("b",)))
    end(store, claim(store))
    end(store, claim(store), Outcome(state=State.FAILED, error="no"))

    with store.transaction() as connection:
        assert repair(connection, run, by="ann") == {"b", "c"}
    assert states(store, run) == {"a": "succeeded", "b": "queued", "c": "queued"}
    again = claim(store)
    assert (again.step, again.number) == ("b", 2)
    end(store, again)
    end(store, claim(store))

    assert run_state(store, run) == "succeeded"
    with store.transaction() as connection, pytest.raises(StoreError, match="succeeded"):
        repair(connection, run, by="ann")


def test_a_run_of_another_scheduler_is_repaired_there_alone(store):
    with store.transaction() as connection:
        set_pool(connection, ELSEWHERE, 0)
    run = new_run(store, NewStep(name="a", pools=(ELSEWHERE,)))
    with store.transaction() as connection:
        stop(connection, run, "enough")

    with pytest.raises(StoreError, match=f"run {run} is of another scheduler") as refused:
        repair_run(store, "ann", run=run)
    assert "Clear the task there" in refused.value.remedy
    assert run_state(store, run) == "cancelled"
    with store.transaction() as connection:
        assert repair(connection, run, by="the scheduler there") == {"a"}


def test_a_step_of_the_same_hash_reuses_the_output(store):
    new_run(store)
    first = claim(store)
    end(store, first, Outcome(state=State.SUCCEEDED, output_path="one.ipynb", step_hash="h"))
    new_run(store)
    second = claim(store)

    with store.transaction() as connection:
        attempt, path = find_reusable(connection, "h")
        assert find_reusable(connection, "other") is None
    end(store, second, Outcome(state=State.SUCCEEDED, output_path=path, reused_from=attempt, step_hash="h"))

    assert (attempt, path) == (first.attempt_id, "one.ipynb")
    assert ask(store, "SELECT reused_from FROM pipelines.attempts ORDER BY id") == [(None,), (attempt,)]


def test_the_cursor_moves_with_its_runs_and_skips_or_not_at_all(store):
    start, due, late = (datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3))
    with store.transaction() as connection:
        sha256 = register(connection, "p", {})
        ensure_schedule(connection, "p", "daily", cursor=start, next_at=due)
        run = NewRun(
            pipeline="p", trigger=Trigger.SCHEDULE, definition_sha256=sha256, steps=(NewStep(name="a"),), instant=due
        )
        one = Tick(
            pipeline="p",
            schedule="daily",
            seen=start,
            cursor=late,
            next_at=None,
            runs=[run],
            skips={late: "catch-up is last"},
        )
        pause_schedule(connection, "p", "daily", by="ann")
        assert advance(connection, one) is None
        assert [(each.name, each.paused) for each in read_schedules(connection)] == [("daily", True)]
        resume_schedule(connection, "p", "daily")
        assert len(advance(connection, one)) == 1
        assert advance(connection, one) is None
        assert [each.cursor for each in read_schedules(connection)] == [late]
        assert [(each["instant"], each["reason"]) for each in list_skips(connection, "p")] == [
            (late, "catch-up is last")
        ]
        with pytest.raises(NoSuchRun, match="no schedule weekly"):
            pause_schedule(connection, "p", "weekly", by="ann")


def backfill(store, days, reprocess):
    with store.transaction() as connection:
        sha256 = register(connection, "p", {})
        runs = [
            NewRun(
                pipeline="p",
                trigger=Trigger.MANUAL,
                definition_sha256=sha256,
                steps=(NewStep(name="a"),),
                partition=day,
            )
            for day in days
        ]
        return make_backfill(connection, runs, reprocess, slots=2, requested_by="ann")


def test_a_backfill_runs_what_is_missing_what_failed_or_all_but_never_what_runs(store):
    assert backfill(store, "abc", Reprocess.ALL)[1] == 3
    end(store, claim(store))
    end(store, claim(store), Outcome(state=State.FAILED))

    with store.transaction() as connection:
        plans = {
            reprocess: "".join(each.partition for each in preview(connection, "p", "abcd", reprocess) if each.runs)
            for reprocess in Reprocess
        }

    assert plans == {Reprocess.MISSING: "d", Reprocess.FAILED: "bd", Reprocess.ALL: "abd"}
    assert backfill(store, "abcd", Reprocess.FAILED)[1] == 2


def test_a_partition_whose_older_run_is_repaired_is_not_run_beside_it(store):
    runs = []
    for reprocess in (Reprocess.ALL, Reprocess.FAILED):
        backfill(store, "a", reprocess)
        taken = claim(store)
        end(store, taken, Outcome(state=State.FAILED))
        runs.append(taken.run_id)
    with store.transaction() as connection:
        repair(connection, min(runs), by="ann")
        (planned,) = preview(connection, "p", "a", Reprocess.ALL)

    assert (planned.state, planned.runs) == (State.QUEUED, False)
    assert backfill(store, "a", Reprocess.FAILED)[1] == 0


def test_a_backfill_keeps_to_its_pool_and_is_paused_resumed_and_cancelled(store):
    number, _ = backfill(store, "abcde", Reprocess.MISSING)
    first, second = claim(store), claim(store)
    assert claim(store) is None

    with store.transaction() as connection:
        pause_backfill(connection, number, paused=True)
    end(store, first)
    assert claim(store) is None
    with store.transaction() as connection:
        pause_backfill(connection, number, paused=False)
    third = claim(store)
    with store.transaction() as connection:
        assert stop_backfill(connection, number, "enough") == 4
    assert claim(store) is None
    assert reap(store) == 2
    for each in (second, third):
        end(store, each, Outcome(state=State.CANCELLED))

    with store.transaction() as connection:
        (found,) = read_backfills(connection)
    assert found.states == {"succeeded": 1, "cancelled": 4}


def test_a_lost_step_waits_for_no_cancelled_runs_and_who_cancels_leaves_it_to_those_who_tell(store, monkeypatch):
    monkeypatch.setattr(reaping, "OTHERS_AT_ONCE", 1)
    number, _ = backfill(store, "abcd", Reprocess.MISSING)
    first, second = claim(store), claim(store)
    run = new_run(store, NewStep(name="live", retries=Retries(limits={})))
    live = claim(store)
    with store.transaction() as connection:
        assert stop_backfill(connection, number, "enough") == 4
    lose(store, first)
    lose(store, live)
    told = []

    assert reap(store, messages=lambda lost: told.append(lost.attempt_id) or ()) == 3
    assert told == [first.attempt_id, live.attempt_id]
    assert run_state(store, run) == "lost"
    lose(store, second)
    cancel_backfill(store, "ann", backfill=number)

    count = "SELECT count(*) FROM pipelines.runs WHERE ended_at IS NULL"
    assert ask(store, count) == [(1,)], "of the second step others are to be told, too"
    assert reap(store) == 1
    assert ask(store, count) == [(0,)]


def test_pages_show_what_there_is(store):
    run = new_run(store, NewStep(name="a"), NewStep(name="b", after=("a",)), parameters={"text": "a\0b", "n": 0.1})
    taken = claim(store)
    with store.transaction() as connection:
        record_events(connection, taken, [Event("output", {"text": "hello\0"})])
        point_output(connection, taken, "growing.ipynb")

        queue, (worker,) = read_queue(connection), list_workers(connection)
        matrix, names = run_matrix(connection, "p")
        (pipeline,) = list_pipelines(connection)
        page = read_run(connection, run)
        (brief,) = page_of_runs(connection, pipeline="p", states=(State.RUNNING,))

        assert [(each["step"], each["worker"]) for each in queue.queue] == [("a", "one")]
        assert (worker["is_alive"], worker["claims"]) == (True, 1)
        assert (matrix[0]["steps"], names) == ({"a": "running", "b": "queued"}, ["a", "b"])
        assert pipeline["runs"] == [{"id": run, "state": "running"}]
        assert page.run["parameters"] == {"text": "a\0b", "n": 0.1}
        assert (page.attempts[0]["output_path"], page.attempts[0]["step"]) == ("growing.ipynb", "a")
        assert [event["body"] for event in page.events] == [{"text": "hello\0"}]
        assert brief["id"] == run
        assert not read_run(connection, run, after_event=page.events[-1]["id"]).events
        with pytest.raises(NoSuchRun):
            read_run(connection, run + 1)


def test_a_definition_that_postgresql_cannot_read_hides_no_other(store):
    odd = {
        "owner": "me",
        "description": "a\0b",
        "schedule": {"cron": "0 6 * * *"},
        "alerts": {"late": "1s", "to": ["x"]},
    }
    with store.transaction() as connection:
        for name, fields in {"good": {"description": "\\u0000"}, "late": {"steps": {"late": {}}}, "odd": odd}.items():
            sha256 = register(connection, name, {"name": name, **fields})
            ensure_schedule(connection, name, "s", cursor=datetime.now(UTC), next_at=None)
            run = NewRun(
                pipeline=name,
                definition_sha256=sha256,
                steps=(NewStep(name="a"),),
                trigger=Trigger.MANUAL,
                event_id=name,
            )
            make_runs(connection, [run])
        connection.exec_driver_sql("UPDATE pipelines.runs SET created_at = created_at - interval '1 hour'")
    with store.transaction() as connection:
        shown = {
            each["name"]: (each["owner"], each["description"], each["problem"]) for each in list_pipelines(connection)
        }
        crons = {each["pipeline"]: each["cron"] for each in list_schedules(connection)}
        owner = read_owner(connection, "odd")
        told = tell_too_long(connection, lambda _: 1.0)

    assert shown["good"] == ("", "\\u0000", "")
    assert shown["odd"][:2] == ("me", "a\N{REPLACEMENT CHARACTER}b")
    assert "NUL" in shown["odd"][2]
    assert (crons, owner, told) == ({"good": None, "late": None, "odd": "0 6 * * *"}, "me", 1)


def test_retention_keeps_the_last_failure_and_outputs_that_are_reused(store):
    kept = PipelineLimits(keep_runs=1)
    outcomes = [
        Outcome(state=State.FAILED, output_path="failed.ipynb"),
        Outcome(state=State.SUCCEEDED, output_path="old.ipynb"),
        Outcome(state=State.SUCCEEDED, output_path="reused.ipynb"),
        Outcome(state=State.SUCCEEDED, output_path="cached.ipynb", step_hash="h"),
        Outcome(state=State.SUCCEEDED, output_path="reused.ipynb", reused_from=3),
    ]
    runs = []
    for outcome in outcomes:
        runs.append(new_run(store, limits=kept))
        end(store, claim(store), outcome)

    with store.transaction() as connection:
        would_go = old_runs(connection)
        assert let_go(connection) == would_go
        assert let_go(connection) == ()
        assert due_removals(connection, "") == (Removal("old.ipynb", WORKER.id),)
        assert due_removals(connection, "/elsewhere/") == ()

    assert [each.id for each in would_go] == runs[1:4]
    assert ask(store, "SELECT id FROM pipelines.runs ORDER BY id") == [(runs[0],), (runs[4],)]
    # A step that is about to reuse an output has a minute to say so, and nothing that is used again goes.
    ask_nothing(store, "UPDATE pipelines.removals SET not_before = now()")
    last = new_run(store, limits=PipelineLimits())
    end(store, claim(store), Outcome(state=State.SUCCEEDED, output_path="cached.ipynb", reused_from=4))
    with store.transaction() as connection:
        assert due_removals(connection, "") == (Removal("old.ipynb", WORKER.id),)
        removed(connection, ["old.ipynb"])
    assert ask(store, "SELECT path FROM pipelines.removals") == []
    assert last > runs[4]


def test_a_backfill_pushes_out_no_other_run_and_keeps_its_own_until_all_have_ended(store):
    scheduled = [new_run(store) for _ in range(3)]
    for _ in scheduled:
        end(store, claim(store))
    backfill(store, "abcd", Reprocess.ALL)
    for _ in "abc":
        end(store, claim(store))
    ask_nothing(store, "UPDATE pipelines.pipelines SET keep_runs = 2, keep_days = 7")
    ask_nothing(store, "UPDATE pipelines.runs SET ended_at = now() - interval '8 days' WHERE partition = 'a'")

    with store.transaction() as connection:
        assert [each.id for each in let_go(connection)] == scheduled[:1]
    end(store, claim(store))
    with store.transaction() as connection:
        assert len(let_go(connection)) == 2

    assert ask(store, "SELECT partition FROM pipelines.runs ORDER BY id") == [(None,), (None,), ("c",), ("d",)]


def test_a_message_is_taken_again_until_it_was_sent(store):
    message = Message("k", "lineage", {"x": 1})
    with store.transaction() as connection:
        post(connection, [message])
        post(connection, [message])
    with store.transaction() as connection:
        (taken,) = take_messages(connection)
        assert take_messages(connection) == ()
    ask_nothing(store, "UPDATE pipelines.outbox SET not_before = now()")
    with store.transaction() as connection:
        (again,) = take_messages(connection)
        sent(connection, [again.id])

    assert (taken.key, taken.tries, again.tries) == ("k", 1, 2)
    assert ask(store, "SELECT count(*) FROM pipelines.outbox") == [(0,)]


def test_that_something_is_over_is_not_told_before_that_it_began(store):
    def tell(key: str, alert: str) -> None:
        with store.transaction() as connection:
            post(connection, [Message(key, "alert-to:pager", {"key": alert})])

    def due() -> list[str]:
        with store.transaction() as connection:
            return [each.key for each in take_messages(connection)]

    tell("bad/1", "bad")
    assert due() == ["bad/1"]  # and it could not be sent
    tell("bad/2", "bad")
    tell("other/1", "other")
    assert due() == ["other/1"]
    ask_nothing(store, "UPDATE pipelines.outbox SET not_before = now()")
    assert due() == ["bad/1", "bad/2", "other/1"]


def test_retention_keeps_the_last_success_of_a_pipeline_that_only_fails(store):
    runs = [new_run(store, limits=PipelineLimits(keep_runs=1)) for _ in range(4)]
    for state in (State.SUCCEEDED, State.SUCCEEDED, State.FAILED, State.FAILED):
        end(store, claim(store), Outcome(state=state))

    with store.transaction() as connection:
        assert [each.id for each in let_go(connection)] == [runs[0], runs[2]]


def test_a_pipeline_whose_definition_is_gone_has_no_age(store, tmp_path):
    def shown():
        pipelines.look(store)
        (family,) = metrics.RUN_SUCCESS.collect()
        return {sample.labels["pipeline"] for sample in family.samples}

    for name in ("by_hand", "scheduled", "gone"):
        new_run(store, pipeline=name)
        (tmp_path / f"{name}.yaml").touch()
    with store.transaction() as connection:
        connection.exec_driver_sql("UPDATE pipelines.runs SET state = 'succeeded', ended_at = now()")
        ensure_schedule(connection, "scheduled", "s", cursor=datetime.now(UTC), next_at=None)
    pipelines = Pipelines(tmp_path)
    assert shown() == {"by_hand", "scheduled", "gone"}

    (tmp_path / "gone.yaml").unlink()
    (tmp_path / "scheduled.yaml").unlink()
    assert shown() == {"by_hand", "scheduled"}  # its file may be elsewhere; else a scheduler takes the schedule away
    ask_nothing(store, "DELETE FROM pipelines.schedules")
    assert shown() == {"by_hand"}


def test_a_run_that_ends_is_counted_once_also_after_the_clock_was_ahead(store, tmp_path):
    def ended(after="0 s"):
        number = new_run(store)
        with store.transaction() as connection:
            at = f"now() + interval '{after}'"
            connection.exec_driver_sql(
                f"UPDATE pipelines.runs SET state = 'failed', ended_at = {at} WHERE id = {number}"
            )

    def counted():
        pipelines.look(store)
        return metrics.RUNS_ENDED.labels("p", State.FAILED)._value.get()

    pipelines = Pipelines(tmp_path)
    ended()
    before = counted()
    ended(after="1 hour")
    assert [counted() - before, counted() - before] == [1, 1]
    ended()
    ended()
    assert [counted() - before, counted() - before] == [3, 3]

    with store.transaction() as connection:
        found, _ = read_ended(connection, None, at_once=2)
    assert len({each.id for each in found}) == len(found) == 4


def test_who_waits_is_told_of_a_new_run(store):
    hints = store.hints(10)
    assert next(hints) == ""

    new_run(store)

    assert next(hints) == "queue"
    hints.close()


def ask_nothing(store, statement):
    with store.transaction() as connection:
        connection.exec_driver_sql(statement)
