"""A person of the hub who writes SQL by hand, against policies on a real PostgreSQL.

What the person may not see holds the word HIDDEN. Whatever is tried, the word is in no answer, error or
notice, and afterwards the warehouse still has just what the policies ask for.
"""

from __future__ import annotations

import hashlib
from typing import Any

import psycopg
import pytest

from tests.services.policies import GovernedWarehouse, governed_warehouse
from tests.services.postgres_server import USER
from workbench.warehouse.policies.administration import LOCK
from workbench.warehouse.schema import DDL_LOCK

POLICIES = """
version: 1
roles:
  analyst:
    tables:
      raw.people:
        columns: [id, region, name]
        rows: region = 'eu' OR region = user.region
        masks: {ssn: {partial: 4}, mail: hash, note: {constant: there is one}, salary: "null"}
  steward:
    tables:
      raw.people: {columns: "*"}
bindings: {analysts: [analyst], admins: [steward]}
users:
  gh-eve: {region: [nowhere]}
  gh-other: {region: [HIDDEN-ATTRIBUTE]}
"""
TABLES = """
CREATE SCHEMA raw; CREATE SCHEMA pipelines;
CREATE TABLE raw.people (id int PRIMARY KEY, region text NOT NULL, name text NOT NULL UNIQUE, ssn text, mail text, note text, salary int);
INSERT INTO raw.people SELECT i, 'eu', 'person ' || i, 'HIDDEN-COLUMN-' || i || '-0042', 'HIDDEN-MAIL-' || i, 'HIDDEN-NOTE', 77770000 + i
FROM generate_series(1, 20) i;
INSERT INTO raw.people SELECT i, 'us', 'HIDDEN-ROW-' || i, 'HIDDEN-COLUMN-' || i || '-0043', 'HIDDEN-MAIL-' || i, 'HIDDEN-NOTE', 77770000 + i
FROM generate_series(21, 40) i;
CREATE TABLE raw.other (id int PRIMARY KEY REFERENCES raw.people, what text);
INSERT INTO raw.other SELECT i, 'HIDDEN-TABLE' FROM generate_series(1, 40) i;
CREATE TABLE pipelines.runs (what text);
INSERT INTO pipelines.runs VALUES ('HIDDEN-RUN');
CREATE FUNCTION raw.all_people() RETURNS SETOF raw.people LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM raw.people';
CREATE VIEW raw.everybody AS SELECT * FROM raw.people;
CREATE MATERIALIZED VIEW raw.kept AS SELECT * FROM raw.people;
SELECT lo_from_bytea(4242, 'HIDDEN-OBJECT');
ANALYZE raw.people; ANALYZE raw.other;
"""
MARKS = ("HIDDEN", "7777000", "7777001", "7777002", "7777003", "7777004")
DENIED = "42501"  # insufficient_privilege

#: What is tried, and with which SQLSTATE the last statement is refused.
REFUSED: dict[str, tuple[str, str]] = {
    "a column that is not allowed": (DENIED, "SELECT ssn FROM raw.people"),
    "all columns": (DENIED, "SELECT * FROM raw.people"),
    "a column in a condition": (DENIED, "SELECT id FROM raw.people WHERE ssn LIKE 'HID' || 'DEN%'"),
    "a column in the order": (DENIED, "SELECT id FROM raw.people ORDER BY salary"),
    "a column in a join": (DENIED, "SELECT a.id FROM raw.people a JOIN raw.people b ON a.ssn = b.ssn"),
    "a column in an aggregate": (DENIED, "SELECT max(salary) FROM raw.people"),
    "the place on disk": (DENIED, "SELECT ctid, name FROM raw.people WHERE ctid >= '(0,0)'"),
    "the transaction of a row": (DENIED, "SELECT xmin FROM raw.people"),
    "a whole row": (DENIED, "SELECT p FROM raw.people p"),
    "a whole row as JSON": (DENIED, "SELECT to_jsonb(p) FROM raw.people p"),
    "another table": (DENIED, "SELECT what FROM raw.other"),
    "another schema": (DENIED, "SELECT what FROM pipelines.runs"),
    "a view of the owner": (DENIED, "SELECT * FROM raw.everybody"),
    "a materialized view": (DENIED, "SELECT * FROM raw.kept"),
    "a function with its owner's rights": (DENIED, "SELECT * FROM raw.all_people()"),
    "the owner's role": (DENIED, f"SET ROLE {USER}"),
    "a mightier role": (DENIED, "SET ROLE wb_p_steward"),
    "the own group's role": (DENIED, "SET ROLE wb_p_analyst"),
    "the superuser's role": (DENIED, "SET ROLE postgres"),
    "session authorization": (DENIED, "SET SESSION AUTHORIZATION postgres"),
    "row security off": (DENIED, "SET row_security = off; SELECT id, name FROM raw.people"),
    "own attributes as another's": (DENIED, "UPDATE workbench_policies.attributes SET value = 'us'"),
    "a new attribute": (DENIED, "INSERT INTO workbench_policies.attributes VALUES (session_user, 'region', 'us')"),
    "BYPASSRLS for oneself": (DENIED, 'ALTER ROLE "wb_u_gh-eve" BYPASSRLS'),
    "SUPERUSER for oneself": (DENIED, 'ALTER ROLE "wb_u_gh-eve" SUPERUSER'),
    "a longer password": (DENIED, "ALTER ROLE \"wb_u_gh-eve\" VALID UNTIL 'infinity'"),
    "a group for oneself": (DENIED, 'GRANT wb_p_steward TO "wb_u_gh-eve"'),
    "the right to read everything": (DENIED, 'GRANT pg_read_all_data TO "wb_u_gh-eve"'),
    "a role of one's own": (DENIED, "CREATE ROLE helper"),
    "another person's role": (DENIED, 'SET ROLE "wb_u_gh-other"'),
    "a view in public": (DENIED, "CREATE VIEW public.v AS SELECT * FROM raw.people"),
    "a view beside the table": (DENIED, "CREATE VIEW raw.v AS SELECT * FROM raw.people"),
    "a view beside the masks": (DENIED, "CREATE VIEW raw_masked.v AS SELECT * FROM raw.people"),
    "another view for the masks": (DENIED, "CREATE OR REPLACE VIEW raw_masked.people AS SELECT * FROM raw.people"),
    "a table in public": (DENIED, "CREATE TABLE public.t (i int)"),
    "a temporary table that shadows": (
        DENIED,
        "CREATE TEMPORARY TABLE attributes (role name, attribute text, value text)",
    ),
    "a temporary view": (DENIED, "CREATE TEMPORARY VIEW v AS SELECT id FROM raw.people"),
    "a leaky function": (
        DENIED,
        (
            "CREATE FUNCTION pg_temp.leak(text) RETURNS bool COST 0.0001 LANGUAGE plpgsql AS "
            "$$BEGIN RAISE NOTICE '%', $1; RETURN true; END$$"
        ),
    ),
    "a leaky function in public": (
        DENIED,
        "CREATE FUNCTION public.leak(text) RETURNS bool LANGUAGE sql LEAKPROOF AS 'SELECT true'",
    ),
    "an operator": (DENIED, "CREATE OPERATOR public.=== (PROCEDURE = texteq, LEFTARG = text, RIGHTARG = text)"),
    "a cast": (DENIED, "CREATE CAST (text AS int) WITH INOUT AS IMPLICIT"),
    "a schema": (DENIED, "CREATE SCHEMA mine"),
    "a query as XML": (DENIED, "SELECT query_to_xml('SELECT ssn FROM raw.people', true, false, '')"),
    "COPY of the table": (DENIED, "COPY raw.people TO STDOUT"),
    "COPY of a column": (DENIED, "COPY (SELECT ssn FROM raw.people) TO STDOUT"),
    "COPY to a program": (DENIED, "COPY (SELECT 1) TO PROGRAM 'cat'"),
    "COPY to a file": (DENIED, "COPY (SELECT 1) TO '/tmp/x'"),
    "COPY from a file": (DENIED, "COPY raw.people (name) FROM '/etc/passwd'"),
    "a plan with another column": (DENIED, "EXPLAIN ANALYZE SELECT ssn FROM raw.people"),
    "statistics themselves": (DENIED, "SELECT * FROM pg_statistic"),
    "passwords": (DENIED, "SELECT rolpassword FROM pg_authid"),
    "the key of the hashes": (DENIED, "SELECT key FROM workbench_policies.mask_key"),
    "a large object": (DENIED, "SELECT lo_get(4242)"),
    "a file as a large object": (DENIED, "SELECT lo_import('/etc/passwd')"),
    "a file": (DENIED, "SELECT pg_read_file('PG_VERSION')"),
    "a folder": (DENIED, "SELECT pg_ls_dir('.')"),
    "another server": (DENIED, "CREATE EXTENSION postgres_fdw"),
    "a foreign data wrapper": (DENIED, "CREATE FOREIGN DATA WRAPPER w"),
    "a prepared statement": (DENIED, "PREPARE p AS SELECT ssn FROM raw.people; EXECUTE p"),
    "a trigger": (
        DENIED,
        "CREATE TRIGGER t AFTER UPDATE ON raw.people EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    ),
    "a rule": (DENIED, "CREATE RULE r AS ON INSERT TO raw.people DO NOTHING"),
    "no row security": (DENIED, "ALTER TABLE raw.people DISABLE ROW LEVEL SECURITY"),
    "another owner": (DENIED, 'ALTER TABLE raw.people OWNER TO "wb_u_gh-eve"'),
    "no policy": (DENIED, "DROP POLICY wb_p_analyst ON raw.people"),
    "another policy": (DENIED, "CREATE POLICY mine ON raw.people USING (true)"),
    "a changed policy": (DENIED, "ALTER POLICY wb_p_analyst ON raw.people USING (true)"),
    "a unique key as an oracle": (DENIED, "INSERT INTO raw.people VALUES (21, 'eu', 'HID' || 'DEN-ROW-21')"),
    "a conflict as an oracle": (
        DENIED,
        "INSERT INTO raw.people (id, region, name) VALUES (21, 'eu', 'x') ON CONFLICT (id) DO UPDATE SET name = people.name RETURNING *",
    ),
    "a foreign key as an oracle": (DENIED, "CREATE TABLE public.t (i int REFERENCES raw.people)"),
    "an update": (DENIED, "UPDATE raw.people SET region = 'eu'"),
    "an update that returns": (DENIED, "UPDATE raw.people SET id = id RETURNING *"),
    "a delete": (DENIED, "DELETE FROM raw.people"),
    "a merge": (
        DENIED,
        "MERGE INTO raw.people p USING (SELECT 21 AS id) s ON p.id = s.id WHEN MATCHED THEN UPDATE SET region = 'eu'",
    ),
    "an update of the view": (DENIED, "UPDATE raw_masked.people SET region = 'eu'"),
    "an empty table": (DENIED, "TRUNCATE raw.people"),
    "locked rows": (DENIED, "SELECT id FROM raw.people FOR UPDATE"),
    "a locked table": (DENIED, "BEGIN; LOCK TABLE raw.people IN ACCESS EXCLUSIVE MODE"),
    "a block of code": (DENIED, "DO $$ BEGIN EXECUTE 'SELECT ssn FROM raw.people'; END $$"),
    "a block that catches": (
        "P0001",
        (
            "DO $$ DECLARE s text; BEGIN BEGIN SELECT ssn INTO s FROM raw.people; EXCEPTION WHEN OTHERS THEN s := 'nothing'; "
            "END; RAISE EXCEPTION 'found %', s; END $$"
        ),
    ),
    "a block of C": (DENIED, "CREATE FUNCTION public.f() RETURNS int LANGUAGE c AS 'libc', 'puts'"),
    "a library": (DENIED, "LOAD 'auto_explain'"),
    "a setting of the server": (DENIED, "ALTER SYSTEM SET log_statement = 'all'"),
    "a setting of the superuser": (DENIED, "SET log_statement = 'all'"),
    "a grant without the right": (DENIED, "GRANT SELECT ON raw.people TO PUBLIC"),
    "everything of the owner": (DENIED, f'REASSIGN OWNED BY {USER} TO "wb_u_gh-eve"'),
    "grants of what comes": (
        DENIED,
        f'ALTER DEFAULT PRIVILEGES FOR ROLE {USER} GRANT SELECT ON TABLES TO "wb_u_gh-eve"',
    ),
    "a publication": (DENIED, "CREATE PUBLICATION p FOR TABLE raw.people"),
    "the write-ahead log": (DENIED, "SELECT pg_create_logical_replication_slot('s', 'test_decoding')"),
    "an index on another column": (DENIED, "CREATE INDEX ON raw.people (ssn)"),
    "statistics on another column": (DENIED, "CREATE STATISTICS raw.s ON ssn, mail FROM raw.people"),
    "an event trigger": (DENIED, "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION raw.all_people()"),
    "the lock of all who administer roles": (DENIED, f"SELECT pg_advisory_lock({LOCK})"),
    "the lock of all who make tables": (DENIED, f"SELECT pg_try_advisory_lock({DDL_LOCK})"),
    "the lock of a flow": (DENIED, "BEGIN; SELECT pg_advisory_xact_lock(hashtext('raw.people'))"),
    "a lock that lets others read": (DENIED, "SELECT pg_try_advisory_xact_lock_shared(1, 2)"),
    "the owner's sessions": (
        DENIED,
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{USER}'",
    ),
    "a cast that says what it could not": ("22P02", "SELECT id FROM raw.people WHERE name::int > 0"),
    "a cast of a masked column": ("22P02", "SELECT id FROM raw_masked.people WHERE ssn::int > 0"),
}

#: What is tried and works, but shows only what is allowed; the answer has 20 rows, or as many as are said.
FILTERED: dict[str, tuple[int, str]] = {
    "a query": (20, "SELECT id, region, name FROM raw.people"),
    "a common table expression": (20, "WITH p AS MATERIALIZED (SELECT id, name FROM raw.people) SELECT * FROM p"),
    "a lateral join": (20, "SELECT b.name FROM raw.people a, LATERAL (SELECT name FROM raw.people WHERE id = a.id) b"),
    "an outer join": (40, "SELECT g, p.name FROM generate_series(1, 40) g LEFT JOIN raw.people p ON p.id = g"),
    "a window": (20, "SELECT lead(name) OVER (ORDER BY id) FROM raw.people"),
    "a set operation": (20, "SELECT name FROM raw.people UNION SELECT name FROM raw.people"),
    "a recursion": (
        20,
        (
            "WITH RECURSIVE r AS (SELECT 1 AS id UNION ALL SELECT id + 1 FROM r WHERE id < 40) "
            "SELECT p.name FROM r JOIN raw.people p USING (id)"
        ),
    ),
    "a sample": (20, "SELECT name FROM raw.people TABLESAMPLE BERNOULLI (100)"),
    "ONLY": (20, "SELECT name FROM ONLY raw.people"),
    "another path": (20, "SET search_path = pg_temp, raw, public; SELECT name FROM people"),
    "an index alone": (0, "SET enable_seqscan = off; SELECT name FROM raw.people WHERE id = 21"),
    "a condition that always holds": (20, "SELECT name FROM raw.people WHERE true OR region = 'us'"),
    "a division that would fail": (
        20,
        "SELECT name FROM raw.people WHERE 1 / (CASE WHEN region = 'us' THEN 0 ELSE 1 END) > 0",
    ),
    "a division in the view": (
        20,
        "SELECT name FROM raw_masked.people WHERE 1 / (CASE WHEN region = 'us' THEN 0 ELSE 1 END) > 0",
    ),
    "a prepared statement": (20, "PREPARE q AS SELECT name FROM raw.people WHERE region <> $1; EXECUTE q ('x')"),
    "a generic plan": (
        20,
        "SET plan_cache_mode = force_generic_plan; PREPARE g AS SELECT name FROM raw.people WHERE id > $1; EXECUTE g (0)",
    ),
    "a cursor": (20, "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT name FROM raw.people; COMMIT; FETCH ALL FROM c"),
    "COPY of what is allowed": (20, "COPY (SELECT name FROM raw.people) TO STDOUT"),
    "words of a query": (21, "SELECT word FROM ts_stat('SELECT to_tsvector(''simple'', name) FROM raw.people')"),
    "the masks": (20, "SELECT * FROM raw_masked.people"),
    "whole rows of the masks": (20, "SELECT p::text FROM raw_masked.people p"),
    "masks as JSON": (20, "SELECT row_to_json(p) FROM raw_masked.people p"),
    "a made-up setting": (20, "SET app.region = 'us'; SET app.login = 'postgres'; SELECT name FROM raw.people"),
    "attributes": (3, "SELECT * FROM workbench_policies.attributes"),
    "a setting of time zone and words": (
        20,
        "SET TimeZone = 'Pacific/Apia'; SET DateStyle = 'SQL'; SELECT name FROM raw.people",
    ),
}

#: What is tried and answers something else than rows of the table.
HARMLESS: dict[str, str] = {
    "statistics of columns": "SELECT * FROM pg_stats WHERE tablename IN ('people', 'other', 'kept', 'runs')",
    "extended statistics": "SELECT * FROM pg_stats_ext",
    "a plan": "EXPLAIN (ANALYZE, VERBOSE, BUFFERS) SELECT id, name FROM raw.people WHERE name LIKE 'H%'",
    "a plan of the masks": "EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM raw_masked.people",
    "how the view is made": "SELECT pg_get_viewdef('raw_masked.people'::regclass)",
    "policies": "SELECT * FROM pg_policies",
    "other sessions": "SELECT query FROM pg_stat_activity",
    "notifications": "LISTEN people; NOTIFY people, 'nothing'; SELECT 1",
    "what the parser says": (
        "SET client_min_messages = debug5; SET debug_print_plan = on; SET debug_print_rewritten = on; "
        "SELECT id FROM raw.people LIMIT 1"
    ),
    "columns of the catalog": "SELECT * FROM information_schema.columns WHERE table_name = 'people'",
    "a large object of one's own": "BEGIN; SELECT lo_create(0); ROLLBACK",
}


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory):
    with governed_warehouse(tmp_path_factory.mktemp("policies")) as warehouse:
        warehouse.own(TABLES)
        warehouse.ask("REVOKE ALL ON FUNCTION raw.all_people() FROM PUBLIC")
        warehouse.apply(POLICIES)
        warehouse.hand_out(POLICIES, "gh-other", ["analysts"])
        with warehouse.connect(USER, warehouse.server.server.password):
            yield warehouse


@pytest.fixture(scope="module")
def eve(warehouse):
    return warehouse.hand_out(POLICIES, "gh-eve", ["analysts"])


@pytest.fixture
def session(warehouse: GovernedWarehouse, eve):
    with warehouse.connect(eve.user, eve.password.get_secret_value()) as connection:
        yield Session(connection)


class Session:
    """A connection that remembers all that the server said."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.said: list[str] = []
        connection.add_notice_handler(lambda told: self.said.append(repr([told.message_primary, told.message_detail])))

    def run(self, statements: str) -> list[tuple[Any, ...]]:
        """The rows of the last statement."""
        rows: list[tuple[Any, ...]] = []
        for statement in statements.split("; ") if "$$" not in statements else [statements]:
            rows = self._run_one(statement)
            self.said.append(repr(rows))
        return rows

    def _run_one(self, statement: str) -> list[tuple[Any, ...]]:
        try:
            with self.connection.cursor() as cursor:
                if statement.startswith("COPY") and "STDOUT" in statement:
                    with cursor.copy(statement) as copy:
                        return [(bytes(each),) for each in copy]
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            told = error.diag
            self.said.append(
                repr([str(error), told.message_detail, told.message_hint, told.context, told.internal_query])
            )
            raise

    def assert_nothing_hidden(self) -> None:
        told = "\n".join(self.said)
        assert [mark for mark in MARKS if mark in told] == [], told


def test_the_marks_are_found_where_somebody_sees_everything(warehouse):
    with warehouse.connect(USER, warehouse.server.server.password) as connection:
        session = Session(connection)
        assert len(session.run("SELECT * FROM raw.people")) == 40

    with pytest.raises(AssertionError):
        session.assert_nothing_hidden()


@pytest.mark.parametrize("attack", REFUSED)
def test_refused(session, attack):
    state, statements = REFUSED[attack]

    with pytest.raises(psycopg.Error) as caught:
        session.run(statements)

    assert caught.value.sqlstate == state, caught.value
    session.assert_nothing_hidden()


@pytest.mark.parametrize("attack", FILTERED)
def test_shows_what_is_allowed(session, attack):
    count, statements = FILTERED[attack]

    rows = session.run(statements)

    assert len(rows) == count
    session.assert_nothing_hidden()


@pytest.mark.parametrize("attack", HARMLESS)
def test_tells_nothing(warehouse, session, attack):
    with warehouse.connect(USER, warehouse.server.server.password) as owner:
        owner.execute("SELECT 'HIDDEN-QUERY'")
        session.run(HARMLESS[attack])

    session.assert_nothing_hidden()


def test_counts_are_those_of_the_rows_that_are_allowed(session):
    assert session.run("SELECT count(*), min(id), max(id) FROM raw.people") == [(20, 1, 20)]
    assert session.run("SELECT count(*) FROM raw_masked.people WHERE id > 20") == [(0,)]


def test_masks_hide_what_they_are_for(session):
    rows = session.run("SELECT ssn, mail, note, salary FROM raw_masked.people ORDER BY id")

    assert rows[0][0] == "***0042"
    assert rows[0][2:] == ("there is one", None)
    assert len({mail for _, mail, *_ in rows}) == 20
    session.assert_nothing_hidden()


def test_a_hash_cannot_be_guessed(session):
    guess = b"HIDDEN-MAIL-1"
    found = session.run("SELECT mail FROM raw_masked.people WHERE id = 1")[0][0]

    assert found not in {
        hashlib.sha256(guess).hexdigest(),
        hashlib.sha256(hashlib.sha256(guess).hexdigest().encode()).hexdigest(),
    }
    assert len(found) == 64


def test_statistics_tell_nothing_of_columns_in_another_table(session):
    assert session.run("SELECT * FROM pg_stats WHERE schemaname IN ('raw', 'pipelines')") == []


def test_nothing_of_all_that_has_changed_anything(warehouse):
    found = warehouse.plan(POLICIES)

    assert [str(change) for change in found.changes] == []
    assert found.warnings == ()


def test_a_steward_sees_everything(warehouse):
    with warehouse.person(POLICIES, "gh-sue", ["admins"]) as connection:
        assert connection.execute("SELECT count(*), max(salary) FROM raw.people").fetchall() == [(40, 77770040)]
        assert connection.execute("SELECT ssn FROM raw_masked.people WHERE id = 21").fetchone() == (
            "HIDDEN-COLUMN-21-0043",
        )


def test_the_owner_reads_and_writes_all_rows(warehouse):
    with warehouse.connect(USER, warehouse.server.server.password) as connection:
        assert connection.execute("UPDATE raw.people SET note = note").rowcount == 40
        assert connection.execute("SELECT count(*) FROM raw.people").fetchone() == (40,)


def test_more_than_forty_attacks():
    assert len(REFUSED) + len(FILTERED) + len(HARMLESS) > 100
