"""How a refused cell is told: what is wrong, the line with a caret under the place, what was perhaps meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches

from workbench.errors import QueryRefused, WorkbenchError
from workbench.querying import Catalog, Statement
from workbench.querying.scanner import scan

# SQLSTATE (postgresql.org, "Error Codes"), and conditions of Spark, which makes its own proposals for columns.
MISSING = {"42P01": "table", "3F000": "table", "42703": "column", "TABLE_OR_VIEW_NOT_FOUND": "table"}
LONGEST_LINE = 160
PROPOSALS = 3
CLOSE = 0.75  # of 1, as difflib counts


def located(error: QueryRefused, text: str, statements: Sequence[Statement], first_line: int = 1) -> list[str]:
    """The lines to show: which statement of several, and where in the cell, in which *text* begins at *first_line*."""
    lines = error.message.splitlines()
    if len(statements) > 1:
        lines[0] = f"statement {error.statement + 1} of {len(statements)}: {lines[0]}"
    if error.position is not None and statements:
        lines += _pointed(text, min(statements[error.statement].start + error.position, len(text)), first_line)
    return lines


def proposals(error: QueryRefused, text: str, read: Callable[[], Catalog], dialect: str) -> list[str]:
    """Names that are close to one that is not there; the catalog is read only when one is missing."""
    kind, position = MISSING.get(error.code), error.position
    if kind is None or position is None or "Perhaps you meant" in error.message or "Did you mean" in error.message:
        return []
    written, catalog = _name_at(text, position, dialect), read()
    if kind == "table":
        known = dict(_tables(catalog))
        qualified = written.lower() if "." in written else ""
        near = get_close_matches(qualified, known, n=PROPOSALS, cutoff=CLOSE) if qualified else []
        if not near:  # perhaps only the schema was forgotten, or is another one
            bare = {name.rpartition(".")[2]: name for name in known}
            last = written.rpartition(".")[2].lower()
            near = [bare[name] for name in get_close_matches(last, bare, n=PROPOSALS, cutoff=CLOSE)]
        return [known[name] for name in near]
    columns = {name.lower(): name for tables in catalog.tables.values() for each in tables.values() for name in each}
    return [
        columns[name]
        for name in get_close_matches(written.rpartition(".")[2].lower(), columns, n=PROPOSALS, cutoff=CLOSE)
    ]


def without_traceback(error: BaseException, lines: Sequence[str]) -> BaseException:
    """The same error, shown by IPython as these lines and nothing else."""
    # IPython asks the error itself (IPython.core.interactiveshell, `showtraceback`).
    error.__dict__["_render_traceback_"] = lambda: list(lines)
    return error


def told(error: WorkbenchError) -> list[str]:
    """The lines of an error without a place."""
    return [*error.message.splitlines(), *([f"Remedy: {error.remedy}"] if error.remedy else [])]


def _pointed(text: str, position: int, first_line: int) -> list[str]:
    before = text[:position]
    number, column = before.count("\n") + 1, position - (before.rfind("\n") + 1)
    line = text.splitlines()[number - 1] if text else ""
    start = max(0, column - LONGEST_LINE // 2)
    head = f"line {number - 1 + first_line}: "
    return [f"{head}{line[start : start + LONGEST_LINE]}", f"{' ' * (len(head) + column - start)}^"]


def _name_at(text: str, position: int, dialect: str) -> str:
    """The name, with its dots, that begins at a place."""
    parts: list[str] = []
    for token in scan(text[position:], dialect):
        if parts and token.start != len("".join(parts)):
            break
        if token.kind not in ("word", "quoted") and token.text != ".":
            break
        parts.append(token.text)
    return "".join(parts).replace('"', "").replace("`", "")


def _tables(catalog: Catalog) -> Iterator[tuple[str, str]]:
    for schema, tables in catalog.tables.items():
        for table in tables:
            name = table if schema in catalog.searched else f"{schema}.{table}"
            yield name.lower(), name
