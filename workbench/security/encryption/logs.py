"""Logs that grow: a header, then one frame for each append.

A frame is its length (4 bytes, big-endian) and a message that is bound to the log and to the byte at
which the frame begins. So frames cannot be changed, exchanged, left out or repeated, and a reader may
begin at any frame. That the end is missing cannot be seen: the last frame has to say that it is the last.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from workbench.errors import Corrupt, Truncated, WrongKey
from workbench.security.encryption.header import HEADER_BYTES, Kind
from workbench.security.encryption.sealing import Sealed, read_header, seal
from workbench.security.keyset.inventory import Inventory
from workbench.security.keyset.opening import Keys
from workbench.security.messages import RESTORE, decrypt_message, encrypt_message, message_bytes

LENGTH_BYTES = 4


@dataclass(frozen=True)
class FrameSealer:
    """Makes the bytes of a new log. Who appends them keeps count of where they go, and says when it has grown to its end."""

    sealed: Sealed
    inventory: Inventory

    @classmethod
    def of(cls, keys: Keys, path: Path, context: str) -> Self:
        """For a new log at *path*, which the inventory names from now on.

        Raises:
            KeysetError, EncryptionError: when the keyset cannot be used.
        """
        return cls(seal(keys, "log", path, context), keys.inventory)

    @property
    def header(self) -> bytes:
        """What the log begins with."""
        return self.sealed.header

    def frame(self, content: bytes, position: int) -> bytes:
        """The frame for *content* that is appended at byte *position* of the log."""
        message = encrypt_message(self.sealed.key, content, self.sealed.frame_context(position))
        return len(message).to_bytes(LENGTH_BYTES, "big") + message

    def finish(self) -> None:
        """Nothing more is appended. A log of which that was never said stays readable all the same.

        Raises:
            KeysetError: when the inventory cannot be written.
        """
        assert self.sealed.noted is not None
        self.inventory.finish(self.sealed.noted)


@dataclass(frozen=True)
class FrameReader:
    """Reads a log that may still be growing."""

    file: BinaryIO
    sealed: Sealed
    subject: str

    @classmethod
    def of(cls, keys: Keys, file: BinaryIO, context: str, *, subject: str) -> Self:
        """For the log in *file*; errors call it *subject*.

        Raises:
            WrongKey, UnknownKeyVersion, KeyDisabled, OtherContext, Truncated, Corrupt, UnsupportedFormat: as they say.
            KeysetError: when the keyset cannot be used.
        """
        return cls(file, read_header(keys, file, Kind.LOG, context, subject=subject), subject)

    def frames(self, position: int = HEADER_BYTES) -> Iterator[tuple[bytes, int]]:
        """What was appended from byte *position* on, each with the position behind it, up to a frame that is not whole yet.

        Raises:
            Corrupt: when what is there is not what was appended there.
        """
        while (message := self._message(position)) is not None:
            context = self.sealed.frame_context(position)
            try:
                content = decrypt_message(self.sealed.key, message, context, subject=self.subject)
            except (WrongKey, Truncated, Corrupt):
                raise self._corrupt(position) from None
            position += LENGTH_BYTES + len(message)
            yield content, position

    def late_position(self, begin: int) -> int:
        """Where the first whole frame behind byte *begin* begins, or the last one, when all begin before."""
        position = HEADER_BYTES
        for position in self.positions():
            if position >= begin:
                break
        return position

    def positions(self, position: int = HEADER_BYTES) -> Iterator[int]:
        """Where each whole frame from *position* on begins, by their lengths alone."""
        end = os.fstat(self.file.fileno()).st_size
        while position + LENGTH_BYTES <= end:
            self.file.seek(position)
            behind = position + LENGTH_BYTES + int.from_bytes(self.file.read(LENGTH_BYTES), "big")
            if behind > end:
                return
            yield position
            position = behind

    def _message(self, position: int) -> bytes | None:
        self.file.seek(position)
        prefix = self.file.read(LENGTH_BYTES)
        if len(prefix) < LENGTH_BYTES:
            return None
        length = int.from_bytes(prefix, "big")
        if length == 0:
            # What a loss of power may leave behind the last frame that was synced. It hides no more than a cut would.
            return None
        if length < message_bytes(0):
            raise self._corrupt(position)
        # A length that was made up claims no memory.
        if position + LENGTH_BYTES + length > os.fstat(self.file.fileno()).st_size:
            return None
        message = self.file.read(length)
        return message if len(message) == length else None

    def _corrupt(self, position: int) -> Corrupt:
        return Corrupt(f"{self.subject} was changed at byte {position}", remedy=RESTORE)
