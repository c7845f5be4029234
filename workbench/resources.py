"""Finds the files that are not code: spark_conf/, notebooks/, pipelines/*.yaml, jupyterhub_config.py."""

from __future__ import annotations

from pathlib import Path

from workbench.errors import WorkbenchError

_PACKAGE = Path(__file__).parent


def resource(name: str) -> Path:
    """The file or folder *name*: of the checkout that the package is in, else of the installed wheel.

    Raises:
        WorkbenchError: when neither has it.
    """
    for root in (_PACKAGE.parent, _PACKAGE / "resources"):
        if (root / name).exists():
            return root / name
    raise WorkbenchError(
        f"{name} is neither in {_PACKAGE.parent} nor in the installed package",
        remedy="Install analytics-workbench again.",
    )
