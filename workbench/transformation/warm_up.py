"""Runs the first query of a Spark Connect server: `python -m workbench.transformation.warm_up`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pyspark.sql.datasource import DataSource

from workbench.sections import SparkSettings
from workbench.transformation.session import connect

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class Nothing(DataSource):  # type: ignore[misc]
    """With the first data source that is registered, a server looks for those of Python: that takes two seconds."""


def main() -> None:
    """Touch what most first cells touch: planning, code generation, a shuffle, Arrow, a data source."""
    session = connect(SparkSettings())
    try:
        with ThreadPoolExecutor() as threads:
            for each in [threads.submit(_query, session), threads.submit(session.dataSource.register, Nothing)]:
                each.result()
    finally:
        session.stop()


def _query(session: SparkSession) -> None:
    session.range(10).count()
    session.range(1000).selectExpr("id % 7 AS day", "id AS n").groupBy("day").sum("n").toArrow()


if __name__ == "__main__":
    main()
