"""`workbench policy retain` and `erase`: what leaves tables because the policies say so."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from workbench.cli.policy_file import AS_JSON, FILE, read_file
from workbench.security.audit import Action, AuditLog, Outcome, read_events
from workbench.security.audit.commands import audits_itself, recording
from workbench.security.subjects.fingerprints import Fingerprints
from workbench.security.subjects.store import SubjectStore
from workbench.settings import Settings

if TYPE_CHECKING:
    from workbench.warehouse.policies.data.tables import DataTable

DRY_RUN = typer.Option(False, "--dry-run", help="Only count; remove nothing.")


def add_commands(policy: typer.Typer) -> None:
    """Register the commands of this module."""
    for command in (retain, erase):
        policy.command(command.__name__)(command)


@audits_itself(Action.DATA_EXPIRED)
def retain(file: Path | None = FILE, dry_run: bool = DRY_RUN, as_json: bool = AS_JSON) -> None:
    """Remove the rows that tables keep no longer, and what has come back of subjects that were erased.

    Ctrl-C stops after a batch; what is removed stays so, and the next time goes on.

    Example: workbench policy retain --dry-run
    """
    from workbench.warehouse.engine import transaction
    from workbench.warehouse.policies.data.erasing import erase_again, read_erased
    from workbench.warehouse.policies.data.keeping import count_overdue, remove_overdue

    settings = Settings.load()
    tables = _tables(settings, file)
    kept = [table for table in tables if table.data.keep]
    if dry_run:
        with transaction(settings.warehouse) as connection:
            counts = {table.name: count_overdue(connection, table) for table in kept}
        _print(counts, "too old", as_json=as_json)
        return
    removed: dict[str, int] = {}
    for table in kept:
        with recording(settings.home, Action.DATA_EXPIRED, table.name) as details:
            details.update(rows=0, days=table.data.keep.days if table.data.keep else 0)
            for count in remove_overdue(settings.warehouse, table):
                removed[table.name] = details["rows"] = removed.get(table.name, 0) + count
                _tell(f"{table.name}: {removed[table.name]:,} rows removed so far")
    returned: dict[str, int] = {}
    if any(table.data.subjects for table in tables):
        known = _erased_before(settings.home)
        for name, count in erase_again(settings.warehouse, tables, Fingerprints.of_home(settings.home), known):
            returned[name] = returned.get(name, 0) + count
        _destroy_keys(settings, tables, read_erased(settings.warehouse))
    if any(returned.values()):
        with recording(settings.home, Action.DATA_ERASED, "again") as details:
            details.update(returned)
    if as_json:
        typer.echo(json.dumps({"expired": removed, "erased_again": returned}))
        return
    _print(removed, "too old, removed", as_json=False)
    _print(
        {name: count for name, count in returned.items() if count}, "of erased subjects, removed again", as_json=False
    )


@audits_itself(Action.DATA_ERASED)
def erase(  # noqa: PLR0917 - typer
    kind: str = typer.Argument(help="What the subject is to the tables, such as customer."),
    subject: str = typer.Argument(help="The subject as tables name it; - reads it from the input, so that no list of processes shows it."),
    file: Path | None = FILE,
    dry_run: bool = DRY_RUN,
    yes: bool = typer.Option(False, "--yes", "-y", help="Do not ask."),
    as_json: bool = AS_JSON,
) -> None:  # fmt: skip
    """Remove what tables have of somebody, in one transaction, and remember to do so again when it comes back.

    Where columns are encrypted by subject, the key is destroyed after that: what copies and backups have cannot be read.

    Example: printf 4711 | workbench policy erase customer - --yes
    """
    from workbench.warehouse.policies.data import erasing

    settings = Settings.load()
    tables = _tables(settings, file)
    value = sys.stdin.read().strip() if subject == "-" else subject
    found = erasing.find_subject(settings.warehouse, tables, kind, value)
    if dry_run:
        _print(erasing.count_rows(settings.warehouse, found), f"of this {kind}", as_json=as_json)
        return
    if not yes:
        counts = erasing.count_rows(settings.warehouse, found)
        told = ", ".join(f"{count:,} of {name}" for name, count in counts.items())
        typer.confirm(f"Rows that are erased: {told}. They cannot be brought back. Go on?", abort=True)
    fingerprints = Fingerprints.of_home(settings.home)
    # In the first event already: what the warehouse did, the log knows after a crash as well.
    named = ",".join(found.fingerprints(fingerprints))
    with recording(settings.home, Action.DATA_ERASED, f"{kind}:{named}") as details:
        removed = erasing.erase(settings.warehouse, found, fingerprints)
        details.update(removed)
        erased = [(kind, each) for each in found.fingerprints(fingerprints)]
        if (destroyed := _destroy_keys(settings, tables, erased)) is not None:
            details["keys_destroyed"] = destroyed
    _print(removed, f"of this {kind}, erased", as_json=as_json)
    if destroyed is not None and not as_json:
        typer.echo(f"Keys of this {kind} that were destroyed: {destroyed}. None is left.")


def _tables(settings: Settings, file: Path | None) -> Sequence[DataTable]:
    from workbench.warehouse.engine import transaction
    from workbench.warehouse.policies.data.tables import read_data_tables, refuse_other_dialects

    refuse_other_dialects(settings.warehouse)
    policies = read_file(settings, file)
    with transaction(settings.warehouse) as connection:
        return read_data_tables(connection, policies)


def _destroy_keys(settings: Settings, tables: Sequence[DataTable], erased: Collection[tuple[str, str]]) -> int | None:
    """Destroy the keys of who was erased, and remember all of them beside the keys; None when no kind has any.

    What is beside the keys is the one thing of a home that a restore brings back as it was last.
    """
    from workbench.warehouse.policies.data.keys import destroy_keys

    kinds = {kind for table in tables for kind in table.data.encrypt}
    keys = SubjectStore.of(settings.home)
    known = keys.erased() if keys.exists else set()
    named = [each for each in erased if each[0] in kinds or each not in known]
    destroyed = destroy_keys(settings, named) if named else 0
    return destroyed if any(kind in kinds for kind, _ in erased) else None


def _erased_before(home: Path) -> set[tuple[str, str]]:
    """What the audit log and the keys know of: a warehouse that was restored from a backup has forgotten the newest."""
    # What was begun and then refused is not done behind anybody's back; what was done once stays so.
    outcomes: dict[str, str] = {}
    for event in read_events(AuditLog.of(home).path, action=Action.DATA_ERASED):
        if outcomes.get(event.resource) != Outcome.SUCCESS:
            outcomes[event.resource] = event.outcome
    found = set()
    for resource, outcome in outcomes.items():
        if outcome in {Outcome.BEGUN, Outcome.SUCCESS}:
            kind, _, named = resource.partition(":")
            found |= {(kind, each) for each in named.split(",") if each}
    # These know what an audit log has forgotten that was restored along with the warehouse.
    keys = SubjectStore.of(home)
    return found | keys.erased() if keys.exists else found


def _tell(text: str) -> None:
    if sys.stderr.isatty():
        typer.echo(f"\r{text}", err=True, nl=False)


def _print(counts: Mapping[str, int], what: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(dict(counts)))
        return
    typer.echo("\n".join(f"{name}: {count:,} rows {what}" for name, count in counts.items()) or f"No rows {what}.")
