"""How what is recorded is kept: encrypted with the keyset of the workbench, or in clear. The name of a file tells which.

What is encrypted is bound to its place below the folder of all runs, so that the files of one attempt
are not taken for those of another.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from workbench.errors import AuditError, KeysetError
from workbench.security.audit import Action, AuditLog
from workbench.security.encryption.files import read_encrypted, write_encrypted
from workbench.security.encryption.header import HEADER_BYTES
from workbench.security.encryption.logs import FrameReader, FrameSealer
from workbench.security.keyset.opening import Keys
from workbench.security.secrets import sync_folder, write_private
from workbench.settings import Settings

logger = logging.getLogger(__name__)

ENCRYPTED = ".enc"  #: what the names of encrypted files end in
PLACE_PARTS = 3  # run, attempt, file


def recording_keys(settings: Settings) -> Keys | None:
    """What attempts of this workbench are encrypted with; made when there is none yet. None when they are not to be.

    Raises:
        KeysetError: when the keyset cannot be used, or has been lost.
    """
    if not settings.pipelines.encrypt_outputs:
        return None
    keys = Keys.of(settings.home, settings.keys)
    if keys.ensure():
        try:
            AuditLog.of(settings.home).record(Action.KEYSET_CREATED, actor="pipelines", resource="keyset", version="1")
        except AuditError as error:
            # It is there. What runs does not wait for room on a disk.
            logger.error("%s", error)  # noqa: TRY400 - it says all
    return keys


def new_sealer(log: Path, keys: Keys | None) -> FrameSealer | None:
    """What encrypts the lines of a new log; None for one in clear. May wait while the keyset is changed.

    Raises:
        KeysetError, EncryptionError: when it is to be encrypted and the keyset cannot be used.
    """
    return FrameSealer.of(needed(keys, log), log, context_of(log)) if is_encrypted(log) else None


def is_encrypted(path: Path) -> bool:
    """Whether the file at *path* is to be encrypted, by its name. What it says it is does not count."""
    return path.suffix == ENCRYPTED


def context_of(path: Path) -> str:
    """What a file is bound to: its place, such as `pipelines/17/step.1-42/log.jsonl`."""
    return "/".join(["pipelines", *path.absolute().parts[-PLACE_PARTS:]]).removesuffix(ENCRYPTED)


def read_file(path: Path, keys: Keys | None) -> bytes:
    """The content of a whole file.

    Raises:
        OSError: when it cannot be read.
        KeysetError, EncryptionError: when it is encrypted and cannot be decrypted.
    """
    if not is_encrypted(path):
        return path.read_bytes()
    return read_encrypted(needed(keys, path), path, context_of(path))


def write_file(path: Path, content: bytes, keys: Keys | None) -> None:
    """Make *path* hold *content*, at mode 0600, whole and on the disk, name included.

    Raises:
        OSError: when there is no room; it is then as it was.
        KeysetError, EncryptionError: when it is to be encrypted and cannot be.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if is_encrypted(path):
        write_encrypted(needed(keys, path), content, path, context_of(path))
    else:
        write_private(path, content)
        sync_folder(path.parent)


def read_lines(log: Path, keys: Keys | None, position: int = 0) -> Iterator[tuple[bytes, int]]:
    """The whole lines of a log from byte *position* on, each with the position behind it.

    Raises:
        OSError: when it cannot be read.
        KeysetError, EncryptionError: when it is encrypted and cannot be decrypted, or was changed at some line.
    """
    with log.open("rb") as file:
        if is_encrypted(log):
            if reader := _frames(file, log, keys):
                yield from reader.frames(max(position, HEADER_BYTES))
            return
        file.seek(position)
        for line in file:
            if not line.endswith(b"\n"):
                return
            position += len(line)
            yield line, position


def late_position(log: Path, keys: Keys | None, last_bytes: int) -> int:
    """Where a line begins that is at most about *last_bytes* before the end of a log.

    Raises:
        As `read_lines`.
    """
    with log.open("rb") as file:
        begin = max(0, log.stat().st_size - last_bytes)
        if is_encrypted(log):
            reader = _frames(file, log, keys)
            return reader.late_position(begin) if reader else 0
        file.seek(begin)
        file.readline()
        return file.tell()


def needed(keys: Keys | None, path: Path) -> Keys:
    """The keys.

    Raises:
        KeysetError: when there are none.
    """
    if keys is None:
        raise KeysetError(f"{path} is encrypted, and there is no keyset", remedy="Restore keys/ from a backup.")
    return keys


def _frames(file: BinaryIO, log: Path, keys: Keys | None) -> FrameReader | None:
    """None for a log that has just been made: its header is not there yet."""
    if os.fstat(file.fileno()).st_size < HEADER_BYTES:
        return None
    return FrameReader.of(needed(keys, log), file, context_of(log), subject=str(log))
