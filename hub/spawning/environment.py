"""What a user's JupyterLab starts with: a private home, the first notebook, and the way to the data."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.resources import resource
from workbench.runtime.kernels import jupyter_folders, new_runtime_folder
from workbench.security.secrets import private_folder
from workbench.settings import Settings

RUNTIME_VARIABLE = "JUPYTER_RUNTIME_DIR"
FIRST_NOTEBOOK = "00-start-here.ipynb"


def kernel_environment(settings: Settings) -> Mapping[str, str]:
    """Environment of every single-user server.

    Servers that `workbench up` started are found through WORKBENCH_HOME; external ones are
    told by the same variables that told us. The variables of the login are not among them.
    """
    external = Settings.load(embedded=False)
    return {
        "WORKBENCH_HOME": str(settings.home),
        **jupyter_folders(),
        **external.kafka.as_environment(),
        **external.registry.as_environment(),
        **external.warehouse.as_environment(),
        **external.spark.as_environment(),
    }


def prepare_home(spawner: Any) -> None:
    """Make the user's home private and put the first notebook there; what the user has is never overwritten."""
    home = private_folder(_home(spawner))
    target = home / FIRST_NOTEBOOK
    if not target.exists():
        shutil.copyfile(resource("notebooks") / FIRST_NOTEBOOK, target)

    spawner.environment = {**spawner.environment, RUNTIME_VARIABLE: str(new_runtime_folder())}


def remove_runtime(spawner: Any) -> None:
    """Remove the folder of the kernels' sockets once the server has stopped."""
    shutil.rmtree(spawner.environment.get(RUNTIME_VARIABLE, ""), ignore_errors=True)


def _home(spawner: Any) -> Path:
    return Path(spawner.home_dir_template.format(userid=spawner.user.id, username=spawner.user.name))
