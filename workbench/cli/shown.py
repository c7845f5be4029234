"""What commands share for people: the console, the bar of records, and times as they are typed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from workbench.errors import AuditError

PIPED_WIDTH = 240
UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def plain_console() -> Console:
    """A console that cuts nothing off where nobody looks: in a pipe or a log."""
    return Console(soft_wrap=True, highlight=False, markup=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)


@contextmanager
def records_bar(description: str) -> Iterator[Callable[[int], object]]:
    """A count of records on a terminal; gives what advances it."""
    columns = (SpinnerColumn(), TextColumn("{task.description} {task.completed:,.0f} records"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(description, total=None)
        yield lambda count: bars.advance(task, count)


def parse_time(text: str) -> datetime | None:
    """A time as it is typed; None when it is empty.

    Raises:
        AuditError: when it is none.
    """
    if not text:
        return None
    try:
        if text[:-1].isdecimal() and text[-1] in UNITS:
            return datetime.now(UTC) - timedelta(**{UNITS[text[-1]]: int(text[:-1])})
        # Without a zone it is the time where whoever types is.
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise AuditError(
            f"{text!r} is no time", remedy="Write 2026-01-31, 2026-01-31T08:00, 90m, 12h or 7d."
        ) from error
