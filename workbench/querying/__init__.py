"""What passes between a cell of SQL and whatever answers it: statements with bound values go down, rows come up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Types = Mapping[str, str]  #: of columns, by name
Tables = Mapping[str, Mapping[str, Types]]  #: columns by table by schema


@dataclass(frozen=True)
class Parameter:
    """A `:name` of a statement, from `start` to before `end`."""

    name: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement of a cell."""

    text: str
    start: int = 0  #: where it begins in the cell
    verb: str = ""  #: its first word, in capitals
    reads: bool = False  #: surely gives rows and changes nothing
    parameters: tuple[Parameter, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its parameters, each once, in their order."""
        return tuple(dict.fromkeys(each.name for each in self.parameters))


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of an answer; `type` is the engine's own word."""

    name: str
    type: str
    is_number: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a statement gave: rows, or how many rows it has changed."""

    columns: tuple[Column, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = field(default=(), repr=False)
    is_cut: bool = False  #: whether there are more rows than were fetched
    changed: int | None = None  #: None when the engine does not say


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """The tables that an engine has."""

    tables: Tables = field(default_factory=dict)
    searched: tuple[str, ...] = ()  #: schemas whose tables need no schema before them
