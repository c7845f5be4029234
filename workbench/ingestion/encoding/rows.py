"""Rows out of mappings, pandas DataFrames and Arrow tables, with values of Python's own types."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from workbench.errors import KafkaError
from workbench.nulls import is_pandas_null

if TYPE_CHECKING:
    import pandas as pd

CHUNK_ROWS = 20_000
TIME = pa.timestamp("us", tz="UTC")

Row = Mapping[str, object]
Rows: TypeAlias = "Iterable[Mapping[str, object]] | pa.Table | pd.DataFrame"


class Unfit(Exception):
    """A row that a format has no bytes for: the field at fault, if one is, and why."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(f"{field}: {reason}")


def read_rows(rows: Rows) -> Iterator[Row]:
    """The rows as mappings; times of columns are UTC and cut to microseconds.

    Raises:
        KafkaError: when the columns of a frame have no type or no name of their own.
    """
    if isinstance(rows, pa.Table):
        return _rows_of_table(rows)
    if hasattr(rows, "iloc"):  # a pandas DataFrame, told without importing pandas
        return _rows_of_table(_as_table(rows))
    return iter(rows)


def plain(value: object) -> object:
    """The value as Python's own: pandas' and numpy's are converted, NaT and NA are None, times have a zone."""
    if is_pandas_null(value):
        return None
    if isinstance(value, datetime):
        time: Any = value
        cut = time.to_pydatetime(warn=False) if hasattr(time, "to_pydatetime") else time
        return cut if cut.tzinfo else cut.replace(tzinfo=UTC)
    if type(value).__module__ == "numpy":
        return _plain_numpy(value)
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def _plain_numpy(value: Any) -> object:
    if type(value).__name__ == "datetime64":
        return plain(value.astype("datetime64[us]").item())
    return value.tolist()


def find_unfit(row: Row, encode: Callable[[dict[str, object]], object], error: Exception) -> Unfit:
    """What is wrong with a row, each of whose fields can be encoded alone if it fits."""
    for name, value in row.items():
        try:
            encode({name: value})
        except (LookupError, TypeError, ValueError) as found:
            return Unfit(name, str(found))
    return Unfit("", str(error))


def _as_table(frame: Any) -> pa.Table:
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise KafkaError(
            f"the DataFrame cannot be sent: {str(error)[:300]}",
            remedy="Give each column one type and a name of its own, for example with frame.astype.",
        ) from None


def _rows_of_table(table: pa.Table) -> Iterator[Row]:
    names = table.column_names
    if len(set(names)) < len(names) or not names:
        raise KafkaError("the columns of the table have no names of their own", remedy="Rename them.")
    for index, column in enumerate(table.columns):
        if pa.types.is_timestamp(column.type):
            cut = column.cast(pa.timestamp("us", tz=column.type.tz), safe=False)
            table = table.set_column(index, names[index], cut.cast(TIME))
    for batch in table.to_batches(max_chunksize=CHUNK_ROWS):
        yield from batch.to_pylist()
