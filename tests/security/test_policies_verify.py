"""What somebody has changed behind the policies' back is named, and healed by the next apply."""

from __future__ import annotations

import psycopg
import pytest

from tests.services.policies import governed_warehouse
from tests.services.postgres_server import USER
from workbench.errors import PoliciesRefused, WarehouseError
from workbench.security.policies.names import user_role
from workbench.warehouse.policies import administration, people

POLICIES = """
version: 1
roles:
  viewer:
    tables:
      raw.people:
        columns: [id, region]
        rows: region = user.region
        deny: {rows: id > 100}
  analyst:
    tables:
      raw.people: {columns: [id, region, name], masks: {ssn: hash}}
      raw.plain: {columns: "*"}
bindings: {viewers: [viewer], analysts: [analyst]}
tags: {pii: {columns: [raw.people.name], roles: [analyst]}}
users: {gh-eve: {region: eu}}
"""
TABLES = """
CREATE SCHEMA raw;
CREATE TABLE raw.people (id int PRIMARY KEY, region text, name text, ssn text);
CREATE TABLE raw.plain (id int);
CREATE TABLE raw.private (id int);
"""
EVE = '"wb_u_gh-eve"'
#: What is done as the superuser, and what `workbench policy verify` says of it.
DEVIATIONS: dict[str, tuple[str, str]] = {
    "a table granted": (f"GRANT SELECT ON raw.private TO {EVE}", "privileges on table raw.private to wb_u_gh-eve: SELECT, but should not be"),
    "a column granted": ("GRANT SELECT (ssn) ON raw.people TO wb_p_viewer", "wb_p_viewer: SELECT (id, region, ssn), but should be SELECT (id, region)"),
    "a whole table granted": ("GRANT SELECT ON raw.people TO wb_p_viewer", "privileges on table raw.people to wb_p_viewer: SELECT, but should be"),
    "writing granted": ("GRANT INSERT, UPDATE ON raw.people TO wb_p_analyst", "INSERT, SELECT (id, name, region), UPDATE, but"),
    "a grant to everybody": ("GRANT SELECT ON raw.private TO PUBLIC", "privileges on table raw.private to PUBLIC: SELECT"),
    "a grant of the catalog": (f"GRANT SELECT ON pg_catalog.pg_authid TO {EVE}", "privileges on table pg_catalog.pg_authid to wb_u_gh-eve"),
    "a grant taken away": ("REVOKE SELECT (name) ON raw.people FROM wb_p_analyst", "SELECT (id, region), but should be SELECT (id, name, region)"),
    "making in a schema": (f"GRANT CREATE ON SCHEMA raw TO {EVE}", "privileges on schema raw to wb_u_gh-eve: CREATE"),
    "making in public": ("GRANT CREATE, USAGE ON SCHEMA public TO PUBLIC", "privileges on schema public to PUBLIC: CREATE, USAGE"),
    "temporary tables": ("GRANT TEMPORARY ON DATABASE analytics TO PUBLIC", "privileges on database analytics to PUBLIC: TEMPORARY"),
    "the key of hashes": ("GRANT SELECT ON workbench_policies.mask_key TO wb_users", "workbench_policies.mask_key to wb_users"),
    "the key for a stranger": ("GRANT SELECT ON workbench_policies.mask_key TO stranger", "workbench_policies.mask_key to stranger"),
    "grants of what comes": ("ALTER DEFAULT PRIVILEGES IN SCHEMA raw GRANT SELECT ON TABLES TO wb_users", "default privileges of postgres in raw: TABLES to wb_users"),
    "a policy dropped": ("DROP POLICY wb_p_viewer ON raw.people", "policy wb_p_viewer of raw.people: is missing"),
    "a denial dropped": ('DROP POLICY "wb_p_viewer~deny" ON raw.people', "policy wb_p_viewer~deny of raw.people: is missing"),
    "a policy changed": ("ALTER POLICY wb_p_viewer ON raw.people USING (true)", "policy wb_p_viewer of raw.people: permissive FOR SELECT TO wb_p_viewer USING true, but should be"),
    "a policy for others": ("ALTER POLICY wb_p_analyst ON raw.people TO wb_p_viewer", "TO wb_p_viewer USING true, but should be permissive FOR SELECT TO wb_p_analyst"),
    "a policy added": ("CREATE POLICY mine ON raw.people FOR SELECT TO PUBLIC USING (true)", "policy mine of raw.people: permissive FOR SELECT TO PUBLIC USING true, but should not be"),
    "a policy of another table": ("CREATE POLICY mine ON raw.private TO wb_users USING (true)", "policy mine of raw.private"),
    "row security disabled": ("ALTER TABLE raw.people DISABLE ROW LEVEL SECURITY", "row security of raw.people: disabled, not forced, but should be enabled, not forced"),
    "row security forced, under which nobody can load": ("ALTER TABLE raw.people FORCE ROW LEVEL SECURITY", "enabled, forced, but should be enabled, not forced"),
    "attributes open": ("ALTER TABLE workbench_policies.attributes DISABLE ROW LEVEL SECURITY", "row security of workbench_policies.attributes: disabled"),
    "attributes of all": ("ALTER POLICY wb_own_rows ON workbench_policies.attributes USING (true)", "policy wb_own_rows of workbench_policies.attributes"),
    "an attribute changed": ("UPDATE workbench_policies.attributes SET value = 'us' WHERE attribute = 'region'", "user.region of wb_u_gh-eve: us, but should be eu"),
    "an attribute added": ("INSERT INTO workbench_policies.attributes VALUES ('wb_u_gh-eve', 'region', 'us')", "user.region of wb_u_gh-eve: us, but should not be"),
    "the owner changed": (f"ALTER TABLE raw.people OWNER TO {EVE}", "owner of raw.people: wb_u_gh-eve, but should be flows"),
    "something owned": (f"CREATE TABLE raw.eves (id int); ALTER TABLE raw.eves OWNER TO {EVE}", "role wb_u_gh-eve: owns table raw.eves"),
    "BYPASSRLS": (f"ALTER ROLE {EVE} BYPASSRLS", "role wb_u_gh-eve: BYPASSRLS LOGIN, but should be LOGIN"),
    "a password for ever": (
        f"ALTER ROLE {EVE} VALID UNTIL 'infinity'",
        "password of wb_u_gh-eve: has no end, but should not be",
    ),
    "a superuser": (f"ALTER ROLE {EVE} SUPERUSER", "role wb_u_gh-eve: LOGIN SUPERUSER"),
    "a group that logs in": ("ALTER ROLE wb_p_analyst LOGIN", "role wb_p_analyst: LOGIN, but should be no attributes"),
    "a group that makes roles": ("ALTER ROLE wb_p_analyst CREATEROLE", "role wb_p_analyst: CREATEROLE, but"),
    "a right to read everything": (f"GRANT pg_read_all_data TO {EVE}", "role wb_u_gh-eve: member of pg_read_all_data"),
    "the owner's role": (f"GRANT {USER} TO wb_p_viewer", "role wb_p_viewer: member of flows"),
    "another group": (f"GRANT wb_p_analyst TO {EVE}", "role wb_u_gh-eve: member of wb_p_analyst"),
    "a group that can be set": (f"GRANT wb_p_viewer TO {EVE} WITH SET TRUE", "member of wb_p_viewer (INHERIT, SET), but should be member of wb_p_viewer (INHERIT)"),
    "a group left": (f"REVOKE wb_p_viewer FROM {EVE}", "role wb_u_gh-eve: is missing: member of wb_p_viewer"),
    "a stranger in a group": ("GRANT wb_p_analyst TO stranger", "role stranger: member of wb_p_analyst"),
    "a path": (f"ALTER ROLE {EVE} SET search_path = raw, pg_catalog", "setting search_path of wb_u_gh-eve: raw, pg_catalog, but should be pg_catalog"),
    "a path in this database": (f"ALTER ROLE {EVE} IN DATABASE analytics SET search_path = raw", "raw in analytics"),
    "a view of the masks changed": ("CREATE OR REPLACE VIEW raw_masked.people AS SELECT id, region, name, ssn FROM raw.people", "view raw_masked.people: of flows"),
    "a view without its barrier": ("ALTER VIEW raw_masked.people SET (security_barrier = false)", "security_barrier=false"),
    "a view of the superuser": ("ALTER VIEW raw_masked.people OWNER TO postgres", "view raw_masked.people: of postgres"),
    "a view dropped": ("DROP VIEW raw_masked.people", "view raw_masked.people: is missing"),
    "another view": ("CREATE VIEW raw.everybody AS SELECT * FROM raw.people; GRANT SELECT ON raw.everybody TO wb_users", "privileges on view raw.everybody to wb_users"),
    "a function with its owner's rights": ("CREATE FUNCTION raw.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'", "function raw.f(): runs as its owner, and PUBLIC may call it"),
    "a function with its owner's rights, for one": (
        (f"CREATE FUNCTION raw.g() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'; "
        f"REVOKE ALL ON FUNCTION raw.g() FROM PUBLIC; GRANT EXECUTE ON FUNCTION raw.g() TO {EVE}"),
        "privileges on function raw.g() to wb_u_gh-eve: granted, but should not be",
    ),
    "a function of the system": (
        f"GRANT EXECUTE ON FUNCTION pg_read_file(text) TO {EVE}",
        "privileges on function pg_catalog.pg_read_file(pg_catalog.text) to wb_u_gh-eve: granted",
    ),
    "a function of the system for all": (
        "GRANT EXECUTE ON FUNCTION pg_read_file(text) TO PUBLIC",
        "privileges on routine pg_read_file(text) to PUBLIC: EXECUTE",
    ),
    "locks for all": (
        "GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint) TO PUBLIC",
        "function pg_advisory_lock(bigint) to PUBLIC: EXECUTE, but should not be",
    ),
    "no lock for a service": (
        f"REVOKE ALL ON FUNCTION pg_advisory_xact_lock(bigint) FROM {USER}",
        f"function pg_advisory_xact_lock(bigint) to {USER}: is missing: EXECUTE",
    ),
    "passwords for all": ("GRANT SELECT ON pg_authid TO PUBLIC", "privileges on table pg_authid to PUBLIC: SELECT"),
    "a setting of the superuser": (
        f"GRANT SET ON PARAMETER log_statement TO {EVE}",
        "privileges on parameter ACL log_statement to wb_u_gh-eve: granted",
    ),
    "a large object": (
        f"SELECT lo_create(4242); GRANT SELECT ON LARGE OBJECT 4242 TO {EVE}",
        "privileges on large object 4242 to wb_u_gh-eve: granted",
    ),
    "a role that nobody knows": ("CREATE ROLE wb_u_mallory LOGIN", "role wb_u_mallory: exists, but should not be"),
}  # fmt: skip


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory):
    with governed_warehouse(tmp_path_factory.mktemp("policies")) as warehouse:
        warehouse.own(TABLES)
        warehouse.ask("CREATE ROLE stranger")
        warehouse.apply(POLICIES)
        warehouse.hand_out(POLICIES, "gh-eve", ["viewers"])
        yield warehouse


@pytest.mark.parametrize("deviation", DEVIATIONS)
def test_a_deviation_is_named_and_healed(warehouse, deviation):
    statements, told = DEVIATIONS[deviation]
    warehouse.ask(statements)

    # It is committed only when nothing is left to change.
    found = [str(change) for change in warehouse.apply(POLICIES).changes]

    assert any(told in each for each in found), found
    assert len(found) <= 3, found


def test_a_plan_changes_nothing(warehouse):
    warehouse.ask("ALTER TABLE raw.people DISABLE ROW LEVEL SECURITY")

    first, second = warehouse.plan(POLICIES), warehouse.plan(POLICIES)

    assert first.changes == second.changes
    assert first.changes[0].statements == (
        'ALTER TABLE "raw"."people" ENABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY',
    )
    warehouse.apply(POLICIES)


def test_a_service_that_bypasses_row_security_is_told(warehouse):
    warehouse.ask(f"ALTER ROLE {USER} BYPASSRLS")

    found = warehouse.plan(POLICIES)

    assert found.changes == ()
    assert "role flows: bypasses row security" in found.warnings[0]
    warehouse.ask(f"ALTER ROLE {USER} NOBYPASSRLS")


def test_who_holds_the_lock_of_all_roles_keeps_no_role_by_it(warehouse, monkeypatch):
    monkeypatch.setattr(administration, "URGENT_MILLISECONDS", 50)
    warehouse.ask("GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint) TO PUBLIC")
    held = f"SELECT pg_advisory_lock({administration.LOCK})"

    given = warehouse.hand_out(POLICIES, "gh-mal", ["viewers"])
    with warehouse.connect(given.user, given.password.get_secret_value()) as connection:
        connection.execute(held)
        assert people.close(warehouse.administration, "gh-mal", given.valid_until)
    assert warehouse.ask("SELECT rolvaliduntil::text FROM pg_roles WHERE rolname = 'wb_u_gh-mal'") == [("-infinity",)]

    given = warehouse.hand_out(POLICIES, "gh-mal", ["viewers"])
    with warehouse.connect(given.user, given.password.get_secret_value()) as connection:
        connection.execute(held)
        steps = people.remove(warehouse.administration, "gh-mal")
    assert steps == ["warehouse role wb_u_gh-mal removed", "1 connections to the warehouse ended"]
    warehouse.apply(POLICIES)


def test_a_failing_apply_changes_nothing(warehouse):
    before = warehouse.ask("SELECT polname FROM pg_policy ORDER BY 1")
    # Somebody who may grant has granted: only they can take it back.
    warehouse.ask("GRANT USAGE ON SCHEMA raw TO stranger; GRANT SELECT ON raw.private TO stranger WITH GRANT OPTION")
    warehouse.ask("SET ROLE stranger; GRANT SELECT ON raw.private TO wb_users")

    with pytest.raises(
        WarehouseError, match=r"did not become what the policies ask for:\n.*raw.private to wb_users"
    ) as caught:
        warehouse.apply(POLICIES.replace("id > 100", "id > 99"))

    assert "raw.private to wb_users" in caught.value.message
    assert "Nothing was changed" in caught.value.remedy
    assert warehouse.ask("SELECT polname FROM pg_policy ORDER BY 1") == before
    warehouse.ask("REVOKE ALL ON raw.private FROM stranger CASCADE")
    assert warehouse.plan(POLICIES).changes == ()


def test_a_new_column_of_a_whole_table_is_denied_until_the_next_apply(warehouse):
    with warehouse.person(POLICIES, "gh-ann", ["analysts"]) as connection:
        warehouse.own("ALTER TABLE raw.plain ADD COLUMN more text")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT more FROM raw.plain")

        warehouse.apply(POLICIES)

        assert connection.execute("SELECT more FROM raw.plain").fetchall() == []


def test_a_role_that_leaves_the_file_goes_with_all_that_it_had(warehouse):
    without = POLICIES.replace("viewers: [viewer], ", "").partition("  viewer:")
    rest = "  analyst:" + without[2].partition("  analyst:")[2]
    warehouse.apply(without[0] + rest)

    assert warehouse.ask("SELECT count(*) FROM pg_roles WHERE rolname = 'wb_p_viewer'") == [(0,)]
    assert warehouse.ask("SELECT count(*) FROM pg_policy WHERE polname LIKE 'wb_p_viewer%'") == [(0,)]
    warehouse.apply(POLICIES)
    assert warehouse.plan(POLICIES).changes == ()


def test_a_table_that_leaves_the_file_is_closed(warehouse):
    without = POLICIES.replace('      raw.plain: {columns: "*"}\n', "")
    warehouse.apply(without)

    with (
        warehouse.person(without, "gh-ann", ["analysts"]) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("SELECT id FROM raw.plain")
    warehouse.own("INSERT INTO raw.plain (id) VALUES (1)")
    assert warehouse.plan(without).changes == ()
    warehouse.apply(POLICIES)


def test_a_column_is_free_to_change_while_its_table_is_not_in_the_file(warehouse):
    warehouse.ask("DROP VIEW IF EXISTS raw.everybody")  # of a deviation above
    change = "ALTER TABLE raw.people ALTER COLUMN id TYPE bigint, ALTER COLUMN ssn TYPE varchar"
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        warehouse.own(change)

    warehouse.apply("version: 1\nroles: {}\n")
    warehouse.own(change)
    warehouse.apply(POLICIES)

    with warehouse.person(POLICIES, "gh-ann", ["analysts"]) as connection:
        assert connection.execute("SELECT ssn FROM raw_masked.people").fetchall() == []
    warehouse.own("INSERT INTO raw.people VALUES (1); DELETE FROM raw.people")
    warehouse.hand_out(POLICIES, "gh-eve", ["viewers"])


def test_who_is_in_another_group_now_has_its_roles_only(warehouse):
    with warehouse.person(POLICIES, "gh-bob", ["analysts"]) as connection:
        assert connection.execute("SELECT name FROM raw.people").fetchall() == []
        warehouse.hand_out(POLICIES, "gh-bob", ["viewers"])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT name FROM raw.people")

    assert warehouse.plan(POLICIES).changes == ()


def test_a_binding_that_changes_reaches_people_with_the_next_apply(warehouse):
    with warehouse.person(POLICIES, "gh-cal", ["viewers"]) as connection:
        warehouse.apply(POLICIES.replace("viewers: [viewer]", "viewers: [analyst]"))
        assert connection.execute("SELECT name FROM raw.people").fetchall() == []
    warehouse.apply(POLICIES)


def test_a_password_is_good_until_its_hour_or_the_next(warehouse):
    first = warehouse.hand_out(POLICIES, "gh-dot", ["viewers"])
    second = warehouse.hand_out(POLICIES, "gh-dot", ["viewers"])

    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        warehouse.connect(first.user, first.password.get_secret_value())
    warehouse.connect(second.user, second.password.get_secret_value()).close()
    warehouse.ask(f"ALTER ROLE \"{second.user}\" VALID UNTIL '2000-01-01'")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        warehouse.connect(second.user, second.password.get_secret_value())
    assert second.password.get_secret_value() not in repr(second)


def test_who_is_removed_is_out_at_once(warehouse):
    with warehouse.person(POLICIES, "gh-eli", ["viewers"]) as connection:
        steps = people.remove(warehouse.administration, "gh-eli")

        assert steps == ["warehouse role wb_u_gh-eli removed", "1 connections to the warehouse ended"]
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert people.remove(warehouse.administration, "gh-eli") == []
    assert warehouse.plan(POLICIES).changes == ()


@pytest.mark.parametrize("name", ["gh-ada", 'o"dd; DROP ROLE x', "x" * 80, "Ünïcode", "a b"])
def test_every_hub_name_has_a_role_of_its_own(warehouse, name):
    with warehouse.person(POLICIES, name, ["viewers"]) as connection:
        assert connection.execute("SELECT current_user, session_user").fetchone() == (user_role(name),) * 2
        assert ("name", name) in connection.execute(
            "SELECT attribute, value FROM workbench_policies.attributes"
        ).fetchall()
    people.remove(warehouse.administration, name)


def test_who_sets_another_password_gains_no_time(warehouse):
    with warehouse.person(POLICIES, "gh-eva", ["viewers"]) as connection:
        connection.execute("ALTER ROLE \"wb_u_gh-eva\" PASSWORD 'mine'")
        until = warehouse.ask(
            "SELECT rolvaliduntil < now() + interval '61 minutes' FROM pg_roles WHERE rolname = 'wb_u_gh-eva'"
        )
        assert until == [(True,)]
    warehouse.hand_out(POLICIES, "gh-eva", ["viewers"])
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        warehouse.connect("wb_u_gh-eva", "mine")
    people.remove(warehouse.administration, "gh-eva")


def test_a_table_that_is_gone_keeps_nobody_from_the_others(warehouse):
    warehouse.own("DROP TABLE raw.plain")
    with warehouse.person(POLICIES, "gh-fay", ["analysts"]) as connection:
        assert connection.execute("SELECT name FROM raw.people").fetchall() == []
    with pytest.raises(PoliciesRefused, match=r"the warehouse has no table raw\.plain"):
        warehouse.plan(POLICIES)
    warehouse.own("CREATE TABLE raw.plain (id int)")
    warehouse.apply(POLICIES)


def test_no_credentials_before_policies_are_applied(warehouse):
    text = POLICIES.replace("bindings:", "  late: {}\nbindings:").replace(
        "viewers: [viewer]", "viewers: [viewer, late]"
    )

    with pytest.raises(WarehouseError, match="the warehouse has no role wb_p_late"):
        warehouse.hand_out(text, "gh-eve", ["viewers"])


def test_groups_whose_roles_do_not_go_together_get_no_credentials(warehouse):
    text = POLICIES.replace("[id, region]\n", "[id, region, ssn]\n")

    # Nobody should be in both; whoever is all the same sees nothing rather than too much.
    with pytest.raises(PoliciesRefused, match="together they would show columns of one in rows of the other"):
        warehouse.hand_out(text, "gh-eve", ["viewers", "analysts"])


def test_what_does_not_fit_the_tables_is_told_with_its_line(warehouse):
    text = (
        POLICIES.replace("[id, region, name]", "[id, regiom]")
        .replace("raw.plain", "raw.plane")
        .replace("id > 100", "id > 'x'")
    )

    with pytest.raises(PoliciesRefused) as caught:
        warehouse.plan(text)

    told = [str(each).partition("policies.yaml:")[2] for each in caught.value.problems]
    assert told == [
        "9: roles.viewer.tables.raw.people.deny.rows: id is bigint, and x is not of that type; write a value that is.",
        "12: roles.analyst.tables.raw.people.columns[1]: raw.people has no column regiom; did you mean region?",
        "13: roles.analyst.tables.raw.plane: the warehouse has no table raw.plane; correct the name, or make the table first.",
    ]
