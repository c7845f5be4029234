"""Policies as statements of Amazon Redshift: roles, column grants, row-level security and masking policies.

Written for an administrator to read and run; no test has run them on Redshift. Differences from
PostgreSQL: columns that are masked stay on the table itself, since Redshift masks there; somebody who
holds a role with a mask and one without gets the mask; row security holds for the owner too, and
services ignore it (docs.aws.amazon.com, "CREATE RLS POLICY", "ATTACH RLS POLICY", "GRANT",
"CREATE MASKING POLICY", "ATTACH MASKING POLICY", "USER_IS_MEMBER_OF").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from workbench.errors import PoliciesRefused
from workbench.security.policies.compile.masking import HIDDEN
from workbench.security.policies.compile.postgresql import Surroundings, services_of
from workbench.security.policies.compile.writing import SCHEMA, RedshiftWriter, quoted, text
from workbench.security.policies.fitting import kind_of
from workbench.security.policies.grants import CLEAR, Grant, Level, LiveTable, Resolved, rank
from workbench.security.policies.model import Constant, Partial
from workbench.security.policies.names import USERS, policy_role, user_role
from workbench.security.policies.predicates import And, Not, Predicate

SERVICE = "wb_service"
CASE = "SET enable_case_sensitive_identifier TO true"


def compile_redshift(resolved: Resolved, around: Surroundings) -> tuple[str, ...]:
    """The statements for a cluster that has none of them yet, in their order.

    Raises:
        PoliciesRefused: when a column has a mask that Redshift cannot have.
    """
    return (
        CASE,
        *_roles(resolved, around),
        *_lookups(resolved),
        *(statement for table in resolved.tables.values() for statement in _table(resolved, table)),
    )


def _roles(resolved: Resolved, around: Surroundings) -> Iterator[str]:
    for role in (USERS, SERVICE, *(policy_role(each) for each in resolved.policies.file.roles)):
        yield f"CREATE ROLE {quoted(role)}"
    yield f"GRANT IGNORE RLS TO ROLE {quoted(SERVICE)}"
    for service in services_of(resolved, around):
        yield f"GRANT ROLE {quoted(SERVICE)} TO {quoted(service)}"


def _lookups(resolved: Resolved) -> Iterator[str]:
    yield f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"
    columns = "role VARCHAR(128) NOT NULL, attribute VARCHAR(63) NOT NULL, value VARCHAR(1000) NOT NULL"
    yield f"CREATE TABLE IF NOT EXISTS {SCHEMA}.attributes ({columns})"
    yield f"DELETE FROM {SCHEMA}.attributes WHERE attribute NOT IN ('name', 'groups')"
    for user, attributes in resolved.policies.file.users.items():
        for attribute, values in attributes.items():
            for value in dict.fromkeys(values):
                row = ", ".join(map(text, (user_role(user), attribute, value)))
                yield f"INSERT INTO {SCHEMA}.attributes (role, attribute, value) VALUES ({row})"


def _table(resolved: Resolved, table: LiveTable) -> Iterator[str]:
    sql = quoted(*table.parts)
    grants = [each for each in resolved.of_table(table.name) if each.levels]
    yield f"REVOKE ALL ON TABLE {sql} FROM PUBLIC"
    for grant in grants:
        role = f"ROLE {quoted(policy_role(grant.role))}"
        yield f"GRANT USAGE ON SCHEMA {quoted(table.parts[0])} TO {role}"
        yield f"GRANT SELECT ({', '.join(map(quoted, grant.levels))}) ON TABLE {sql} TO {role}"
    yield from _masks(resolved, table, grants)
    for grant in grants:
        yield from _row_policy(resolved, table, grant)
    yield f"ALTER TABLE {sql} ROW LEVEL SECURITY ON CONJUNCTION TYPE OR"


def _row_policy(resolved: Resolved, table: LiveTable, grant: Grant) -> Iterator[str]:
    """Policies of several roles are joined by OR, so that each has the denials of all in it."""
    writer = RedshiftWriter(table.columns)
    denials = (
        _denial(writer, other, denied, is_own=other.role == grant.role)
        for other in resolved.of_table(table.name)
        for denied in other.denied_rows
    )
    parts = [writer.condition(grant.rows), *denials]
    name = _policy(table, grant.role)
    columns = ", ".join(f"{quoted(column)} {kind}" for column, kind in table.columns.items())
    yield f"CREATE RLS POLICY {name} WITH ({columns}) USING ({' AND '.join(parts)})"
    if "attributes AS a" in " ".join(parts):
        yield f"GRANT SELECT ON {SCHEMA}.attributes TO RLS POLICY {name}"
    yield f"ATTACH RLS POLICY {name} ON {quoted(*table.parts)} TO ROLE {quoted(policy_role(grant.role))}"


def _denial(writer: RedshiftWriter, other: Grant, denied: Predicate, *, is_own: bool) -> str:
    if is_own:
        return writer.condition(Not(And((denied,))))
    return f"(NOT (USER_IS_MEMBER_OF(current_user, {text(policy_role(other.role))}) AND {writer.condition(denied)}))"


def _policy(table: LiveTable, *names: str) -> str:
    return quoted("$".join(("wb", *table.parts, *names)))


def _masks(resolved: Resolved, table: LiveTable, grants: Sequence[Grant]) -> Iterator[str]:
    for column, kind in table.columns.items():
        levels = {each.levels[column] for each in grants if column in each.levels} - {CLEAR}
        # What shows least has the highest priority.
        for priority, level in enumerate(sorted(levels, key=rank, reverse=True), start=1):
            name, on = _policy(table, column, str(priority)), f"{quoted(*table.parts)} ({quoted(column)})"
            holders = [grant.role for grant in grants if grant.levels.get(column) == level]
            if refused := _refused(level, table, column):
                place = ("roles", holders[0], "tables", table.name)
                raise PoliciesRefused([resolved.policies.problem(place, refused)])
            yield f"CREATE MASKING POLICY {name} WITH ({quoted(column)} {kind}) USING ({_masked(level, kind, column)})"
            for role in holders:
                to = f"ROLE {quoted(policy_role(role))}"
                yield f"ATTACH MASKING POLICY {name} ON {on} TO {to} PRIORITY {priority * 10}"


def _refused(level: Level, table: LiveTable, column: str) -> str:
    """Why Redshift cannot have the mask; empty when it can."""
    kind = table.columns[column]
    if level == "hash":
        lacks = "Redshift has no place for a key that readers of the mask cannot read"
        return f"{table.name}.{column} is to be hashed, and {lacks}; write null, partial or constant as its mask."
    if level != "null" and kind_of(kind) != "text":
        return f"{table.name}.{column} is {kind}, and a mask of Redshift keeps the type; write null as its mask."
    return ""


def _masked(level: Level, kind: str, column: str) -> str:
    value = quoted(column)
    match level:
        case Constant(constant=shown):
            return f"{text(shown)}::{kind}"
        case Partial(partial=kept):
            long = f"WHEN LEN({value}) > {kept} THEN {text(HIDDEN)} || RIGHT({value}, {kept})"
            return f"(CASE {long} WHEN {value} IS NOT NULL THEN {text(HIDDEN)} END)::{kind}"
        case _:
            return f"NULL::{kind}"
