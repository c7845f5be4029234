"""The statements of a cell, asked of Spark: named parameters, no more rows than are asked for, and cancelled when interrupted."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from workbench.errors import QueryRefused, SparkError
from workbench.querying import Answer, Catalog, Column, Statement
from workbench.transformation.failures import telling_line

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.errors import PySparkException
    from pyspark.sql import DataFrame, SparkSession

NUMBERS = {"tinyint", "smallint", "int", "bigint", "float", "double"}
CATALOG_TABLES = 200  # whose columns are asked for, one request each
# PySpark writes errors that it raises as JSON to stderr too, with the stack of the JVM.
LOGGERS = ("SQLQueryContextLogger", "DataFrameQueryContextLogger")
_quiet = threading.local()
# Of "[CONDITION] What happened. SQLSTATE: 42703; line 1 pos 7;", and of "(line 2, pos 13)".
BEHIND_MESSAGE = re.compile(r"\s*SQLSTATE: \w+.*", re.DOTALL)
PLACE = re.compile(r"line (\d+),? pos (\d+)")
ADVICE = re.compile(r"^(Search path|If you did not qualify|To tolerate the error).*\n?", re.MULTILINE)


def run_statements(
    spark: SparkSession,
    statements: Sequence[Statement],
    values: Mapping[str, object],
    *,
    limit: int | None = None,
) -> list[Answer]:
    """Run *statements* one after the other; Spark has no transaction around them.

    An interrupt cancels what runs at the server.

    Args:
        spark: a session of Spark Connect, or a classic one.
        statements: in their order.
        values: the value of each parameter, bound as Spark's named parameters.
        limit: the most rows to fetch of each; None fetches all.

    Raises:
        QueryRefused: saying which statement, and where in it; those before it have run.
        SparkError: when the server does not answer.
    """
    answers = []
    for number, statement in enumerate(statements):
        with _cancelled_by_interrupts(spark), _reported(statement, number):
            answers.append(_answer(_frame(spark, statement, values), limit))
    return answers


def make_frame(spark: SparkSession, statements: Sequence[Statement], values: Mapping[str, object]) -> DataFrame:
    """Run all *statements* but the last, which is given as a lazy DataFrame.

    Raises:
        QueryRefused: saying which statement, and where in it.
        SparkError: when the server does not answer.
    """
    run_statements(spark, statements[:-1], values, limit=0)
    with _cancelled_by_interrupts(spark), _reported(statements[-1], len(statements) - 1):
        frame = _frame(spark, statements[-1], values)
        frame.schema  # noqa: B018 - analysed now, so that an error is this cell's
        return frame


def read_catalog(spark: SparkSession) -> Catalog:
    """The schemas, tables and temporary views of the session, with the columns of the tables that need no schema.

    Raises:
        SparkError: when the server does not answer.
    """
    with _reported(Statement(text=""), 0):
        current = spark.catalog.currentDatabase()
        tables: dict[str, dict[str, dict[str, str]]] = {current: {}}
        for schema in spark.catalog.listDatabases():
            found = tables.setdefault(schema.name, {})
            for table in spark.catalog.listTables(schema.name)[:CATALOG_TABLES]:
                # Temporary views belong to no schema, and are listed with every one.
                if not table.isTemporary or schema.name == current:
                    found[table.name] = _columns(spark, schema.name, table)
    return Catalog(tables=tables, searched=(current,))


def _columns(spark: SparkSession, schema: str, table: Any) -> dict[str, str]:
    from pyspark.errors import PySparkException

    name = f"`{table.name}`" if table.isTemporary else f"`{schema}`.`{table.name}`"
    with suppress(PySparkException):  # a view whose table is gone has a name all the same
        return {field.name: field.dataType.simpleString() for field in spark.table(name).schema}
    return {}


def _frame(spark: SparkSession, statement: Statement, values: Mapping[str, object]) -> DataFrame:
    return spark.sql(statement.text, args={name: values[name] for name in statement.names} or None)


def _answer(frame: DataFrame, limit: int | None) -> Answer:
    columns = tuple(_column(field) for field in frame.schema)
    if not columns:
        return Answer()
    table: pa.Table = (frame if limit is None else frame.limit(limit + 1)).toArrow()
    # Not by `to_pylist` of the table: two columns may have one name.
    rows = tuple(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return Answer(columns=columns, rows=rows[:limit], is_cut=limit is not None and len(rows) > limit)


def _column(field: Any) -> Column:
    kind = field.dataType.simpleString()
    return Column(name=field.name, type=kind, is_number=kind in NUMBERS or kind.startswith("decimal"))


@contextmanager
def _cancelled_by_interrupts(spark: SparkSession) -> Iterator[None]:
    tag = f"workbench-sql-{uuid4().hex}"
    spark.addTag(tag)
    try:
        yield
    except KeyboardInterrupt:
        from pyspark.errors import PySparkException

        with suppress(PySparkException):
            spark.interruptTag(tag)
        raise
    finally:
        spark.removeTag(tag)


@contextmanager
def _reported(statement: Statement, number: int) -> Iterator[None]:
    from grpc import RpcError
    from pyspark.errors import PySparkException
    from pyspark.logger import PySparkLogger

    for name in LOGGERS:
        # By PySpark's own function: it makes loggers of a class of its own, and a plain one would not do.
        PySparkLogger.getLogger(name).addFilter(_is_told)
    _quiet.is_on = True
    try:
        yield
    except PySparkException as error:
        raise _refusal(error, statement, number) from None
    except RpcError as error:
        raise SparkError(
            f"Spark did not answer: {telling_line(error)}",
            remedy="`workbench status` shows whether the server runs; run the cell again when it does.",
        ) from None
    finally:
        _quiet.is_on = False


def _is_told(record: logging.LogRecord) -> bool:
    """Whether a record is somebody else's than this thread's within `_reported`."""
    return not getattr(_quiet, "is_on", False)


def _refusal(error: PySparkException, statement: Statement, number: int) -> QueryRefused:
    whole = str(error.getMessage() or error).split("\n\nJVM stacktrace:")[0].strip()
    if "Traceback" in whole:
        message = telling_line(error)
    else:
        message = ADVICE.sub("", BEHIND_MESSAGE.sub("", whole)).strip()
        message = re.sub(r"^\[[\w.]+\] ", "", message)
    return QueryRefused(
        message or type(error).__name__,
        statement=number,
        position=_position(error, whole, statement.text),
        code=str(error.getCondition() or ""),
    )


def _position(error: PySparkException, message: str, text: str) -> int | None:
    for context in error.getQueryContext():
        if context.contextType().name == "SQL":
            return int(context.startIndex())
    if place := PLACE.search(message):
        lines = text.splitlines(keepends=True)
        return sum(map(len, lines[: int(place[1]) - 1])) + int(place[2])
    return None
