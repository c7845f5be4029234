"""Brings a backup back into an empty folder: files and WAL as they were, before PostgreSQL's own recovery."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from workbench.errors import BackupError, EncryptionError, KeysetError
from workbench.security.encryption.files import decrypted_stream
from workbench.security.encryption.rewrapping import note
from workbench.security.keyset.opening import Keys
from workbench.security.secrets import private_folder, write_private
from workbench.warehouse.backup.base.combining import combine
from workbench.warehouse.backup.parts import HOME, WAREHOUSE, hashed_pieces
from workbench.warehouse.backup.repository import Backup, Repository
from workbench.warehouse.backup.subject_keys import restore_subject_keys
from workbench.warehouse.backup.wal import chain


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What is restored."""

    repository: Repository
    backup: Backup
    keys: Keys  #: of the restored home


def choose(
    repositories: list[Repository], keys_of: Callable[[Repository], Keys], *, name: str | None, at: datetime | None
) -> Chosen:
    """The backup of that name, else the newest one, or the newest that ended before *at*.

    Args:
        repositories: all that may hold it.
        keys_of: the keys that read a repository; an error of them passes over one that has another root key.
        name: of a backup.
        at: the moment to restore to.

    Raises:
        BackupError: when there is none, or those there are cannot be read with these keys.
    """
    found: list[Chosen] = []
    problems: list[str] = []
    for repository in repositories:
        try:
            keys = keys_of(repository)
            keys.file.read()
        except (EncryptionError, KeysetError) as error:
            problems.append(error.message)
            continue
        for each in repository.backups(keys):
            if each.name != name if name else at is not None and each.finished > at:
                continue
            try:
                repository.lineage(keys, each)
            except BackupError as error:
                problems.append(error.message)
            else:
                found.append(Chosen(repository=repository, backup=each, keys=keys))
    if not found:
        wanted = f"named {name}" if name else f"that ended before {at:%Y-%m-%d %H:%M:%S %Z}" if at else ""
        raise BackupError(
            " ".join(["there is no backup", wanted, "that can be read:" if problems else "", *problems]).strip(),
            remedy="`workbench backup list` names them. The root key has to be that of the time of the backup.",
        )
    best = max(found, key=lambda each: each.backup.finished)
    if at is not None and best.backup.finished > at:
        raise BackupError(
            f"the backup {best.backup.name} ended at {best.backup.finished:%Y-%m-%d %H:%M:%S %Z}, after that moment",
            remedy="Name an earlier one, or none.",
        )
    return best


def unpack(chosen: Chosen, home: Path, final: Path, programs: Path) -> None:
    """Write the files of the home and of the warehouse.

    Args:
        chosen: the backup.
        home: a folder that nobody uses, with the keyset in it. What is there when this fails is to be removed.
        final: where it will be: the inventory of encrypted files names them by that path.
        programs: the installation of PostgreSQL, of the version that was backed up.

    Raises:
        BackupError, EncryptionError: when a part is damaged, or one that the backup is built on is not there.
        OSError: when a file cannot be written.
    """
    tree = home.parent / f"{home.name}.tree"
    _unpack(chosen, chosen.backup, HOME, tree)
    _place(tree, home)
    restore_subject_keys(chosen.repository, chosen.keys)
    _unpack_warehouse(chosen, home / "postgres", programs)
    _correct_inventory(chosen, home, final)


def unpack_wal(chosen: Chosen, folder: Path) -> int:
    """Write the segments that follow on the backup; returns how many.

    Raises:
        EncryptionError: when one is damaged.
        OSError: when one cannot be written.
    """
    wal = chosen.repository.wal
    names = [each.name for each in chain(wal.segments(), chosen.backup.stop)]
    private_folder(folder)
    for name in [*wal.histories(), *names]:
        write_private(folder / name, wal.read(chosen.keys, name))
    return len(names)


def _unpack_warehouse(chosen: Chosen, folder: Path, programs: Path) -> None:
    lineage = chosen.repository.lineage(chosen.keys, chosen.backup)
    if len(lineage) == 1:
        _unpack(chosen, chosen.backup, WAREHOUSE, folder / "data")
        return
    places = [folder / f"combined.{number}" for number, _ in enumerate(lineage)]
    for backup, place in zip(lineage, places, strict=True):
        _unpack(chosen, backup, WAREHOUSE, place)
    combine(programs, int(chosen.backup.server.partition(".")[0]), places, folder / "data")
    for place in places:
        shutil.rmtree(place)


def _unpack(chosen: Chosen, backup: Backup, part_name: str, target: Path) -> None:
    part = next(each for each in backup.parts if each.name == part_name)
    path = chosen.repository.path(backup.name) / part_name
    context = chosen.repository.context(backup.name, part_name)
    private_folder(target)
    stream = _Stream(hashed_pieces(decrypted_stream(chosen.keys, path, context), part, str(path)))
    with tarfile.open(fileobj=io.BufferedReader(stream), mode="r|gz") as tar:
        # Nothing outside of the folder, no devices, nobody else's files: whatever the archive says.
        tar.extractall(target, filter="data")
    stream.drain()


def _place(tree: Path, home: Path) -> None:
    """Move what was in the home to its place, and what was included below `restored/`."""
    (tree / "home").mkdir(exist_ok=True)
    for path in (tree / "home").iterdir():
        if path.name == "keys":
            # The keyset is there already, by another way.
            for key in path.iterdir():
                key.rename(home / "keys" / key.name)
        else:
            path.rename(home / path.name)
    if (tree / "included").exists():
        (tree / "included").rename(home / "restored")
    shutil.rmtree(tree)


def _correct_inventory(chosen: Chosen, home: Path, final: Path) -> None:
    """Have the inventory name what has come back where it will be, and all backups that this one is among."""
    inventory = chosen.keys.inventory
    if not inventory.path.exists():
        return
    # What is not there was written while the backup was made, after its folder was read; or left out, as caches are.
    inventory.move_below(Path(chosen.backup.home), final, lambda name: (home / name).exists())
    repository = chosen.repository.folder.absolute()
    # Their entries are of the time when the inventory was copied.
    inventory.forget_below(repository)
    note(chosen.keys, chosen.keys.file.read(), [*repository.rglob("*.enc")])


class _Stream(io.RawIOBase):
    """Pieces as a file that is read once."""

    def __init__(self, pieces: Iterator[memoryview | bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a part of *buffer*; 0 at the end, when all has proved to be authentic."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        length = min(len(buffer), len(self._rest))
        buffer[:length] = self._rest[:length]
        self._rest = self._rest[length:]
        return length

    def drain(self) -> None:
        """Read to the end, which proves the whole: tar stops at its own end mark."""
        for _ in self._pieces:
            pass
