"""Times as they are typed in options."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from workbench.durations import parse_duration
from workbench.errors import WorkbenchError


def parse_time(text: str) -> datetime | None:
    """A time as it is typed, or how long ago it was; None when it is empty.

    Raises:
        WorkbenchError: when it is none.
    """
    if not text:
        return None
    try:
        with suppress(ValueError):
            return datetime.now(UTC) - parse_duration(text)
        # Without a zone it is the time where whoever types is.
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise WorkbenchError(
            f"{text!r} is no time", remedy="Write 2026-01-31, 2026-01-31T08:00, 90m, 1h30m or 7d."
        ) from error
