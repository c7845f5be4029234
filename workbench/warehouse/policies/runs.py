"""The role of one attempt of a step that runs as somebody: made when it starts, dropped when it has ended.

A role of PostgreSQL has one password. With the person's own role, a run would end the password of the person's
JupyterLab, and two runs at once each other's.
"""

from __future__ import annotations

import logging
import secrets
from datetime import timedelta

import psycopg

from workbench.errors import WarehouseError
from workbench.security.policies.compile.writing import SCHEMA
from workbench.security.policies.names import RUN, run_role, user_role
from workbench.security.policies.reading import Policies
from workbench.security.policies.resolving import roles_of
from workbench.warehouse.policies.administration import Administration
from workbench.warehouse.policies.catalog import read_people
from workbench.warehouse.policies.people import Connection, Credentials, drop_within, make_login, new_credentials

logger = logging.getLogger(__name__)

TOKEN_BYTES = 4
ATTRIBUTES = f"INSERT INTO {SCHEMA}.attributes SELECT %s, attribute, value FROM {SCHEMA}.attributes WHERE role = %s"
#: Of processes that were killed. What has a connection is at work, however long ago it got its password.
LEFT = """
SELECT rolname FROM pg_roles r WHERE starts_with(rolname, %s) AND rolvaliduntil < now()
AND NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE usename = r.rolname)"""


def hand_out_to_run(
    administration: Administration, policies: Policies, name: str, *, attempt: int, lifetime: timedelta
) -> Credentials:
    """Make a role that sees what somebody sees, with a password of its own; drops those that others have left.

    Args:
        administration: of the warehouse.
        policies: which say what roles the groups have.
        name: of the person at the hub, or of whom `workbench policy credentials` has made. Their groups are those of
            the last credentials.
        attempt: number that the role's name has.
        lifetime: how long the password opens connections; those that are open then stay.

    Raises:
        PoliciesRefused: when the roles of the groups do not go together.
        WarehouseError: when nobody of that name has a role, policies are not applied, or the server refuses.
    """
    person = user_role(name)
    with administration.transaction() as connection:
        groups = _groups(connection, person, name)
        _drop_what_is_left(connection, administration.warehouse.user)
        user = run_role(attempt, secrets.token_hex(TOKEN_BYTES))
        made = new_credentials(user, roles_of(policies, groups), lifetime)
        make_login(connection, policies, made)
        connection.execute(ATTRIBUTES, [user, person])
    return made


def _groups(connection: Connection, person: str, name: str) -> tuple[str, ...]:
    remedy = (
        f"{name} starts JupyterLab once, or an administrator types `workbench policy credentials {name} --group GROUP`."
    )
    if connection.execute("SELECT to_regclass(%s)", [f"{SCHEMA}.attributes"]).fetchone() == (None,):
        raise WarehouseError("the policies are not applied", remedy="Apply them with `workbench policy apply`.")
    there = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s AND rolcanlogin", [person]).fetchone()
    groups = read_people(connection).get(person)
    if there is None or groups is None:
        raise WarehouseError(f"nobody called {name} has a role in the warehouse", remedy=remedy)
    return groups


def _drop_what_is_left(connection: Connection, heir: str) -> None:
    for (role,) in connection.execute(LEFT, [RUN]).fetchall():
        try:
            with connection.transaction():
                drop_within(connection, role, heir)
        except psycopg.Error as error:
            # It opens nothing any more; it must not keep others from theirs.
            logger.warning("the role %s of a run that has ended stays: %s", role, error)
