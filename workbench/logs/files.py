"""The logs under a WORKBENCH_HOME: which there are, what they hold, and what comes."""

from __future__ import annotations

import codecs
import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from workbench.logs.lines import Line, Wanted
from workbench.logs.rotation import older_logs

PIECE_BYTES = 256 * 1024
LONGEST_LINE = 1_000_000  #: characters; what is longer is shown in pieces
MOST_MORE = 500  #: lines of one event
EARLIEST = datetime.min.replace(tzinfo=UTC)


def find_logs(home: Path) -> dict[str, Path]:
    """The logs by what writes them: `hub`, `flow:NAME`, and `server:NAME` of users' servers that `local` has started."""
    found = {each.stem: each for each in sorted((home / "logs").glob("*.log"))}
    found |= {f"flow:{each.stem}": each for each in sorted((home / "logs" / "flows").glob("*.log"))}
    return found | {f"server:{each.stem}": each for each in sorted((home / "servers" / "logs").glob("*.log"))}


def last_lines(logs: Iterable[Log], wanted: Wanted, count: int | None) -> list[Line]:
    """The last *count* events of all *logs* that are wanted, by their time; None is all that are new."""
    ends = [deque((line for line in log.new_lines() if wanted.matches(line)), maxlen=count) for log in logs]
    merged = heapq.merge(*(_timed(end) for end in ends), key=lambda each: each[0])
    return [line for _, line in deque(merged, maxlen=count)]


def _timed(lines: Iterable[Line]) -> Iterator[tuple[datetime, Line]]:
    """Each line with its time; of one that has none, that of the line before, so that it stays where it is."""
    last = EARLIEST
    for line in lines:
        last = max(last, line.time or EARLIEST)
        yield last, line


@dataclass
class Log:
    """One log from its oldest file on, read piece by piece while others write it and cut it."""

    component: str
    path: Path
    _position: int = 0  #: in the file that is written
    _newest_kept: int = 0  #: inode of NAME.1, which is another one after each cut
    _is_begun: bool = False
    _rest: str = ""
    _last: Line | None = None
    _decoder: codecs.IncrementalDecoder = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def new_lines(self) -> Iterator[Line]:
        """The events that were written since the last call. What is not there, or may not be read, holds none."""
        for piece in self._pieces():
            *whole, self._rest = (self._rest + self._decoder.decode(piece)).split("\n")
            if len(self._rest) > LONGEST_LINE:
                whole.append(self._rest)
                self._rest = ""
            for text in whole:
                yield from self._next(text)
        # Whoever writes a traceback does so at once: what comes later is another event.
        if self._last is not None:
            yield self._last
            self._last = None

    def _next(self, text: str) -> Iterator[Line]:
        line = Line.parse(text, self.component)
        if line is None and self._last is not None and len(self._last.more) < MOST_MORE:
            self._last = self._last.with_more(text)
            return
        if self._last is not None:
            yield self._last
        self._last = line or (Line(self.component, text, is_ours=False) if text else None)

    def _pieces(self) -> Iterator[bytes]:
        newest = self.path.with_name(f"{self.path.name}.1")
        number, length = _number_and_size(newest)
        size = _number_and_size(self.path)[1]
        if not self._is_begun:
            for each in older_logs(self.path):
                yield from _read(each, 0)
        elif size < self._position or (number != self._newest_kept and size < length):
            # It was cut: what was in it is in NAME.1, and what was read of it is read.
            yield from _read(newest, self._position)
            self._position = max(0, self._position - length) if length else 0
        elif number != self._newest_kept:
            number = self._newest_kept  # it is just being cut
        self._is_begun, self._newest_kept = True, number
        for piece in _read(self.path, self._position):
            self._position += len(piece)
            yield piece


def _read(path: Path, position: int) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            file.seek(position)
            while piece := file.read(PIECE_BYTES):
                yield piece
    except OSError:
        return


def _number_and_size(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_ino, found.st_size
