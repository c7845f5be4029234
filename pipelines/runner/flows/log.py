"""Reads the log of a flow as it grows, for people: nothing of it steers a terminal."""

from __future__ import annotations

import codecs
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pipelines.runner.flows.files import TAIL_BYTES

PIECE_BYTES = 256 * 1024  #: read at once
WITHIN_CHARACTER = bytes(range(0x80, 0xC0))  # of UTF-8, where a cut in 64 KiB may be
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # of ECMA-48, but for tab and line feed


@dataclass
class LogTail:
    """A log from a place on. One that was begun anew meanwhile is read from its beginning."""

    path: Path
    position: int = 0  #: in bytes; where a character begins

    @classmethod
    def near_end(cls, path: Path, lines: int) -> Self:
        """From its last *lines* on, as far as they are in the last 64 KiB."""
        try:
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                begin = file.seek(max(size - TAIL_BYTES, 0))
                end = file.read(size - begin).splitlines(keepends=True)
        except OSError:
            return cls(path)
        tail = b"".join(end[-lines:] if lines else [])
        return cls(path, size - len(tail.lstrip(WITHIN_CHARACTER)))

    @property
    def has_more(self) -> bool:
        """Whether there is something that was not read."""
        try:
            return self.path.stat().st_size != self.position
        except OSError:
            return False

    def new_text(self) -> str:
        """What was written since the last time, a piece at a time; empty when there is nothing, or no log."""
        try:
            with self.path.open("rb") as file:
                if self.position > file.seek(0, os.SEEK_END):
                    self.position = 0
                file.seek(self.position)
                found = file.read(PIECE_BYTES)
        except OSError:
            return ""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text = decoder.decode(found)
        # Half a character at the end is read again: who goes on from this position has nothing of it.
        self.position += len(found) - len(decoder.getstate()[0])
        return CONTROL.sub("", text)
