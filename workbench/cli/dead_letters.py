"""`workbench dlq`: the records that did not fit, and what is done with them."""

from __future__ import annotations

import json
from datetime import datetime

import typer
from rich.table import Table

from workbench.cli.ingestion import named_flow
from workbench.cli.shown import records_bar
from workbench.console import plain_console
from workbench.security.audit import Action
from workbench.security.audit.commands import audited, not_audited
from workbench.settings import Settings

FLOW = typer.Argument(help="The flow: a file of pipelines/flows/ without .yaml.")
AT = typer.Option("", "--at", help="Only the letter at PARTITION:OFFSET.")


def add_commands(application: typer.Typer) -> None:
    """Register the commands of this module."""
    group = typer.Typer(help="Dead letters: records that could not be decoded or loaded.", no_args_is_help=True)
    group.command("list")(dlq_list)
    group.command("show")(dlq_show)
    group.command("replay")(dlq_replay)
    group.command("drop")(dlq_drop)
    application.add_typer(group, name="dlq")


@not_audited("It only counts.")
def dlq_list(name: str = FLOW, as_json: bool = typer.Option(False, "--json", help="Print one JSON array.")) -> None:
    """Count the dead letters of a flow by their reason.

    Example: workbench dlq list flights
    """
    from workbench.inspection import count_dead_letters

    reasons = count_dead_letters(Settings.load(), named_flow(name))
    if as_json:
        typer.echo(
            json.dumps([
                {"letters": each.letters, "reason": each.reason, "oldest": _time(each.oldest), "newest": _time(each.newest)}
                for each in reasons
            ])
        )  # fmt: skip
        return
    view = Table("letters", "newest", "reason", box=None, header_style="bold")
    for each in reasons:
        view.add_row(f"{each.letters:,}", _time(each.newest), each.reason)
    console = plain_console()
    console.print(view if reasons else f"{name} has no dead letters.")


@audited(Action.DEAD_LETTERS_READ, "flow:{name}")
def dlq_show(
    name: str = FLOW,
    at: str = AT,
    limit: int = typer.Option(10, help="How many at most."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON array."),
) -> None:
    r"""Show dead letters with their value; bytes that are no text are shown as \\x00.

    Example: workbench dlq show flights --at 2:1041
    """
    from workbench.inspection import read_dead_letters

    letters = [
        {
            "partition": each.partition,
            "offset": each.offset,
            "timestamp": _time(each.timestamp),
            "key": _text(each.key),
            "value": _text(each.value),
            "reason": each.reason,
        }
        for each in read_dead_letters(Settings.load(), named_flow(name), limit, _at(at))
    ]
    if as_json:
        typer.echo(json.dumps(letters))
        return
    for each in letters:
        typer.echo(
            f"{each['partition']}:{each['offset']}  {each['timestamp']}  key {each['key']}\n  {each['reason']}\n  {each['value']}"
        )
    if not letters:
        typer.echo("There is no such dead letter.")


@audited(Action.DEAD_LETTERS_CHANGED, "flow:{name}")
def dlq_replay(
    name: str = FLOW, at: str = AT, as_json: bool = typer.Option(False, "--json", help="Print one JSON object.")
) -> None:
    """Decode the dead letters of a flow again, as its file is now, and move what fits into the table, once.

    Example: workbench dlq replay flights --at 2:1041
    """
    from workbench.inspection import replay_flow_dead_letters

    with records_bar(f"dead letters of {name}") as progress:
        done = replay_flow_dead_letters(Settings.load(), named_flow(name), progress, _at(at))
    if as_json:
        typer.echo(json.dumps({"flow": name, "moved": done.moved, "left": done.left}))
    else:
        typer.echo(f"{done.moved:,} moved into the table, {done.left:,} left")


@audited(Action.DEAD_LETTERS_CHANGED, "flow:{name}")
def dlq_drop(
    name: str = FLOW,
    at: str = AT,
    everything: bool = typer.Option(False, "--all", help="All dead letters of the flow."),
) -> None:
    """Delete dead letters for good. `workbench verify` calls their records missing from then on.

    Example: workbench dlq drop flights --at 2:1041
    """
    from workbench.inspection import drop_dead_letters

    if bool(at) == everything:
        raise typer.BadParameter("say which: --at PARTITION:OFFSET, or --all")
    typer.echo(f"{drop_dead_letters(Settings.load(), named_flow(name), _at(at)):,} deleted")


def _at(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    partition, colon, offset = text.partition(":")
    if not (colon and partition.isdecimal() and offset.isdecimal()):
        raise typer.BadParameter(f"{text!r} is not PARTITION:OFFSET, such as 2:1041")
    return int(partition), int(offset)


def _time(time: datetime | None) -> str:
    return time.isoformat() if time else ""


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "backslashreplace").replace("\0", "\\x00")
