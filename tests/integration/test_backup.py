"""A restore drill: a warehouse is lost, and comes back in a new home by the escrowed key, as it was at a moment or at the end."""

from __future__ import annotations

import json
import shutil
import sqlite3
import uuid
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from tests.services.backups import BackedUpWarehouse, Drill, copy_backups, restored
from tests.services.postgres_server import DATABASE, USER, OwnPostgres, running_postgres
from tests.services.workbench import run, wait_until
from workbench.embedded import recovery
from workbench.embedded.backups import BackupKeeper
from workbench.embedded.postgres import PostgresServer
from workbench.embedded.recovery import server_of
from workbench.errors import BackupError
from workbench.flows import ingest_flow
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.definition import make_flow
from workbench.ingestion.producer import OutgoingRecord, produce
from workbench.ingestion.topics import Topic, apply_topics
from workbench.loading import DEAD_LETTERS, ORIGIN, Load, Span, Target
from workbench.runtime.ports import any_free
from workbench.runtime.supervisor import Supervisor
from workbench.sections import KeysSettings, WarehouseSettings
from workbench.security.encryption.files import read_encrypted, write_encrypted
from workbench.security.encryption.header import MAGIC
from workbench.security.keyset.opening import Keys
from workbench.security.secrets import write_private
from workbench.security.subjects.keys import SubjectKeys
from workbench.settings import Settings
from workbench.warehouse.backup.repository import Repository
from workbench.warehouse.backup.restoring import Chosen, choose
from workbench.warehouse.backup.verification import verify
from workbench.warehouse.backup.wal import Segment
from workbench.warehouse.dialects import make_warehouse

TARGET = Target(table="raw.flights", topic="flights")
COLUMNS = pa.schema([pa.field("n", pa.int64()), *ORIGIN])
ANN, BOB, CAT = (each * 64 for each in "abc")  # fingerprints of subjects
CANARY = b"canary-of-an-output"
OUTPUTS = ("pipelines/output.enc", "pipelines/runs/1/output.ipynb.enc", "pipelines/runs/1/events.enc")


def ingest(postgres: OwnPostgres, end: int) -> int:
    """What a flow does with a topic of *end* records: go on where the ledger says. Returns where that was."""
    with make_warehouse(WarehouseSettings.model_validate(postgres.variables()), TARGET) as warehouse:
        warehouse.prepare(COLUMNS)
        (claim,) = warehouse.claim("cluster", "topic", {0: 0})
        numbers = list(range(claim.next_offset, end))
        rows = pa.table({"n": numbers, "_partition": [0] * len(numbers), "_offset": numbers}, schema=COLUMNS)
        span = Span(claim.partition, claim.next_offset, end, claim.epoch)
        warehouse.commit(Load(spans=(span,), rows=rows, dead_letters=DEAD_LETTERS.empty_table()))
        return claim.next_offset


def fill(home: Path, project: Path) -> None:
    """What people, the hub and runs have in a home, and a project with its configuration beside it."""
    (home / "hub").mkdir()
    with closing(sqlite3.connect(home / "hub" / "jupyterhub.sqlite")) as hub, hub:
        hub.execute("PRAGMA journal_mode = WAL")
        hub.execute("CREATE TABLE users (name TEXT, admin INT)")
        hub.executemany("INSERT INTO users VALUES (?, ?)", [("ada", 1), ("grace", 0)])
        hub.execute("CREATE TABLE api_tokens (hashed BLOB)")
        hub.executemany("INSERT INTO api_tokens VALUES (?)", [(uuid.uuid4().bytes,) for _ in range(500)])
    for path, text in {
        home / "users" / "ada" / "delays.ipynb": '{"cells": []}',
        home / "users" / "grace" / "deep" / "carriers.ipynb": '{"cells": [1]}',
        home / "keys" / "hub" / "cookie-secret": uuid.uuid4().hex,
        project / ".env": "DW_PASSWORD=of the configuration",
        project / "pipelines" / "daily.yaml": "name: daily",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    keys = Keys.of(home, KeysSettings())
    keys.ensure()
    (home / "pipelines" / "runs" / "1").mkdir(parents=True)
    for name in OUTPUTS:
        write_encrypted(keys, CANARY, home / name, "an output")


def subject_keys(home: Path) -> SubjectKeys:
    return SubjectKeys(home, Keys.of(home, KeysSettings()))


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its content; databases and locks apart."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in {".db", ".lock"})
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if "-" not in path.suffix}


def rows_of(hub: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table of the hub's database."""
    with closing(sqlite3.connect(hub)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables}


@pytest.fixture(scope="module")
def drill(tmp_path_factory):
    """A warehouse with a history, a full backup and an incremental one, WAL after them, and an escrowed key."""
    place = tmp_path_factory.mktemp("backup")
    with running_postgres(place / "home", is_backed_up=True) as postgres:
        warehouse = BackedUpWarehouse(postgres, place / "backups")
        project = place / "project"
        fill(postgres.server.home, project)
        subject_keys(postgres.server.home).ensure("customer", [ANN, BOB])
        ingest(postgres, 500)
        with warehouse.keeping(WORKBENCH_BACKUP_INCLUDE=str(project)):
            ingest(postgres, 700)
            (project / "since-the-full-one").touch()
            warehouse.run("create", "--incremental", WORKBENCH_BACKUP_INCLUDE=str(project))
            subject_keys(postgres.server.home).ensure("customer", [CAT])
            subject_keys(postgres.server.home).destroy([("customer", ANN)])
            ingest(postgres, 800)
            rows = postgres.ask("SELECT * FROM raw.flights ORDER BY n")
            ((moment,),) = postgres.ask("SELECT clock_timestamp()")
            postgres.ask("DROP TABLE raw.flights")
            postgres.ask("CREATE TABLE after_the_drop (id int)")
            warehouse.switch_wal()
        yield Drill(warehouse=warehouse, rows=rows, moment=moment, escrow=warehouse.escrow())


def test_it_is_as_it_was_before_the_drop_and_the_flow_goes_on(drill, tmp_path):
    home = tmp_path / "new"

    # As on another machine: no settings and no home but the escrow and the folder of backups.
    told = drill.restore(home, "--at", drill.moment.isoformat(), WORKBENCH_HOME=str(tmp_path / "none"))

    assert told["segments"] >= 1
    assert told["backup"] == drill.warehouse.list()[-1]
    origin = drill.warehouse.home
    assert rows_of(home / "hub" / "jupyterhub.sqlite") == rows_of(origin / "hub" / "jupyterhub.sqlite")
    for folder in ("users", "pipelines", "keys"):
        assert tree(home / folder) == tree(origin / folder)
    assert tree(home / "restored" / "0-project") == tree(origin.parent / "project")
    with restored(home) as postgres:
        assert postgres.ask("SELECT * FROM raw.flights ORDER BY n") == drill.rows
        assert ingest(postgres, 1000) == 800
        found = postgres.ask("SELECT count(*), count(DISTINCT n), min(n), max(n) FROM raw.flights")
        assert found == [(1000, 1000, 0, 999)]
    # Keys of subjects come back as they were last, whichever backup it began with: what was destroyed does not.
    now, then = (subject_keys(each).find("customer", [ANN, BOB, CAT]) for each in (home, origin))
    assert now == then
    assert [key is None for key in now.values()] == [True, False, False]
    keys = Keys.of(home, KeysSettings())
    for name in OUTPUTS:
        assert read_encrypted(keys, home / name, "an output") == CANARY
        assert str(home / name) in {each.name for each in keys.inventory.entries()}
    # Backups that need its keys are known to it, the one that it came from among them; what is not there is not.
    named = {Path(each.name) for each in keys.inventory.entries() if each.kind != "values"}
    assert named >= {*drill.warehouse.repository().folder.rglob("*.enc")}
    assert all(path.is_file() for path in named)
    events = [json.loads(line) for line in (home / "audit" / "events.jsonl").read_text().splitlines()]
    assert any("backup.restored" in json.dumps(each) for each in events)
    assert not list(tmp_path.glob(".new.restoring*"))


def restore_here(drill: Drill, home: Path, at: datetime | None = None) -> recovery.Restored:
    """As the command does it, with the keys of the home that is there."""
    live = Keys.of(drill.warehouse.home, KeysSettings())
    with recovery.staged(home) as place:
        (place / "keys").mkdir(mode=0o700)
        for name in ("keyset.json", "root.key"):
            write_private(place / "keys" / name, (live.file.path.parent / name).read_bytes())
        chosen = choose([drill.warehouse.repository()], lambda _: Keys.of(place, KeysSettings()), name=None, at=at)
        return recovery.restore(chosen, home, at)


def test_without_a_moment_it_is_as_it_was_last(drill, tmp_path):
    restore_here(drill, tmp_path / "new")

    with restored(tmp_path / "new") as postgres:
        assert postgres.ask("SELECT to_regclass('after_the_drop')::text, to_regclass('raw.flights')") == [
            ("after_the_drop", None)
        ]


def test_nothing_is_in_clear_and_the_root_key_is_not_there(drill):
    files = [path for path in drill.warehouse.folder.rglob("*") if path.is_file() and not path.name.endswith(".lock")]
    in_clear = {path.name for path in files if not path.read_bytes().startswith(MAGIC)}
    assert len(files) > 10
    # The keyset is sealed by the root key itself; the other is the number of the last change.
    assert in_clear == {"keyset.json", "subjects.changes"}
    # What is packed before it is encrypted cannot be found by its bytes: the start of each file says more.
    root = (drill.warehouse.home / "keys" / "root.key").read_bytes().strip()
    assert not [path for path in files if root in path.read_bytes() or CANARY in path.read_bytes()]
    assert not [path for path in files if path.stat().st_mode & 0o077]


def test_a_home_that_is_not_empty_is_not_touched(drill, tmp_path):
    (tmp_path / "mine").write_text("precious")

    for home in (tmp_path, drill.warehouse.home):
        with pytest.raises(BackupError, match="is not empty"):
            restore_here(drill, home)

    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert drill.warehouse.postgres.server.is_healthy()


def test_a_dropped_warehouse_comes_back_as_it_was_before_and_its_flow_has_every_record_once(
    shared_workbench, tmp_path, monkeypatch
):
    """With the real flow: Kafka is the shared one, the warehouse one of its own."""
    monkeypatch.setenv("WORKBENCH_HOME", str(shared_workbench.home))
    topic, table = f"t-{uuid.uuid4().hex}", "raw.drilled"
    flow = make_flow("drilled", {"topic": topic, "into": table, "columns": {"n": "int64"}})
    connection = KafkaConnection.from_settings(Settings.load().kafka)
    apply_topics(connection, [Topic(name=topic, partitions=2)])

    def flowed(postgres: OwnPostgres, more: int) -> int:
        """How many rows the flow brings, when so many records were sent before it."""
        produce(connection, topic, (OutgoingRecord(b'{"n":%d}' % n, partition=n % 2) for n in range(more)))
        for name, value in postgres.variables().items():
            monkeypatch.setenv(name, value)
        return ingest_flow(Settings.load(), flow, lambda _: None).rows

    with running_postgres(tmp_path / "home", is_backed_up=True) as postgres:
        warehouse = BackedUpWarehouse(postgres, tmp_path / "backups")
        with warehouse.keeping():
            assert flowed(postgres, 500) == 500
            ((moment,),) = postgres.ask("SELECT clock_timestamp()")
            assert flowed(postgres, 300) == 300
            postgres.ask(f"DROP DATABASE {DATABASE} WITH (FORCE)", "postgres")
            warehouse.switch_wal("postgres")
        drill = Drill(warehouse=warehouse, rows=[], moment=moment, escrow=warehouse.escrow())

    drill.restore(tmp_path / "new", "--at", moment.isoformat(), WORKBENCH_HOME=str(tmp_path / "none"))

    with restored(tmp_path / "new") as postgres:
        assert postgres.ask(f"SELECT count(*) FROM {table}") == [(500,)]
        assert flowed(postgres, 200) == 500
        verified = run("verify", topic, table, home=shared_workbench.home, **postgres.variables())
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "1,000 rows, 0 dead letters: 0 missing, 0 doubled" in verified.stdout


def test_two_restores_into_one_home_are_refused(tmp_path):
    with recovery.staged(tmp_path / "new"), pytest.raises(BackupError, match="another restore"):  # noqa: SIM117
        with recovery.staged(tmp_path / "new"):
            pass


@pytest.mark.parametrize(("year", "reason"), [(2020, "ended before 2020"), (2100, "no transaction after 2100")])
def test_a_moment_that_no_backup_reaches_is_refused(drill, tmp_path, year, reason):
    with pytest.raises(BackupError, match=reason):
        restore_here(drill, tmp_path / "new", datetime(year, 1, 1, tzinfo=UTC))

    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def copy(drill, tmp_path):
    """The backups in another folder, to be damaged, and the keys that read them."""
    return copy_backups(drill, tmp_path)


def damage(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_what_is_whole_has_no_problems(copy):
    found = verify(*copy)

    assert (found.backups, found.problems) == (2, ())
    assert found.segments >= 1


@pytest.mark.parametrize(
    "name", ["warehouse.tar.gz.enc", "manifest.gz.enc", "home.tar.gz.enc", "catalog.enc", "keyset.json"]
)
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_a_flipped_bit_is_named(copy, name, where):
    keys, repository = copy
    path, *_ = sorted(repository.folder.rglob(name))
    damage(path, int((path.stat().st_size - 1) * where))

    found = verify(keys, repository)

    # Without its full backup the incremental one is of no use.
    assert len(found.problems) == (2 if name == "catalog.enc" else 1)
    assert all(str(path) in each for each in found.problems)


def test_damaged_and_missing_wal_is_named(copy):
    keys, repository = copy
    segment = repository.wal.segments()[-1]
    (path,) = repository.folder.rglob(f"{segment.name}*")
    damage(path, 400)

    (problem,) = verify(keys, repository).problems

    assert str(path) in problem
    # The file of the next one without this one: nothing leads on to it.
    later = path.with_name(path.name.replace(segment.name, type(segment)(1, segment.number + 1).name))
    path.rename(later)
    assert any(f"{segment.name} of WAL is missing" in each for each in verify(keys, repository).problems)


def test_a_restore_does_not_pass_over_missing_wal_in_silence(drill, tmp_path, copy):
    keys, repository = copy
    backup = repository.backups(keys)[-1]
    write_encrypted(keys, b"", repository.folder / "wal" / f"{Segment(1, backup.stop.number + 90).name}.z.enc", "any")

    with recovery.staged(tmp_path / "new"), pytest.raises(BackupError, match="of WAL is missing"):
        recovery.restore(Chosen(repository=repository, backup=backup, keys=keys), tmp_path / "new", None)


def test_one_part_in_the_place_of_another_is_found(copy):
    keys, repository = copy
    warehouse, home = (min(repository.folder.rglob(name)) for name in ("warehouse.tar*", "home.tar*"))
    shutil.copy(home, warehouse)

    (problem,) = verify(keys, repository).problems

    assert str(warehouse) in problem


def test_a_segment_is_never_written_over(drill, tmp_path, copy):
    keys, repository = copy
    segment = repository.wal.segments()[-1]
    same, other = tmp_path / "same" / segment.name, tmp_path / "other" / segment.name
    for path, content in ((same, repository.wal.read(keys, segment.name)), (other, uuid.uuid4().bytes)):
        path.parent.mkdir()
        path.write_bytes(content)

    repository.wal.add(keys, same)
    with pytest.raises(BackupError, match="with another content"):
        repository.wal.add(keys, other)

    assert repository.wal.read(keys, segment.name) == same.read_bytes()


def test_the_component_of_up_makes_a_backup_and_is_healthy(tmp_path):
    home, folder = tmp_path / "home", tmp_path / "backups"
    home.mkdir(mode=0o700)
    postgres = PostgresServer(home=home, port=any_free(), database=DATABASE, user=USER, is_backed_up=True)
    variables = {
        "DW_PORT": str(postgres.port),
        "DW_DATABASE": DATABASE,
        "DW_USER": USER,
        "WORKBENCH_BACKUP_FOLDER": str(folder),
    }
    keeper = BackupKeeper(home=home, folder=folder, environment=variables)
    with Supervisor(home) as supervisor:
        supervisor.start([postgres])
        supervisor.start([keeper])

        repository = Repository.of(home, folder)
        wait_until(repository.names, 60, "a first backup")

        with server_of(postgres).connect() as connection:
            assert connection.execute("SHOW archive_timeout").fetchone() == ("1min",)
            assert connection.execute("SELECT active FROM pg_replication_slots").fetchall() == [(True,)]
    assert verify(Keys.of(home, KeysSettings()), repository).problems == ()
