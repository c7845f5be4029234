"""kill -9 of a backup and of a restore: the catalog has whole backups only, and a home appears whole or not at all."""

from __future__ import annotations

import pytest

from tests.services.backups import BackedUpWarehouse, restored
from tests.services.postgres_server import running_postgres
from tests.services.workbench import wait_until


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory):
    place = tmp_path_factory.mktemp("backup")
    with running_postgres(place / "home", is_backed_up=True) as postgres:
        postgres.ask("CREATE TABLE numbers AS SELECT n FROM generate_series(1, 200000) n")
        warehouse = BackedUpWarehouse(postgres, place / "backups")
        warehouse.create()
        yield warehouse


@pytest.mark.parametrize("options", [(), ("--incremental",)])
def test_a_backup_that_was_killed_is_none(warehouse, options):
    before = warehouse.list()
    folder = warehouse.repository().folder / "backups"
    known = set(folder.iterdir())

    process = warehouse.start("create", *options)
    wait_until(lambda: set(folder.iterdir()) - known, 30, "a backup to begin", every_seconds=0.01)
    process.kill()
    process.communicate()

    (half,) = set(folder.iterdir()) - known
    assert not (half / "catalog.enc").exists()
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

    process = warehouse.start("restore", home)
    wait_until((place / seen).exists, 30, f"{seen} to be restored", every_seconds=0.01)
    process.kill()
    process.communicate()

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
