"""`workbench pipelines scheduler` and `worker`: processes that `workbench up` starts by itself."""

from __future__ import annotations

import logging

import typer


def add_commands(group: typer.Typer) -> None:
    """Register the commands of this module."""
    group.command("scheduler")(pipelines_scheduler)
    group.command("worker")(pipelines_worker)


def pipelines_scheduler() -> None:
    """Make runs when they are due, until Ctrl-C or `kill`. Several may run: each run is made once.

    Example: workbench pipelines scheduler
    """
    from pipelines.definition import Project
    from pipelines.scheduler.process import SchedulerOptions, run_scheduler
    from workbench.settings import Settings

    _log()
    run_scheduler(Settings.load(), SchedulerOptions(project=Project.installed()))


def pipelines_worker(
    slots: int = typer.Option(0, min=0, help="How many steps run at once; 0 is as many as there are processors."),
) -> None:
    """Run steps until Ctrl-C or `kill`. Any number of workers may run, on any machine that reaches the store.

    Example: workbench pipelines worker --slots 2
    """
    from pipelines.definition import Project
    from pipelines.worker.process import WorkerOptions, default_slots, run_worker
    from workbench.settings import Settings

    _log()
    run_worker(Settings.load(), WorkerOptions(slots=slots or default_slots(), project=Project.installed()))


def _log() -> None:
    logging.getLogger("pipelines").setLevel(logging.INFO)
