"""Policies as roles, grants, row security and views of PostgreSQL 16 or later.

A role of the file is a group role that cannot log in. Columns in clear are granted on the table
itself, whose rows are those of policies: whoever has none sees no row. Masked columns are in a view that
runs with the owner's rights, is a security barrier, and has the conditions of every role in it
(postgresql.org, "Row Security Policies", "Rules and Privileges").

Row security is not forced on the owner. The owner reads and writes all rows in any case, since flows
load as the owner; forced, it would need a policy that is always true, which protects from nothing, and
could not load at all: PostgreSQL has no COPY FROM under row security (src/backend/commands/copy.c).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from workbench.security.policies.compile import facts
from workbench.security.policies.compile.facts import Fact
from workbench.security.policies.compile.masking import masked_columns
from workbench.security.policies.compile.writing import SCHEMA, PostgresqlWriter, quoted, text
from workbench.security.policies.grants import Grant, LiveTable, Resolved
from workbench.security.policies.names import USERS, masked_view, policy_role, user_role
from workbench.security.policies.resolving import find_clashes, roles_of

SERVICE_POLICY = "wb_service"
VIEW_OPTIONS = "security_barrier=true, security_invoker=false"
VIEW_COMMENT = "view of the policies"
#: Names in a user's statements have their schema; what the user could put before the catalog is not looked at.
SEARCH_PATH = "pg_catalog"


@dataclass(frozen=True)
class Surroundings:
    """Where policies are applied."""

    database: str
    service: str  #: DW_USER: reads and writes all rows
    people: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  #: groups by login role
    names: Mapping[str, str] = field(default_factory=dict)  #: of the hub, by login role; a run has its person's


@dataclass(frozen=True)
class RowPolicy:
    """A policy of a table before the server has read it."""

    table: LiveTable
    name: str
    command: str  #: SELECT or ALL
    roles: tuple[str, ...]
    using: str
    is_permissive: bool = True

    @property
    def words(self) -> str:
        """As `policy_words` has them."""
        return policy_words(self.command, self.roles, is_permissive=self.is_permissive)

    @property
    def statement(self) -> str:
        """That makes it."""
        who = ", ".join(map(quoted, self.roles))
        kind = f"AS {'PERMISSIVE' if self.is_permissive else 'RESTRICTIVE'} FOR {self.command}"
        return f"CREATE POLICY {quoted(self.name)} ON {quoted(*self.table.parts)} {kind} TO {who} USING ({self.using})"


@dataclass(frozen=True)
class MaskedView:
    """The view of a table before the server has read it."""

    name: str  #: schema.view
    table: LiveTable
    owner: str
    select: str

    @property
    def sql(self) -> str:
        """The name, quoted."""
        return quoted(*self.name.split(".", 1))

    @property
    def statement(self) -> str:
        """That makes it."""
        return (
            f"CREATE VIEW {self.sql} WITH ({VIEW_OPTIONS}) AS {self.select}; "
            f"ALTER VIEW {self.sql} OWNER TO {quoted(self.owner)}; COMMENT ON VIEW {self.sql} IS {text(VIEW_COMMENT)}"
        )


@dataclass(frozen=True)
class Desired:
    """All that should be so; conditions and views are compared in the words of the server."""

    facts: tuple[Fact, ...]
    row_policies: tuple[RowPolicy, ...]
    views: tuple[MaskedView, ...]


def compile_policies(resolved: Resolved, around: Surroundings) -> Desired:
    """What PostgreSQL should have for *resolved*."""
    views = tuple(
        _view(resolved, table, around) for table in resolved.tables.values() if resolved.has_masks(table.name)
    )
    found = [
        *_roles(resolved, around),
        *_users(resolved, around),
        *(fact for table in resolved.tables.values() for fact in _table(resolved, table, around)),
        *_schemas(resolved, views),
        *(fact for view in views for fact in _view_grants(resolved, view)),
        *_lookups(resolved, around),
    ]
    policies = tuple(each for table in resolved.tables.values() for each in _row_policies(resolved, table, around))
    return Desired(tuple(dict.fromkeys(found)), policies, views)


def policy_words(command: str, roles: Iterable[str], *, is_permissive: bool) -> str:
    """What a policy is, beside its condition."""
    return f"{'permissive' if is_permissive else 'restrictive'} FOR {command} TO {', '.join(sorted(roles))}"


def services_of(resolved: Resolved, around: Surroundings) -> tuple[str, ...]:
    """Roles that read and write all rows."""
    return tuple(dict.fromkeys((around.service, *resolved.policies.file.services)))


def owner_of(resolved: Resolved, table: LiveTable, around: Surroundings) -> str:
    """Who should own a table: its owner when that is a service, else DW_USER."""
    return table.owner if table.owner in services_of(resolved, around) else around.service


def _roles(resolved: Resolved, around: Surroundings) -> Iterator[Fact]:
    for name in (USERS, *(policy_role(each) for each in resolved.policies.file.roles)):
        yield facts.role(name, around.service)
        yield facts.role_attributes(name, ())
    database = f"DATABASE {quoted(around.database)}"
    yield facts.privileges(f"database {around.database}", database, USERS, {"CONNECT": ()})


def _users(resolved: Resolved, around: Surroundings) -> Iterator[Fact]:
    for name, groups in around.people.items():
        yield facts.role(name, around.service)
        yield facts.role_attributes(name, ("LOGIN",))
        yield facts.role_setting(name, "search_path", SEARCH_PATH)
        roles = roles_of(resolved.policies, groups)
        if any(find_clashes(resolved, roles)):
            # Nobody should be in such groups; whoever is sees nothing rather than too much.
            roles = ()
        for group in (USERS, *map(policy_role, roles)):
            yield facts.membership(group, name)
    for user, attributes in resolved.policies.file.users.items():
        logins = dict.fromkeys((user_role(user), *(role for role, name in around.names.items() if name == user)))
        for attribute, values in attributes.items():
            for value in dict.fromkeys(values):
                yield from (facts.user_attribute(role, attribute, value) for role in logins)


def _table(resolved: Resolved, table: LiveTable, around: Surroundings) -> Iterator[Fact]:
    sql, on = quoted(*table.parts), f"table {table.name}"
    yield facts.table_owner(table.name, sql, owner_of(resolved, table, around))
    yield facts.row_security(table.name, sql, enabled=True, forced=False)
    for grant in resolved.of_table(table.name):
        if grant.clear:
            yield facts.privileges(on, f"TABLE {sql}", policy_role(grant.role), {"SELECT": sorted(grant.clear)})


def _schemas(resolved: Resolved, views: Sequence[MaskedView]) -> Iterator[Fact]:
    holders: dict[str, dict[str, None]] = {}
    for grant in resolved.grants:
        if grant.clear:
            holders.setdefault(grant.table.partition(".")[0], {})[policy_role(grant.role)] = None
    for view in views:
        schema = view.name.partition(".")[0]
        yield facts.schema(schema, view.owner)
        for grant in _showing(resolved.of_table(view.table.name)):
            holders.setdefault(schema, {})[policy_role(grant.role)] = None
    for schema, roles in holders.items():
        for role in roles:
            yield facts.privileges(f"schema {schema}", f"SCHEMA {quoted(schema)}", role, {"USAGE": ()})


def _lookups(resolved: Resolved, around: Surroundings) -> Iterator[Fact]:
    readers = (USERS, *services_of(resolved, around))
    for role in readers:
        yield facts.privileges(f"schema {SCHEMA}", f"SCHEMA {SCHEMA}", role, {"USAGE": ()})
        yield facts.privileges(f"table {SCHEMA}.attributes", f"TABLE {SCHEMA}.attributes", role, {"SELECT": ()})
    for role in services_of(resolved, around):
        yield facts.privileges(f"table {SCHEMA}.mask_key", f"TABLE {SCHEMA}.mask_key", role, {"SELECT": ()})


def _row_policies(resolved: Resolved, table: LiveTable, around: Surroundings) -> Iterator[RowPolicy]:
    others = set(services_of(resolved, around)) - {owner_of(resolved, table, around)}
    if others:
        yield RowPolicy(table, SERVICE_POLICY, "ALL", tuple(sorted(others)), "TRUE")
    writer = PostgresqlWriter(table.columns)
    for grant in resolved.of_table(table.name):
        who = (policy_role(grant.role),)
        if grant.clear:
            using = writer.condition(grant.rows)
            yield RowPolicy(table, who[0], "SELECT", who, using)
        for number, denied in enumerate(grant.denied_rows):
            using = f"(NOT {writer.condition(denied)})"
            # No name of a role has the sign in it: there may be one called viewer_deny.
            name = f"{who[0]}~deny{number or ''}"
            yield RowPolicy(table, name, "SELECT", who, using, is_permissive=False)


def _view(resolved: Resolved, table: LiveTable, around: Surroundings) -> MaskedView:
    grants = resolved.of_table(table.name)
    writer = PostgresqlWriter(table.columns)
    shown = " OR ".join(f"({holds([each.role])} AND {writer.condition(each.rows)})" for each in _showing(grants))
    denied = [
        f"(NOT ({holds([each.role])} AND {writer.condition(denied)}))" for each in grants for denied in each.denied_rows
    ]
    where = " AND ".join([f"({shown})", *denied])
    columns = ", ".join(masked_columns(_showing(grants), table, holds))
    select = f"SELECT {columns} FROM {quoted(*table.parts)} WHERE {where}"
    return MaskedView(masked_view(table.name), table, owner_of(resolved, table, around), select)


def _view_grants(resolved: Resolved, view: MaskedView) -> Iterator[Fact]:
    for grant in _showing(resolved.of_table(view.table.name)):
        yield facts.privileges(f"view {view.name}", f"TABLE {view.sql}", policy_role(grant.role), {"SELECT": ()})


def _showing(grants: Iterable[Grant]) -> list[Grant]:
    return [each for each in grants if each.levels]


def holds(roles: Iterable[str]) -> str:
    """Whether the reader holds one of these roles; asked once in a query. In a view, the current user is who reads it."""
    asked = (f"(SELECT pg_has_role(current_user, {text(policy_role(each))}, 'USAGE'))" for each in roles)
    return "(" + " OR ".join(asked) + ")"
