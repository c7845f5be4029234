"""The wall clock of a process of pipelines, which a test lets jump; the monotonic one goes on, as when somebody sets a clock."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path

VARIABLE = "WALL_CLOCK_FILE"


class JumpingClock:
    """How many seconds the clock of one process is from the right time: the content of a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @property
    def seconds(self) -> int:
        """What the file says now."""
        return int(self._file.read_text())

    def jump(self, seconds: int) -> None:
        """Be so far from the right time from now on."""
        beside = self._file.with_suffix(".new")
        beside.write_text(str(seconds))
        beside.replace(self._file)

    @property
    def variables(self) -> dict[str, str]:
        """With which a process of `tests.services.pipelines_project` has it."""
        return {VARIABLE: str(self._file)}

    def install(self) -> None:
        """Let this process go by it: all that asks `time.time`, and the scheduler, which compares it with the database's."""
        from pipelines.scheduler import scheduler

        clock, right = self, time.time

        class Jumping(dt.datetime):
            @classmethod
            def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]
                return dt.datetime.now(tz) + dt.timedelta(seconds=clock.seconds)

        scheduler.datetime = Jumping  # type: ignore[misc]
        time.time = lambda: right() + clock.seconds
