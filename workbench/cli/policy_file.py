"""The file that the commands of `workbench policy` are about, and the options that they share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from workbench.resources import resource
from workbench.settings import Settings

if TYPE_CHECKING:
    from workbench.security.policies.reading import Policies

FILE = typer.Option(None, help="A file of policies other than that of the settings.")
AS_JSON = typer.Option(False, "--json", help="Print JSON.")


def read_file(settings: Settings, file: Path | None) -> Policies:
    """The policies of *file*, or of the settings.

    Raises:
        PoliciesRefused: naming file, line and field of everything that is wrong.
    """
    from workbench.security.policies.reading import read_policies

    return read_policies(file or settings.policies.file or resource("pipelines") / "policies.yaml")
