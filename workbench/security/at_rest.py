"""Whether a folder is on a file system that is encrypted on its disk, as far as this machine tells."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MOUNTS = Path("/proc/self/mountinfo")
BLOCKS = Path("/sys/dev/block")
IN_MEMORY = ("tmpfs", "ramfs")
STACKED = ("ecryptfs", "fuse.gocryptfs", "fuse.encfs", "fuse.cryfs")
FSCRYPT_GET_POLICY = 0x400C6615  # FS_IOC_GET_ENCRYPTION_POLICY (linux/fscrypt.h)


@dataclass(frozen=True, kw_only=True)
class AtRest:
    """What is known of a folder."""

    encrypted: Literal["yes", "no", "unknown"]
    detail: str


def encryption_at_rest(folder: Path, *, mounts: Path = MOUNTS, blocks: Path = BLOCKS) -> AtRest:
    """Whether what is written into *folder* is encrypted on its disk. Needs Linux; changes nothing.

    Looks for LUKS and other dm-crypt below the file system, for file systems that encrypt, and for
    fscrypt. What lies below a container's overlay or a network file system cannot be seen from
    here, and is unknown; what a host does to the disks of its virtual machines does not count.

    Args:
        folder: an existing folder, or one whose parent exists.
        mounts: the kernel's list of mounts.
        blocks: the kernel's block devices by number.
    """
    try:
        lines = mounts.read_text(encoding="utf-8").splitlines()
    except OSError:
        return AtRest(encrypted="unknown", detail="this system has no /proc/self/mountinfo")
    existing = next(each for each in (folder.resolve(), *folder.resolve().parents) if each.exists())
    device, kind = _mount_of(existing, lines)
    if kind in STACKED:
        return AtRest(encrypted="yes", detail=f"the file system is {kind}")
    if kind in IN_MEMORY:
        return AtRest(encrypted="unknown", detail=f"{kind} is in memory; whether swap is encrypted is not looked at")
    if _has_fscrypt(existing):
        return AtRest(encrypted="yes", detail="fscrypt")
    return _of_disk(kind, blocks / device)


def _of_disk(kind: str, disk: Path) -> AtRest:
    if not disk.exists():
        return AtRest(encrypted="unknown", detail=f"{kind} does not tell which disk it is on")
    if any(_uuid(each).startswith("CRYPT-") for each in _devices_below(disk.resolve())):
        return AtRest(encrypted="yes", detail=f"dm-crypt below {kind}")
    return AtRest(encrypted="no", detail=f"{kind} on {disk.resolve().name}, with no dm-crypt below and no fscrypt")


def _mount_of(folder: Path, lines: list[str]) -> tuple[str, str]:
    """Device number and kind of the file system that holds *folder* (proc(5), mountinfo); the last mount wins."""
    best, found = -1, ("", "unknown")
    for line in lines:
        fields, _, rest = line.partition(" - ")
        parts = fields.split()
        point = parts[4].encode().decode("unicode_escape")
        if folder.is_relative_to(point) and len(point) >= best:
            best, found = len(point), (parts[2], rest.split()[0])
    return found


def _devices_below(device: Path) -> list[Path]:
    """The device and all that it is made of; of a partition, the disk is no part."""
    slaves = device / "slaves"
    below = [each.resolve() for each in slaves.iterdir()] if slaves.is_dir() else []
    return [device, *(deeper for each in below for deeper in _devices_below(each))]


def _uuid(device: Path) -> str:
    try:
        return (device / "dm" / "uuid").read_text(encoding="utf-8")
    except OSError:
        return ""


def _has_fscrypt(folder: Path) -> bool:
    import fcntl

    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.ioctl(descriptor, FSCRYPT_GET_POLICY, bytearray(12))
    except OSError:
        return False  # no policy, or a file system that has none
    finally:
        os.close(descriptor)
    return True
