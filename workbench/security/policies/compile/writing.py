"""Conditions and masks as SQL. Names are quoted, values are literals; nothing of a file is pasted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from decimal import Decimal

from workbench.security.policies.fitting import kind_of
from workbench.security.policies.predicates import (
    Always,
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
)

SCHEMA = "workbench_policies"  #: holds what conditions and masks look up


def quoted(*parts: str) -> str:
    """An identifier, with its schema when that comes first."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def text(value: str) -> str:
    """A literal; the server's standard_conforming_strings is on."""
    return "'" + value.replace("'", "''") + "'"


def literal(value: Literal) -> str:
    """A literal of any kind."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, Decimal):
        return f"({value:f})" if value < 0 else f"{value:f}"
    return text(value)


class Writer(ABC):
    """Writes conditions on one table.

    Args:
        columns: types of the table's columns, by name.
    """

    def __init__(self, columns: Mapping[str, str]) -> None:
        self.columns = columns

    def condition(self, predicate: Predicate) -> str:
        """The condition in brackets, so that it can stand anywhere."""
        match predicate:
            case And(parts) | Or(parts):
                word = " AND " if isinstance(predicate, And) else " OR "
                found = word.join(map(self.condition, parts))
            case Not(of):
                found = f"NOT {self.condition(of)}"
            case Comparison(left, sign, right):
                found = self._comparison(left, sign, right)
            case _:
                found = self._plain(predicate)
        return f"({found})"

    def _plain(self, predicate: Always | IsNull | OneOf) -> str:
        match predicate:
            case Always(value):
                return literal(value)
            case IsNull(column):
                return f"{quoted(column.name)} IS NULL"
            case OneOf(Column(name), values):
                return f"{quoted(name)} IN ({', '.join(map(literal, values))})"
            case OneOf(left, values):
                return self.has_one_of(left.name, [str(each) for each in values])

    def _comparison(self, left: Column | Attribute, sign: str, right: Column | Attribute | Literal) -> str:
        if isinstance(left, Attribute):
            equal = self.has_one_of(left.name, [str(right)])
        elif isinstance(right, Attribute):
            equal = self.is_one_of(
                quoted(left.name), right.name, is_number=kind_of(self.columns[left.name]) == "number"
            )
        else:
            other = quoted(right.name) if isinstance(right, Column) else literal(right)
            return f"{quoted(left.name)} {'<>' if sign == '!=' else sign} {other}"
        return f"NOT ({equal})" if sign == "!=" else equal

    @abstractmethod
    def is_one_of(self, column: str, attribute: str, *, is_number: bool) -> str:
        """Whether the column is one of the attribute's values; unknown when there are none."""

    @abstractmethod
    def has_one_of(self, attribute: str, values: list[str]) -> str:
        """Whether the attribute has one of the values; unknown when it has none at all."""


class PostgresqlWriter(Writer):
    """Attributes are looked up once in a query: the subquery does not depend on the row."""

    def is_one_of(self, column: str, attribute: str, *, is_number: bool) -> str:
        """As `Writer` has it."""
        kind = "numeric" if is_number else "text"
        return f"{column} = ANY ({_values(attribute, kind)})"

    def has_one_of(self, attribute: str, values: list[str]) -> str:
        """As `Writer` has it."""
        return f"{_values(attribute, 'text')} && ARRAY[{', '.join(map(text, values))}]::text[]"


class RedshiftWriter(Writer):
    """Has no arrays of a subquery; CASE makes unknown what nobody has."""

    def is_one_of(self, column: str, attribute: str, *, is_number: bool) -> str:
        """As `Writer` has it."""
        value = "a.value::numeric(38, 10)" if is_number else "a.value"
        mine = f"FROM {SCHEMA}.attributes AS a WHERE a.role = current_user AND a.attribute = {text(attribute)}"
        return f"CASE WHEN EXISTS (SELECT 1 {mine}) THEN {column} IN (SELECT {value} {mine}) END"

    def has_one_of(self, attribute: str, values: list[str]) -> str:
        """As `Writer` has it."""
        mine = f"FROM {SCHEMA}.attributes AS a WHERE a.role = current_user AND a.attribute = {text(attribute)}"
        among = f"a.value IN ({', '.join(map(text, values))})"
        return f"CASE WHEN EXISTS (SELECT 1 {mine}) THEN EXISTS (SELECT 1 {mine} AND {among}) END"


def _values(attribute: str, kind: str) -> str:
    # session_user: who has logged in, whatever role a function or a view runs as.
    mine = f"{SCHEMA}.attributes AS a WHERE a.role = session_user AND a.attribute = {text(attribute)}"
    return f"(SELECT NULLIF(ARRAY(SELECT a.value::{kind} FROM {mine}), '{{}}'::{kind}[]))::{kind}[]"
