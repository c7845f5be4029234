"""What can be so in a catalog of PostgreSQL, and the statements that make it so or undo it.

The same functions describe what policies ask for and what a server has; the difference of both
sets is the plan, and every member of it a deviation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from workbench.security.policies.compile.writing import SCHEMA, quoted, text

PUBLIC = "PUBLIC"
#: Kinds of `pg_identify_object`, in the words of REVOKE.
GRANTABLE = {
    "function": "FUNCTION",
    "procedure": "PROCEDURE",
    "aggregate": "FUNCTION",
    "type": "TYPE",
    "language": "LANGUAGE",
    "foreign-data wrapper": "FOREIGN DATA WRAPPER",
    "server": "FOREIGN SERVER",
    "large object": "LARGE OBJECT",
    "tablespace": "TABLESPACE",
    "parameter ACL": "PARAMETER",
}


class Kind(IntEnum):
    """In the order in which they are made; they are undone in the opposite one."""

    ROLE = 0
    ATTRIBUTES = 1
    SETTING = 2
    OWNER = 3
    SCHEMA = 4
    VIEW = 5
    MEMBERSHIP = 6
    PRIVILEGES = 7
    FUNCTION = 8
    DEFAULT_PRIVILEGES = 9
    USER_ATTRIBUTE = 10
    ROW_POLICY = 11
    ROW_SECURITY = 12


@dataclass(frozen=True)
class Fact:
    """One thing that is, or should be, so; two with the same words are the same."""

    kind: Kind
    on: str  #: such as `table raw.flights`
    value: str  #: such as `forced`
    add: str = field(compare=False, repr=False, default="")
    remove: str = field(compare=False, repr=False, default="")


def role(name: str, heir: str) -> Fact:
    """A role; what it owns when it goes becomes *heir*'s."""
    return Fact(
        Kind.ROLE, f"role {name}", "exists", f"CREATE ROLE {quoted(name)} NOLOGIN", "; ".join(dropping(name, heir))
    )  # fmt: skip


def dropping(name: str, heir: str) -> tuple[str, ...]:
    """The statements that drop a role, whoever made it: only members may give away what it owns."""
    mine = quoted(name)
    return (
        f"GRANT {mine} TO CURRENT_USER WITH INHERIT TRUE",
        f"REASSIGN OWNED BY {mine} TO {quoted(heir)}",
        f"DROP OWNED BY {mine}",
        f"DROP ROLE {mine}",
    )


def role_attributes(name: str, attributes: Sequence[str]) -> Fact:
    """The attributes of a role beside INHERIT: LOGIN, SUPERUSER, BYPASSRLS and others."""
    names = sorted(attributes)
    add = f"ALTER ROLE {quoted(name)} {'LOGIN' if 'LOGIN' in names else 'NOLOGIN'}"
    remove = f"ALTER ROLE {quoted(name)} {' '.join(f'NO{each}' for each in names)}" if names else ""
    return Fact(Kind.ATTRIBUTES, f"role {name}", " ".join(names) or "no attributes", add, remove)


def endless_password(name: str) -> Fact:
    """A person's role that opens connections for ever."""
    return Fact(
        Kind.ATTRIBUTES, f"password of {name}", "has no end",
        remove=f"ALTER ROLE {quoted(name)} VALID UNTIL '-infinity'",
    )  # fmt: skip


def role_setting(name: str, setting: str, value: str) -> Fact:
    """A setting that a session of the role begins with; *value* as SQL."""
    mine = f"ALTER ROLE {quoted(name)}"
    return Fact(
        Kind.SETTING, f"setting {setting} of {name}", value, f"{mine} SET {quoted(setting)} = {value}",
        f"{mine} RESET {quoted(setting)}",
    )  # fmt: skip


def membership(group: str, member: str, *, options: str = "INHERIT", grantor: str = "") -> Fact:
    """A role in a group; *options* are those of INHERIT, SET and ADMIN that are on."""
    by = f" GRANTED BY {quoted(grantor)}" if grantor else ""
    return Fact(
        Kind.MEMBERSHIP, f"role {member}", f"member of {group} ({options})",
        f"GRANT {quoted(group)} TO {quoted(member)} WITH INHERIT TRUE, SET FALSE, ADMIN FALSE",
        f"REVOKE {quoted(group)} FROM {quoted(member)}{by}",
    )  # fmt: skip


def privileges(on: str, sql: str, grantee: str, granted: Mapping[str, Sequence[str]]) -> Fact:
    """All that a role may do with an object; columns by privilege, none of them for the whole."""
    who = grantee if grantee == PUBLIC else quoted(grantee)
    listed = [f"{name} ({', '.join(columns)})" if columns else name for name, columns in sorted(granted.items())]
    parts = [
        f"{name} ({', '.join(map(quoted, columns))})" if columns else name for name, columns in sorted(granted.items())
    ]
    return Fact(
        Kind.PRIVILEGES, f"{on} to {grantee}", ", ".join(listed), f"GRANT {', '.join(parts)} ON {sql} TO {who}",
        f"REVOKE ALL ON {sql} FROM {who}",
    )  # fmt: skip


def row_security(table: str, sql: str, *, enabled: bool, forced: bool) -> Fact:
    """Whether a table has row security, for its owner too."""
    value = ("enabled" if enabled else "disabled") + (", forced" if forced else ", not forced")
    force = "FORCE" if forced else "NO FORCE"
    add = f"ALTER TABLE {sql} ENABLE ROW LEVEL SECURITY, {force} ROW LEVEL SECURITY"
    return Fact(Kind.ROW_SECURITY, f"row security of {table}", value, add)


def row_policy(table: str, sql: str, name: str, words: str, using: str, *, add: str = "") -> Fact:
    """A policy of a table; *words* are its kind, command and roles."""
    return Fact(
        Kind.ROW_POLICY, f"policy {name} of {table}", f"{words} USING {using}", add,
        f"DROP POLICY {quoted(name)} ON {sql}",
    )  # fmt: skip


def view(name: str, sql: str, owner: str, options: str, definition: str, *, add: str = "") -> Fact:
    """A view, which its owner's rights read through."""
    return Fact(Kind.VIEW, f"view {name}", f"of {owner} WITH ({options}) AS {definition}", add, f"DROP VIEW {sql}")


def schema(name: str, owner: str) -> Fact:
    """A schema for views."""
    mine = f"CREATE SCHEMA IF NOT EXISTS {quoted(name)}; ALTER SCHEMA {quoted(name)} OWNER TO {quoted(owner)}"
    return Fact(Kind.SCHEMA, f"schema {name}", f"of {owner}", mine)


def table_owner(table: str, sql: str, owner: str) -> Fact:
    """Who owns a table, and may change it."""
    return Fact(Kind.OWNER, f"owner of {table}", owner, f"ALTER TABLE {sql} OWNER TO {quoted(owner)}")


def owned(name: str, what: str, heir: str) -> Fact:
    """Something that belongs to a role which may own nothing."""
    remove = f"REASSIGN OWNED BY {quoted(name)} TO {quoted(heir)}"
    return Fact(Kind.OWNER, f"role {name}", f"owns {what}", remove=remove)


def open_function(signature: str) -> Fact:
    """A function that runs with its owner's rights and that everybody may call."""
    remove = f"REVOKE ALL ON ROUTINE {signature} FROM PUBLIC"
    return Fact(Kind.FUNCTION, f"function {signature}", "runs as its owner, and PUBLIC may call it", remove=remove)


def open_lock(signature: str) -> Fact:
    """A function by which everybody may make services wait."""
    return Fact(
        Kind.FUNCTION, f"function {signature} to PUBLIC", "EXECUTE",
        remove=f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC",
    )  # fmt: skip


def lock_of_service(signature: str, service: str) -> Fact:
    """The right of a service to wait for others."""
    return Fact(
        Kind.FUNCTION, f"function {signature} to {service}", "EXECUTE",
        f"GRANT EXECUTE ON FUNCTION {signature} TO {quoted(service)}",
    )  # fmt: skip


def open_catalog(kind: str, name: str, privilege: str) -> Fact:
    """Something of the system that everybody may use though PostgreSQL comes without; *kind* is TABLE or ROUTINE."""
    remove = f"REVOKE {privilege} ON {kind} {name} FROM PUBLIC"
    return Fact(Kind.PRIVILEGES, f"{kind.lower()} {name} to PUBLIC", privilege, remove=remove)


def other_privilege(kind: str, identity: str, grantee: str) -> Fact:
    """A grant of what policies never grant: functions, types, large objects, parameters and the like.

    Args:
        kind: as `pg_identify_object` has it.
        identity: likewise.
        grantee: a role of ours.
    """
    remove = f"REVOKE ALL ON {GRANTABLE[kind]} {identity} FROM {quoted(grantee)}"
    return Fact(Kind.PRIVILEGES, f"{kind} {identity} to {grantee}", "granted", remove=remove)


def default_privileges(owner: str, schema: str, kind: str, grantee: str) -> Fact:
    """What *grantee* gets of all that *owner* makes; *kind* such as TABLES."""
    who = grantee if grantee == PUBLIC else quoted(grantee)
    within = f" IN SCHEMA {quoted(schema)}" if schema else ""
    remove = f"ALTER DEFAULT PRIVILEGES FOR ROLE {quoted(owner)}{within} REVOKE ALL ON {kind} FROM {who}"
    on = f"default privileges of {owner}{f' in {schema}' if schema else ''}"
    return Fact(Kind.DEFAULT_PRIVILEGES, on, f"{kind} to {grantee}", remove=remove)


def user_attribute(role_name: str, attribute: str, value: str) -> Fact:
    """What conditions find as user.NAME."""
    row = f"({text(role_name)}, {text(attribute)}, {text(value)})"
    return Fact(
        Kind.USER_ATTRIBUTE, f"user.{attribute} of {role_name}", value,
        f"INSERT INTO {SCHEMA}.attributes (role, attribute, value) VALUES {row}",
        f"DELETE FROM {SCHEMA}.attributes WHERE (role, attribute, value) = {row}",
    )  # fmt: skip
