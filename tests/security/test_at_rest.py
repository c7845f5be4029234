"""What the workbench promises to encrypt is not on the disk in clear, in any form, and cannot be exchanged."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.services.canaries import files_with, new_canary
from tests.services.keysets import turn
from tests.services.postgres_server import OwnPostgres, running_postgres
from workbench.errors import Corrupt, KeysetError, WarehouseError, WrongKey
from workbench.flows import lend_warehouse, open_warehouse
from workbench.ingestion.batch import Batch
from workbench.ingestion.committing import Decoding, commit
from workbench.ingestion.dead_letters import StoredRecord, replay_dead_letters
from workbench.ingestion.decoding import parse_schema
from workbench.ingestion.decoding.contract import Contract
from workbench.ingestion.decoding.json import JsonDecoder
from workbench.ingestion.loads import LoadBuilder
from workbench.loading import Span, Target
from workbench.security.encryption.rewrapping import retire
from workbench.security.keyset.opening import Keys
from workbench.settings import Settings
from workbench.warehouse.letters.keys import LetterKeys
from workbench.warehouse.letters.looking import count_reasons, read_letters
from workbench.warehouse.letters.rewrapping import rewrap_letters

COLUMNS = parse_schema({"n": "int64", "text": "string"})
TOPIC = "t"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPostgres]:
    with running_postgres(tmp_path_factory.mktemp("letters") / "postgres") as server:
        yield server


@pytest.fixture
def settings(server: OwnPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in {**server.variables(), "WORKBENCH_HOME": str(tmp_path / "home")}.items():
        monkeypatch.setenv(name, value)
    return Settings.load(embedded=False, env_file=tmp_path / "none")


@pytest.fixture
def target(server: OwnPostgres) -> Iterator[Target]:
    target = Target(table="raw.rows", topic=TOPIC)
    yield target
    server.ask("DROP SCHEMA IF EXISTS raw CASCADE")
    server.ask("DROP SCHEMA IF EXISTS workbench CASCADE")


def batch_of(records: list[tuple[bytes | None, bytes | None]], epoch: int, start: int) -> Batch:
    headers = json.dumps([["h", (records[0][0] or b"").decode()]])
    messages = [
        StoredRecord({
            "record_partition": 0, "record_offset": start + number, "record_timestamp": None,
            "record_key": key, "record_value": value, "record_headers": headers,
        })
        for number, (key, value) in enumerate(records)
    ]  # fmt: skip
    return Batch(
        messages=messages,
        values=[value for _, value in records],
        partitions=np.zeros(len(records), np.int32),
        offsets=np.arange(start, start + len(records), dtype=np.int64),
        spans=(Span(0, start, start + len(records), epoch),),
    )


def bring(settings: Settings, target: Target, *records: tuple[bytes | None, bytes | None], lent: bool = False) -> None:
    """Records of a topic through decoder and loads into the warehouse, as a flow brings them."""
    loads = LoadBuilder(target, (), pa.schema([]))
    with open_warehouse(settings, target) as warehouse:
        warehouse.prepare(loads.columns(COLUMNS))
        claim = warehouse.claim("cluster", "topic", {0: 0})[0]
        batch = batch_of(list(records), claim.epoch, claim.next_offset)
        load = loads.build(batch, JsonDecoder(COLUMNS, Contract.IGNORE).decode(batch.values))
        if not lent:
            warehouse.commit(load)
            return
    with lend_warehouse(settings, target) as open_elsewhere, open_elsewhere() as elsewhere:
        elsewhere.commit(load)


def keys_of(settings: Settings) -> Keys:
    return Keys.of(settings.home, settings.keys)


def seen(settings: Settings, target: Target) -> list[tuple[bytes | None, bytes | None, str]]:
    with open_warehouse(settings, target) as warehouse, warehouse.transaction() as connection:
        found = read_letters(connection, target, LetterKeys.of(settings), 100, None)
    return [(each.key, each.value, each.reason) for each in found]


@pytest.mark.parametrize("lent", [False, True], ids=["arrow lane", "executors"])
def test_no_file_of_the_warehouse_holds_what_was_in_a_dead_letter(server, settings, target, lent):
    canary = new_canary()
    bad = json.dumps({"n": canary}, ensure_ascii=False).encode()
    records = [(canary.encode(), bad), (canary.encode(), b"{" + canary.encode()), (canary.encode(), None)]

    bring(settings, target, *records, lent=lent)

    found = seen(settings, target)
    assert [each[:2] for each in found] == records
    server.ask("CHECKPOINT")
    assert files_with(server.server.folder, canary) == []
    assert files_with(settings.home, canary) == []

    in_clear = settings.warehouse.model_copy(update={"encrypt_dead_letters": False})
    bring(settings.model_copy(update={"warehouse": in_clear}), target, *records)
    server.ask("CHECKPOINT")
    assert files_with(server.server.folder, canary)  # the search does find what is there


def test_letters_stay_readable_through_rotation_and_the_old_version_can_be_retired(settings, target):
    bring(settings, target, (b"k", b"{broken"), (b"k", b"{broken"))
    bring(settings, target, (b"k", b"{broken"), lent=True)
    before = seen(settings, target)
    keys = keys_of(settings)
    assert turn(keys) == 2
    with pytest.raises(KeysetError, match="version 1 is needed by 1 of the inventory: dead letters of"):
        retire(keys, 1)

    assert rewrap_letters(settings, keys) == 2  # two data keys; one process each
    retire(keys, 1, destroy=True)

    assert seen(settings, target) == before
    bring(settings, target, (b"k", b"{broken"))
    with open_warehouse(settings, target) as warehouse, warehouse.transaction() as connection:
        (reason,) = count_reasons(connection, target, LetterKeys.of(settings))
    assert reason.letters == 4
    loads = LoadBuilder(target, (), pa.schema([]))
    with open_warehouse(settings, target) as warehouse:
        warehouse.prepare(loads.columns(COLUMNS))
        done = replay_dead_letters(warehouse, loads, JsonDecoder(COLUMNS, Contract.IGNORE))
    assert (done.moved, done.left) == (0, 4)
    assert len(seen(settings, target)) == 4


def test_a_version_that_executors_write_with_is_needed_until_they_are_done(settings, target):
    keys = keys_of(settings)
    with lend_warehouse(settings, target):
        turn(keys)
        rewrap_letters(settings, keys)
        with pytest.raises(KeysetError, match="by executors of process"):
            retire(keys, 1)
    with pytest.raises(KeysetError, match="version 1 is needed"):
        retire(keys, 1)
    rewrap_letters(settings, keys)
    retire(keys, 1)


def test_letters_that_were_moved_or_changed_are_refused(server, settings, target):
    bring(settings, target, (b"a", b"{one"), (b"b", b"{two"))
    server.ask(
        "UPDATE raw.dead_letters AS mine SET record_value = other.record_value FROM raw.dead_letters AS other "
        "WHERE mine.record_offset = 0 AND other.record_offset = 1"
    )

    first, second = seen(settings, target)

    assert first[:2] == (None, None)
    assert "was changed, or moved from another place" in first[2]
    assert second[:2] == (b"b", b"{two")
    loads = LoadBuilder(target, (), pa.schema([]))
    with open_warehouse(settings, target) as warehouse, pytest.raises(Corrupt):
        replay_dead_letters(warehouse, loads, JsonDecoder(COLUMNS, Contract.IGNORE))
    assert server.ask("SELECT count(*) FROM raw.dead_letters") == [(2,)]


def test_letters_of_another_workbench_are_told_and_not_touched(server, settings, target, tmp_path):
    bring(settings, target, (b"a", b"{one"))
    other = settings.model_copy(update={"home": tmp_path / "other"})
    bring(other, target, (b"b", b"{two"))

    first, second = seen(other, target)

    assert first[:2] == (None, None)
    assert "was encrypted with the keyset" in first[2]
    assert second[:2] == (b"b", b"{two")
    loads = LoadBuilder(target, (), pa.schema([]))
    with open_warehouse(other, target) as warehouse, pytest.raises(WrongKey):
        replay_dead_letters(warehouse, loads, JsonDecoder(COLUMNS, Contract.IGNORE))
    turn(keys_of(other))
    assert rewrap_letters(other, keys_of(other)) == 1
    assert [each[:2] for each in seen(settings, target)] == [(b"a", b"{one"), (None, None)]


def test_a_keyset_that_was_lost_stops_the_flow_and_writes_nothing(server, settings, target):
    bring(settings, target, (b"a", b"{one"))
    (settings.home / "keys" / "keyset.json").unlink()

    with pytest.raises(KeysetError, match="there is no keyset any more"):
        bring(settings, target, (b"b", b"{two"))

    assert server.ask("SELECT count(*), sum(next_offset) FROM raw.dead_letters, workbench.offsets") == [(1, 1)]


REFUSING = """
CREATE FUNCTION raw.refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN IF NEW.n = 9 THEN RAISE EXCEPTION USING ERRCODE = 'XX001', MESSAGE = 'no', DETAIL = NEW.text; END IF; RETURN NEW; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON raw.rows FOR EACH ROW EXECUTE FUNCTION raw.refuse();
ALTER TABLE raw.rows ADD CHECK (n <> 7), ADD UNIQUE (text)"""


def test_no_log_holds_what_was_in_a_record_that_decoder_or_table_refuse(server, settings, target, caplog):
    canary, loads = new_canary(), LoadBuilder(target, (), pa.schema([]))
    caplog.set_level(logging.DEBUG)
    numbers = [(7, canary), (8, canary), (8, canary), (canary, "")]
    records = [(canary.encode(), json.dumps({"n": n, "text": text}).encode()) for n, text in numbers]
    with open_warehouse(settings, target) as warehouse:
        warehouse.prepare(loads.columns(COLUMNS))
        server.ask(REFUSING)
        epoch = warehouse.claim("cluster", "topic", {0: 0})[0].epoch

        def bring_one_by_one(records: list[tuple[bytes | None, bytes | None]], start: int) -> int:
            batch = batch_of(records, epoch, start)
            decoded = JsonDecoder(COLUMNS, Contract.IGNORE).decode(batch.values)
            work = Decoding(batch, decoded, loads.build(batch, decoded))
            load = commit(work, warehouse, loads, outage_seconds=1, wait=lambda _: True)
            assert load is not None
            return load.dead_letters.num_rows

        assert bring_one_by_one(records, 0) == 3  # by a constraint, by a unique index, by the decoder
        with pytest.raises(WarehouseError, match="no") as ended:
            bring_one_by_one([(None, json.dumps({"n": 9, "text": canary}).encode())], 4)

    log = server.server.home / "postgres.log"
    assert "violates check constraint" in log.read_text()  # it is the log of the server, and has the error
    assert files_with(log.parent, canary) == [
        str(each.relative_to(log.parent)) for each in sorted(log.parent.glob("postgres/data/pg_wal/0*"))
    ]  # the row that was written; in no log
    assert "canary" not in f"{ended.value}{caplog.text}"
