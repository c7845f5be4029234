"""Who may read a file or a folder, and whether its disk is encrypted."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from workbench.security.assurance.rows import NotProtected
from workbench.security.at_rest import encryption_at_rest
from workbench.security.encryption.header import PREFIX_BYTES, Prefix

SHOWN = 5


def is_private(path: Path, *, others: Iterable[int] = ()) -> str:
    """Only its owner may enter the folder or read the file, and the owner is who runs this, or one of *others*.

    Args:
        path: what exists.
        others: ids of users who may own it beside us; root may look at what anybody owns.

    Raises:
        NotProtected: when others may.
        OSError: when it cannot be looked at.
    """
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        raise NotProtected(f"other users may read {path} (mode {mode:04o})", remedy=f"chmod go-rwx {path}")
    if os.geteuid() and found.st_uid not in {os.geteuid(), *others}:
        raise NotProtected(
            f"{path} belongs to user {found.st_uid}, and not to you",
            remedy="Run this command as the user who started the workbench, or chown it.",
        )
    return f"mode {mode:04o}, user {found.st_uid} alone"


def all_private(folder: Path) -> str:
    """The folder is private, and so is each file in it, whoever might open a way to it.

    Raises:
        NotProtected: when others may read one.
    """
    is_private(folder)
    files = [each for each in folder.rglob("*") if not each.is_symlink()]
    loose = [each for each in files if stat.S_IMODE(each.lstat().st_mode) & 0o077 and not each.is_socket()]
    if loose:
        raise NotProtected(
            f"other users may read {', '.join(map(str, loose[:SHOWN]))}", remedy=f"chmod -R go-rwx {folder}"
        )
    return f"{len(files)} files of mode 0600, user {folder.stat().st_uid} alone"


def begins_encrypted(file: Path) -> None:
    """*file* begins as encrypted data does.

    Raises:
        EncryptionError: when it does not, or is empty.
    """
    with file.open("rb") as opened:
        Prefix.parse(opened.read(PREFIX_BYTES), subject=str(file))


def on_encrypted_disk(folder: Path) -> str:
    """The disk below *folder* is encrypted by the operating system. The workbench does not promise that it is.

    Raises:
        NotProtected: when it is not, or this machine does not tell.
    """
    found = encryption_at_rest(folder)
    if found.encrypted == "yes":
        return f"encrypted disk ({found.detail})"
    seen = "in clear on its disk" if found.encrypted == "no" else "in clear as far as can be seen"
    raise NotProtected(
        f"{seen}: {found.detail}",
        remedy=f"Put {folder} on a disk with LUKS, or into a folder with fscrypt.",
        promised=False,
    )
