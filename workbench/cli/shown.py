"""What commands share for people: the console, and the bar of records."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

PIPED_WIDTH = 240


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
