"""Frames of pandas and Arrow as rows of the types that staging tables take. Exact, or an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from workbench.errors import WarehouseError

if TYPE_CHECKING:
    import pandas as pd

SPARK_TYPES = {
    pa.bool_(): "boolean",
    pa.int8(): "tinyint",
    pa.int16(): "smallint",
    pa.int32(): "int",
    pa.int64(): "bigint",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.string(): "string",
    pa.binary(): "binary",
    pa.date32(): "date",
    pa.timestamp("us", tz="UTC"): "timestamp",
    pa.timestamp("us"): "timestamp_ntz",
}
NEXT = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.date64(): pa.date32()}
REMEDY = "Make one type of each column, such as `frame.astype({...})`, and times of whole microseconds."


def arrow_rows(frame: pd.DataFrame | pa.Table) -> pa.Table:
    """The rows of *frame*; the index of a pandas frame is none of its columns, and its NaN is NULL.

    Raises:
        WarehouseError: when it is no frame, or a column holds values of several types, or a time
            that is finer than a microsecond.
    """
    try:
        table = frame if isinstance(frame, pa.Table) else pa.Table.from_pandas(frame, preserve_index=False)
        fitted = pa.schema([pa.field(field.name, _fitted(field.type)) for field in table.schema])
        return table.cast(fitted)
    except AttributeError:
        raise WarehouseError(
            f"{type(frame).__name__} is no frame that can be written",
            remedy="Give a DataFrame of Spark or pandas, or a table of pyarrow.",
        ) from None
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        told = "; ".join(str(each) for each in reversed(error.args))
        raise WarehouseError(f"the frame cannot be written: {told}", remedy=REMEDY) from None


def spark_type(kind: pa.DataType) -> str:
    """The simple name of Spark's type for the same values; Arrow's own name where there is none."""
    if pa.types.is_list(kind):
        return f"array<{spark_type(kind.value_type)}>"
    if pa.types.is_decimal128(kind):
        return f"decimal({kind.precision},{kind.scale})"
    return SPARK_TYPES.get(kind, str(kind))


def _fitted(kind: pa.DataType) -> pa.DataType:
    """The type of a column in which staging tables take it, without loss."""
    if pa.types.is_dictionary(kind):
        return _fitted(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_fitted(kind.value_type))
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    return NEXT.get(kind, kind)
