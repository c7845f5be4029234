"""Single values under the key of a subject, as text for a column.

    enc1: + base64 of | id of the key (8) | hash of subject and place (8) | message under the subject's data key |

The message is bound to the subject and to the place, which is table and column; what is before it only says
which is another one. A value becomes 88 bytes more, and a third longer by base64.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from workbench.errors import OtherContext, SubjectErased, Truncated, UnknownSubjectKey, UnsupportedFormat
from workbench.security.encryption.header import PREFIX_BYTES
from workbench.security.messages import RESTORE
from workbench.security.subjects.keys import ID_BYTES, SubjectKey

BEGIN = "enc1:"
HASH_BYTES = 8


def seal(subject: SubjectKey, text: str, place: str) -> str:
    """*text* as only the key of the subject can read it, at this place."""
    message = subject.key.encrypt(text.encode(), place)
    return BEGIN + base64.b64encode(subject.id + _hash(subject, place) + message).decode()


def unseal(subject: SubjectKey, value: str, place: str, *, what: str = "the value") -> str:
    """What `seal` was given; errors call it *what*.

    Raises:
        UnsupportedFormat: when it is in clear.
        OtherContext: when it is of another subject, table, column or workbench.
        UnknownSubjectKey: when it was encrypted with a key of the subject that is lost.
        Corrupt, Truncated: when it was changed.
    """
    content = parse(value, what=what)
    if content[ID_BYTES : ID_BYTES + HASH_BYTES] != _hash(subject, place):
        raise OtherContext(
            f"{what} was encrypted for another subject, table or column, or by another workbench",
            remedy="Read it beside the subject of its row, as a value of the table that the flow wrote.",
        )
    if content[:ID_BYTES] != subject.id:
        raise UnknownSubjectKey(
            f"{what} was encrypted with a key of its subject that is not there any more",
            remedy="Restore the newest keys of subjects from a backup, or bring the table anew from its topic.",
        )
    return subject.key.decrypt(content[ID_BYTES + HASH_BYTES :], place, subject=what).decode()


def parse(value: str, *, what: str = "the value") -> bytes:
    """The bytes of a value.

    Raises:
        UnsupportedFormat: when it is in clear.
        Truncated: when it is none that was written.
    """
    if not value.startswith(BEGIN):
        raise UnsupportedFormat(
            f"{what} is in clear",
            remedy="It is from before its column was encrypted: `workbench ingest replay` brings it anew.",
        )
    try:
        content = base64.b64decode(value[len(BEGIN) :], validate=True)
    except (binascii.Error, ValueError):
        content = b""
    # Bits after the last byte would make several texts of one value.
    if len(content) < ID_BYTES + HASH_BYTES or base64.b64encode(content).decode() != value[len(BEGIN) :]:
        raise Truncated(f"{what} is cut off, or not as it was written", remedy=RESTORE)
    return content


def erased(kind: str, what: str) -> SubjectErased:
    """The error of a value whose subject is no more."""
    return SubjectErased(
        f"{what} is of a {kind} that was erased: its key is destroyed",
        remedy="Nobody can read it; `erased='null'` reads all others.",
    )


def _hash(subject: SubjectKey, place: str) -> bytes:
    # The prefix of its header has the keyset, and the hash of kind and fingerprint.
    return hashlib.sha256(subject.key.header[:PREFIX_BYTES] + place.encode()).digest()[:HASH_BYTES]
