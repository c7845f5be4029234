"""When a cell is given `spark`."""

from __future__ import annotations

import ast

import pytest

from workbench.cells.spark_name import _reads


@pytest.mark.parametrize(
    ("cell", "is_read"),
    [
        ("spark.range(10)", True),
        ("spark = spark.newSession()", True),
        ("def count():\n    return spark.range(10).count()", True),
        ("n = 1\nif n:\n    spark.range(n).show()", True),
        ("from pyspark.sql import SparkSession\nspark = SparkSession.builder.getOrCreate()\nspark.range(10)", False),
        ("sparks = 1", False),
        ("spark = 1", False),
    ],
)
def test_a_cell_gets_spark_when_it_reads_the_name_before_it_sets_it(cell, is_read):
    assert _reads(ast.parse(cell), "spark") is is_read
