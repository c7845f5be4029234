"""`workbench pipelines check`, `next` and `schema`: what can be said of pipelines without a server."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from workbench.console import plain_console
from workbench.errors import WorkbenchError
from workbench.security.audit.commands import not_audited

if TYPE_CHECKING:
    from pipelines.definition import Pipeline, Problem, Project

FILE = typer.Option(None, "--file", help="A file other than that of pipelines/jobs/.")
JSON = typer.Option(False, "--json", help="Print one JSON object.")


def add_commands(group: typer.Typer) -> None:
    """Register the commands of this module."""
    group.command("check")(pipelines_check)
    group.command("next")(pipelines_next)
    group.command("schema")(pipelines_schema)
    group.command("webhook")(pipelines_webhook)


@not_audited("It only reads files.")
def pipelines_check(
    files: list[Path] = typer.Argument(None, help="Files of pipelines; without one, all of pipelines/jobs/."),
    secrets: bool = typer.Option(False, "--secrets", help="Also whether secrets are there, for who starts this."),
    as_json: bool = JSON,
) -> None:
    """Find what would keep pipelines from running: every problem with its file, line, field and remedy.

    A file is checked in the project that it lies in, the nearest folder above it with pipelines/jobs.
    Modules of functions are imported, each in a process of its own; nothing else is run. With
    --secrets, each secret that a file refers to is read, and none is shown: run it where workers are
    started, with their environment. Exits with 1 when something is wrong.

    Example: workbench pipelines check
    """
    from pipelines.definition import Project, check_files
    from pipelines.definition.channels import channel_problems
    from pipelines.planning.run_as import run_as_problems
    from pipelines.planning.unsupported import unsupported_problems

    found: list[Problem] = []
    pipelines: list[Pipeline] = []
    for project, paths in _by_project(files or sorted(Project.installed().jobs.glob("*.yaml"))).items():
        checked = check_files(paths, project)
        found += [*checked.problems, *unsupported_problems(checked.pipelines, paths)]
        found += [*run_as_problems(checked.pipelines, paths), *channel_problems(project.alerts)]
        pipelines += checked.pipelines
        found += _missing_secrets(checked.pipelines, paths) if secrets else ()
    problems = _from_here(found)
    if as_json:
        names = [{"name": each.name, "sha256": each.definition.sha256} for each in pipelines]
        typer.echo(json.dumps({"pipelines": names, "problems": [each.as_dict() for each in problems]}))
    else:
        for each in problems:
            typer.echo(str(each))
        count = len({each.name for each in pipelines} - {each.file.stem for each in problems})
        typer.echo(f"{count} pipeline is in order." if count == 1 else f"{count} pipelines are in order.")
    if problems:
        raise typer.Exit(1)


def _missing_secrets(pipelines: Iterable[Pipeline], paths: Iterable[Path]) -> Iterable[Problem]:
    from pipelines.planning.secrets_there import secret_problems
    from workbench.security.references import references_of
    from workbench.settings import Settings

    return secret_problems(pipelines, paths, references_of(Settings.load(), os.environ))


@not_audited("It only reads files.")
def pipelines_next(
    name: str = typer.Argument("", help="The pipeline: a file of pipelines/jobs/ without .yaml."),
    count: int = typer.Option(5, min=1, max=1000, help="How many instants."),
    file: Path | None = FILE,
    as_json: bool = JSON,
) -> None:
    """Show when the schedule of a pipeline is due next, in its zone and in UTC.

    Example: workbench pipelines next daily-delays
    """
    from pipelines.calendar import next_instants

    rule = (pipeline := _named(name, file)).definition.schedule
    if rule is None:
        raise WorkbenchError(
            f"{pipeline.name} has no schedule", remedy="Give it one; docs/pipelines.md has the format."
        )
    found = next_instants(rule.schedule, datetime.now(UTC), count)
    if as_json:
        instants = [{"local": local.isoformat(), "utc": utc.isoformat()} for local, utc in found]
        typer.echo(json.dumps({"pipeline": pipeline.name, "cron": rule.cron, "zone": rule.zone, "next": instants}))
        return
    view = Table(rule.zone, "UTC", box=None, header_style="bold")
    for local, utc in found:
        view.add_row(f"{local:%a %Y-%m-%d %H:%M %z}", f"{utc:%a %Y-%m-%d %H:%M}")
    plain_console().print(view)


@not_audited("It prints a text.")
def pipelines_schema(
    name: str = typer.Argument("", help="A pipeline: the schema of its parameters, with which a form is made."),
    file: Path | None = FILE,
) -> None:
    """Print the JSON Schema of files of pipelines, or of the parameters of one.

    Example: workbench pipelines schema > pipelines/jobs/pipeline.schema.json
    """
    from pipelines.definition import file_schema
    from pipelines.parameters import form_schema

    schema = form_schema(_named(name, file).parameters) if name or file else file_schema()
    typer.echo(json.dumps(schema, indent=2, ensure_ascii=False))


@not_audited("It signs with a secret of who types it; what the service makes of the request is recorded.")
def pipelines_webhook(
    name: str = typer.Argument("", help="The pipeline: a file of pipelines/jobs/ without .yaml."),
    body: Path = typer.Option(..., "--body", help="File with what will be sent, byte for byte.", dir_okay=False),
    request: str = typer.Option(
        "", "--id", help="Of the request; the same id makes the same run. A new one unless given."
    ),
    file: Path | None = FILE,
    as_json: bool = JSON,
) -> None:
    """Sign a request as a sender does, and print its headers; the secret is read here, as the trigger names it.

    They are good for five minutes. Nothing is sent.

    Example: workbench pipelines webhook orders --body event.json > headers; curl -H @headers --data-binary @event.json $URL
    """
    import time
    import uuid

    from pipelines.service.webhooks.signing import IDS, Signed, key_of
    from workbench.references import SecretReference
    from workbench.security.references import references_of
    from workbench.settings import Settings

    triggers = (pipeline := _named(name, file)).definition.triggers
    rules = [each.webhook for each in triggers if each.webhook is not None]
    if not rules:
        raise WorkbenchError(
            f"{pipeline.name} has no trigger by webhook", remedy="Give it one; docs/pipelines.md has the format."
        )
    if request and not IDS.fullmatch(request):
        raise WorkbenchError(f"{request!r} is no id", remedy="Take letters, digits, - and _; no full stop.")
    reference = SecretReference.parse(rules[0].secret)
    references = references_of(Settings.load(), os.environ)
    key = key_of(references.read(reference, remedy="Set it for this command, too."))
    try:
        content = body.read_bytes()
    except OSError as error:
        raise WorkbenchError(f"{body}: {error.strerror}", remedy="Name a file with what will be sent.") from None
    headers = Signed(id=request or f"msg_{uuid.uuid4().hex}", timestamp=int(time.time()), body=content).headers(key)
    typer.echo(json.dumps(headers) if as_json else "\n".join(f"{each}: {value}" for each, value in headers.items()))


def _named(name: str, file: Path | None) -> Pipeline:
    from pipelines.definition import Project, find_pipeline, read_pipeline

    if bool(name) == (file is not None):
        raise typer.BadParameter("give either the name of a pipeline or --file")
    if file is None:
        return find_pipeline(Project.installed(), name)
    return read_pipeline(file, Project.around(file) or Project.installed())


def _by_project(files: Iterable[Path]) -> dict[Project, list[Path]]:
    """The files of each project; those that lie in none belong to that of the workbench."""
    from pipelines.definition import Project

    found: dict[Project, list[Path]] = {}
    for each in files:
        project = Project.around(each, imports=True) or Project.installed(imports=True)
        found.setdefault(project, []).append(each)
    return found


def _from_here(problems: Iterable[Problem]) -> list[Problem]:
    """Paths as the working folder sees them, where that is shorter."""
    return [
        replace(each, file=min(each.file, Path(os.path.relpath(each.file)), key=lambda path: len(str(path))))
        for each in problems
    ]
