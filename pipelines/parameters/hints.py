"""Reads a type that is written as Python has it, such as `list[int] | None`, and finds the type of a value."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Collection
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from pipelines.parameters.containers import Choice, DictOf, ListOf, Optional
from pipelines.parameters.kinds import Bool, Exact, Float, Int, Kind, Secret, Str
from pipelines.parameters.times import PARTITIONS, Date, Moment, Partition

WORDS: dict[str, Kind] = {
    each.hint: each for each in (Int(), Float(), Bool(), Str(), Exact(), Date(), Moment(), Secret())
}
OF_VALUES: dict[type, Kind] = {
    bool: Bool(),
    int: Int(),
    float: Float(),
    str: Str(),
    Decimal: Exact(),
    date: Date(),
    datetime: Moment(),
}
KNOWN = (*WORDS, "list[…]", "dict[str, …]", "Literal[…]", *(f"partition[{by}]" for by in PARTITIONS), "… | None")


def parse_hint(text: str) -> Kind:
    """The type that *text* is the hint of.

    Raises:
        ValueError: when it is none of those that parameters may have.

    Example:
        >>> parse_hint("dict[str, float] | None").hint
        'dict[str, float] | None'
    """
    try:
        return read_hint(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError(f"{text!r} is no type. Known are {', '.join(KNOWN)}") from None


def read_hint(node: ast.expr) -> Kind:
    """The type of a hint that is parsed already.

    Raises:
        ValueError: as `parse_hint`.
    """
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return parse_hint(node.value)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _or_none(node)
    if isinstance(node, ast.Subscript):
        return _subscripted(_word(node.value), node.slice, node)
    word = _word(node)
    if word not in WORDS:
        near = difflib.get_close_matches(word, WORDS, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise ValueError(f"{ast.unparse(node)!r} is no type; {meant}Known are {', '.join(KNOWN)}")
    return WORDS[word]


def infer(value: object) -> Kind:
    """The type that *value* has, when nobody wrote a hint.

    Raises:
        ValueError: when it could be of several, such as None and an empty list.
    """
    if type(value) in OF_VALUES:
        return OF_VALUES[type(value)]
    if isinstance(value, list) and value:
        return ListOf(_common(value))
    if isinstance(value, dict) and value:
        return DictOf(_common(value.values()))
    raise ValueError(
        f"the type of {value!r} is not clear; write a hint, such as `x: list[int] = []` or `x: str | None = None`"
    )


def _common(values: Collection[Any]) -> Kind:
    kinds = {infer(each) for each in values}
    if kinds == {Int(), Float()}:
        return Float()
    if len(kinds) > 1:
        raise ValueError(f"values of several types, {' and '.join(sorted(each.hint for each in kinds))}, have no hint")
    return kinds.pop()


def _word(node: ast.expr) -> str:
    """The last part of a name: hints may be written `datetime.date` and `typing.Literal`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ast.unparse(node)


def _or_none(node: ast.BinOp) -> Kind:
    sides = [each for each in (node.left, node.right) if not (isinstance(each, ast.Constant) and each.value is None)]
    if len(sides) != 1:
        raise ValueError(f"{ast.unparse(node)!r} is of several types; a parameter has one, or one and None")
    return _optional(read_hint(sides[0]))


def _optional(inner: Kind) -> Kind:
    if isinstance(inner, Secret):
        raise ValueError("a secret is always a reference, and never None")
    return inner if isinstance(inner, Optional) else Optional(inner)


def _subscripted(word: str, inner: ast.expr, whole: ast.expr) -> Kind:
    if word in {"list", "List"}:
        return ListOf(_held(inner))
    if word in {"dict", "Dict"} and isinstance(inner, ast.Tuple) and len(inner.elts) == 2:
        if _word(inner.elts[0]) == "str":
            return DictOf(_held(inner.elts[1]))
        raise ValueError(f"{ast.unparse(whole)!r}: keys are str")
    if word == "Optional":
        return _optional(read_hint(inner))
    if word == "Literal":
        return _choice(inner)
    if word == "partition" and _word(inner) in PARTITIONS:
        return Partition(_word(inner))
    raise ValueError(f"{ast.unparse(whole)!r} is no type. Known are {', '.join(KNOWN)}")


def _held(inner: ast.expr) -> Kind:
    kind = read_hint(inner)
    if isinstance(kind, Secret):
        raise ValueError("a secret is a parameter of its own, and not inside of a list or a dict")
    return kind


def _choice(inner: ast.expr) -> Kind:
    try:
        read = ast.literal_eval(inner)
    except ValueError:
        raise ValueError(f"Literal[{ast.unparse(inner)}] has more than texts, whole numbers, True and False") from None
    values = read if isinstance(read, tuple) else (read,)
    if not all(type(each) in {str, int, bool} for each in values):
        raise ValueError(f"Literal[{ast.unparse(inner)}] has more than texts, whole numbers, True and False")
    made = Choice(values)
    if len({made.as_text(each) for each in values}) != len(values):
        raise ValueError(f"{made.hint}: two values are the same, or are typed the same")
    return made
