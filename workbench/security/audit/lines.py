r"""The lines of the log: canonical bytes, and the seal that ties each to the one before.

A line is `{"event":{…},"seal":{"previous":"…","sequence":7,"time":1767604364218}}` in the form of
RFC 8785 and a line feed. `previous` is the SHA-256 of the bytes of the line before, line feed
included, in hexadecimal; `sequence` counts from 1 without gaps over all segments; `time` is when
it was written, in milliseconds since 1970, and never goes back but at an `audit.clock_went_back`.
Hashes are always taken of the bytes as they stand: nobody has to write a line anew to check it.

RFC 8785 is reached by writing nothing but objects, arrays, strings without lone surrogates, and
integers below 2^53: for these, sorted names, no blanks and Python's escapes (`\b \t \n \f \r`,
else `\u00xx` below U+0020 only) are that form.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Self

from workbench.security.audit.event import Event

NOTHING = hashlib.sha256().hexdigest()
SEAL_BEGINS = b',"seal":{"previous":"'
SEAL = re.compile(rb',"seal":\{"previous":"([0-9a-f]{64})","sequence":([1-9]\d{0,14}),"time":(\d{1,15})\}\}\n')
EVENT_BEGINS = b'{"event":{"activity_id":'


def canonical(value: Any) -> bytes:
    """The value in the form of RFC 8785; names have to be in its order already."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True)
class Seal:
    """What ties a line to the one before."""

    previous: str  #: SHA-256 of that line, in hexadecimal
    sequence: int
    time: int  #: milliseconds since 1970

    @classmethod
    def of_line(cls, line: bytes) -> Self | None:
        """The seal of a whole line; None when it has none."""
        found = find_seal(line)
        return None if found is None else cls(found[1].decode(), int(found[2]), int(found[3]))


def find_seal(line: bytes) -> re.Match[bytes] | None:
    """The seal's previous hash, sequence and time as groups; None when the line has none."""
    # Inside a string of the event every quotation mark is escaped, so what ends the line so is the seal.
    return SEAL.fullmatch(line, max(0, line.rfind(SEAL_BEGINS))) if line.startswith(EVENT_BEGINS) else None


def sealed(event: Event, seal: Seal) -> bytes:
    """The line of an event, line feed included."""
    fields = {"previous": seal.previous, "sequence": seal.sequence, "time": seal.time}
    return canonical({"event": event.as_ocsf(), "seal": fields}) + b"\n"


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
