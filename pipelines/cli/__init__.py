"""The commands of this package: `workbench demo` and `workbench pipelines …`."""

from __future__ import annotations

import typer

from pipelines.cli import backfills, definitions, demo, elsewhere, flows, overview, processes, runs


def add_commands(application: typer.Typer) -> None:
    """Called through the entry point group `workbench.commands`."""
    demo.add_commands(application)
    group = typer.Typer(help="Notebooks on a schedule: pipelines/jobs/.", no_args_is_help=True)
    for module in (definitions, runs, overview, backfills, flows, processes, elsewhere):
        module.add_commands(group)
    application.add_typer(group, name="pipelines")
