"""Reads lines again: ours in both forms, and of Java, PostgreSQL and JupyterHub the time and the level."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self

from workbench.logs.context import FIELDS
from workbench.logs.formatting import CONTINUED, escaped

_VALUE = r'(?:"(?:[^"\\]|\\.)*"|[^\s":][^\s"]*?)'
TEXT = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (?P<level>[A-Z]+) (?P<component>[\w:.-]+)\[(?P<pid>\d+)\] "
    rf"(?P<logger>[\w.-]+)(?P<fields>(?: (?:{'|'.join(FIELDS)})={_VALUE})*): (?P<message>.*)"
)
FIELD = re.compile(rf" (\w+)=({_VALUE})(?= |$)")
# 2026-11-27 23:05:17,123 of log4j, … 23:05:17.123 UTC of PostgreSQL, [I 2026-11-27 23:05:17.123 of Jupyter, RFC 3339.
FOREIGN_TIME = re.compile(
    r"\W?(?:[DIWEC] )?(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:[.,](\d{3}))?\d* ?(Z\b|UTC\b|GMT\b|[+-]\d\d:?\d\d)?"
)
LEVELS = {"LOG": "INFO", "NOTICE": "INFO", "WARN": "WARNING", "FATAL": "CRITICAL", "PANIC": "CRITICAL"} | {
    each: each for each in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
}
FOREIGN_LEVEL = re.compile(rf"\b({'|'.join(LEVELS)})\b|\[([DIWEC]) \d")
JUPYTER = {"D": "DEBUG", "I": "INFO", "W": "WARNING", "E": "ERROR", "C": "CRITICAL"}
HEAD_CHARACTERS = 100  #: in which a program that is not ours says its level


@dataclass(frozen=True)
class Line:
    """One event of a log, with the lines that belong to it."""

    component: str
    message: str
    time: datetime | None = None  #: None when it is not known
    level: str = ""  #: of `logging`; empty when it is not known
    pid: int | None = None
    logger: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    more: tuple[str, ...] = ()  #: of a traceback
    is_ours: bool = True

    @classmethod
    def parse(cls, text: str, component: str) -> Self | None:
        """The event that begins with this line; None for a line that belongs to the one before.

        Args:
            text: without its end.
            component: whose log it is from, for lines that do not say.
        """
        if text.startswith("{") and (found := cls._of_json(text)) is not None:
            return found
        if (match := TEXT.fullmatch(text)) is not None:
            given = {name: _unquoted(value) for name, value in FIELD.findall(match["fields"])}
            return cls(
                component=_named(match["component"], given), message=match["message"], time=_time(match["time"]),
                level=match["level"], pid=int(match["pid"]), logger=match["logger"], fields=given,
            )  # fmt: skip
        if (when := FOREIGN_TIME.match(text)) is None:
            return None
        level = FOREIGN_LEVEL.search(text, 0, HEAD_CHARACTERS)
        told = "" if level is None else LEVELS.get(level[1] or "", "") or JUPYTER.get(level[2] or "", "")
        return cls(component=component, message=text, time=_foreign_time(when), level=told, is_ours=False)

    @classmethod
    def _of_json(cls, text: str) -> Self | None:
        try:
            found = json.loads(text)
            time, component, message = _time(found["time"]), str(found["component"]), str(found["message"])
        except (ValueError, KeyError, TypeError):
            return None
        given = {name: str(found[name]) for name in FIELDS if name in found}
        return cls(
            component=_named(component, given), message=message, time=time, level=str(found.get("level", "")),
            pid=found.get("pid") if isinstance(found.get("pid"), int) else None, logger=str(found.get("logger", "")),
            fields=given, more=tuple(str(found.get("exception", "")).splitlines()),
        )  # fmt: skip

    def with_more(self, text: str) -> Self:
        """The same with one more line that belongs to it."""
        return replace(self, more=(*self.more, text.removeprefix(CONTINUED)))

    def as_text(self) -> str:
        """The event for people. Nothing of it steers a terminal."""
        if self.is_ours:
            when = "" if self.time is None else f"{self.time:%Y-%m-%dT%H:%M:%S}.{self.time.microsecond // 1000:03d}Z "
            given = "".join(f" {name}={escaped(value)}" for name, value in self.fields.items())
            head = f"{when}{self.level:<7} {self.component}{given}: {escaped(self.message)}"
        else:
            head = f"{self.component}: {escaped(self.message)}"
        return "\n".join([head, *(f"{CONTINUED}{escaped(each)}" for each in self.more)])

    def as_fields(self) -> dict[str, Any]:
        """The event for programs."""
        when = None if self.time is None else self.time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        found = {"time": when, "level": self.level, "component": self.component, "pid": self.pid, "logger": self.logger}
        more = {"exception": "\n".join(self.more)} if self.more else {}
        return {**found, **self.fields, "message": self.message, **more}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which events are wanted. What a line does not say does not match: those of other programs know no run."""

    run: str = ""
    request: str = ""
    level: str = ""  #: at least
    since: datetime | None = None

    def matches(self, line: Line) -> bool:
        """Whether the event is one of them."""
        if self.run and line.fields.get("run") != self.run:
            return False
        if self.request and line.fields.get("request") != self.request:
            return False
        if self.level and _number(line.level) < _number(self.level):
            return False
        return self.since is None or (line.time is not None and line.time >= self.since)


def _named(component: str, given: Mapping[str, str]) -> str:
    return f"flow:{given['flow']}" if component == "flow" and "flow" in given else component


def _number(level: str) -> int:
    return logging.getLevelNamesMapping().get(level.upper(), logging.INFO)


def _unquoted(value: str) -> str:
    return str(json.loads(value)) if value.startswith('"') else value


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _foreign_time(found: re.Match[str]) -> datetime | None:
    zone = {"UTC": "+00:00", "GMT": "+00:00", "Z": "+00:00", None: ""}.get(found[4], found[4])
    try:
        # Without a zone it is the time of this machine.
        return datetime.fromisoformat(f"{found[1]}T{found[2]}.{found[3] or '000'}{zone}").astimezone(UTC)
    except ValueError:
        return None
