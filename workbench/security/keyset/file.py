"""The file of a keyset: read again when it has changed, replaced as a whole, changed by one process at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from workbench.errors import KeysetError
from workbench.security.keyset.document import RootKey, read_document, write_document
from workbench.security.keyset.roots import read_private
from workbench.security.keyset.versions import Change, Keyset, KeyVersion
from workbench.security.secrets import locked, private_folder, sync_folder, write_private


class KeysetFile:
    """A keyset in a file of mode 0600. Any number of threads and processes may use it at once.

    Readers of a file that has been rotated need no restart: each use reads the file, which is
    short, and opens it anew with the root key when it is another one.
    """

    def __init__(self, path: Path, root: RootKey) -> None:
        self.path, self.root = path, root
        self._mutex = threading.Lock()
        self._content = b""
        self._keyset: Keyset | None = None

    @property
    def exists(self) -> bool:
        """Whether there is a keyset."""
        return self.path.exists()

    def create(self, prepare: Callable[[Keyset], None]) -> Keyset:
        """Write the first keyset, once *prepare* has made what belongs to it.

        Raises:
            KeysetError: when there is one; it is left as it is.
            RootKeyUnavailable: when the root key is not there.
        """
        private_folder(self.path.parent)
        with self._locked():
            if self.exists:
                raise KeysetError(
                    f"{self.path} exists", remedy="See `workbench keys list`; `rotate` makes a new version."
                )
            keyset = Keyset.new()
            prepare(keyset)
            return self._write(keyset)

    def read(self) -> Keyset:
        """The keyset as it is now.

        Raises:
            KeysetError: when it cannot be read, or others may read it.
            RootKeyUnavailable, WrongKey, Truncated, Corrupt, UnsupportedFormat: as `read_document`.
        """
        content = read_private(self.path, what="keyset")
        with self._mutex:
            # Not by the times of the file: two changes within one tick of the clock would look like one.
            if self._keyset is None or content != self._content:
                self._keyset = read_document(content, self.root, subject=f"the keyset {self.path}")
                self._content = content
            return self._keyset

    def reading_key(self, number: int) -> bytes:
        """The key that decrypts what version *number* has encrypted.

        Raises:
            UnknownKeyVersion, KeyDisabled: as `Keyset.reading_key`.
            As `read`.
        """
        return self.read().reading_key(number)

    @contextmanager
    def writing_key(self) -> Iterator[tuple[Keyset, KeyVersion]]:
        """The keyset and its primary. While the context is open no version changes its state.

        Whoever encrypts notes in the inventory that the version is needed before the context is
        left: between promotion and retirement nobody can slip through.

        Raises:
            As `read`.
        """
        with self._locked(shared=True):
            keyset = self.read()
            yield keyset, keyset.primary

    @contextmanager
    def changing(self) -> Iterator[Keyset]:
        """The keyset, which nobody else changes or begins to encrypt with meanwhile; `change` replaces it.

        Raises:
            As `read`.
        """
        with self._locked():
            yield self.read()

    def change(self, change: Change) -> Keyset:
        """Replace the keyset by what *change* makes of it.

        Raises:
            OSError: when it cannot be written; it is as it was.
            As `read`, and as *change*.
        """
        with self.changing() as keyset:
            return self._write(change(keyset))

    def replace(self, keyset: Keyset) -> Keyset:
        """Write *keyset*, made of what an open `changing` gave."""
        return self._write(keyset)

    def _write(self, keyset: Keyset) -> Keyset:
        write_private(self.path, write_document(keyset, self.root))
        sync_folder(self.path.parent)
        return keyset

    def _locked(self, *, shared: bool = False) -> AbstractContextManager[bool]:
        if not self.path.parent.is_dir():
            raise KeysetError(
                f"there is no folder {self.path.parent}", remedy="`workbench keys init` makes it, and a keyset in it."
            )
        return locked(self.path.with_suffix(".lock"), shared=shared)
