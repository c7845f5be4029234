"""What attempts put out, as it is put out: the new lines of their logs, in a form that a page can show without trusting it."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.engine.record.events import Event, Kind, parse_event
from pipelines.engine.record.keeping import late_position, read_lines
from pipelines.runner.folders import log_beside
from workbench.errors import EncryptionError, KeysetError
from workbench.security.keyset.opening import Keys

logger = logging.getLogger(__name__)

Item = dict[str, Any]
PIECE_BYTES = 256 * 1024  #: read at once from one log, and one event more
BEGIN_BYTES = 1024 * 1024  #: before the end of a log, for those who come late; all of it is in the notebook
TEXT_CHARACTERS = 64 * 1024  #: of one output
IMAGE_CHARACTERS = 2 * 1024 * 1024
IMAGES = ("image/png", "image/jpeg")
TERMINAL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)")  # ECMA-48, 5.4 and 8.3.89


@dataclass
class Tail:
    """One log, from a place on."""

    log: Path
    position: int = 0  #: in bytes; the beginning of a line, or of a frame with one
    keys: Keys | None = field(default=None, repr=False)
    omitted: int = field(default=0, init=False)

    @classmethod
    def of(cls, output: Path, position: int | None, keys: Keys | None) -> Tail:
        """That of an attempt, given the path of its log or its notebook; None begins near the end of a long one."""
        log = log_beside(output)
        if position is not None:
            return cls(log, position, keys)
        tail = cls(log, keys=keys)
        tail._skip()
        return tail

    @property
    def has_more(self) -> bool:
        """Whether the log has grown."""
        try:
            return self.log.stat().st_size > self.position
        except OSError:
            return False

    def read(self) -> list[Item]:
        """What is new, a piece at a time. A line that is not whole yet comes the next time."""
        found: list[Item] = []
        if self.omitted:
            found.append({"kind": "omitted", "bytes": self.omitted})
            self.omitted = 0
        try:
            for event in self._events():
                for item in items_of(event):
                    _add(found, item)
        except OSError:
            return found
        except (KeysetError, EncryptionError) as error:
            # Once: the state of the run goes on being told.
            logger.warning("%s", error)
            self.position = sys.maxsize
            found.append({"kind": "text", "cell": None, "name": "error", "text": f"{error.message}\n"})
        return found

    def _events(self) -> Iterator[Event]:
        begin = self.position
        for line, behind in read_lines(self.log, self.keys, begin):
            self.position = behind
            try:
                yield parse_event(line)
            except ValueError:
                return
            if behind - begin >= PIECE_BYTES:
                return

    def _skip(self) -> None:
        try:
            size = self.log.stat().st_size
            if size <= 2 * BEGIN_BYTES:
                return
            self.position = self.omitted = late_position(self.log, self.keys, BEGIN_BYTES)
        except (OSError, KeysetError, EncryptionError):
            return  # `read` meets the same


def _add(items: list[Item], item: Item) -> None:
    """Put *item* behind the others; text goes to text of the same cell and kind before it."""
    last = items[-1] if items else {}
    if item["kind"] == "text" and {**last, "text": ""} == {**item, "text": ""}:
        last["text"] += item["text"]
    else:
        items.append(item)


def items_of(event: Event) -> Iterator[Item]:
    """What a page shows of an event: text and pictures, never markup."""
    content, cell = event.content, event.cell
    match event.kind:
        case Kind.CELL_STARTED:
            yield {"kind": "cell", "cell": cell}
        case Kind.CLEARED:
            yield {"kind": "cleared", "cell": cell, "wait": bool(content["wait"])}
        case Kind.UPDATED:
            yield from _shown(content, cell)
        case Kind.OUTPUT if content["output_type"] == "stream":
            yield {"kind": "text", "cell": cell, "name": content["name"], "text": plain(content["text"])}
        case Kind.OUTPUT if content["output_type"] == "error":
            yield {"kind": "text", "cell": cell, "name": "error", "text": plain("\n".join([*content["traceback"], ""]))}
        case Kind.OUTPUT:
            yield from _shown(content, cell)


def plain(text: object) -> str:
    """The end of a text, without what would steer a terminal."""
    joined = text if isinstance(text, str) else "".join(map(str, text)) if isinstance(text, list) else str(text)
    kept = joined[-TEXT_CHARACTERS:]
    return TERMINAL.sub("", kept if len(kept) == len(joined) else f"[…]\n{kept}")


def _shown(content: Any, cell: int | None) -> Iterator[Item]:
    data = content["data"]
    for kind in IMAGES:
        picture = data.get(kind)
        if isinstance(picture, str) and len(picture) <= IMAGE_CHARACTERS:
            yield {"kind": "image", "cell": cell, "source": f"data:{kind};base64,{''.join(picture.split())}"}
            return
    text = plain(data.get("text/plain", ""))
    if text:
        yield {"kind": "text", "cell": cell, "name": "stdout", "text": f"{text}\n"}
