"""What a role shows of a table that is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from workbench.security.policies.model import Constant, Partial
from workbench.security.policies.predicates import Always, Predicate
from workbench.security.policies.reading import Policies

CLEAR = "clear"
EVERYTHING = Always(True)

Level = str | Partial | Constant  # CLEAR or a mask


@dataclass(frozen=True)
class LiveTable:
    """A table as the warehouse has it."""

    name: str  #: schema.table
    owner: str
    columns: Mapping[str, str]  #: types, in the words of the warehouse
    #: Types that write the values of columns, where those are others: that of a domain, `text` of an enumeration.
    written_as: Mapping[str, str] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[str, str]:
        """Schema and table."""
        schema, _, table = self.name.partition(".")
        return schema, table


@dataclass(frozen=True)
class Entry:
    """What one role of the file says of a table, for a role that holds it."""

    levels: Mapping[str, Level]
    rows: Predicate


@dataclass(frozen=True)
class Grant:
    """What a role shows of a table."""

    role: str
    table: str
    levels: Mapping[str, Level]  #: of each column that is shown
    rows: Predicate
    denied_rows: tuple[Predicate, ...] = ()
    denied_columns: frozenset[str] = frozenset()
    entries: tuple[Entry, ...] = field(default=(), repr=False)

    @property
    def clear(self) -> tuple[str, ...]:
        """Columns in clear."""
        return tuple(name for name, level in self.levels.items() if level == CLEAR)

    @property
    def has_masks(self) -> bool:
        """Whether some column is shown masked."""
        return len(self.clear) < len(self.levels)


@dataclass(frozen=True)
class Resolved:
    """Policies that fit the tables."""

    policies: Policies
    tables: Mapping[str, LiveTable]  #: those that some role names
    grants: tuple[Grant, ...]

    def of_table(self, table: str) -> tuple[Grant, ...]:
        """The grants of a table, those with nothing to show but a denial too."""
        return tuple(each for each in self.grants if each.table == table)

    def has_masks(self, table: str) -> bool:
        """Whether the table has a view."""
        return any(each.has_masks for each in self.of_table(table))


def rank(level: Level | None) -> tuple[int, int]:
    """How much a level shows; of two, the higher one is in force."""
    match level:
        case None:
            return (0, 0)
        case "null":
            return (1, 0)
        case Constant():
            return (2, 0)
        case "hash":
            return (3, 0)
        case Partial(partial=kept):
            return (4, kept)
        case _:
            return (5, 0)
