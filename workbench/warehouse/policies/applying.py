"""The difference between what policies ask for and what a PostgreSQL has, and its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from workbench.errors import WarehouseError
from workbench.security.policies.compile import facts
from workbench.security.policies.compile.facts import Fact, Kind
from workbench.security.policies.compile.postgresql import Surroundings, compile_policies, services_of
from workbench.security.policies.compile.writing import SCHEMA
from workbench.security.policies.grants import LiveTable, Resolved
from workbench.security.policies.reading import Policies
from workbench.security.policies.resolving import resolve
from workbench.warehouse.policies.administration import Administration
from workbench.warehouse.policies.catalog import read_facts, read_names, read_people, read_tables
from workbench.warehouse.policies.locks import lock_notes, read_lock_facts
from workbench.warehouse.policies.row_security import worded

Connection = psycopg.Connection[Any]

BATCH = 200
ROUNDS = 3  #: a view that is made anew lacks its privileges; the next round grants them
OWN_ROWS = "wb_own_rows"
LOOKUPS = f"""
CREATE SCHEMA IF NOT EXISTS {SCHEMA};
CREATE TABLE IF NOT EXISTS {SCHEMA}.attributes (
    role name NOT NULL, attribute text NOT NULL, value text NOT NULL, PRIMARY KEY (role, attribute, value));
CREATE TABLE IF NOT EXISTS {SCHEMA}.mask_key (one boolean PRIMARY KEY DEFAULT true CHECK (one), key text NOT NULL);
INSERT INTO {SCHEMA}.mask_key (key) VALUES (gen_random_uuid()::text || gen_random_uuid()::text) ON CONFLICT DO NOTHING"""
BYPASSING = "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s) AND (rolsuper OR rolbypassrls) ORDER BY 1"


@dataclass(frozen=True)
class Change:
    """One difference, and the statements that end it."""

    on: str  #: such as `privileges of wb_p_viewer on table raw.flights`
    found: str  #: empty when there is nothing
    wanted: str  #: empty when there should be nothing
    statements: tuple[str, ...]

    def __str__(self) -> str:
        if not self.found:
            return f"{self.on}: is missing: {self.wanted}"
        return f"{self.on}: {self.found}, but should {f'be {self.wanted}' if self.wanted else 'not be'}"


@dataclass(frozen=True)
class Applied:
    """What was found, and what was done or would be."""

    resolved: Resolved
    changes: tuple[Change, ...]
    warnings: tuple[str, ...]  #: what statements of ours cannot end
    notes: tuple[str, ...] = ()  #: what could hold where the administrator is a superuser


def plan(administration: Administration, policies: Policies) -> Applied:
    """Every difference; the warehouse stays as it is.

    Raises:
        PoliciesRefused: when policies do not fit the tables.
        WarehouseError: when the server cannot be reached or refuses.
    """
    with administration.transaction() as connection:
        resolved, found = _differences(connection, administration, policies)
        applied = Applied(resolved, _changes(found), *_told(connection, resolved, administration))
        connection.rollback()
    return applied


def resolved_policies(administration: Administration, policies: Policies) -> Resolved:
    """What each role shows of the tables that are there; reads the catalog alone, which everybody may.

    Raises:
        PoliciesRefused: when policies do not fit the tables.
        WarehouseError: when the server cannot be reached or refuses.
    """
    with administration.transaction() as connection:
        return resolve(policies, read_tables(connection))


def apply(administration: Administration, policies: Policies) -> Applied:
    """End every difference in one transaction, which is committed when none is left.

    Raises:
        PoliciesRefused: when policies do not fit the tables.
        WarehouseError: when the server cannot be reached or refuses; nothing was changed.
    """
    done: list[Change] = []
    with administration.transaction() as connection:
        for _ in range(ROUNDS):
            resolved, found = _differences(connection, administration, policies)
            if not any(found):
                return Applied(resolved, tuple(done), *_told(connection, resolved, administration))
            done += _changes(found)
            _execute(connection, _statements(*found))
        left = "\n".join(f"  {change}" for change in _changes(_differences(connection, administration, policies)[1]))
        if left:
            raise WarehouseError(
                f"the warehouse did not become what the policies ask for:\n{left}",
                remedy="Nothing was changed. Who granted what is left has to take it back; a superuser finds it in pg_class.relacl.",
            )
        return Applied(resolved, tuple(done), *_told(connection, resolved, administration))


def _differences(
    connection: Connection, administration: Administration, policies: Policies
) -> tuple[Resolved, tuple[set[Fact], set[Fact]]]:
    """What is missing and what is too much."""
    connection.execute(LOOKUPS)
    tables = read_tables(connection)
    resolved = resolve(policies, tables)
    service = administration.warehouse.user
    around = Surroundings(administration.warehouse.database, service, read_people(connection), read_names(connection))
    desired = compile_policies(resolved, around)
    wanted = {*desired.facts, *worded(connection, desired), *_lookup_facts()}
    governed = {**resolved.tables, **_lookup_tables(administration)}
    names = [view.name for view in desired.views]
    actual = read_facts(connection, governed, names, service)
    # Our own tables belong to whoever made them.
    actual = {each for each in actual if each.on != f"owner of {SCHEMA}.attributes"}
    missing, extra = read_lock_facts(connection, (*services_of(resolved, around), administration.store))
    return resolved, ((wanted - actual) | missing, (actual - wanted) | extra)


def _lookup_tables(administration: Administration) -> Mapping[str, LiveTable]:
    name = f"{SCHEMA}.attributes"
    return {name: LiveTable(name, administration.user, {})}


def _lookup_facts() -> Iterable[Fact]:
    name = f"{SCHEMA}.attributes"
    yield facts.row_security(name, name, enabled=True, forced=False)
    add = f"CREATE POLICY {OWN_ROWS} ON {name} FOR SELECT TO PUBLIC USING (role = session_user)"
    words = "permissive FOR SELECT TO PUBLIC"
    yield facts.row_policy(name, name, OWN_ROWS, words, "(role = SESSION_USER)", add=add)


def _changes(found: tuple[set[Fact], set[Fact]]) -> tuple[Change, ...]:
    """Differences by what they are about, in the order in which they are made."""
    missing, extra = found
    about: dict[tuple[Kind, str], tuple[set[Fact], set[Fact]]] = {}
    for each in _ordered(missing | extra):
        sides = about.setdefault((each.kind, each.on), (set(), set()))
        sides[0 if each in missing else 1].add(each)
    return tuple(
        Change(_named(kind, on), _words(there), _words(wanted), tuple(_statements(wanted, there)))
        for (kind, on), (wanted, there) in about.items()
    )


def _words(found: set[Fact]) -> str:
    return "; ".join(each.value for each in _ordered(found))


def _named(kind: Kind, on: str) -> str:
    return f"privileges on {on}" if kind is Kind.PRIVILEGES else on


def _statements(missing: set[Fact], extra: set[Fact]) -> list[str]:
    """What undoes what is too much, then what makes what is missing."""
    undone = [each.remove for each in reversed(_ordered(extra))]
    return [each for each in (*undone, *(each.add for each in _ordered(missing))) if each]


def _ordered(found: Iterable[Fact]) -> list[Fact]:
    return sorted(found, key=lambda each: (each.kind, each.on, each.value))


def _execute(connection: Connection, statements: Sequence[str]) -> None:
    for start in range(0, len(statements), BATCH):
        connection.execute("; ".join(statements[start : start + BATCH]))


def _told(
    connection: Connection, resolved: Resolved, administration: Administration
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Warnings and notes."""
    around = Surroundings(administration.warehouse.database, administration.warehouse.user)
    asked = connection.execute(BYPASSING, [list(services_of(resolved, around))]).fetchall()
    warnings = tuple(
        f"role {name}: bypasses row security (SUPERUSER or BYPASSRLS), and reads tables for services; use a role without"
        for (name,) in asked
    )
    return warnings, lock_notes(connection)
