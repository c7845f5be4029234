"""What a user's JupyterLab starts with: a private home, the first notebook, and the way to the data."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hub.addresses import HubPorts
from hub.services import PREFIX, has_pipelines
from hub.spawning import os_users
from workbench.resources import resource
from workbench.runtime.kernels import jupyter_folders, new_runtime_folder
from workbench.sections import Section
from workbench.security.secrets import private_folder
from workbench.settings import Settings

RUNTIME_VARIABLE = "JUPYTER_RUNTIME_DIR"
FIRST_NOTEBOOK = "00-start-here.ipynb"
LESSONS = "[0-9]*.ipynb"  # the first notebook and those that follow it
# What `prepare_home` does, in the shell of servers whose homes the hub does not write to: from $lessons to $home.
COPY_LESSONS = f"""\
for notebook in "$lessons"/{LESSONS}; do
  target="$home/$(basename "$notebook")"
  [ -e "$target" ] || [ -L "$target" ] || cp "$notebook" "$target"
done
"""
# -P: what lies in the folder where it starts, a home, is not imported.
SERVER = (sys.executable, "-P", "-m", "hub.spawning.singleuser")
# What belongs to the workbench's own account: DuckDB's file takes one writer, Spark's endpoint is each user's own.
NOT_SHARED = ("WORKBENCH_WAREHOUSE_FILE", "WORKBENCH_WAREHOUSE_KEY_FILE", "WORKBENCH_SPARK_ENDPOINT_FILE")


def users_folder(settings: Settings) -> Path:
    """Where the users' homes are; demo accounts have others than real ones."""
    # Without links: the OS users are named after their homes.
    return settings.home.resolve() / ("users-demo" if settings.login.is_demo else "users")


def kernel_environment(settings: Settings) -> Mapping[str, str]:
    """Environment of every single-user server that runs as the hub's own OS user.

    Servers that `workbench up` started are found through WORKBENCH_HOME; external ones are
    told by the same variables that told us. The variables of the login are not among them.
    """
    external = Settings.load(embedded=False)
    return {
        "WORKBENCH_HOME": str(settings.home),
        **jupyter_folders(),
        **service_environment(settings),
        **external.kafka.as_environment(),
        **external.registry.as_environment(),
        **external.warehouse.as_environment(),
        **external.spark.as_environment(),
    }


def separate_environment(settings: Settings, shared: Path) -> Mapping[str, str]:
    """Environment of a single-user server whose OS user cannot read WORKBENCH_HOME.

    Everything that it needs is said: the servers that `workbench up` started too, but Spark,
    which each user has of their own. The files that it names are copied to *shared*.
    """
    sections = (settings.kafka, settings.registry, settings.warehouse, Settings.load(embedded=False).spark)
    environment = {name: value for section in sections for name, value in section.as_environment().items()}
    files = {name: path for section in sections for name, path in _files(section).items()}
    return {
        **jupyter_folders(),
        **service_environment(settings),
        **{name: value for name, value in environment.items() if name not in files},
        **{name: str(_share(path, shared)) for name, path in files.items() if name not in NOT_SHARED},
    }


def service_environment(settings: Settings) -> Mapping[str, str]:
    """Where panels find the page of pipelines: on loopback, since their servers are on this machine."""
    if not has_pipelines(settings):
        return {}
    return {"WORKBENCH_PIPELINES_SERVICE_URL": f"http://127.0.0.1:{HubPorts.read(settings.home).services}{PREFIX}"}


def own_environment(user: str, home: Path) -> Mapping[str, str]:
    """What depends on the OS user of a server that has one of its own, and a /tmp too."""
    name = os_users.os_name(user, home)
    return {
        "HOME": str(home),
        "USER": name,
        "LOGNAME": name,
        "WORKBENCH_HOME": str(home / ".workbench"),
        # Sockets have short paths, and /tmp is the server's own.
        RUNTIME_VARIABLE: "/tmp/jupyter",  # noqa: S108
    }


def share_jars(settings: Settings, shared: Path) -> None:
    """Copy Spark's jars to where every user reads them."""
    for jar in (settings.home / "jars" / "spark").glob("*.jar"):
        _share(jar, readable_folder(shared / "jars" / "spark"))


def readable_folder(path: Path) -> Path:
    """Make *path* a folder that everybody reads who is let to the folder above it."""
    for each in reversed([path, *path.parents]):
        if not each.exists():
            each.mkdir()
            each.chmod(0o755)
    return path


def prepare_home(spawner: Any) -> None:
    """Make the user's home private and put the lessons there; what the user has is never overwritten."""
    home = private_folder(Path(spawner.home_dir_template.format(userid=spawner.user.id, username=spawner.user.name)))
    for lesson in resource("notebooks").glob(LESSONS):
        _copy_new(lesson, home / lesson.name)
    spawner.environment = {**spawner.environment, RUNTIME_VARIABLE: str(new_runtime_folder())}


def remove_runtime(spawner: Any) -> None:
    """Remove the folder of the kernels' sockets once the server has stopped."""
    shutil.rmtree(spawner.environment.get(RUNTIME_VARIABLE, ""), ignore_errors=True)


def _copy_new(source: Path, target: Path) -> None:
    """Copy a file unless there is something at its place: a link that the user has put there is not followed."""
    with contextlib.suppress(FileExistsError):
        opened = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(opened, "wb") as file:
            file.write(source.read_bytes())


def _files(section: Section) -> dict[str, Path]:
    values = {section.label(name): getattr(section, name) for name in section.model_fields_set}
    return {name: value for name, value in values.items() if isinstance(value, Path)}


def _share(file: Path, folder: Path) -> Path:
    if file.is_dir():  # of Spark's profiles
        for each in file.glob("*.conf"):
            _share(each, folder / file.name)
        return readable_folder(folder / file.name)
    copy = readable_folder(folder) / file.name
    fresh = folder / f".{file.name}"
    shutil.copyfile(file, fresh)
    fresh.chmod(0o644)
    fresh.replace(copy)
    return copy
