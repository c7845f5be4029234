"""What all steps need of a frame: its columns by name, its kind, and one error for all that is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from workbench.errors import StepRefused
from workbench.transformation.names import quoted
from workbench.transformation.steps.durations import Duration, as_interval, parse_duration

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame
    from pyspark.sql.types import DataType, StructField

OWN = "__workbench_"  #: begins the names of columns that a step adds and removes again
NOT_ORDERED = ("map", "variant", "interval", "udt", "geometry", "geography")
WATERMARK = "spark.watermarkDelayMs"  # in the metadata of a column with a watermark (EventTimeWatermark)


def column(name: str) -> Column:
    """The column called *name*, which may have dots and backticks in it."""
    from pyspark.sql import functions as sf

    return sf.col(quoted(name))


def as_names(names: str | Sequence[str]) -> tuple[str, ...]:
    """One name or several, as several."""
    return (names,) if isinstance(names, str) else tuple(names)


def refuse(step: str, problems: Iterable[str], *, remedy: str) -> None:
    """Raise one error with all *problems*, if there are any.

    Raises:
        StepRefused: when there are.
    """
    if found := list(problems):
        raise StepRefused(f"{step}: {'; '.join(found)}", remedy=remedy)


def refuse_stream(step: str, frame: DataFrame, why: str, *, remedy: str) -> None:
    """Raise when *frame* is a stream, with the reason *why* the step needs all rows at once.

    Raises:
        StepRefused: when it is.
    """
    refuse(step, [f"the frame is a stream, and {why}"] if frame.isStreaming else [], remedy=remedy)


def unknown_columns(frame: DataFrame, names: Iterable[str], whose: str = "the frame") -> list[str]:
    """What is wrong: those of *names* that *frame* has not, and columns that it has twice."""
    here = frame.columns
    absent = [name for name in dict.fromkeys(names) if name not in here]
    twice = sorted({name for name in here if here.count(name) > 1})
    return [
        *([f"{whose} has no column {', '.join(absent)}; it has {', '.join(here)}"] if absent else []),
        *([f"{whose} has several columns {', '.join(twice)}"] if twice else []),
    ]


def taken_columns(taken: Iterable[str], added: Iterable[str]) -> list[str]:
    """What is wrong with columns *added* beside those *taken*. Spark does not tell `A` from `a`."""
    names = [*taken, *added]
    folded = [name.casefold() for name in names]
    twice = sorted({name for name in names if folded.count(name.casefold()) > 1})
    return [f"the result would have several columns {', '.join(twice)}"] if twice else []


def field_of(frame: DataFrame, name: str) -> StructField:
    """Name and type of one column that is there."""
    return next(field for field in frame.schema.fields if field.name == name)


def wrong_times(frame: DataFrame, names: Iterable[str], whose: str = "the frame") -> list[str]:
    """Which of the columns *names* are no timestamps."""
    here = {field.name: field.dataType.simpleString() for field in frame.schema.fields}
    return [
        f"column {name} of {whose} is {here[name]}, not a timestamp"
        for name in names
        if name in here and here[name] not in ("timestamp", "timestamp_ntz")
    ]


def wrong_duration(name: str, value: Duration | None, *, least: timedelta = timedelta(microseconds=1)) -> list[str]:
    """What is wrong with the argument *name*, if it is given."""
    try:
        short = value is not None and parse_duration(value) < least
    except ValueError as error:
        return [f"{name}: {error}"]
    return [f"{name} is 0"] if short else []


def micros(time: Column) -> Column:
    """Microseconds since 1970. Differences of them are exact, where Spark's intervals follow summer time."""
    from pyspark.sql import functions as sf

    return sf.unix_micros(time.cast("timestamp"))


def comparable(value: Column, kind: DataType) -> Column:
    """*value* in a form that can be ordered and compared; the JSON of what Spark cannot order."""
    from pyspark.sql import functions as sf

    text = kind.simpleString()
    return sf.to_json(sf.struct(value)) if any(word in text for word in NOT_ORDERED) else value


def with_watermark(step: str, frame: DataFrame, by: str, watermark: Duration | None) -> DataFrame:
    """A stream with its watermark; a frame that is no stream as it is.

    Raises:
        StepRefused: when a stream has none and none is given, or has one and another is given.
    """
    if not frame.isStreaming:
        return frame
    present = any(WATERMARK in field.metadata for field in frame.schema.fields)
    if present == (watermark is not None):
        told = "has a watermark already" if present else "has no watermark, so that Spark would keep all keys for ever"
        remedy = "Leave out `watermark`." if present else "Say how late rows may be: `watermark='10 minutes'`."
        refuse(step, [f"the stream {told}"], remedy=remedy)
    if watermark is None:
        return frame
    return frame.withWatermark(quoted(by), as_interval(parse_duration(watermark)))


def failing(message: str) -> Column:
    """A column of no rows: whoever computes its value ends the query with *message*."""
    from pyspark.sql import functions as sf

    return sf.raise_error(sf.lit(message))
