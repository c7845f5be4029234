"""Retention and erasure from the commands, on a real PostgreSQL."""

from __future__ import annotations

import json
import shutil

import psycopg
import pytest
from typer.testing import CliRunner

from tests.services.policies import governed_warehouse
from workbench.cli.main import make_application
from workbench.errors import PoliciesRefused, WarehouseError
from workbench.security.audit import Action, AuditLog, read_events
from workbench.security.keyset.opening import Keys
from workbench.security.policies.reading import read_policies
from workbench.security.subjects.keys import SubjectKeys
from workbench.security.subjects.store import SubjectStore
from workbench.settings import Settings
from workbench.warehouse.engine import transaction
from workbench.warehouse.policies.data import erasing, keeping
from workbench.warehouse.policies.data.tables import read_data_tables

POLICIES = """
version: 1
roles: {}
data:
  raw.orders:
    keep: {days: 30, by: ordered_at}
    subjects: {customer: customer, clerk: clerk}
  raw.notes:
    subjects: {customer: of}
    erase: [name, "a :b"]
"""
TABLES = """
DROP SCHEMA IF EXISTS raw CASCADE; DROP TABLE IF EXISTS workbench.erased; CREATE SCHEMA raw;
CREATE TABLE raw.orders (id int, customer int, clerk text, ordered_at timestamptz);
CREATE TABLE raw.notes (of text, name text, "a :b" text, kept text);
INSERT INTO raw.orders SELECT n, n % 3, 'c' || n, now() - make_interval(hours => 24 * n) FROM generate_series(1, 60) n;
INSERT INTO raw.orders VALUES (100, 7, NULL, NULL), (101, 42, 'me', now());
INSERT INTO raw.notes VALUES ('42', 'Ann', 'b', 'k'), ('042', 'Zoe', 'b', 'k'), ('7', 'Bob', NULL, 'k')"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with governed_warehouse(tmp_path_factory.mktemp("data")) as warehouse:
        yield warehouse


@pytest.fixture
def warehouse(server, tmp_path, monkeypatch):
    server.own(TABLES)
    file = tmp_path / "policies.yaml"
    file.write_text(POLICIES)
    variables = {
        **server.server.variables(),
        "WORKBENCH_HOME": str(tmp_path / "home"),
        "WORKBENCH_POLICIES_FILE": str(file),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return server


def invoke(*words: str, stdin: str = ""):
    return CliRunner().invoke(make_application(), ["policy", *words], input=stdin)


def command(*words: str, stdin: str = "") -> str:
    done = invoke(*words, stdin=stdin)
    assert done.exit_code == 0, done.output + repr(done.exception)
    return done.stdout


def events(action: Action) -> list[tuple[str, str]]:
    found = read_events(AuditLog.of(Settings.load().home).path, action=action)
    return [(event.resource, str(event.outcome)) for event in found]


def test_rows_that_are_too_old_go_in_batches(warehouse, monkeypatch):
    monkeypatch.setattr(keeping, "BATCH_ROWS", 7)

    assert json.loads(command("retain", "--dry-run", "--json")) == {"raw.orders": 31}
    assert warehouse.ask("SELECT count(*) FROM raw.orders") == [(62,)]
    assert "raw.orders: 31 rows too old, removed" in command("retain")

    # That of 30 days is a moment past them; without a time a row stays.
    assert warehouse.ask("SELECT max(id), count(*) FROM raw.orders WHERE id < 100") == [(29, 29)]
    assert warehouse.ask("SELECT count(*) FROM raw.orders WHERE ordered_at IS NULL") == [(1,)]
    assert json.loads(command("retain", "--json")) == {"expired": {"raw.orders": 0}, "erased_again": {}}
    assert events(Action.DATA_EXPIRED) == [("raw.orders", "begun"), ("raw.orders", "success")] * 2


def test_who_stops_in_between_has_removed_whole_batches(warehouse, monkeypatch):
    monkeypatch.setattr(keeping, "BATCH_ROWS", 7)
    settings = Settings.load().warehouse
    with transaction(settings) as connection:
        orders = read_data_tables(connection, read_policies(Settings.load().policies.file))[0]
    batches = keeping.remove_overdue(settings, orders)
    assert [next(batches), next(batches)] == [7, 7]
    batches.close()

    assert json.loads(command("retain", "--dry-run", "--json")) == {"raw.orders": 17}


def test_a_partitioned_table_keeps_its_days_too(warehouse):
    warehouse.own(
        "DROP TABLE raw.orders; CREATE TABLE raw.orders (customer int, clerk text, ordered_at date) PARTITION BY LIST (customer);"
        "CREATE TABLE raw.one PARTITION OF raw.orders FOR VALUES IN (1); CREATE TABLE raw.two PARTITION OF raw.orders FOR VALUES IN (2);"
        "INSERT INTO raw.orders VALUES (1, 'a', now()), (1, 'a', now() - '40 days'::interval), (2, 'b', now()), (2, 'b', now() - '50 days'::interval)"
    )

    command("retain")

    assert warehouse.ask("SELECT customer, ordered_at > now() - '2 days'::interval FROM raw.orders ORDER BY 1") == [
        (1, True),
        (2, True),
    ]


def test_rows_of_children_at_the_places_of_old_ones_stay(warehouse):
    warehouse.own(
        "CREATE TABLE raw.late_orders () INHERITS (raw.orders);"
        "INSERT INTO raw.late_orders SELECT n, n, 'new', now() FROM generate_series(1, 60) n"
    )

    command("retain")

    assert warehouse.ask("SELECT count(*) FROM raw.late_orders") == [(60,)]
    assert warehouse.ask("SELECT count(*) FROM ONLY raw.orders") == [(31,)]


@pytest.mark.parametrize(
    ("kind", "mine", "others"), [("char(5)", "ann", "a"), ("bit(4)", "1011", "1000"), ('"char"', "a", "b")]
)
def test_a_subject_whose_name_has_a_length_is_erased_and_nobody_else(warehouse, kind, mine, others):
    warehouse.own(
        f"ALTER TABLE raw.notes ALTER of TYPE text; DELETE FROM raw.notes; ALTER TABLE raw.notes ALTER of TYPE {kind} USING of::{kind}"
    )
    warehouse.own(f"INSERT INTO raw.notes VALUES ('{mine}', 'mine'), ('{others}', 'others')")
    file = Settings.load().policies.file
    file.write_text("version: 1\nroles: {}\ndata: {raw.notes: {subjects: {customer: of}, erase: [name]}}\n")

    if kind == '"char"':
        assert "the given one is none" in str(invoke("erase", "customer", "ab", "--yes").exception)
    command("erase", "customer", mine, "--yes")

    assert warehouse.ask("SELECT trim(of::text), name FROM raw.notes WHERE name IS NOT NULL") == [(others, "others")]
    warehouse.own("INSERT INTO raw.notes VALUES ('" + mine + "', 'again')")
    assert json.loads(command("retain", "--json"))["erased_again"] == {"raw.notes": 1}


def test_a_subject_is_erased_everywhere_at_once_and_again_when_it_comes_back(warehouse):
    assert json.loads(command("erase", "customer", "-", "--dry-run", "--json", stdin="42\n")) == {
        "raw.orders": 1,
        "raw.notes": 1,
    }
    assert warehouse.ask("SELECT count(*) FROM raw.orders WHERE customer = 42") == [(1,)]

    command("erase", "customer", "-", "--yes", stdin="42\n")

    assert warehouse.ask("SELECT count(*) FROM raw.orders WHERE customer = 42") == [(0,)]
    assert warehouse.ask("SELECT * FROM raw.notes ORDER BY 1") == [
        ("042", "Zoe", "b", "k"),
        ("42", None, None, "k"),
        ("7", "Bob", None, "k"),
    ]
    # A replay brings the rows back; those of others stay.
    warehouse.own("INSERT INTO raw.orders VALUES (102, 42, 'me', now()), (103, 8, 'me', now())")
    warehouse.own("UPDATE raw.notes SET name = 'Ann' WHERE of = '42'")
    assert json.loads(command("retain", "--json"))["erased_again"] == {"raw.orders": 1, "raw.notes": 1}
    assert warehouse.ask("SELECT id FROM raw.orders WHERE id > 100") == [(103,)]
    assert json.loads(command("retain", "--json"))["erased_again"] == {"raw.orders": 0, "raw.notes": 0}


def test_a_warehouse_from_before_the_erasure_is_erased_by_the_audit_log(warehouse):
    command("erase", "customer", "42", "--yes")
    warehouse.own(TABLES)  # the restored one: rows and no memory

    assert json.loads(command("retain", "--json"))["erased_again"] == {"raw.orders": 1, "raw.notes": 1}
    assert warehouse.ask("SELECT count(*) FROM raw.orders WHERE customer = 42") == [(0,)]


def test_a_warehouse_that_was_restored_with_its_audit_log_is_erased_by_what_the_keys_know(warehouse, tmp_path):
    command("erase", "customer", "42", "--yes")
    warehouse.own(TABLES)
    shutil.rmtree(tmp_path / "home" / "audit")
    assert SubjectStore.of(tmp_path / "home").counts() == (0, 1)

    assert json.loads(command("retain", "--json"))["erased_again"] == {"raw.orders": 1, "raw.notes": 1}
    assert warehouse.ask("SELECT count(*) FROM raw.orders WHERE customer = 42") == [(0,)]
    before = SubjectStore.of(tmp_path / "home").erasures()
    command("retain")
    assert SubjectStore.of(tmp_path / "home").erasures() == before


def test_neither_log_nor_warehouse_nor_errors_name_who_was_erased(warehouse, tmp_path):
    command("erase", "clerk", "canary-clerk", "--yes")
    told = invoke("erase", "customer", "canary-customer", "--yes")

    assert isinstance(told.exception, WarehouseError)
    assert "raw.orders names a customer in customer, which is integer" in str(told.exception)
    assert "canary" not in str(told.exception)
    assert [kind for kind, _ in warehouse.ask("SELECT kind, fingerprint FROM workbench.erased")] == ["clerk"]
    assert "canary" not in str(warehouse.ask("SELECT * FROM workbench.erased"))
    written = b"".join(path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file())
    assert b"canary" not in written
    assert (tmp_path / "home" / "keys" / "erasure-key").stat().st_mode & 0o777 == 0o600


def test_a_key_that_an_erasure_had_no_time_to_destroy_is_destroyed_by_the_next_retain(warehouse, tmp_path):
    settings = Settings.load()
    keys = SubjectKeys(settings.home, Keys.of(settings.home, settings.keys))
    names = [keys.fingerprints.of("customer", each) for each in ("42", "7")]
    keys.ensure("customer", names)
    file = tmp_path / "policies.yaml"
    file.write_text(POLICIES.replace("erase: [name,", "encrypt: {customer: [name]}\n    erase: [name,"))
    with transaction(settings.warehouse) as connection:
        tables = read_data_tables(connection, read_policies(file))
    erasing.erase(
        settings.warehouse, erasing.find_subject(settings.warehouse, tables, "customer", "42"), keys.fingerprints
    )

    command("retain")

    assert [key is None for key in keys.find("customer", names).values()] == [True, False]
    assert "None is left." in command("erase", "customer", "7", "--yes")
    assert keys.store.counts() == (0, 2)
    file.write_text(POLICIES.replace("erase: [name,", "encrypt: {customer: [kept], clerk: [of]}\n    erase: [name,"))
    assert isinstance(invoke("retain").exception, PoliciesRefused)


def test_what_is_refused_is_not_done_later_either(warehouse):
    warehouse.own(
        "ALTER TABLE raw.orders ADD PRIMARY KEY (id); CREATE TABLE raw.bills (of int REFERENCES raw.orders (id)); INSERT INTO raw.bills VALUES (101)"
    )

    told = invoke("erase", "customer", "42", "--yes")

    assert isinstance(told.exception, WarehouseError)
    assert "bills" in str(told.exception)
    assert warehouse.ask("SELECT name FROM raw.notes WHERE of = '42'") == [("Ann",)]
    warehouse.own("DROP TABLE raw.bills")
    assert json.loads(command("retain", "--json"))["erased_again"] == {}
    assert [outcome for _, outcome in events(Action.DATA_ERASED)] == ["begun", "failed"]


def test_nobody_is_erased_without_a_yes(warehouse):
    refused = invoke("erase", "customer", "42", stdin="n\n")

    assert refused.exit_code == 1
    assert "Rows that are erased: 1 of raw.orders, 1 of raw.notes." in refused.output
    assert warehouse.ask("SELECT count(*) FROM raw.orders WHERE customer = 42") == [(1,)]


def test_what_does_not_fit_the_warehouse_is_told_with_its_line(warehouse, tmp_path):
    (tmp_path / "policies.yaml").write_text(
        "version: 1\nroles: {}\ndata:\n  raw.orders:\n    keep: {days: 1, by: clerk}\n"
        "  raw.none:\n    keep: {days: 1, by: at}\n  raw.notes:\n    subjects: {customer: who}\n"
    )

    refused = invoke("retain").exception

    assert isinstance(refused, PoliciesRefused)
    assert [each.line for each in refused.problems] == [5, 6, 9]
    assert "clerk is text, which says no age" in str(refused)
    assert "raw.notes has no column who; it has of, name, a :b, kept" in str(refused)


def test_people_of_the_hub_see_nothing_of_the_list(warehouse):
    command("erase", "customer", "42", "--yes")
    policies = "version: 1\nroles: {analyst: {tables: {raw.orders: {columns: '*'}}}}\nbindings: {analysts: [analyst]}\n"
    warehouse.apply(policies)

    with (
        warehouse.person(policies, "gh-eve", ["analysts"]) as eve,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        eve.execute("SELECT * FROM workbench.erased")
