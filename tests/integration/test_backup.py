"""A restore drill: a warehouse is lost, and comes back in a new home by the escrowed key, at the end and at a moment."""

from __future__ import annotations

import shutil

import pytest

from tests.services.backups import BackedUpWarehouse, restored
from tests.services.postgres_server import running_postgres


@pytest.fixture(scope="module")
def lost(tmp_path_factory):
    """A warehouse with three steps of history, each an hour of work; its home is gone in the end."""
    place = tmp_path_factory.mktemp("backup")
    with running_postgres(place / "home") as postgres:
        warehouse = BackedUpWarehouse(postgres, place / "backups")
        postgres.ask("CREATE TABLE flights AS SELECT n AS id, md5(n::text) AS tail FROM generate_series(1, 5000) n")
        (warehouse.home / "audit").mkdir(exist_ok=True)
        (warehouse.home / "hub").mkdir()
        (warehouse.home / "hub" / "notes.txt").write_text("who was here")
        with warehouse.keeping():
            warehouse.escrowed = warehouse.escrow()
            postgres.ask("INSERT INTO flights SELECT n, 'later' FROM generate_series(5001, 6000) n")
            warehouse.rows = postgres.ask("SELECT * FROM flights ORDER BY id")
            ((warehouse.moment,),) = postgres.ask("SELECT clock_timestamp()")
            postgres.ask("DROP TABLE flights")
            postgres.ask("CREATE TABLE after_the_drop (id int)")
            warehouse.switch_wal()
            warehouse.listed = warehouse.list()
            warehouse.verified = warehouse.run("verify")
        yield warehouse


def test_the_drill(lost, tmp_path):
    out = lost.run("restore", tmp_path / "new", "--at", lost.moment.isoformat(), "--escrow", lost.escrowed, "--passphrase-file", lost.passphrase_file, WORKBENCH_HOME=str(tmp_path / "elsewhere"))
    print(out, lost.listed, lost.verified)
    with restored(tmp_path / "new") as postgres:
        assert postgres.ask("SELECT * FROM flights ORDER BY id") == lost.rows
    assert (tmp_path / "new" / "hub" / "notes.txt").read_text() == "who was here"
