"""Changes of a table are seen: each that is committed, whoever makes it, and none that is not."""

from __future__ import annotations

import psycopg
import pytest

from tests.services.postgres_server import DATABASE, USER, OwnPostgres, running_postgres
from workbench.errors import WarehouseError
from workbench.runtime.ports import LOOPBACK
from workbench.sections import WarehouseSettings
from workbench.warehouse.changes import TRIGGER, TableMoment, TableWatch


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_postgres(tmp_path_factory.mktemp("changes") / "server") as server:
        yield server


@pytest.fixture
def watch(server: OwnPostgres, monkeypatch):
    with session(server) as connection:
        connection.execute("DROP SCHEMA IF EXISTS raw CASCADE")
        connection.execute("CREATE SCHEMA raw")
        connection.execute("CREATE TABLE raw.t (n int)")
    with TableWatch(settings(server)) as watch:
        yield watch


def settings(server: OwnPostgres) -> WarehouseSettings:
    return WarehouseSettings(**server.variables())


def session(server: OwnPostgres, *, autocommit: bool = True) -> psycopg.Connection:
    return psycopg.connect(
        host=LOOPBACK, port=server.server.port, dbname=DATABASE, user=USER, autocommit=autocommit,
        password=server.server.password, sslmode="disable",
    )  # fmt: skip


def changed(watch: TableWatch, since: TableMoment, table: str = "raw.t") -> tuple[TableMoment, bool]:
    """After a look by way of JSON, as the store keeps it."""
    return watch.look(table, TableMoment(**since.as_json()))


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO raw.t VALUES (2)",
        "UPDATE raw.t SET n = n",
        "DELETE FROM raw.t",
        "TRUNCATE raw.t",
        "COPY raw.t FROM PROGRAM 'echo 3'",
        "WITH a AS (INSERT INTO raw.t VALUES (4) RETURNING n) SELECT * FROM a",
    ],
)
def test_each_kind_of_change_is_seen_once(watch, server, statement):
    server.ask("INSERT INTO raw.t VALUES (1)")
    first, is_changed = watch.look("raw.t", None)
    quiet = changed(watch, first)[1]

    server.ask(statement)  # of another role than the one that made the trigger
    second, is_seen = changed(watch, first)

    assert (is_changed, quiet, is_seen) == (False, False, True)
    assert changed(watch, second)[1] is False
    assert changed(watch, first)[1] is True  # whoever has not seen it still does


def test_a_change_is_seen_when_it_is_committed_however_long_it_takes(watch, server):
    first, _ = watch.look("raw.t", None)
    with session(server, autocommit=False) as slow:
        slow.execute("INSERT INTO raw.t VALUES (1)")
        server.ask("INSERT INTO raw.t VALUES (2)")
        second, is_quick_seen = changed(watch, first)
        third, is_slow_seen = changed(watch, second)
        slow.commit()
    fourth, is_seen = changed(watch, third)

    assert (is_quick_seen, is_slow_seen, is_seen) == (True, False, True)
    assert changed(watch, fourth)[1] is False


def test_what_is_rolled_back_is_no_change(watch, server):
    first, _ = watch.look("raw.t", None)
    with session(server, autocommit=False) as connection:
        connection.execute("INSERT INTO raw.t VALUES (1)")
        connection.rollback()
        connection.execute("SAVEPOINT a")
        connection.execute("INSERT INTO raw.t VALUES (1)")
        connection.execute("ROLLBACK TO a")
        connection.commit()

    assert changed(watch, first)[1] is False


def test_notes_do_not_pile_up_and_the_last_is_kept_for_whoever_looks_later(watch, server):
    first, _ = watch.look("raw.t", None)
    with session(server) as connection:
        for number in range(50):
            connection.execute("INSERT INTO raw.t VALUES (%s)", [number])

    second, _ = changed(watch, first)

    assert server.ask("SELECT count(*) FROM workbench.table_changes WHERE relation = 'raw.t'::regclass") == [(1,)]
    assert changed(watch, second)[1] is False
    assert changed(watch, first)[1] is True


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE raw.t; CREATE TABLE raw.t (n int)",
        f"DROP TRIGGER {TRIGGER} ON raw.t",
        f"ALTER TABLE raw.t DISABLE TRIGGER {TRIGGER}",
        "UPDATE workbench.watched_tables SET until = now() - interval '1 day'",
        "DROP TABLE workbench.watched_tables CASCADE",
    ],
)
def test_what_cannot_be_known_counts_as_a_change_once(watch, server, statement):
    first, _ = watch.look("raw.t", None)
    with session(server) as connection:
        connection.execute(statement)

    second, is_changed = changed(watch, first)

    assert is_changed
    third, is_changed = changed(watch, second)
    assert not is_changed
    server.ask("INSERT INTO raw.t VALUES (1)")
    assert changed(watch, third)[1] is True


def test_a_restored_warehouse_is_another_and_one_that_went_back_has_changed(watch):
    first, _ = watch.look("raw.t", None)
    elsewhere = TableMoment(system="1", relation=first.relation, snapshot=first.snapshot)
    later = TableMoment(system=first.system, relation=first.relation, snapshot="900000000:900000000:")

    assert changed(watch, elsewhere)[1] is True
    assert changed(watch, later)[1] is True


def test_a_table_that_is_made_later_is_a_change(watch, server):
    first, is_changed = watch.look("raw.later", None)
    with session(server) as connection:
        connection.execute("CREATE TABLE raw.later (n int)")

    second, is_made = changed(watch, first, "raw.later")

    assert (is_changed, is_made, changed(watch, second, "raw.later")[1]) == (False, True, False)


def test_no_change_is_missed_when_the_server_is_killed(watch, server):
    first, _ = watch.look("raw.t", None)
    server.ask("INSERT INTO raw.t VALUES (1)")

    server.end()
    server.start()

    assert changed(watch, first)[1] is True


def test_a_table_that_is_dropped_has_changed_when_it_is_there_again(watch, server):
    first, _ = watch.look("raw.t", None)
    with session(server) as connection:
        connection.execute("DROP TABLE raw.t")
        second, is_gone = changed(watch, first)
        connection.execute("CREATE TABLE raw.t (n int)")

    assert (second, is_gone) == (first, False)
    assert changed(watch, second)[1] is True


def test_a_partitioned_table_is_watched_through_its_name(watch, server):
    with session(server) as connection:
        connection.execute("CREATE TABLE raw.parts (n int) PARTITION BY LIST (n)")
        connection.execute("CREATE TABLE raw.part_1 PARTITION OF raw.parts DEFAULT")
    first, _ = watch.look("raw.parts", None)

    server.ask("INSERT INTO raw.parts VALUES (1)")

    assert changed(watch, first, "raw.parts")[1] is True


def test_what_is_no_table_is_named(watch, server):
    with session(server) as connection:
        connection.execute("CREATE VIEW raw.v AS SELECT 1")

    with pytest.raises(WarehouseError, match=r"changes of raw.v cannot be seen: it is no table"):
        watch.look("raw.v", None)


def test_a_table_of_somebody_else_is_refused_with_the_grant(watch, server):
    server.ask("CREATE TABLE raw.theirs (n int)")

    with pytest.raises(WarehouseError, match=r"raw.theirs cannot be seen") as refused:
        watch.look("raw.theirs", None)

    assert "TRIGGER" in refused.value.remedy


def test_who_writes_needs_no_right_to_the_notes(watch, server):
    first, _ = watch.look("raw.t", None)
    server.ask("DROP ROLE IF EXISTS writer")
    server.ask("CREATE ROLE writer; GRANT USAGE ON SCHEMA raw TO writer; GRANT INSERT ON raw.t TO writer")

    server.ask("SET ROLE writer; INSERT INTO raw.t VALUES (1)")

    assert changed(watch, first)[1] is True
    assert server.ask("SELECT has_table_privilege('writer', 'workbench.table_changes', 'INSERT')") == [(False,)]


def test_a_writer_does_not_wait_long_behind_the_trigger(watch, server):
    with session(server, autocommit=False) as busy:
        busy.execute("INSERT INTO raw.t VALUES (1)")
        with pytest.raises(WarehouseError, match="lock timeout"):
            watch.look("raw.t", None)
        busy.rollback()

    assert watch.look("raw.t", None)[1] is False


def test_other_warehouses_are_refused():
    with pytest.raises(WarehouseError, match="the warehouse is duckdb"):
        TableWatch(WarehouseSettings(WORKBENCH_WAREHOUSE_DIALECT="duckdb"))
