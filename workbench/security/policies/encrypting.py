"""Which columns are encrypted by subject: those that a table names, and those of tags that say so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from workbench.documents import Place
from workbench.security.policies.model import PoliciesFile, TableData


@dataclass(frozen=True)
class _Asked:
    """Columns of one table that one place of the file wants encrypted."""

    place: Place
    kind: str  #: of subject
    columns: tuple[str, ...]


def with_tagged(file: PoliciesFile) -> PoliciesFile:
    """The file with the columns of tags beside those that tables name themselves, each once."""
    data = {table: each.model_copy(update={"encrypt": _encrypted(file, table)}) for table, each in file.data.items()}
    return file.model_copy(update={"data": data})


def encryption_contradictions(file: PoliciesFile) -> Iterator[tuple[Place, str]]:
    """What cannot be encrypted as the file says, each with its place."""
    for name, tag in file.tags.items():
        if tag.encrypt is None:
            continue
        for table in dict.fromkeys(path.rpartition(".")[0] for path in tag.columns):
            if table not in file.data or tag.encrypt not in file.data[table].subjects:
                yield (
                    ("tags", name, "encrypt"),
                    f"{table} does not say whose its rows are; write `subjects: {{{tag.encrypt}: COLUMN}}` of it in `data`.",
                )
    for table, data in file.data.items():
        for kind, columns in data.encrypt.items():
            if kind not in data.subjects:
                known = f"write one of {', '.join(data.subjects)}" if data.subjects else "write it there"
                yield (
                    ("data", table, "encrypt", kind),
                    f"{kind} is no kind of `subjects`, which says whose key it is; {known}.",
                )
            if not columns:
                yield ("data", table, "encrypt", kind), "no column is named; write a list of columns."
        yield from _column_contradictions(data, _asked(file, table))


def _column_contradictions(data: TableData, asked: list[_Asked]) -> Iterator[tuple[Place, str]]:
    seen: dict[str, str] = {}
    for each in asked:
        for column in each.columns:
            if column in data.subjects.values():
                yield each.place, f"{column} says whose row it is, so it stays in clear; name other columns."
            elif data.keep is not None and column == data.keep.by:
                yield each.place, f"{column} says how old a row is, so it stays in clear; name other columns."
            elif seen.setdefault(column, each.kind) != each.kind:
                yield each.place, f"{column} is encrypted for {seen[column]} already; take it out of one of both."


def _asked(file: PoliciesFile, table: str) -> list[_Asked]:
    own = [_Asked(("data", table, "encrypt", kind), kind, each) for kind, each in file.data[table].encrypt.items()]
    tagged = [
        _Asked(("tags", name, "encrypt"), tag.encrypt, columns)
        for name, tag in file.tags.items()
        if tag.encrypt is not None and (columns := _columns_of(table, tag.columns))
    ]
    return own + tagged


def _encrypted(file: PoliciesFile, table: str) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = {}
    for each in _asked(file, table):
        found.setdefault(each.kind, {}).update(dict.fromkeys(each.columns))
    return {kind: tuple(columns) for kind, columns in found.items()}


def _columns_of(table: str, paths: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(column for path in paths for found, _, column in [path.rpartition(".")] if found == table)
