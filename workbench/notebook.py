"""What notebooks call. Each function reads the settings and composes the parts below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from workbench.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession


def spark() -> SparkSession:
    """The Spark session of this process: the user's own server in JupyterLab, else the configured one.

    Raises:
        SparkError: when there is no server, or it does not let us in.
    """
    from workbench.transformation.session import connect

    return connect(Settings.load().spark, tell=print)


def sql(query: str, parameters: Mapping[str, object] | None = None) -> pd.DataFrame:
    """Ask the warehouse and return the whole answer as a pandas DataFrame.

    Args:
        query: SQL of the warehouse; values go in as `:name`, never pasted.
        parameters: the value of each `:name`.

    Raises:
        WarehouseError: when the warehouse cannot be reached or refuses the query.

    Example:
        >>> workbench.sql("SELECT count(*) FROM raw.flights WHERE month = :m", {"m": 1})
    """
    from workbench.warehouse.engine import read_frame

    return read_frame(Settings.load().warehouse, query, parameters or {})
