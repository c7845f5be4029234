"""What keeps a user's server from being stopped as idle: the rule, and marks of work that no kernel shows.

A mark is a small file in the private folder of the user's server. It counts while the process
that wrote it lives, so a run that was killed keeps nothing alive.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from workbench.living import birth_of, lives
from workbench.security.secrets import private_folder, write_private

FOLDER_VARIABLE = "JUPYTER_RUNTIME_DIR"  # Jupyter's own: kernels and terminals inherit it from the server
REPORT_SECONDS = 60.0
LOOK_SECONDS = (1.0, 60.0)


@dataclass(frozen=True, kw_only=True)
class IdlePolicy:
    """When an idle server is stopped, and when its owner hears of it."""

    idle_seconds: float
    warning_seconds: float  #: before the stop; 0 is no warning

    @property
    def report_seconds(self) -> float:
        """How often a server tells the hub of its last activity, and the culler looks; a fraction of the idle time."""
        return max(1.0, min(REPORT_SECONDS, self.idle_seconds // 20))

    def look_seconds(self, idle: float) -> float:
        """How long a server that was idle for *idle* seconds may wait until it looks for work again.

        The nearer the stop, the shorter: work that begins before it is seen before it.
        """
        least, most = LOOK_SECONDS
        return max(least, min(most, (self.idle_seconds - idle) / 10))

    def is_news(self, last: datetime, told: datetime) -> bool:
        """Whether the hub has to hear of activity at *last* at once, and not with the next report."""
        return (last - told).total_seconds() > 1.5 * self.report_seconds

    def is_near(self, last: datetime, now: datetime) -> bool:
        """Whether the owner of a server that was last active at *last* is to be warned."""
        return bool(self.warning_seconds) and self.stops_at(last) - now <= timedelta(seconds=self.warning_seconds)

    def stops_at(self, last: datetime) -> datetime:
        """When the server is stopped if nothing runs until then."""
        return last + timedelta(seconds=self.idle_seconds)


@contextmanager
def mark_busy(name: str) -> Iterator[None]:
    """Keep the user's server running while the block runs, whatever its kernels do.

    Kernels that run a cell, running Spark operations and commands in terminals count by
    themselves. Outside of a user's server this does nothing.

    >>> with mark_busy("nightly-report"):
    ...     run_for_hours()
    """
    runtime = os.environ.get(FOLDER_VARIABLE, "")
    if not runtime or not Path(runtime).is_dir():
        yield
        return
    slug = re.sub(r"[^A-Za-z0-9-]+", "-", name)[:60]
    # The same notebook may run twice at once, each with a mark of its own.
    mark = private_folder(marks_folder(Path(runtime))) / f"{slug}.{secrets.token_hex(4)}.json"
    write_private(mark, json.dumps({"name": name, "pid": os.getpid(), "started": birth_of(os.getpid())}))
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)


def marks_folder(runtime: Path) -> Path:
    """Where the marks of the server with the folder *runtime* are."""
    return runtime / "activity"


def read_marks(folder: Path) -> list[str]:
    """Names of the marks whose process lives; what dead processes left behind is removed."""
    names = []
    for mark in sorted(folder.glob("[!.]*.json")):
        try:
            content = json.loads(mark.read_text(encoding="utf-8"))
            name, is_alive = str(content["name"]), lives(int(content["pid"]), str(content["started"]))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError):
            name, is_alive = "", False
        if is_alive:
            names.append(name)
        else:
            mark.unlink(missing_ok=True)
    return names
