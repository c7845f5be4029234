"""The role that each person of the hub connects as: made when it is first needed, with a password for hours."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql
from pydantic import SecretStr

from workbench.errors import PoliciesRefused, WarehouseError
from workbench.sections import WarehouseSettings
from workbench.security.policies.compile.facts import dropping
from workbench.security.policies.compile.postgresql import SEARCH_PATH
from workbench.security.policies.compile.writing import SCHEMA
from workbench.security.policies.names import POLICY, RUN, USERS, policy_role, user_role
from workbench.security.policies.reading import Policies
from workbench.security.policies.resolving import find_clashes, resolve_loosely, roles_of
from workbench.warehouse.policies.administration import Administration
from workbench.warehouse.policies.catalog import read_names, read_people, read_tables

Connection = psycopg.Connection[Any]

PASSWORD_BYTES = 32
CONNECTIONS = 20  #: that a person may have open at once: nobody takes all that the server has
ATTRIBUTES = f"NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB NOREPLICATION INHERIT CONNECTION LIMIT {CONNECTIONS}"
GROUPS_OF = """
SELECT r.rolname FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
WHERE m.rolname = %s"""
TERMINATE = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = %s"


@dataclass(frozen=True)
class Credentials:
    """What opens connections as one person."""

    user: str
    password: SecretStr
    valid_until: datetime
    roles: tuple[str, ...]  #: of the file of policies

    def warehouse(self, shared: WarehouseSettings) -> WarehouseSettings:
        """How the person reaches the warehouse of *shared*."""
        update = {"user": self.user, "password": self.password}
        return WarehouseSettings.model_validate(
            {**shared.as_environment(), "DW_USER": update["user"], "DW_PASSWORD": update["password"]}
        )


def hand_out(
    administration: Administration, policies: Policies, name: str, groups: Sequence[str], *, hours: int
) -> Credentials:
    """Make the role of a person or bring it up to date, and give it a new password; the old one opens nothing more.

    Args:
        administration: of the warehouse.
        policies: which say what roles the groups have.
        name: of the person at the hub.
        groups: of the person at the hub.
        hours: how long the password opens connections; those that are open then stay.

    Raises:
        PoliciesRefused: when the roles of the groups do not go together.
        WarehouseError: when policies are not applied, or the server refuses.
    """
    made = new_credentials(user_role(name), roles_of(policies, tuple(groups)), timedelta(hours=hours))
    with administration.transaction() as connection:
        make_login(connection, policies, made)
        _tell_groups(connection, made.user, name, groups)
    return made


def new_credentials(user: str, roles: tuple[str, ...], lifetime: timedelta) -> Credentials:
    """Credentials with a new password, of which no server knows yet."""
    password = SecretStr(secrets.token_urlsafe(PASSWORD_BYTES))
    return Credentials(user, password, datetime.now(UTC) + lifetime, roles)


def make_login(connection: Connection, policies: Policies, wanted: Credentials) -> None:
    """Make a login role or bring it up to date, with just this password and these roles.

    Raises:
        PoliciesRefused: when the roles do not go together.
        WarehouseError: when policies are not applied.
    """
    _check_applied(connection, wanted.roles)
    # A table that is gone keeps nobody from the others.
    if clashes := list(find_clashes(resolve_loosely(policies, read_tables(connection)), wanted.roles)):
        raise PoliciesRefused(clashes)
    _make(connection, wanted.user, wanted.password.get_secret_value(), wanted.valid_until)
    _join(connection, wanted.user, [USERS, *map(policy_role, wanted.roles)])


def groups_of(administration: Administration, name: str) -> tuple[str, ...]:
    """The groups of a person when credentials were last handed out; none when that was never.

    Raises:
        WarehouseError: when the server refuses.
    """
    with administration.transaction() as connection:
        if connection.execute("SELECT to_regclass(%s)", [f"{SCHEMA}.attributes"]).fetchone() == (None,):
            return ()
        return read_people(connection).get(user_role(name), ())


def close(administration: Administration, name: str, valid_until: datetime) -> bool:
    """End a password before its time, and the connections of its role; nothing when another was handed out since.

    Args:
        administration: of the warehouse.
        name: of the person at the hub.
        valid_until: of the credentials, which tells them from later ones.

    Raises:
        WarehouseError: when the server refuses.
    """
    user = user_role(name)
    with administration.transaction(is_urgent=True) as connection:
        if not _exists(connection, user):
            return False
        # Changes nothing, and from here on nobody changes the role before us: we may not be alone, and would end
        # a password that is handed out between the look and the change.
        connection.execute(sql.SQL("ALTER ROLE {} INHERIT").format(sql.Identifier(user)))
        query = "SELECT 1 FROM pg_roles WHERE rolname = %s AND rolvaliduntil = %s"
        if connection.execute(query, [user, valid_until]).fetchone() is None:
            return False
        # By no clock: that of the server may be behind ours.
        connection.execute(sql.SQL("ALTER ROLE {} VALID UNTIL '-infinity'").format(sql.Identifier(user)))
    _end_connections(administration, user)
    return True


def remove(administration: Administration, name: str) -> list[str]:
    """Take a person's role away: end its connections, and drop it; returns the steps.

    Raises:
        WarehouseError: when the server refuses.
    """
    # Connections first: one of them may hold the lock that dropping waits for.
    count = sum(_shut(administration, role) or 0 for role in (user_role(name), *_runs_of(administration, name)))
    ended = {user: drop(administration, user) for user in [user_role(name)]}
    # Their runs afterwards: no other can begin meanwhile.
    ended |= {role: drop(administration, role) for role in _runs_of(administration, name)}
    steps = [f"warehouse role {role} removed" for role, count in ended.items() if count is not None]
    count += sum(filter(None, ended.values()))
    return [*steps, *([f"{count} connections to the warehouse ended"] if count else [])]


def drop(administration: Administration, user: str) -> int | None:
    """End the connections of a login role, and drop it; returns how many they were, None when there is no such role.

    Raises:
        WarehouseError: when the server refuses.
    """
    ended = _shut(administration, user)
    if ended is None:
        return None
    with administration.transaction() as connection:
        if not _exists(connection, user):
            return None
        drop_within(connection, user, administration.warehouse.user)
    return ended


def drop_within(connection: Connection, user: str, heir: str) -> None:
    """Do so in a transaction of the caller's; what the role owns becomes *heir*'s."""
    # Only members may end a role's connections.
    joining, *statements = dropping(user, heir)
    connection.execute(joining)
    connection.execute(TERMINATE, [user])
    for statement in statements:
        connection.execute(statement)
    # Attributes that the file gives to a person are there before the person, and after.
    query = f"DELETE FROM {SCHEMA}.attributes WHERE role = %s AND (%s OR attribute IN ('name', 'groups'))"
    connection.execute(query, [user, user.startswith(RUN)])


def _shut(administration: Administration, user: str) -> int | None:
    """Let nobody in as a role, and end its connections; returns how many they were, None when there is no such role."""
    with administration.transaction(is_urgent=True) as connection:
        if not _exists(connection, user):
            return None
        # Committed before connections are ended: nobody comes back in between.
        connection.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(user)))
    return _end_connections(administration, user)


def _end_connections(administration: Administration, user: str) -> int:
    with administration.transaction(is_urgent=True) as connection:
        # Only members may end a role's connections; not for longer than this takes.
        connection.execute(sql.SQL("GRANT {} TO CURRENT_USER WITH INHERIT TRUE").format(sql.Identifier(user)))
        ended = connection.execute(TERMINATE, [user]).fetchone()
        connection.rollback()
    return ended[0] if ended else 0


def _runs_of(administration: Administration, name: str) -> list[str]:
    """The roles of a person's runs."""
    with administration.transaction(is_urgent=True) as connection:
        is_applied = connection.execute("SELECT to_regclass(%s)", [f"{SCHEMA}.attributes"]).fetchone() != (None,)
        names = read_names(connection) if is_applied else {}
    return [role for role, whose in names.items() if whose == name and role != user_role(name)]


def _check_applied(connection: Connection, roles: Iterable[str]) -> None:
    wanted = {USERS, *map(policy_role, roles)}
    query = "SELECT rolname FROM pg_roles WHERE rolname = %s OR starts_with(rolname, %s)"
    there = {name for (name,) in connection.execute(query, [USERS, POLICY])}
    if missing := sorted(wanted - there):
        raise WarehouseError(
            f"the policies are not applied: the warehouse has no role {missing[0]}",
            remedy="Apply them with `workbench policy apply`.",
        )


def _exists(connection: Connection, user: str) -> bool:
    return connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [user]).fetchone() is not None


def _make(connection: Connection, user: str, password: str, valid_until: datetime) -> None:
    role = sql.Identifier(user)
    if not _exists(connection, user):
        connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(role))
    # The server is sent the SCRAM verifier, so that the password is in no log of its own.
    verifier = connection.pgconn.encrypt_password(password.encode(), user.encode(), b"scram-sha-256").decode()
    alter = sql.SQL("ALTER ROLE {} LOGIN {} PASSWORD {} VALID UNTIL {}")
    attributes = sql.SQL(ATTRIBUTES if connection.info.parameter_status("is_superuser") == "on" else "")
    connection.execute(alter.format(role, attributes, sql.Literal(verifier), sql.Literal(valid_until.isoformat())))
    connection.execute(sql.SQL("ALTER ROLE {} SET search_path = {}").format(role, sql.SQL(SEARCH_PATH)))


def _join(connection: Connection, user: str, wanted: Sequence[str]) -> None:
    """Be a member of just these groups."""
    held = {name for (name,) in connection.execute(GROUPS_OF, [user])}
    for group in sorted(held - set(wanted)):
        connection.execute(sql.SQL("REVOKE {} FROM {}").format(sql.Identifier(group), sql.Identifier(user)))
    for group in wanted:
        grant = sql.SQL("GRANT {} TO {} WITH INHERIT TRUE, SET FALSE, ADMIN FALSE")
        connection.execute(grant.format(sql.Identifier(group), sql.Identifier(user)))


def _tell_groups(connection: Connection, user: str, name: str, groups: Sequence[str]) -> None:
    connection.execute(f"DELETE FROM {SCHEMA}.attributes WHERE role = %s AND attribute IN ('name', 'groups')", [user])
    rows = [(user, "name", name), *((user, "groups", group) for group in dict.fromkeys(groups))]
    with connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {SCHEMA}.attributes (role, attribute, value) VALUES (%s, %s, %s)", rows)
