"""Spark's exceptions as our errors, and what to do about those that people meet."""

from __future__ import annotations

import linecache
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench.errors import SparkError

LONGEST_MESSAGE = 500
LOCAL_FOLDER = "spark.local.dir"
# PySpark 4.2 stumbles over a session that has changed, and says that there is none.
REFUSED = frozenset({
    *("INVALID_HANDLE.SESSION_CHANGED", "INVALID_HANDLE.SESSION_CLOSED", "INVALID_HANDLE.SESSION_NOT_FOUND"),
    "NO_ACTIVE_SESSION",
})  # fmt: skip
LOST = REFUSED | {"INVALID_HANDLE.OPERATION_NOT_FOUND", "RESPONSE_ALREADY_RECEIVED"}
FORGOTTEN = frozenset({"TABLE_OR_VIEW_NOT_FOUND", "UNRESOLVED_ROUTINE"})
HEAP = re.compile(r"OutOfMemoryError|Java heap space|GC overhead limit|SparkOutOfMemoryError|UNABLE_TO_ACQUIRE_MEMORY")
EXECUTOR_KILLED = re.compile(r"exit (?:code|status):? 137|exceeding (?:physical )?memory limits|OOMKilled|exitCode=137")
FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<name>\S+)', re.MULTILINE)
RAISED = re.compile(r"^(?P<raised>[A-Za-z_][\w.]*(?:Error|Exception|Warning|Interrupt|Exit)\b.*)$", re.MULTILINE)
LIBRARIES = re.compile(r"[/\\](?:site-packages|dist-packages|lib[/\\]python3\.\d+|pyspark)[/\\]|pyspark\.zip")


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


def telling_line(error: BaseException) -> str:
    """Of a Python traceback the last line says what it was; of anything else the first."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    python = [line for line in lines if line[:1].isalpha() and "Error: " in line]
    return (python[-1] if "Traceback" in str(error) and python else lines[0])[:LONGEST_MESSAGE]


def condition(error: BaseException) -> str:
    """Spark's name for what happened, such as `TABLE_OR_VIEW_NOT_FOUND`; else the status of the channel."""
    named = getattr(error, "getCondition", lambda: None)()
    status = getattr(error, "getGrpcStatusCode", lambda: None)()
    return str(named or getattr(status, "name", "") or type(error).__name__)


def is_refused(error: BaseException) -> bool:
    """Whether a server says that it does not have our session; if that is its first answer, nothing was done."""
    return condition(error) in REFUSED


def is_lost(error: BaseException) -> bool:
    """Whether our session is no more: the server ended, or was restarted, or closed it."""
    return condition(error) in LOST | {"UNAVAILABLE"} or "server side session identifier" in str(error)


def is_cancelled(error: BaseException) -> bool:
    """Whether somebody interrupted the operation."""
    return "OPERATION_CANCELED" in condition(error) or "OPERATION_CANCELED" in str(error)[:200]


def explanation(error: BaseException, settings: Mapping[str, str], *, restarted: str = "") -> str:
    """What an error of Spark means and what to do, in one or two sentences; "" when it speaks for itself.

    Args:
        error: what PySpark raised.
        settings: `SPARK_DRIVER_MEMORY`, `SPARK_EXECUTOR_MEMORY`, `SPARK_MASTER_URL` and
            `spark.local.dir` with their present values, as far as they are known.
        restarted: when the server was restarted under this session; "" when it was not.
    """
    text = str(error)
    if is_cancelled(error):
        return "Cancelled: Spark has stopped the operation."
    if "No space left on device" in text:
        return _disk_full(settings)
    if EXECUTOR_KILLED.search(text):
        return _memory("An executor was killed for want of memory", "SPARK_EXECUTOR_MEMORY", settings)
    if HEAP.search(text):
        is_local = settings.get("SPARK_MASTER_URL", "local").startswith("local")
        variable = "SPARK_DRIVER_MEMORY" if is_local or "driver" in text[:300] else "SPARK_EXECUTOR_MEMORY"
        return _memory("Spark ran out of memory", variable, settings)
    if restarted and (condition(error) in FORGOTTEN or "cached local relation" in text.lower()):
        return (
            f"Spark was restarted at {restarted}: temporary views, registered functions and large local data "
            "of before are gone. Make them again."
        )
    return users_line(text)


def draw_with(draw: Callable[[BaseException], list[str]]) -> None:
    """Have IPython show PySpark's errors as *draw* gives them; it asks an exception for this method."""
    from pyspark.errors import PySparkException

    PySparkException._render_traceback_ = draw


def users_line(text: str) -> str:
    """The innermost line of people's own code in the traceback of a Python worker, and what it raised; else ""."""
    begin = text.find("Traceback (most recent call last)")
    if begin < 0:
        return ""
    frames = list(FRAME.finditer(text, begin))
    own = [each for each in frames if not LIBRARIES.search(each["file"])] or frames
    raised = next(iter(RAISED.findall(text[frames[-1].end() :])), "") if frames else ""
    if not own or not raised:
        return ""
    file, line = own[-1]["file"], int(own[-1]["line"])
    # The worker has no file of a cell; the kernel does.
    code = linecache.getline(file, line).strip() or _line_after(text, own[-1])
    where = f"line {line} of {own[-1]['name']}"
    return f"Your function raised {raised[:LONGEST_MESSAGE]}\n  {where}: {code}" if code else f"{where} raised {raised}"


def _line_after(text: str, frame: Any) -> str:
    following = text[frame.end() :].lstrip("\n").split("\n", 1)[0].strip()
    return "" if following.startswith(("File ", "~", "^")) or RAISED.match(following) else following


def _memory(what: str, variable: str, settings: Mapping[str, str]) -> str:
    now = f", which is {settings[variable]} now," if variable in settings else ""
    return f"{what}. Raise {variable}{now} and start the server anew, or ask for less at once."


def _disk_full(settings: Mapping[str, str]) -> str:
    folder = Path(settings.get(LOCAL_FOLDER, ""))
    if not settings.get(LOCAL_FOLDER) or not folder.exists():
        return "The disk for Spark's intermediate data (spark.local.dir) is full. Make room there, then run it again."
    free = shutil.disk_usage(folder).free / 1024**3
    return (
        f"The disk for Spark's intermediate data is full: {folder} (spark.local.dir) has {free:.1f} GiB free. "
        "Make room there, then run it again."
    )
