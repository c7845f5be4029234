"""Which rows: the parts that a condition is made of, and no others.

Logic is SQL's, with three values: a row is shown when the condition is true.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

Literal = str | bool | Decimal


@dataclass(frozen=True)
class Column:
    """A column of the table."""

    name: str


@dataclass(frozen=True)
class Attribute:
    """What the file says of the person who asks: a set of texts."""

    name: str


@dataclass(frozen=True)
class Comparison:
    """One of = != < <= > >=; an attribute is compared by = and != only."""

    left: Column | Attribute
    sign: str
    right: Column | Attribute | Literal


@dataclass(frozen=True)
class OneOf:
    """Whether the value, or one of the attribute's, is in the list."""

    left: Column | Attribute
    values: tuple[Literal, ...]


@dataclass(frozen=True)
class IsNull:
    """Whether a column has no value."""

    column: Column


@dataclass(frozen=True)
class Not:
    """True for false, false for true; unknown stays unknown."""

    of: Predicate


@dataclass(frozen=True)
class And:
    """All of them."""

    parts: tuple[Predicate, ...]


@dataclass(frozen=True)
class Or:
    """Any of them."""

    parts: tuple[Predicate, ...]


@dataclass(frozen=True)
class Always:
    """TRUE or FALSE."""

    value: bool


Predicate = Comparison | OneOf | IsNull | Not | And | Or | Always


def named_in(predicate: Predicate) -> Iterator[Column | Attribute]:
    """Every column and attribute of a condition, as often as it stands there."""
    match predicate:
        case Comparison(left, _, right):
            yield left
            if isinstance(right, Column | Attribute):
                yield right
        case OneOf(left):
            yield left
        case IsNull(column):
            yield column
        case Not(of):
            yield from named_in(of)
        case And(parts) | Or(parts):
            for each in parts:
                yield from named_in(each)


def comparisons_in(predicate: Predicate) -> Iterator[Comparison]:
    """Every comparison of a condition."""
    match predicate:
        case Comparison():
            yield predicate
        case Not(of):
            yield from comparisons_in(of)
        case And(parts) | Or(parts):
            for each in parts:
                yield from comparisons_in(each)
