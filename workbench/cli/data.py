"""`workbench sql`, `topics` and `ingest`: the data from the command line."""

from __future__ import annotations

import typer


def add_commands(application: typer.Typer) -> None:
    """Register the commands of this module."""
