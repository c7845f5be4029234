"""The keys of subjects among backups: one copy, the newest.

Backups keep what was, and a key that was destroyed must not come back. So they hold no key of a subject, and
beside them all is one copy, replaced as soon as keys were made or destroyed: before the WAL is archived that
holds what they encrypt. Keys are only ever added and destroyed, so the newest copy serves every backup.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from workbench.security.encryption.files import decrypt_file, decrypted_stream, encrypt_file
from workbench.security.keyset.opening import Keys
from workbench.security.secrets import locked, private_folder, write_private
from workbench.security.subjects.fingerprints import KEY
from workbench.security.subjects.store import SubjectStore
from workbench.warehouse.backup.home import scratch_folder
from workbench.warehouse.backup.repository import Repository

COPY = "subjects.db.enc"
NOTED = "subjects.changes"  #: how often keys in the copy were changed
LOCK = ".subjects.lock"


def refresh_subject_keys(repository: Repository, keys: Keys) -> None:
    """Have the copy be that of the present keys.

    Raises:
        EncryptionError, KeysetError: when keys of subjects or keyset cannot be used; the copy stays.
        OSError: when it cannot be written.
    """
    store, target = _store(keys), repository.folder / COPY
    if not store.exists:
        return
    noted = repository.folder / NOTED
    # One at a time: the copy of who had read the keys before would replace that of who has destroyed some since.
    with _alone(repository):
        if target.exists() and noted.exists() and noted.read_text() == _note(store.changes()):
            return
        with _scratch(keys) as scratch:
            changes = store.copy(scratch)
            encrypt_file(keys, scratch, target, _context(repository))
        write_private(noted, _note(changes))


def destroy_in_copy(repository: Repository, keys: Keys, named: Collection[tuple[str, str]]) -> None:
    """Destroy keys in a copy of which others are to stay: that of a home which this one was restored from.

    Raises:
        As `refresh_subject_keys`.
    """
    target = repository.folder / COPY
    if target.exists():
        with _alone(repository), _scratch(keys) as scratch:
            decrypt_file(keys, target, scratch, _context(repository))
            SubjectStore(scratch).destroy(named)
            encrypt_file(keys, scratch, target, _context(repository))


def check_subject_keys(repository: Repository, keys: Keys) -> None:
    """Read all of the copy, if there is one.

    Raises:
        As `restore_subject_keys`.
    """
    source = repository.folder / COPY
    if source.exists():
        for _ in decrypted_stream(keys, source, _context(repository)):
            pass


def restore_subject_keys(repository: Repository, keys: Keys) -> None:
    """Put the copy into the folder of *keys*, if there is one.

    Raises:
        EncryptionError, KeysetError: when it is damaged, or the keyset cannot be used.
    """
    store, source = _store(keys), repository.folder / COPY
    if source.exists():
        decrypt_file(keys, source, store.path, _context(repository))
        # It may be younger than all else that was in the home.
        write_private(store.path.with_name(KEY), f"{store.fingerprint_key()}\n")


def _alone(repository: Repository) -> AbstractContextManager[bool]:
    return locked(private_folder(repository.folder) / LOCK)


def _note(changes: int) -> str:
    return f"{changes} changes\n"  # a number alone was SQLite's counter


@contextmanager
def _scratch(keys: Keys) -> Iterator[Path]:
    # The keys in it are wrapped by the keyset.
    with scratch_folder(keys.file.path.parent.parent) as folder:
        yield folder / "subjects.db"


def _store(keys: Keys) -> SubjectStore:
    return SubjectStore(keys.file.path.with_name("subjects.db"))


def _context(repository: Repository) -> str:
    return f"backup/{repository.folder.name}/subjects"
