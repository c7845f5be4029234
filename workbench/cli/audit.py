"""`workbench audit`: who did what, and whether the log of it is as it was written."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import typer

from workbench.cli.audit_shown import (
    Format,
    make_search,
    print_event,
    report_as_dict,
    show_report,
    write_events,
)
from workbench.cli.times import parse_time
from workbench.errors import AuditError
from workbench.security.audit import Action, AuditLog, Search, read_last_events, search_events
from workbench.security.audit.commands import audits_itself, not_audited, operator
from workbench.security.audit.reading import follow_events
from workbench.security.secrets import replacing_private
from workbench.settings import Settings, find_home

LOOKS = "It only reads the log, whose file says by its mode who may."
AS_JSON = typer.Option(False, "--json", help="Print one JSON object of OCSF a line.")
ACTOR = typer.Option("", "--actor", help="Who did it; * stands for anything.")
ACTION = typer.Option("", "--action", help="What was done, such as login.*.")
RESOURCE = typer.Option("", "--resource", help="What it was done to, such as pipeline:*.")
OUTCOME = typer.Option("", "--outcome", help="begun, success, refused or failed.")
SINCE = typer.Option("", "--since", help="From this time on: 2026-01-31, 2026-01-31T08:00, or 90m, 1h30m, 7d ago.")
UNTIL = typer.Option("", "--until", help="Before this time, written alike.")
TAIL_BYTES = 16 << 20


def add_commands(application: typer.Typer) -> None:
    """Register the commands of this module."""
    group = typer.Typer(help="Who did what, and the proof of it.", no_args_is_help=True)
    commands: dict[str, Callable[..., None]] = {
        "tail": tail,
        "search": search,
        "export": export,
        "verify": verify,
        "checkpoint": checkpoint,
        "rotate-key": rotate_key,
        "public-key": public_key,
        "anchor-sql": anchor_sql,
        "remove": remove,
    }
    for name, command in commands.items():
        group.command(name)(command)
    application.add_typer(group, name="audit")


@not_audited(LOOKS)
def tail(
    count: int = typer.Option(20, "--count", "-n", min=0, help="How many events."),
    follow: bool = typer.Option(False, "--follow", "-f", help="Go on with what is written, until Ctrl-C."),
    as_json: bool = AS_JSON,
) -> None:
    """Show the newest events, the newest last, as far as the last 16 MiB of the log have them.

    Example: workbench audit tail --follow
    """
    path = AuditLog.of(find_home()).path
    # Begun first: what is written while the newest are read is followed, unless it is one of them.
    following = follow_events(path, Search()) if follow else ()
    newest = read_last_events(path, count=count, at_most=TAIL_BYTES)
    for event in reversed(newest):
        print_event(event, as_json=as_json)
    shown = {each.id for each in newest}
    for event in following:
        if event.id not in shown:
            print_event(event, as_json=as_json)
            sys.stdout.flush()


@not_audited(LOOKS)
def search(  # noqa: PLR0917 - typer
    actor: str = ACTOR,
    action: str = ACTION,
    resource: str = RESOURCE,
    outcome: str = OUTCOME,
    since: str = SINCE,
    until: str = UNTIL,
    as_json: bool = AS_JSON,
) -> None:
    """Show the events that fit, the oldest first. Exit code 1 when there is none.

    Example: workbench audit search --action 'login.*' --outcome refused --since 7d
    """
    wanted = make_search(actor, action, resource, outcome, since, until)
    found = 0
    for event in search_events(AuditLog.of(find_home()).path, wanted):
        print_event(event, as_json=as_json)
        found += 1
    if not found:
        raise typer.Exit(1)


@audits_itself(Action.AUDIT_EXPORTED)
def export(  # noqa: PLR0917 - typer
    file: Path = typer.Argument(help="The file to write; - is the output."),
    form: Format = typer.Option(Format.OCSF, "--format", help="JSON of OCSF, one event a line, or CSV."),
    actor: str = ACTOR,
    action: str = ACTION,
    resource: str = RESOURCE,
    outcome: str = OUTCOME,
    since: str = SINCE,
    until: str = UNTIL,
) -> None:
    """Write the events that fit to a file of mode 0600, for other programs. That it was done is audited.

    Example: workbench audit export january.jsonl --since 2026-01-01 --until 2026-02-01
    """
    log = AuditLog.of(find_home())
    wanted = make_search(actor, action, resource, outcome, since, until)
    log.record(Action.AUDIT_EXPORTED, actor=operator(), resource="audit", file=str(file), format=form.value)
    events = search_events(log.path, wanted)
    if str(file) == "-":
        write_events(events, form, sys.stdout.write)
        return
    with _open_private(file) as out:
        count = write_events(events, form, out.write)
    typer.echo(f"{count} events are in {file}.")


@not_audited("It only reads; what it finds is for those who ask.")
def verify(
    public_key: list[Path] = typer.Option(
        [], "--public-key", help="Trust this key (PEM) and not the one in keys/; may be given several times."
    ),
    anchor: list[Path] = typer.Option(
        [], "--anchor", help="A file with checkpoints, such as one of syslog; may be given several times."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Check that no event was changed, removed, added or moved, as far as checkpoints reach.

    Exit code 0 when the log is whole, 1 when it was tampered with, 2 when that cannot be told.

    Example: workbench audit verify --anchor /var/log/auth.log
    """
    from workbench.security.audit.proof import anchors, verification
    from workbench.security.audit.proof.signing import SigningKey, read_public

    settings = Settings.load()
    path = settings.home / "keys" / "audit-signing"
    keys = [read_public(each) for each in public_key]
    if not keys and path.is_file():
        keys = [SigningKey.read(path).public]
    places = (*anchors.readable_anchors_of(settings.audit), *(anchors.FileAnchor(each.absolute()) for each in anchor))
    report = verification.verify(AuditLog.of(settings.home).path, keys, places)
    if as_json:
        typer.echo(json.dumps(report_as_dict(report)))
    else:
        show_report(report)
    if report.verdict:
        raise typer.Exit(int(report.verdict))


@not_audited("A checkpoint is its own record.")
def checkpoint() -> None:
    """Sign what the log is now, and write that to the anchors too. `workbench up` does so every minute.

    Example: workbench audit checkpoint
    """
    from workbench.security.audit.proof.anchors import anchors_of
    from workbench.security.audit.proof.checkpointer import Checkpointer

    settings = Settings.load()
    Checkpointer.of(settings.home, anchors_of(settings.audit)).tick(is_forced=True)
    typer.echo("The checkpoint is written.")


@audits_itself(Action.AUDIT_KEY_ROTATED)
def rotate_key() -> None:
    """Have a new key sign checkpoints from now on; the old one signs the hand-over.

    Example: workbench audit rotate-key
    """
    from workbench.security.audit.proof.anchors import anchors_of
    from workbench.security.audit.proof.checkpointer import Checkpointer

    settings = Settings.load()
    public = Checkpointer.of(settings.home, anchors_of(settings.audit)).rotate_key(operator())
    typer.echo(f"The key {public} signs from now on.")


@not_audited("The public key is nobody's secret.")
def public_key() -> None:
    """Print the public key, for those who verify elsewhere.

    Example: workbench audit public-key > audit.pem
    """
    from workbench.security.audit.proof.signing import SigningKey

    path = find_home() / "keys" / "audit-signing"
    if not path.is_file():
        raise AuditError(f"there is no key at {path}", remedy="`workbench audit checkpoint` makes one.")
    typer.echo(SigningKey.read(path).public_pem(), nl=False)


@not_audited("It prints a text.")
def anchor_sql() -> None:
    """Print the SQL that makes the table of an anchor, with a role that may only add to it.

    Example: workbench audit anchor-sql | psql -h db.example.com -U postgres audit
    """
    from workbench.security.audit.proof.anchors import DDL

    typer.echo(DDL, nl=False)


@audits_itself(Action.AUDIT_REMOVED)
def remove(
    before: str = typer.Argument(help="Closed segments whose last event is older are removed: a date, or 400d."),
    yes: bool = typer.Option(False, "--yes", help="Do not ask."),
) -> None:
    """Remove the oldest closed segments. A line says that it was done, and `verify` goes on from there.

    Example: workbench audit remove 400d
    """
    from workbench.security.audit.proof.checkpointer import Checkpointer
    from workbench.security.audit.retention import removable, remove_segments

    checkpointer = Checkpointer.of(find_home())
    limit = parse_time(before)
    assert limit is not None, "typer demands it"
    files = removable(checkpointer.log, limit)
    if not files:
        typer.echo("Nothing is old enough.")
        return
    if not yes:
        names = ", ".join(each.name for each in files)
        typer.confirm(f"{names} will be removed. Go on?", abort=True)
    typer.echo(f"Removed lines 1 to {remove_segments(checkpointer, files, operator())}.")


@contextlib.contextmanager
def _open_private(file: Path) -> Iterator[TextIO]:
    """The file, anew, which nobody else may read; a pipe or a device as it is."""
    if file.exists() and not file.is_file():
        with file.open("w", encoding="utf-8", newline="") as out:
            yield out
        return
    # Not the file that was there: others may have it open, or own it.
    try:
        with replacing_private(Path(os.path.realpath(file))) as whole:
            out = io.TextIOWrapper(whole, encoding="utf-8", newline="")
            yield out
            out.detach()
    except OSError as error:
        raise AuditError(
            f"{file} cannot be written: {error.strerror}",
            remedy="Name another file, in a folder of your own with room.",
        ) from None
