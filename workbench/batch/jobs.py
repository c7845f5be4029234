"""A batch job, and its run over partitions.

Each partition is one transaction: its old rows go, its new ones come, and its bookmark says so. A
run that was killed anywhere is run again, and does what is missing.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, tzinfo
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

from workbench.batch.partitions import By, Partition, make_partitions
from workbench.errors import SettingsError, WarehouseError, WarehouseUnavailable, WorkbenchError
from workbench.settings import Settings
from workbench.transformation.failures import reported_spark
from workbench.warehouse.bookmarks import DONE, FAILED, Bookmark, read_bookmarks, write_failure
from workbench.warehouse.schema import split_name
from workbench.warehouse.sink import write_frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import DataFrame, SparkSession

Only = Literal["missing", "failed", "changed", "all"]
HASH_LENGTH = 16


@dataclass(frozen=True, kw_only=True)
class BatchJob:
    """A table that is made partition by partition.

    Example:
        >>> def make(spark, day):
        ...     return workbench.load_table("raw.flights", where="day = :d", parameters={"d": str(day)})
        >>> delays = BatchJob(name="delays", into="marts.delays", column="day", make=make)
    """

    name: str  #: of the bookmarks
    into: str  #: schema.table, made when it is not there
    column: str  #: of the table; its values say which partition a row belongs to
    make: Callable[[SparkSession, Partition], DataFrame]  #: the rows of one partition, always the same ones
    by: By = "day"
    zone: tzinfo = UTC  #: in which days begin

    def __post_init__(self) -> None:
        problems = [f"A batch job needs `{each}`." for each in ("name", "column") if not getattr(self, each)]
        if self.by not in {"day", "hour", "month", "value"}:
            problems.append(f"`by` is {self.by!r}. Write day, hour, month or value.")
        if problems:
            raise SettingsError(problems)
        split_name(self.into)

    @property
    def code(self) -> str:
        """A hash of the source of `make`; what it calls does not count."""
        try:
            text = inspect.getsource(self.make)
        except (OSError, TypeError):  # typed into an interpreter that keeps no source
            made = getattr(self.make, "__code__", None)
            text = f"{made.co_code.hex()} {made.co_consts}" if made else repr(type(self.make))
        return hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]


@dataclass(frozen=True, kw_only=True)
class Done:
    """What became of one partition."""

    partition: str
    rows: int = 0
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run did."""

    job: str
    skipped: int  #: partitions that needed nothing
    done: tuple[Done, ...] = field(default=())

    @property
    def rows(self) -> int:
        """Rows of all partitions that were written."""
        return sum(each.rows for each in self.done)

    @property
    def failed(self) -> tuple[Done, ...]:
        """The partitions that could not be written; they are as they were."""
        return tuple(each for each in self.done if each.error)


def run(
    job: BatchJob,
    *,
    since: str | date | datetime = "",
    until: str | date | datetime = "",
    values: Sequence[object] = (),
    only: Only = "missing",
    spark: SparkSession | None = None,
    tell: Callable[[str], None] = print,
) -> Report:
    """Make partitions of a job, one after the other; a partition that fails does not stop the others.

    Args:
        job: what is made.
        since: the first partition, such as `2026-01-31`.
        until: the last one; empty is the same as *since*.
        values: the partitions of a job by value.
        only: which of them: `missing` are those without a bookmark or with one of a failure,
            `failed` those with one of a failure, `changed` the missing ones and those that another
            source of `make` has made, `all` all.
        spark: the session; None takes that of the process.
        tell: called with a line for each partition.

    Raises:
        SettingsError: when the arguments do not go together.
        WarehouseUnavailable: when the warehouse stays away; run it again.
        KeyboardInterrupt: when interrupted; what Spark was doing is cancelled, and the partition is as it was.

    Example:
        >>> run(delays, since="2013-01-01", until="2013-01-31")
    """
    partitions = make_partitions(job.by, since=since, until=until, values=values, zone=job.zone)
    settings = Settings.load()
    if spark is None:
        from workbench.notebook import spark as open_session

        spark = open_session()
    return run_partitions(settings, spark, job, partitions, only=only, tell=tell)


def run_partitions(
    settings: Settings,
    spark: SparkSession,
    job: BatchJob,
    partitions: Sequence[Partition],
    *,
    only: Only = "missing",
    tell: Callable[[str], None] = lambda _: None,
) -> Report:
    """The same with everything handed over; see `run`."""
    chosen = choose(job, partitions, read_bookmarks(settings.warehouse, job.name), only)
    done: list[Done] = []
    for number, partition in enumerate(chosen, 1):
        done.append(_run_one(settings, spark, job, partition))
        tell(_line(job, done[-1], number, len(chosen)))
    return Report(job=job.name, skipped=len(partitions) - len(chosen), done=tuple(done))


def choose(
    job: BatchJob, partitions: Sequence[Partition], bookmarks: Sequence[Bookmark], only: Only
) -> tuple[Partition, ...]:
    """Those of *partitions* that have to be made.

    Raises:
        SettingsError: when *only* is no such word.
    """
    known = {each.partition: each for each in bookmarks}
    code = job.code

    def is_chosen(partition: Partition) -> bool:
        found = known.get(partition.name)
        if only == "all":
            return True
        if only == "failed":
            return found is not None and found.state == FAILED
        return found is None or found.state != DONE or (only == "changed" and found.code != code)

    if only not in {"missing", "failed", "changed", "all"}:
        raise SettingsError([f"`only` is {only!r}. Write missing, failed, changed or all."])
    return tuple(filter(is_chosen, partitions))


def _run_one(settings: Settings, spark: SparkSession, job: BatchJob, partition: Partition) -> Done:
    started = time.monotonic()
    bookmark = {
        "job": job.name,
        "partition": partition.name,
        "code": job.code,
        "application": spark.conf.get("spark.app.id", "") or "",
    }
    try:
        with _cancelling(spark), reported_spark("Spark failed", remedy="Correct the job, and run it again."):
            rows = _write(settings, spark, job, partition, bookmark)
    except WarehouseUnavailable:
        raise  # of all partitions, not of this one
    except WorkbenchError as error:
        write_failure(settings.warehouse, bookmark, error.message)
        return Done(partition=partition.name, seconds=time.monotonic() - started, error=error.message)
    except Exception as error:
        # The function's own: it is told with its traceback, and the run ends.
        write_failure(settings.warehouse, bookmark, f"{type(error).__name__}: {error}")
        raise
    return Done(partition=partition.name, rows=rows, seconds=time.monotonic() - started)


def _write(
    settings: Settings, spark: SparkSession, job: BatchJob, partition: Partition, bookmark: Mapping[str, str]
) -> int:
    frame = job.make(spark, partition)
    kinds = dict(frame.dtypes)
    if job.column not in kinds:
        raise WarehouseError(
            f"the frame of {job.name} has no column {job.column}, which says the partition",
            remedy=f"Add it to the frame; it has {', '.join(kinds)}.",
        )
    replace = partition.rows(job.column, kinds[job.column])
    options = {"table": job.into, "replace": json.dumps(replace), "bookmark": json.dumps(bookmark)}
    return write_frame(frame, settings.warehouse, options, mode="overwrite")


@contextmanager
def _cancelling(spark: SparkSession) -> Iterator[None]:
    """Have Spark end what it does for us when we are interrupted."""
    tag = f"batch-{uuid4().hex}"
    spark.addTag(tag)
    try:
        yield
    except KeyboardInterrupt:
        # Whatever that says: the interruption is what is told.
        with suppress(Exception):
            spark.interruptTag(tag)
        raise
    finally:
        spark.removeTag(tag)


def _line(job: BatchJob, done: Done, number: int, count: int) -> str:
    what = f"failed: {done.error.splitlines()[0]}" if done.error else f"{done.rows:,} rows"
    return f"{job.name} {number}/{count} {done.partition}: {what}, {done.seconds:.1f} s"
