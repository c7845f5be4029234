"""What servers have written while a test failed: the report of the test has it, for a machine that is gone afterwards."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

LAST_LINES = 40
MOST_FILES = 12
MOST_BYTES = 20_000


def last_lines(folder: Path, since: float) -> Iterator[tuple[Path, str]]:
    """The last lines of each log below *folder* that was written to since then, the newest log first.

    Args:
        folder: with those of all servers of this process of tests.
        since: in seconds since the epoch.
    """
    written = [(changed, path) for path in logs(folder) if (changed := changed_at(path)) >= since]
    told = ((path, "\n".join(ending(path).splitlines()[-LAST_LINES:])) for _, path in sorted(written, reverse=True))
    return itertools.islice(((path, lines) for path, lines in told if lines), MOST_FILES)


def logs(folder: Path) -> Iterator[Path]:
    """Links are not followed: jars and drivers have no logs."""
    for at, _, names in os.walk(folder):
        yield from (Path(at, each) for each in names if each.endswith(".log"))


def changed_at(path: Path) -> float:
    """When it was written to; 0.0 when it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def ending(path: Path) -> str:
    """The end of a file; empty when it is gone, or is not text: a segment of a topic has the name of a log, too."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - MOST_BYTES))
            content = file.read()
    except OSError:
        return ""
    return "" if b"\0" in content else content.decode("utf-8", errors="replace")
