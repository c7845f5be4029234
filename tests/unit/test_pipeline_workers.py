"""What a worker does when the store hangs for longer than its claims hold: without a store, and by a clock that is set."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from types import SimpleNamespace

import pytest

from pipelines.engine import JobLimits
from pipelines.planning.bindings import Bindings
from pipelines.runner import running
from pipelines.runner.assignment import Assignment
from pipelines.states import State
from pipelines.store import database
from pipelines.store.claims.beating import Beat
from pipelines.store.database import Store
from pipelines.store.records import BEAT_SECONDS, LEASE_SECONDS, SILENT_SECONDS, Outcome
from pipelines.worker import attempts
from pipelines.worker import heart as hearts
from pipelines.worker import worker as workers
from pipelines.worker.heart import Heart
from pipelines.worker.worker import WorkerLoop, new_worker
from tests.services.notebooks import secrets
from workbench import masking
from workbench.sections import WarehouseSettings
from workbench.warehouse.libpq import silence_options

HANGS_SECONDS = LEASE_SECONDS + 4


class Clock:
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


class Transactions:
    """The part of a store that opens transactions, and counts those that were rolled back."""

    def __init__(self) -> None:
        self.rolled_back = 0

    @contextmanager
    def transaction(self):
        yield self

    def rollback(self) -> None:
        self.rolled_back += 1


class Steps:
    """A queue of steps that are claimed and end at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
        self.claimed, self.ran, self.lost = 0, 0, 0
        self.store, self.hang_seconds = Transactions(), 0.0
        self._clock = clock
        monkeypatch.setattr(workers, "reap", lambda *_, **__: None)
        monkeypatch.setattr(workers, "take", self._take)
        monkeypatch.setattr(workers, "Attempt", lambda claim, *_: SimpleNamespace(claim=claim, run=self._run))
        around = SimpleNamespace(lineage=None, environment={})
        self.worker = WorkerLoop(new_worker(2), self.store, Transactions(), around)

    def _take(self, connection: Transactions, worker: str) -> SimpleNamespace:
        self._clock.seconds += self.hang_seconds
        self.claimed += 1
        return SimpleNamespace(attempt_id=self.claimed, run_id=1, step="load")

    async def _run(self, runner: object) -> None:
        try:
            await asyncio.sleep(0)
            self.ran += 1
        except asyncio.CancelledError:
            self.lost += 1
            raise

    async def turn(self) -> bool:
        """One turn of the loop, and the next one's beginning."""
        claims = await self.worker._claim(None, asyncio.Event())
        self.worker._lose_what_is_late()
        await asyncio.sleep(0.01)
        return claims


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(hearts, "time", clock)
    monkeypatch.setattr(workers, "time", clock)
    monkeypatch.setattr(hearts, "beat", lambda *_: Beat(frozenset(), {}))
    return clock


def test_a_worker_that_is_late_claims_nothing_until_a_beat_is_quick(monkeypatch, clock):
    async def work() -> None:
        steps = Steps(monkeypatch, clock)
        clock.seconds += HANGS_SECONDS
        assert [await steps.turn() for _ in range(3)] == [False] * 3
        assert (steps.claimed, steps.lost) == (0, 0)

        steps.worker._heart.beat()
        assert await steps.turn() is True
        assert (steps.ran, steps.lost) == (1, 0)

    asyncio.run(work())


def test_a_claim_that_hung_with_the_store_is_taken_back_before_it_is_an_attempt(monkeypatch, clock):
    async def work() -> None:
        steps = Steps(monkeypatch, clock)
        steps.hang_seconds = HANGS_SECONDS
        assert await steps.turn() is False
        assert (steps.store.rolled_back, steps.ran, steps.lost) == (1, 0, 0)

    asyncio.run(work())


HANGS = """
import asyncio, threading
from contextlib import nullcontext
from pipelines.definition import Project
from pipelines.processes import leaving
from pipelines.worker import process
from workbench.settings import Settings

async def work(settings, options, stopping, environment):
    print("works", flush=True)
    await stopping.wait()
    hangs = asyncio.create_task(asyncio.to_thread(threading.Event().wait))
    await asyncio.wait({hangs}, timeout=0.01)

leaving.END_SECONDS = 0.1
process.measuring = lambda home: nullcontext({})
process._work_measured = work
process.run_worker(Settings.load(), process.WorkerOptions(slots=1, project=Project.installed()))
"""


def test_the_process_of_a_worker_that_is_told_to_end_ends_while_a_thread_hangs(tmp_path):
    environment = {**os.environ, "WORKBENCH_HOME": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", HANGS], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as worker:
        try:
            assert worker.stdout.readline() == "works\n"
            worker.terminate()
            _, told = worker.communicate(timeout=10)
        finally:
            worker.kill()

    assert worker.returncode == 1
    assert "it leaves as it is" in told


def test_a_worker_that_is_cut_off_ends_its_steps_and_itself_while_a_claim_hangs(monkeypatch, clock):
    hangs, goes_on = threading.Event(), threading.Event()

    async def work(steps: Steps) -> None:
        ended, stopping = asyncio.Event(), asyncio.Event()

        async def run(runner: object) -> None:
            try:
                await ended.wait()
            finally:
                ended.set()

        steps.worker._leave_seconds = 0.01
        steps._run = run
        working = asyncio.create_task(steps.worker.run(stopping))
        assert await asyncio.to_thread(hangs.wait, 30)
        assert [*steps.worker._attempts] == [*steps.worker._heart._claims] == [1]

        clock.seconds += HANGS_SECONDS
        await asyncio.wait_for(ended.wait(), 30)
        stopping.set()
        await asyncio.wait_for(working, 30)
        goes_on.set()

    def take(connection: Transactions, worker: str) -> SimpleNamespace:
        if steps.claimed:
            hangs.set()
            goes_on.wait(90)
        return Steps._take(steps, connection, worker)

    steps = Steps(monkeypatch, clock)
    monkeypatch.setattr(workers, "take", take)
    monkeypatch.setattr(workers, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(workers, "Listener", lambda *_: nullcontext())
    monkeypatch.setattr(workers, "Runner", lambda **_: nullcontext())
    monkeypatch.setattr(hearts, "leave", lambda *_: None)
    asyncio.run(work(steps))

    assert (steps.claimed, steps.store.rolled_back) == (2, 1), "what hung is taken back"


def test_that_a_claim_is_lost_is_heard_from_its_first_moment(monkeypatch, clock):
    async def work() -> None:
        steps = Steps(monkeypatch, clock)
        heart = steps.worker._heart
        known = []
        monkeypatch.setattr(heart, "hold", lambda claim: known.append(claim.attempt_id in steps.worker._attempts))
        assert await steps.turn() is True
        assert known == [True]

    asyncio.run(work())


@pytest.mark.parametrize(
    ("definition", "state", "error"),
    [
        ({"steps": {}, "newer": 1}, State.FAILED, "is of another version of the workbench: .*newer"),
        (RuntimeError("nobody knew"), State.INFRASTRUCTURE_ERROR, "could not be begun: RuntimeError: nobody knew"),
    ],
)
def test_a_step_that_cannot_be_begun_ends_and_says_why(monkeypatch, definition, state, error):
    outcomes = []

    def read(*_: object) -> object:
        if isinstance(definition, Exception):
            raise definition
        return definition

    monkeypatch.setattr(attempts, "read_definition", read)
    monkeypatch.setattr(attempts, "finish", lambda connection, claim, outcome: outcomes.append(outcome))
    claim = SimpleNamespace(run_id=1, number=1, pipeline="daily", step="load", run_as=None, definition_sha256="")
    asyncio.run(attempts.Attempt(claim, Transactions(), SimpleNamespace(lineage=None)).run(None))

    assert [each.state for each in outcomes] == [state]
    assert re.search(error, outcomes[0].error)


@pytest.mark.parametrize("run_as", [None, "gh-octo"])
def test_an_error_of_ours_while_a_step_runs_ends_it_at_once_and_says_which(monkeypatch, tmp_path, caplog, run_as):
    outcomes = []

    async def run(*_: object, **__: object) -> None:
        raise ExceptionGroup("unhandled errors", [RuntimeError("nobody knew canary-0123 and pin7")])

    @asynccontextmanager
    async def acting(*_: object) -> AsyncIterator[None]:
        await run()
        yield

    assignment = Assignment(
        kind="function", target="steps:work", roots=(), file=None, folder=tmp_path / "attempt",
        bindings=Bindings((), {}), limits=JobLimits(), secrets=secrets(token="canary-0123", pin="pin7"),
    )  # fmt: skip
    monkeypatch.setattr(running, "run_process", run)
    monkeypatch.setattr(attempts, "finish", lambda connection, claim, outcome: outcomes.append(outcome))
    monkeypatch.setattr(attempts.Attempt, "_prepare", lambda *_: attempts._Prepared(assignment))
    claim = SimpleNamespace(run_id=1, number=1, pipeline="daily", step="load", run_as=run_as)
    around = SimpleNamespace(lineage=None, environment={}, roles=SimpleNamespace(acting=acting))
    runner = running.Runner(environment={})
    runner._children = None
    monkeypatch.setattr(masking, "_MASKS", masking.Masks())
    before = logging.getLogRecordFactory()
    masking.mask_logs()
    try:
        asyncio.run(attempts.Attempt(claim, Transactions(), around).run(runner))
    finally:
        logging.setLogRecordFactory(before)

    assert [each.state for each in outcomes] == [State.INFRASTRUCTURE_ERROR]
    assert "RuntimeError: nobody knew [secret token] and [secret pin]" in outcomes[0].error
    assert "nobody knew" in caplog.text
    assert "canary-0123" not in caplog.text


def test_an_outcome_is_written_whatever_becomes_of_its_lineage(monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("Empty statement list")

    outcomes = []
    monkeypatch.setattr(attempts, "finish", lambda connection, claim, outcome: outcomes.append(outcome))
    attempt = attempts.Attempt(SimpleNamespace(), Transactions(), SimpleNamespace())
    asyncio.run(attempt._finish(Outcome(state=State.SUCCEEDED), SimpleNamespace(ended=fail)))

    assert outcomes == [Outcome(state=State.SUCCEEDED)]


def test_a_late_worker_waits_and_does_not_spin_when_it_is_woken(monkeypatch, clock):
    async def work() -> None:
        steps = Steps(monkeypatch, clock)
        clock.seconds += HANGS_SECONDS
        monkeypatch.setattr(workers, "POLL_SECONDS", 0.01)
        steps.worker._wake.set()
        for _ in range(2):
            await steps.turn()
            assert not steps.worker._wake.is_set()
            await steps.worker._sleep()

    asyncio.run(work())


def test_a_beat_that_hung_is_followed_by_the_next_at_once(monkeypatch, clock):
    hangs, beats, enough = [0.0, HANGS_SECONDS, HANGS_SECONDS, 0.0], [], threading.Event()

    def beat(*_):
        beats.append(clock.seconds)
        clock.seconds += hangs[len(beats) - 1]
        if len(beats) == len(hangs):
            enough.set()
        return Beat(frozenset(), {})

    monkeypatch.setattr(hearts, "beat", beat)
    monkeypatch.setattr(hearts, "leave", lambda *_: None)
    monkeypatch.setattr(hearts, "BEAT_SECONDS", 60.0)  # the next one of its own accord is no explanation

    async def work() -> None:
        with Heart(Transactions(), new_worker(1), lost=lambda _: None, stop=lambda *_: None) as heart:
            heart.hurry()
            assert enough.wait(30), f"{len(beats)} beats"
        assert not heart.is_late

    asyncio.run(work())


def test_a_connection_that_beats_is_given_up_in_time_for_another_beat():
    options = silence_options(SILENT_SECONDS)
    probes = int(options["keepalives_interval"]) * int(options["keepalives_count"])

    assert BEAT_SECONDS + int(options["tcp_user_timeout"]) / 1000 < LEASE_SECONDS
    assert BEAT_SECONDS + int(options["keepalives_idle"]) + probes < LEASE_SECONDS
    assert int(options["connect_timeout"]) < LEASE_SECONDS


def test_a_transaction_of_a_stopped_process_is_over_before_its_lease():
    assert database.SESSION["idle_in_transaction_session_timeout"] == f"{database.IDLE_SECONDS}s"
    assert database.IDLE_SECONDS < LEASE_SECONDS


def test_a_store_that_is_to_notice_silence_connects_so(monkeypatch):
    given = []
    monkeypatch.setattr(database, "url", lambda *_: "postgresql+psycopg://")
    monkeypatch.setattr(database.sa, "create_engine", lambda *_, connect_args, **__: given.append(connect_args))
    for seconds in (SILENT_SECONDS, None):
        Store(WarehouseSettings(), silent_seconds=seconds).__enter__()

    assert [each["tcp_user_timeout"] for each in given] == ["9000", "60000"]
    assert {each["application_name"] for each in given} == {"workbench pipelines"}
