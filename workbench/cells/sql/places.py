"""Where in a notebook's cell somebody is typing SQL."""

from __future__ import annotations

import re
from dataclasses import dataclass

from workbench.cells.sql.options import begin_of_sql

CELL = re.compile(r"\s*%%(?P<name>sparksql|sql)(?=\s|\Z)")
LINE = re.compile(r"(?:[^\n#'\"]*=)?\s*%(?P<name>sparksql|sql)(?=\s)")
TYPED_OPTION = re.compile(r"(?:\A|\s)--?[a-z]*\Z")


@dataclass(frozen=True, kw_only=True)
class Place:
    """A text of SQL, or of options, and the cursor in it."""

    text: str
    cursor: int
    spark: bool
    is_options: bool = False


def find_place(cell: str, line: int, column: int) -> Place | None:
    """The place of a cursor, or None where there is no SQL.

    Args:
        cell: the whole cell.
        line: the cursor's line, from 0.
        column: the cursor's place in that line.
    """
    lines = cell.split("\n")
    match = CELL.match(cell)
    if match:
        text, cursor = cell[match.end() :], sum(len(each) + 1 for each in lines[:line]) + column - match.end()
    else:
        match = LINE.match(lines[line])
        if match is None:
            return None
        text, cursor = lines[line][match.end() :], column - match.end()
    if cursor < 1:
        return None
    first = text.partition("\n")[0]
    begin = begin_of_sql(first)
    spark = match["name"] == "sparksql" or "--spark" in first[:begin].split()
    if cursor <= len(first) and (cursor < begin or _is_option(first[:cursor])):
        return Place(text=first[:cursor], cursor=cursor, spark=spark, is_options=True)
    return Place(text=text[begin:], cursor=cursor - begin, spark=spark)


def _is_option(line: str) -> bool:
    """Whether an option is being typed at the end, and nothing but options stands before it."""
    match = TYPED_OPTION.search(line)
    return match is not None and not line[begin_of_sql(line[: match.start()]) : match.start()].strip()
