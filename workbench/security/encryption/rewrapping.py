"""Brings what older versions have encrypted under the primary, by its header alone, and retires versions nobody needs."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

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
from workbench.security.keyset.versions import Keyset, KeyState, KeyVersion
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
    keys: Keys,
    *,
    forget_missing: bool = False,
    on_entry: Callable[[int, int], None] = lambda done, total: None,
    prepare: Callable[[Sequence[Path]], Mapping[Path, str]] = lambda paths: {},
) -> Rewrapped:
    """Wrap the keys of all files and logs under the primary. Contents are not read, and may be read and appended to meanwhile.

    Args:
        keys: of the workbench.
        forget_missing: whether entries of files that are not there are forgotten. Be sure that no disk is missing.
        on_entry: told how many of how many have been looked at.
        prepare: called with paths before any of their headers changes, while nobody can promote; gives those that may
            not change, each with the reason.

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
            found = _present(keys, entries[start : start + BATCH], done, forget_missing=forget_missing)
            _move(keys, found, done, prepare)
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


def rebuild(keys: Keys, folders: Collection[Path], holders: Collection[str] = ()) -> int:
    """Make the inventory anew from the files below *folders*; returns how many there are.

    Args:
        keys: of the workbench.
        folders: all that can have something encrypted; what is elsewhere is not known afterwards.
        holders: of values, which cannot be found so: they count as keeping some of every version until they have
            encrypted all anew.

    Raises:
        KeysetError: when one of the folders is not there, or the inventory cannot be written.
        EncryptionError: when the keyset cannot be used.
    """
    for folder in folders:
        if not folder.is_dir():
            raise KeysetError(
                f"{folder} is not there, and what is encrypted in it would be forgotten",
                remedy="Mount it. If it is gone for good, take it out of the settings.",
            )
    with keys.file.changing() as keyset:
        keys.inventory.create(keyset.inventory, anew=True)
        for version in keyset.versions:
            if version.state is not KeyState.DESTROYED:
                for holder in holders:
                    keys.inventory.hold(holder, version.number)
        return note(keys, keyset, {path for each in folders for path in each.absolute().rglob("*")})


def note(keys: Keys, keyset: Keyset, paths: Collection[Path]) -> int:
    """Have the inventory name those of *paths* that are encrypted with the keyset; returns how many there are."""
    found = [each for path in sorted(paths) if (each := _found(keyset, path))]
    keys.inventory.found(*(each for several in found for each in several))
    return len(found)


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


def _present(keys: Keys, entries: Sequence[Entry], done: Rewrapped, *, forget_missing: bool) -> list[Entry]:
    """Those of files that can be rewrapped now."""
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
    return found


def _move(
    keys: Keys,
    entries: Sequence[Entry],
    done: Rewrapped,
    prepare: Callable[[Sequence[Path]], Mapping[Path, str]],
) -> None:
    with keys.file.writing_key() as (_, primary):
        refused = prepare([Path(entry.name) for entry in entries])
        done.failed.update({str(path): reason for path, reason in refused.items()})
        found = [entry for entry in entries if Path(entry.name) not in refused]
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


def _found(keyset: Keyset, path: Path) -> list[tuple[Literal["file", "log"], Path, int]]:
    """The versions that *path* needs; none when nothing of this keyset is there."""
    header = b"" if path.is_symlink() or not path.is_file() else _begin(path)
    if not header.startswith(MAGIC) or len(header) != HEADER_BYTES:
        return []
    prefix = Prefix.parse(header, subject=str(path))
    if prefix.keyset != keyset.id or prefix.kind not in (Kind.FILE, Kind.LOG):
        return []
    kind: Literal["file", "log"] = "log" if prefix.kind is Kind.LOG else "file"
    return [(kind, path, slot.version) for slot in parse_slots(header) if slot is not None]
