"""Policies of tables, and how the server words the conditions that are asked for.

PostgreSQL keeps a condition as a tree and writes it anew when asked. So that both can be compared,
what is asked for is given to a temporary table with the same columns, and read back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg

from workbench.security.policies.compile import facts
from workbench.security.policies.compile.facts import Fact
from workbench.security.policies.compile.postgresql import (
    SERVICE_POLICY,
    VIEW_OPTIONS,
    Desired,
    MaskedView,
    RowPolicy,
    policy_words,
)
from workbench.security.policies.compile.writing import quoted
from workbench.security.policies.grants import LiveTable
from workbench.security.policies.names import is_ours

Connection = psycopg.Connection[Any]

COMMANDS = {"r": "SELECT", "a": "INSERT", "w": "UPDATE", "d": "DELETE", "*": "ALL"}
PROBE = "wb_probe"
SECURED = """
SELECT n.nspname || '.' || c.relname, c.relrowsecurity, c.relforcerowsecurity FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname || '.' || c.relname = ANY (%s) AND c.relkind IN ('r', 'p')"""
POLICIES = """
SELECT n.nspname, c.relname, p.polname, p.polpermissive, p.polcmd::text,
ARRAY(SELECT CASE r.oid WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(r.oid) END FROM unnest(p.polroles) AS r (oid)),
pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace"""
WORDED = f"""
SELECT polname, pg_get_expr(polqual, polrelid) FROM pg_policy WHERE polrelid = 'pg_temp.{PROBE}'::regclass"""


def policy_facts(connection: Connection, governed: Mapping[str, LiveTable]) -> Iterator[Fact]:
    """Row security of the tables that policies name, and every policy of theirs or for a role of ours."""
    for table, enabled, forced in connection.execute(SECURED, [list(governed)]):
        yield facts.row_security(table, quoted(*governed[table].parts), enabled=enabled, forced=forced)
    for schema, name, policy, permissive, command, roles, using, check in connection.execute(POLICIES):
        table = f"{schema}.{name}"
        # A table that left the file keeps the policy of services: without it, they could not read it.
        if table in governed or (policy != SERVICE_POLICY and any(map(is_ours, roles))):
            words = policy_words(COMMANDS[command], roles, is_permissive=permissive)
            condition = using if check is None else f"{using} WITH CHECK {check}"
            yield facts.row_policy(table, quoted(schema, name), policy, words, condition)


def worded(connection: Connection, desired: Desired) -> Iterator[Fact]:
    """The policies and views that are asked for, in the words of the server; leaves nothing behind."""
    by_table: dict[str, list[RowPolicy]] = defaultdict(list)
    for each in desired.row_policies:
        by_table[each.table.name].append(each)
    for policies in by_table.values():
        yield from _worded_policies(connection, policies)
    for view in desired.views:
        yield _worded_view(connection, view)


def _worded_policies(connection: Connection, policies: list[RowPolicy]) -> Iterator[Fact]:
    table = policies[0].table
    names = {using: f"p{number}" for number, using in enumerate(dict.fromkeys(each.using for each in policies))}
    statements = [
        f"CREATE TEMPORARY TABLE {PROBE} (LIKE {quoted(*table.parts)})",
        *(f"CREATE POLICY {name} ON pg_temp.{PROBE} USING ({using})" for using, name in names.items()),
    ]
    connection.execute("; ".join(statements))
    words = dict(connection.execute(WORDED).fetchall())
    connection.execute(f"DROP TABLE pg_temp.{PROBE}")
    for each in policies:
        condition = words[names[each.using]]
        yield facts.row_policy(table.name, quoted(*table.parts), each.name, each.words, condition, add=each.statement)


def _worded_view(connection: Connection, view: MaskedView) -> Fact:
    connection.execute(f"CREATE TEMPORARY VIEW {PROBE} AS {view.select}")
    found = connection.execute(f"SELECT pg_get_viewdef('pg_temp.{PROBE}'::regclass)").fetchone()
    connection.execute(f"DROP VIEW pg_temp.{PROBE}")
    assert found is not None
    return facts.view(view.name, view.sql, view.owner, VIEW_OPTIONS, found[0], add=view.statement)
