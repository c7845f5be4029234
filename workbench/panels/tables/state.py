"""What the panel of the warehouse shows, as values."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.cells.sql.result import SqlResult
from workbench.warehouse.looking import TableLook


@dataclass(frozen=True, kw_only=True)
class WarehouseState:
    """The tables; one of them looked at, and the answer of a query, when somebody has asked for those."""

    tables: tuple[str, ...] = ()  #: schema.table, that this account may see
    look: TableLook | None = None
    result: SqlResult | None = None
    problems: tuple[str, ...] = ()  #: in words
