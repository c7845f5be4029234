"""The database without room, killed in the midst of a commit, and disconnected: every record is there, once."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import needs
from tests.services.followed_flow import Scene, make_scene, numbered
from tests.services.postgres_server import OwnPostgres, running_postgres
from tests.services.three_brokers import Brokers, running_brokers
from tests.services.workbench import wait_until

DISK = "160m"
LEFT_BYTES = 1_000_000
BACKENDS = "application_name = 'workbench'"
# Runs as the transaction commits, and lasts: whoever kills then, kills before it is committed.
SLOW_COMMIT = """
CREATE OR REPLACE FUNCTION public.linger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.005); RETURN NULL; END';
GRANT EXECUTE ON FUNCTION public.linger() TO PUBLIC;
"""
# A column that is added waits for whoever holds the lock, and for a while after it.
SLOW_DDL = """
CREATE OR REPLACE FUNCTION public.linger_after() RETURNS event_trigger LANGUAGE plpgsql
AS 'BEGIN PERFORM pg_advisory_xact_lock_shared(1); PERFORM pg_sleep(0.3); END';
CREATE EVENT TRIGGER slow_ddl ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION public.linger_after();
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    with running_brokers(tmp_path_factory.mktemp("broker") / "kafka", 1) as running:
        yield running


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPostgres]:
    with running_postgres(tmp_path_factory.mktemp("warehouse") / "home") as running:
        yield running


@pytest.fixture
def small_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPostgres]:
    needs(os.geteuid() == 0 and shutil.which("unshare") is not None, "root and unshare")
    with running_postgres(tmp_path_factory.mktemp("small") / "home", DISK) as running:
        yield running


@pytest.fixture
def scene(broker: Brokers, postgres: OwnPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return make_scene(broker, postgres, tmp_path, monkeypatch)


@pytest.fixture
def small_scene(broker: Brokers, small_postgres: OwnPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return make_scene(broker, small_postgres, tmp_path, monkeypatch)


def test_a_full_disk_is_waited_for_and_makes_no_dead_letters(small_scene):
    scene, postgres = small_scene, small_scene.postgres
    sent = scene.send(numbered(0, 1000))
    with scene.following() as follower:
        scene.wait_until_caught_up(follower)
        # The log has its next 16 MB already: without room for it PostgreSQL would stop altogether.
        postgres.ask("SELECT pg_switch_wal()")
        postgres.ask("CHECKPOINT")
        filler = postgres.folder / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(postgres.folder).free - LEFT_BYTES))

        sent += scene.send(numbered(sent, 6000, width=1000))
        wait_until(lambda: follower.said.count("No space left on device") >= 4, 60, f"a full disk\n{follower.said}")
        assert follower.process.poll() is None
        assert "trying again" in follower.said

        filler.unlink()
        scene.wait_until_caught_up(follower)

    log = (postgres.server.home / "postgres.log").read_text()
    assert "could not extend file" in log
    assert "PANIC" not in log
    scene.assert_right(sent)


def test_killed_before_the_commit_is_written(scene):
    postgres = scene.postgres
    sent = scene.send(numbered(0, 500))
    with scene.following() as follower:
        scene.wait_until_caught_up(follower)
        postgres.ask(SLOW_COMMIT)
        postgres.ask(
            f"CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON {scene.flow.into} DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION public.linger()"
        )
        sent += scene.send(numbered(sent, 1500))
        wait_for_backend(postgres, "wait_event = 'PgSleep' AND query ILIKE 'COMMIT%'")
        postgres.end()
        postgres.start()
        postgres.ask(f"DROP TRIGGER slow ON {scene.flow.into}")
        scene.wait_until_caught_up(follower)

    scene.assert_right(sent)


@pytest.mark.parametrize("fault", ["kill -9", "end the backend"])
def test_a_commit_that_is_written_and_not_told(scene, fault):
    """The transaction is on the disk and waits for a replica that does not exist; then its answer is lost."""
    postgres = scene.postgres
    sent = scene.send(numbered(0, 500))
    with scene.following() as follower:
        scene.wait_until_caught_up(follower)
        postgres.ask("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        postgres.ask("SELECT pg_reload_conf()")
        sent += scene.send(numbered(sent, 3000))
        backend = wait_for_backend(postgres, "wait_event = 'SyncRep'")
        # Read at the next start; the backend still waits.
        postgres.ask("ALTER SYSTEM RESET synchronous_standby_names")
        if fault == "kill -9":
            postgres.end()
            postgres.start()
        else:
            postgres.ask(f"SELECT pg_terminate_backend({backend})")
            postgres.ask("SELECT pg_reload_conf()")
        scene.wait_until_caught_up(follower)

    scene.assert_right(sent)


@pytest.mark.parametrize("seed", [1])
def test_killed_while_columns_are_added(scene, seed):
    postgres, rng = scene.postgres, random.Random(seed)
    sent = scene.send(numbered(0, 500))
    postgres.ask(SLOW_DDL)
    try:
        with scene.following() as follower:
            scene.wait_until_caught_up(follower)
            for turn in range(3):
                with postgres.connect() as session:
                    session.execute("SELECT pg_advisory_lock(1)")
                    # Each batch has new fields.
                    sent += scene.send(
                        [b'{"n":%d,"new_%d_%d":%d}' % (n, turn, n // 500, n) for n in range(sent, sent + 1500)]
                    )
                    wait_for_backend(postgres, "wait_event = 'advisory' AND query LIKE 'ALTER TABLE%'")
                time.sleep(rng.uniform(0.0, 0.4))  # the instant of the fault, not a wait for anything
                postgres.end()
                postgres.start()
            scene.wait_until_caught_up(follower)
    finally:
        postgres.ask("DROP EVENT TRIGGER slow_ddl")

    scene.assert_right(sent)


@pytest.mark.parametrize("seed", [1])
def test_backends_ended_again_and_again(scene, seed):
    postgres, rng = scene.postgres, random.Random(seed)
    sent = 0
    with scene.following() as follower:
        for _ in range(8):
            sent += scene.send(numbered(sent, 2000))
            time.sleep(rng.uniform(0.0, 0.5))  # the instant of the fault, not a wait for anything
            ended = postgres.ask(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {BACKENDS} AND usename = '{postgres.server.user}'"
            )
            assert all(done for (done,) in ended)
        scene.wait_until_caught_up(follower)

    scene.assert_right(sent)
    assert follower.process.returncode == -9  # ours, at the end: no error has ended it


def wait_for_backend(postgres: OwnPostgres, condition: str) -> int:
    """Wait until a backend of the flow is as the condition on pg_stat_activity says; its process id."""
    found: list[tuple[object, ...]] = []

    def look() -> bool:
        found[:] = postgres.ask(f"SELECT pid FROM pg_stat_activity WHERE {BACKENDS} AND {condition}")
        return bool(found)

    wait_until(look, 60, f"a backend with {condition}")
    return int(str(found[0][0]))
