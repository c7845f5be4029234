"""A table of the warehouse beside what is expected of it: for commands and notebooks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from workbench.settings import Settings

if TYPE_CHECKING:
    from workbench.transformation.quality.expectations import Declaration
    from workbench.transformation.quality.result import Result


def check_table(settings: Settings, declaration: Declaration, *, record: bool = True) -> Result:
    """Compare a table of the warehouse with what is expected of it.

    Args:
        settings: the warehouse.
        declaration: what is expected.
        record: whether to write the result into `workbench.quality_results`.

    Raises:
        SettingsError: when a column is not there or of another type.
        WarehouseError: when the warehouse refuses, or there is no such table.
    """
    from workbench.loading import Target
    from workbench.transformation.quality.checks import check
    from workbench.warehouse.dialects import make_warehouse
    from workbench.warehouse.quality import table_engine
    from workbench.warehouse.quality_results import read_previous, record_results

    now = datetime.now(UTC)
    with make_warehouse(settings.warehouse, Target(table=declaration.table, topic="")) as warehouse:
        with warehouse.transaction() as connection:
            engine = table_engine(connection, declaration.table)
            previous = read_previous(connection, declaration.table, now)
            result = check(engine, declaration, now=now, previous=previous)
        if record:
            with warehouse.transaction() as connection:
                record_results(connection, declaration.table, result.at, result.records())
    return result
