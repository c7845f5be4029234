"""Turns the messages of a kernel into events: limited, redacted, logged, and told to who watches."""

from __future__ import annotations

import json
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from pipelines.engine.job import JobLimits
from pipelines.engine.record.events import Event, Kind
from pipelines.engine.record.log import EventLog
from pipelines.engine.record.redaction import Redactor

LAST_LINES = 50
LINE_CHARACTERS = 2000  # of a last line: a program may print megabytes without an end of line
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
DISPLAYS = ("display_data", "execute_result")

OnEvent = Callable[[Event], None]


class Recorder:
    """Everything that is known of an execution goes through here, in order.

    Each method may raise OSError, when the log cannot be written.
    """

    def __init__(self, log: EventLog, redactor: Redactor, limits: JobLimits, on_event: OnEvent) -> None:
        self._log, self._redactor, self._limits, self._on_event = log, redactor, limits, on_event
        self._held: dict[str, tuple[int, str]] = {}  # by stream: the cell, and what may begin a secret
        self._held_lines: dict[str, str] = {}  # the same, of what is left out
        self._cell_bytes: dict[int, int] = {}
        self._left_out: dict[int, int] = {}
        self._run_bytes = 0
        self._lines: deque[str] = deque([""], maxlen=LAST_LINES + 1)

    @property
    def last_lines(self) -> tuple[str, ...]:
        """What was printed last, without colours and without an empty line at the end."""
        # Lines are kept of what was left out, too, where a secret may have come in pieces.
        lines = self._redactor.redacted("\n".join(self._lines)).split("\n")
        return tuple(lines[:-1] if not lines[-1] else lines)[-LAST_LINES:]

    def start(self, notebook: Mapping[str, Any]) -> None:
        """The notebook is about to run as it is in *notebook*."""
        self._record(Kind.STARTED, None, {"notebook": notebook})

    def carry(self, cell: int, content: Mapping[str, Any]) -> None:
        """A cell is not executed; *content* says where it was, and what it put out there."""
        self._record(Kind.CARRIED, cell, self._redactor.cleaned(content))

    def start_cell(self, cell: int) -> None:
        """A cell is sent to the kernel."""
        self._record(Kind.CELL_STARTED, cell, {})

    def take(self, cell: int, kind: str, content: Mapping[str, Any]) -> None:
        """A message of the kernel's IOPub channel, which belongs to *cell*; those that put nothing out are ignored."""
        if kind == "stream":
            self._take_stream(cell, content["name"], content["text"])
        elif kind in DISPLAYS:
            self._take_display(cell, kind, content)
        elif kind == "update_display_data":
            self._take_update(cell, content)
        elif kind == "clear_output":
            self._flush()
            self._record(Kind.CLEARED, cell, {"wait": bool(content.get("wait"))})
        elif kind == "error":
            self._take_error(cell, content)

    def end_cell(self, cell: int, *, status: str, execution_count: int | None) -> None:
        """The kernel is done with a cell, or gone."""
        self._flush()
        left_out = self._left_out.pop(cell, 0)
        self._record(
            Kind.CELL_ENDED,
            cell,
            {"status": status, "execution_count": execution_count, "left_out_bytes": left_out},
        )

    def end(self, cell: int | None, content: Mapping[str, Any]) -> None:
        """The execution has ended."""
        self._flush()
        self._record(Kind.ENDED, cell, self._redactor.cleaned(content))

    def note_lines(self, text: str, *, is_cut: bool = False) -> None:
        """Add *text*, whose beginning may be cut off, to the last lines without putting it out."""
        self._keep_lines(self._redactor.redacted_tail(text) if is_cut else self._redactor.redacted(text))

    def _take_stream(self, cell: int, name: str, text: str) -> None:
        held_cell, held = self._held.pop(name, (cell, ""))
        if held and held_cell != cell:
            self._put_stream(held_cell, name, held)
            held = ""
        # What goes on with what was left out is left out, too.
        room = 0 if name in self._held_lines else self._room(cell)
        text = held + text
        if len(text) > room:
            # What is cut off may go on with a secret that begins before.
            kept, end = self._redactor.split(self._redactor.redacted(text[:room]))
            self._put_stream(cell, name, kept)
            self._leave_out(cell, _size(end) + _size(text[room:]))
            self._keep_left_out(name, end + text[room:])
            return
        text, end = self._redactor.split(self._redactor.redacted(text))
        if end:
            self._held[name] = (cell, end)
        self._put_stream(cell, name, text)

    def _keep_left_out(self, name: str, text: str) -> None:
        # Lines are cut: of a secret that comes in pieces, none may be in them before it is whole.
        text, end = self._redactor.split(self._redactor.redacted(self._held_lines.pop(name, "") + text))
        self._held_lines[name] = end
        self._keep_lines(text)

    def _put_stream(self, cell: int, name: str, text: str) -> None:
        if not text:
            return
        self._count(cell, _size(text))
        self._keep_lines(text)
        self._record(Kind.OUTPUT, cell, {"output_type": "stream", "name": name, "text": text})

    def _take_display(self, cell: int, kind: str, content: Mapping[str, Any]) -> None:
        self._flush()
        output = {"output_type": kind, "data": content["data"], "metadata": content.get("metadata", {})}
        if kind == "execute_result":
            output["execution_count"] = content.get("execution_count")
        if display_id := (content.get("transient") or {}).get("display_id"):
            output["display_id"] = display_id
        self._put(Kind.OUTPUT, cell, output)

    def _take_update(self, cell: int, content: Mapping[str, Any]) -> None:
        # It changes what stands elsewhere: a stream goes on as if it were not there.
        display_id = (content.get("transient") or {}).get("display_id")
        update = {"display_id": display_id, "data": content["data"], "metadata": content.get("metadata", {})}
        self._put(Kind.UPDATED, cell, update)

    def _take_error(self, cell: int, content: Mapping[str, Any]) -> None:
        self._flush()
        error = {key: content[key] for key in ("ename", "evalue", "traceback")}
        # However much was put out before: why it failed is never left out.
        cleaned = self._redactor.cleaned({"output_type": "error", **error})
        self._record(Kind.OUTPUT, cell, cleaned)
        self._keep_lines("\n".join(["", *cleaned["traceback"], ""]))

    def _put(self, kind: Kind, cell: int, content: Mapping[str, Any]) -> None:
        # Of most outputs, metadata are empty.
        size = sum(_content_size(each) for each in (*content["data"].values(), content["metadata"] or ""))
        if size > self._room(cell):
            self._leave_out(cell, size)
            return
        self._count(cell, size)
        self._record(kind, cell, self._redactor.cleaned(content))

    def _flush(self) -> None:
        """Let go of what looked like the beginning of a secret and was none."""
        for name, (cell, held) in [*self._held.items()]:
            del self._held[name]
            self._put_stream(cell, name, held)
        for name in [*self._held_lines]:
            self._keep_lines(self._held_lines.pop(name))

    def _room(self, cell: int) -> int:
        of_cell = self._limits.cell_output_bytes - self._cell_bytes.get(cell, 0)
        return max(0, min(of_cell, self._limits.run_output_bytes - self._run_bytes))

    def _count(self, cell: int, size: int) -> None:
        self._cell_bytes[cell] = self._cell_bytes.get(cell, 0) + size
        self._run_bytes += size

    def _leave_out(self, cell: int, size: int) -> None:
        self._left_out[cell] = self._left_out.get(cell, 0) + size

    def _keep_lines(self, text: str) -> None:
        *whole, rest = ANSI.sub("", text[-LAST_LINES * LINE_CHARACTERS :]).split("\n")
        for line in whole:
            self._lines[-1] = (self._lines[-1] + line)[:LINE_CHARACTERS]
            self._lines.append("")
        self._lines[-1] = (self._lines[-1] + rest)[:LINE_CHARACTERS]

    def _record(self, kind: Kind, cell: int | None, content: Mapping[str, Any]) -> None:
        event = Event(at=time.time(), kind=kind, cell=cell, content=content)
        self._log.append(event)
        self._on_event(event)


def _content_size(content: Any) -> int:
    """Of a text, or of the JSON that it is."""
    return _size(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False))


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
