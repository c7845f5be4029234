"""The columns of a view with masks, for PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from workbench.security.policies.compile.writing import SCHEMA, quoted, text
from workbench.security.policies.grants import CLEAR, Grant, Level, LiveTable, rank
from workbench.security.policies.model import Constant, Partial

HIDDEN = "***"
KEY = f"(SELECT k.key FROM {SCHEMA}.mask_key AS k)"

Holds = Callable[[Iterable[str]], str]


def masked_columns(grants: Sequence[Grant], table: LiveTable, holds: Holds) -> Iterator[str]:
    """Every column that some role shows, at the level of the reader; NULL for who holds none that shows it.

    Args:
        grants: those that show something.
        table: of the columns.
        holds: SQL that is true for who holds one of the roles.
    """
    for column, kind in table.columns.items():
        roles: dict[Level, list[str]] = {}
        for grant in grants:
            if column in grant.levels:
                roles.setdefault(grant.levels[column], []).append(grant.role)
        if not roles:
            continue
        as_text = any(level not in {CLEAR, "null"} for level in roles)
        if set(roles) == {CLEAR} and len(roles[CLEAR]) == len(grants):
            yield quoted(column)
            continue
        cases = [
            f"WHEN {holds(roles[level])} THEN {_value(level, column, as_text=as_text)}"
            for level in sorted(roles, key=rank, reverse=True)
        ]
        yield f"(CASE {' '.join(cases)} END)::{'text' if as_text else kind} AS {quoted(column)}"


def _value(level: Level, column: str, *, as_text: bool) -> str:
    value = f"{quoted(column)}::text"
    match level:
        case "null":
            return "NULL"
        case Constant(constant=shown):
            return text(shown)
        case Partial(partial=kept):
            # How long a value is, is not told.
            return f"(CASE WHEN length({value}) > {kept} THEN {text(HIDDEN)} || right({value}, {kept}) WHEN {value} IS NOT NULL THEN {text(HIDDEN)} END)"
        case "hash":
            return _keyed_hash(value)
        case _:
            return value if as_text else quoted(column)


def _keyed_hash(value: str) -> str:
    """Nested SHA-256 with a key that only the view's owner reads: without it, guesses cannot be tried."""
    inner = f"sha256(convert_to({KEY} || {value}, 'UTF8'))"
    return f"encode(sha256(convert_to({KEY} || encode({inner}, 'hex'), 'UTF8')), 'hex')"
