"""What becomes of fields that a flow does not declare."""

from __future__ import annotations

from enum import StrEnum

import pyarrow as pa

QUARANTINE = pa.field("_quarantine", pa.json_(pa.string()))  #: JSON object of the fields that have no column


RESERVED = frozenset({"_partition", "_offset", "_key", "_timestamp", "_headers", "_quarantine"})
LONGEST_NAME = 63  # of PostgreSQL, which cuts longer ones off


class Contract(StrEnum):
    """What becomes of a record with a field that has no column."""

    IGNORE = "ignore"  #: the field is left out
    EVOLVE = "evolve"  #: the table gets a column for it; integers that do not fit widen theirs
    FREEZE = "freeze"  #: the record is a dead letter
    QUARANTINE = "quarantine"  #: the field goes to the column `_quarantine` as JSON


def column_fault(name: str) -> str | None:
    """Why a field of this name cannot become a column; None when it can."""
    if not name or "\0" in name:
        return f"the field {name!r} has a name that no column can have"
    if name in RESERVED:
        return f"the field {name} has the name of a column that tells of the record"
    if len(name.encode()) > LONGEST_NAME:
        return f"the field {name[:20]}… has a name of more than {LONGEST_NAME} bytes, the most that a column can have"
    return None


def widened(kind: pa.DataType) -> pa.DataType | None:
    """The next wider type of a number: int16, int32, int64, float64; None when there is none."""
    steps = (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float64())
    return steps[steps.index(kind) + 1] if kind in steps[:-1] else None


def is_wider(kind: pa.DataType, than: pa.DataType) -> bool:
    """Whether *kind* comes after *than* in the order of widening."""
    step = widened(than)
    return step is not None and (step == kind or is_wider(kind, step))


def united(schema: pa.Schema, found: pa.Schema) -> pa.Schema:
    """The columns of both; a number gets the wider type."""
    for field in found:
        if field.name not in schema.names:
            schema = schema.append(field.with_nullable(True))
        elif is_wider(field.type, schema.field(field.name).type):
            schema = schema.set(schema.names.index(field.name), field.with_nullable(True))
    return schema
