"""What may stand at the cursor: tables behind FROM, columns of the statement's tables, a notebook's variables behind a colon."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from workbench.cells.sql.options import OPTIONS
from workbench.querying import Catalog, Types
from workbench.querying.scanner import Token, scan

WORDS = """ALL ALTER AND AS ASC BETWEEN BY CASE CAST CREATE CROSS DELETE DESC DISTINCT DROP ELSE END EXCEPT EXISTS
EXPLAIN FALSE FILTER FIRST FROM FULL GROUP HAVING IN INNER INSERT INTERSECT INTO IS JOIN LAST LATERAL LEFT LIKE LIMIT NOT
NULL NULLS OFFSET ON OR ORDER OUTER OVER PARTITION REPLACE RIGHT SELECT SET TABLE THEN TRUE UNION UPDATE USING VALUES
VIEW WHEN WHERE WINDOW WITH avg coalesce count max min sum"""
KEYWORDS = tuple(WORDS.split())
BEFORE_TABLE = {"FROM", "JOIN", "UPDATE", "INTO", "TABLE", "DESCRIBE", "VIEW", "USING"}
NO_ALIAS = {word for word in KEYWORDS if word.isupper()} | {"NATURAL", "TABLESAMPLE", "FOR", "RETURNING"}
OPEN_KINDS = {"string", "comment", "dollar"}
FRAGMENT = re.compile(r"""(?P<path>(?:(?:[^\W\d][\w$]*|"[^"\n]*"|`[^`\n]*`)\.)*)(?P<last>["`]?[\w$]*)\Z""")
PLAIN = re.compile(r"[a-z_][a-z0-9_$]*\Z")
OPTION = re.compile(r"(?:\A|\s)(--?[a-z]*)\Z")


@dataclass(frozen=True)
class Candidate:
    """A proposal; `kind` is shown beside it."""

    text: str
    kind: str


@dataclass(frozen=True)
class Source:
    """A table that a statement names, by what it is called there."""

    alias: str
    path: tuple[str, ...]


def complete_options(line: str) -> tuple[str, list[Candidate]]:
    """What may stand at the end of the line behind `%%sql`, and the characters that it replaces."""
    match = OPTION.search(line)
    if match is None:
        return "", []
    typed = match[1]
    return typed, [Candidate(f"--{each}", "option") for each in OPTIONS if f"--{each}".startswith(typed)]


def complete(
    text: str, cursor: int, catalog: Catalog, dialect: str, variables: Iterable[str] = ()
) -> tuple[str, list[Candidate]]:
    """Proposals for the place *cursor* of a text of SQL, and the characters before it that they replace."""
    before = list(scan(text[:cursor], dialect))
    if before and before[-1].end == cursor and _is_open(before[-1]):
        return "", []
    match = FRAGMENT.search(text, 0, cursor)
    assert match is not None, "it may be empty"
    typed = match["last"]
    start = match.start()
    if start and text[start - 1] == ":" and text[start - 2 : start] != "::":
        return typed, _matching(typed, (Candidate(name, "variable") for name in sorted(variables)))
    statement = _statement_at(list(scan(text, dialect)), cursor)
    sources = list(_sources(statement))
    path = [_plain(part) for part in match["path"].split(".")[:-1]]
    code = [token for token in before if token.is_code and token.end <= start]
    if path:
        found = _below(path, sources, catalog)
    elif _wants_table(code, len(code)):
        found = [*_tables(catalog), *_named_queries(statement)]
    else:
        found = [*_columns(sources, catalog), *_aliases(sources), *_keywords(typed), *_tables(catalog)]
    return typed, _matching(typed, found, dialect)


def fallback(text: str) -> tuple[str, list[Candidate]]:
    """What is proposed where nothing fits: IPython would propose Python's names and its magics.

    Args:
        text: the cell up to the cursor.
    """
    typed = re.split(r"\W", text)[-1]
    return typed, [Candidate(typed, "text")] if typed else [Candidate(word, "keyword") for word in KEYWORDS]


def _below(path: Sequence[str], sources: Sequence[Source], catalog: Catalog) -> list[Candidate]:
    """What may follow `alias.`, `table.`, `schema.` or `schema.table.`."""
    for source in sources:
        if len(path) == 1 and source.alias.lower() == path[0].lower() and (types := _types(source.path, catalog)):
            return [Candidate(name, kind) for name, kind in types.items()]
    if columns := _types(tuple(path), catalog):
        return [Candidate(name, kind) for name, kind in columns.items()]
    return [Candidate(name, "table") for name in catalog.tables.get(path[-1], {})]


def _types(path: tuple[str, ...], catalog: Catalog) -> Types:
    """The columns of a table, by its name as a statement writes it."""
    schemas = {name.lower() for name in path[-2:-1] or catalog.searched}
    for schema, tables in catalog.tables.items():
        for name, types in tables.items() if schema.lower() in schemas else ():
            if name.lower() == path[-1].lower():
                return types
    return {}


def _tables(catalog: Catalog) -> Iterator[Candidate]:
    for schema, tables in catalog.tables.items():
        if schema in catalog.searched:
            yield from (Candidate(name, "table") for name in tables)
    for schema in catalog.tables:
        yield Candidate(schema, "schema")


def _columns(sources: Sequence[Source], catalog: Catalog) -> Iterator[Candidate]:
    for source in sources:
        yield from (Candidate(name, kind) for name, kind in _types(source.path, catalog).items())


def _aliases(sources: Sequence[Source]) -> Iterator[Candidate]:
    yield from (Candidate(source.alias, "table") for source in sources)


def _keywords(typed: str) -> Iterator[Candidate]:
    """In the case that the person types."""
    if not typed:
        return
    for word in KEYWORDS:
        yield Candidate(word.lower() if typed.islower() else word.upper() if word.isupper() else word, "keyword")


def _named_queries(statement: Sequence[Token]) -> Iterator[Candidate]:
    """The names before `AS (`."""
    for name, word, mark in zip(statement, statement[1:], statement[2:], strict=False):
        if name.kind in ("word", "quoted") and word.is_word("AS") and mark.text == "(":
            yield Candidate(_plain(name.text), "table")


def _matching(typed: str, found: Iterable[Candidate], dialect: str = "") -> list[Candidate]:
    """Those that begin with what is typed, in whatever case; names that need quotes get them."""
    wanted = typed.lstrip('"`').lower()
    chosen: dict[str, Candidate] = {}
    for each in found:
        if each.text.lower().startswith(wanted):
            text = each.text if each.kind in ("keyword", "variable") else _quoted(each.text, typed, dialect)
            chosen.setdefault(text, Candidate(text, each.kind))
    return list(chosen.values())


def _quoted(name: str, typed: str, dialect: str) -> str:
    mark = "`" if dialect == "spark" else '"'
    is_plain = PLAIN.match(name if dialect != "spark" else name.lower())
    if is_plain and not typed.startswith(mark):
        return name
    return f"{mark}{name.replace(mark, mark * 2)}{mark}"


def _plain(name: str) -> str:
    return name[1:-1] if name[:1] in ('"', "`") and name[-1:] == name[:1] and len(name) > 1 else name


def _is_open(token: Token) -> bool:
    """Whether a text that ends with this token ends inside of it."""
    if token.kind not in OPEN_KINDS:
        return False
    if token.text.startswith("--"):
        return True
    if token.text.startswith("/*"):
        return not token.text.endswith("*/")
    if token.kind == "dollar":
        mark = token.text[: token.text.index("$", 1) + 1]
        return len(token.text) < 2 * len(mark) or not token.text.endswith(mark)
    body = token.text.lstrip("eErR")
    return len(body) < 2 or body[-1] != body[0]


def _statement_at(tokens: Sequence[Token], cursor: int) -> list[Token]:
    """The code of the statement that a place belongs to."""
    found: list[Token] = []
    for token in tokens:
        if token.text == ";" and token.kind == "mark":
            if token.end > cursor:
                break
            found = []
        elif token.is_code:
            found.append(token)
    return found


def _wants_table(code: Sequence[Token], end: int) -> bool:
    """Whether a table stands behind the tokens before *end*: FROM, JOIN, or a comma of a FROM without a WHERE."""
    if not end:
        return False
    if code[end - 1].kind == "word":
        return code[end - 1].text.upper() in BEFORE_TABLE
    if code[end - 1].text != ",":
        return False
    depth = 0
    for index in range(end - 2, -1, -1):
        token = code[index]
        depth += (token.text == ")") - (token.text == "(")
        if depth < 0:
            return False
        if depth == 0 and token.kind == "word" and token.text.upper() in NO_ALIAS - {"AS", "LATERAL"}:
            return token.is_word("FROM")
    return False


def _sources(code: Sequence[Token]) -> Iterator[Source]:
    """The tables that a statement names: behind FROM and its like, and behind the commas that follow."""
    index = 0
    while index < len(code):
        index += 1
        is_table = _wants_table(code, index)
        if not is_table:
            continue
        path: list[str] = []
        while index < len(code) and code[index].kind in ("word", "quoted"):
            path.append(_plain(code[index].text))
            index += 1
            if index >= len(code) or code[index].text != ".":
                break
            index += 1
        if not path or path[-1].upper() in NO_ALIAS:
            continue
        if index < len(code) and code[index].is_word("AS"):
            index += 1
        alias = path[-1]
        if index < len(code) and code[index].kind in ("word", "quoted") and code[index].text.upper() not in NO_ALIAS:
            alias = _plain(code[index].text)
            index += 1
        yield Source(alias, tuple(path))
