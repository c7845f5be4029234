"""Reads conditions of a grammar that is closed, so that no SQL of a file ever reaches a server.

    condition  = conjunction { OR conjunction }
    conjunction = negation { AND negation }
    negation   = NOT negation | ( condition ) | TRUE | FALSE | comparison
    comparison = operand ( = | != | <> | < | <= | > | >= ) operand
               | operand [ NOT ] IN ( literal {, literal } ) | operand [ NOT ] IN user.NAME
               | column IS [ NOT ] NULL
    operand    = column | user.NAME | literal

A column is a bare name, or any name in double quotes. A literal is a number, TRUE, FALSE, or text in
single quotes. `user.NAME` is what the file says of a person: a set of texts, which equals a value
when one of them does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

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

MOST_NESTED = 50
MOST_CHARACTERS = 4000
TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^'\x00]|'')*')|(?P<quoted>"(?:[^"\x00]|"")+")|(?P<number>-?\d+(?:\.\d+)?(?![\w.]))
    |(?P<user>user\.[A-Za-z_]\w*)|(?P<word>[A-Za-z_]\w*)|(?P<sign><=|>=|<>|!=|[=<>(),]))""",
    re.VERBOSE | re.ASCII,
)
FLIPPED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
SIGNS = frozenset({*FLIPPED, "<>"})
KEYWORDS = frozenset({"and", "or", "not", "in", "is", "null", "true", "false"})


class PredicateRefused(ValueError):
    """A condition is not of the grammar; says what, where and what to do."""


def parse(text: str) -> Predicate:
    """The condition that *text* is.

    Raises:
        PredicateRefused: when it is none.
    """
    if len(text) > MOST_CHARACTERS:
        raise PredicateRefused(f"it has {len(text)} characters; write at most {MOST_CHARACTERS}")
    return _Parser(tuple(_tokens(text))).whole()


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int  #: counted from 1

    def __str__(self) -> str:
        return f"{self.text!r} at character {self.at}" if self.text else "the end"


def _tokens(text: str) -> Iterator[_Token]:
    end = 0
    while text[end:].strip():
        found = TOKEN.match(text, end)
        if found is None:
            at = end + len(text[end:]) - len(text[end:].lstrip())
            raise PredicateRefused(
                f"{text[at : at + 12]!r} at character {at + 1} is not of the grammar; docs/policies.md has it"
            )
        kind = str(found.lastgroup)
        yield _Token(kind, found[kind], found.start(kind) + 1)
        end = found.end()
    yield _Token("end", "", len(text) + 1)


class _Parser:
    """Recursive descent; each method reads what its name says."""

    def __init__(self, tokens: tuple[_Token, ...]) -> None:
        self._tokens, self._next, self._depth = tokens, 0, 0

    def whole(self) -> Predicate:
        found = self._condition()
        if self._now.kind != "end":
            raise PredicateRefused(f"there is {self._now} after the condition; join conditions with AND or OR")
        return found

    def _condition(self) -> Predicate:
        self._depth += 1
        if self._depth > MOST_NESTED:
            raise PredicateRefused(f"it is nested more than {MOST_NESTED} deep; write it flatter")
        parts = [self._conjunction()]
        while self._took("or"):
            parts.append(self._conjunction())
        self._depth -= 1
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _conjunction(self) -> Predicate:
        parts = [self._negation()]
        while self._took("and"):
            parts.append(self._negation())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _negation(self) -> Predicate:
        if self._took("not"):
            self._depth += 1
            if self._depth > MOST_NESTED:
                raise PredicateRefused(f"it is nested more than {MOST_NESTED} deep; write it flatter")
            inner = self._negation()
            self._depth -= 1
            return Not(inner)
        if self._took("("):
            inner = self._condition()
            self._need(")")
            return inner
        after = self._tokens[min(self._next + 1, len(self._tokens) - 1)].text
        if self._now.kind == "word" and self._now.text.lower() in {"true", "false"} and after not in SIGNS:
            return Always(self._take().text.lower() == "true")
        return self._comparison()

    def _comparison(self) -> Predicate:
        left = self._operand()
        if self._took("is"):
            negated = self._took("not")
            self._need("null")
            if not isinstance(left, Column):
                raise PredicateRefused(
                    "IS NULL is for a column; an attribute that nobody has makes a comparison unknown"
                )
            return Not(IsNull(left)) if negated else IsNull(left)
        negated = self._took("not")
        if negated or self._now.text.lower() == "in":
            self._need("in")
            found = self._list(left)
            return Not(found) if negated else found
        sign = self._take()
        if sign.text not in SIGNS:
            raise PredicateRefused(f"there is {sign} where a comparison should be; write = != < <= > >= IN or IS NULL")
        return _compared(left, "!=" if sign.text == "<>" else sign.text, self._operand())

    def _list(self, left: Column | Attribute | Literal) -> Predicate:
        if self._now.kind == "user":
            return _compared(left, "=", Attribute(self._take().text.removeprefix("user.")))
        self._need("(")
        values = [self._literal()]
        while self._took(","):
            values.append(self._literal())
        self._need(")")
        if not isinstance(left, Column | Attribute):
            raise PredicateRefused("a list is for a column or for user.NAME; write one before IN")
        if isinstance(left, Attribute) and not all(isinstance(each, str) for each in values):
            raise PredicateRefused(f"user.{left.name} is text; write the list in single quotes")
        return OneOf(left, tuple(values))

    def _operand(self) -> Column | Attribute | Literal:
        token = self._now
        if token.kind == "quoted":
            return Column(self._take().text[1:-1].replace('""', '"'))
        if token.kind == "user":
            return Attribute(self._take().text.removeprefix("user."))
        if token.kind == "word" and token.text.lower() not in KEYWORDS:
            return Column(self._take().text)
        return self._literal()

    def _literal(self) -> Literal:
        token = self._take()
        if token.kind == "text":
            return token.text[1:-1].replace("''", "'")
        if token.kind == "number":
            return Decimal(token.text)
        if token.kind == "word" and token.text.lower() in {"true", "false"}:
            return token.text.lower() == "true"
        hint = "; a row without a value is found by IS NULL" if token.text.lower() == "null" else ""
        raise PredicateRefused(f"there is {token} where a value should be; write a number, 'text', TRUE or FALSE{hint}")

    @property
    def _now(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._now
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _took(self, text: str) -> bool:
        if self._now.kind not in {"word", "sign"} or self._now.text.lower() != text:
            return False
        self._take()
        return True

    def _need(self, text: str) -> None:
        if not self._took(text):
            raise PredicateRefused(f"there is {self._now} where {text.upper()} should be; write it")


def _compared(left: Column | Attribute | Literal, sign: str, right: Column | Attribute | Literal) -> Predicate:
    if not isinstance(left, Column | Attribute):
        left, sign, right = right, FLIPPED[sign], left
    if not isinstance(left, Column | Attribute):
        raise PredicateRefused(f"{left!s} and {right!s} are both values; compare a column or user.NAME")
    if isinstance(left, Attribute):
        if isinstance(right, Column):
            left, right = right, left
        elif isinstance(right, Attribute):
            raise PredicateRefused("two attributes cannot be compared; compare each with a column or a value")
        elif not isinstance(right, str):
            raise PredicateRefused(f"user.{left.name} is text; write '{right}' in single quotes")
    if (isinstance(left, Attribute) or isinstance(right, Attribute)) and sign not in {"=", "!="}:
        raise PredicateRefused(f"user.NAME is a set of texts and knows no {sign}; write = or !=")
    return Comparison(left, sign, right)
