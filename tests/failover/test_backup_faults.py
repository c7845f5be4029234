"""A full disk of backups, a slot that is gone and a segment that is lost: nothing is passed over, and a new chain begins."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import needs
from tests.services.backups import SECONDS, BackedUpWarehouse, restored
from tests.services.postgres_server import running_postgres
from tests.services.workbench import wait_until
from workbench.sections import KeysSettings
from workbench.security.keyset.opening import Keys
from workbench.warehouse.backup.receiving import whole_segments
from workbench.warehouse.backup.repository import Repository
from workbench.warehouse.backup.server import SLOT
from workbench.warehouse.backup.status import read_status, read_waiting_since
from workbench.warehouse.backup.verification import verify
from workbench.warehouse.backup.wal import first_gap

LEFT_BYTES = 100_000
STATUS = "SELECT wal_status FROM pg_replication_slots"


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    with running_postgres(tmp_path_factory.mktemp("faults") / "home", is_backed_up=True) as running:
        running.ask("CREATE TABLE numbers (n int, noise text)")
        yield running


@pytest.fixture
def warehouse(postgres, tmp_path):
    folder = tmp_path / "backups"
    folder.mkdir()
    return BackedUpWarehouse(postgres, folder)


def write(warehouse: BackedUpWarehouse, segments: int) -> None:
    """Write into so many segments of WAL; the last one stays open."""
    for number in range(segments):
        warehouse.postgres.ask("SELECT pg_switch_wal()")
        noise = "string_agg(md5(random()::text), '')"
        warehouse.postgres.ask(
            f"INSERT INTO numbers SELECT {number}, (SELECT {noise} FROM generate_series(1, 20000) WHERE n = n) "
            "FROM generate_series(1, 5) n"
        )


def fill(path: Path) -> None:
    """Have the file take all of its disk but `LEFT_BYTES`, whatever the keeper archives meanwhile."""
    with path.open("wb", buffering=0) as file:
        with suppress(OSError):
            while file.write(bytes(LEFT_BYTES)):
                pass
        file.truncate(max(0, file.tell() - LEFT_BYTES))


def test_a_full_disk_of_backups_is_waited_for(warehouse):
    needs(os.geteuid() == 0 and shutil.which("unshare") is not None, "root and unshare")
    keys = Keys.of(warehouse.home, KeysSettings())
    spool = warehouse.home / "backup" / "wal"

    with warehouse.keeping(disk="60m") as process:
        folder = Path(f"/proc/{process.pid}/root{warehouse.folder}")
        repository = Repository(folder / warehouse.repository().folder.name)
        backups = repository.names()
        filler = folder / "filler"
        fill(filler)

        write(warehouse, 2)
        wait_until(lambda: "No space left on device" in warehouse.kept(), SECONDS, "a full disk")
        wait_until(lambda: whole_segments(spool), SECONDS, "WAL to wait")
        wait_until(lambda: read_waiting_since(warehouse.home), SECONDS, "the lag to be noted")
        create = ("nsenter", f"--target={process.pid}", "--mount", "--")
        assert "No space left on device" in warehouse.run("create", code=2, before=create)
        assert "No space left on device" in read_status(warehouse.home).problem
        assert repository.names() == backups
        assert process.poll() is None

        filler.unlink()
        wait_until(lambda: not whole_segments(spool), SECONDS, "WAL to be archived")
        wait_until(lambda: read_waiting_since(warehouse.home) is None, SECONDS, "the lag to be over")
        assert verify(keys, repository).problems == ()
        assert repository.names() == backups


def test_a_slot_that_the_server_let_go_of_cuts_the_chain_and_a_full_backup_begins_another(warehouse, tmp_path):
    postgres = warehouse.postgres
    with warehouse.keeping():
        write(warehouse, 1)
        warehouse.switch_wal()
    (first,) = warehouse.repository().names()
    postgres.ask("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
    postgres.ask("SELECT pg_reload_conf()")
    write(warehouse, 3)
    # Not before the server has taken account of what has changed in it.
    wait_until(
        lambda: postgres.ask("CHECKPOINT") or postgres.ask(STATUS) == [("lost",)], SECONDS, "the slot to be lost"
    )
    postgres.ask("ALTER SYSTEM RESET max_slot_wal_keep_size")
    postgres.ask("SELECT pg_reload_conf()")

    with warehouse.keeping():
        wait_until(lambda: warehouse.kept().count("made the full backup") == 2, SECONDS, "another full backup")
        postgres.ask("CREATE TABLE IF NOT EXISTS afterwards ()")
        write(warehouse, 1)
        warehouse.switch_wal()

    told = warehouse.run("verify", code=1)
    assert "1 problems" in told
    assert f"of WAL is missing: from the backup {first} nothing after it can be restored" in told
    assert "`workbench backup create` makes" in told
    warehouse.run("restore", tmp_path / "new")
    with restored(tmp_path / "new") as again:
        rows = "SELECT count(*), sum(hashtext(noise)), to_regclass('afterwards')::text FROM numbers"
        assert again.ask(rows) == postgres.ask(rows)


def test_a_slot_that_somebody_drops_loses_nothing_that_the_server_still_has(warehouse):
    postgres, repository = warehouse.postgres, warehouse.repository()
    with warehouse.keeping():
        write(warehouse, 1)
        warehouse.switch_wal()
    postgres.ask(f"SELECT pg_drop_replication_slot('{SLOT}')")
    write(warehouse, 2)
    with warehouse.keeping():
        warehouse.switch_wal()

    assert verify(Keys.of(warehouse.home, KeysSettings()), repository).problems == ()
    assert len(repository.names()) == 1


def test_a_segment_that_is_lost_is_told_by_the_next_backup_and_by_verify(warehouse):
    keys, repository = Keys.of(warehouse.home, KeysSettings()), warehouse.repository()
    with warehouse.keeping():
        write(warehouse, 2)
        warehouse.switch_wal()
    (backup,) = repository.names()
    lost = repository.wal.segments()[-2].name
    (repository.wal.folder / f"{lost}.z.enc").unlink()

    (problem,) = verify(keys, repository).problems
    assert f"{lost} of WAL is missing: from the backup {backup} nothing" in problem
    told = json.loads(warehouse.run("create", "--incremental", "--json"))
    assert told["gap"].startswith(f"{lost} of WAL is missing")
    assert told["needs"] == backup
    # From there on it is whole again, and the gap before it stays known.
    assert first_gap(repository.wal.segments(), repository.read(keys, told["backup"]).stop) is None
    assert verify(keys, repository).problems == (problem,)
