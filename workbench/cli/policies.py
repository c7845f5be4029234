"""`workbench policy`: who may read what of the warehouse.

Drivers are imported by the command that uses them.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from workbench.cli import policy_data
from workbench.cli.policy_file import AS_JSON, FILE, read_file
from workbench.errors import WorkbenchError
from workbench.security.audit import Action
from workbench.security.audit.commands import audits_itself, not_audited, recording
from workbench.settings import Settings

if TYPE_CHECKING:
    from workbench.warehouse.policies.administration import Administration
    from workbench.warehouse.policies.applying import Applied

WHOLE_WIDTH = 1000
GROUPS = typer.Option(
    None, "--group", metavar="GROUP", help="A group of the hub that the person is in; can be repeated."
)


def add_commands(application: typer.Typer) -> None:
    """Register the commands of this module."""
    policy = typer.Typer(help="Who may read what of the warehouse: pipelines/policies.yaml.", no_args_is_help=True)
    for command in (plan, apply, verify, explain, credentials, remove, schema):
        policy.command(command.__name__)(command)
    policy_data.add_commands(policy)
    application.add_typer(policy, name="policy")


@not_audited("It only compares.")
def plan(
    file: Path | None = FILE,
    check: bool = typer.Option(False, "--check", help="Exit with 1 when there is any difference."),
    as_sql: bool = typer.Option(False, "--sql", help="Print the statements."),
    as_json: bool = AS_JSON,
) -> None:
    """Show every difference between the file and the warehouse; changes nothing.

    Example: workbench policy plan --sql
    """
    settings = Settings.load()
    if settings.warehouse.dialect == "redshift":
        _print_statements(_redshift_statements(settings, file), as_json=as_json)
        return
    from workbench.warehouse.policies.applying import plan

    found = plan(_administration(settings), read_file(settings, file))
    if as_sql:
        _print_statements([statement for change in found.changes for statement in change.statements], as_json=as_json)
    else:
        _print_changes(found, nothing="The warehouse has what the policies ask for.", as_json=as_json)
    if check and found.changes:
        raise typer.Exit(1)


@audits_itself(Action.POLICIES_APPLIED)
def apply(file: Path | None = FILE, as_json: bool = AS_JSON) -> None:
    """Change roles, grants, row security and views until the warehouse has what the file asks for, in one transaction.

    Example: workbench policy apply
    """
    from workbench.warehouse.policies.applying import apply

    settings = Settings.load()
    policies = read_file(settings, file)
    path = policies.document.path
    with recording(settings.home, Action.POLICIES_APPLIED, str(path)) as details:
        details["sha256"] = policies.document.sha256
        found = apply(_administration(settings), policies)
        details["changes"] = len(found.changes)
    _print_changes(found, nothing="Nothing to do.", as_json=as_json)


@not_audited("It only compares.")
def verify(file: Path | None = FILE, as_json: bool = AS_JSON) -> None:
    """Read back what the warehouse has, and name every deviation from the file; exit code 1 when there is one.

    Example: workbench policy verify
    """
    from workbench.warehouse.policies.applying import plan

    settings = Settings.load()
    found = plan(_administration(settings), read_file(settings, file))
    _print_changes(found, nothing="The warehouse has what the policies ask for.", as_json=as_json)
    if found.changes or found.warnings:
        raise typer.Exit(1)


@not_audited("It reads policies and the catalog, and no row.")
def explain(
    user: str = typer.Argument(help="A name of the hub."),
    table: str = typer.Argument(help="schema.table"),
    group: list[str] | None = GROUPS,
    file: Path | None = FILE,
    as_json: bool = AS_JSON,
) -> None:
    """Say what somebody sees of a table, and why. Without --group: with the groups of the last credentials.

    With --group everybody can ask, as DW_USER; credentials are an administrator's to read.

    Example: workbench policy explain gh-octo raw.flights --group analysts
    """
    from workbench.security.policies.explaining import explain
    from workbench.security.policies.resolving import roles_of
    from workbench.warehouse.policies.administration import Administration
    from workbench.warehouse.policies.applying import resolved_policies
    from workbench.warehouse.policies.people import groups_of

    settings = Settings.load()
    reader, policies = Administration.reading(settings), read_file(settings, file)
    groups = tuple(group) if group else groups_of(_administration(settings), user)
    resolved = resolved_policies(reader, policies)
    if table not in resolved.tables:
        raise WorkbenchError(
            f"no role of the policies names {table}, so nobody but services reads it",
            remedy=f"Name one of {', '.join(resolved.tables)}.",
        )
    found = explain(resolved, user, roles_of(policies, groups), table)
    if as_json:
        typer.echo(json.dumps({"groups": groups, **asdict(found)}, indent=2))
        return
    typer.echo(f"connects as  {found.role}")
    typer.echo(f"groups       {', '.join(groups) or 'none'}")
    typer.echo(f"roles        {', '.join(found.roles) or 'none'}")
    typer.echo(f"reads        {', '.join(found.reads) or 'nothing'}")
    typer.echo(f"rows         {found.rows}")
    view = Table("column", "shown", "because", box=None, header_style="bold")
    for column in found.columns:
        view.add_row(column.name, column.shown, column.because)
    Console(width=WHOLE_WIDTH, highlight=False, markup=False).print(view)


@audits_itself(Action.CREDENTIALS_GIVEN)
def credentials(
    user: str = typer.Argument(help="A name of the hub."),
    group: list[str] | None = GROUPS,
    file: Path | None = FILE,
    as_json: bool = AS_JSON,
) -> None:
    """Make somebody's role in the warehouse or bring it up to date, with a new password in a file that only you read.

    Example: workbench policy credentials gh-octo --group analysts
    """
    from workbench.security.secrets import private_folder, write_private
    from workbench.warehouse.policies.people import groups_of, hand_out

    settings = Settings.load()
    administration, policies = _administration(settings), read_file(settings, file)
    groups = tuple(group) if group else groups_of(administration, user)
    with recording(settings.home, Action.CREDENTIALS_GIVEN, user) as details:
        found = hand_out(administration, policies, user, groups, hours=settings.policies.password_hours)
        details["role"] = found.user
    variables = found.warehouse(administration.warehouse).as_environment()
    path = private_folder(settings.home / "credentials") / f"{found.user}.env"
    write_private(path, "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items()))
    if as_json:
        told = {
            "role": found.user,
            "roles": found.roles,
            "valid_until": found.valid_until.isoformat(),
            "file": str(path),
        }
        typer.echo(json.dumps(told))
        return
    typer.echo(
        f"{path}\n{found.user} with {', '.join(found.roles) or 'no roles'}, until {found.valid_until.isoformat()}"
    )


@audits_itself(Action.CREDENTIALS_REMOVED)
def remove(user: str = typer.Argument(help="A name of the hub."), as_json: bool = AS_JSON) -> None:
    """Take somebody's role in the warehouse away, and end its connections.

    Example: workbench policy remove gh-octo
    """
    from workbench.security.policies.names import user_role
    from workbench.warehouse.policies.people import remove

    settings = Settings.load()
    with recording(settings.home, Action.CREDENTIALS_REMOVED, user) as details:
        steps = remove(_administration(settings), user)
        details.update(role=user_role(user), steps=len(steps))
    (settings.home / "credentials" / f"{user_role(user)}.env").unlink(missing_ok=True)
    typer.echo(json.dumps({"steps": steps}) if as_json else "\n".join(steps) or f"{user} has no role in the warehouse.")


@not_audited("It prints a text.")
def schema() -> None:
    """Print the JSON Schema of the file, for editors.

    Example: workbench policy schema > pipelines/policies.schema.json
    """
    from workbench.security.policies.model import file_schema

    typer.echo(json.dumps(file_schema(), indent=2, ensure_ascii=False))


def _administration(settings: Settings) -> Administration:
    from workbench.warehouse.policies.administration import Administration

    return Administration.of(settings, is_embedded=not Settings.load(embedded=False).warehouse.host)


def _redshift_statements(settings: Settings, file: Path | None) -> Sequence[str]:
    from workbench.security.policies.compile.postgresql import Surroundings
    from workbench.security.policies.compile.redshift import compile_redshift
    from workbench.security.policies.resolving import resolve
    from workbench.warehouse.policies.redshift import read_redshift_tables

    warehouse = settings.warehouse
    resolved = resolve(read_file(settings, file), read_redshift_tables(warehouse))
    return compile_redshift(resolved, Surroundings(warehouse.database, warehouse.user))


def _print_statements(statements: Sequence[str], *, as_json: bool) -> None:
    typer.echo(
        json.dumps(list(statements), indent=2) if as_json else "".join(f"{each};\n" for each in statements), nl=as_json
    )


def _print_changes(found: Applied, *, nothing: str, as_json: bool) -> None:
    if as_json:
        changes = [asdict(change) for change in found.changes]
        told = {"changes": changes, "warnings": found.warnings, "notes": found.notes}
        typer.echo(json.dumps(told, indent=2))
        return
    typer.echo("\n".join(map(str, found.changes)) or nothing)
    for warning in found.warnings:
        typer.echo(f"FIX {warning}.")
    for note in found.notes:
        typer.echo(f"NOTE {note}.")
