"""Runs the first query of a Spark Connect server: `python -m workbench.transformation.warm_up`."""

from __future__ import annotations

from workbench.sections import SparkSettings
from workbench.transformation.session import connect


def main() -> None:
    """Touch what most first queries touch: planning, code generation, a shuffle, Arrow."""
    session = connect(SparkSettings())
    try:
        session.range(10).count()
        session.range(1000).selectExpr("id % 7 AS day", "id AS n").groupBy("day").sum("n").toArrow()
    finally:
        session.stop()


if __name__ == "__main__":
    main()
