"""Dead letters encrypted: what they hold of a record is one message, under a data key whose header is beside it.

| Column | Of a letter that is encrypted |
|---|---|
| `record_value` | key, value and headers of the record, in one message |
| `record_key`, `record_headers` | null |
| `reason` | the reason, which may quote the record, in base64 |
| `encrypted_with` | the header of the data key, in base64; null says that the letter is in clear |

Where the record is and when it was made stays in clear.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from workbench.errors import Corrupt
from workbench.loading import JSON
from workbench.security.encryption.data_keys import DataKey
from workbench.security.messages import RESTORE

CONTEXT = "dead letters"
REASON = "reason"  # a place of its own: letters with one reason are counted together
REASONS = 1_000  # remembered; those that quote the record are all different
ABSENT = b"\xff\xff\xff\xff"
LENGTH_BYTES = len(ABSENT)
SUBJECT = "the dead letter"


class Sealer:
    """Encrypts letters with one data key."""

    def __init__(self, key: DataKey) -> None:
        self.key = key
        self._header = base64.b64encode(key.header).decode()
        self._reasons: dict[str, str] = {}

    def seal(self, letters: pa.Table) -> pa.Table:
        """The letters (of the schema `DEAD_LETTERS`), encrypted."""
        return as_table([self._sealed(each) for each in letters.to_pylist()], letters.schema)

    def _sealed(self, letter: Mapping[str, Any]) -> dict[str, Any]:
        headers = letter["record_headers"]
        parts = (letter["record_key"], letter["record_value"], None if headers is None else headers.encode())
        return {
            **letter,
            "record_key": None,
            "record_value": self.key.encrypt(pack(*parts), _place(letter)),
            "record_headers": None,
            "reason": self._reason(letter["reason"]),
            "encrypted_with": self._header,
        }

    def _reason(self, reason: str) -> str:
        # The same text again for the same reason: SQL can count them, and learns no more than that they are equal.
        if reason not in self._reasons:
            if len(self._reasons) >= REASONS:
                self._reasons.clear()
            self._reasons[reason] = base64.b64encode(self.key.encrypt(reason.encode(), REASON)).decode()
        return self._reasons[reason]


def header_in(encrypted_with: str | None) -> bytes | None:
    """The header of the data key of letters that have *encrypted_with*; None for letters in clear.

    Raises:
        Corrupt: when it is none.
    """
    return None if encrypted_with is None else _decoded(encrypted_with)


def unseal(letter: Mapping[str, Any], key: DataKey) -> dict[str, Any]:
    """A letter as it was before `Sealer.seal`.

    Raises:
        Corrupt, Truncated: when it was changed.
    """
    value, place = letter["record_value"], _place(letter)
    if value is None:
        raise Corrupt(f"{SUBJECT} {place} has lost its content", remedy=RESTORE)
    packed = key.decrypt(bytes(value), place, subject=f"{SUBJECT} {place}")
    record_key, record_value, headers = unpack(packed)
    return {
        **letter,
        "record_key": record_key,
        "record_value": record_value,
        "record_headers": None if headers is None else headers.decode(),
        "reason": unseal_reason(letter["reason"], key),
        "encrypted_with": None,
    }


def unseal_reason(text: str, key: DataKey) -> str:
    """A reason as it was before `Sealer.seal`.

    Raises:
        Corrupt, Truncated: when it was changed.
    """
    return key.decrypt(_decoded(text), REASON, subject=f"the reason of {SUBJECT}").decode()


def as_table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows with the types of *schema*, JSON as the text that it is."""
    arrays = []
    for field in schema:
        values = [row[field.name] for row in rows]
        if field.type == JSON:
            arrays.append(pa.ExtensionArray.from_storage(JSON, pa.array(values, pa.string())))
        else:
            arrays.append(pa.array(values, field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def pack(*parts: bytes | None) -> bytes:
    """Parts with their lengths; None is another part than an empty one."""
    return b"".join(ABSENT if part is None else len(part).to_bytes(LENGTH_BYTES, "big") + part for part in parts)


def unpack(packed: bytes) -> list[bytes | None]:
    """What `pack` was given."""
    parts: list[bytes | None] = []
    start = 0
    while start < len(packed):
        length = packed[start : start + LENGTH_BYTES]
        start += LENGTH_BYTES
        if length == ABSENT:
            parts.append(None)
            continue
        end = start + int.from_bytes(length, "big")
        parts.append(packed[start:end])
        start = end
    return parts


def _place(letter: Mapping[str, Any]) -> str:
    # Not the target: a replay of the whole flow gives its letters to another table.
    return f"{letter['topic']} {letter['record_partition']}:{letter['record_offset']}"


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Corrupt(f"{SUBJECT} was changed", remedy=RESTORE) from None
