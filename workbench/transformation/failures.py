"""Spark's exceptions as our errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from workbench.errors import SparkError

LONGEST_MESSAGE = 500


@contextmanager
def reported_spark(what: str, *, remedy: str) -> Iterator[None]:
    """Turn what PySpark and its channel raise into a SparkError.

    Args:
        what: what failed, the beginning of the message.
        remedy: what to do.

    Raises:
        SparkError: with the line of Spark's message that says what it was.
    """
    from grpc import RpcError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, RpcError) as error:
        raise SparkError(f"{what}: {telling_line(error)}", remedy=remedy) from None


def telling_line(error: Exception) -> str:
    """Of a Python traceback the last line says what it was; of anything else the first."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    python = [line for line in lines if line[:1].isalpha() and "Error: " in line]
    return (python[-1] if "Traceback" in str(error) and python else lines[0])[:LONGEST_MESSAGE]
