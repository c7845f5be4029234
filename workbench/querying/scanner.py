"""Statements and their parameters in a text of SQL.

A scanner, because a colon or a semicolon in a string, a comment or a quoted name means nothing. It knows
what PostgreSQL (postgresql.org, "Lexical Structure"), DuckDB and Spark (SqlBaseLexer.g4) do not share, and
takes every text, unfinished ones too: completion sees hardly any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from workbench.querying import Parameter, Statement

READING = {"SELECT", "WITH", "VALUES", "TABLE"}
CHANGING = {"INSERT", "UPDATE", "DELETE", "MERGE", "INTO"}

# Each may lack its end, which is the end of the text then.
SHARED = {
    "space": r"\s+",
    "block": r"/\*",
    "dollar": r"\$(?P<tag>(?:[^\W\d]\w*)?)\$(?:(?s:.*?)\$(?P=tag)\$|(?s:.*))",
}
POSTGRESQL = {
    **SHARED,
    "comment": r"--[^\n]*",
    "string": r"[eE]'(?:[^'\\]|\\(?s:.)|'')*(?:'|\\?\Z)|'(?:[^']|'')*(?:'|\Z)",
    "quoted": r'"(?:[^"]|"")*(?:"|\Z)',
    "word": r"[^\W\d][\w$]*",
}
SPARK = {
    **SHARED,
    "comment": r"--(?:\\\n|[^\n])*",
    "string": r"""[rR]'[^']*(?:'|\Z)|[rR]"[^"]*(?:"|\Z)|'(?:[^'\\]|\\(?s:.))*(?:'|\\?\Z)|"(?:[^"\\]|\\(?s:.))*(?:"|\\?\Z)""",
    "quoted": r"`(?:[^`]|``)*(?:`|\Z)",
    "word": r"[^\W\d]\w*",
}
REST = {"number": r"\d[\w.]*", "cast": r"::|:=", "parameter": r":[^\W\d]\w*", "mark": r"(?s:.)"}
BORDER = re.compile(r"/\*|\*/")
# A colon right behind one of these is a slice, a path or a struct's field: a[1:n], v:path, {'a':b}.
BEFORE_NO_PARAMETER = {"word", "number", "string", "quoted", "parameter", "dollar"}


@dataclass(frozen=True)
class Token:
    """A piece of a text: `kind` is one of the keys above, without `space`."""

    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        """Where the next one may begin."""
        return self.start + len(self.text)

    @property
    def is_code(self) -> bool:
        """Whether it is no comment."""
        return self.kind != "comment"

    def is_word(self, *words: str) -> bool:
        """Whether it is one of these words, given in capitals."""
        return self.kind == "word" and self.text.upper() in words


def scan(text: str, dialect: str) -> Iterator[Token]:
    """The tokens of *text*, comments included; whatever is between them is space."""
    position, before, pattern = 0, None, _pattern(dialect)
    while position < len(text):
        match = pattern.match(text, position)
        assert match is not None, "the last pattern takes any character"
        kind, end = str(match.lastgroup), match.end()
        if kind == "tag":
            kind = "dollar"
        if kind == "block":
            kind, end = "comment", _end_of_block(text, position)
        if kind == "parameter" and before and _binds_to(before, position):
            kind, end = "mark", position + 1
        if kind != "space":
            before = Token(kind, text[position:end], position)
            yield before
        position = end


def parse_statements(text: str, dialect: str) -> list[Statement]:
    """The statements of a cell, in their order, without those that are empty."""
    found, depth = [list[Token]()], 0
    for token in scan(text, dialect):
        if not token.is_code:
            continue
        depth = _depth(depth, found[-1], token, dialect)
        if token.kind == "mark" and token.text == ";" and not depth:
            found.append([])
        else:
            found[-1].append(token)
    return [_statement(text, each) for each in found if each]


@cache
def _pattern(dialect: str) -> re.Pattern[str]:
    kinds = (SPARK if dialect == "spark" else POSTGRESQL) | REST
    return re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in kinds.items()))


def _end_of_block(text: str, start: int) -> int:
    """Comments may hold comments, in all dialects."""
    depth, end = 0, start
    while border := BORDER.search(text, end):
        end = border.end()
        depth += 1 if border.group() == "/*" else -1
        if not depth:
            return end
    return len(text)


def _binds_to(before: Token, position: int) -> bool:
    if before.end != position:
        return False
    return before.kind in BEFORE_NO_PARAMETER or before.text in {")", "]", ":", "\\"}


def _depth(depth: int, before: Sequence[Token], token: Token, dialect: str) -> int:
    """How many blocks are open, whose semicolons do not end the statement."""
    if dialect == "spark":
        # A script runs to the end of the cell.
        return 1 if depth or (not before and token.is_word("BEGIN")) else 0
    if token.is_word("ATOMIC") and before and before[-1].is_word("BEGIN"):
        return depth + 1
    if depth and token.is_word("CASE"):
        return depth + 1
    return depth - 1 if depth and token.is_word("END") else depth


def _statement(text: str, code: Sequence[Token]) -> Statement:
    start, end = code[0].start, code[-1].end
    words = [token.text.upper() for token in code if token.kind == "word"]
    verb = words[0] if words else ""
    return Statement(
        text=text[start:end],
        start=start,
        verb=verb,
        reads=verb in READING and CHANGING.isdisjoint(words),
        parameters=tuple(
            Parameter(token.text[1:], token.start - start, token.end - start)
            for token in code
            if token.kind == "parameter"
        ),
    )
