"""What becomes of fields that a flow does not declare."""

from __future__ import annotations

from enum import StrEnum

import pyarrow as pa

QUARANTINE = pa.field("_quarantine", pa.json_(pa.string()))  #: JSON object of the fields that have no column


class Contract(StrEnum):
    """What becomes of a record with a field that has no column."""

    IGNORE = "ignore"  #: the field is left out
    EVOLVE = "evolve"  #: the table gets a column for it; integers that do not fit widen theirs
    FREEZE = "freeze"  #: the record is a dead letter
    QUARANTINE = "quarantine"  #: the field goes to the column `_quarantine` as JSON


def widened(kind: pa.DataType) -> pa.DataType | None:
    """The next wider type of a number: int16, int32, int64, float64; None when there is none."""
    steps = (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float64())
    return steps[steps.index(kind) + 1] if kind in steps[:-1] else None


def is_wider(kind: pa.DataType, than: pa.DataType) -> bool:
    """Whether *kind* comes after *than* in the order of widening."""
    step = widened(than)
    return step is not None and (step == kind or is_wider(kind, step))
