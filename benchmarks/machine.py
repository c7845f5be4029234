"""What a benchmark was measured on, and how a part of one is measured and kept."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil


def machine() -> dict[str, Any]:
    """Cores, memory, system, Python and the day."""
    return {
        "cores": os.cpu_count(),
        "memory_gigabytes": round(psutil.virtual_memory().total / 1e9),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def measure_part(
    result: dict[str, Any], name: str, part: Callable[[Path], dict[str, Any]], *, command: str, output: Path
) -> None:
    """Measure a part in an empty folder and write it into *result* and its file, in the place of an older one."""
    before = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        measured = part(Path(folder))
    result[name] = {
        "command": command,
        "date": machine()["date"],
        "load_before": before,
        "load_after": os.getloadavg(),
        "measured": measured,
    }
    # What has been measured is not lost with what fails after it.
    output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
