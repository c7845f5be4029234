"""The copies of the keyset among backups: each has every version before a file beside it needs it.

Whoever has lost the home restores with such a copy and the root key alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from workbench.errors import EncryptionError, KeysetError
from workbench.security.keyset.file import KeysetFile
from workbench.security.keyset.opening import Keys
from workbench.security.keyset.versions import KeyState, KeyVersion
from workbench.warehouse.backup.repository import Repository

DEPTH = 3  #: folders from a file of a repository up to it, at most: NAME, backups, ID


def repositories_of(keys: Keys, paths: Iterable[Path]) -> dict[Path, Repository]:
    """The repository in which each of these files is; those of other folders are left out."""
    seen: dict[Path, Repository | None] = {}
    found = {}
    for path in paths:
        if path.parent not in seen:
            seen[path.parent] = _repository_at(keys, path.parent)
        if (repository := seen[path.parent]) is not None:
            found[path] = repository
    return found


def refresh_all(keys: Keys, folder: Path | None) -> None:
    """Have every copy be the present keyset: those below *folder*, and those beside files that the inventory names.

    A folder that is not there is passed over: whoever writes into it again refreshes its copy first.

    Raises:
        KeysetError, EncryptionError: when a copy has keys that the keyset lacks, or the keyset cannot be used.
        OSError: when one cannot be written.
    """
    keys.file.read()  # says so when there is none
    names = (Path(each.name) for each in keys.inventory.entries() if each.kind != "values")
    found = {*repositories_of(keys, names).values(), *(Repository.all_below(folder) if folder else ())}
    for repository in sorted(found, key=lambda each: each.folder):
        refresh(keys, repository)


def refresh_around(keys: Keys, paths: Sequence[Path]) -> dict[Path, str]:
    """Have the copies beside these files be the present keyset; gives the files beside which that is not possible, and why."""
    found = repositories_of(keys, paths)
    refused: dict[Repository, str] = {}
    for repository in {*found.values()}:
        try:
            refresh(keys, repository)
        except (KeysetError, EncryptionError) as error:
            refused[repository] = error.message
        except OSError as error:
            refused[repository] = f"the copy of the keyset beside it cannot be written: {error}"
    return {path: refused[repository] for path, repository in found.items() if repository in refused}


def refresh(keys: Keys, repository: Repository) -> None:
    """Have the copy of one repository be the present keyset; a copy of another keyset is left alone.

    Raises:
        KeysetError: when the copy has keys that the keyset lacks: those of a home that was restored, and rotated its
            own keys since.
        EncryptionError: when the keyset cannot be used.
        OSError: when it cannot be written.
    """
    present = keys.file.read()
    if repository.keyset.read_bytes() == keys.file.path.read_bytes():
        return
    if repository.keyset_id not in {"", present.id.hex()}:
        return
    known = {each.number: each for each in present.versions}
    for version in _versions(keys, repository):
        if version.state is KeyState.DESTROYED:
            continue
        ours = known.get(version.number)
        if ours is None or (ours.state is not KeyState.DESTROYED and ours.key != version.key):
            raise KeysetError(
                f"{repository.keyset} has a version {version.number} that is not that of {keys.file.path}",
                remedy="Another home has rotated its keys for these backups. Use that one, or remove them when they are not needed.",
            )
    repository.refresh_keyset(keys)


def _versions(keys: Keys, repository: Repository) -> tuple[KeyVersion, ...]:
    try:
        return KeysetFile(repository.keyset, keys.file.root).read().versions
    except (KeysetError, EncryptionError):
        return ()  # it is damaged, and of no use to anybody


def _repository_at(keys: Keys, folder: Path) -> Repository | None:
    for place in (folder, *folder.parents)[:DEPTH]:
        copy = place / "keyset.json"
        if copy != keys.file.path.absolute() and copy.is_file():
            return Repository(place)
    return None
