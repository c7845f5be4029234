"""`workbench keys`: the keys that encrypt data at rest, from the first one to the end of an old one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from workbench.console import plain_console
from workbench.errors import KeysetError, WorkbenchError
from workbench.security.audit import Action
from workbench.security.audit.commands import audits_itself, not_audited, recording
from workbench.settings import Settings

if TYPE_CHECKING:
    # `workbench --help` needs no cryptography.
    from workbench.security.encryption.rewrapping import Rewrapped
    from workbench.security.keyset.opening import Keys
    from workbench.security.keyset.versions import Keyset

VERSION = typer.Argument(help="The number of a version, of `workbench keys list`.")
AS_JSON = typer.Option(False, "--json", help="Print one JSON value.")
RESOURCE = "keyset"  #: of the audit log


def add_commands(application: typer.Typer) -> None:
    """Register the commands of this module."""
    group = typer.Typer(help="The keys that encrypt data at rest.", no_args_is_help=True)
    group.command("init")(init)
    group.command("list")(list_versions)
    group.command("rotate")(rotate)
    group.command("promote")(promote)
    group.command("rewrap")(rewrap)
    group.command("retire")(retire)
    application.add_typer(group, name="keys")


@audits_itself(Action.KEYSET_CREATED)
def init(as_json: bool = AS_JSON) -> None:
    """Make the keyset, its inventory and, with WORKBENCH_KEYS_ROOT=file, the root key. `workbench up` does the same.

    Example: workbench keys init
    """
    settings, keys = open_keys()
    with recording(settings.home, Action.KEYSET_CREATED, RESOURCE) as details:
        keyset = keys.create()
        details["version"] = keyset.primary.number
    root = keys.file.root.name
    _tell(
        as_json,
        {"keyset": str(keys.file.path), "root": root, "primary": keyset.primary.number},
        f"{keys.file.path} has its first version, protected by the root key {root}."
        " Keep a copy of both apart from the data: without them it cannot be read.",
    )


@not_audited("It only looks, and shows no key.")
def list_versions(as_json: bool = AS_JSON) -> None:
    """List the versions, their states, and how many files, logs and holders of values need each.

    Example: workbench keys list --json
    """
    _, keys = open_keys()
    keyset = keys.file.read()
    keys.inventory.check(keyset.inventory)
    counts = keys.inventory.counts()
    rows = [
        {
            "version": each.number,
            "state": each.state.value,
            "created": each.created.isoformat(),
            "changed": each.changed.isoformat(),
            "needed_by": counts.get(each.number, 0),
        }
        for each in keyset.versions
    ]
    if as_json:
        typer.echo(json.dumps({"keyset": keyset.id.hex(), "root": keys.file.root.name, "versions": rows}))
        return
    view = Table("version", "state", "needed by", "created", "changed", box=None, header_style="bold")
    for each in rows:
        view.add_row(*(str(each[name]) for name in ("version", "state", "needed_by", "created", "changed")))
    console = plain_console()
    console.print(f"keyset {keyset.id.hex()[:8]}…, protected by the root key {keys.file.root.name}")
    console.print(view)


@audits_itself(Action.KEYSET_ROTATED)
def rotate(as_json: bool = AS_JSON) -> None:
    """Make a new version, pending: everybody can decrypt with it, nobody encrypts yet. Then `promote`.

    Example: workbench keys rotate && workbench keys promote
    """
    settings, keys = open_keys()
    with recording(settings.home, Action.KEYSET_ROTATED, RESOURCE) as details:
        version = keys.file.change(lambda keyset: keyset.rotated()).versions[-1].number
        details["version"] = version
    _tell(
        as_json, {"pending": version}, f"Version {version} is pending. `workbench keys promote` makes it the primary."
    )


@audits_itself(Action.KEYSET_PROMOTED)
def promote(as_json: bool = AS_JSON) -> None:
    """Encrypt with the pending version from now on; the primary of until now only decrypts.

    The copies of the keyset among backups are given the version first, so that each backup can be restored with its copy.

    Example: workbench keys promote
    """
    settings, keys = open_keys()
    with recording(settings.home, Action.KEYSET_PROMOTED, RESOURCE) as details:
        _refresh_copies(settings, keys)
        version = keys.file.change(lambda keyset: keyset.promoted()).primary.number
        details["version"] = version
    text = f"Version {version} encrypts. `workbench keys rewrap` brings under it what older versions have encrypted."
    _tell(as_json, {"primary": version}, text)


@audits_itself(Action.KEYSET_REWRAPPED)
def rewrap(
    forget_missing: bool = typer.Option(
        False, "--forget-missing", help="Forget files that are not there. Be sure that no disk is missing."
    ),
    rebuild: list[Path] = typer.Option(
        [],
        "--rebuild",
        help="First make a lost inventory anew, of the files below this folder, WORKBENCH_HOME and WORKBENCH_BACKUP_FOLDER; may be given several times.",
    ),
    as_json: bool = AS_JSON,
) -> None:
    """Bring the keys of all files and logs under the primary. Contents are not touched, and stay readable meanwhile.

    Exit code 1 when something is left under an older version; doing it again goes on.

    Example: workbench keys rewrap
    """
    from workbench.security.encryption import rewrapping
    from workbench.security.kept_secrets import KeptSecrets
    from workbench.security.subjects.keys import SubjectKeys
    from workbench.warehouse.backup.keyset_copies import refresh_around

    settings, keys = open_keys()
    with recording(settings.home, Action.KEYSET_REWRAPPED, RESOURCE) as details:
        if rebuild:
            folders = {*rebuild, settings.home, *([settings.backup.folder] if settings.backup.folder else [])}
            count = rewrapping.rebuild(keys, folders, _holders(settings, keys))
            Console(stderr=True).print(f"{count:,} found below {', '.join(sorted(map(str, folders)))}", markup=False)
        KeptSecrets.of(settings.home, keys).encrypt_anew()
        moved, refused = _rewrap_warehouse(settings, keys)
        moved += SubjectKeys(settings.home, keys).rewrap()
        with _bar() as advance:
            prepare = partial(refresh_around, keys)
            done = rewrapping.rewrap(keys, forget_missing=forget_missing, on_entry=advance, prepare=prepare)
        done.moved += moved
        done.failed.update(refused)
        details.update(version=done.version, moved=done.moved, failed=len(done.failed))
    left = {
        "being_written": done.being_written,
        "missing": done.missing,
        "holders": done.holders,
        "failed": done.failed,
    }
    text = f"{done.moved:,} brought under version {done.version}"
    _tell(as_json, {"version": done.version, "moved": done.moved, "forgotten": done.forgotten, **left}, text)
    if not as_json:
        _tell_left(done)
    if any(left.values()):
        raise typer.Exit(1)


@audits_itself(Action.KEYSET_RETIRED)
def retire(
    version: int = VERSION,
    destroy: bool = typer.Option(False, "--destroy", help="Delete its key for good."),
    undo: bool = typer.Option(False, "--undo", help="Enable a disabled version again."),
    as_json: bool = AS_JSON,
) -> None:
    """Disable a version that nothing needs any more. Refused while the inventory names anything.

    It knows of backups, but not of copies that somebody has made of files: destroy a version when the last of
    them is gone.

    Example: workbench keys retire 1
    """
    from workbench.security.encryption import rewrapping

    if destroy and undo:
        raise typer.BadParameter("say one of --destroy and --undo")
    settings, keys = open_keys()
    retiring = Action.KEYSET_DESTROYED if destroy else Action.KEYSET_RETIRED
    with recording(settings.home, Action.KEYSET_ENABLED if undo else retiring, RESOURCE) as details:
        details["version"] = version
        if undo:
            keyset = keys.file.change(lambda keyset: keyset.enabled(version))
        else:
            keyset = rewrapping.retire(keys, version, destroy=destroy)
    state = _state(keyset, version)
    _tell(as_json, {"version": version, "state": state}, f"Version {version} is {state}.")


def _refresh_copies(settings: Settings, keys: Keys) -> None:
    from workbench.warehouse.backup.keyset_copies import refresh_all

    try:
        refresh_all(keys, settings.backup.folder)
    except OSError as error:
        raise KeysetError(
            f"a copy of the keyset among backups cannot be written: {error}",
            remedy="Correct that: what is encrypted from now on could not be restored with it.",
        ) from error


def _holders(settings: Settings, keys: Keys) -> list[str]:
    """Who keeps values, as the inventory names them."""
    from workbench.security import kept_secrets
    from workbench.security.subjects import keys as subject_keys
    from workbench.security.subjects.store import SubjectStore

    found = []
    if kept_secrets.KeptSecrets.of(settings.home, keys).path.exists():
        found.append(kept_secrets.HOLDER)
    if SubjectStore.of(settings.home).exists:
        found.append(subject_keys.HOLDER)
    if bool(settings.warehouse.host) or (settings.home / "postgres").is_dir():
        with suppress(ModuleNotFoundError):  # without the extra `warehouse` nobody has written letters here
            from workbench.warehouse.letters.keys import holder

            found.append(holder(settings.warehouse))
    return found


def _rewrap_warehouse(settings: Settings, keys: Keys) -> tuple[int, dict[str, str]]:
    """How many data keys of dead letters were moved, and why others were not."""
    try:
        from workbench.warehouse.letters.keys import holder
        from workbench.warehouse.letters.rewrapping import rewrap_letters
    except ModuleNotFoundError:  # without the extra `warehouse` nobody has written letters here
        return 0, {}
    try:
        return rewrap_letters(settings, keys), {}
    except WorkbenchError as error:
        return 0, {holder(settings.warehouse): error.message}


def _state(keyset: Keyset, version: int) -> str:
    return keyset.version(version).state.value


def _tell_left(done: Rewrapped) -> None:
    console = plain_console()
    if done.being_written:
        console.print(f"{done.being_written:,} are being written. Rewrap again when their processes have ended.")
    for name in done.missing:
        console.print(f"{name} is not there. If it is gone for good, say --forget-missing.")
    for name in done.holders:
        console.print(f"{name} holds values of an older version, and has to encrypt them anew.")
    for name, reason in done.failed.items():
        console.print(f"{name}: {reason}", style="red")


def open_keys() -> tuple[Settings, Keys]:
    """The settings, and the keyset that they name.

    Raises:
        WorkbenchError: when what it takes is not installed.
    """
    try:
        from workbench.security.keyset.opening import Keys
    except ModuleNotFoundError as error:
        raise WorkbenchError(
            f"{error.name} is not installed", remedy="Install analytics-workbench[keys], with cryptography 50 or later."
        ) from None
    settings = Settings.load()
    return settings, Keys.of(settings.home, settings.keys)


def _tell(as_json: bool, fields: dict[str, Any], text: str) -> None:
    typer.echo(json.dumps(fields) if as_json else text)


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal; gives what moves it."""
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bars:
        task = bars.add_task("rewrap", total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
