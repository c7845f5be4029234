"""The console of commands, wherever they are: in `workbench.cli`, in `pipelines`, or in the hub, which knows neither."""

from __future__ import annotations

import sys

from rich.console import Console

PIPED_WIDTH = 240


def plain_console() -> Console:
    """A console that cuts nothing off where nobody looks: in a pipe or a log."""
    return Console(soft_wrap=True, highlight=False, markup=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
