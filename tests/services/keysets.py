"""A keyset in a folder of a test."""

from __future__ import annotations

from pathlib import Path

from workbench.sections import KeysSettings
from workbench.security.encryption.rewrapping import rewrap
from workbench.security.keyset.opening import Keys


def make_keys(home: Path) -> Keys:
    keys = Keys.of(home, KeysSettings())
    keys.create()
    return keys


def open_keys(home: Path) -> Keys:
    """As another process would."""
    return Keys.of(home, KeysSettings())


def turn(keys: Keys) -> int:
    """Rotate, promote and rewrap; returns the new primary."""
    keys.file.change(lambda keyset: keyset.rotated())
    keys.file.change(lambda keyset: keyset.promoted())
    rewrap(keys)
    return keys.file.read().primary.number
