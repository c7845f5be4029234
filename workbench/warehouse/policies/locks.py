"""Who may take advisory locks: services, which wait for each other by them, and nobody else, who could make all of them wait."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg

from workbench.security.policies.compile import facts
from workbench.security.policies.compile.facts import Fact

#: What gives a lock back stays open to everybody: it gives back one's own.
FUNCTIONS = """
SELECT p.oid::regprocedure::text, EXISTS (
    SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x WHERE x.grantee = 0),
ARRAY(SELECT pg_get_userbyid(x.grantee)::text FROM aclexplode(p.proacl) x WHERE x.grantee <> 0)
FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname ~ '^pg_(try_)?advisory_(xact_)?lock'
ORDER BY 1"""
NEEDING = "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s) AND NOT rolsuper ORDER BY 1"
OPEN = (
    "whoever connects may take advisory locks (pg_advisory_lock and others), and so keep flows and the administration "
    "of roles waiting: only a superuser can take that from PUBLIC"
)


def read_lock_facts(connection: psycopg.Connection[Any], services: Iterable[str]) -> tuple[set[Fact], set[Fact]]:
    """What is missing and what is too much; nothing of both for an administrator who could not change it.

    Args:
        connection: of an administrator.
        services: roles that take locks, as far as they are there.
    """
    if connection.info.parameter_status("is_superuser") != "on":
        return set(), set()
    needing = [name for (name,) in connection.execute(NEEDING, [list(services)])]
    missing, extra = set(), set()
    for signature, is_open, holders in connection.execute(FUNCTIONS):
        if is_open:
            extra.add(facts.open_lock(signature))
        missing |= {facts.lock_of_service(signature, each) for each in needing if each not in holders}
    return missing, extra


def lock_notes(connection: psycopg.Connection[Any]) -> tuple[str, ...]:
    """What is told of locks that everybody may take."""
    return (OPEN,) if any(is_open for _, is_open, _ in connection.execute(FUNCTIONS)) else ()
