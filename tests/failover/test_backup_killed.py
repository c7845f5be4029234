"""kill -9 of a backup and of a restore: the catalog has whole backups only, and a home appears whole or not at all."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.services.backups import BackedUpWarehouse, restored
from tests.services.postgres_server import running_postgres
from tests.services.workbench import wait_until

TRIES = 5  # one that was whole before it could be killed is made anew


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory):
    place = tmp_path_factory.mktemp("backup")
    with running_postgres(place / "home", is_backed_up=True) as postgres:
        postgres.ask("CREATE TABLE numbers AS SELECT n FROM generate_series(1, 200000) n")
        warehouse = BackedUpWarehouse(postgres, place / "backups")
        warehouse.create()
        yield warehouse


def kill_when(is_seen: Callable[[], object], process: subprocess.Popen[str], what: str) -> None:
    """Kill it in the instant in which that is seen, if it has not ended before."""
    wait_until(lambda: is_seen() or process.poll() is not None, 60, what, every_seconds=0.01)
    process.kill()
    process.communicate()


def killed_backup(warehouse: BackedUpWarehouse, *options: str) -> tuple[list[str], Path]:
    """Kill one before it is whole; returns the backups that were there before it, and what it has left."""
    folder = warehouse.repository().folder / "backups"
    for _ in range(TRIES):
        before, known = warehouse.list(), set(folder.iterdir())

        def begun(known: set[Path] = known) -> set[Path]:
            return set(folder.iterdir()) - known

        kill_when(begun, warehouse.start("create", *options), "a backup to begin")
        (half,) = begun()
        if not (half / "catalog.enc").exists():
            return before, half
    raise AssertionError(f"{TRIES} backups were whole before they could be killed")


@pytest.mark.parametrize("options", [(), ("--incremental",)])
def test_a_backup_that_was_killed_is_none(warehouse, options):
    before, half = killed_backup(warehouse, *options)

    assert warehouse.list() == before
    assert "0 problems" in warehouse.run("verify")
    made = warehouse.create(*options)
    assert warehouse.list() == [*before, made]
    assert not half.exists()
    assert not list((warehouse.home / "backup").glob("scratch.*"))


@pytest.mark.parametrize("seen", ["postgres/data/base", "logs/recovery.log"])
def test_a_restore_that_was_killed_leaves_no_home_and_begins_anew(warehouse, tmp_path, seen):
    home = tmp_path / "new"
    place = tmp_path / ".new.restoring"

    for _ in range(TRIES):
        kill_when((place / seen).exists, warehouse.start("restore", home), f"{seen} to be restored")
        if not home.exists():
            break
        shutil.rmtree(home)  # it was faster than we are

    assert not home.exists()
    assert place.exists()
    warehouse.run("restore", home)
    assert not list(tmp_path.glob(".new*"))
    with restored(home) as postgres:
        assert postgres.ask("SELECT count(*) FROM numbers") == [(200000,)]


def test_a_keeper_that_was_killed_leaves_no_gap(warehouse):
    with warehouse.keeping() as process:
        warehouse.postgres.ask("INSERT INTO numbers VALUES (-1)")
        warehouse.switch_wal()
        process.kill()
        process.wait()
    warehouse.postgres.ask("INSERT INTO numbers VALUES (-2)")
    warehouse.postgres.ask("SELECT pg_switch_wal()")
    with warehouse.keeping():
        warehouse.postgres.ask("INSERT INTO numbers VALUES (-3)")
        warehouse.switch_wal()

    assert "0 problems" in warehouse.run("verify")
