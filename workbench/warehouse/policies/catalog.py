"""What a PostgreSQL has of what policies are about, read back from its catalogs.

Only roles of ours and PUBLIC are looked at, in every schema; of other roles only what they own among
the tables that policies name, what they may do with our own tables, and whether they are members of ours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import psycopg

from workbench.security.policies.compile import facts
from workbench.security.policies.compile.facts import Fact
from workbench.security.policies.compile.postgresql import VIEW_COMMENT
from workbench.security.policies.compile.writing import SCHEMA, quoted
from workbench.security.policies.grants import LiveTable
from workbench.security.policies.model import GIVEN_BY_HUB
from workbench.security.policies.names import POLICY, USER, USERS
from workbench.warehouse.policies.row_security import policy_facts

Connection = psycopg.Connection[Any]

#: Roles of ours, as a condition on a column of names; _ is any character in LIKE.
OURS = f"({{0}} = '{USERS}' OR starts_with({{0}}, '{POLICY}') OR starts_with({{0}}, '{USER}'))"
SYSTEM = "({0} LIKE 'pg\\_%' OR {0} = 'information_schema')"
WORDS = {"v": "view", "m": "view", "S": "sequence"}
TABLES = f"""
SELECT n.nspname, c.relname, pg_get_userbyid(c.relowner), a.attname, format_type(a.atttypid, a.atttypmod),
(WITH RECURSIVE base AS (
  SELECT t.oid, t.typtype, t.typbasetype FROM pg_type t WHERE t.oid = a.atttypid
  UNION ALL SELECT t.oid, t.typtype, t.typbasetype FROM pg_type t JOIN base ON t.oid = base.typbasetype
) SELECT CASE typtype WHEN 'e' THEN 'text' ELSE format_type(oid, NULL) END FROM base WHERE typtype <> 'd')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p') AND NOT {SYSTEM.format("n.nspname")} AND n.nspname <> '{SCHEMA}'
ORDER BY 1, 2, a.attnum"""
GRANTEE = "CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee) END"
# What owners may do with what is theirs is no grant: taken away, the next owner would lack it too.
CONCERNED = (
    f"({OURS.format('g.name')} OR (g.name = 'PUBLIC' AND NOT {SYSTEM.format('n.nspname')}) "
    f"OR (n.nspname = '{SCHEMA}' AND x.grantee <> n.nspowner))"
)
RELATIONS = f"""
SELECT n.nspname, c.relname, c.relkind, g.name, x.privilege_type, NULL FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) x, LATERAL (SELECT {GRANTEE} AS name) g
WHERE x.grantee <> c.relowner AND {CONCERNED}
UNION ALL
SELECT n.nspname, c.relname, c.relkind, g.name, x.privilege_type, a.attname FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace,
aclexplode(a.attacl) x, LATERAL (SELECT {GRANTEE} AS name) g WHERE NOT a.attisdropped AND x.grantee <> c.relowner AND {CONCERNED}"""
SCHEMAS = f"""
SELECT n.nspname, g.name, x.privilege_type FROM pg_namespace n,
aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) x, LATERAL (SELECT {GRANTEE} AS name) g
WHERE x.grantee <> n.nspowner AND {CONCERNED}"""
DATABASE = f"""
SELECT d.datname, g.name, x.privilege_type FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) x,
LATERAL (SELECT {GRANTEE} AS name) g WHERE d.datname = current_database() AND x.grantee <> d.datdba AND (g.name = 'PUBLIC' OR {OURS.format("g.name")})"""
FUNCTIONS = f"""
SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace,
aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x
WHERE p.prosecdef AND x.grantee = 0 AND NOT {SYSTEM.format("n.nspname")}"""
# What initdb has given to PUBLIC is in pg_init_privs.
OPENED = """
SELECT 'TABLE', c.oid::regclass::text, x.privilege_type FROM pg_class c, aclexplode(c.relacl) x
WHERE c.relnamespace = 'pg_catalog'::regnamespace AND x.grantee = 0 AND NOT EXISTS (
    SELECT FROM pg_init_privs i, aclexplode(i.initprivs) y WHERE i.objoid = c.oid AND i.classoid = 'pg_class'::regclass
    AND i.objsubid = 0 AND y.grantee = 0 AND y.privilege_type = x.privilege_type)
UNION ALL
SELECT 'ROUTINE', p.oid::regprocedure::text, x.privilege_type FROM pg_proc p, aclexplode(p.proacl) x
WHERE p.pronamespace = 'pg_catalog'::regnamespace AND x.grantee = 0 AND EXISTS (
    SELECT FROM pg_init_privs i WHERE i.objoid = p.oid AND i.classoid = 'pg_proc'::regclass
    AND NOT EXISTS (SELECT FROM aclexplode(i.initprivs) y WHERE y.grantee = 0))"""
OTHERS = f"""
SELECT i.type, i.identity, r.rolname FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid,
LATERAL pg_identify_object(s.classid, s.objid, s.objsubid) i
WHERE s.refclassid = 'pg_authid'::regclass AND s.deptype = 'a' AND {OURS.format("r.rolname")}
AND s.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) AND i.type = ANY (%s)"""
DEFAULTS = f"""
SELECT pg_get_userbyid(d.defaclrole), coalesce(n.nspname, ''),
CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' ELSE 'SCHEMAS' END, g.name
FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace, aclexplode(d.defaclacl) x,
LATERAL (SELECT {GRANTEE} AS name) g WHERE d.defaclobjtype IN ('r', 'S', 'n') AND (g.name = 'PUBLIC' OR {OURS.format("g.name")})"""
ROLES = f"""
SELECT rolname, array_remove(ARRAY[CASE WHEN rolcanlogin THEN 'LOGIN' END, CASE WHEN rolsuper THEN 'SUPERUSER' END,
CASE WHEN rolbypassrls THEN 'BYPASSRLS' END, CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
CASE WHEN rolcreatedb THEN 'CREATEDB' END, CASE WHEN rolreplication THEN 'REPLICATION' END], NULL)
FROM pg_roles WHERE {OURS.format("rolname")}"""
ENDLESS = f"""
SELECT rolname FROM pg_roles WHERE starts_with(rolname, '{USER}') AND coalesce(rolvaliduntil, 'infinity') = 'infinity'"""
MEMBERS = f"""
SELECT r.rolname, m.rolname, b.rolname, array_to_string(array_remove(ARRAY[CASE WHEN a.inherit_option THEN 'INHERIT' END,
CASE WHEN a.set_option THEN 'SET' END, CASE WHEN a.admin_option THEN 'ADMIN' END], NULL), ', ')
FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member JOIN pg_roles b ON b.oid = a.grantor
WHERE {OURS.format("m.rolname")} OR ({OURS.format("r.rolname")} AND m.rolname <> current_user)"""
SETTINGS = f"""
SELECT r.rolname, split_part(c, '=', 1), substr(c, strpos(c, '=') + 1), coalesce(d.datname, '') FROM pg_db_role_setting s
JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) c
WHERE {OURS.format("r.rolname")}"""
OWNED = f"""
SELECT r.rolname, CASE s.dbid WHEN 0 THEN 'something shared' ELSE pg_describe_object(s.classid, s.objid, s.objsubid) END
FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid
WHERE s.refclassid = 'pg_authid'::regclass AND s.deptype = 'o' AND {OURS.format("r.rolname")}
AND s.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))"""
VIEWS = f"""
SELECT n.nspname, c.relname, pg_get_userbyid(c.relowner), coalesce(array_to_string(c.reloptions, ', '), ''), pg_get_viewdef(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'v' AND (obj_description(c.oid, 'pg_class') = '{VIEW_COMMENT}' OR n.nspname || '.' || c.relname = ANY (%s))"""


def read_tables(connection: Connection) -> Mapping[str, LiveTable]:
    """Every table of the warehouse, by `schema.table`."""
    columns: dict[tuple[str, str, str], dict[str, str]] = defaultdict(dict)
    written_as: dict[tuple[str, str, str], dict[str, str]] = defaultdict(dict)
    for schema, table, owner, column, kind, base in connection.execute(TABLES):
        columns[schema, table, owner][column] = kind
        written_as[schema, table, owner][column] = base
    return {
        f"{schema}.{table}": LiveTable(f"{schema}.{table}", owner, found, written_as[schema, table, owner])
        for (schema, table, owner), found in columns.items()
        if "." not in schema
    }


def read_people(connection: Connection) -> Mapping[str, tuple[str, ...]]:
    """Groups of the hub by login role, as they were when credentials were last handed out."""
    found: dict[str, list[str]] = {}
    query = (
        f"SELECT role, attribute, value FROM {SCHEMA}.attributes WHERE attribute IN ('name', 'groups') ORDER BY 1, 3"
    )
    for role, attribute, value in connection.execute(query):
        groups = found.setdefault(role, [])
        if attribute == "groups":
            groups.append(value)
    return {role: tuple(groups) for role, groups in found.items()}


def read_names(connection: Connection) -> Mapping[str, str]:
    """Names of the hub by login role; that of a run has the name of whom it runs as."""
    return dict(connection.execute(f"SELECT role, value FROM {SCHEMA}.attributes WHERE attribute = 'name'").fetchall())


def read_facts(connection: Connection, governed: Mapping[str, LiveTable], views: list[str], heir: str) -> set[Fact]:
    """All that is so.

    Args:
        connection: of an administrator, with a `search_path` of `pg_catalog`.
        governed: the tables that policies name.
        views: names of the views that they ask for.
        heir: who gets what belongs to a role that goes.
    """
    return {
        *_roles(connection, heir),
        *_privileges(connection),
        *_openings(connection),
        *_user_attributes(connection),
        *policy_facts(connection, governed),
        *(facts.table_owner(each.name, quoted(*each.parts), each.owner) for each in governed.values()),
        *_views(connection, views),
    }


def _roles(connection: Connection, heir: str) -> Iterator[Fact]:
    for name, attributes in connection.execute(ROLES):
        yield facts.role(name, heir)
        yield facts.role_attributes(name, attributes)
    for (name,) in connection.execute(ENDLESS):
        yield facts.endless_password(name)
    for group, member, grantor, options in connection.execute(MEMBERS):
        yield facts.membership(group, member, options=options, grantor=grantor)
    for role, name, value, database in connection.execute(SETTINGS):
        if database:
            within = f"ALTER ROLE {quoted(role)} IN DATABASE {quoted(database)} RESET {quoted(name)}"
            yield replace(facts.role_setting(role, name, f"{value} in {database}"), remove=within)
        else:
            yield facts.role_setting(role, name, value)
    for role, what in connection.execute(OWNED):
        yield facts.owned(role, what, heir)


def _privileges(connection: Connection) -> Iterator[Fact]:
    held: dict[tuple[str, str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    whole = set()
    for schema, name, kind, grantee, privilege, column in connection.execute(RELATIONS):
        word = WORDS.get(kind, "table")
        key = (f"{word} {schema}.{name}", f"{'SEQUENCE' if kind == 'S' else 'TABLE'} {quoted(schema, name)}", grantee)
        columns = held[key][privilege]
        if column is None:
            whole.add((key, privilege))
        else:
            columns.append(column)
    for schema, grantee, privilege in connection.execute(SCHEMAS):
        held[f"schema {schema}", f"SCHEMA {quoted(schema)}", grantee][privilege] = []
    for database, grantee, privilege in connection.execute(DATABASE):
        held[f"database {database}", f"DATABASE {quoted(database)}", grantee][privilege] = []
    for (on, sql, grantee), granted in held.items():
        shown = {
            privilege: [] if ((on, sql, grantee), privilege) in whole else sorted(columns)
            for privilege, columns in granted.items()
        }
        yield facts.privileges(on, sql, grantee, shown)


def _openings(connection: Connection) -> Iterator[Fact]:
    for (signature,) in connection.execute(FUNCTIONS):
        yield facts.open_function(signature)
    for kind, name, privilege in connection.execute(OPENED):
        yield facts.open_catalog(kind, name, privilege)
    for kind, identity, role in connection.execute(OTHERS, [list(facts.GRANTABLE)]):
        yield facts.other_privilege(kind, identity, role)
    for owner, schema, kind, grantee in connection.execute(DEFAULTS):
        yield facts.default_privileges(owner, schema, kind, grantee)


def _user_attributes(connection: Connection) -> Iterator[Fact]:
    for role, attribute, value in connection.execute(f"SELECT role, attribute, value FROM {SCHEMA}.attributes"):
        if attribute not in GIVEN_BY_HUB:
            yield facts.user_attribute(role, attribute, value)


def _views(connection: Connection, views: list[str]) -> Iterator[Fact]:
    for schema, name, owner, options, definition in connection.execute(VIEWS, [views]):
        yield facts.view(f"{schema}.{name}", quoted(schema, name), owner, options, definition)
    schemas = sorted({each.partition(".")[0] for each in views})
    query = "SELECT nspname, pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = ANY (%s)"
    for name, owner in connection.execute(query, [schemas]):
        yield facts.schema(name, owner)
