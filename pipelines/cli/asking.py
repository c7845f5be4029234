"""What the commands about runs share: the store, the project, and how times and states are shown."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import typer

from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from pipelines.planning.runs import Plan
    from pipelines.store.database import Store
    from workbench.security.keyset.opening import Keys

JSON = typer.Option(False, "--json", help="Print one JSON object.")
PARAMETER = typer.Option([], "--parameter", "-p", help="NAME=VALUE; may be given several times.")


@contextmanager
def open_store() -> Iterator[Store]:
    """The store of the settings.

    Raises:
        SettingsError: when no PostgreSQL is configured.
        StoreUnavailable: when it does not answer.
    """
    from pipelines.processes.opening import opened_store
    from workbench.settings import Settings

    with opened_store(Settings.load(), is_stopping=lambda: True) as store:
        yield store


def plan_of(name: str) -> Plan:
    """The plan of the pipeline of that name, as its files are now.

    Raises:
        DefinitionError: with everything that is wrong with them.
    """
    from pipelines.definition import Project, find_pipeline
    from pipelines.planning.pins import read_pins
    from pipelines.planning.run_as import RunAsRule
    from pipelines.planning.runs import Plan
    from workbench.settings import Settings

    project = Project.installed()
    return Plan(find_pipeline(project, name), read_pins(project), RunAsRule.of(Settings.load()))


def parse_given(texts: list[str]) -> dict[str, str]:
    """Values as they are typed, by name.

    Raises:
        WorkbenchError: for one that is no NAME=VALUE.
    """
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise WorkbenchError(f"{text!r} is no NAME=VALUE", remedy="Write it as -p day=2013-01-31.")
        found[name] = value
    return found


def reading_keys() -> Keys:
    """What logs and outputs of this workbench are decrypted with.

    Raises:
        KeysetError: when the token for a Vault that keeps the root key cannot be read.
    """
    from workbench.security.keyset.opening import Keys
    from workbench.settings import Settings

    settings = Settings.load()
    return Keys.of(settings.home, settings.keys)


def person() -> str:
    """Who types."""
    return getpass.getuser()


def as_line(value: object) -> str:
    """One JSON object; times as text."""
    return json.dumps(value, default=lambda each: each.isoformat() if isinstance(each, datetime) else str(each))


def shown_time(value: datetime | None) -> str:
    """A time where whoever looks is."""
    return "" if value is None else f"{value.astimezone():%Y-%m-%d %H:%M:%S}"


def print_table(columns: list[str], rows: list[list[str]], tell: Callable[[str], None] | None = None) -> None:
    """A table without lines around it; *tell* is used when there is no row."""
    from rich.table import Table

    from workbench.console import plain_console

    if not rows and tell is not None:
        tell("There is none.")
        return
    view = Table(*columns, box=None, header_style="bold")
    for row in rows:
        view.add_row(*row)
    plain_console().print(view)
