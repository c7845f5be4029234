"""The DuckDB file: encrypted, of one process, with a key that nobody sees."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from pathlib import Path
from uuid import uuid4

import duckdb
import pyarrow as pa
import pytest
from pydantic import SecretStr

import workbench
from tests.services.canaries import files_with
from tests.services.keysets import turn
from workbench.errors import SecretUnavailable, SettingsError, WarehouseError
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.topics import Topic, apply_topics
from workbench.loading import DEAD_LETTERS, ORIGIN, Load, Span, Target
from workbench.sections import WarehouseSettings
from workbench.security.encryption.rewrapping import retire
from workbench.security.kept_secrets import KeptSecrets
from workbench.security.keyset.opening import Keys
from workbench.settings import Settings
from workbench.warehouse.dialects import make_warehouse
from workbench.warehouse.dialects.duckdb_file import open_file, read_key

COLUMNS = pa.schema([pa.field("text", pa.string()), *ORIGIN])
TARGET = Target(table="raw.rows", topic="t")
MARK = "a text that would be found"
ANOTHER_PROCESS = """
import sys
from pathlib import Path
from workbench.errors import WarehouseError
from workbench.sections import WarehouseSettings
from workbench.warehouse.dialects.duckdb_file import open_file
settings = WarehouseSettings.model_validate({"WORKBENCH_WAREHOUSE_DIALECT": "duckdb"}).at(Path(sys.argv[1]))
try:
    open_file(settings).close()
    print("opened")
except WarehouseError as error:
    print(error.message)
"""


@pytest.fixture
def chosen(tmp_path: Path) -> WarehouseSettings:
    return WarehouseSettings.model_validate({"WORKBENCH_WAREHOUSE_DIALECT": "duckdb"}).at(tmp_path)


def write_one(chosen: WarehouseSettings) -> None:
    with make_warehouse(chosen, TARGET) as warehouse:
        warehouse.prepare(COLUMNS)
        claim = warehouse.claim("cluster", "topic", {0: 0})[0]
        rows = pa.table([[MARK] * 1000, pa.array([0] * 1000, pa.int32()), pa.array(range(1000))], schema=COLUMNS)
        spans = (Span(0, claim.next_offset, claim.next_offset + 1000, claim.epoch),)
        warehouse.commit(Load(spans=spans, rows=rows, dead_letters=DEAD_LETTERS.empty_table()))


def another_process(home: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", ANOTHER_PROCESS, home], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


def test_the_settings_choose_it_and_name_its_files(monkeypatch, tmp_path):
    monkeypatch.setenv("WORKBENCH_WAREHOUSE_DIALECT", "duckdb")
    settings = Settings.load()

    write_one(settings.warehouse)

    file, key = tmp_path / ".workbench/warehouse/workbench.duckdb", tmp_path / ".workbench/keys/duckdb-key"
    assert (settings.warehouse.file, settings.warehouse.key_file) == (file, key)
    assert [path.stat().st_mode & 0o777 for path in (file, key)] == [0o600, 0o600]
    assert [path.parent.stat().st_mode & 0o777 for path in (file, key)] == [0o700, 0o700]
    assert str(file) in settings.as_environment()["WORKBENCH_WAREHOUSE_FILE"]


def test_the_file_is_encrypted_the_log_of_a_commit_too(chosen):
    write_one(chosen)
    with open_file(chosen) as connection:
        connection.execute("INSERT INTO raw.rows VALUES (?, 0, 1000)", [MARK])
        found = {path.name: path.read_bytes() for path in chosen.file.parent.iterdir()}
        settings = "SELECT current_setting('temp_file_encryption'), current_setting('temp_directory')"
        assert connection.execute(settings).fetchone() == (True, f"{chosen.file}.tmp")

    assert set(found) == {"workbench.duckdb", "workbench.duckdb.wal"}
    assert not any(MARK.encode() in content for content in found.values())
    with pytest.raises(duckdb.Error, match=r"key|encrypt"):
        duckdb.connect(chosen.file)


def test_another_process_is_told_who_has_the_file(chosen, tmp_path):
    with make_warehouse(chosen, TARGET) as warehouse:
        warehouse.prepare(COLUMNS)
        told = another_process(tmp_path)
    after = another_process(tmp_path)

    assert told == f"the warehouse file {chosen.file} is open in another process, PID {os.getpid()}"
    assert after == "opened"


def test_warehouses_of_one_process_share_the_file(chosen):
    with make_warehouse(chosen, TARGET) as one, make_warehouse(chosen, TARGET) as two:
        one.prepare(COLUMNS)
        assert two.prepare(COLUMNS).names == COLUMNS.names


def test_the_key_is_in_no_error_and_no_representation(chosen):
    write_one(chosen)
    chosen.key_file.write_text("0123456789abcdef" * 4)

    with pytest.raises(WarehouseError, match="does not open the warehouse file") as caught:
        open_file(chosen)

    error: BaseException | None = caught.value
    told = "".join(traceback.format_exception(caught.value)) + repr(chosen)
    while error is not None:
        told, error = told + repr(error.args), error.__context__ or error.__cause__
    assert "0123456789abcdef" not in told


def test_a_key_that_is_gone_is_not_made_anew(chosen):
    write_one(chosen)
    chosen.key_file.unlink()

    with pytest.raises(WarehouseError, match=r"its key .* is gone"):
        open_file(chosen)

    assert not chosen.key_file.exists()


def test_the_key_may_be_in_the_keyset_and_goes_through_its_rotation(monkeypatch, tmp_path):
    monkeypatch.setenv("WORKBENCH_WAREHOUSE_DIALECT", "duckdb")
    monkeypatch.setenv("WORKBENCH_WAREHOUSE_KEY", "keyset:warehouse")
    settings = Settings.load()
    write_one(settings.warehouse)
    keys = Keys.of(settings.home, settings.keys)
    kept = KeptSecrets.of(settings.home, keys)
    key = kept.read("warehouse").get_secret_value()

    assert files_with(tmp_path, key, MARK) == []
    assert not settings.warehouse.key_file.exists()
    turn(keys)
    kept.encrypt_anew()
    retire(keys, 1, destroy=True)
    with open_file(settings.warehouse) as connection:
        assert connection.execute("SELECT count(*) FROM raw.rows").fetchone() == (1000,)

    kept.set("warehouse", SecretStr("0123456789abcdef" * 4))
    with pytest.raises(WarehouseError, match="the key keyset:warehouse does not open the warehouse file") as caught:
        open_file(settings.warehouse)
    assert "0123456789abcdef" not in "".join(traceback.format_exception(caught.value)) + repr(settings)
    kept.remove("warehouse")
    with pytest.raises(SecretUnavailable, match="keyset:warehouse is not there"):
        open_file(settings.warehouse)


def test_a_key_that_is_written_out_is_refused_and_not_shown(monkeypatch):
    monkeypatch.setenv("WORKBENCH_WAREHOUSE_DIALECT", "duckdb")
    monkeypatch.setenv("WORKBENCH_WAREHOUSE_KEY", "hunter2hunter2")
    with pytest.raises(SettingsError, match="WORKBENCH_WAREHOUSE_KEY is no reference") as caught:
        Settings.load()
    assert "hunter2" not in str(caught.value)


def test_a_file_gets_another_key_by_copying_it(monkeypatch, tmp_path):
    """As docs/warehouse.md says."""
    monkeypatch.setenv("WORKBENCH_WAREHOUSE_DIALECT", "duckdb")
    monkeypatch.setenv("WORKBENCH_WAREHOUSE_KEY", "keyset:first")
    settings = Settings.load()
    write_one(settings.warehouse)
    warehouse, fresh = settings.warehouse, settings.warehouse.file.with_suffix(".fresh")

    target = warehouse.model_copy(update={"key": "keyset:second", "file": fresh})
    with open_file(warehouse) as connection:
        connection.execute(f"ATTACH '{fresh}' AS fresh (ENCRYPTION_KEY ?)", [read_key(target).get_secret_value()])
        connection.execute("COPY FROM DATABASE warehouse TO fresh")
        connection.execute("DETACH fresh")
    fresh.replace(warehouse.file)

    with open_file(target.model_copy(update={"file": warehouse.file})) as connection:
        assert connection.execute("SELECT count(*) FROM raw.rows").fetchone() == (1000,)
    with pytest.raises(WarehouseError, match="the key keyset:first does not open"):
        open_file(warehouse)


def test_a_file_that_is_no_database_is_refused(chosen):
    chosen.file.parent.mkdir()
    chosen.file.write_text("no database" * 1000)
    chosen.key_file.parent.mkdir()
    chosen.key_file.write_text("key\n")

    with pytest.raises(WarehouseError, match="refused"):
        open_file(chosen)


def test_a_flow_runs_from_kafka_into_it(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("WORKBENCH_WAREHOUSE_DIALECT", "duckdb")
    monkeypatch.setenv("WORKBENCH_WAREHOUSE_FILE", str(tmp_path / "mine.duckdb"))
    monkeypatch.setenv("WORKBENCH_WAREHOUSE_KEY_FILE", str(tmp_path / "key"))
    topic = f"t-{uuid4().hex}"
    apply_topics(KafkaConnection.from_settings(settings.kafka), [Topic(name=topic, partitions=2)])
    workbench.produce(topic, [*({"n": n} for n in range(1000)), {"n": "no number"}])

    first = workbench.ingest(topic, into="raw.rows", columns={"n": "int64"})
    second = workbench.ingest(topic, into="raw.rows", columns={"n": "int64"})

    assert (first.rows, first.dead, second.rows) == (1000, 1, 0)
    with open_file(Settings.load().warehouse) as connection:
        found = connection.execute("SELECT count(*), count(DISTINCT n) FROM raw.rows").fetchone()
        letters = connection.execute("SELECT count(*) FROM raw.dead_letters WHERE topic = ?", [topic]).fetchone()
    assert (found, letters) == ((1000, 1000), (1,))
