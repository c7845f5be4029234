"""A page of rows as HTML and as plain text. Whatever a value holds, it is shown and does nothing."""

from __future__ import annotations

import html
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from workbench.querying import Column

Row = Sequence[Any]
LONGEST_SHOWN = 120  # characters; the whole is shown on hover
LONGEST_HOVER = 4000
LONGEST_IN_TEXT = 40
NULL = "null"
# Not to be typeset as formulas: of MathJax 2 and 3.
CLASSES = "dataframe tex2jax_ignore mathjax_ignore"
NULL_STYLE = "opacity:.45;font-style:italic"


def page_html(columns: Sequence[Column], rows: Sequence[Row], caption: str, first: int = 1) -> str:
    """A table of rows, the first of which has the number *first*, above a caption."""
    head = "".join(_head(column) for column in columns)
    body = "".join(
        f'<tr><th style="font-weight:normal;opacity:.5">{number:,}</th>{"".join(map(_cell, columns, row))}</tr>'
        for number, row in enumerate(rows, first)
    )
    return (
        f'<div class="workbench-sql {CLASSES}" style="overflow-x:auto"><table class="{CLASSES}">'
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>"
        f'<div style="opacity:.7">{html.escape(caption)}</div></div>'
    )


def page_text(columns: Sequence[Column], rows: Sequence[Row], caption: str) -> str:
    """The same in characters of one width."""
    table = [[_short(column.name, LONGEST_IN_TEXT) for column in columns]]
    table += [[_short(shown(value).replace("\n", "↵"), LONGEST_IN_TEXT) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = (
        "  ".join(
            text.rjust(width) if column.is_number else text.ljust(width)
            for text, width, column in zip(row, widths, columns, strict=True)
        ).rstrip()
        for row in table
    )
    return "\n".join([*lines, caption])


def shown(value: Any) -> str:
    """A value in words: what a person would write for it."""
    match value:
        case None:
            text = NULL
        case bool():
            text = str(value).lower()
        case Decimal() if value.is_finite() and abs(value.adjusted()) < LONGEST_IN_TEXT:
            text = format(value, "f")
        case bytes() | bytearray() | memoryview():
            text = f"0x{bytes(value[: LONGEST_HOVER // 2]).hex()}"
        case datetime():
            text = value.isoformat(sep=" ").replace("+00:00", "Z")
        case _:
            text = str(value)
    return text


def _head(column: Column) -> str:
    kind = _short(column.type, LONGEST_IN_TEXT)
    return (
        f'<th style="text-align:{_side(column)}">{html.escape(_short(column.name, LONGEST_SHOWN))}'
        f'<br><span style="font-weight:normal;opacity:.55;font-size:90%">{html.escape(kind)}</span></th>'
    )


def _cell(column: Column, value: Any) -> str:
    if value is None:
        return f'<td style="text-align:{_side(column)}"><span style="{NULL_STYLE}">{NULL}</span></td>'
    text = shown(value)
    whole = f' title="{html.escape(text[:LONGEST_HOVER])}"' if len(text) > LONGEST_SHOWN else ""
    return f'<td style="text-align:{_side(column)}"{whole}>{html.escape(_short(text, LONGEST_SHOWN))}</td>'


def _side(column: Column) -> str:
    return "right" if column.is_number else "left"


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
