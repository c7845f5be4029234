"""Brings what older versions have encrypted under the primary, by its header alone, and retires versions nobody needs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from workbench.errors import KeysetError, WorkbenchError
from workbench.security.encryption.header import (
    EMPTY,
    HEADER_BYTES,
    MAGIC,
    PREFIX_BYTES,
    SLOT_BYTES,
    Kind,
    Prefix,
    parse_slots,
)
from workbench.security.encryption.sealing import unseal, wrap
from workbench.security.keyset.inventory import Entry
from workbench.security.keyset.opening import Keys
from workbench.security.keyset.versions import Keyset, KeyVersion
from workbench.security.secrets import locked

BATCH = 100  # files between two transactions of the inventory; nobody can promote meanwhile


@dataclass(kw_only=True)
class Rewrapped:
    """What a rewrap has done."""

    version: int  #: the primary
    moved: int = 0
    being_written: int = 0  #: by processes that run; do it again when they have ended
    forgotten: int = 0
    missing: list[str] = field(default_factory=list)
    holders: list[str] = field(default_factory=list)  #: of values, which only they can encrypt anew
    failed: dict[str, str] = field(default_factory=dict)  #: why, by path


def rewrap(
    keys: Keys, *, forget_missing: bool = False, on_entry: Callable[[int, int], None] = lambda done, total: None
) -> Rewrapped:
    """Wrap the keys of all files and logs under the primary. Contents are not read, and may be read and appended to meanwhile.

    Args:
        keys: of the workbench.
        forget_missing: whether entries of files that are not there are forgotten. Be sure that no disk is missing.
        on_entry: told how many of how many have been looked at.

    Raises:
        KeysetError, EncryptionError: when keyset or inventory cannot be used. What is wrong with single files is in `failed`.
    """
    keys.file.read()  # says so when there is none
    # One at a time: two would fill each other's slots.
    with locked(keys.file.path.with_name("rewrap.lock")):
        keyset = keys.file.read()
        keys.inventory.check(keyset.inventory)
        done = Rewrapped(version=keyset.primary.number)
        entries = keys.inventory.entries(other_than=keyset.primary.number)
        for start in range(0, len(entries), BATCH):
            _take(keys, entries[start : start + BATCH], done, forget_missing=forget_missing)
            on_entry(min(start + BATCH, len(entries)), len(entries))
        return done


def retire(keys: Keys, number: int, *, destroy: bool = False) -> Keyset:
    """Disable version *number*, or destroy its key for good.

    Raises:
        KeysetError: when it is the primary, or the inventory says that something needs it; nothing has changed then.
        EncryptionError: when the keyset cannot be used.
    """
    with keys.file.changing() as keyset:
        keys.inventory.check(keyset.inventory)
        changed = keyset.retired(number, destroy=destroy)
        if needed := keys.inventory.entries(version=number):
            first = ", ".join(each.name for each in needed[:3])
            raise KeysetError(
                f"version {number} is needed by {len(needed)} of the inventory: {first}{', …' if len(needed) > 3 else ''}",
                remedy="`workbench keys rewrap` brings them under the primary, and says what it cannot.",
            )
        return keys.file.replace(changed)


def rebuild(keys: Keys, folder: Path) -> int:
    """Make the inventory anew from the files below *folder*; returns how many there are. Values cannot be found so.

    Raises:
        KeysetError, EncryptionError: when the keyset cannot be used or the inventory not be written.
    """
    with keys.file.changing() as keyset:
        keys.inventory.create(keyset.inventory, anew=True)
        count = 0
        for path in sorted(folder.absolute().rglob("*")):
            header = b"" if path.is_symlink() or not path.is_file() else _begin(path)
            if header.startswith(MAGIC) and len(header) == HEADER_BYTES:
                count += _note(keys, keyset, path, header)
        return count


def rewrap_file(keys: Keys, primary: KeyVersion, path: Path, kind: Kind) -> None:
    """Wrap the key of the file or log at *path* under the primary. Killed at any point, it can be read.

    Args:
        keys: of the workbench, with its `writing_key` held.
        primary: what that gave; the inventory already says that *path* needs it.
        path: of the file.
        kind: of the file.

    Raises:
        EncryptionError: when its header cannot be opened; it is as it was.
        KeysetError: when the keyset cannot be used.
        OSError: when it cannot be read or written.
    """
    with path.open("r+b", buffering=0) as file:
        header = file.read(HEADER_BYTES)
        sealed = unseal(keys, header, kind, context=None, subject=str(path))
        slots = parse_slots(header)
        if [slot.version for slot in slots if slot] == [primary.number]:
            return
        # Of a rewrap that was cut off both may be filled; one is kept until the other is on the disk.
        good = next(index for index, slot in enumerate(slots) if slot)
        _write_slot(file.fileno(), 1 - good, wrap(sealed.prefix, primary, sealed.key).as_bytes())
        _write_slot(file.fileno(), good, EMPTY)


def _take(keys: Keys, entries: Sequence[Entry], done: Rewrapped, *, forget_missing: bool) -> None:
    found = []
    for entry in entries:
        path = Path(entry.name)
        if entry.kind == "values" and entry.is_being_written:
            done.being_written += 1
        elif entry.kind == "values":
            done.holders.append(entry.name)
        elif entry.is_being_written and (entry.kind == "file" or not path.exists()):
            done.being_written += 1
        elif not path.exists():
            _miss(keys, entry, path, done, forget_missing=forget_missing)
        else:
            found.append(entry)
    with keys.file.writing_key() as (_, primary):
        # Before any header changes: whenever this is killed, the inventory names every version that is needed.
        fresh = keys.inventory.add_version(found, primary.number)
        needless = [_rewrapped(keys, primary, each, new, done) for each, new in zip(found, fresh, strict=True)]
        keys.inventory.forget(needless)


def _rewrapped(keys: Keys, primary: KeyVersion, entry: Entry, fresh: int, done: Rewrapped) -> int:
    """Rewrap one; returns which of its two entries is needed no more."""
    try:
        rewrap_file(keys, primary, Path(entry.name), Kind.LOG if entry.kind == "log" else Kind.FILE)
    except (WorkbenchError, OSError) as error:
        done.failed[entry.name] = error.message if isinstance(error, WorkbenchError) else str(error)
        return fresh
    done.moved += 1
    return entry.id


def _miss(keys: Keys, entry: Entry, path: Path, done: Rewrapped, *, forget_missing: bool) -> None:
    # What a killed process had not finished has never been there.
    if forget_missing or (entry.is_cut_off and path.parent.exists()):
        keys.inventory.forget([entry.id])
        done.forgotten += 1
    else:
        done.missing.append(entry.name)


def _write_slot(descriptor: int, index: int, content: bytes) -> None:
    # All of a header lies within one sector of a disk.
    os.pwrite(descriptor, content, PREFIX_BYTES + index * SLOT_BYTES)
    os.fsync(descriptor)


def _begin(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEADER_BYTES)


def _note(keys: Keys, keyset: Keyset, path: Path, header: bytes) -> int:
    prefix = Prefix.parse(header, subject=str(path))
    if prefix.keyset != keyset.id or prefix.kind not in (Kind.FILE, Kind.LOG):
        return 0
    for slot in parse_slots(header):
        if slot is not None:
            keys.inventory.found("log" if prefix.kind is Kind.LOG else "file", path, slot.version)
    return 1
