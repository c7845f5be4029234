"""The events of an execution, and their form as lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pipelines.engine.record.keeping import read_lines
from workbench.security.keyset.opening import Keys


class Kind(StrEnum):
    """What an event tells. The content of each is in the comment."""

    STARTED = "started"  #: notebook: the whole notebook as it is executed, without outputs
    CARRIED = "carried"  #: not executed: attempt, in which it was; notebook: of that attempt; outputs, execution_count
    CELL_STARTED = "cell_started"
    OUTPUT = "output"  #: an output as nbformat has it; `display_id` beside it, if it may be updated
    CLEARED = "cleared"  #: wait: whether the next output clears, and not this event
    UPDATED = "updated"  #: display_id, data, metadata
    CELL_ENDED = "cell_ended"  #: execution_count, status (ok, error, aborted), left_out_bytes
    ENDED = "ended"  #: state, message, and what else the outcome says


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that happened."""

    at: float  #: seconds since the epoch
    kind: Kind
    cell: int | None  #: counted from 0; None for the notebook as a whole
    content: Mapping[str, Any]

    def as_line(self) -> bytes:
        """A line of JSON in UTF-8. Lone surrogates become escapes that JSON reads back as they were."""
        text = json.dumps(
            {"at": self.at, "kind": self.kind, "cell": self.cell, "content": self.content},
            ensure_ascii=False,
            separators=(",", ":"),
        )
        return text.encode("utf-8", "backslashreplace") + b"\n"


def parse_event(line: bytes) -> Event:
    """The event of a line.

    Raises:
        ValueError: when it is no whole event.
    """
    try:
        fields = json.loads(line)
        return Event(at=fields["at"], kind=Kind(fields["kind"]), cell=fields["cell"], content=fields["content"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"not an event: {line[:80]!r}") from error


def read_events(log: Path, keys: Keys | None = None) -> Iterator[Event]:
    """The events of a log, up to the first that is not whole: the process that wrote it, or the machine, was ended there.

    Args:
        log: in clear or encrypted, as its name says.
        keys: of an encrypted one.

    Raises:
        OSError: when it cannot be read.
        KeysetError, EncryptionError: when it is encrypted and cannot be decrypted, or was changed.
    """
    for line, _ in read_lines(log, keys):
        try:
            event = parse_event(line)
        except ValueError:
            return
        yield event
