"""A Spark frame as an engine of checks; with a session of Spark Connect and without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from workbench.errors import SettingsError
from workbench.transformation.names import quoted
from workbench.transformation.quality.checks import ROWS, Condition

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

FAMILIES = {
    "boolean": "boolean",
    **dict.fromkeys(("byte", "short", "integer", "long", "float", "double", "decimal"), "number"),
    **dict.fromkeys(("string", "char", "varchar"), "text"),
    **dict.fromkeys(("timestamp", "timestamp_ntz"), "time"),
    "date": "date",
}
WITH_NAN = ("float", "double")


def frame_engine(frame: DataFrame, tables: Mapping[str, DataFrame] | None = None) -> FrameEngine:
    """The engine for the rows of a frame; asks Spark for its columns.

    Args:
        frame: of a batch, also one that `foreachBatch` is given; computed once for each question.
        tables: the frames that foreign keys lead to, by the name that the expectation has.
    """
    types = {field.name: field.dataType.typeName() for field in frame.schema.fields}
    return FrameEngine(frame, types, tables or {})


class FrameEngine:
    """The rows of a frame (`workbench.transformation.quality.checks.Engine`)."""

    def __init__(self, frame: DataFrame, types: Mapping[str, str], tables: Mapping[str, DataFrame]) -> None:
        self._frame = frame
        self._types = types
        self._tables = tables
        self._functions: Any = functions_for(frame)

    @property
    def families(self) -> Mapping[str, str]:
        """See `Engine`."""
        return {name: FAMILIES.get(kind, "") for name, kind in self._types.items()}

    def is_missing(self, column: str) -> Condition:
        """See `Engine`."""
        found = self._column(column)
        is_null = found.isNull()
        return is_null | self._functions.isnan(found) if self._types[column] in WITH_NAN else is_null

    def is_below(self, column: str, value: Any) -> Condition:
        """See `Engine`."""
        return self._certain(self._column(column) < self._literal(column, value))

    def is_above(self, column: str, value: Any) -> Condition:
        """See `Engine`."""
        return self._certain(self._column(column) > self._literal(column, value))

    def is_in(self, column: str, values: Sequence[Any]) -> Condition:
        """See `Engine`."""
        return self._certain(self._column(column).isin(*(self._literal(column, value) for value in values)))

    def matches(self, column: str, pattern: str) -> Condition:
        """See `Engine`; (?s) lets a dot be a line's end, as in PostgreSQL."""
        return self._certain(self._column(column).rlike(rf"(?s)\A(?:{pattern})\z"))

    def aggregate(self, conditions: Mapping[str, Condition], newest: Mapping[str, str]) -> Mapping[str, int | None]:
        """See `Engine`: one action."""
        F = self._functions  # noqa: N806 so it is called everywhere
        wanted = [F.count(F.lit(1)).alias(ROWS)]
        wanted += [F.count_if(condition).alias(name) for name, condition in conditions.items()]
        wanted += [self._microseconds(column).alias(name) for name, column in newest.items()]
        found: dict[str, int | None] = self._frame.agg(*wanted).collect()[0].asDict()
        return found

    def count_surplus(self, columns: Sequence[str]) -> int:
        """See `Engine`."""
        F = self._functions  # noqa: N806 so it is called everywhere
        found = self._repeated(columns).agg(F.sum(F.col("count") - F.lit(1))).collect()[0][0]
        return int(found or 0)

    def count_orphans(self, columns: Sequence[str], table: str, references: Sequence[str]) -> int:
        """See `Engine`."""
        return int(self._orphans(columns, table, references).count())

    def examples(self, condition: Condition, columns: Sequence[str], limit: int) -> list[dict[str, Any]]:
        """See `Engine`."""
        return self._shown(self._frame.where(condition), columns, limit)

    def surplus_examples(self, columns: Sequence[str], limit: int) -> list[dict[str, Any]]:
        """See `Engine`."""
        return self._shown(self._repeated(columns), columns, limit)

    def orphan_examples(
        self, columns: Sequence[str], table: str, references: Sequence[str], shown: Sequence[str], limit: int
    ) -> list[dict[str, Any]]:
        """See `Engine`."""
        return self._shown(self._orphans(columns, table, references), shown, limit)

    def _column(self, name: str) -> Any:
        return self._functions.col(quoted(name))

    def _certain(self, condition: Condition) -> Condition:
        return self._functions.coalesce(condition, self._functions.lit(False))

    def _literal(self, column: str, value: Any) -> Any:
        """A value of the type of its column; times as text, because a client's zone would get into them."""
        lit = self._functions.lit
        if isinstance(value, datetime):
            utc = value.astimezone(UTC)
            zoned = self._types[column] == "timestamp"
            return lit(utc.isoformat() if zoned else utc.replace(tzinfo=None).isoformat()).cast(self._types[column])
        return lit(value.isoformat()).cast("date") if isinstance(value, date) else lit(value)

    def _microseconds(self, column: str) -> Any:
        F = self._functions  # noqa: N806 so it is called everywhere
        newest = F.max(self._column(column))
        if self._types[column] == "timestamp_ntz":  # without a zone it counts as UTC, as in the warehouse
            newest = F.concat(newest.cast("string"), F.lit("+00:00")).cast("timestamp")
        return F.unix_micros(newest)

    def _present(self, columns: Sequence[str]) -> DataFrame:
        frame = self._frame
        for column in columns:
            frame = frame.where(~self.is_missing(column))
        return frame

    def _repeated(self, columns: Sequence[str]) -> DataFrame:
        F = self._functions  # noqa: N806 so it is called everywhere
        keys = [self._column(column) for column in columns]
        return (
            self._present(columns).groupBy(*keys).agg(F.count(F.lit(1)).alias("count")).where(F.col("count") > F.lit(1))
        )

    def _orphans(self, columns: Sequence[str], table: str, references: Sequence[str]) -> DataFrame:
        F = self._functions  # noqa: N806 so it is called everywhere
        if table not in self._tables:
            raise SettingsError([f"no frame is given for {table!r}, which a foreign key leads to."])
        other = self._tables[table]
        if unknown := [each for each in references if each not in other.columns]:
            raise SettingsError([f"{table} has no column {', '.join(unknown)}, which a foreign key leads to."])
        # Names of their own: the other frame may be this one.
        names = [f"__referenced_{number}" for number in range(len(references))]
        others = other.select(*(F.col(quoted(each)).alias(name) for each, name in zip(references, names, strict=True)))
        matching = None
        for column, name in zip(columns, names, strict=True):
            same = self._column(column) == F.col(name)
            matching = same if matching is None else matching & same
        return self._present(columns).join(others, matching, "left_anti")

    def _shown(self, frame: DataFrame, columns: Sequence[str], limit: int) -> list[dict[str, Any]]:
        rows = frame.select(*(self._column(column) for column in columns)).limit(limit).collect()
        return [dict(zip(columns, row, strict=True)) for row in rows]


def functions_for(frame: DataFrame) -> Any:
    """Spark's functions for the kind of session that the frame belongs to."""
    if "connect" in type(frame).__module__:
        from pyspark.sql.connect import functions as connected

        return connected
    from pyspark.sql import functions

    return functions
