"""The line of people's code that asks Spark for something."""

from __future__ import annotations

import linecache
import sys
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

LONGEST_LINE = 80


def _folder(package: str) -> str:
    spec = find_spec(package)
    return str(Path(spec.origin).parent) if spec and spec.origin else package


# Whose frames are no one's own code. `find_spec` imports none of them.
PASSED_OVER = (_folder("pyspark"), _folder("workbench"), str(Path(linecache.__file__).parent / "contextlib.py"))


def calling_line() -> str:
    """The innermost line outside PySpark and the workbench, or "" when there is none."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the documented way to the caller
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(PASSED_OVER):
            return linecache.getline(file, frame.f_lineno).strip()[:LONGEST_LINE]
        frame = frame.f_back
    return ""
