"""A keyset as the bytes of its file: JSON whose versions are sealed with a key of their own, which the root key wraps.

    {"format": 1, "keyset": hex, "root": "file", "wrapped": base64, "sealed": base64}

Each time it is written the sealing key is a new one, so the root key is used once a change,
and a service that keeps it never sees a version.
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from workbench.errors import KeysetError, UnsupportedFormat, WrongKey
from workbench.security.keyset.versions import ID_BYTES, Keyset, KeyState, KeyVersion
from workbench.security.messages import KEY_BYTES, decrypt_message, encrypt_message

FORMAT = 1
DOCUMENT_BYTES = 1 << 20  #: more than thousands of versions take
FIELDS = {"format": int, "keyset": str, "root": str, "wrapped": str, "sealed": str}


class RootKey(Protocol):
    """Who wraps the key of a keyset: a file, a variable, or a service."""

    @property
    def name(self) -> str:
        """How the keyset's file calls it, such as `file`."""
        ...

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """*key* so that only `unwrap` of the same root key with the same context gives it back.

        Raises:
            RootKeyUnavailable: when the root key is not there or a service does not answer.
        """
        ...

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """What `wrap` was given.

        Raises:
            RootKeyUnavailable: as `wrap`.
            WrongKey: when it was wrapped by another root key, for another context, or was changed.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class _Document:
    keyset: bytes
    root: str
    wrapped: bytes
    sealed: bytes

    @property
    def context(self) -> bytes:
        """What the sealed part is bound to: everything else but the wrapped key, which opens it."""
        return b"workbench/keyset\0" + bytes([FORMAT]) + self.keyset + self.root.encode()


def write_document(keyset: Keyset, root: RootKey) -> bytes:
    """The file of *keyset*.

    Raises:
        RootKeyUnavailable: when the root key is not there.
    """
    key = os.urandom(KEY_BYTES)
    wrapped = root.wrap(key, keyset.id)
    empty = _Document(keyset=keyset.id, root=root.name, wrapped=wrapped, sealed=b"")
    sealed = encrypt_message(key, _as_json(keyset), empty.context)
    fields = {
        "format": FORMAT,
        "keyset": keyset.id.hex(),
        "root": root.name,
        "wrapped": base64.b64encode(wrapped).decode(),
        "sealed": base64.b64encode(sealed).decode(),
    }
    return json.dumps(fields, indent=1).encode() + b"\n"


def read_document(content: bytes, root: RootKey, *, subject: str) -> Keyset:
    """The keyset in the file *content*; errors call it *subject*.

    Raises:
        KeysetError: when it is no keyset, or one of another root key.
        UnsupportedFormat: when a newer version has written it.
        RootKeyUnavailable: when the root key is not there.
        WrongKey, Truncated, Corrupt: when it was changed, or the root key is another one.
    """
    document = _parsed(content, subject)
    if document.root != root.name:
        raise KeysetError(
            f"{subject} is protected by the root key {document.root}, and the settings name {root.name}",
            remedy="Set WORKBENCH_KEYS_ROOT and what belongs to it as they were at `workbench keys init`.",
        )
    key = root.unwrap(document.wrapped, document.keyset)
    if len(key) != KEY_BYTES:
        raise WrongKey(f"{subject} was not wrapped by this root key", remedy="Name the root key it was made with.")
    return _of_json(document.keyset, decrypt_message(key, document.sealed, document.context, subject=subject))


def _parsed(content: bytes, subject: str) -> _Document:
    fields = _fields(content)
    if fields and fields["format"] != FORMAT:
        raise UnsupportedFormat(
            f"{subject} has format {fields['format']}; this version reads {FORMAT}",
            remedy="Use the version of the workbench that wrote it, or a later one.",
        )
    try:
        parsed = _Document(
            keyset=bytes.fromhex(fields["keyset"]),
            root=fields["root"],
            wrapped=base64.b64decode(fields["wrapped"], validate=True),
            sealed=base64.b64decode(fields["sealed"], validate=True),
        )
    except (KeyError, ValueError):
        parsed = None
    if parsed is None or len(parsed.keyset) != ID_BYTES:
        raise KeysetError(f"{subject} is no keyset, or is damaged", remedy="Restore it from a backup.")
    return parsed


def _fields(content: bytes) -> dict[str, Any]:
    """The fields of a file, each of its type; empty when it is no keyset."""
    if len(content) > DOCUMENT_BYTES:
        return {}
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(fields, dict) or any(not isinstance(fields.get(name), kind) for name, kind in FIELDS.items()):
        return {}
    return fields


def _as_json(keyset: Keyset) -> bytes:
    versions = [
        {
            "number": each.number,
            "state": each.state,
            "created": each.created.isoformat(),
            "changed": each.changed.isoformat(),
            "key": each.key.hex(),
        }
        for each in keyset.versions
    ]
    return json.dumps({"inventory": keyset.inventory, "versions": versions}).encode()


def _of_json(identifier: bytes, content: bytes) -> Keyset:
    # It is authentic, so it is what `_as_json` made.
    fields = json.loads(content)
    versions = [
        KeyVersion(
            number=each["number"],
            state=KeyState(each["state"]),
            created=datetime.fromisoformat(each["created"]),
            changed=datetime.fromisoformat(each["changed"]),
            key=bytes.fromhex(each["key"]),
        )
        for each in fields["versions"]
    ]
    return Keyset(id=identifier, inventory=fields["inventory"], versions=tuple(versions))
