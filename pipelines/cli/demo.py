"""`workbench demo`: real data from end to end, with a bar for each part."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from workbench.errors import WorkbenchError
from workbench.runtime.process import holding
from workbench.security.audit import Action
from workbench.security.audit.commands import audited


def add_commands(application: typer.Typer) -> None:
    """Register the command of this module."""
    application.command()(demo)


@audited(Action.DATA_WRITTEN, "demo")
def demo(
    month: int = typer.Option(1, min=1, max=12, help="The month that the notebook computes."),
) -> None:
    """Bring 336,776 real flights through Kafka into the warehouse and run a notebook over them with Spark.

    Uses the running workbench; without one it starts the broker, the warehouse and Spark, and
    stops them again. Running it twice adds nothing. The last line of stdout is JSON.

    Example: workbench demo --month 2 | tail -1
    """
    from pipelines.demo import as_line, run_demo
    from workbench.embedded.machine import running_servers

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    with running_servers(lambda text: console.print(text, markup=False)) as settings, only_one(settings.home):
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console) as bars:

            @contextmanager
            def bar(description: str, total: int | None) -> Iterator[Callable[[int], object]]:
                task = bars.add_task(description, total=total)
                started = time.monotonic()
                yield lambda count: bars.advance(task, count)
                done = bars.tasks[task].completed
                bars.update(task, total=done or 1, completed=done or 1)
                if not console.is_terminal:
                    console.print(f"{description}: {done:.0f} in {time.monotonic() - started:.1f} s", markup=False)

            result = run_demo(settings, month, bar)
    typer.echo(as_line(result))


def only_one(home: Path) -> AbstractContextManager[None]:
    """Refuse a second demo beside the first: both would send the rows that are missing."""
    taken = WorkbenchError("another `workbench demo` is running here", remedy="Wait until it has ended.")
    return holding(home / "demo.lock", taken)
