"""What each role shows of each table that is there, after inheritance, tags and denials.

Two grants that one person may hold are added up by the server: the columns of both, in the rows of
both. That is what the file says only where neither gives the other a value in a row that it did not
have; every other pair is refused here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

from workbench.documents import Place, Problem
from workbench.errors import PoliciesRefused
from workbench.sections.login import ROLES
from workbench.security.policies.fitting import misfits, no_table
from workbench.security.policies.grants import CLEAR, EVERYTHING, Entry, Grant, Level, LiveTable, Resolved, rank
from workbench.security.policies.parsing import parse
from workbench.security.policies.predicates import Always, Or, Predicate
from workbench.security.policies.reading import Policies

#: Groups of the hub of which everybody is in one.
EXCLUSIVE_GROUPS = frozenset(f"{role}s" for role in ROLES)


def resolve(policies: Policies, tables: Mapping[str, LiveTable]) -> Resolved:
    """What every role shows.

    Raises:
        PoliciesRefused: when a table or column is not there, a condition does not fit its columns,
            or two grants do not go together.
    """
    named = {table: place for role in policies.file.roles for table, place in _places(policies, role)}
    problems = [policies.problem(place, no_table(table)) for table, place in named.items() if table not in tables]
    problems += misfits(
        policies,
        {name: table.columns for name, table in tables.items()},
        {name: table.written_as for name, table in tables.items()},
    )
    if problems:
        raise PoliciesRefused(sorted(set(problems), key=lambda each: (each.line, str(each))))
    resolved = resolve_loosely(policies, tables)
    pairs = [(role,) for role in policies.file.roles] + [*_held_together(policies)]
    if clashes := [clash for roles in pairs for clash in find_clashes(resolved, roles)]:
        raise PoliciesRefused(clashes)
    return resolved


def resolve_loosely(policies: Policies, tables: Mapping[str, LiveTable]) -> Resolved:
    """What every role shows of the tables that are there, whatever is wrong with the rest."""
    named = dict.fromkeys(table for role in policies.file.roles.values() for table in role.tables)
    live = {name: tables[name] for name in named if name in tables}
    grants = tuple(
        grant
        for role in policies.file.roles
        for table in live.values()
        if (grant := _grant(policies, role, table)) is not None
    )
    return Resolved(policies, live, grants)


def roles_of(policies: Policies, groups: tuple[str, ...]) -> tuple[str, ...]:
    """The roles that a person of these groups of the hub holds."""
    found = {role for group in groups for role in policies.file.bindings.get(group, ())}
    return tuple(sorted(found))


def find_clashes(resolved: Resolved, roles: tuple[str, ...]) -> Iterator[Problem]:
    """What would be shown to a holder of all of *roles* though none of them shows it."""
    for table in resolved.tables:
        grants = [each for each in resolved.of_table(table) if each.role in roles]
        entries = [(each.role, entry) for each in grants for entry in each.entries]
        for (one, first), (other, second) in combinations(entries, 2):
            if not _add_up(first, second):
                yield _clash(resolved, table, one, other)
                break
        for denying in grants:
            for showing in grants:
                shown = denying.denied_columns & set(showing.levels) if showing is not denying else set()
                for column in sorted(shown):
                    yield resolved.policies.problem(
                        ("roles", denying.role, "tables", table, "deny", "columns"),
                        f"{denying.role} denies {column} of {table}, which {showing.role} shows, and one person may hold "
                        f"both; take the column out of {showing.role}, or bind them to groups that nobody shares.",
                    )


def _clash(resolved: Resolved, table: str, one: str, other: str) -> Problem:
    who = f"{one} and a role that it inherits" if one == other else f"{one} and {other}, which one person may hold,"
    place: Place = ("roles", one, "tables", table)
    return resolved.policies.problem(
        place,
        f"{who} show different columns of {table} in different rows: together they would show columns of one in rows "
        "of the other. Give both the same rows or the same columns, or let one show all that the other does.",
    )


def _add_up(one: Entry, other: Entry) -> bool:
    """Whether the columns of both in the rows of both are just what either shows."""
    columns = {*one.levels, *other.levels}
    more = any(rank(one.levels.get(each)) > rank(other.levels.get(each)) for each in columns)
    less = any(rank(one.levels.get(each)) < rank(other.levels.get(each)) for each in columns)
    same = not more and not less and one.levels == other.levels
    return (
        one.rows == other.rows
        or same
        or (not less and one.rows == EVERYTHING)
        or (not more and other.rows == EVERYTHING)
        or not one.levels
        or not other.levels
    )


def _grant(policies: Policies, role: str, table: LiveTable) -> Grant | None:
    declared = [
        grant
        for each in policies.chain(role)
        if (grant := policies.file.roles[each].tables.get(table.name)) is not None
    ]
    if not declared:
        return None
    denied = frozenset(column for each in declared for column in each.deny.columns)
    entries = []
    for each in declared:
        columns = tuple(table.columns) if each.columns == "*" else each.columns
        levels: dict[str, Level] = {**dict.fromkeys(columns, CLEAR), **each.masks}
        shown = {name: _tagged(policies, role, f"{table.name}.{name}", level) for name, level in levels.items()}
        kept = {name: level for name, level in shown.items() if level is not None and name not in denied}
        entries.append(Entry(kept, parse(each.rows) if each.rows is not None else EVERYTHING))
    entries = [each for each in entries if each.levels]
    return Grant(
        role=role,
        table=table.name,
        levels=_highest(entries, table),
        rows=_any_of(entries),
        denied_rows=tuple(dict.fromkeys(parse(each.deny.rows) for each in declared if each.deny.rows is not None)),
        denied_columns=denied,
        entries=tuple(entries),
    )


def _tagged(policies: Policies, role: str, column: str, level: Level) -> Level | None:
    """What is left of a level when the tags of the column had their say; None when nothing is."""
    for tag in policies.file.tags.values():
        if column in tag.columns and role not in tag.roles:
            if tag.others == "deny":
                return None
            level = min(level, tag.others, key=rank)
    return level


def _highest(entries: list[Entry], table: LiveTable) -> dict[str, Level]:
    found = {}
    for column in table.columns:
        levels = [each.levels[column] for each in entries if column in each.levels]
        if levels:
            found[column] = max(levels, key=rank)
    return found


def _any_of(entries: list[Entry]) -> Predicate:
    rows = tuple(dict.fromkeys(each.rows for each in entries))
    if not rows:
        return Always(False)
    return EVERYTHING if EVERYTHING in rows else rows[0] if len(rows) == 1 else Or(rows)


def _held_together(policies: Policies) -> Iterator[tuple[str, str]]:
    """Pairs of roles that one person may hold."""
    bound = [(group, role) for group, roles in policies.file.bindings.items() for role in roles]
    found = set()
    for (group, role), (other_group, other) in combinations(bound, 2):
        if role != other and (group == other_group or not {group, other_group} <= EXCLUSIVE_GROUPS):
            found.add((min(role, other), max(role, other)))
    yield from sorted(found)


def _places(policies: Policies, role: str) -> Iterator[tuple[str, Place]]:
    for table in policies.file.roles[role].tables:
        yield table, ("roles", role, "tables", table)
