"""`workbench secrets`: secrets that are kept encrypted with the keyset, for references `keyset:NAME`."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING

import typer
from pydantic import SecretStr
from rich.table import Table

from workbench.cli.keys import RESOURCE as KEYSET
from workbench.cli.keys import open_keys
from workbench.console import plain_console
from workbench.errors import SettingsError
from workbench.references import NAME as NAMES
from workbench.security.audit import Action
from workbench.security.audit.commands import audits_itself, not_audited, recording
from workbench.settings import Settings

if TYPE_CHECKING:
    # `workbench --help` needs no cryptography.
    from workbench.security.kept_secrets import KeptSecrets

NAME = typer.Argument(help="Letters, digits, ., - and _.")
AS_JSON = typer.Option(False, "--json", help="Print one JSON value.")
MOST_CHARACTERS = 1 << 16


def add_commands(application: typer.Typer) -> None:
    """Register the commands of this module."""
    group = typer.Typer(help="Secrets kept encrypted with the keyset.", no_args_is_help=True)
    group.command("set")(set_secret)
    group.command("list")(list_secrets)
    group.command("remove")(remove)
    application.add_typer(group, name="secrets")


@audits_itself(Action.SECRET_SET)
def set_secret(name: str = NAME, as_json: bool = AS_JSON) -> None:
    """Keep a secret, read from standard input or, on a terminal, asked for without showing it. One of that name is replaced.

    A newline at its end is left out. It is never an argument: everybody on the machine can read those.

    Example: workbench secrets set api-token < token.txt
    """
    if not re.fullmatch(NAMES, name):
        raise SettingsError([f"{name!r} is no name of a secret. Write letters, digits, ., - and _, at most 64."])
    value = _ask()
    settings, kept = _kept()
    if not kept.keys.file.exists:
        with recording(settings.home, Action.KEYSET_CREATED, KEYSET):
            kept.keys.ensure()
    with recording(settings.home, Action.SECRET_SET, f"secret:{name}") as details:
        is_new = kept.set(name, value)
        details["new"] = is_new
    text = f"{name} is {'kept' if is_new else 'replaced'}. Refer to it as keyset:{name}."
    typer.echo(json.dumps({"name": name, "new": is_new}) if as_json else text)


@not_audited("It shows names, and no secret.")
def list_secrets(as_json: bool = AS_JSON) -> None:
    """List the names of what is kept, and the version of the keyset that encrypts each. No secret is shown.

    Example: workbench secrets list
    """
    _, kept = _kept()
    names = kept.names()
    if as_json:
        typer.echo(json.dumps([{"name": name, "version": version} for name, version in names.items()]))
        return
    view = Table("reference", "version", box=None, header_style="bold")
    for name, version in names.items():
        view.add_row(f"keyset:{name}", str(version))
    plain_console().print(view)


@audits_itself(Action.SECRET_REMOVED)
def remove(name: str = NAME, as_json: bool = AS_JSON) -> None:
    """Keep a secret no longer. Whatever refers to it fails from then on.

    Example: workbench secrets remove api-token
    """
    settings, kept = _kept()
    with recording(settings.home, Action.SECRET_REMOVED, f"secret:{name}"):
        kept.remove(name)
    typer.echo(json.dumps({"name": name}) if as_json else f"{name} is removed.")


def _ask() -> SecretStr:
    if sys.stdin.isatty():
        found = str(typer.prompt("Secret", hide_input=True, confirmation_prompt=True))
    else:
        found = sys.stdin.read(MOST_CHARACTERS + 1).removesuffix("\n").removesuffix("\r")
    if not found.strip():
        raise SettingsError(["The secret is empty. Write it to standard input."])
    if len(found) > MOST_CHARACTERS:
        raise SettingsError([f"The secret has more than {MOST_CHARACTERS:,} characters. Refer to a file instead."])
    return SecretStr(found)


def _kept() -> tuple[Settings, KeptSecrets]:
    from workbench.security.kept_secrets import KeptSecrets

    settings, keys = open_keys()
    return settings, KeptSecrets.of(settings.home, keys)
