"""Whether policies fit the columns of the tables that they name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal

from workbench.documents import Place, Problem
from workbench.security.policies.model import GIVEN_BY_HUB, Mask, Partial, TableGrant
from workbench.security.policies.parsing import parse
from workbench.security.policies.predicates import (
    And,
    Attribute,
    Column,
    Comparison,
    IsNull,
    Literal,
    Not,
    OneOf,
    Or,
    Predicate,
    comparisons_in,
)
from workbench.security.policies.reading import Policies

Columns = Mapping[str, str]  #: types by name

NUMBER = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
KINDS = {
    "text": ("text", "character varying", "varchar", "character", "char", "name"),
    "number": ("smallint", "integer", "bigint", "numeric", "decimal", "real", "double precision"),
    "boolean": ("boolean",),
    "time": ("date", "timestamp without time zone", "timestamp with time zone", "timestamp", "timestamptz"),
}

#: Whose text is the same whatever DateStyle, TimeZone, bytea_output and extra_float_digits a reader has set; so is
#: that of arrays of them. Types that are not named here are taken for others.
STEADY = (
    *KINDS["text"], '"char"', "smallint", "integer", "bigint", "numeric", "decimal", "boolean", "uuid",
    "json", "jsonb", "inet", "cidr", "macaddr", "macaddr8", "bit", "bit varying",
)  # fmt: skip
EXTENSIONS = ("citext",)  # as those: of whatever schema


def kind_of(type_name: str) -> str:
    """`text`, `number`, `boolean`, `time` or `other`, of a type with or without its length."""
    return next((kind for kind, names in KINDS.items() if _bare(type_name) in names), "other")


def _bare(type_name: str) -> str:
    bare, opened, rest = type_name.partition("(")
    whole = (bare.rstrip() + rest.partition(")")[2]) if opened else bare
    return whole.strip().lower()


def misfits(policies: Policies, tables: Mapping[str, Columns], written_as: Mapping[str, Columns]) -> list[Problem]:
    """Every column that is not there, every table of tags, and every condition that compares what cannot be compared.

    Args:
        policies: what is looked at.
        tables: their columns.
        written_as: types that write the values of columns, where those are others (`LiveTable.written_as`).
    """
    found = [each for role in policies.file.roles for each in _of_role(policies, role, tables)]
    found += _of_masks(policies, tables, written_as)
    for name, tag in policies.file.tags.items():
        for number, path in enumerate(tag.columns):
            table, _, column = path.rpartition(".")
            place: Place = ("tags", name, "columns", number)
            if table not in tables:
                # A tag of a table that is not there hides nothing, and roles would show the column in clear.
                found.append((place, no_table(table)))
            elif column not in tables[table]:
                found.append((place, _missing(column, table, tables[table])))
    return [policies.problem(*each) for each in found]


def no_table(table: str) -> str:
    """What is told of a table that is not there."""
    return f"the warehouse has no table {table}; correct the name, or make the table first."


def _of_role(policies: Policies, role: str, tables: Mapping[str, Columns]) -> Iterator[tuple[Place, str]]:
    for table, grant in policies.file.roles[role].tables.items():
        if table not in tables:
            continue
        columns, place = tables[table], ("roles", role, "tables", table)
        for inner, name in _named(grant):
            if name not in columns:
                yield (*place, *inner), _missing(name, table, columns)
        for inner, condition in ((("rows",), grant.rows), (("deny", "rows"), grant.deny.rows)):
            if condition is not None:
                for problem in _of_condition(parse(condition), table, columns):
                    yield (*place, *inner), problem
                for problem in _not_numbers(parse(condition), policies, columns):
                    yield (*place, *inner), problem


def _of_masks(
    policies: Policies, tables: Mapping[str, Columns], written_as: Mapping[str, Columns]
) -> Iterator[tuple[Place, str]]:
    """Masks of values whose text the reader chooses: several settings would show more of one value than the mask does."""
    for place, mask, table, column in _masks(policies):
        kind = tables.get(table, {}).get(column)
        is_of_text = mask == "hash" or isinstance(mask, Partial)
        if kind is not None and is_of_text and not _is_steady(written_as.get(table, {}).get(column, kind)):
            why = "whose text may depend on settings of the reader"
            yield place, f"{table}.{column} is {kind}, {why}; write null or constant as its mask."


def _masks(policies: Policies) -> Iterator[tuple[Place, Mask | str, str, str]]:
    for role, rules in policies.file.roles.items():
        for table, grant in rules.tables.items():
            for name, mask in grant.masks.items():
                yield ("roles", role, "tables", table, "masks", name), mask, table, name
    for name, tag in policies.file.tags.items():
        for number, path in enumerate(tag.columns):
            table, _, column = path.rpartition(".")
            yield ("tags", name, "columns", number), tag.others, table, column


def _named(grant: TableGrant) -> Iterator[tuple[Place, str]]:
    for number, name in enumerate(() if grant.columns == "*" else grant.columns):
        yield ("columns", number), name
    for name in grant.masks:
        yield ("masks", name), name
    for number, name in enumerate(grant.deny.columns):
        yield ("deny", "columns", number), name


def _not_numbers(predicate: Predicate, policies: Policies, columns: Columns) -> Iterator[str]:
    """Attributes that are compared with numbers and are none: a query would fail when it is too late."""
    for each in comparisons_in(predicate):
        left, right = each.left, each.right
        if (
            not isinstance(left, Column)
            or not isinstance(right, Attribute)
            or kind_of(columns.get(left.name, "")) != "number"
        ):
            continue
        if right.name in GIVEN_BY_HUB:
            yield f"{left.name} is a number, and user.{right.name} is none; compare it with a column of text."
        for user, attributes in policies.file.users.items():
            for value in attributes.get(right.name, ()):
                if not NUMBER.fullmatch(value):
                    yield f"{left.name} is a number, and user.{right.name} of {user} is {value!r}; correct one of both."


def _is_steady(type_name: str) -> bool:
    bare = _bare(type_name).removesuffix("[]")
    return bare in STEADY or bare.rpartition(".")[2] in EXTENSIONS


def _missing(column: str, table: str, columns: Columns) -> str:
    near = difflib.get_close_matches(column, columns, n=1)
    hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(columns)}."
    return f"{table} has no column {column}; {hint}"


def _of_condition(predicate: Predicate, table: str, columns: Columns) -> Iterator[str]:
    match predicate:
        case And(parts) | Or(parts):
            for each in parts:
                yield from _of_condition(each, table, columns)
        case Not(of):
            yield from _of_condition(of, table, columns)
        case IsNull(column):
            if column.name not in columns:
                yield _missing(column.name, table, columns)
        case OneOf(left, values):
            for value in values:
                yield from _compared(left, value, table, columns)
        case Comparison(left, _, right):
            yield from _compared(left, right, table, columns)


def _compared(
    left: Column | Attribute, right: Column | Attribute | Literal, table: str, columns: Columns
) -> Iterator[str]:
    named = [each.name for each in (left, right) if isinstance(each, Column)]
    if missing := [name for name in named if name not in columns]:
        yield from (_missing(name, table, columns) for name in missing)
        return
    if not isinstance(left, Column):
        return
    kind = kind_of(columns[left.name])
    if columns[left.name].rpartition(".")[2] == "citext":
        yield f"{left.name} is citext, which is compared like text here; add a column with lower() of it and compare that."
        return
    shown = f"{left.name} is {columns[left.name]}"
    if isinstance(right, Attribute):
        if kind not in {"text", "number"}:
            yield f"{shown}, and user.{right.name} is text; compare attributes with columns of text or numbers."
    elif isinstance(right, Column):
        other = columns[right.name]
        # Two kinds of time are compared in the time zone that the reader has set.
        if kind_of(other) != kind or (kind in {"time", "other"} and other != columns[left.name]):
            yield f"{shown} and {right.name} is {other}; compare columns of one type."
    elif not _fits(right, kind):
        yield f"{shown}, and {right!s} is not of that type; write a value that is."


def _fits(value: Literal, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return kind == "number" if isinstance(value, Decimal) else kind in {"text", "time", "other"}
