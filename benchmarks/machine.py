"""What a benchmark was measured on."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
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
