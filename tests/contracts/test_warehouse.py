"""What every warehouse promises to a flow (`workbench.loading.Warehouse`), tried on each dialect alike."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import random
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from tests.contracts.conftest import World
from workbench.errors import RowsRefused, TakenOver, WarehouseError, WarehouseUnavailable
from workbench.loading import DEAD_LETTERS, JSON, ORIGIN, Claim, Load, Mode, Span, Warehouse
from workbench.sections import KeysSettings
from workbench.security.keyset.opening import Keys
from workbench.warehouse.letters.keys import LetterKeys
from workbench.warehouse.letters.looking import count_reasons, drop_letters, read_letters
from workbench.warehouse.letters.warehouse import SealedWarehouse

COLUMNS = pa.schema([pa.field("n", pa.int64()), pa.field("text", pa.string()), *ORIGIN])
CLUSTER, TOPIC = "cluster-1", "topic-1"
UTC = dt.UTC


def table(columns: pa.Schema, rows: Sequence[Sequence[Any]]) -> pa.Table:
    """Rows as Arrow; JSON is given as its text."""
    arrays = []
    for index, field in enumerate(columns):
        values = [row[index] for row in rows]
        if field.type == JSON:
            arrays.append(pa.ExtensionArray.from_storage(JSON, pa.array(values, pa.string())))
        else:
            arrays.append(pa.array(values, field.type))
    return pa.Table.from_arrays(arrays, schema=columns)


def numbers(start: int, end: int, partition: int = 0) -> pa.Table:
    return table(COLUMNS, [(n, f"row {n}", partition, n) for n in range(start, end)])


def letters(world: World, *offsets: int, partition: int = 0) -> pa.Table:
    return table(
        DEAD_LETTERS,
        [
            (
                world.topic,
                partition,
                each,
                None,
                b"\x00k",
                b"\xff",
                "broken",
                f"{world.schema}.rows",
                '[["h", "v"]]',
                None,
            )
            for each in offsets
        ],
    )


def letter_keys(folder: Path) -> LetterKeys:
    return LetterKeys(Keys.of(folder, KeysSettings()), "dead letters of a test")


def make_load(claim: Claim, end: int, rows: pa.Table, dead: pa.Table | None = None, **more: Any) -> Load:
    span = Span(claim.partition, claim.next_offset, end, claim.epoch)
    return Load(spans=(span,), rows=rows, dead_letters=DEAD_LETTERS.empty_table() if dead is None else dead, **more)


def begin(warehouse: Warehouse, columns: pa.Schema = COLUMNS) -> Claim:
    """Prepare, and claim partition 0 from offset 0 on."""
    warehouse.prepare(columns)
    return warehouse.claim(CLUSTER, TOPIC, {0: 0})[0]


def written(world: World) -> tuple[int, int, int]:
    """Rows, dead letters and the next offset of partition 0."""
    return (
        world.count("SELECT count(*) FROM {s}.rows"),
        world.count("SELECT count(*) FROM {s}.dead_letters"),
        world.count(f"SELECT next_offset FROM workbench.offsets WHERE topic = '{world.topic}' AND partition = 0"),
    )


def test_prepare_makes_what_is_not_there_and_can_be_repeated(world):
    warehouse = world.open()

    first = warehouse.prepare(COLUMNS)
    second = warehouse.prepare(COLUMNS)

    assert first == second
    assert [(field.name, field.type) for field in first] == [(field.name, field.type) for field in COLUMNS]
    assert [field.nullable for field in first] == [True, True, False, False]
    assert world.count("SELECT count(*) FROM {s}.dead_letters") == 0


def test_a_table_that_does_not_fit_is_described_whole(world):
    world.query("CREATE SCHEMA {s}")
    world.query("CREATE TABLE {s}.rows (n boolean, more date, _partition integer NOT NULL)")

    with pytest.raises(WarehouseError) as caught:
        world.open().prepare(COLUMNS)

    for part in ("column n is BOOLEAN, not BIGINT", "column text is missing", "column _offset is missing"):
        assert part in caught.value.message


def test_a_table_may_have_more_columns_and_wider_ones(world):
    world.query("CREATE SCHEMA {s}")
    world.query(
        "CREATE TABLE {s}.rows (n double precision, text varchar(1000), more date, _partition bigint NOT NULL, _offset bigint NOT NULL)"
    )
    warehouse = world.open()

    columns = warehouse.prepare(COLUMNS)
    claim = warehouse.claim(CLUSTER, TOPIC, {0: 0})[0]
    warehouse.commit(make_load(claim, 3, numbers(0, 3)))

    assert columns.field("n").type == pa.float64()
    assert world.query("SELECT n, text, more FROM {s}.rows ORDER BY n")[2] == (2.0, "row 2", None)


def test_a_table_that_was_dropped_is_not_made_anew(world):
    warehouse = world.open()
    warehouse.commit(make_load(begin(warehouse), 3, numbers(0, 3)))
    world.query("DROP TABLE {s}.rows")

    with pytest.raises(WarehouseError, match=r"rows is gone, but workbench\.offsets says"):
        warehouse.prepare(COLUMNS)


def test_each_claim_raises_the_epoch_and_goes_on_where_the_last_commit_ended(world):
    warehouse = world.open()
    first = begin(warehouse)
    warehouse.commit(make_load(first, 3, numbers(0, 3)))

    second = warehouse.claim(CLUSTER, TOPIC, {0: 0, 1: 7})

    assert first == Claim(0, 0, 1)
    assert second == (Claim(0, 3, 2), Claim(1, 7, 1))


@pytest.mark.parametrize("identity", [("other", TOPIC), (CLUSTER, "other")])
def test_offsets_of_another_cluster_or_topic_are_refused(world, identity):
    warehouse = world.open()
    begin(warehouse)

    with pytest.raises(WarehouseError, match="belong to topic topic-1 of cluster cluster-1"):
        warehouse.claim(*identity, {0: 0, 1: 0})

    assert [(each.partition, each.next_offset) for each in warehouse.progress()] == [(0, 0)]


def test_of_many_who_claim_at_once_each_gets_an_epoch_of_its_own(world):
    world.open().prepare(COLUMNS)
    warehouses = [world.open() for _ in range(4)]

    with ThreadPoolExecutor(4) as pool:
        claims = list(pool.map(lambda each: each.claim(CLUSTER, TOPIC, {0: 0, 1: 0}), warehouses))

    assert sorted(each[0].epoch for each in claims) == [1, 2, 3, 4]
    assert sorted(each[1].epoch for each in claims) == [1, 2, 3, 4]
    assert world.count(f"SELECT count(*) FROM workbench.offsets WHERE topic = '{world.topic}'") == 2


def test_rows_dead_letters_and_offsets_go_together(world, tmp_path):
    warehouse = world.open()

    warehouse.commit(make_load(begin(warehouse), 12, numbers(0, 10), letters(world, 10, 11)))

    assert written(world) == (10, 2, 12)
    assert world.count("SELECT count(DISTINCT n) FROM {s}.rows WHERE text = 'row ' || n") == 10
    with warehouse.transaction() as connection:
        target = world.target()
        found = read_letters(connection, target, letter_keys(tmp_path), 10, None)
        assert [(each.partition, each.offset, each.key, each.value) for each in found] == [
            (0, 10, b"\x00k", b"\xff"),
            (0, 11, b"\x00k", b"\xff"),
        ]
        assert [(each.reason, each.letters) for each in count_reasons(connection, target, letter_keys(tmp_path))] == [
            ("broken", 2)
        ]
        assert drop_letters(connection, target, (0, 10)) == 1


def test_a_load_of_several_partitions_is_one_transaction(world):
    warehouse = world.open()
    warehouse.prepare(COLUMNS)
    one, two = warehouse.claim(CLUSTER, TOPIC, {0: 0, 1: 100})
    rows = pa.concat_tables([numbers(0, 5), numbers(100, 105, partition=1)])
    spans = (Span(0, 0, 5, one.epoch), Span(1, 100, 105, two.epoch))

    warehouse.commit(Load(spans=spans, rows=rows, dead_letters=DEAD_LETTERS.empty_table()))

    assert world.query("SELECT _partition, count(*), min(_offset) FROM {s}.rows GROUP BY 1 ORDER BY 1") == [
        (0, 5, 0),
        (1, 5, 100),
    ]


def test_a_taken_over_worker_writes_nothing(world):
    warehouse, other = world.open(), world.open()
    old = begin(warehouse)
    new = other.claim(CLUSTER, TOPIC, {0: 0})[0]

    with pytest.raises(TakenOver, match="partition 0"):
        warehouse.commit(make_load(old, 10, numbers(0, 9), letters(world, 9)))
    other.commit(make_load(new, 10, numbers(0, 10)))

    assert written(world) == (10, 0, 10)


def test_with_one_partition_of_two_taken_over_nothing_is_written(world):
    warehouse, other = world.open(), world.open()
    warehouse.prepare(COLUMNS)
    one, two = warehouse.claim(CLUSTER, TOPIC, {0: 0, 1: 0})
    other.claim(CLUSTER, TOPIC, {1: 0})
    rows = pa.concat_tables([numbers(0, 5), numbers(0, 5, partition=1)])
    load = Load(
        spans=(Span(0, 0, 5, one.epoch), Span(1, 0, 5, two.epoch)), rows=rows, dead_letters=DEAD_LETTERS.empty_table()
    )

    with pytest.raises(TakenOver, match="partition 1 of"):
        warehouse.commit(load)

    assert written(world) == (0, 0, 0)


def test_a_load_that_begins_elsewhere_than_the_ledger_says_is_not_written(world):
    warehouse = world.open()
    claim = begin(warehouse)

    with pytest.raises(TakenOver):
        warehouse.commit(make_load(dataclasses.replace(claim, next_offset=5), 10, numbers(5, 10)))

    assert written(world) == (0, 0, 0)


def test_a_load_committed_twice_is_written_once(world):
    warehouse = world.open()
    load = make_load(begin(warehouse), 4, numbers(0, 3), letters(world, 3))

    warehouse.commit(load)
    warehouse.commit(load)

    assert written(world) == (3, 1, 4)


def test_a_load_without_rows_moves_the_offset(world):
    warehouse = world.open()

    warehouse.commit(make_load(begin(warehouse), 9, COLUMNS.empty_table()))

    assert written(world) == (0, 0, 9)


def test_rows_that_lack_a_value_are_refused_one_by_one_and_nothing_is_written(world):
    world.query("CREATE SCHEMA {s}")
    world.query(
        "CREATE TABLE {s}.rows (n bigint NOT NULL, text varchar(1000), _partition integer NOT NULL, _offset bigint NOT NULL)"
    )
    warehouse = world.open()
    claim = begin(warehouse)
    rows = table(COLUMNS, [(None if n in (3, 77) else n, f"row {n}", 0, n) for n in range(100)])

    with pytest.raises(RowsRefused) as caught:
        warehouse.commit(make_load(claim, 100, rows))

    assert set(caught.value.reasons) == {3, 77}
    assert all("n" in reason for reason in caught.value.reasons.values())
    assert written(world) == (0, 0, 0)
    left = rows.filter(pa.array([n not in (3, 77) for n in range(100)]))
    warehouse.commit(make_load(claim, 100, left, letters(world, 3, 77)))
    assert written(world) == (98, 2, 100)


def test_rows_that_a_check_refuses_are_told_one_by_one(world):
    if not world.capabilities.enforces_checks:
        pytest.skip("CHECK is not kept there")
    world.query("CREATE SCHEMA {s}")
    world.query(
        "CREATE TABLE {s}.rows (n bigint CHECK (n % 100 <> 7), text varchar(1000), _partition integer NOT NULL, _offset bigint NOT NULL)"
    )
    warehouse = world.open()

    with pytest.raises(RowsRefused, match="4 rows do not fit") as caught:
        warehouse.commit(make_load(begin(warehouse), 400, numbers(0, 400)))

    assert list(caught.value.reasons) == [7, 107, 207, 307]
    assert all("check" in reason.lower() for reason in caught.value.reasons.values())
    assert written(world) == (0, 0, 0)


def test_rows_that_clash_with_an_earlier_one_are_refused(world):
    if not world.capabilities.enforces_checks:
        pytest.skip("UNIQUE is not kept there")
    world.query("CREATE SCHEMA {s}")
    world.query(
        "CREATE TABLE {s}.rows (n bigint UNIQUE, text varchar(1000), _partition integer NOT NULL, _offset bigint NOT NULL)"
    )
    warehouse = world.open()
    rows = table(COLUMNS, [(5 if n in (9, 40) else n, "", 0, n) for n in range(50)])

    with pytest.raises(RowsRefused) as caught:
        warehouse.commit(make_load(begin(warehouse), 50, rows))

    assert set(caught.value.reasons) == {9, 40}


def test_a_text_that_is_too_long_for_an_index_is_told(world):
    if world.dialect != "postgresql":
        pytest.skip("an index of PostgreSQL has a limit")
    warehouse = world.open()
    claim = begin(warehouse)
    world.query("CREATE INDEX ON {s}.rows (text)")
    rows = table(COLUMNS, [(n, random.Random(n).randbytes(5000 if n == 3 else 5).hex(), 0, n) for n in range(6)])

    with pytest.raises(RowsRefused) as caught:
        warehouse.commit(make_load(claim, 6, rows))

    assert set(caught.value.reasons) == {3}
    assert "index row" in caught.value.reasons[3]


MERGED = pa.schema([pa.field("id", pa.int64()), pa.field("value", pa.string()), *ORIGIN])


def merging(world: World, key: tuple[str, ...] = ("id",)) -> Warehouse:
    return world.open(world.target(mode=Mode.MERGE, key=key))


def merge(
    warehouse: Warehouse, claim: Claim, end: int, rows: Sequence[Sequence[Any]], gone: Sequence[int] = ()
) -> Claim:
    deleted = pa.table({"id": pa.array(gone, pa.int64())})
    warehouse.commit(make_load(claim, end, table(MERGED, rows), deleted=deleted))
    return dataclasses.replace(claim, next_offset=end)


def test_merge_inserts_replaces_and_deletes_by_key(world):
    warehouse = merging(world)
    claim = begin(warehouse, MERGED)

    claim = merge(warehouse, claim, 3, [(1, "a", 0, 0), (2, "b", 0, 1), (3, "c", 0, 2)])
    merge(warehouse, claim, 6, [(2, None, 0, 3), (4, "d", 0, 4)], gone=[1, 99])

    assert world.query("SELECT id, value FROM {s}.rows ORDER BY id") == [(2, None), (3, "c"), (4, "d")]


def test_a_record_does_not_replace_a_later_one_of_its_partition(world):
    warehouse = merging(world)
    claim = begin(warehouse, MERGED)

    other = warehouse.claim(CLUSTER, TOPIC, {1: 0})[0]

    claim = merge(warehouse, claim, 10, [(1, "late", 0, 9), (2, "b", 0, 8)])
    merge(warehouse, claim, 11, [(1, "early", 0, 5)])
    merge(warehouse, other, 4, [(2, "other partition", 1, 3)])

    assert world.query("SELECT id, value FROM {s}.rows ORDER BY id") == [(1, "late"), (2, "other partition")]


def test_merge_keeps_columns_that_the_flow_does_not_know(world):
    warehouse = merging(world)
    claim = merge(warehouse, begin(warehouse, MERGED), 1, [(1, "a", 0, 0)])
    world.query("ALTER TABLE {s}.rows ADD COLUMN note varchar(100)")
    world.query("UPDATE {s}.rows SET note = 'by hand'")

    merge(warehouse, claim, 2, [(1, "b", 0, 1)])

    assert world.query("SELECT value, note FROM {s}.rows") == [("b", "by hand")]


def test_rows_from_before_the_flow_are_replaced_and_deleted_like_others(world):
    world.query("CREATE SCHEMA {s}")
    unique = "PRIMARY KEY" if world.capabilities.enforces_checks else ""
    columns = f"id bigint {unique}, value varchar(100), _partition integer, _offset bigint"
    world.query(f"CREATE TABLE {{s}}.rows ({columns})")
    world.query("INSERT INTO {s}.rows (id, value) VALUES (1, 'old'), (2, 'old'), (3, 'old')")
    warehouse = merging(world)
    claim = begin(warehouse, MERGED)

    deleted = pa.table({"id": [2], "_partition": pa.array([0], pa.int32()), "_offset": [1]})
    warehouse.commit(make_load(claim, 2, table(MERGED, [(1, "new", 0, 0)]), deleted=deleted))

    found = world.query("SELECT id, value, _partition, _offset FROM {s}.rows ORDER BY id")
    assert found == [(1, "new", 0, 0), (3, "old", None, None)]


def test_merge_into_a_table_with_a_unique_index_of_its_own(world):
    if not world.capabilities.enforces_checks:
        pytest.skip("UNIQUE is not kept there")
    world.query("CREATE SCHEMA {s}")
    world.query(
        "CREATE TABLE {s}.rows (id bigint PRIMARY KEY, value varchar(100), _partition integer NOT NULL, _offset bigint NOT NULL)"
    )
    warehouse = merging(world)

    claim = merge(warehouse, begin(warehouse, MERGED), 3, [(1, "a", 0, 0), (2, "b", 0, 1), (3, "c", 0, 2)])
    merge(warehouse, claim, 6, [(1, "d", 0, 3), (4, "e", 0, 4)], gone=[2])

    assert world.query("SELECT id, value FROM {s}.rows ORDER BY id") == [(1, "d"), (3, "c"), (4, "e")]


def referred(world: World) -> Claim:
    """Rows 1 to 9, of which another table refers to 3 and 7."""
    if not world.capabilities.enforces_checks:
        pytest.skip("REFERENCES is not kept there")
    world.query("CREATE SCHEMA {s}")
    world.query(
        "CREATE TABLE {s}.rows (id bigint PRIMARY KEY, value varchar(100) UNIQUE, _partition integer NOT NULL, _offset bigint NOT NULL)"
    )
    world.query("CREATE TABLE {s}.orders (row bigint REFERENCES {s}.rows (id))")
    warehouse = merging(world)
    claim = merge(warehouse, begin(warehouse, MERGED), 10, [(n, f"row {n}", 0, n) for n in range(1, 10)])
    world.query("INSERT INTO {s}.orders VALUES (3), (7)")
    return claim


def test_tombstones_of_rows_that_others_refer_to_are_told_one_by_one_and_nothing_is_written(world):
    claim = referred(world)
    deleted = pa.table({"id": pa.array([1, 3, 5, 7, 99], pa.int64())})

    with pytest.raises(RowsRefused, match="2 rows and tombstones do not fit") as caught:
        merging(world).commit(make_load(claim, 20, MERGED.empty_table(), deleted=deleted))

    assert caught.value.reasons == {}
    assert set(caught.value.deletions) == {1, 3}
    assert all("foreign key" in reason for reason in caught.value.deletions.values())
    assert written(world) == (9, 0, 10)


def test_a_row_that_needs_a_tombstone_of_its_load_is_not_refused_beside_one_that_is(world):
    if world.dialect != "postgresql":
        pytest.skip("a unique index of DuckDB keeps what the transaction has deleted")
    claim = referred(world)
    rows = table(MERGED, [(10, "row 1", 0, 11), (11, "row 3", 0, 12), (12, "row 5", 0, 13)])
    deleted = pa.table({"id": pa.array([1, 3], pa.int64())})

    with pytest.raises(RowsRefused) as caught:
        merging(world).commit(make_load(claim, 20, rows, deleted=deleted))

    # Row 1 goes, and its value is free; that of 3, which stays, and that of 5 are not.
    assert set(caught.value.deletions) == {1}
    assert set(caught.value.reasons) == {1, 2}


def test_a_tombstone_that_a_trigger_refuses_is_told(world):
    if world.dialect != "postgresql":
        pytest.skip("triggers are PostgreSQL's")
    warehouse = merging(world)
    claim = merge(warehouse, begin(warehouse, MERGED), 4, [(n, f"row {n}", 0, n) for n in range(4)])
    world.query(
        "CREATE FUNCTION {s}.keep() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF OLD.id = 2 THEN RAISE 'row % stays', OLD.id; END IF; RETURN OLD; END $$"
    )
    world.query("CREATE TRIGGER keep BEFORE DELETE ON {s}.rows FOR EACH ROW EXECUTE FUNCTION {s}.keep()")

    with pytest.raises(RowsRefused) as caught:
        merge(warehouse, claim, 9, [], gone=[1, 2, 3])

    assert {number: reason.splitlines()[0] for number, reason in caught.value.deletions.items()} == {1: "row 2 stays"}


def test_what_a_deferred_constraint_refuses_at_the_commit_is_told(world):
    if world.dialect != "postgresql":
        pytest.skip("constraints are not deferred there")
    claim = referred(world)
    world.query(
        "ALTER TABLE {s}.rows ADD COLUMN parent bigint REFERENCES {s}.rows (id) DEFERRABLE INITIALLY DEFERRED, "
        "ALTER COLUMN parent SET DEFAULT 77"
    )
    rows = table(MERGED, [(20, "new", 0, 11), (21, "newer", 0, 12)])

    with pytest.raises(RowsRefused) as caught:
        merging(world).commit(make_load(claim, 20, rows))

    assert set(caught.value.reasons) == {0, 1}
    assert all("foreign key" in reason for reason in caught.value.reasons.values())


def test_rows_that_refer_to_each_other_go_with_their_tombstones_beside_one_that_is_refused(world):
    if world.dialect != "postgresql":
        pytest.skip("DuckDB tries each tombstone by itself")
    claim = referred(world)
    world.query("ALTER TABLE {s}.rows ADD COLUMN parent bigint REFERENCES {s}.rows (id)")
    world.query("UPDATE {s}.rows SET parent = id - 1 WHERE id IN (2, 9)")
    deleted = pa.table({"id": pa.array([1, 8, 3, 2, 9], pa.int64())})

    with pytest.raises(RowsRefused) as caught:
        merging(world).commit(make_load(claim, 20, MERGED.empty_table(), deleted=deleted))

    assert set(caught.value.deletions) == {2}


def test_a_tombstone_whose_key_is_too_long_for_the_table_deletes_nothing(world):
    columns = pa.schema([pa.field("id", pa.string()), *ORIGIN])
    world.query("CREATE SCHEMA {s}")
    world.query("CREATE TABLE {s}.rows (id varchar(3), _partition integer NOT NULL, _offset bigint NOT NULL)")
    world.query("CREATE UNIQUE INDEX one ON {s}.rows (id)") if world.capabilities.enforces_checks else None
    warehouse = merging(world)
    claim = begin(warehouse, columns)

    rows = table(columns, [("abc", 0, 0)])
    warehouse.commit(make_load(claim, 2, rows, deleted=pa.table({"id": pa.array(["abcd"], pa.string())})))

    assert written(world) == (1, 0, 2)


def test_merge_by_several_columns_with_odd_names(world):
    columns = pa.schema(
        [pa.field('odd "na%me', pa.string()), pa.field("Order", pa.int16()), pa.field("50% x", pa.string()), *ORIGIN]
    )
    target = world.target(mode=Mode.MERGE, key=('odd "na%me', "Order"))
    warehouse = world.open(target)
    claim = begin(warehouse, columns)
    rows = table(columns, [("a", 1, "first", 0, 0), ("a", 2, "second", 0, 1), ("b", 1, "third", 0, 2)])
    warehouse.commit(make_load(claim, 3, rows))

    warehouse.commit(
        make_load(
            dataclasses.replace(claim, next_offset=3),
            6,
            table(columns, [("a", 2, "changed", 0, 4)]),
            deleted=rows.select(['odd "na%me', "Order"]).slice(2),
        )
    )

    found = world.query('SELECT "50% x" FROM {s}.rows ORDER BY "Order"')
    assert found == [("first",), ("changed",)]


def test_two_who_merge_the_same_new_keys_do_not_double_them(world):
    """Two flows into one table; each commits again when asked to."""
    warehouses = [
        world.open(world.target(mode=Mode.MERGE, key=("id",), topic=topic))
        for topic in (world.topic, f"{world.topic}-2")
    ]
    warehouses[0].prepare(MERGED)
    claims = [each.claim(CLUSTER, TOPIC, {number: 0})[0] for number, each in enumerate(warehouses)]
    start = threading.Barrier(2, timeout=20)

    def run(number: int) -> None:
        claim = claims[number]
        for step in range(5):
            rows = table(
                MERGED, [(key, f"{number}", number, step * 100 + key) for key in range(step * 50, step * 50 + 100)]
            )
            start.wait()
            load = make_load(claim, claim.next_offset + 100, rows, deleted=pa.table({"id": pa.array([], pa.int64())}))
            again(warehouses[number], load)
            claim = dataclasses.replace(claim, next_offset=claim.next_offset + 100)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, range(2)))

    assert world.query("SELECT count(*), count(DISTINCT id) FROM {s}.rows") == [(300, 300)]


def again(warehouse: Warehouse, load: Load) -> None:
    """Commit as the pipeline does: again while the warehouse asks for it."""
    for _ in range(200):
        try:
            return warehouse.commit(load)
        except WarehouseUnavailable:
            continue
    raise AssertionError("the load was never written")


def evolving(world: World) -> Warehouse:
    return world.open(world.target(evolves=True))


def of(kind: pa.DataType, *more: pa.Field) -> pa.Schema:
    return pa.schema([pa.field("n", kind), *more, *ORIGIN])


def test_a_load_adds_columns_and_widens_them_with_its_rows(world):
    warehouse = evolving(world)
    claim = begin(warehouse, of(pa.int16()))
    kinds = (pa.int16(), pa.int32(), pa.int64(), pa.float64())
    largest = (2**15 - 1, 2**31 - 1, 2**53, 0.5)

    for step, (kind, value) in enumerate(zip(kinds, largest, strict=True)):
        columns = of(kind, pa.field("Extra x", pa.string())) if step else of(kind)
        row = (value, f"step {step}", 0, step) if step else (value, 0, step)
        warehouse.commit(make_load(claim, step + 1, table(columns, [row])))
        claim = dataclasses.replace(claim, next_offset=step + 1)

    assert world.query('SELECT n, "Extra x" FROM {s}.rows ORDER BY _offset') == [
        (32767.0, None),
        (2147483647.0, "step 1"),
        (9007199254740992.0, "step 2"),
        (0.5, "step 3"),
    ]
    assert warehouse.prepare(of(pa.int16())).field("n").type == pa.float64()
    # A narrower load fits the table as it is now.
    warehouse.commit(make_load(claim, 5, table(of(pa.int16()), [(1, 0, 4)])))
    assert world.count("SELECT count(*) FROM {s}.rows") == 5


def test_to_widen_a_column_may_take_as_long_as_it_takes(world):
    if world.dialect != "postgresql":
        pytest.skip("the limit of a transaction's time is PostgreSQL's")
    world.query("CREATE SCHEMA {s}")
    unlimited = "coalesce(current_setting('transaction_timeout', true), '0') = '0'"  # looked at for each row rewritten
    # The row that is there is rewritten without a limit; those that the transaction then brings have it again.
    check = f"CHECK ((_offset = 0) = ({unlimited}))"
    columns = f"n integer, _partition integer NOT NULL, _offset bigint NOT NULL {check}"
    world.query(f"CREATE TABLE {{s}}.rows ({columns})")
    world.query("INSERT INTO {s}.rows VALUES (1, 0, 0)")
    warehouse = evolving(world)
    claim = begin(warehouse, of(pa.int32()))

    warehouse.commit(make_load(claim, 2, table(of(pa.int64()), [(2**40, 0, 1)])))
    warehouse.commit(make_load(dataclasses.replace(claim, next_offset=2), 3, table(of(pa.int64()), [(3, 0, 2)])))

    assert world.query("SELECT n FROM {s}.rows ORDER BY _offset") == [(1,), (2**40,), (3,)]


def test_a_row_that_no_page_holds_is_told_without_its_values(world):
    if world.dialect != "postgresql":
        pytest.skip("pages are PostgreSQL's")
    columns = pa.schema([*(pa.field(f"c{n}", pa.int64()) for n in range(1100)), *ORIGIN])
    warehouse = world.open()
    claim = begin(warehouse, columns)

    with pytest.raises(
        WarehouseError, match=r"refused the query: row is too big: size \d+, maximum size \d+\n  Remedy"
    ):
        warehouse.commit(make_load(claim, 1, table(columns, [(*range(1100), 0, 0)])))


def test_rows_that_are_refused_beside_a_new_column_are_told_one_by_one(world):
    if not world.capabilities.enforces_checks:
        pytest.skip("CHECK is not kept there")
    world.query("CREATE SCHEMA {s}")
    world.query(
        "CREATE TABLE {s}.rows (n smallint CHECK (n <> 7), _partition integer NOT NULL, _offset bigint NOT NULL)"
    )
    warehouse = evolving(world)
    claim = begin(warehouse, of(pa.int16()))
    # DuckDB widens no column that has a CHECK.
    kind, largest = (pa.int32(), 70_000) if world.dialect == "postgresql" else (pa.int16(), 8)
    columns = of(kind, pa.field("more", pa.string()))
    rows = table(columns, [(n, "x", 0, n) for n in (6, 7, largest)])

    with pytest.raises(RowsRefused) as caught:
        warehouse.commit(make_load(claim, 3, rows))

    assert set(caught.value.reasons) == {1}
    assert written(world) == (0, 0, 0)


def test_integers_that_a_double_cannot_hold_are_not_widened(world):
    warehouse = evolving(world)
    claim = begin(warehouse, of(pa.int64()))
    warehouse.commit(make_load(claim, 1, table(of(pa.int64()), [(-(2**53) - 1, 0, 0)])))
    claim = dataclasses.replace(claim, next_offset=1)

    with pytest.raises(WarehouseError, match="cannot hold exactly"):
        warehouse.commit(make_load(claim, 2, table(of(pa.float64()), [(0.5, 0, 1)])))

    assert written(world) == (1, 0, 1)
    assert world.query("SELECT n FROM {s}.rows") == [(-(2**53) - 1,)]


def test_a_column_of_a_load_that_was_not_written_is_not_added(world):
    warehouse, other = evolving(world), evolving(world)
    claim = begin(warehouse, of(pa.int16()))
    other.claim(CLUSTER, TOPIC, {0: 0})
    columns = of(pa.int64(), pa.field("more", pa.bool_()))

    with pytest.raises(TakenOver):
        warehouse.commit(make_load(claim, 1, table(columns, [(1, True, 0, 0)])))

    assert warehouse.prepare(of(pa.int16())).names == ["n", "_partition", "_offset"]


def test_two_who_evolve_at_once_both_get_their_columns(world):
    warehouses = [evolving(world), evolving(world)]
    warehouses[0].prepare(of(pa.int16()))
    claims = [each.claim(CLUSTER, TOPIC, {number: 0})[0] for number, each in enumerate(warehouses)]
    start = threading.Barrier(2, timeout=20)

    def run(number: int) -> None:
        columns = of(pa.int64(), pa.field("shared", pa.string()), pa.field(f"only_{number}", pa.int32()))
        start.wait()
        again(warehouses[number], make_load(claims[number], 1, table(columns, [(2**40, "x", number, number, 0)])))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, range(2)))

    assert world.query("SELECT n, shared, only_0, only_1 FROM {s}.rows ORDER BY _partition") == [
        (2**40, "x", 0, None),
        (2**40, "x", None, 1),
    ]


EVERY = pa.schema(
    [
        pa.field("b", pa.bool_()),
        pa.field("i16", pa.int16()),
        pa.field("i32", pa.int32()),
        pa.field("i64", pa.int64()),
        pa.field("f64", pa.float64()),
        pa.field("s", pa.string()),
        pa.field("raw", pa.binary()),
        pa.field("day", pa.date32()),
        pa.field("at", pa.timestamp("us", tz="UTC")),
        pa.field("d", pa.decimal128(20, 4)),
        pa.field("j", JSON),
        *ORIGIN,
    ]
)
FIRST, LAST = dt.datetime(1, 1, 1, tzinfo=UTC), dt.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
VALUES: list[tuple[Any, ...]] = [
    (None,) * 11,
    (True, 2**15 - 1, 2**31 - 1, 2**63 - 1, 1.7976931348623157e308, "grüße 🙂 '\"\\\n\t", bytes(range(256)), LAST.date(), LAST, Decimal("9999999999999999.9999"), '{"a": [1, null, "é"]}'),
    (False, -(2**15), -(2**31), -(2**63), 5e-324, "", b"", FIRST.date(), FIRST, Decimal("-9999999999999999.9999"), "[]"),
    (True, 0, 0, 0, -0.0, " ", b"\x00", dt.date(1970, 1, 1), dt.datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), Decimal("0.0001"), '"text"'),
]  # fmt: skip


def test_every_type_comes_back_as_it_was(world):
    warehouse = world.open()
    claim = begin(warehouse, EVERY)

    warehouse.commit(make_load(claim, 4, table(EVERY, [(*row, 0, n) for n, row in enumerate(VALUES)])))

    names = ", ".join(f"CAST({name} AS varchar(1000))" if name == "j" else f'"{name}"' for name in EVERY.names[:-2])
    found = world.query(f"SELECT {names} FROM {{s}}.rows ORDER BY _offset")
    assert [(*row[:10], None if row[10] is None else json.loads(row[10])) for row in found] == [
        (*row[:10], None if row[10] is None else json.loads(row[10])) for row in VALUES
    ]
    assert [field.type for field in warehouse.prepare(EVERY)] == [field.type for field in EVERY]


def test_progress_tells_how_far_a_flow_has_come(world):
    warehouse = world.open()
    assert warehouse.progress() == ()
    warehouse.prepare(COLUMNS)
    one, _ = warehouse.claim(CLUSTER, TOPIC, {0: 5, 1: 7})

    warehouse.commit(make_load(one, 8, numbers(5, 8)))

    found = warehouse.progress()
    assert [(each.partition, each.first_offset, each.next_offset) for each in found] == [(0, 5, 8), (1, 7, 7)]
    assert {(each.cluster_id, each.topic_id) for each in found} == {(CLUSTER, TOPIC)}
    assert all(0 <= each.seconds_since_commit < 60 for each in found)


def test_what_was_written_is_there_after_closing_and_opening_again(world):
    with world.make(world.target()) as warehouse:
        claim = begin(warehouse)
        warehouse.commit(make_load(claim, 3, numbers(0, 3)))

    with world.make(world.target()) as warehouse:
        again = warehouse.claim(CLUSTER, TOPIC, {0: 0})[0]
        warehouse.commit(make_load(again, 6, numbers(3, 6)))

    assert again == Claim(0, 3, 2)
    assert written(world) == (6, 0, 6)


def test_coordinates_name_every_row_and_every_dead_letter(world):
    warehouse = world.open()
    warehouse.commit(make_load(begin(warehouse), 12, numbers(0, 10), letters(world, 10, 11)))

    rows = [row for batch in warehouse.coordinates(dead=False) for row in batch.to_pylist()]
    dead = [row for batch in warehouse.coordinates(dead=True) for row in batch.to_pylist()]

    assert sorted(row["_offset"] for row in rows) == list(range(10))
    assert dead == [{"_partition": 0, "_offset": 10}, {"_partition": 0, "_offset": 11}]


def test_dead_letters_that_are_replayed_become_rows(world):
    warehouse = world.open()
    warehouse.commit(make_load(begin(warehouse), 5, COLUMNS.empty_table(), letters(world, 0, 1, 2, 3, 4)))

    def load(found: pa.Table) -> Load:
        """Those with even offsets fit now."""
        offsets = found["record_offset"].to_pylist()
        assert set(found["record_value"].to_pylist()) == {b"\xff"}
        even = [each for each in offsets if each % 2 == 0]
        return Load(
            spans=(),
            rows=table(COLUMNS, [(each, "again", 0, each) for each in even]),
            dead_letters=letters(world, *(each for each in offsets if each % 2)),
        )

    first = warehouse.replay((-1, -1), 2, load)
    assert first == (0, 1)
    second = warehouse.replay(first, 10, load)
    assert second == (0, 4)
    assert warehouse.replay(second, 10, load) is None

    assert written(world) == (3, 2, 5)


def test_dead_letters_are_encrypted_on_the_way_in_and_decrypted_on_the_way_out(world, tmp_path):
    inner = world.open()
    claim = begin(inner)
    inner.commit(make_load(claim, 1, COLUMNS.empty_table(), letters(world, 0)))  # in clear, as before
    sealed = SealedWarehouse(inner, letter_keys(tmp_path), seals=True)
    sealed.commit(make_load(dataclasses.replace(claim, next_offset=1), 3, COLUMNS.empty_table(), letters(world, 1, 2)))

    kept = world.query(
        "SELECT record_key, record_value, reason, encrypted_with FROM {s}.dead_letters WHERE record_offset > 0"
    )
    assert len(kept) == 2
    for key, value, reason, header in kept:
        assert key is None
        assert reason != "broken"
        assert header
        assert len(bytes(value)) > 72
    with inner.transaction() as connection:
        found = read_letters(connection, world.target(), letter_keys(tmp_path), 10, None)
        counted = count_reasons(connection, world.target(), letter_keys(tmp_path))
    assert [(each.offset, each.key, each.value, each.reason) for each in found] == [
        (offset, b"\x00k", b"\xff", "broken") for offset in range(3)
    ]
    assert [(each.reason, each.letters) for each in counted] == [("broken", 3)]

    def load(taken: pa.Table) -> Load:
        """All but one fit now."""
        rows = taken.to_pylist()
        assert [(row["record_key"], row["record_value"], json.loads(row["record_headers"])) for row in rows] == [
            (b"\x00k", b"\xff", [["h", "v"]])
        ] * 3
        return Load(spans=(), rows=numbers(0, 2), dead_letters=letters(world, 2))

    assert sealed.replay((-1, -1), 10, load) == (0, 2)
    assert written(world) == (2, 1, 3)
    assert world.count("SELECT count(*) FROM {s}.dead_letters WHERE encrypted_with IS NULL") == 0


def test_dead_letters_of_an_older_version_stay_readable(world, tmp_path):
    warehouse = world.open()
    begin(warehouse)
    world.query("ALTER TABLE {s}.dead_letters DROP COLUMN encrypted_with")
    world.query(
        f"INSERT INTO {{s}}.dead_letters (topic, record_partition, record_offset, reason) VALUES ('{world.topic}', 0, 0, 'old')"
    )
    with warehouse.transaction() as connection:
        assert [each.reason for each in read_letters(connection, world.target(), letter_keys(tmp_path), 10, None)] == [
            "old"
        ]
        assert [each.letters for each in count_reasons(connection, world.target(), letter_keys(tmp_path))] == [1]

    claim = begin(warehouse)
    warehouse.commit(make_load(claim, 2, COLUMNS.empty_table(), letters(world, 1)))

    with warehouse.transaction() as connection:
        found = read_letters(connection, world.target(), letter_keys(tmp_path), 10, None)
    assert [(each.offset, each.reason) for each in found] == [(0, "old"), (1, "broken")]


def test_a_claim_does_not_wait_for_a_commit_in_another_thread(world, monkeypatch):
    """The commit is held where it takes long: in its transaction, in Redshift while rows are copied before that."""
    warehouse = world.open()
    claim = begin(warehouse)
    module, name = sys.modules[type(warehouse).__module__], "stage_load" if world.dialect == "redshift" else "advance"
    original, begun, may_end = getattr(module, name), threading.Event(), threading.Event()

    def held(*arguments: Any, **options: Any) -> Any:
        done = original(*arguments, **options)
        begun.set()
        assert may_end.wait(60)
        return done

    monkeypatch.setattr(module, name, held)
    with ThreadPoolExecutor(2) as pool:
        try:
            committed = pool.submit(again, warehouse, make_load(claim, 100, numbers(0, 100)))
            assert begun.wait(60)
            claimed = pool.submit(warehouse.claim, CLUSTER, TOPIC, {1: 0}).result(30)
            assert not committed.done()
        finally:
            may_end.set()
        committed.result(60)

    assert [each.partition for each in claimed] == [1]
    assert written(world) == (100, 0, 100)


def test_claims_and_commits_in_two_threads_leave_each_other_alone(world):
    """As in a flow: the reader claims while the writer commits."""
    warehouse = world.open()
    warehouse.prepare(COLUMNS)
    claim = warehouse.claim(CLUSTER, TOPIC, {0: 0})[0]
    finished = threading.Event()

    def claim_others() -> int:
        partition = 1
        while not finished.is_set():
            warehouse.claim(CLUSTER, TOPIC, {partition: 0})
            partition += 1
        return partition

    with ThreadPoolExecutor(1) as pool:
        claimed = pool.submit(claim_others)
        for step in range(10):
            again(warehouse, make_load(claim, step * 100 + 100, numbers(step * 100, step * 100 + 100)))
            claim = dataclasses.replace(claim, next_offset=step * 100 + 100)
        finished.set()
        assert claimed.result() > 1

    assert written(world) == (1000, 0, 1000)


def test_a_transaction_that_fails_leaves_nothing(world):
    warehouse = world.open()
    warehouse.prepare(COLUMNS)

    def fail() -> None:
        with warehouse.transaction() as connection:
            connection.execute(sa.text(f"INSERT INTO {world.schema}.rows VALUES (1, 'a', 0, 0)"))
            connection.execute(sa.text("SELECT absent FROM nowhere"))

    with pytest.raises(WarehouseError, match="nowhere"):
        fail()

    assert world.count("SELECT count(*) FROM {s}.rows") == 0
