"""What the server of a user hears of the statements that its kernels have sent to the warehouse, for the audit log.

It is no statement, whose values may be somebody's: its SHA-256, its first word, the tables that it names and how many
rows came back. Outside of a user's server nobody is told.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from workbench.observability import datagrams
from workbench.querying.scanner import CHANGING, READING, Token, scan
from workbench.runtime.activity import FOLDER_VARIABLE

SOCKET = "statements"  #: in the private folder of the server
MOST_BYTES = 2_000  #: of a message
LOOKED_AT = 200  #: tokens of a statement: it takes less than a millisecond
SEARCHED = 500_000  #: characters of the rest; what is longer is taken for one that changes something
LONGEST_WORD = 20
MOST_NAMES = 256  #: characters of the names of tables
BEFORE_TABLE = ("FROM", "JOIN", "INTO", "UPDATE", "TABLE")
BETWEEN = ("IF", "NOT", "EXISTS", "ONLY")
NO_TABLE = {"SELECT", "LATERAL", "SET", "VALUES", "OF", "SKIP", "NOWAIT"}

logger = logging.getLogger(__name__)
What = Literal["query", "write"]


def tell_statement(text: str, rows: int | None = None) -> None:
    """A statement of the warehouse has worked.

    Args:
        text: of it, or of several.
        rows: that came back, of a statement that reads.
    """
    if (address := _address()) is None:
        return
    try:
        tokens = list(itertools.islice(scan(text, "postgresql"), LOOKED_AT))
        code = [each for each in tokens if each.is_code]
        reads = _reads(code, text[tokens[-1].end :] if tokens else "")
        digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
        verb = next((each.text.upper()[:LONGEST_WORD] for each in code if each.kind == "word"), "")
        tables = list(dict.fromkeys(_tables(code)))
        _send(address, "query" if reads else "write", tables, rows if reads else None, sha256=digest, verb=verb)
    except Exception:
        # Whatever it was, the statement has worked.
        logger.debug("the statement could not be told", exc_info=True)


def tell_table(what: What, table: str, rows: int | None = None) -> None:
    """A table of the warehouse was read or written, as a whole or in part."""
    if (address := _address()) is not None:
        _send(address, what, [table], rows)


def _address() -> Path | None:
    runtime = os.environ.get(FOLDER_VARIABLE, "")
    address = Path(runtime, SOCKET)
    try:
        return address if runtime and address.exists() else None
    except OSError:
        return None


def _send(address: Path, what: What, tables: Sequence[str], rows: int | None, **more: str) -> None:
    told = {"action": what, "tables": ",".join(tables)[:MOST_NAMES], "rows": rows, **more}
    # Half of a surrogate pair is no UTF-8, and as backslashes it is JSON.
    datagrams.send(address, json.dumps(told, ensure_ascii=False).encode("utf-8", "backslashreplace"))


def _reads(code: Sequence[Token], rest: str) -> bool:
    """Whether it is one statement that surely changes nothing, by its first tokens and a look at the rest."""
    words = {each.text.upper() for each in code if each.kind == "word"}
    is_one = not any(each.text == ";" for each in code[:-1])
    is_known = len(rest) < SEARCHED and not _may_change(rest)
    return bool(code) and code[0].is_word(*READING) and is_one and is_known and CHANGING.isdisjoint(words)


def _may_change(rest: str) -> bool:
    # To find a text is fast where to scan words is not.
    upper = rest.rstrip("; \n").upper()
    return ";" in upper or any(word in upper and re.search(rf"\b{word}\b", upper) for word in CHANGING)


def _tables(code: Sequence[Token]) -> Iterator[str]:
    """The names behind FROM and its like, as they are written; of those behind commas none."""
    for index, token in enumerate(code):
        if not token.is_word(*BEFORE_TABLE):
            continue
        path = ""
        behind = itertools.dropwhile(lambda each: each.is_word(*BETWEEN), code[index + 1 : index + 9])
        for part in itertools.islice(behind, 5):  # catalog . schema . table
            is_name = part.kind in {"word", "quoted"}
            if part.text != "." if path and path[-1:] != "." else not is_name:
                break
            path += part.text
        if path and path.upper() not in NO_TABLE:
            yield path
