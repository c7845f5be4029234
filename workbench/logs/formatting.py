"""How a line looks: as text for people, as JSON for machines. Neither can be forged by what a value holds."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from workbench.logs.context import log_context

CONTINUED = "  | "  #: begins a line of a traceback, which belongs to the line above
PLAIN = re.compile(r"[A-Za-z0-9._@/+-][A-Za-z0-9._:@/+-]*")
NAMED = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


class LogFormat(StrEnum):
    """The forms of a line."""

    TEXT = "text"
    JSON = "json"


def make_formatter(component: str, log_format: LogFormat) -> logging.Formatter:
    """What writes lines of *component* in this form."""
    if log_format is LogFormat.TEXT:
        return TextLines(component)
    from workbench.logs.json_lines import JsonLines

    return JsonLines(component)


class TextLines(logging.Formatter):
    """`TIME LEVEL COMPONENT[PID] LOGGER run=5 request=8f…: message`, and below it a traceback, if there is one."""

    def __init__(self, component: str) -> None:
        super().__init__()
        self._component = component

    def format(self, record: logging.LogRecord) -> str:
        """Called by `logging`."""
        facts = line_facts(record, self._component)
        fields = "".join(f" {name}={_value(value)}" for name, value in log_context().items())
        head = f"{facts['time']} {facts['level']} {facts['component']}[{facts['pid']}] {facts['logger']}{fields}"
        lines = [f"{head}: {escaped(facts['message'])}"]
        lines += [f"{CONTINUED}{escaped(each)}" for each in exception_text(self, record).splitlines()]
        return "\n".join(lines)


class BriefLines(logging.Formatter):
    """`LEVEL logger: message`, for who sits at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Called by `logging`."""
        lines = [f"{record.levelname} {record.name}: {escaped(record.getMessage())}"]
        return "\n".join([*lines, *(escaped(each) for each in exception_text(self, record).splitlines())])


def line_facts(record: logging.LogRecord, component: str) -> dict[str, Any]:
    """What every line has."""
    return {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname,
        "component": component,
        "pid": record.process,
        "logger": re.sub(r"[^\w.-]", "_", record.name) or "root",
        "message": record.getMessage(),
    }


def exception_text(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """The traceback of a record, and the stack that somebody has asked for; empty when there is neither."""
    # What masks secrets leaves its text there.
    found = record.exc_text or (formatter.formatException(record.exc_info) if record.exc_info else "")
    return "\n".join(each for each in (found, record.stack_info or "") if each)


def escaped(text: str) -> str:
    """*text* in one line that steers no terminal: without controls, ends of lines, and what turns its direction around."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escape(each) for each in text)


def _escape(character: str) -> str:
    code = ord(character)
    return NAMED.get(character) or (f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")


def _value(text: str) -> str:
    return text if PLAIN.fullmatch(text) else json.dumps(text)
