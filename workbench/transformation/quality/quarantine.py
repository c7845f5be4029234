"""Rows that break an expectation are set apart with the reasons, instead of ending the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.errors import SettingsError
from workbench.transformation.quality.checks import conditions, refuse_misfits
from workbench.transformation.quality.expectations import Declaration, Severity
from workbench.transformation.quality.spark import frame_engine, functions_for

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

REASONS = "_reasons"


@dataclass(frozen=True)
class Split:
    """One frame as two; each row is in one of them."""

    good: DataFrame
    bad: DataFrame  #: with `_reasons`, the names of the expectations that the row breaks


def quarantine_table(table: str) -> str:
    """Where the rows of a table that are set apart belong."""
    return f"{table}_quarantine"


def split(frame: DataFrame, declaration: Declaration) -> Split:
    """Part the rows that break an expectation of the severity `quarantine` from the others; computes nothing yet.

    Persist *frame* when what it comes from may answer differently twice: both parts read it.

    Raises:
        SettingsError: when a column is not there or of another type, or the frame has `_reasons` already.
    """
    engine, F = frame_engine(frame), functions_for(frame)  # noqa: N806 so it is called everywhere
    if REASONS in frame.columns:
        raise SettingsError([f"{declaration.table}: the frame has a column {REASONS}, which the quarantine adds."])
    refuse_misfits(engine, declaration)
    reasons = [
        F.when(conditions(engine, each)[1], F.lit(each.name))
        for each in declaration.expectations
        if each.severity == Severity.QUARANTINE
    ]
    found = F.array_compact(F.array(*reasons)) if reasons else F.array().cast("array<string>")
    marked = frame.withColumn(REASONS, found)
    return Split(good=marked.where(F.size(REASONS) == 0).drop(REASONS), bad=marked.where(F.size(REASONS) > 0))
