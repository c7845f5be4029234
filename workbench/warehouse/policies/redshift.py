"""The tables of a Redshift, for the statements that policies become."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import sqlalchemy as sa

from workbench.sections import WarehouseSettings
from workbench.security.policies.grants import LiveTable
from workbench.warehouse.dialects.redshift_engine import Driver, make_driver, make_redshift_engine, reported_redshift

COLUMNS = """
SELECT table_schema, table_name, column_name, data_type, character_maximum_length FROM svv_columns
WHERE table_schema NOT IN ('pg_catalog', 'information_schema', 'workbench_policies') ORDER BY 1, 2, ordinal_position"""


def read_redshift_tables(settings: WarehouseSettings, driver: Driver | None = None) -> Mapping[str, LiveTable]:
    """Every table, by `schema.table`.

    Args:
        settings: of the warehouse.
        driver: other than AWS's own.

    Raises:
        WarehouseError: when the cluster cannot be reached or refuses, or the driver is not installed.
    """
    columns: dict[str, dict[str, str]] = defaultdict(dict)
    engine = make_redshift_engine(driver or make_driver(settings))
    try:
        with reported_redshift(settings), engine.begin() as connection:
            for schema, table, column, kind, length in connection.execute(sa.text(COLUMNS)):
                columns[f"{schema}.{table}"][column] = f"{kind}({length})" if length else kind
    finally:
        engine.dispose()
    # Row security on Redshift asks for no owner.
    return {name: LiveTable(name, settings.user, found) for name, found in columns.items()}
