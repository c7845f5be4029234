"""Policies from the commands, and from the hub, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import logging
import stat
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pyarrow as pa
import pytest
from jupyterhub.spawner import SimpleLocalProcessSpawner, SpawnException
from pydantic import SecretStr
from traitlets.config import Config
from typer.testing import CliRunner

from hub import warehouse_roles
from hub.operations import set_operations
from hub.spawning.configuration import set_spawner
from tests.services.hub_user import hub_user
from tests.services.policies import governed_warehouse
from tests.services.redshift import RedshiftDouble
from workbench.cli.main import make_application
from workbench.errors import PoliciesRefused
from workbench.sections import EMBEDDED_SUPERUSER
from workbench.security.audit import Action, AuditLog, read_events
from workbench.security.secrets import private_folder, write_private
from workbench.settings import Settings
from workbench.warehouse.copy import replace_table
from workbench.warehouse.engine import read_frame
from workbench.warehouse.policies import applying, people
from workbench.warehouse.policies.administration import Administration
from workbench.warehouse.policies.redshift import read_redshift_tables

POLICIES = """
version: 1
roles:
  analyst:
    tables:
      raw.people: {columns: [id, region], rows: region = user.region, masks: {ssn: hash}}
bindings: {analysts: [analyst]}
users: {gh-eve: {region: eu}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with governed_warehouse(tmp_path_factory.mktemp("policies")) as warehouse:
        warehouse.own("CREATE SCHEMA raw; CREATE TABLE raw.people (id int, region text, ssn text)")
        warehouse.own("INSERT INTO raw.people VALUES (1, 'eu', 'one'), (2, 'us', 'two')")
        yield warehouse


@pytest.fixture
def warehouse(server, monkeypatch):
    home = server.server.server.home
    file = server.folder / "file.yaml"
    file.write_text(POLICIES)
    variables = {
        **server.server.variables(),
        "WORKBENCH_HOME": str(home),
        "WORKBENCH_POLICIES_FILE": str(file),
        "WORKBENCH_POLICIES_ADMIN_USER": EMBEDDED_SUPERUSER,
        "WORKBENCH_POLICIES_ADMIN_PASSWORD": server.superuser_password,
        "WORKBENCH_POLICIES_OWN_ROLES": "true",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return server


def command(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(make_application(), ["policy", *words])
    assert done.exit_code == code, done.output + repr(done.exception)
    return done.stdout


def spawner(name: str, *groups: str) -> SimpleNamespace:
    user = SimpleNamespace(name=name, groups=[SimpleNamespace(name=group) for group in groups])
    return SimpleNamespace(
        user=user, environment={"DW_USER": "flows", "DW_PASSWORD": "theirs"}, log=logging.getLogger("hub")
    )


def test_plan_apply_verify_and_explain(warehouse):
    assert "row security of raw.people: disabled" in command("plan", "--check", code=1)
    assert 'GRANT SELECT ("id", "region") ON TABLE "raw"."people" TO "wb_p_analyst";' in command("plan", "--sql")
    assert "policy wb_p_analyst of raw.people" in command("apply")
    assert command("apply") == "Nothing to do.\n"
    assert command("verify") == "The warehouse has what the policies ask for.\n"

    warehouse.ask("ALTER TABLE raw.people DISABLE ROW LEVEL SECURITY")
    told = json.loads(command("verify", "--json", code=1))
    assert [change["on"] for change in told["changes"]] == ["row security of raw.people"]
    command("apply")

    shown = json.loads(command("explain", "gh-eve", "raw.people", "--group", "analysts", "--json"))
    assert (shown["reads"], shown["rows"]) == (["raw.people", "raw_masked.people"], "(region = user.region)")
    assert "masked: hash" in command("explain", "gh-eve", "raw.people", "--group", "analysts")
    events = list(read_events(AuditLog.of(Settings.load().home).path, action=Action.POLICIES_APPLIED))
    assert [each.outcome for each in events] == ["begun", "success"] * 3
    assert [each.details["changes"] == "0" for each in events[1::2]] == [False, True, False]
    assert events[0].actor.startswith("operator:")


def test_the_superuser_of_the_embedded_server_applies_policies(warehouse, monkeypatch):
    # As `workbench up` leaves it: the server is told in a file, and nobody is named who may make roles.
    told = private_folder(Settings.load().home / "run") / "embedded.env"
    write_private(told, "".join(f"{name}='{value}'\n" for name, value in warehouse.server.variables().items()))
    for name in (*warehouse.server.variables(), "WORKBENCH_POLICIES_ADMIN_USER", "WORKBENCH_POLICIES_ADMIN_PASSWORD"):
        monkeypatch.delenv(name)

    command("apply")

    assert command("verify") == "The warehouse has what the policies ask for.\n"
    warehouse_roles.check(Settings.load())
    told.unlink()


def test_the_owner_loads_as_before(warehouse):
    command("apply")
    settings = Settings.load().warehouse
    rows = pa.table({"id": pa.array([1, 2], pa.int32()), "region": ["eu", "us"], "ssn": ["one", "two"]})

    replace_table(settings, "raw.people", rows)

    assert read_frame(settings, "SELECT count(*) FROM raw.people", {}).iloc[0, 0] == 2
    assert command("verify") == "The warehouse has what the policies ask for.\n"


def test_other_services_read_and_write_all_rows(warehouse):
    warehouse.ask(
        "CREATE ROLE loader; GRANT USAGE ON SCHEMA raw TO loader; GRANT SELECT, INSERT ON raw.people TO loader"
    )
    file = warehouse.folder / "file.yaml"
    file.write_text(POLICIES + "services: [loader]\n")
    command("apply")

    with warehouse.superuser() as connection:
        connection.execute("SET ROLE loader; INSERT INTO raw.people VALUES (3, 'us', 'three')")
        assert connection.execute("SELECT count(*) FROM raw.people").fetchall() == [(3,)]
        file.write_text(POLICIES)
        command("apply")
        assert connection.execute("SELECT count(*) FROM raw.people").fetchall() == [(0,)]


def test_an_administrator_need_not_be_a_superuser(tmp_path):
    with governed_warehouse(tmp_path) as warehouse:
        warehouse.own("CREATE SCHEMA raw; CREATE TABLE raw.people (id int, region text, ssn text)")
        warehouse.ask(
            "CREATE ROLE admin LOGIN CREATEROLE PASSWORD 'secret'; GRANT flows TO admin; "
            "GRANT CONNECT, CREATE, TEMPORARY ON DATABASE analytics TO admin WITH GRANT OPTION"
        )
        administration = replace(warehouse.administration, user="admin", password=SecretStr("secret"))
        policies = warehouse.policies(POLICIES)

        applying.apply(administration, policies)
        found = people.hand_out(administration, policies, "gh-eve", ["analysts"], hours=1)
        with warehouse.connect(found.user, found.password.get_secret_value()) as connection:
            assert connection.execute("SELECT id FROM raw.people").fetchall() == []
            assert people.remove(administration, "gh-eve")[1:] == ["1 connections to the warehouse ended"]
        assert applying.plan(administration, policies).changes == ()
        # What it has made is its own to take away again.
        applying.apply(administration, warehouse.policies("version: 1\nroles: {}\n"))
        assert warehouse.ask("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'wb_p_%'") == [(0,)]


def test_credentials_are_in_a_file_that_nobody_else_reads(warehouse):
    command("apply")
    told = json.loads(command("credentials", "gh-eve", "--group", "analysts", "--json"))

    path = Path(told["file"])
    assert (told["role"], told["roles"]) == ("wb_u_gh-eve", ["analyst"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    variables = dict(line.split("=", 1) for line in path.read_text().splitlines())
    with warehouse.connect(variables["DW_USER"], variables["DW_PASSWORD"]) as connection:
        assert connection.execute("SELECT id FROM raw.people").fetchall() == [(1,)]
    # Without groups: those that were told last.
    assert json.loads(command("credentials", "gh-eve", "--json"))["roles"] == ["analyst"]

    assert "warehouse role wb_u_gh-eve removed" in command("remove", "gh-eve")
    assert not path.exists()
    assert command("remove", "gh-eve") == "gh-eve has no role in the warehouse.\n"


def test_a_server_of_the_hub_gets_its_owners_role_and_no_other(warehouse, monkeypatch):
    command("apply")
    started = spawner("gh-eve", "analysts", "github:org")

    role = asyncio.run(warehouse_roles.set_role(Settings.load(), started))

    assert role == started.environment["DW_USER"] == "wb_u_gh-eve"
    for name in ("WORKBENCH_POLICIES_ADMIN_USER", "WORKBENCH_POLICIES_ADMIN_PASSWORD"):
        monkeypatch.delenv(name)
    for name, value in started.environment.items():
        monkeypatch.setenv(name, value)
    frame = read_frame(Settings.load().warehouse, "SELECT id, current_user AS who FROM raw.people", {})
    assert frame.to_dict("records") == [{"id": 1, "who": "wb_u_gh-eve"}]


def test_the_hooks_of_a_spawner_give_the_role_and_end_its_password(warehouse):
    command("apply")
    settings, c = Settings.load(), Config()
    c.JupyterHub.services, c.JupyterHub.load_roles = [], []
    set_spawner(c, settings)
    set_operations(c, settings)
    with hub_user(c, "gh-lou", "analyst", spawner_class=SimpleLocalProcessSpawner) as user:
        starting = user.spawners[""]
        asyncio.run(starting.run_pre_spawn_hook())
        variables = starting.get_env()
        asyncio.run(starting.run_post_stop_hook())

    assert variables["DW_USER"] == "wb_u_gh-lou"
    assert not any(name.startswith("WORKBENCH_POLICIES_") for name in variables)
    assert {settings.warehouse.password.get_secret_value(), warehouse.superuser_password}.isdisjoint(variables.values())
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        warehouse.connect(variables["DW_USER"], variables["DW_PASSWORD"])
    events = list(read_events(AuditLog.of(settings.home).path, action=Action.CREDENTIALS_GIVEN))
    assert (events[-1].actor, events[-1].resource, events[-1].details) == ("hub", "gh-lou", {"role": "wb_u_gh-lou"})


def test_a_server_that_stops_takes_its_password_along(warehouse):
    command("apply")
    settings, started = Settings.load(), spawner("gh-kim", "analysts")
    asyncio.run(warehouse_roles.set_role(settings, started))
    given = started.environment["DW_USER"], started.environment["DW_PASSWORD"]
    with warehouse.connect(*given) as connection:
        asyncio.run(warehouse_roles.close_role(settings, started))

        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        warehouse.connect(*given)
    assert command("verify") == "The warehouse has what the policies ask for.\n"


def test_a_stop_that_comes_late_ends_no_newer_password(warehouse):
    policies = warehouse.policies(POLICIES)
    first, second = (people.hand_out(warehouse.administration, policies, "gh-kim", [], hours=1) for _ in range(2))

    assert not people.close(warehouse.administration, "gh-kim", first.valid_until)
    warehouse.connect(second.user, second.password.get_secret_value()).close()
    assert people.close(warehouse.administration, "gh-kim", second.valid_until)


@dataclass(frozen=True)
class Overtaken(Administration):
    """Lets another password be handed out right after the look at the one that is to be ended."""

    hand_out: Callable[[], None] = lambda: None

    @contextmanager
    def transaction(self, *, is_urgent=False):
        with super().transaction(is_urgent=is_urgent) as connection:

            def execute(query, *values):
                found = connection.execute(query, *values)
                if "rolvaliduntil" in str(query):
                    self.hand_out()
                return found

            yield SimpleNamespace(execute=execute, rollback=connection.rollback)


def test_a_stop_that_is_not_alone_ends_no_password_that_comes_between(warehouse):
    command("apply")
    policies = warehouse.policies(POLICIES)
    first = people.hand_out(warehouse.administration, policies, "gh-una", [], hours=1)
    handed_out = []

    def hand_out():  # as one that holds the lock for longer than a stop waits
        with warehouse.superuser() as connection:
            connection.execute("SET lock_timeout = '50ms'")
            with suppress(psycopg.errors.LockNotAvailable):
                connection.execute(f"ALTER ROLE \"{first.user}\" VALID UNTIL '2099-01-01'")
                handed_out.append("2099")

    there = warehouse.administration
    overtaken = Overtaken(there.warehouse, there.user, there.password, hand_out=hand_out)
    assert people.close(overtaken, "gh-una", first.valid_until)
    assert not handed_out


def test_who_is_off_boarded_has_no_role_any_more(warehouse):
    command("apply")
    started = spawner("gh-leo", "analysts")
    asyncio.run(warehouse_roles.set_role(Settings.load(), started))

    steps = asyncio.run(warehouse_roles.remove_role(Settings.load(), "gh-leo"))

    assert steps == ["warehouse role wb_u_gh-leo removed"]
    with pytest.raises(psycopg.OperationalError):
        warehouse.connect(started.environment["DW_USER"], started.environment["DW_PASSWORD"])


def test_a_server_does_not_start_with_another_role_when_there_is_none(warehouse, monkeypatch):
    monkeypatch.setenv("WORKBENCH_POLICIES_ADMIN_PASSWORD", "wrong")
    started = spawner("gh-eve", "analysts")

    with pytest.raises(SpawnException, match="You cannot be given a role in the warehouse") as caught:
        asyncio.run(warehouse_roles.set_role(Settings.load(), started))

    assert caught.value.reason == "warehouse_role"
    assert "wrong" not in str(caught.value)


def test_off_boarding_asks_no_warehouse_when_nobody_has_a_role(monkeypatch):
    assert asyncio.run(warehouse_roles.remove_role(Settings.load(), "gh-eve")) == []


def test_tables_of_redshift_are_read_with_their_types(warehouse, tmp_path):
    double = RedshiftDouble(Settings.load(), tmp_path)
    with psycopg.connect(**double._options) as connection:
        connection.execute("CREATE SCHEMA raw; CREATE TABLE raw.people (id int, name varchar(20), born date)")

    found = read_redshift_tables(double.settings, double.driver)

    assert found["raw.people"].columns == {"id": "integer", "name": "character varying(20)", "born": "date"}


def test_enumerations_and_domains_are_masked_by_what_writes_them(server):
    server.own("""
        CREATE TYPE raw.mood AS ENUM ('glad', 'sad'); CREATE DOMAIN raw.code AS varchar(9);
        CREATE DOMAIN raw.postcode AS raw.code; CREATE DOMAIN raw.day AS date;
        CREATE TABLE raw.visits (mood raw.mood, postcode raw.postcode, day raw.day, about jsonb);
        INSERT INTO raw.visits VALUES ('glad', '8001', '2026-01-02', '{"a": 1}')""")
    masked = "{mood: {partial: 2}, postcode: {partial: 2}, about: {partial: 2}, day: %s}"
    policies = f"version: 1\nroles: {{visitor: {{tables: {{raw.visits: {{masks: {masked}}}}}}}}}\nbindings: {{visitors: [visitor]}}\n"
    try:
        with pytest.raises(PoliciesRefused, match=r"raw\.visits\.day is raw\.day, whose text may depend") as caught:
            server.apply(policies % "{partial: 2}")
        assert len(caught.value.problems) == 1
        server.apply(policies % "'null'")
        assert not server.plan(policies % "'null'").changes
        with server.person(policies % "'null'", "gh-ann", ["visitors"]) as person:
            query = "SELECT mood, postcode, about, day FROM raw_masked.visits"
            assert person.execute(query).fetchall() == [("***ad", "***01", "***1}", None)]
    finally:
        server.apply("version: 1\nroles: {}\n")
        server.own("DROP TABLE raw.visits; DROP TYPE raw.mood; DROP DOMAIN raw.day, raw.postcode, raw.code")
