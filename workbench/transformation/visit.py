"""Visits every executor of a Connect server and prints what it found as JSON: `python -m workbench.transformation.visit`."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from workbench.sections import SparkSettings
from workbench.transformation.session import connect

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import SparkSession

LOOK_SECONDS = 15.0  # for executors that come later than the first
TASKS = 8  # of one round: more than a small cluster has slots
SECRET = re.compile(r"(?i)secret|password|token|access[.]?key|credential")
# Static methods of Java, called in the tasks: what the JVM of an executor says of itself.
ASKED = {
    "pid": "java_method('java.lang.ProcessHandle', 'current')",
    "java": "java_method('java.lang.Runtime', 'version')",
    "command": "java_method('java.lang.System', 'getProperty', 'sun.java.command')",
    "host": "java_method('java.net.InetAddress', 'getLocalHost')",
}


def main() -> None:
    """Ask a session for its configuration, and tasks for where they run."""
    session = connect(SparkSettings())
    try:
        conf = {name: value for name, value in session.conf.getAll.items() if value and not SECRET.search(name)}
        sys.stdout.write(json.dumps({"spark": session.version, "conf": conf, "rows": list(visit(session, conf))}))
    finally:
        session.stop()


def visit(session: SparkSession, conf: dict[str, str]) -> Iterable[dict[str, Any]]:
    """One row for each executor that took a task; ends when no new one appears."""
    wanted = int(conf.get("spark.executor.instances", 2)) if conf.get("spark.master") == "yarn" else 1
    found: dict[tuple[str, str], dict[str, Any]] = {}
    deadline = time.monotonic() + LOOK_SECONDS
    while True:
        before = len(found)
        frame = session.range(0, TASKS, 1, TASKS).selectExpr(*(f"{ask} AS {name}" for name, ask in ASKED.items()))
        columns = ", ".join(f"{name} string" for name in (*ASKED, "python", "executable"))
        for row in frame.mapInArrow(add_python, columns).toArrow().to_pylist():
            found[row["host"], row["pid"]] = row
        is_whole = len(found) >= wanted and len(found) == before
        if (
            is_whole
            or time.monotonic() > deadline
            or not conf.get("spark.master", "local").startswith(("spark", "yarn", "k8s"))
        ):
            return found.values()


def add_python(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """A Python function on the executor: adds which Python runs it. Slow enough that every slot gets a task."""
    import platform
    import sys
    import time

    import pyarrow as pa

    for batch in batches:
        time.sleep(0.2)
        python = [pa.array([value] * batch.num_rows) for value in (platform.python_version(), sys.executable)]
        yield pa.RecordBatch.from_arrays([*batch.columns, *python], [*batch.schema.names, "python", "executable"])


if __name__ == "__main__":
    main()
