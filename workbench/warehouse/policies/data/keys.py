"""Keys of subjects destroyed, here and in the copy beside the backups."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from workbench.errors import KeysetError
from workbench.security.keyset.opening import Keys
from workbench.security.subjects.keys import SubjectKeys
from workbench.settings import Settings
from workbench.warehouse.backup.keyset_copies import refresh
from workbench.warehouse.backup.repository import Repository
from workbench.warehouse.backup.subject_keys import destroy_in_copy, refresh_subject_keys


def destroy_keys(settings: Settings, named: Collection[tuple[str, str]]) -> int:
    """Destroy the keys of these kinds and fingerprints, and look that they are gone; returns how many there were.

    Raises:
        KeysetError, EncryptionError: when they cannot be destroyed.
        OSError: when the copy beside the backups cannot be replaced; the keys here are destroyed.
    """
    keys = SubjectKeys(settings.home, Keys.of(settings.home, settings.keys))
    destroyed = keys.destroy(named)
    for kind in {kind for kind, _ in named}:
        left = keys.find(kind, [each for other, each in named if other == kind])
        if any(key is not None for key in left.values()):
            raise KeysetError(
                f"a key in {keys.store.path} is there again", remedy="Stop who writes it, and erase again."
            )
    if settings.backup.folder is not None and keys.keys.file.exists:
        _destroy_in_copies(settings, settings.backup.folder, keys.keys, named)
    return destroyed


def _destroy_in_copies(settings: Settings, folder: Path, keys: Keys, named: Collection[tuple[str, str]]) -> None:
    mine = Repository.of(settings.home, folder)
    refresh_subject_keys(mine, keys)
    for other in Repository.all_below(folder):
        if other != mine and other.keyset_id == keys.file.read().id.hex():
            refresh(keys, other)
            destroy_in_copy(other, keys, named)
