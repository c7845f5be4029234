"""Steps that run as somebody: a role of the warehouse for each attempt, on a real PostgreSQL, with real kernels."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from pydantic import SecretStr

from pipelines.states import State
from tests.services.pipelines_project import Site, cells, running_site
from workbench.sections import EMBEDDED_SUPERUSER, WarehouseSettings
from workbench.security.audit import Action, AuditLog, read_events
from workbench.security.policies.reading import read_policies
from workbench.security.secrets import ensure_token
from workbench.warehouse.policies import applying, people, runs
from workbench.warehouse.policies.administration import Administration

POLICIES = """
version: 1
roles:
  analyst:
    tables:
      raw.people: {columns: [id, region], rows: region = user.region}
bindings: {analysts: [analyst]}
users: {gh-eve: {region: eu}, gh-bob: {region: us}}
"""
RUN_ROLES = "SELECT rolname FROM pg_roles WHERE starts_with(rolname, 'wb_u_~run-')"
#: Who sees both rows divides by zero.
ONE_ROW = "SELECT 1 / (count(*) - 2) FROM raw.people;\n"
SEEN = "from workbench.warehouse.engine import read_frame\nfrom workbench.settings import Settings\n"
SEEN += "print(list(read_frame(Settings.load().warehouse, 'SELECT region FROM raw.people', {})['region']))"


class Governed:
    """A site whose warehouse has policies, and its administrator."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.password = ensure_token(site.server.server.home / "keys" / "warehouse-superuser-password")
        path = site.file("policies.yaml", POLICIES)
        self.policies = read_policies(path)
        warehouse = WarehouseSettings.model_validate(site.settings())
        self.administration = Administration(warehouse, EMBEDDED_SUPERUSER, SecretStr(self.password))
        self.variables = {
            "WORKBENCH_POLICIES_OWN_ROLES": "true",
            "WORKBENCH_POLICIES_FILE": str(path),
            "WORKBENCH_POLICIES_ADMIN_USER": EMBEDDED_SUPERUSER,
            "WORKBENCH_POLICIES_ADMIN_PASSWORD": self.password,
            "WORKBENCH_PIPELINES_RUN_AS": "*=gh-eve,stranger=gh-nobody,both=gh-bob",
            "CANARY_OF_ANOTHER": "canary-of-another-pipeline",
        }

    def hand_out_to_run(self, name: str = "gh-eve", seconds: float = 60) -> people.Credentials:
        lifetime = timedelta(seconds=seconds)
        return runs.hand_out_to_run(self.administration, self.policies, name, attempt=7, lifetime=lifetime)

    def run_roles(self) -> list[str]:
        return [str(role) for (role,) in self.site.ask(RUN_ROLES)]

    def plan(self) -> list[str]:
        return [str(each) for each in applying.plan(self.administration, self.policies).changes]


@pytest.fixture(scope="module")
def governed(tmp_path_factory):
    with running_site(tmp_path_factory.mktemp("site")) as site:
        site.ask("CREATE SCHEMA raw; CREATE TABLE raw.people (id int, region text)")
        site.ask("INSERT INTO raw.people VALUES (1, 'eu'), (2, 'us')")
        governed = Governed(site)
        applying.apply(governed.administration, governed.policies)
        for name in ("gh-eve", "gh-bob"):
            people.hand_out(governed.administration, governed.policies, name, ["analysts"], hours=1)
        yield governed


@pytest.fixture(scope="module")
def site(governed: Governed):
    with governed.site.worker(**governed.variables):
        yield governed.site


def test_notebook_function_and_sql_see_what_the_person_sees(governed: Governed, site: Site):
    site.notebook("sees", "x = 1", SEEN)
    site.module("steps_seen", f"def seen() -> None:\n    {SEEN.replace(chr(10), chr(10) + '    ')}\n")
    site.file("sql/seen.sql", ONE_ROW)
    steps = {
        "notebook": {"notebook": "notebooks/sees.ipynb"},
        "function": {"function": "steps_seen:seen"},
        "sql": {"sql": "sql/seen.sql"},
    }
    site.pipeline("sees", run_as="gh-eve", steps=steps)
    site.pipeline("sees-all", steps={"sql": {"sql": "sql/seen.sql"}, "function": {"function": "steps_seen:seen"}})

    started = [site.start_run(name) for name in ("sees", "sees-all")]
    run, everything = map(site.ended, started)

    assert run.states == dict.fromkeys(steps, State.SUCCEEDED), run.page.attempts
    assert "['eu']" in cells(run.output("notebook"))
    assert "['eu']" in cells(run.output("function"))
    assert everything.states == {"sql": State.FAILED, "function": State.SUCCEEDED}
    assert "['eu', 'us']" in cells(everything.output("function"))
    assert governed.run_roles() == []
    assert governed.plan() == []
    given = list(read_events(AuditLog.of(site.home).path, action=Action.CREDENTIALS_GIVEN))
    taken = list(read_events(AuditLog.of(site.home).path, action=Action.CREDENTIALS_REMOVED))
    run_id = str(run.page.run["id"])
    assert {each.details["step"] for each in given if each.details.get("run") == run_id} == set(steps)
    assert {each.details["step"] for each in taken if each.details.get("run") == run_id} == set(steps)
    assert all(each.resource == "gh-eve" for each in given)


def test_two_runs_at_once_and_the_persons_own_password_leave_each_other_alone(governed: Governed):
    theirs = people.hand_out(governed.administration, governed.policies, "gh-eve", ["analysts"], hours=1)
    one, other = governed.hand_out_to_run(), governed.hand_out_to_run()

    for each in (theirs, one, other):
        assert _regions(governed, each) == ["eu"]
    assert governed.plan() == []
    for each in (one, other):
        people.drop(governed.administration, each.user)
    assert governed.run_roles() == []
    assert governed.plan() == []


def test_what_a_killed_worker_has_left_opens_nothing_and_is_dropped_by_the_next(governed: Governed):
    left = governed.hand_out_to_run(seconds=-1)

    with pytest.raises(Exception, match="authentication failed"):
        _regions(governed, left)

    found = governed.hand_out_to_run()
    assert governed.run_roles() == [found.user]
    people.drop(governed.administration, found.user)


def test_who_is_shown_out_takes_their_runs_along(governed: Governed):
    people.hand_out(governed.administration, governed.policies, "gh-gone", ["analysts"], hours=1)
    found = governed.hand_out_to_run("gh-gone")

    steps = people.remove(governed.administration, "gh-gone")

    assert f"warehouse role {found.user} removed" in steps
    assert governed.run_roles() == []
    with pytest.raises(Exception, match="nobody called gh-gone has a role"):
        governed.hand_out_to_run("gh-gone")


def test_a_run_as_somebody_without_rights_fails_and_says_so(governed: Governed, site: Site):
    site.file("sql/writes.sql", "DELETE FROM raw.people;\n")
    site.pipeline("writes", run_as="gh-eve", steps={"a": {"sql": "sql/writes.sql"}})
    site.pipeline("stranger", run_as="gh-nobody", steps={"a": {"sql": "sql/writes.sql"}})
    site.pipeline("steals", run_as="gh-bob", steps={"a": {"sql": "sql/writes.sql"}})

    started = {name: site.start_run(name) for name in ("writes", "stranger", "steals")}
    errors = {name: site.ended(run_id).attempts("a")[0] for name, run_id in started.items()}

    assert {each["state"] for each in errors.values()} == {State.FAILED}
    assert "permission denied for table people" in errors["writes"]["error"]
    assert "nobody called gh-nobody has a role in the warehouse" in errors["stranger"]["error"]
    assert "steals: run_as is gh-bob, as whom steals may not run" in errors["steals"]["error"]
    assert "WORKBENCH_PIPELINES_RUN_AS" in errors["steals"]["error"]
    assert site.ask("SELECT count(*) FROM raw.people") == [(2,)]


def test_code_of_a_run_has_none_of_the_workers_passwords_and_its_own_is_in_no_record(governed: Governed, site: Site):
    looks = "import os\nfrom pathlib import Path\n"
    looks += "known = Path('/proc/self/environ').read_text() + str(dict(os.environ))\n"
    looks += f"for name in ({governed.password!r}, {site.server.server.password!r}, 'canary-of-another'):\n"
    looks += "    print('found' if name in known else 'missing')\n"
    looks += "print('own', os.environ['DW_PASSWORD'])\nprint('reversed', os.environ['DW_PASSWORD'][::-1])\n"
    looks += "print('user', os.environ['DW_USER'])"
    site.notebook("looks", "x = 1", looks)
    site.module("steps_looks", f"def look() -> None:\n    {looks.replace(chr(10), chr(10) + '    ')}\n")
    site.pipeline(
        "looks",
        run_as="gh-eve",
        steps={"notebook": {"notebook": "notebooks/looks.ipynb"}, "function": {"function": "steps_looks:look"}},
    )

    run = site.run("looks")

    kept = site.everything(run.page.run["id"])
    for step in run.states:
        told = cells(run.output(step))
        assert (told.count("missing"), told.count("found")) == (3, 0), told
        assert "own [secret DW_PASSWORD]" in told
        assert "user wb_u_~run-" in told
        (backwards,) = re.findall(r"reversed (\S+)", told)
        assert len(backwards) > 30
        assert backwards[::-1] not in kept


def test_no_pipeline_has_the_password_of_who_makes_roles(governed: Governed, site: Site):
    looks = f"import os\nprint('found' if {governed.password!r} in str(dict(os.environ)) else 'missing')"
    site.module("steps_plain", f"def look() -> None:\n    {looks.replace(chr(10), chr(10) + '    ')}\n")
    site.pipeline("plain", steps={"a": {"function": "steps_plain:look"}})

    assert "missing" in cells(site.run("plain").output("a"))


def test_a_secret_of_a_run_as_somebody_is_no_setting_of_the_workbench(site: Site):
    site.module("steps_secret", "def use(key: 'secret') -> None:\n    print(len(key))\n")
    step = {"function": "steps_secret:use", "parameters": {"key": "${key}"}}
    key = {"type": "secret", "default": "env:WORKBENCH_POLICIES_ADMIN_PASSWORD"}
    site.pipeline("wants", run_as="gh-eve", parameters={"key": key}, steps={"a": step})

    (attempt,) = site.run("wants").attempts("a")

    assert attempt["state"] == State.FAILED
    assert "the secret env:WORKBENCH_POLICIES_ADMIN_PASSWORD is not there" in attempt["error"]


def test_a_step_that_may_be_reused_is_reused_by_nobody_else(site: Site):
    site.notebook("both", "x = 1", SEEN)
    steps = {"a": {"notebook": "notebooks/both.ipynb", "cache": True}}
    told = []
    for identity in ("gh-eve", "gh-bob"):
        site.pipeline("both", run_as=identity, steps=steps)
        told.append(cells(site.run("both").output("a")))

    assert "['eu']" in told[0]
    assert "['us']" in told[1]


def _regions(governed: Governed, found: people.Credentials) -> list[str]:
    from workbench.warehouse.engine import read_frame

    warehouse = found.warehouse(governed.administration.warehouse)
    return list(read_frame(warehouse, "SELECT region FROM raw.people", {})["region"])
