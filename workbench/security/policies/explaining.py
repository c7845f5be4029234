"""What a person sees of a table, and which lines of the file say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workbench.security.policies.grants import CLEAR, Grant, Level, Resolved, rank
from workbench.security.policies.model import Constant, Partial
from workbench.security.policies.names import masked_view, user_role


@dataclass(frozen=True)
class ColumnSeen:
    """One column, for one person."""

    name: str
    shown: str  #: `clear`, `denied` or the mask
    because: str


@dataclass(frozen=True)
class Explanation:
    """What a person sees of a table."""

    role: str  #: as which the person connects
    roles: tuple[str, ...]  #: of the file, that show or deny something of the table
    reads: tuple[str, ...]  #: what to name in a query: the table for columns in clear, the view for all
    rows: str
    columns: tuple[ColumnSeen, ...]


def explain(resolved: Resolved, name: str, roles: Sequence[str], table: str) -> Explanation:
    """What a person with these roles of the file sees of a table that policies name.

    Args:
        resolved: the policies.
        name: of the person at the hub.
        roles: of the file.
        table: `schema.table`.
    """
    grants = [each for each in resolved.of_table(table) if each.role in roles]
    showing = [each for each in grants if each.levels]
    columns = tuple(_column(resolved, showing, grants, table, column) for column in resolved.tables[table].columns)
    reads = (table,) if any(each.clear for each in showing) else ()
    if showing and resolved.has_masks(table):
        reads = (*reads, masked_view(table))
    return Explanation(user_role(name), tuple(each.role for each in grants), reads, _rows(resolved, grants), columns)


def _column(
    resolved: Resolved, showing: Sequence[Grant], grants: Sequence[Grant], table: str, column: str
) -> ColumnSeen:
    holders = [each for each in showing if column in each.levels]
    if holders:
        best = max(holders, key=lambda each: rank(each.levels[column]))
        level = best.levels[column]
        return ColumnSeen(column, _shown(level), f"role {best.role}{_tag_of(resolved, best.role, table, column)}")
    denying = next((each.role for each in grants if column in each.denied_columns), "")
    if denying:
        return ColumnSeen(column, "denied", f"role {denying} denies it")
    tags = {_tag_of(resolved, each.role, table, column) for each in grants} - {""}
    return ColumnSeen(
        column, "denied", f"not allowed{next(iter(sorted(tags)), '')}" if grants else "no role shows the table"
    )


def _shown(level: Level) -> str:
    match level:
        case Partial(partial=kept):
            return f"masked: the last {kept} characters"
        case Constant(constant=shown):
            return f"masked: always {shown!r}"
        case _:
            return level if level == CLEAR else f"masked: {level}"


def _tag_of(resolved: Resolved, role: str, table: str, column: str) -> str:
    for name, tag in resolved.policies.file.tags.items():
        if f"{table}.{column}" in tag.columns and role not in tag.roles:
            return f", tag {name}"
    return ""


def _rows(resolved: Resolved, grants: Sequence[Grant]) -> str:
    """The conditions as the file has them."""
    shown, denied = [], []
    for grant in grants:
        for role in resolved.policies.chain(grant.role):
            declared = resolved.policies.file.roles[role].tables.get(grant.table)
            if declared is not None:
                if declared.columns or declared.masks:
                    shown.append(declared.rows)
                if declared.deny.rows is not None:
                    denied.append(declared.deny.rows)
    if not shown:
        return "none"
    allowed = "all" if None in shown else " OR ".join(f"({each})" for each in dict.fromkeys(shown))
    return " AND ".join([allowed, *(f"NOT ({each})" for each in dict.fromkeys(denied))])
