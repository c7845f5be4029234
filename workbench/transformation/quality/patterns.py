"""Regular expressions that mean the same in Java (Spark), POSIX (PostgreSQL), RE2 (DuckDB) and Python.

The four differ in classes, anchors and options; what they have in common is accepted, the rest is refused.
Sources: java.util.regex.Pattern; postgresql.org, "POSIX Regular Expressions"; github.com/google/re2, "Syntax".
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MOST_REPEATS = 255  # of PostgreSQL
# ASCII in all four: PostgreSQL's own depend on the locale, Python's on Unicode.
CLASSES = {"d": "0-9", "w": "A-Za-z0-9_", "s": " \\t\\n\\r\\f\\v"}
CONTROLS = "tnrfv"
TOKEN = re.compile(
    r"""
      \\(?P<escaped>.)
    | \[(?P<negated>\^?)(?P<members>(?:\\.|[^\]\\])+)\]
    | (?P<group>\((?:\?:)?)(?!\?)
    | (?P<repeat>\{\d+(?:,\d*)?\}|[*+?])(?P<lazy>\??)(?P<again>[*+?{]?)
    | (?P<plain>[^\\\[\](){}*+?^$])
    | (?P<close>\))
    """,
    re.VERBOSE | re.DOTALL,
)


def portable(pattern: str) -> str:
    r"""*pattern* in what all four have in common, without anchors: the whole value has to match.

    Args:
        pattern: characters, `.`, `[…]`, `(…)`, `(?:…)`, `|`, `* + ? {m,n}`, `\d \w \s` (ASCII), and
            punctuation after a backslash. A dot is any character, a line's end too. `^` in front and `$`
            at the end may be there and change nothing.

    Raises:
        ValueError: saying what is not common to all.
    """
    bare = pattern.removeprefix("^")
    if bare.endswith("$") and not re.search(r"(?<!\\)(?:\\\\)*\\\$$", bare):
        bare = bare[:-1]
    found = "".join(_tokens(bare))
    try:
        re.compile(found)
    except re.error as error:
        raise ValueError(str(error)) from None
    return found


def _tokens(pattern: str) -> Iterator[str]:
    position = 0
    while position < len(pattern):
        token = TOKEN.match(pattern, position)
        if token is None:
            raise ValueError(f"{pattern[position : position + 3]!r} is not common to all engines")
        yield _translated(token)
        position = token.end()


def _translated(token: re.Match[str]) -> str:
    if token["escaped"]:
        return _escape(token["escaped"], inside=False)
    if token["members"]:
        return f"[{token['negated']}{_members(token['members'])}]"
    if token["repeat"]:
        numbers = [int(each) for each in re.findall(r"\d+", token["repeat"])]
        if token["again"]:
            raise ValueError(f"{token[0]!r} repeats a repetition")
        if max(numbers, default=0) > MOST_REPEATS:
            raise ValueError(f"{token['repeat']} repeats more than {MOST_REPEATS} times")
    return token[0]


def _members(members: str) -> str:
    if re.search(r"(?<!\\)\[|&&|--|~~|\|\|", members):
        raise ValueError(f"[{members}] has '[' or a doubled '&', '-', '~' or '|'; write a backslash before them")
    return re.sub(r"\\(.)", lambda found: _escape(found[1], inside=True), members, flags=re.DOTALL)


def _escape(letter: str, *, inside: bool) -> str:
    if letter in CLASSES:
        return CLASSES[letter] if inside else f"[{CLASSES[letter]}]"
    if letter.isalnum() and letter not in CONTROLS:
        raise ValueError(f"\\{letter} is not common to all engines")
    if not (letter.isascii() and letter.isprintable()):
        raise ValueError("a backslash stands before a character that needs none")
    return f"\\{letter}"
