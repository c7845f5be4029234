"""The keys of subjects, opened: made when a subject is met first, remembered for a while, destroyed with it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from workbench.errors import KeysetError
from workbench.security.encryption.data_keys import DataKey, open_data_key, rewrapped, writing_data_keys
from workbench.security.encryption.values import encrypting_anew
from workbench.security.keyset.opening import Keys
from workbench.security.keyset.versions import Keyset
from workbench.security.subjects.fingerprints import KEY, Fingerprints
from workbench.security.subjects.store import RESTORE, StoredKey, SubjectStore

HOLDER = "keys of subjects"  #: as the inventory of keys names them
REMEMBERED = 50_000  #: opened keys of one process
ID_BYTES = 8
BATCH = 1_000


@dataclass(frozen=True)
class SubjectKey:
    """The key of one subject."""

    id: bytes  #: stands in each value: a key that was made anew is another one
    key: DataKey


class SubjectKeys:
    """The keys of the subjects of one workbench. Nothing is opened before it is needed; for one thread."""

    def __init__(self, home: Path, keys: Keys) -> None:
        self.keys, self.store = keys, SubjectStore.of(home)
        self._home = home
        self._opened: dict[tuple[str, str], SubjectKey] = {}
        self._erasures = -1

    @cached_property
    def fingerprints(self) -> Fingerprints:
        """What stands for subjects in the file.

        Raises:
            KeysetError: when the file was made with another key: nobody in it would be recognized.
        """
        self.check()
        found = Fingerprints.of_home(self._home)
        if self.store.exists and self.store.fingerprint_key() != found.key:
            raise KeysetError(
                f"{self._home / 'keys' / KEY} is not the key with which {self.store.path} was made",
                remedy="Restore it from a backup: with another one nobody who was erased is recognized.",
            )
        return found

    def ensure(self, kind: str, fingerprints: Collection[str]) -> dict[str, SubjectKey | None]:
        """The key of each, made where there is none, on the disk when this returns; None of who was erased.

        Raises:
            KeysetError, EncryptionError: when keyset or keys of subjects cannot be used, or the latter are lost.
        """
        self._ensure_store()
        found, unknown = self._known(kind, fingerprints)
        if unknown:
            with writing_data_keys(self.keys, holder=HOLDER) as make:
                made = {each: SubjectKey(os.urandom(ID_BYTES), make(context(kind, each))) for each in unknown}
                fresh = {each: StoredKey(key.id, key.key.header) for each, key in made.items()}
                stored = self.store.add(kind, fresh)
            for each in [each for each in unknown if stored[each] == fresh[each]]:
                found[each] = self._remember(kind, each, made[each])
                del stored[each]
            # Another process was quicker: its keys are the ones.
            found |= self._open(kind, stored)
        return found

    def find(self, kind: str, fingerprints: Collection[str]) -> dict[str, SubjectKey | None]:
        """The keys that are there, None of who was erased; who never had one is left out.

        Raises:
            As `ensure`.
        """
        self.check()
        return self._known(kind, fingerprints)[0] if self.store.exists else {}

    def destroy(self, named: Iterable[tuple[str, str]]) -> int:
        """Destroy the keys of these kinds and fingerprints, and make none again; returns how many there were.

        Raises:
            KeysetError: when the file cannot be written, or is lost.
        """
        self.check()
        self.store.create(self.fingerprints.key)
        return self.store.destroy(named)

    def check(self) -> None:
        """Make sure that the file is there if any subject ever had a key.

        Raises:
            KeysetError: when it is lost.
        """
        is_used = self.keys.inventory.path.exists() and any(
            each.name == HOLDER for each in self.keys.inventory.entries()
        )
        if is_used and not self.store.exists:
            raise KeysetError(f"there are keys of subjects, but not {self.store.path}", remedy=RESTORE)

    def rewrap(self) -> int:
        """Bring the keys of all subjects under the primary; returns how many were moved. Values are not touched.

        Raises:
            KeysetError, EncryptionError: when one cannot be opened; the inventory still names the older versions.
        """
        self.check()
        if not self.store.exists:
            return 0
        with encrypting_anew(self.keys, HOLDER):
            return self._rewrap()

    def _rewrap(self) -> int:
        moved, after = 0, ("", b"")
        while rows := self.store.headers(after, BATCH):
            with self.keys.file.writing_key() as (keyset, primary):
                self.keys.inventory.hold(HOLDER, primary.number)
                changed = []
                for kind, fingerprint, header in rows:
                    key = self._data_key(kind, fingerprint.hex(), header, keyset)
                    if key.version != primary.number:
                        changed.append((kind, fingerprint, header, rewrapped(key, primary).header))
                self.store.replace(changed)
            moved, after = moved + len(changed), rows[-1][:2]
        return moved

    def _ensure_store(self) -> None:
        if not self.store.exists:
            self.keys.ensure()
            self.check()
            self.store.create(self.fingerprints.key)

    def _known(self, kind: str, fingerprints: Collection[str]) -> tuple[dict[str, SubjectKey | None], list[str]]:
        """What is known of these, and who is not."""
        if (erasures := self.store.erasures()) != self._erasures:
            self._erasures = erasures
            self._opened.clear()
        found: dict[str, SubjectKey | None] = {
            each: self._opened[kind, each] for each in fingerprints if (kind, each) in self._opened
        }
        rest = [each for each in fingerprints if each not in found]
        if rest:
            found |= self._open(kind, self.store.read(kind, rest))
        return found, [each for each in rest if each not in found]

    def _open(self, kind: str, stored: dict[str, StoredKey]) -> dict[str, SubjectKey | None]:
        found: dict[str, SubjectKey | None] = {}
        keyset = self.keys.file.read() if any(entry.header for entry in stored.values()) else None
        for each, entry in stored.items():
            if entry.header is None or entry.id is None:
                found[each] = None
                continue
            found[each] = self._remember(
                kind, each, SubjectKey(entry.id, self._data_key(kind, each, entry.header, keyset))
            )
        return found

    def _remember(self, kind: str, fingerprint: str, key: SubjectKey) -> SubjectKey:
        if len(self._opened) >= REMEMBERED:
            del self._opened[next(iter(self._opened))]  # the one that was opened first
        self._opened[kind, fingerprint] = key
        return key

    def _data_key(self, kind: str, fingerprint: str, header: bytes, keyset: Keyset | None) -> DataKey:
        return open_data_key(
            self.keys, header, context(kind, fingerprint), subject=f"the key of a {kind}", keyset=keyset
        )


def context(kind: str, fingerprint: str) -> str:
    """What the key of a subject is bound to, and with it each value."""
    return f"subject/{kind}/{fingerprint}"
