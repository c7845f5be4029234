"""`workbench topics`: the file of topics, compared with the cluster.

Drivers are imported by the command that uses them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from workbench.resources import resource
from workbench.security.audit import Action
from workbench.security.audit.commands import audited, not_audited
from workbench.settings import Settings

if TYPE_CHECKING:
    from workbench.ingestion.cluster.connection import KafkaConnection
    from workbench.ingestion.topics import Change, Topic

WHOLE_WIDTH = 1000
FILE = typer.Option(None, help="A topics file other than pipelines/topics.yaml.")
PRUNE = typer.Option(
    False, "--prune-acls", help="Remove ACLs of these topics that are not in the file, but no denials."
)
LOSS = typer.Option(
    None,
    "--allow-data-loss",
    metavar="TOPIC",
    help="Let changes of retention and compaction through for this topic; can be repeated.",
)


def add_commands(application: typer.Typer) -> None:
    """Register the commands of this module."""
    topics = typer.Typer(help="Topics as code: pipelines/topics.yaml.", no_args_is_help=True)
    topics.command("plan")(plan)
    topics.command("apply")(apply)
    topics.command("list")(list_all)
    application.add_typer(topics, name="topics")


@not_audited("It only compares.")
def plan(
    file: Path | None = FILE,
    check: bool = typer.Option(False, "--check", help="Exit with 1 when there is any difference."),
    prune_acls: bool = PRUNE,
    allow_data_loss: list[str] | None = LOSS,
    as_json: bool = typer.Option(False, "--json", help="Print a JSON array of differences."),
) -> None:
    """Show every difference between the file and the cluster, and what `topics apply` would do about it.

    Example: workbench topics plan --check
    """
    from workbench.ingestion.topics import plan_topics

    wanted, connection = _read(file)
    changes = plan_topics(connection, wanted, prune_acls=prune_acls, allow_data_loss=allow_data_loss or ())
    _print(changes, as_json=as_json)
    if check and changes:
        raise typer.Exit(1)


@audited(Action.TOPICS_CHANGED, "topics")
def apply(
    file: Path | None = FILE,
    prune_acls: bool = PRUNE,
    allow_data_loss: list[str] | None = LOSS,
    as_json: bool = typer.Option(False, "--json", help="Print a JSON array of what was done."),
) -> None:
    """Change topics, properties and ACLs until the cluster has what the file asks for; refuse what loses data.

    Example: workbench topics apply
    """
    from workbench.ingestion.topics import apply_topics

    wanted, connection = _read(file)
    changes = apply_topics(connection, wanted, prune_acls=prune_acls, allow_data_loss=allow_data_loss or ())
    _print(changes, as_json=as_json, done=True)


@not_audited("It only looks.")
def list_all(
    file: Path | None = FILE,
    as_json: bool = typer.Option(False, "--json", help="Print a JSON array of topics."),
) -> None:
    """List the topics of the cluster, and what the file says of them.

    Example: workbench topics list
    """
    from workbench.ingestion.topics import list_topics

    declared, connection = _read(file)
    found = list_topics(connection, declared)
    if as_json:
        typer.echo(json.dumps([asdict(topic) for topic in found], indent=2))
        return
    table = Table(box=None, header_style="bold")
    for name in ("topic", "partitions", "replication", "retention", "records", "owner", "schema", "declared"):
        table.add_column(name, justify="right" if name in {"partitions", "replication", "records"} else "left")
    for each in found:
        records = "" if each.records is None else f"{each.records:,}"
        numbers = (str(each.partitions), str(each.replication), each.retention, records)
        table.add_row(each.name, *numbers, each.owner, each.schema, "yes" if each.is_declared else "no")
    # Names stay whole, in a narrow terminal and in a pipe.
    Console(width=WHOLE_WIDTH, highlight=False, markup=False).print(table)


def _read(file: Path | None) -> tuple[tuple[Topic, ...], KafkaConnection]:
    from workbench.ingestion.cluster.connection import KafkaConnection
    from workbench.ingestion.topics import read_topics

    wanted = read_topics(file or resource("pipelines") / "topics.yaml")
    return wanted, KafkaConnection.from_settings(Settings.load().kafka)


def _print(changes: Sequence[Change], *, as_json: bool, done: bool = False) -> None:
    if as_json:
        typer.echo(json.dumps([_as_dict(change) for change in changes], indent=2))
        return
    lines = [f"{'done' if done else change.action:<8} {change.detail}" for change in changes]
    nothing = "Nothing to do." if done else "The cluster has what the file asks for."
    typer.echo("\n".join(lines) or nothing)


def _as_dict(change: Change) -> dict[str, Any]:
    names = ("action", "about", "old", "new", "detail")
    return {"topic": change.topic.name, **{name: getattr(change, name) for name in names}}
