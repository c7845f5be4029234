"""`workbench backup`: make, list, prove and restore backups, and put a copy of the root key in safety."""

from __future__ import annotations

import json
import signal
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from pydantic import SecretStr
from rich.table import Table

from workbench.console import plain_console
from workbench.errors import BackupError
from workbench.security.audit import Action
from workbench.security.audit.commands import audits_itself, not_audited, recording
from workbench.settings import Settings

if TYPE_CHECKING:
    from workbench.security.keyset.opening import Keys
    from workbench.warehouse.backup.repository import Repository

AS_JSON = typer.Option(False, "--json", help="Print one JSON value.")
FOLDER = typer.Option(None, "--from", help="The folder of backups; unset is WORKBENCH_BACKUP_FOLDER.")
PASSPHRASE = typer.Option(None, "--passphrase-file", help="A file with the passphrase; else it is asked for.")


def add_commands(application: typer.Typer) -> None:
    """Register the commands of this module."""
    group = typer.Typer(help="Encrypted backups, and the way back to any moment.", no_args_is_help=True)
    group.command("create")(create)
    group.command("list")(list_backups)
    group.command("verify")(verify)
    group.command("restore")(restore)
    group.command("escrow")(escrow)
    group.command("keep", hidden=True)(keep)
    application.add_typer(group, name="backup")


@audits_itself(Action.BACKUP_CREATED)
def create(
    incremental: bool = typer.Option(False, "--incremental", help="Only what has changed since the newest full one."),
    as_json: bool = AS_JSON,
) -> None:
    """Make a backup now, read it back, and remove what is older than WORKBENCH_BACKUP_KEEP_DAYS. The warehouse has to run.

    Example: workbench backup create
    """
    from workbench.embedded.backups import BackedUp

    settings = Settings.load()
    backed_up = BackedUp.of(settings)
    gap = backed_up.gap(backed_up.repository.backups(backed_up.keys))
    backup = backed_up.create(is_incremental=incremental)
    removed = [each.name for each in backed_up.let_go(settings.backup.keep_days)]
    fields = {
        "backup": backup.name,
        "needs": backup.needs,
        "bytes": backup.size_bytes,
        "finished": backup.finished.isoformat(),
        "removed": removed,
        "gap": gap,
    }
    text = f"{backup.name}: {backup.size_bytes / 1e6:,.1f} MB in {backed_up.repository.folder}"
    _tell(as_json, fields, "\n".join([*([gap] if gap else []), text]))
    if not as_json and settings.keys.root == "file" and not _escrow_note(settings.home).exists():
        typer.echo("Without the root key it cannot be read: put a copy in safety with `workbench backup escrow`.")


@not_audited("It only looks.")
def list_backups(folder: Path | None = FOLDER, as_json: bool = AS_JSON) -> None:
    """List backups, and until when each can be restored.

    Example: workbench backup list
    """
    from workbench.warehouse.backup.verification import restorable_until

    rows: list[dict[str, Any]] = []
    for repository, keys in _repositories(Settings.load(), folder):
        rows += [
            {
                "backup": each.name,
                "needs": each.needs,
                "warehouse": repository.folder.name,
                "restorable_from": each.finished.isoformat(timespec="seconds"),
                "restorable_until": restorable_until(repository, each).isoformat(timespec="seconds"),
                "bytes": each.size_bytes,
            }
            for each in repository.backups(keys)
        ]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    view = Table("backup", "kind", "warehouse", "from", "until", "MB", box=None, header_style="bold")
    for row in rows:
        size = f"{row['bytes'] / 1e6:,.1f}"
        kind = "incremental" if row["needs"] else "full"
        view.add_row(row["backup"], kind, row["warehouse"], row["restorable_from"], row["restorable_until"], size)
    plain_console().print(view)


@not_audited("It only looks.")
def verify(
    backup: str | None = typer.Argument(None, help="A name of `workbench backup list`; unset is all."),
    folder: Path | None = FOLDER,
    as_json: bool = AS_JSON,
) -> None:
    """Read every byte of backups and WAL, and name what is damaged or missing. Exit code 1 when anything is.

    Example: workbench backup verify
    """
    from workbench.warehouse.backup.verification import verify as verify_all

    problems: list[str] = []
    backups = segments = 0
    for repository, keys in _repositories(Settings.load(), folder):
        if backup and backup not in repository.names():
            continue
        found = verify_all(keys, repository, backup)
        problems += found.problems
        backups, segments = backups + found.backups, segments + found.segments
    if not backups and not problems:
        raise BackupError(f"there is no backup {backup or ''}".strip(), remedy="Make one: `workbench backup create`.")
    text = f"{backups:,} backups and {segments:,} segments of WAL were read, {len(problems)} problems"
    _tell(as_json, {"backups": backups, "segments": segments, "problems": problems}, "\n".join([*problems, text]))
    if problems:
        raise typer.Exit(1)


@audits_itself(Action.BACKUP_RESTORED)
def restore(  # noqa: PLR0917 - typer
    home: Path = typer.Argument(help="The new WORKBENCH_HOME: a folder that is not there, or empty."),
    at: str | None = typer.Option(None, "--at", help="The moment, such as 2026-11-27T18:59:00Z; unset is the last."),
    backup: str | None = typer.Option(None, "--backup", help="Begin with this one; unset is the newest that fits."),
    folder: Path | None = FOLDER,
    escrowed: Path | None = typer.Option(None, "--escrow", help="The file of `workbench backup escrow`."),
    passphrase_file: Path | None = PASSPHRASE,
    as_json: bool = AS_JSON,
) -> None:
    """Restore into a new home. What is there is never written over; point WORKBENCH_HOME at the new one afterwards.

    Example: workbench backup restore /srv/workbench-restored --at 2026-11-27T18:59:00Z --escrow root.escrow
    """
    from workbench.embedded import recovery
    from workbench.warehouse.backup.restoring import choose

    moment = _moment(at)
    settings, home = Settings.load(), home.absolute()
    root = _escrowed_root(escrowed, passphrase_file)
    with recovery.staged(home) as place:

        def keys_of(repository: Repository) -> Keys:
            return _restored_keys(settings, place, repository, root)

        chosen = choose(_all(settings, folder), keys_of, name=backup, at=moment)
        # The last one that was looked at need not be the one.
        keys_of(chosen.repository)
        done = recovery.restore(chosen, home, moment)
    last = done.last_transaction.astimezone(UTC).isoformat() if done.last_transaction else None
    fields = {"home": str(home), "backup": done.backup, "segments": done.segments, "last_transaction": last}
    text = (
        f"{home} was restored from {done.backup} and {done.segments} segments of WAL in {done.seconds:.1f} s;"
        f" the last transaction is of {last or 'the backup itself'}.\nStart it with WORKBENCH_HOME={home} workbench up."
    )
    _tell(as_json, {**fields, "seconds": round(done.seconds, 3)}, text)


@audits_itself(Action.BACKUP_KEY_ESCROWED)
def escrow(
    target: Path = typer.Argument(help="The file to write, such as on a stick that is kept in a safe."),
    passphrase_file: Path | None = PASSPHRASE,
) -> None:
    """Write a copy of the root key under a passphrase: a restore on another machine begins with it.

    Example: workbench backup escrow /media/stick/workbench.escrow
    """
    from workbench.security.keyset.roots import FileRoot
    from workbench.warehouse.backup.escrow import write_escrow

    settings, target = Settings.load(), target.absolute()
    if settings.keys.root != "file":
        raise BackupError(
            f"the root key is kept by {settings.keys.root}", remedy="Have a copy made there; a restore asks it again."
        )
    if target.resolve().is_relative_to(settings.home.resolve()):
        raise BackupError(f"{target} is lost together with {settings.home}", remedy="Write it to another place.")
    with recording(settings.home, Action.BACKUP_KEY_ESCROWED, str(target)):
        passphrase = _passphrase(passphrase_file, confirm=True)
        write_escrow(target, FileRoot(settings.keys.file(settings.home)).reveal(), passphrase)
    _note_escrow(settings.home, target)
    typer.echo(f"{target} opens with the passphrase. Keep the two apart from each other.")


@audits_itself(Action.BACKUP_CREATED)
def keep() -> None:
    """Receive WAL and make backups until stopped: what `workbench up` runs."""
    from workbench.embedded.backup_keeper import keep as keep_going

    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())

    def tell(text: str) -> None:
        typer.echo(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}")

    keep_going(Settings.load(), stopping, tell)


def _repositories(settings: Settings, folder: Path | None) -> list[tuple[Repository, Keys]]:
    """Those of this home, and others of the same keyset: homes that it was restored from."""
    from workbench.security.keyset.opening import Keys
    from workbench.warehouse.backup.repository import Repository

    keys = Keys.of(settings.home, settings.keys)
    identifier = keys.file.read().id.hex()
    own = Repository.of(settings.home, Path()).folder.name
    return [(each, keys) for each in _all(settings, folder) if own == each.folder.name or each.keyset_id == identifier]


def _all(settings: Settings, folder: Path | None) -> list[Repository]:
    from workbench.warehouse.backup.repository import Repository

    where = folder or settings.backup.folder
    if where is None:
        raise BackupError("no folder of backups is named", remedy="Say --from FOLDER, or set WORKBENCH_BACKUP_FOLDER.")
    found = Repository.all_below(where)
    if not found:
        raise BackupError(f"there are no backups in {where}", remedy="Name the folder of WORKBENCH_BACKUP_FOLDER.")
    return found


def _restored_keys(settings: Settings, place: Path, repository: Repository, root: bytes | None) -> Keys:
    """Put the keyset of a repository into the folder of a restore, and its root key when that is a file."""
    from workbench.security.keyset.file import KeysetFile
    from workbench.security.keyset.inventory import Inventory
    from workbench.security.keyset.opening import Keys
    from workbench.security.keyset.roots import FileRoot
    from workbench.security.secrets import private_folder, write_private

    path = private_folder(place / "keys") / "keyset.json"
    write_private(path, repository.keyset.read_bytes())
    if root is None and settings.keys.root == "file":
        root = FileRoot(settings.keys.file(settings.home)).reveal()
    if root is None:
        return Keys(KeysetFile(path, Keys.of(settings.home, settings.keys).file.root), Inventory.of(place))
    file = FileRoot(place / "keys" / "root.key")
    file.put(root)
    return Keys(KeysetFile(path, file), Inventory.of(place))


def _escrowed_root(escrowed: Path | None, passphrase_file: Path | None) -> bytes | None:
    from workbench.warehouse.backup.escrow import read_escrow

    return read_escrow(escrowed, _passphrase(passphrase_file, confirm=False)) if escrowed else None


def _passphrase(file: Path | None, *, confirm: bool) -> SecretStr:
    from workbench.security.keyset.roots import read_private

    if file is None:
        return SecretStr(typer.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True))
    content = read_private(file, what="passphrase")
    return SecretStr(content.decode("utf-8", "replace").strip())


def _moment(at: str | None) -> datetime | None:
    if at is None:
        return None
    try:
        found = datetime.fromisoformat(at)
    except ValueError:
        raise BackupError(f"--at {at} is no moment", remedy="Write 2026-11-27T18:59:00Z.") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _escrow_note(home: Path) -> Path:
    return home / "backup" / "escrow"


def _note_escrow(home: Path, target: Path) -> None:
    from workbench.security.secrets import private_folder, write_private

    private_folder(home / "backup")
    write_private(_escrow_note(home), f"{target}\n")


def _tell(as_json: bool, fields: dict[str, Any], text: str) -> None:
    typer.echo(json.dumps(fields) if as_json else text)
