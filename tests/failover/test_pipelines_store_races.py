"""Many schedulers and workers at once on one store, and connections that are killed: nothing is lost, doubled or half."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipelines.states import State
from pipelines.store.claims.beating import beat
from pipelines.store.claims.reaping import reap
from pipelines.store.claims.taking import take, take_of_run
from pipelines.store.claims.writing import finish, record_events
from pipelines.store.database import Store
from pipelines.store.events import read_events
from pipelines.store.records import LEASE_SECONDS, Event, NewRun, NewStep, Outcome, Retries, Trigger
from pipelines.store.runs.making import PipelineLimits, make_runs, register, set_pool
from pipelines.store.runs.schedules import (
    Tick,
    advance,
    advance_all,
    ensure_schedule,
    pause_schedule,
    read_schedules,
)
from pipelines.store.runs.stopping import repair, stop
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
    store_url,
)
from tests.services.postgres_server import USER
from tests.services.workbench import ROOT, environment, wait_until
from workbench.errors import ClaimLost, StoreError, StoreUnavailable
from workbench.sections import WarehouseSettings

START = datetime(2026, 1, 1, tzinfo=UTC)
OK = Outcome(state=State.SUCCEEDED)
NEVER = Retries(limits={})
NEVER_THERE = {
    "a run that says success though a step has none": """
        SELECT r.id FROM pipelines.runs r JOIN pipelines.steps s ON s.run_id = r.id
        WHERE r.state = 'succeeded' AND s.state NOT IN ('succeeded', 'skipped')
    """,
    "an attempt without an end": "SELECT id FROM pipelines.attempts WHERE ended_at IS NULL OR state = 'running'",
    "two attempts of a step at once": """
        SELECT a.id FROM pipelines.attempts a JOIN pipelines.attempts b
        ON b.step_id = a.step_id AND b.number > a.number AND b.started_at < a.ended_at
    """,
    "a step that began before what it waits for had succeeded": """
        SELECT a.id FROM pipelines.attempts a JOIN pipelines.steps s ON s.id = a.step_id
        CROSS JOIN LATERAL unnest(s.after) AS before (name)
        WHERE NOT EXISTS (
          SELECT FROM pipelines.attempts b JOIN pipelines.steps t ON t.id = b.step_id
          WHERE t.run_id = s.run_id AND t.name = before.name AND b.state = 'succeeded' AND b.ended_at <= a.started_at
        )
    """,
    "a failure that nobody is told of": """
        SELECT r.id FROM pipelines.runs r WHERE r.state = 'failed'
        AND NOT EXISTS (SELECT FROM pipelines.outbox o WHERE o.key = 'alert/' || r.key || '/' || r.repairs)
    """,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with store_server(tmp_path_factory.mktemp("store") / "home") as server:
        yield server


@pytest.fixture(scope="module")
def shared_store(server):
    with new_store(server, connections=16) as store:
        yield store


@pytest.fixture
def store(shared_store):
    return emptied(shared_store)


def together(work, *arguments):
    """Call *work* with each of the arguments at once; their results."""
    barrier = threading.Barrier(len(arguments))

    def one(argument):
        barrier.wait()
        return work(argument)

    with ThreadPoolExecutor(len(arguments)) as threads:
        return list(threads.map(one, arguments))


def test_two_schedulers_make_each_run_once(store):
    with store.transaction() as connection:
        sha256 = register(connection, "p", {})
        ensure_schedule(connection, "p", "s", cursor=START, next_at=START)

    def schedule(_):
        won = 0
        while True:
            with store.transaction() as connection:
                (now,) = read_schedules(connection, "p")
                due = now.cursor + timedelta(days=1)
                if due > START + timedelta(days=100):
                    return won
                run = NewRun(
                    pipeline="p",
                    trigger=Trigger.SCHEDULE,
                    definition_sha256=sha256,
                    steps=(NewStep(name="a"),),
                    instant=due,
                )
                mine = Tick(pipeline="p", schedule="s", seen=now.cursor, cursor=due, next_at=due, runs=[run])
                won += advance(connection, mine) is not None

    assert sum(together(schedule, 1, 2)) == 100
    assert ask(store, "SELECT count(*), count(DISTINCT instant) FROM pipelines.runs") == [(100, 100)]


def test_schedulers_who_move_many_schedules_at_once_make_each_run_once(store):
    names = [f"p{number:02}" for number in range(30)]
    with store.transaction() as connection:
        sha256 = {name: register(connection, name, {}) for name in names}
        for name in names:
            ensure_schedule(connection, name, "s", cursor=START, next_at=START)
        pause_schedule(connection, "p07", "s", "test")

    def ticks(schedules):
        for each in schedules:
            due = each.cursor + timedelta(days=1)
            step = NewStep(name="a")
            run = NewRun(
                pipeline=each.pipeline, trigger=Trigger.SCHEDULE, definition_sha256=sha256[each.pipeline],
                steps=(step,), instant=due,
            )  # fmt: skip
            yield Tick(pipeline=each.pipeline, schedule="s", seen=each.cursor, cursor=due, next_at=due, runs=[run])

    def schedule(seed):
        won = 0
        for _ in range(20):
            with store.transaction() as connection:
                wanted = [*ticks(read_schedules(connection))]
            random.Random(seed).shuffle(wanted)  # whoever calls need not know of the order
            with store.transaction() as connection:
                won += len(advance_all(connection, wanted))
        return won

    won = sum(together(schedule, 1, 2, 3))
    made = ask(store, "SELECT count(*), count(DISTINCT (pipeline, instant)) FROM pipelines.runs")
    assert made == [(won, won)]
    assert won >= 20 * 29  # one of the three moves it each time
    with store.transaction() as connection:
        cursors = {each.pipeline: each.cursor for each in read_schedules(connection)}
    assert sum((cursor - START).days for cursor in cursors.values()) == won
    assert cursors["p07"] == START


def test_eight_workers_claim_five_hundred_steps_once_each(store):
    with store.transaction() as connection:
        sha256 = register(connection, "p", {})
        steps = tuple(NewStep(name=f"s{number}") for number in range(5))
        make_runs(
            connection,
            [
                NewRun(
                    pipeline="p", trigger=Trigger.MANUAL, definition_sha256=sha256, steps=steps, event_id=str(number)
                )
                for number in range(100)
            ],
        )

    def work(name):
        mine = []
        while True:
            with store.transaction() as connection:
                taken = take(connection, name)
            if taken is None:
                return mine
            mine.append(taken.step_id)

    claimed = Counter(step for mine in together(work, *"abcdefgh") for step in mine)

    assert len(claimed) == 500
    assert set(claimed.values()) == {1}


def test_a_pool_is_never_exceeded_and_gets_back_the_slots_of_a_lost_worker(store):
    with store.transaction() as connection:
        set_pool(connection, "spark", 2)
    for _ in range(60):
        new_run(store, NewStep(name="a", pools=("spark",)))
    lost = [claim(store), claim(store)]
    assert claim(store) is None
    for each in lost:
        lose(store, each)
    assert reap(store) == 2
    most = []

    def work(name):
        done = 0
        while True:
            with store.transaction() as connection:
                taken = take(connection, name)
            if taken is None:
                if ask(store, "SELECT count(*) FROM pipelines.queue") == [(0,)]:
                    return done
                continue
            ((used,),) = ask(store, "SELECT count(*) FROM pipelines.queue WHERE worker IS NOT NULL")
            most.append(used)
            with store.transaction() as connection:
                finish(connection, taken, OK)
            done += 1

    assert sum(together(work, *"abcdef")) == 60
    assert max(most) <= 2


def test_a_pipeline_never_runs_more_than_it_may_however_many_ask(store):
    for _ in range(20):
        new_run(store, limits=PipelineLimits(max_runs=3))

    def work(name):
        with store.transaction() as connection:
            return take(connection, name)

    assert sum(each is not None for each in together(work, *"abcdefgh")) == 3


def test_a_connection_that_is_killed_within_a_transaction_leaves_nothing_half(store, server):
    run = new_run(store, NewStep(name="a"), NewStep(name="b", after=("a",)))
    taken = claim(store)

    with pytest.raises(StoreUnavailable), store.transaction() as connection:
        finish(connection, taken, replace(OK, events=[Event("output", "x")]))
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        server.ask(f"SELECT pg_terminate_backend({pid})")
        connection.exec_driver_sql("SELECT 1")

    assert ask(store, "SELECT name, state FROM pipelines.steps ORDER BY id") == [("a", "running"), ("b", "queued")]
    assert ask(store, "SELECT count(*) FROM pipelines.events") == [(0,)]
    with store.transaction() as connection:
        finish(connection, taken, OK)
    assert claim(store).run_id == run


def test_who_waits_for_hints_is_told_when_the_connection_breaks(store, server):
    hints = store.hints(30)
    next(hints)
    server.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")

    with pytest.raises(StoreUnavailable, match="waits for hints"):
        next(hints)

    new_run(store)
    assert claim(store)


def test_a_step_whose_worker_and_database_are_killed_is_taken_over_within_the_lease(tmp_path):
    with store_server(tmp_path / "own") as server, new_store(server) as store:
        run = new_run(store)
        ((database,),) = ask(store, "SELECT current_database()")
        variables = environment(tmp_path, WORKBENCH_PIPELINES_DATABASE_URL=store_url(server, database))
        command = [sys.executable, "-m", "tests.services.pipelines_worker"]
        with subprocess.Popen(command, env=variables, cwd=ROOT, stdout=subprocess.PIPE, text=True) as worker:
            lost = int(worker.stdout.readline())
            worker.kill()
        server.end(signal.SIGKILL)
        server.start()
        heirs = []

        def is_taken_over():
            with suppress(StoreUnavailable):  # the connections of before the kill
                reap(store)
                heirs.extend(filter(None, [claim(store)]))
            return heirs

        wait_until(is_taken_over, LEASE_SECONDS + 10, "the step to be taken over")

        first, second = ask(store, "SELECT id, state, started_at FROM pipelines.attempts ORDER BY id")
        assert (first[0], first[1], second[1]) == (lost, "lost", "running")
        assert LEASE_SECONDS <= (second[2] - first[2]).total_seconds() < 2 * LEASE_SECONDS
        assert heirs[0].run_id == run


def test_stores_that_are_migrated_at_once_are_migrated_once(server):
    server.ask(f"CREATE DATABASE at_once OWNER {USER}")
    address = store_settings(server, "at_once").as_warehouse(WarehouseSettings())
    stores = [Store(address) for _ in range(4)]

    def bring(store):
        with store:
            store.migrate()
            return ask(store, "SELECT version_num FROM pipelines.alembic_version")

    assert together(bring, *stores) == [[("0007",)]] * 4


def test_a_reader_of_events_misses_none_while_several_write(store):
    run = new_run(store, *(NewStep(name=name) for name in "abcd"))
    claims = [claim(store) for _ in range(4)]
    writing = threading.Event()

    def write(taken):
        for number in range(50):
            with store.transaction() as connection:
                record_events(connection, taken, [Event("output", number)])

    def read():
        seen, last = [], 0
        while True:
            is_over = writing.is_set()
            with store.transaction() as connection:
                found = read_events(connection, run, after=last)
            seen += [event.id for event in found]
            last = max([last, *seen])
            if is_over and not found:
                return seen

    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(read)
        together(write, *claims)
        writing.set()

    assert len(reading.result()) == 200


def test_whatever_happens_at_once_no_transaction_waits_for_another_for_ever(store):
    """Every function that locks, at random, by eight threads, over a few runs: no deadlock, and every run ends."""
    with store.transaction() as connection:
        set_pool(connection, "one", 2)
        set_pool(connection, "two", 1)
    pools = [(), ("one",), ("two",), ("one", "two")]
    after = [(), ("0",), ("0",), ("1", "2"), ("1",), ()]
    steps = [
        NewStep(name=str(n), after=after[n], pools=pools[n % 4], retries=Retries(first_seconds=0)) for n in range(6)
    ]
    runs = [new_run(store, *steps, pipeline=f"p{n % 3}", limits=PipelineLimits(max_runs=2)) for n in range(9)]
    until = time.monotonic() + 6

    def work(seed):
        chance = random.Random(seed)
        worker = replace(WORKER, id=str(seed))
        held = {}
        while time.monotonic() < until:
            try:
                act(store, chance, worker, held, runs)
            except StoreUnavailable:
                raise
            except (ClaimLost, StoreError):
                continue
        return held

    together(work, *range(8))
    ask_until_ended(store)

    assert ask(store, "SELECT count(*) FROM pipelines.queue") == [(0,)]
    assert ask(store, "SELECT count(*) FROM pipelines.runs WHERE ended_at IS NULL") == [(0,)]
    for what, query in NEVER_THERE.items():
        assert ask(store, query) == [], what


def act(store, chance, worker, held, runs):
    kind = chance.choice(
        ["take", "take", "take", "finish", "finish", "finish", "beat", "event", "stop", "repair", "lose", "reap"]
    )
    if kind == "reap":
        reap(store)
        return
    with store.transaction() as connection:
        if kind == "take" and (taken := take_one(connection, chance, worker, runs)):
            held[taken.attempt_id] = taken
        elif kind == "stop":
            stop(connection, chance.choice(runs), "chance")
        elif kind == "repair":
            repair(connection, chance.choice(runs), by="chance")
        elif kind == "beat":
            for lost in beat(connection, worker, held.values()).lost:
                del held[lost]
        elif held and kind in {"finish", "event", "lose"}:
            taken = chance.choice(list(held.values()))
            if kind == "event":
                record_events(connection, taken, [Event("output", 1)])
            elif kind == "lose":
                connection.exec_driver_sql(
                    "UPDATE pipelines.queue SET lease_until = now() - interval '1 s' WHERE attempt_id = %s",
                    (taken.attempt_id,),
                )
            else:
                finish(
                    connection,
                    held.pop(taken.attempt_id),
                    replace(OK, state=chance.choice([State.SUCCEEDED, State.FAILED])),
                )


def take_one(connection, chance, worker, runs):
    if chance.random() < 0.7:
        return take(connection, worker.id)
    return take_of_run(connection, worker.id, chance.choice(runs), chance.choice([None, "0", "3"]))


def ask_until_ended(store):
    with store.transaction() as connection:
        connection.exec_driver_sql(
            "UPDATE pipelines.queue SET lease_until = now() - interval '1 s', not_before = now() WHERE worker IS NOT NULL"
        )
    reap(store)
    while taken := claim(store):
        with store.transaction() as connection:
            finish(connection, taken, OK)


@st.composite
def graphs(draw):
    """Steps by name with what each waits for and how its attempts end."""
    count = draw(st.integers(1, 6))
    ends = st.sampled_from([State.SUCCEEDED, State.SUCCEEDED, State.SUCCEEDED, State.FAILED, State.SKIPPED, State.LOST])
    return {
        str(number): (
            tuple(sorted(draw(st.sets(st.sampled_from([str(each) for each in range(number)]))))) if number else (),
            draw(ends),
        )
        for number in range(count)
    }


# Not shrunk: that takes minutes.
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], phases=[Phase.explicit, Phase.generate])
@given(graph=graphs(), chance=st.randoms(use_true_random=False))
def test_every_graph_ends_as_its_steps_say(shared_store, graph, chance):
    run = new_run(
        emptied(shared_store), *(NewStep(name=name, after=after, retries=NEVER) for name, (after, _) in graph.items())
    )
    held = []
    while True:
        taken = claim(shared_store) if chance.random() < 0.6 or not held else None
        if taken is not None:
            assert all(ended(graph, name) is State.SUCCEEDED for name in graph[taken.step][0])
            held.append(taken)
        elif held:
            done = held.pop(chance.randrange(len(held)))
            end = graph[done.step][1]
            if end is State.LOST:
                lose(shared_store, done)
                reap(shared_store)
            else:
                with shared_store.transaction() as connection:
                    finish(connection, done, Outcome(state=end))
        else:
            break

    found = dict(ask(shared_store, f"SELECT name, state FROM pipelines.steps WHERE run_id = {run}"))
    assert found == {name: ended(graph, name) for name in graph}
    ((state, is_over),) = ask(shared_store, f"SELECT state, ended_at IS NOT NULL FROM pipelines.runs WHERE id = {run}")
    assert is_over
    assert (state in {"succeeded", "skipped"}) == (set(found.values()) <= {"succeeded", "skipped"})


def ended(graph, name):
    """What becomes of a step, by recursion over what it waits for."""
    after, own = graph[name]
    before = {ended(graph, each) for each in after} - {State.SUCCEEDED}
    if not before:
        return own
    return State.SKIPPED if before == {State.SKIPPED} else State.CANCELLED
